//! Two observations of one call make one call.
//!
//! Each observer dissects the connection by itself. Where calls follow one another, it gives them in order: the same
//! message has the same position in the stream at both, so the two lists are merged like sorted lists, whatever their
//! clocks say. Where calls lie one among the other, they come in any order, and each has the number of its stream: a call
//! waits until the other observer has told of it, or of one that ended behind it in both directions.

use std::collections::VecDeque;

use crate::call::{Marks, Observation, Outcome, Value};
use crate::limits::{HELD, HELD_CALLS, OUT_STREAMS};
use crate::protocols::{Half, Transaction};
use crate::segment::Observer;
use crate::{Counters, Nanos};

/// A call as one observer saw it, or several put together.
pub(crate) struct View {
    pub transaction: Transaction,
    pub sides: Sides,
    /// Whether it was put together from several.
    joined: bool,
}

/// When a call passed each observer.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sides {
    pub client: Option<Observation>,
    pub server: Option<Observation>,
    pub unknown: Option<Observation>,
}

/// The calls that wait for what another observer saw of them.
#[derive(Default)]
pub(crate) struct Join {
    /// By observer.
    lanes: Vec<VecDeque<Held>>,
    bytes: usize,
    /// How far requests and responses are out, by position of their first byte.
    last_request: u64,
    last_response: u64,
    /// What the last request's client had received.
    last_ack: u64,
    /// Where calls lie one among the other.
    streams: Option<Box<OutStreams>>,
}

/// Streams whose calls are out.
#[derive(Default)]
struct OutStreams {
    /// The last ones.
    out: VecDeque<u64>,
    /// Of each kind of numbers, the highest of those that are no longer remembered.
    forgotten: [u64; 4],
}

struct Held {
    view: View,
    since: Nanos,
    cost: usize,
}

impl View {
    /// A call as one observer saw it.
    pub fn new(transaction: Transaction, tape: u16, observer: Observer) -> Self {
        let times = |half: &Half| (half.span.first, half.span.last);
        let observation = Some(Observation {
            tape,
            request: transaction.request.as_ref().map(|request| times(&request.half)),
            response: transaction
                .response
                .as_ref()
                .map(|response| times(&response.half)),
        });
        let mut sides = Sides::default();
        match observer {
            Observer::Interface(_) => sides.unknown = observation,
            Observer::Socket(end) if end == transaction.client => sides.client = observation,
            Observer::Socket(_) => sides.server = observation,
        }
        Self {
            transaction,
            sides,
            joined: false,
        }
    }

    /// The stream of a call that lies among others; 0 for one that does not.
    fn stream(&self) -> u64 {
        self.transaction.stream
    }

    /// By what calls are in order: the begin of the request; where that is unknown, how much of the requests the
    /// server had received when it answered, which is the end of it.
    fn key(&self) -> (u64, bool) {
        match (self.request(), self.response()) {
            (Some(request), _) => (request.span.start, true),
            (None, Some(response)) => (response.span.ack, false),
            (None, None) => (0, false),
        }
    }

    fn request(&self) -> Option<&Half> {
        self.transaction.request.as_ref().map(|request| &request.half)
    }

    fn response(&self) -> Option<&Half> {
        self.transaction.response.as_ref().map(|response| &response.half)
    }

    /// Whether two observers' views are of the same call.
    fn is_twin(&self, other: &Self) -> bool {
        let same = |mine: Option<&Half>, theirs: Option<&Half>| {
            mine.zip(theirs)
                .is_some_and(|(mine, theirs)| mine.span.start == theirs.span.start)
        };
        if self.transaction.client != other.transaction.client {
            return false;
        }
        if self.stream() != 0 && other.stream() != 0 {
            return self.stream() == other.stream();
        }
        // One of them may not know its stream, because it has missed the request.
        same(self.request(), other.request()) || same(self.response(), other.response())
    }

    /// Whether this call ended behind another one in both directions, so that who has told of this one has seen all there
    /// was to be seen of the other.
    fn is_behind(&self, other: &Self) -> bool {
        let behind = |mine: Option<&Half>, theirs: Option<&Half>| {
            let theirs = theirs.map_or(0, |theirs| theirs.span.end);
            mine.is_some_and(|mine| mine.span.end > theirs)
        };
        behind(self.request(), other.request()) && behind(self.response(), other.response())
    }

