//! One flow of datagrams, with everyone who saw it.

mod sides;

use std::collections::VecDeque;

use super::{Exchange, Exchanging};
use crate::connection::{call, peer};
use crate::datagram::{Datagram, Transport};
use crate::flow::{End, Ends, FlowKey, mix};
use crate::join::View;
use crate::limits::{ANSWERED, DATAGRAM_IDLE, DATAGRAM_PROBES, HELD, HELD_CALLS, VANTAGES};
use crate::protocols::{Arrival, DATAGRAM_PROTOCOLS, Key, Likeness};
use crate::record::{ClientBy, ConnectionRecord, SeenFrom, State};
use crate::segment::Observer;
use crate::tcp::Sent;
use crate::{Call, Counters, Nanos, Outcome};
pub(super) use sides::{Has, Sighting, Wanted};

/// What a flow needs of its shard.
pub(super) struct Desk<'a> {
    pub counters: &'a mut Counters,
    /// For exchanges on their way; empty between datagrams.
    pub scratch: &'a mut Vec<Exchange>,
    pub out: &'a mut Vec<Call>,
    /// Flows that are over.
    pub over: &'a mut Vec<ConnectionRecord>,
}

/// The datagrams between two addresses and ports.
pub(super) struct Flow {
    flow: FlowKey,
    stream: u64,
    /// Ordinal of the next call.
    index: u32,
    /// Who asks: in its first call, else who has spoken first.
    client: End,
    transport: Transport,
    last_seen: Nanos,
    vantages: Vec<Vantage>,
    /// Whether more observers are to be expected.
    twin: bool,
    /// Which tape recorded each end's socket, and that socket's cgroup.
    recorded: Ends<Option<(u16, u64)>>,
    /// Calls that wait for what the other observers saw of them; oldest first.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Whether the shard will come back to it for these.
    pub appointed: bool,
    /// Calls that are out, by which another observer's late view of one is known.
    given: VecDeque<Given>,
    /// Whether calls of it were sides of calls that other flows have.
    given_away: bool,
    /// Protocols of the calls that are out.
    protocols: Vec<&'static str>,
}

/// A flow as one observer saw it.
struct Vantage {
    tape: u16,
    observer: Observer,
    /// When its first datagram was seen, and its last.
    times: (Nanos, Nanos),
    /// What each end sent.
    volumes: Ends<Volume>,
    dissection: Dissection,
}

/// Datagrams, and bytes of them from the IP header on.
#[derive(Clone, Copy, Default)]
struct Volume {
    packets: u64,
    bytes: u64,
}

enum Dissection {
    /// No datagram was of a known protocol, out of so many.
    Undecided(u32),
    Known(Box<dyn Exchanging>),
    /// Its datagrams are no longer looked at.
    Passed,
}

/// A call that waits.
struct Held {
    /// By what other observers know it.
    given: Given,
    view: View,
    since: Nanos,
    cost: usize,
}

/// By what observers know a call, and which ones have told theirs.
#[derive(Clone, Copy)]
struct Given {
    client: End,
    key: Key,
    /// See [`Exchange::ident`].
    ident: u32,
    response: Option<u64>,
    /// A bit for each.
    seen: u32,
    /// From the first that was seen of it to the last.
    at: (Nanos, Nanos),
    /// Whether it was joined with the same call of another flow.
    two_sided: bool,
}

impl Given {
    /// Whether another observer's exchange is the same. Equal bytes can be sent more than once, so each observer is
    /// taken at its word once; what one of them saw more often is more calls.
    fn is(&self, other: &Self) -> bool {
        let same_answer = match (self.response, other.response) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        self.client == other.client && self.key == other.key && same_answer && self.seen & other.seen == 0
    }
}

impl Flow {
    /// A flow that begins with this datagram.
    pub fn new(datagram: &Datagram) -> Self {
        let transport = match datagram.transport {
            Transport::Udp => 1,
            Transport::Icmp => 2,
            Transport::Icmp6 => 3,
            Transport::Other(number) => 256 + u64::from(number),
        };
        Self {
            flow: datagram.flow,
            // Not the id of a TCP connection between the same ports.
            stream: mix(datagram.flow.mixed() ^ mix(datagram.ts) ^ transport),
            index: 0,
            client: datagram.from.end,
            transport: datagram.transport,
            last_seen: datagram.ts,
            vantages: Vec::with_capacity(1),
            twin: false,
            recorded: Ends::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            appointed: false,
            given: VecDeque::new(),
            given_away: false,
            protocols: Vec::new(),
        }
    }

