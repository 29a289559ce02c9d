//! Which response answers which request.
//!
//! In a connection that was seen whole, the nth response answers the nth request. Once messages may be missing, before
//! a late join or in a gap, counting proves nothing any more, and acknowledgement numbers decide: a request says how
//! far its client had received the responses when it was sent. If exactly one response fills the stretch between what
//! a request and the very next one say, then it is the first one's, and from there on counting holds again. Anything
//! less stays unpaired.

use std::collections::VecDeque;

use super::halves::{self, PendingAnswer, PendingRequest};
use super::{Frame, Start};
use crate::Counters;
use crate::call::{Headers, Marks, Outcome};
use crate::limits::PENDING;
use crate::protocols::tap::Tap;
use crate::protocols::{Half, Request, Response, Side, Span, Told, Transaction, Upgrade};
use crate::queue;
use crate::tcp::Close;

/// A request whose head was seen, and whose response was not yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its number in the connection.
    pub ordinal: u64,
    /// Position of its first byte.
    pub start: u64,
    /// How far its client had received the responses.
    pub ack: u64,
    /// Whether it is a HEAD, whose response has no body.
    pub head: bool,
    /// Whether it is a CONNECT, whose response opens a tunnel.
    pub connect: bool,
}

/// What waits for its other half.
pub(super) struct Pairing {
    /// Requests without a response, heads only, in order.
    asked: VecDeque<Asked>,
    next_ordinal: u64,
    /// Whether a response is under way of which it is not known what it answers.
    unplaced: bool,
    /// Requests from this one on cannot be paired by counting.
    uncertain_from: u64,
    /// Requests from this one on come after a loss.
    lossy_from: u64,
    /// Requests from this one on were found at a place that nothing has borne out yet.
    doubted_from: u64,
    /// Whether the head under way, which is doubted, is none.
    head_refuted: bool,
    /// Requests that were taken back, not yet counted.
    refuted: u64,
    /// Where each direction was lost last; 0 for never.
    lost_client: u64,
    lost_server: u64,
    /// What the last request's client had received, and whether any request was sent before the answer to the one
    /// before it.
    received: u64,
    pipelines: bool,
    /// Times that too many requests waited, not yet counted.
    overflows: u64,
    /// Where the first response begins.
    first_base: u64,
    /// Whole requests without a response.
    requests: VecDeque<PendingRequest>,
    /// Responses that came before the end of their request, or whose request is not certain yet.
    answers: VecDeque<PendingAnswer>,
    bytes: usize,
}

