//! The flows of datagrams of one shard.

mod driver;

mod flow;

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

pub(crate) use driver::Exchanges;
pub use driver::{Exchange, Exchanging};

use crate::datagram::{Datagram, Transport};
use crate::flow::FlowKey;
use crate::limits::{DATAGRAM_FLOW_BYTES, DATAGRAM_FLOWS, DATAGRAM_IDLE, HELD};
use crate::record::ConnectionRecord;
use crate::{Call, Counters, Nanos};
use flow::{Desk, Flow};

/// The flows of datagrams of one shard, and the calls that wait in them.
#[derive(Default)]
pub(crate) struct Datagrams {
    flows: FxHashMap<Name, Flow>,
    /// Every flow, once, in the order in which they were last looked at.
    idle: VecDeque<(Nanos, Name)>,
    /// Flows with calls that wait for another observer, in order.
    holding: VecDeque<(Nanos, Name)>,
    now: Nanos,
    bytes: usize,
    scratch: Vec<Exchange>,
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
        let bytes = flow.memory();
        flow.take(datagram, payload, now, &mut desk);
        if !flow.appointed
            && let Some(since) = flow.holding_since()
        {
            flow.appointed = true;
            self.holding.push_back((since, name));
        }
        self.bytes = (self.bytes + flow.memory()).saturating_sub(bytes);
        while self.bytes > DATAGRAM_FLOW_BYTES && self.evict(counters, out, over) {}
    }

    /// There are no more datagrams: gives all calls that still wait.
    pub fn finish(&mut self, counters: &mut Counters, out: &mut Vec<Call>, over: &mut Vec<ConnectionRecord>) {
        while let Some((_, name)) = self.idle.pop_front() {
            self.give_up(&name, counters, out, over);
        }
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.bytes + self.flows.len() * (size_of::<Flow>() + 3 * size_of::<Name>())
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
        self.tend(name, counters, out, over, Flow::finish);
        if let Some(flow) = self.flows.remove(name) {
            self.bytes = self.bytes.saturating_sub(flow.memory());
        }
    }
}