    /// When its last datagram was seen.
    pub fn last_seen(&self) -> Nanos {
        self.last_seen
    }

    /// How many calls wait for another observer.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// When the oldest call that waits for another observer began to wait.
    pub fn holding_since(&self) -> Option<Nanos> {
        self.held.front().map(|held| held.since)
    }

    /// Bytes that it holds beside itself, roughly.
    pub fn memory(&self) -> usize {
        let known = self.vantages.iter().map(|vantage| match &vantage.dissection {
            Dissection::Known(exchanging) => exchanging.memory(),
            Dissection::Undecided(_) | Dissection::Passed => 0,
        });
        known.sum::<usize>()
            + self.vantages.capacity() * size_of::<Vantage>()
            + self.held_bytes
            + self.given.capacity() * size_of::<Given>()
    }

    /// Takes a datagram.
    pub fn take(&mut self, datagram: &Datagram, payload: &[u8], now: Nanos, desk: &mut Desk<'_>) {
        self.last_seen = now;
        self.twin = datagram.from.twin;
        if let Observer::Socket(end) = datagram.observer {
            let recorded = self.recorded[end].get_or_insert((datagram.tape, datagram.cgroup));
            if recorded.1 == 0 {
                recorded.1 = datagram.cgroup;
            }
        }
        let Some(n) = self.vantage(datagram) else {
            desk.counters.vantages_refused += 1;
            return;
        };
        let Some(vantage) = self.vantages.get_mut(n) else {
            return;
        };
        vantage.times.1 = datagram.ts;
        let volume = &mut vantage.volumes[datagram.from.end];
        volume.packets += 1;
        volume.bytes += datagram.wire_len();
        if matches!(vantage.dissection, Dissection::Passed) {
            return;
        }
        let from = datagram.from.end;
        let arrival = Arrival {
            bytes: payload,
            missing: datagram.missing,
            transport: datagram.transport,
            from,
            source_port: self.flow.port(from),
            destination_port: self.flow.port(from.other()),
        };
        vantage.dissection.recognise(&arrival, desk.counters);
        if let Dissection::Known(exchanging) = &mut vantage.dissection {
            exchanging.take(&arrival, datagram, desk.counters, desk.scratch);
            self.collect(n, now, desk);
        }
    }

    /// Gives up the requests that have waited for too long.
    pub fn expire(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        for n in 0..self.vantages.len() {
            if let Some(Dissection::Known(exchanging)) =
                self.vantages.get_mut(n).map(|vantage| &mut vantage.dissection)
            {
                exchanging.expire(now, desk.scratch);
            }
            self.collect(n, now, desk);
        }
    }

    /// Gives the calls that have waited for another observer for long enough; says since when the next one waits.
    pub fn release(&mut self, now: Nanos, desk: &mut Desk<'_>) -> Option<Nanos> {
        while let Some(held) = self
            .held
            .pop_front_if(|held| held.since.saturating_add(HELD) <= now)
        {
            desk.counters.held_expired += 1;
            self.let_go(held, desk);
        }
        self.appointed = !self.held.is_empty();
        self.holding_since()
    }

    /// The tapes of those who saw it.
    pub fn tapes(&self) -> impl Iterator<Item = u16> {
        self.vantages.iter().map(|vantage| vantage.tape)
    }

    /// There are no more datagrams: no question waits for its answer any more.
    pub fn close(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        self.expire(now, desk);
        for n in 0..self.vantages.len() {
            if let Some(Dissection::Known(exchanging)) =
                self.vantages.get_mut(n).map(|vantage| &mut vantage.dissection)
            {
                exchanging.close(now, desk.scratch);
            }
            self.collect(n, now, desk);
        }
    }

    /// Gives everything that waits.
    pub fn finish(&mut self, now: Nanos, desk: &mut Desk<'_>) {
        self.close(now, desk);
        while let Some(held) = self.held.pop_front() {
            self.let_go(held, desk);
        }
        let told_elsewhere = self.given_away && self.index == 0;
        if !matches!(self.transport, Transport::Icmp | Transport::Icmp6) && !told_elsewhere {
            desk.over.extend(self.record(now));
        }
    }

