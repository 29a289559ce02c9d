//! The flows of datagrams of one shard.

mod driver;

mod flow;

mod callers;

mod masked;

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

pub(crate) use driver::Exchanges;
pub use driver::{Exchange, Exchanging};

use crate::datagram::{Datagram, Transport};
use crate::flow::FlowKey;
use crate::limits::{DATAGRAM_FLOW_BYTES, DATAGRAM_FLOWS, DATAGRAM_IDLE, HELD, HELD_CALLS};
use crate::packet::recorded_until;
use crate::record::ConnectionRecord;
use crate::{Call, Counters, Nanos};
use callers::Callers;
use flow::{Desk, Flow, Has, Sighting, Wanted};
use masked::Masked;

/// The flows of datagrams of one shard, and the calls that wait in them.
#[derive(Default)]
pub(crate) struct Datagrams {
    flows: FxHashMap<Name, Flow>,
    /// Those of UDP by their clients.
    callers: Callers,
    /// Calls whose client may have another address elsewhere.
    masked: Masked,
    /// Every flow, once, in the order in which they were last looked at.
    idle: VecDeque<(Nanos, Name)>,
    /// Flows with calls that wait for another observer, in order.
    holding: VecDeque<(Nanos, Name)>,
    now: Nanos,
    bytes: usize,
    scratch: Vec<Exchange>,
}

/// Which of a flow's calls need not wait for another observer any more.
#[derive(Clone, Copy)]
enum Due {
    /// Those that have waited for long enough.
    Until(Nanos),
    /// Those that are too many.
    Crowded,
    /// All: nothing more comes.
    All,
}

impl Due {
    /// Whether the first is, given since when it waits, and how many do.
    fn is(self, since: Nanos, held: usize) -> bool {
        match self {
            Self::Until(now) => since.saturating_add(HELD) <= now,
            Self::Crowded => held > HELD_CALLS,
            Self::All => true,
        }
    }
}

/// Addresses, ports and transport.
type Name = (FlowKey, Transport);