    /// Whether one observer has the request and the other the response to it: each had received exactly what came
    /// before. `last_ack` is what the request before had acknowledged; if it is the same, the client pipelines, and
    /// nothing can be said.
    fn completes(&self, other: &Self, last_ack: u64) -> bool {
        if self.stream() != 0 || other.stream() != 0 {
            return false;
        }
        let (Some(request), None, None, Some(response)) =
            (self.request(), self.response(), other.request(), other.response())
        else {
            return false;
        };
        let (request, response) = (&request.span, &response.span);
        request.ack != last_ack && request.ack == response.start && response.ack == request.end
    }

    /// Takes over what another observer saw better.
    pub(crate) fn merge(&mut self, other: Self) {
        // What is carried inside is known by what it tells.
        let theirs_tell_more = other.told() > self.told();
        let (mine, theirs) = (&mut self.transaction, other.transaction);
        // What one of them is sure of, is sure; a reset that only one has seen was one nevertheless, unless the other
        // has the whole call.
        let whole =
            |transaction: &Transaction| transaction.request.is_some() && transaction.response.is_some();
        let reset = match (whole(mine), whole(&theirs)) {
            (true, false) => mine.marks.0,
            (false, true) => theirs.marks.0,
            _ => mine.marks.0 | theirs.marks.0,
        };
        mine.marks = Marks((mine.marks.0 & theirs.marks.0 & !Marks::RESET.0) | (reset & Marks::RESET.0));
        let without_gap = |half: Option<&Half>| half.is_some_and(|half| !half.gap);
        let all_theirs = without_gap(theirs.request.as_ref().map(|r| &r.half))
            && without_gap(theirs.response.as_ref().map(|r| &r.half));
        let mut better_fields = false;
        let unresolved = |transaction: &Transaction| {
            let mut names = transaction.fields.iter().map(|(name, _)| *name);
            transaction.request.is_none() || names.any(|name| name == "unresolved")
        };
        let resolves = unresolved(mine) && !unresolved(&theirs);
        if resolves {
            mine.fields
                .retain(|(name, _)| !matches!(*name, "unresolved" | "postgresql_portal"));
        }
        if resolves
            || better(
                mine.request.as_ref().map(|r| &r.half),
                theirs.request.as_ref().map(|r| &r.half),
            )
        {
            mine.request = theirs.request;
            mine.version = theirs.version;
            better_fields = true;
        }
        if better(
            mine.response.as_ref().map(|r| &r.half),
            theirs.response.as_ref().map(|r| &r.half),
        ) {
            mine.response = theirs.response;
            mine.outcome = theirs.outcome;
            better_fields = true;
        } else if mine.response.is_none() && theirs.outcome == Outcome::NoResponse {
            mine.outcome = Outcome::NoResponse;
        }
        if mine.stream != 0 {
            // Each half has brought its own.
            let missing = |(name, _): &(&str, Value)| mine.fields.iter().all(|(known, _)| known != name);
            let more: Vec<_> = theirs.fields.into_iter().filter(missing).collect();
            mine.fields.extend(more);
        } else if better_fields && all_theirs {
            mine.fields = theirs.fields;
        } else if better_fields {
            unite(&mut mine.fields, theirs.fields);
        }
        if theirs_tell_more {
            mine.protocol = theirs.protocol;
        }
        self.joined = true;
        let sides = &mut self.sides;
        sides.client = put_together(sides.client, other.sides.client);
        sides.server = put_together(sides.server, other.sides.server);
        sides.unknown = sides.unknown.or(other.sides.unknown);
    }

    /// How many fields its halves tell of.
    fn told(&self) -> usize {
        let halves = [self.request(), self.response()];
        halves.into_iter().flatten().map(|half| half.fields.len()).sum()
    }

    pub(crate) fn cost(&self) -> usize {
        let request = self.transaction.request.as_ref().map_or(0, |request| {
            request.half.cost() + request.path.len() + request.query.len() + request.authority.len()
        });
        size_of::<Held>() + request + self.response().map_or(0, Half::cost)
    }
}