    /// What is to be told of the flow as such.
    fn record(&mut self, now: Nanos) -> Option<ConnectionRecord> {
        let client = self.client;
        // The client's socket, else the server's, else whoever saw it first.
        let vantage = self
            .vantages
            .iter()
            .min_by_key(|vantage| SeenFrom::of(vantage.observer, client))?;
        let ends = [client, client.other()];
        let silent = now.saturating_sub(self.last_seen) >= DATAGRAM_IDLE;
        Some(ConnectionRecord {
            stream: self.stream,
            client: peer(&self.flow, &self.recorded, client),
            server: peer(&self.flow, &self.recorded, client.other()),
            client_by: if self.index > 0 {
                ClientBy::Protocol
            } else {
                ClientBy::Opening
            },
            transport: self.transport.name(),
            tape: vantage.tape,
            seen_from: SeenFrom::of(vantage.observer, client),
            recorded: ends.map(|end| self.recorded[end].is_some()).into(),
            times: vantage.times,
            state: if silent { State::Closed } else { State::Established },
            protocols: std::mem::take(&mut self.protocols),
            calls: self.index,
            sent: ends.map(|end| Sent {
                packets: vantage.volumes[end].packets,
                bytes: vantage.volumes[end].bytes,
                ..Sent::default()
            }),
            tcp: None,
        })
    }

    /// The observer of a datagram; `None` if there are too many.
    fn vantage(&mut self, datagram: &Datagram) -> Option<usize> {
        let same = |vantage: &Vantage| vantage.tape == datagram.tape && vantage.observer == datagram.observer;
        if let Some(n) = self.vantages.iter().position(same) {
            return Some(n);
        }
        if self.vantages.len() >= VANTAGES {
            return None;
        }
        self.vantages.push(Vantage {
            tape: datagram.tape,
            observer: datagram.observer,
            times: (datagram.ts, datagram.ts),
            volumes: Ends::default(),
            dissection: match datagram.transport {
                Transport::Other(_) => Dissection::Passed,
                Transport::Udp | Transport::Icmp | Transport::Icmp6 => Dissection::Undecided(0),
            },
        });
        Some(self.vantages.len() - 1)
    }

    /// Takes the exchanges that an observer's dissection has given.
    fn collect(&mut self, n: usize, now: Nanos, desk: &mut Desk<'_>) {
        let Some(&Vantage { tape, observer, .. }) = self.vantages.get(n) else {
            return;
        };
        let mut scratch = std::mem::take(desk.scratch);
        for mut exchange in scratch.drain(..) {
            let transaction = &mut exchange.transaction;
            let server = self.flow.address(transaction.client.other()).ip();
            if transaction.outcome == Outcome::NoResponse && server.is_multicast() {
                // Whoever answers, does so from an address of its own, often to all.
                transaction.outcome = Outcome::Unknown;
            }
            let given = Given {
                client: exchange.transaction.client,
                key: exchange.key,
                ident: exchange.ident,
                response: exchange.response,
                seen: 1 << n,
                at: exchange.at(),
                two_sided: false,
            };
            let view = View::new(exchange.transaction, tape, observer);
            self.offer(given, view, now, desk);
        }
        *desk.scratch = scratch;
        while self.held.len() > HELD_CALLS
            && self.front().is_none()
            && let Some(held) = self.held.pop_front()
        {
            desk.counters.held_forced += 1;
            self.let_go(held, desk);
        }
    }

    /// Joins a view of a call with the others' views of it, or keeps it for them.
    fn offer(&mut self, given: Given, view: View, now: Nanos, desk: &mut Desk<'_>) {
        // An only observer has told of no call before that it tells of now.
        let others = self.vantages.len() > 1;
        if let Some(out) = self.given.iter_mut().find(|out| others && out.is(&given)) {
            out.seen |= given.seen;
            desk.counters.twins_late += 1;
            return;
        }
        let known = |held: &Held| others && held.given.is(&given);
        if let Some(n) = self.held.iter().position(known) {
            let alone = !self.may_have_other_side(&given);
            let complete = self.held.get_mut(n).is_some_and(|held| {
                held.take(given, view);
                let sides = &held.view.sides;
                // Its answer may have come to the client from another address.
                let whole = sides.client.is_none_or(|client| client.response.is_some());
                let all = !self.twin && held.given.seen.count_ones() as usize == self.vantages.len();
                (whole || alone) && (all || sides.client.is_some() && sides.server.is_some())
            });
            if complete && let Some(held) = self.held.remove(n) {
                self.let_go(held, desk);
            }
        } else if !self.expects_others() && !self.may_have_other_side(&given) {
            self.emit(given, view, desk);
        } else {
            let cost = view.cost();
            self.held_bytes += cost;
            self.held.push_back(Held {
                given,
                view,
                since: now,
                cost,
            });
        }
    }