impl Datagrams {
    /// Takes the next datagram with its payload; gives the calls that have become complete.
    pub fn take(
        &mut self,
        datagram: &Datagram,
        payload: &[u8],
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) {
        counters.datagrams += 1;
        self.now = self.now.max(datagram.ts);
        let now = self.now;
        self.keep_appointments(counters, out, over);
        let name = (datagram.flow, datagram.transport);
        if self.flows.len() >= DATAGRAM_FLOWS && !self.flows.contains_key(&name) {
            self.evict(counters, out, over);
        }
        let flow = match self.flows.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => {
                counters.datagram_flows += 1;
                if datagram.transport == Transport::Udp && !self.callers.add(&datagram.flow) {
                    counters.callers_crowded += 1;
                }
                self.idle.push_back((now, name));
                vacant.insert(Flow::new(datagram))
            }
        };
        let mut desk = Desk {
            counters,
            scratch: &mut self.scratch,
            out,
            over,
        };
        let (bytes, held) = (flow.memory(), flow.held());
        flow.take(datagram, payload, now, &mut desk);
        if flow.held() > held
            && let Some(digest) = flow.newest().and_then(|call| call.masked())
        {
            self.masked.add(digest, name, now);
        }
        let crowded = flow.held() > HELD_CALLS;
        if !flow.appointed
            && let Some(since) = flow.holding_since()
        {
            flow.appointed = true;
            self.holding.push_back((since, name));
        }
        self.bytes = (self.bytes + flow.memory()).saturating_sub(bytes);
        if crowded {
            self.settle(&name, Due::Crowded, counters, out, over);
        }
        while self.bytes > DATAGRAM_FLOW_BYTES && self.evict(counters, out, over) {}
    }

    /// There are no more datagrams: gives all calls that still wait. `ends` as for [`Shard::finish`](crate::Shard::finish).
    pub fn finish(
        &mut self,
        ends: &[Nanos],
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) {
        // All of them are still needed to tell whose side is whose.
        let names: Vec<Name> = self.idle.iter().map(|(_, name)| *name).collect();
        let last = self.now;
        for name in names {
            self.now = self.recorded_until(&name, ends).unwrap_or(last);
            self.tend(&name, counters, out, over, Flow::close);
            self.settle(&name, Due::All, counters, out, over);
        }
        while let Some((_, name)) = self.idle.pop_front() {
            self.now = self.recorded_until(&name, ends).unwrap_or(last);
            self.give_up(&name, counters, out, over);
        }
    }

    fn recorded_until(&self, name: &Name, ends: &[Nanos]) -> Option<Nanos> {
        recorded_until(self.flows.get(name)?.tapes(), ends)
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.bytes
            + self.callers.memory()
            + self.masked.memory()
            + self.flows.len() * (size_of::<Flow>() + 3 * size_of::<Name>())
    }

    /// Looks after the flows whose time has come.
    fn keep_appointments(
        &mut self,
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) {
        let now = self.now;
        while let Some((_, name)) = self
            .holding
            .pop_front_if(|(since, _)| since.saturating_add(HELD) <= now)
        {
            self.settle(&name, Due::Until(now), counters, out, over);
            let Some(since) = self.tend(&name, counters, out, over, Flow::release).flatten() else {
                continue;
            };
            self.holding.push_back((since, name));
        }
        while let Some((_, name)) = self
            .idle
            .pop_front_if(|(at, _)| at.saturating_add(DATAGRAM_IDLE) <= now)
        {
            let last_seen = self.flows.get(&name).map_or(0, Flow::last_seen);
            if last_seen.saturating_add(DATAGRAM_IDLE) <= now {
                self.give_up(&name, counters, out, over);
                continue;
            }
            self.tend(&name, counters, out, over, Flow::expire);
            // Looked at at least twice in the time that a request may wait.
            self.idle
                .push_back((last_seen.min(now - DATAGRAM_IDLE / 2), name));
        }
    }

    /// Lets the calls of a flow go that may have another side, the first first, while they are due.
    fn settle(
        &mut self,
        name: &Name,
        due: Due,
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) {
        loop {
            let Some(flow) = self.flows.get(name) else { return };
            let first = flow.front().filter(|call| due.is(call.since, flow.held()));
            let Some(call) = first else { return };
            let Some(names) = self.sides(name, &call, counters) else {
                self.tend(name, counters, out, over, |flow, _, desk| {
                    flow.let_front_go(due, desk)
                });
                continue;
            };
            let parts = names.iter().filter_map(|name| {
                let part = self.tend(name, counters, out, over, |flow, _, _| flow.give_part(&call));
                Some((name, part.flatten()?))
            });
            let mut parts: VecDeque<_> = parts.collect();
            let Some((first, mine)) = parts.pop_front() else {
                return;
            };
            counters.calls_two_sided += 1;
            let others = parts.into_iter().map(|(_, part)| part);
            self.tend(first, counters, out, over, |flow, _, desk| {
                flow.join_parts(mine, others, desk);
            });
        }
    }

    /// Which flows have a part of a call, the one in which its client has asked first; if that is certain, and there are several.
    fn sides(&self, name: &Name, call: &Wanted, counters: &mut Counters) -> Option<Vec<Name>> {
        let (mut all, mut found) = (Sighting::default(), Vec::new());
        let mut certain = true;
        for flow in self.callers.all(&name.0) {
            let name = (*flow, Transport::Udp);
            match self.flows.get(&name)?.has(call) {
                Has::Nothing => {}
                Has::Once(sighting) => {
                    certain &= all.add(&sighting);
                    found.push((sighting, name));
                }
                Has::Several => certain = false,
            }
        }
        if certain && found.len() < 2 {
            return self.masked_sides(name, call, counters);
        }
        if certain && !all.has_client() {
            return None;
        }
        // Who asks here and is answered there, is so by the server that was asked: both saw the same answer.
        let at_client = found.iter().filter(|(sighting, _)| sighting.has_client()).count();
        let elsewhere = found.iter().any(|(sighting, _)| sighting.is_answered_elsewhere());
        certain &= at_client < 2 || (found.len() == 2 && elsewhere);
        if !certain || !all.is_in_time() {
            counters.sides_uncertain += 1;
            return None;
        }
        found.sort_by_key(|(sighting, _)| (!sighting.has_question(), !sighting.has_client()));
        Some(found.into_iter().map(|(_, name)| name).collect())
    }

    /// The same where the client's address and port are others at the server: both have the same packet's number, question and
    /// answer, and nobody else has.
    fn masked_sides(&self, name: &Name, call: &Wanted, counters: &mut Counters) -> Option<Vec<Name>> {
        let names = self.masked.all(call.masked()?);
        if names.len() < 2 {
            return None;
        }
        // More than are kept is more than two.
        let mut certain = names.contains(name);
        let (mut all, mut found) = (Sighting::default(), Vec::new());
        for name in names {
            match self.flows.get(name).map(|flow| flow.has(call)) {
                None | Some(Has::Nothing) => {}
                Some(Has::Once(sighting)) if sighting.is_masked(call) => {
                    certain &= all.add(&sighting);
                    found.push((sighting, *name));
                }
                Some(Has::Once(_) | Has::Several) => certain = false,
            }
        }
        if certain && (found.len() < 2 || !all.has_client()) {
            return None;
        }
        if !certain || !all.is_in_time() {
            counters.sides_uncertain += 1;
            return None;
        }
        found.sort_by_key(|(sighting, _)| !sighting.has_client());
        Some(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Does something to a flow, and keeps account of its bytes.
    fn tend<T>(
        &mut self,
        name: &Name,
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
        act: impl FnOnce(&mut Flow, Nanos, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        let flow = self.flows.get_mut(name)?;
        let mut desk = Desk {
            counters,
            scratch: &mut self.scratch,
            out,
            over,
        };
        let bytes = flow.memory();
        let done = act(flow, self.now, &mut desk);
        self.bytes = (self.bytes + flow.memory()).saturating_sub(bytes);
        Some(done)
    }

    /// Gives up the flow that has been silent for the longest time. Whether there was one.
    fn evict(
        &mut self,
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) -> bool {
        while let Some((at, name)) = self.idle.pop_front() {
            let Some(flow) = self.flows.get(&name) else {
                continue;
            };
            if flow.last_seen() > at {
                // It was not silent since; it has another turn.
                self.idle.push_back((flow.last_seen(), name));
                continue;
            }
            counters.datagram_flows_evicted += 1;
            self.callers.evict(&name.0);
            self.give_up(&name, counters, out, over);
            return true;
        }
        false
    }

    /// Ends a flow and gives its calls.
    fn give_up(
        &mut self,
        name: &Name,
        counters: &mut Counters,
        out: &mut Vec<Call>,
        over: &mut Vec<ConnectionRecord>,
    ) {
        self.tend(name, counters, out, over, Flow::close);
        self.settle(name, Due::All, counters, out, over);
        self.tend(name, counters, out, over, Flow::finish);
        if let Some(flow) = self.flows.remove(name) {
            self.bytes = self.bytes.saturating_sub(flow.memory());
            if name.1 == Transport::Udp {
                self.callers.remove(&name.0);
            }
        }
    }
}