/// Takes over the fields of the half that another observer saw better: those that are not known, and longer texts.
fn unite(mine: &mut Vec<(&'static str, Value)>, theirs: Vec<(&'static str, Value)>) {
    for (name, value) in theirs {
        match mine.iter_mut().find(|(known, _)| *known == name) {
            None => mine.push((name, value)),
            Some((_, Value::Text(known))) => {
                if let Value::Text(text) = value
                    && text.len() > known.len()
                {
                    *known = text;
                }
            }
            Some((_, Value::Int(known))) => {
                if let Value::Int(number) = value {
                    *known = number.max(*known);
                }
            }
            Some((_, Value::Bool(_))) => {}
        }
    }
    // What needs both halves is told anew.
    let size = |fields: &[(&str, Value)], suffix: &str| {
        let field = fields.iter().find(|(name, _)| name.ends_with(suffix));
        match field {
            Some((_, Value::Int(size))) => *size,
            _ => 0,
        }
    };
    let total = size(mine, "_request_size").saturating_add(size(mine, "_response_size"));
    if let Some((_, Value::Int(known))) = mine.iter_mut().find(|(name, _)| name.ends_with("_total_size")) {
        *known = total;
    }
}

/// What one socket saw of a call: it may have the question from one flow, and the answer from another.
fn put_together(mine: Option<Observation>, theirs: Option<Observation>) -> Option<Observation> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) if mine.tape == theirs.tape => Some(Observation {
            request: mine.request.or(theirs.request),
            response: mine.response.or(theirs.response),
            ..mine
        }),
        (mine, theirs) => mine.or(theirs),
    }
}

/// Which numbers a call's is one of: each end counts its own, and what HTTP/2's streams carry is numbered by positions
/// beside the streams themselves, whose numbers have 31 bits.
fn kind(stream: u64) -> usize {
    usize::from(!stream.is_multiple_of(2)) + 2 * usize::from(stream >> 31 != 0)
}

/// Whether another observer has more of a message.
fn better(mine: Option<&Half>, theirs: Option<&Half>) -> bool {
    match (mine, theirs) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(mine), Some(theirs)) if mine.gap => !theirs.gap || theirs.span.missing < mine.span.missing,
        (Some(mine), Some(theirs)) => !theirs.gap && theirs.unresolved < mine.unresolved,
    }
}

impl Join {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    /// Bytes that wait, roughly.
    pub fn memory(&self) -> usize {
        let streams = self.streams.as_ref().map_or(0, |streams| {
            size_of::<OutStreams>() + streams.out.capacity() * size_of::<u64>()
        });
        self.bytes + streams
    }

    /// Since when the oldest call waits.
    pub fn since(&self) -> Option<Nanos> {
        self.lanes
            .iter()
            .filter_map(|lane| lane.front())
            .map(|held| held.since)
            .min()
    }