    /// Whether its calls are seen by several, or likely to be.
    fn expects_others(&self) -> bool {
        self.twin || self.vantages.len() > 1
    }

    /// Gives a call, with what the others know of it so far.
    fn let_go(&mut self, mut held: Held, desk: &mut Desk<'_>) {
        self.held_bytes -= held.cost;
        for (n, vantage) in self.vantages.iter_mut().enumerate() {
            if held.given.seen & 1 << n != 0 {
                continue;
            }
            // Where the answer was lost on its way, the other observer waits for it still.
            if let Some((given, view)) = vantage.give_up(n, held.given.client, held.given.key) {
                held.take(given, view);
            }
        }
        let joined = held.given.seen.count_ones() > 1;
        desk.counters.calls_joined += u64::from(joined);
        self.emit(held.given, held.view, desk);
    }

    fn emit(&mut self, given: Given, view: View, desk: &mut Desk<'_>) {
        if self.given.len() >= ANSWERED {
            self.given.pop_front();
        }
        if self.given.capacity() == 0 {
            // Most flows are of one call.
            self.given.reserve_exact(1);
        }
        self.given.push_back(given);
        desk.counters.calls += 1;
        if self.index == 0 {
            self.client = given.client;
        }
        if !self.protocols.contains(&view.transaction.protocol) {
            self.protocols.push(view.transaction.protocol);
        }
        desk.out
            .push(call(view, (self.stream, self.index), &self.flow, &self.recorded));
        self.index += 1;
    }
}

impl Vantage {
    /// If a question that it saw waits for its answer: when it was asked first, and last.
    fn waits_for(&self, client: End, key: Key) -> Option<(Nanos, Nanos)> {
        match &self.dissection {
            Dissection::Known(exchanging) => exchanging.waits_for(client, key),
            Dissection::Undecided(_) | Dissection::Passed => None,
        }
    }

    /// Gives up a question that waits for its answer, as the `n`th observer.
    fn give_up(&mut self, n: usize, client: End, key: Key) -> Option<(Given, View)> {
        let Dissection::Known(exchanging) = &mut self.dissection else {
            return None;
        };
        let rest = exchanging.give_up(client, key)?;
        let given = Given {
            client,
            key,
            ident: rest.ident,
            response: None,
            seen: 1 << n,
            at: rest.at(),
            two_sided: false,
        };
        Some((given, View::new(rest.transaction, self.tape, self.observer)))
    }
}

impl Held {
    /// Takes another observer's view of the same call.
    fn take(&mut self, given: Given, mut view: View) {
        // A whole call is better than half of one, and one with every copy of its request than one without.
        let worth = |view: &View| {
            let request = view.transaction.request.as_ref();
            let copies = request.map_or(0, |request| request.half.span.packets.len());
            let whole = request.is_some() && view.transaction.response.is_some();
            (whole, copies)
        };
        if worth(&view) > worth(&self.view) {
            std::mem::swap(&mut self.view, &mut view);
        }
        self.view.merge(view);
        self.given.seen |= given.seen;
        self.given.response = self.given.response.or(given.response);
    }
}

impl Dissection {
    /// Asks every protocol, if none is known yet. The first one that is sure wins.
    fn recognise(&mut self, arrival: &Arrival<'_>, counters: &mut Counters) {
        let Self::Undecided(refused) = self else {
            return;
        };
        let ports = [arrival.source_port, arrival.destination_port];
        let protocol = DATAGRAM_PROTOCOLS
            .iter()
            .find(|protocol| match (protocol.probe)(arrival) {
                Likeness::Yes => true,
                Likeness::AtHome => ports.iter().any(|port| protocol.info.ports.contains(port)),
                Likeness::No => false,
            });
        if let Some(protocol) = protocol {
            counters.datagram_flows_recognised += 1;
            *self = Self::Known((protocol.begin)());
            return;
        }
        *refused += 1;
        if *refused >= DATAGRAM_PROBES {
            counters.datagram_flows_unrecognised += 1;
            *self = Self::Passed;
        }
    }
}