impl Pairing {
    /// Begins with a connection that was seen from its start, or not.
    pub fn new(whole: bool) -> Self {
        Self {
            asked: VecDeque::new(),
            next_ordinal: 0,
            unplaced: false,
            uncertain_from: if whole { u64::MAX } else { 0 },
            lossy_from: u64::MAX,
            doubted_from: u64::MAX,
            head_refuted: false,
            refuted: 0,
            lost_client: 0,
            lost_server: 0,
            received: 0,
            pipelines: false,
            overflows: 0,
            first_base: 0,
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Notes the head of a request; gives it its ordinal.
    pub fn ask(&mut self, asked: Asked) -> u64 {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        if self.asked.len() >= PENDING {
            self.overflows += 1;
            self.lost(Side::Server, 0);
            self.asked.pop_front();
        }
        queue::push(&mut self.asked, Asked { ordinal, ..asked });
        ordinal
    }

    /// Notes the head of a response that begins at `base`, and whose server had received the requests up to `ack`.
    /// Gives the request that it answers, and what that asked: certain, or by all appearances.
    pub fn answer(&mut self, base: u64, ack: u64) -> (Option<u64>, Option<Asked>) {
        // No server answers a head that is not whole.
        self.head_refuted |= self.doubted_from == self.next_ordinal;
        let borne_out = |pending: &PendingRequest| {
            pending.ordinal >= self.doubted_from && pending.request.half.span.end == ack
        };
        if self.requests.iter().rev().any(borne_out) {
            self.doubted_from = u64::MAX;
        }
        self.unplaced = true;
        let Some(front) = self.asked.front().copied() else {
            return (None, None);
        };
        if front.ordinal < self.uncertain_from {
            // A response to a request that the server had not received is none: it gave up the connection.
            if ack != 0 && ack <= front.start {
                return (None, None);
            }
            self.asked.pop_front();
            self.unplaced = false;
            return (Some(front.ordinal), Some(front));
        }
        let mut likely = self.asked.iter().filter(|asked| asked.ack == base);
        let first = likely.next().copied();
        (None, first.filter(|_| likely.next().is_none()))
    }

    /// The next request is found at a place where a body may have gone on that quotes it. It is told when the server has
    /// received just this or the next one has its turn, and taken back when what follows is no request.
    pub fn doubt(&mut self) {
        self.doubted_from = self.doubted_from.min(self.next_ordinal);
    }

    /// A request begins, and it is its client's turn: so there was a request before.
    pub fn confirm_turn(&mut self) {
        if self.next_ordinal > self.doubted_from {
            self.doubted_from = u64::MAX;
        }
    }

    /// Whether the client's head under way has turned out to be none.
    pub fn is_head_refuted(&self) -> bool {
        self.head_refuted
    }

    /// What is doubted was none, or cannot be borne out any more; whether there was any doubt.
    pub fn refute(&mut self) -> bool {
        let from = std::mem::replace(&mut self.doubted_from, u64::MAX);
        self.refuted += u64::from(std::mem::take(&mut self.head_refuted));
        while let Some(request) = self.requests.pop_back_if(|request| request.ordinal >= from) {
            self.bytes -= request.cost();
            self.refuted += 1;
        }
        while self.asked.pop_back_if(|asked| asked.ordinal >= from).is_some() {}
        from != u64::MAX
    }

    /// How many requests were taken back since this was asked.
    pub fn refuted(&mut self) -> u64 {
        std::mem::take(&mut self.refuted)
    }

    /// Messages of one direction may be missing at a position.
    pub fn lost(&mut self, side: Side, position: u64) {
        let from = match side {
            Side::Client => {
                self.lost_client = position.max(1);
                self.next_ordinal
            }
            Side::Server => {
                self.lost_server = position.max(1);
                self.asked
                    .front()
                    .map_or(self.next_ordinal, |asked| asked.ordinal)
            }
        };
        self.uncertain_from = self.uncertain_from.min(from);
        self.lossy_from = self.lossy_from.min(from);
    }

    /// Takes a whole request.
    pub fn request(&mut self, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let frame = told.frame;
        let Start::Request {
            method,
            path,
            query,
            authority,
            ordinal,
        } = frame.start
        else {
            return;
        };
        counters.pending_dropped += std::mem::take(&mut self.overflows);
        // Were the request before it answered, then the client would have received more since.
        self.pipelines |= told.span.ack <= self.received;
        self.received = told.span.ack;
        let request = Box::new(Request {
            method,
            path,
            query,
            authority,
            half: Half {
                span: told.span,
                headers: frame.headers,
                head_len: frame.head_len,
                body_len: frame.body_len,
                gap: frame.gap,
                headers_cut: frame.headers_cut,
                unresolved: 0,
                fields: Vec::new(),
            },
        });
        let pending = PendingRequest {
            ordinal,
            version: frame.version,
            reset: frame.reset,
            tap: frame.tap,
            request,
        };
        let early = self
            .answers
            .iter()
            .position(|answer| answer.answers == Some(ordinal));
        if let Some(answer) = early.and_then(|index| self.answers.remove(index)) {
            self.bytes -= answer.cost();
            self.emit(Some(pending), Some(answer), out);
            return;
        }
        self.bytes += pending.cost();
        queue::push(&mut self.requests, pending);
        self.settle(out);
    }

    /// What the request asked for, and where it ends, if it is known and whole.
    pub fn target(&self, ordinal: Option<u64>) -> Upgrade {
        let mut requests = self.requests.iter();
        let asked = requests.find(|pending| Some(pending.ordinal) == ordinal && !pending.request.half.gap);
        asked.map_or_else(Upgrade::default, |PendingRequest { request, .. }| Upgrade {
            path: request.path.clone(),
            query: request.query.clone(),
            authority: request.authority.clone(),
            client_from: Some(request.half.span.end),
            ..Upgrade::default()
        })
    }

    /// What looks at the body of the response to a request, if the request asks for it.
    pub fn answer_tap(&self, ordinal: Option<u64>, headers: &Headers) -> Option<Box<Tap>> {
        let mut requests = self.requests.iter();
        let asked = requests.find(|pending| Some(pending.ordinal) == ordinal)?;
        Tap::of_answer(asked.tap.as_deref(), &asked.request.query, headers)
    }

    /// Takes a request away that is answered elsewhere; it waits as the only one.
    pub fn take_request(&mut self, ordinal: u64) -> Option<Request> {
        let only = self.requests.len() == 1;
        let pending = self
            .requests
            .pop_front_if(|pending| only && pending.ordinal == ordinal)?;
        self.bytes -= pending.cost();
        Some(*pending.request)
    }

    /// Takes a whole response.
    pub fn response(&mut self, told: Told<Frame>, out: &mut Vec<Transaction>) {
        let frame = told.frame;
        let Start::Response {
            status,
            answers,
            base,
        } = frame.start
        else {
            return;
        };
        self.unplaced = false;
        if self.first_base == 0 {
            self.first_base = base;
        }
        let answer = PendingAnswer {
            answers,
            base,
            version: frame.version,
            reset: frame.reset,
            tap: frame.tap,
            response: Box::new(Response {
                status: Some(status),
                half: Half {
                    span: told.span,
                    headers: frame.headers,
                    head_len: frame.head_len,
                    body_len: frame.body_len,
                    gap: frame.gap,
                    headers_cut: frame.headers_cut,
                    unresolved: 0,
                    fields: Vec::new(),
                },
            }),
        };
        match answers {
            Some(ordinal) => {
                while self
                    .requests
                    .front()
                    .is_some_and(|request| request.ordinal < ordinal)
                {
                    self.emit_front(out);
                }
                match self.requests.pop_front_if(|request| request.ordinal == ordinal) {
                    Some(request) => {
                        self.bytes -= request.cost();
                        self.emit(Some(request), Some(answer), out);
                    }
                    // The server answers before it has the whole request.
                    None => self.keep(answer, out),
                }
            }
            None => {
                let candidates = self
                    .asked
                    .front()
                    .is_some_and(|asked| asked.ordinal >= self.uncertain_from);
                if candidates {
                    self.keep(answer, out);
                } else {
                    self.emit(None, Some(answer), out);
                }
            }
        }
    }

    /// Gives everything that waits; the connection has ended as said, in each direction.
    pub fn close(&mut self, client: Option<Close>, server: Option<Close>, out: &mut Vec<Transaction>) {
        self.doubted_from = u64::MAX;
        self.settle(out);
        let first = out.len();
        self.pair_last(out);
        while !self.requests.is_empty() {
            self.emit_front(out);
        }
        while let Some(answer) = self.answers.pop_front() {
            self.emit(None, Some(answer), out);
        }
        self.bytes = 0;
        let reset = client == Some(Close::Reset) || server == Some(Close::Reset);
        let closed = reset || server == Some(Close::Finished);
        for transaction in out
            .iter_mut()
            .skip(first)
            .filter(|transaction| transaction.response.is_none())
        {
            if reset {
                transaction.marks.set(Marks::RESET);
            }
            // After a gap, the response may have been in it.
            if closed && !transaction.marks.has(Marks::AFTER_GAP) {
                transaction.outcome = Outcome::NoResponse;
            }
        }
    }

    /// Bytes that wait, roughly.
    pub fn memory(&self) -> usize {
        let asked = self.asked.capacity() * size_of::<Asked>();
        self.bytes + asked + queue::spare(&self.requests) + queue::spare(&self.answers)
    }

    /// Decides about requests that cannot be paired by counting, each with the help of the next one.
    fn settle(&mut self, out: &mut Vec<Transaction>) {
        while let (Some(request), Some(next)) = (self.requests.front(), self.requests.get(1)) {
            let doubted = next.ordinal > self.doubted_from && self.requests.len() <= PENDING;
            if request.ordinal < self.uncertain_from || doubted {
                return;
            }
            let (this, next) = (&request.request.half.span, &next.request.half.span);
            let exact = self.answers.iter().position(|answer| {
                let span = &answer.response.half.span;
                this.end == next.start
                    && this.ack != 0
                    && answer.answers.is_none()
                    && answer.base == this.ack
                    && span.end == next.ack
                    && span.ack > this.start
            });
            let (start, received) = (this.start, next.ack);
            let kept = self.lost_client < next.start && self.lost_server < received.max(1);
            // Responses that the next request's client had received are nobody's: not the next one's, and not this
            // one's, but for the one found.
            let found = exact.and_then(|index| self.answers.remove(index));
            self.bytes -= found.as_ref().map_or(0, PendingAnswer::cost);
            self.emit_orphans(|span| span.start < received && span.ack <= start, out);
            let Some(request) = self.requests.pop_front() else {
                return;
            };
            self.bytes -= request.cost();
            self.forget_asked(request.ordinal);
            // A response under way belongs to none of the requests that are still to be counted.
            let certain = found.is_some() && kept && !self.unplaced;
            self.emit(Some(request), found, out);
            self.emit_orphans(|span| span.start < received, out);
            if certain && self.answers.iter().all(|answer| answer.answers.is_some()) {
                self.uncertain_from = u64::MAX;
            }
        }
    }

    /// The last request of a connection has no next one to help; here the server must have received exactly the
    /// request when it answered.
    fn pair_last(&mut self, out: &mut Vec<Transaction>) {
        let [Some(request), None] = [self.requests.front(), self.requests.get(1)] else {
            return;
        };
        let this = &request.request.half.span;
        let [Some(answer), None] = [self.answers.front(), self.answers.get(1)] else {
            return;
        };
        let span = &answer.response.half.span;
        // After a lost request, there must be the response to it.
        let first = self.lost_client > 0 && answer.base == self.first_base;
        let fits = request.ordinal >= self.uncertain_from
            && !self.pipelines
            && !first
            && answer.answers.is_none()
            && this.ack != 0
            && answer.base == this.ack
            && span.ack == this.end
            && self.lost_client < this.start
            && self.lost_server < answer.base;
        if fits {
            let (request, answer) = (self.requests.pop_front(), self.answers.pop_front());
            self.emit(request, answer, out);
        }
    }

    /// Keeps a response until its request is known.
    fn keep(&mut self, answer: PendingAnswer, out: &mut Vec<Transaction>) {
        self.bytes += answer.cost();
        queue::push(&mut self.answers, answer);
        if self.answers.len() > PENDING
            && let Some(oldest) = self.answers.pop_front()
        {
            self.bytes -= oldest.cost();
            self.emit(None, Some(oldest), out);
        }
    }

    /// Gives the oldest request without a response.
    fn emit_front(&mut self, out: &mut Vec<Transaction>) {
        if let Some(request) = self.requests.pop_front() {
            self.bytes -= request.cost();
            self.forget_asked(request.ordinal);
            self.emit(Some(request), None, out);
        }
    }

    /// Gives responses that no request can claim any more.
    fn emit_orphans(&mut self, which: impl Fn(&Span) -> bool, out: &mut Vec<Transaction>) {
        let orphan = |answer: &PendingAnswer| answer.answers.is_none() && which(&answer.response.half.span);
        while let Some(index) = self.answers.iter().position(orphan) {
            let Some(answer) = self.answers.remove(index) else {
                return;
            };
            self.bytes -= answer.cost();
            self.emit(None, Some(answer), out);
        }
    }

    fn forget_asked(&mut self, ordinal: u64) {
        while self
            .asked
            .pop_front_if(|asked| asked.ordinal <= ordinal)
            .is_some()
        {}
    }

    fn emit(
        &self,
        request: Option<PendingRequest>,
        answer: Option<PendingAnswer>,
        out: &mut Vec<Transaction>,
    ) {
        let mut marks = Marks::default();
        let ordinal = request.as_ref().map_or(u64::MAX - 1, |request| request.ordinal);
        if ordinal >= self.lossy_from {
            marks.set(Marks::AFTER_GAP);
        }
        let broken = [
            request.as_ref().map(|request| request.reset),
            answer.as_ref().map(|answer| answer.reset),
        ];
        if broken.contains(&Some(true)) {
            marks.set(Marks::RESET);
        }
        out.extend(halves::transaction(request, answer, marks));
    }
}