    /// Takes the next call of an observer.
    pub fn hold(&mut self, lane: usize, view: View, now: Nanos) {
        while self.lanes.len() <= lane {
            self.lanes.push(VecDeque::new());
        }
        let cost = view.cost();
        self.bytes += cost;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.push_back(Held {
                view,
                since: now,
                cost,
            });
        }
    }

    /// Gives the first call that need not wait any more: each observer has passed it, or will not, or has had its time.
    /// `open` says whether an observer may have more to tell, `expected` whether one is still to come.
    pub fn next(
        &mut self,
        open: &[bool],
        expected: bool,
        now: Nanos,
        counters: &mut Counters,
    ) -> Option<View> {
        let lane = self.first()?;
        let front = self.lanes.get(lane)?;
        let view = &front.front()?.view;
        let mut others = open
            .iter()
            .enumerate()
            .filter(|(other, open)| **open && *other != lane);
        let waits = others.any(|(other, _)| !self.has_passed(other, view));
        if expected || waits {
            // If there is one that has waited for long enough, then those go that are to come before it.
            if self.lanes.iter().any(|lane| lane.len() > HELD_CALLS) {
                counters.held_forced += 1;
            } else if self
                .since()
                .is_some_and(|since| now.saturating_sub(since) >= HELD)
            {
                counters.held_expired += 1;
            } else {
                return None;
            }
        }
        self.take(lane, counters)
    }

    /// Gives the first call, whatever may come.
    pub fn next_forced(&mut self, counters: &mut Counters) -> Option<View> {
        let lane = self.first()?;
        self.take(lane, counters)
    }

    /// Lets a call out, unless it is out already; takes from it what is.
    pub fn pass(&mut self, mut view: View, counters: &mut Counters) -> Option<View> {
        let (request, response) = (view.request(), view.response());
        if view.stream() != 0 {
            return self.pass_stream(view, counters);
        }
        if self.lanes.is_empty() {
            // One observer alone sees nothing twice, and this is all that another one needs if it comes later.
            self.note(&view);
            return Some(view);
        }
        let request_out = request.is_some_and(|half| half.span.start <= self.last_request);
        let response_out = response.is_some_and(|half| half.span.start <= self.last_response);
        if request_out || (request.is_none() && response_out) {
            counters.twins_late += 1;
            return None;
        }
        if response_out {
            counters.twins_late += 1;
            view.transaction.response = None;
            view.transaction.outcome = Outcome::Unknown;
        }
        self.note(&view);
        Some(view)
    }

    /// The same for a call that lies among others.
    fn pass_stream(&mut self, view: View, counters: &mut Counters) -> Option<View> {
        let stream = view.stream();
        if !self.lanes.is_empty()
            && let Some(streams) = &self.streams
        {
            // One that only one observer has, and that is older than can be remembered, is more likely a late view than
            // one that took so long.
            let forgotten = streams.forgotten.get(kind(stream)).copied().unwrap_or_default();
            let old = stream <= forgotten && !view.joined;
            if old || streams.out.contains(&stream) {
                counters.twins_late += 1;
                return None;
            }
        }
        self.note(&view);
        Some(view)
    }

    /// Whether an observer will tell of no call that is to come before this one, or has told of this one.
    fn has_passed(&self, lane: usize, view: &View) -> bool {
        let Some(lane) = self.lanes.get(lane).filter(|lane| !lane.is_empty()) else {
            return false;
        };
        view.stream() == 0
            || lane
                .iter()
                .any(|held| view.is_twin(&held.view) || held.view.is_behind(view))
    }

    /// Notes what has gone out.
    pub fn note(&mut self, view: &View) {
        if view.stream() != 0 {
            let streams = self.streams.get_or_insert_default();
            if streams.out.len() >= OUT_STREAMS
                && let Some(oldest) = streams.out.pop_front()
                && let Some(forgotten) = streams.forgotten.get_mut(kind(oldest))
            {
                *forgotten = oldest.max(*forgotten);
            }
            streams.out.push_back(view.stream());
            return;
        }
        if let Some(half) = view.request() {
            self.last_request = self.last_request.max(half.span.start);
            self.last_ack = half.span.ack;
        }
        if let Some(half) = view.response() {
            self.last_response = self.last_response.max(half.span.start);
        }
    }

    /// The observer whose next call is the first.
    fn first(&self) -> Option<usize> {
        let fronts = self.lanes.iter().enumerate();
        let fronts = fronts.filter_map(|(n, lane)| Some((lane.front()?.view.key(), n)));
        fronts.min().map(|(_, n)| n)
    }

    /// Takes an observer's next call, with what the others saw of it.
    fn take(&mut self, lane: usize, counters: &mut Counters) -> Option<View> {
        let held = self.lanes.get_mut(lane)?.pop_front()?;
        self.bytes -= held.cost;
        let mut view = held.view;
        let mut joined = false;
        for other in 0..self.lanes.len() {
            if other == lane {
                continue;
            }
            if let Some(twin) = self.take_where(other, |held| view.is_twin(held)) {
                view.merge(twin);
                joined = true;
            } else if let Some(rest) = self.rest_of(&view, lane, other) {
                view.merge(rest);
                view.transaction.marks.set(Marks::AFTER_GAP);
                joined = true;
            }
        }
        counters.calls_joined += u64::from(joined);
        Some(view)
    }

    /// Takes the response to a request from another observer's calls, where the request's own observer has missed it.
    fn rest_of(&mut self, view: &View, own: usize, other: usize) -> Option<View> {
        let last_ack = self.last_ack;
        let lane = self.lanes.get(other)?;
        let rest = &lane
            .iter()
            .find(|held| view.completes(&held.view, last_ack))?
            .view;
        // If it has the response, too, then it has a reason not to have paired the two.
        let declined = self.lanes.get(own)?.iter().any(|held| held.view.is_twin(rest));
        if declined {
            return None;
        }
        self.take_where(other, |held| view.completes(held, last_ack))
    }

    fn take_where(&mut self, lane: usize, wanted: impl Fn(&View) -> bool) -> Option<View> {
        let lane = self.lanes.get_mut(lane)?;
        let index = lane.iter().position(|held| wanted(&held.view))?;
        let held = lane.remove(index)?;
        self.bytes -= held.cost;
        Some(held.view)
    }
}
