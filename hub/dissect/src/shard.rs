//! The connections and flows of one shard.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

use crate::connection::{Connection, Desk};
use crate::datagram::Datagram;
use crate::datagrams::Datagrams;
use crate::flow::FlowKey;
use crate::limits::{CONNECTIONS, HELD, IDLE, LINGER, OLDER_CONNECTIONS, SHARD_BYTES};
use crate::packet::recorded_until;
use crate::protocols::Transaction;
use crate::record::ConnectionRecord;
use crate::segment::{Flags, Segment};
use crate::tcp::Close;
use crate::{Call, Counters, Nanos};

/// The connections of one shard, and everything known of them.
///
/// It depends on nothing but the segments it is given, in their order: so the outcome is the same whichever thread owns
/// it, and whatever the others do. Time is the packets' time.
#[derive(Default)]
pub struct Shard {
    index: FxHashMap<FlowKey, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    now: Nanos,
    bytes: usize,
    /// Every used slot, once, in the order in which they were last looked at; and some that were freed since.
    idle: VecDeque<Ticket>,
    /// When slots' connections have closed, in order.
    closing: VecDeque<Ticket>,
    /// Slots whose calls wait for another observer, in order.
    holding: VecDeque<Ticket>,
    scratch: Vec<Transaction>,
    /// Connections that are over, until they are taken.
    over: Vec<ConnectionRecord>,
    datagrams: Datagrams,
    counters: Counters,
}

/// One pair of addresses and ports.
#[derive(Default)]
struct Slot {
    /// Told apart from those that used the slot before.
    generation: u32,
    flow: Option<FlowKey>,
    /// Oldest first; more than one when ports were used again while the earlier connection was open somewhere.
    connections: Vec<Connection>,
    last_seen: Nanos,
    bytes: usize,
    /// Since when all of its connections are closed.
    closing: Option<Nanos>,
    holding: bool,
}

/// Appointments with idle slots, up to which those that were freed are left in the queue.
const TICKETS: usize = 2 * CONNECTIONS;

/// An appointment with a slot.
#[derive(Clone, Copy)]
struct Ticket {
    at: Nanos,
    slot: u32,
    generation: u32,
}

impl Shard {
    /// A shard that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next segment with its payload; gives the calls that have become complete.
    pub fn segment(&mut self, segment: &Segment, payload: &[u8], out: &mut Vec<Call>) {
        self.counters.segments += 1;
        self.counters.bytes += payload.len() as u64;
        self.now = self.now.max(segment.ts);
        self.keep_appointments(out);
        let Some(slot) = self.slot(segment, out) else {
            return;
        };
        let now = self.now;
        let mut desk = Desk {
            counters: &mut self.counters,
            scratch: &mut self.scratch,
            out,
            over: &mut self.over,
        };
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return;
        };
        entry.last_seen = now;
        if !entry.segment(segment, payload, now, &mut desk) && payload.is_empty() && entry.bytes > 0 {
            // Nothing has become known, and nothing was kept: an acknowledgement that all goes well.
            return;
        }
        let ticket = Ticket {
            at: now,
            slot,
            generation: entry.generation,
        };
        if !entry.holding
            && entry
                .connections
                .iter()
                .any(|connection| connection.holding_since().is_some())
        {
            entry.holding = true;
            self.holding.push_back(ticket);
        }
        if entry.closing.is_none() && entry.connections.iter().all(Connection::closed) {
            entry.closing = Some(now);
            self.closing.push_back(ticket);
        }
        let bytes = entry.connections.iter().map(Connection::memory).sum();
        self.bytes = self.bytes + bytes - entry.bytes;
        entry.bytes = bytes;
        while self.bytes > SHARD_BYTES && self.evict(out) {
            self.counters.connections_evicted_for_bytes += 1;
        }
    }

    /// Takes the next datagram with its payload; gives the calls that have become complete.
    pub fn datagram(&mut self, datagram: &Datagram, payload: &[u8], out: &mut Vec<Call>) {
        self.counters.bytes += payload.len() as u64;
        self.datagrams
            .take(datagram, payload, &mut self.counters, out, &mut self.over);
    }

    /// There are no more packets: gives all calls that still wait. `ends` has, of each tape, the time of its last packet, whichever
    /// shard that was for; where it is not told, the time of the shard's own last one counts.
    pub fn finish(&mut self, ends: &[Nanos], out: &mut Vec<Call>) {
        let last = self.now;
        for number in 0..self.slots.len() as u32 {
            let connections = self.slots.get(number as usize).map(|slot| &slot.connections);
            let tapes = connections.into_iter().flatten().flat_map(Connection::tapes);
            self.now = recorded_until(tapes, ends).unwrap_or(last);
            self.give_up(number, out);
        }
        self.datagrams
            .finish(ends, &mut self.counters, out, &mut self.over);
    }

    /// Gives the connections that are over. To be asked for now and then, for they wait until they are.
    pub fn connections(&mut self) -> impl Iterator<Item = ConnectionRecord> {
        self.over.drain(..)
    }

    /// What has become of all segments so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that it holds for connections, roughly.
    pub fn memory(&self) -> usize {
        let tickets = self.idle.capacity() + self.closing.capacity() + self.holding.capacity();
        let index = self.index.capacity() * size_of::<(FlowKey, u32)>();
        let tables = self.slots.capacity() * size_of::<Slot>() + tickets * size_of::<Ticket>() + index;
        self.bytes + tables + self.datagrams.memory()
    }

    /// The slot of a segment's connection; `None` if there is none and it cannot begin one.
    fn slot(&mut self, segment: &Segment, out: &mut Vec<Call>) -> Option<u32> {
        if let Some(slot) = self.index.get(&segment.flow) {
            return Some(*slot);
        }
        while self.index.len() >= CONNECTIONS && self.evict(out) {
            self.counters.connections_evicted += 1;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let entry = self.slots.get_mut(slot as usize)?;
        entry.flow = Some(segment.flow);
        entry.last_seen = self.now;
        if let Entry::Vacant(vacant) = self.index.entry(segment.flow) {
            vacant.insert(slot);
        }
        let generation = entry.generation;
        if self.idle.len() >= TICKETS {
            self.forget_tickets();
        }
        self.idle.push_back(Ticket {
            at: self.now,
            slot,
            generation,
        });
        Some(slot)
    }

    /// Looks after the connections whose time has come.
    fn keep_appointments(&mut self, out: &mut Vec<Call>) {
        while let Some(ticket) = self.holding.pop_front_if(|ticket| ticket.at + HELD <= self.now) {
            self.expire_held(ticket, out);
        }
        while let Some(ticket) = self.closing.pop_front_if(|ticket| ticket.at + LINGER <= self.now) {
            if self.is_closing(ticket) {
                self.give_up(ticket.slot, out);
            }
        }
        while let Some(ticket) = self.idle.pop_front_if(|ticket| ticket.at + IDLE <= self.now) {
            if let Some(last_seen) = self.last_seen(ticket) {
                if last_seen + IDLE <= self.now {
                    self.counters.connections_idle += 1;
                    self.give_up(ticket.slot, out);
                } else {
                    self.idle.push_back(Ticket {
                        at: last_seen,
                        ..ticket
                    });
                }
            }
        }
    }

    /// Lets calls go that have waited for another observer for long enough.
    fn expire_held(&mut self, ticket: Ticket, out: &mut Vec<Call>) {
        if !self.is_current(ticket) {
            return;
        }
        let Some(entry) = self.slots.get_mut(ticket.slot as usize) else {
            return;
        };
        let mut desk = Desk {
            counters: &mut self.counters,
            scratch: &mut self.scratch,
            out,
            over: &mut self.over,
        };
        for connection in &mut entry.connections {
            connection.expire(self.now, &mut desk);
        }
        let since = entry
            .connections
            .iter()
            .filter_map(Connection::holding_since)
            .min();
        entry.holding = since.is_some();
        if let Some(at) = since {
            self.holding.push_back(Ticket { at, ..ticket });
        }
        let bytes = entry.connections.iter().map(Connection::memory).sum();
        self.bytes = self.bytes + bytes - entry.bytes;
        entry.bytes = bytes;
    }

    /// Gives up the connection that has been silent for the longest time, a closed one first. Whether there was one.
    fn evict(&mut self, out: &mut Vec<Call>) -> bool {
        while let Some(ticket) = self.closing.pop_front() {
            if self.is_closing(ticket) {
                self.give_up(ticket.slot, out);
                return true;
            }
        }
        while let Some(ticket) = self.idle.pop_front() {
            let Some(last_seen) = self.last_seen(ticket) else {
                continue;
            };
            if last_seen > ticket.at {
                // It was not silent since; it has another turn.
                self.idle.push_back(Ticket {
                    at: last_seen,
                    ..ticket
                });
                continue;
            }
            self.give_up(ticket.slot, out);
            return true;
        }
        false
    }

    /// Ends a slot's connections, gives their calls, and frees it.
    fn give_up(&mut self, slot: u32, out: &mut Vec<Call>) {
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let Some(flow) = entry.flow.take() else { return };
        let mut desk = Desk {
            counters: &mut self.counters,
            scratch: &mut self.scratch,
            out,
            over: &mut self.over,
        };
        for connection in &mut entry.connections {
            connection.finish(self.now, &mut desk);
        }
        self.bytes -= entry.bytes;
        *entry = Slot {
            generation: entry.generation.wrapping_add(1),
            ..Slot::default()
        };
        self.index.remove(&flow);
        self.free.push(slot);
    }

    fn is_current(&self, ticket: Ticket) -> bool {
        self.last_seen(ticket).is_some()
    }

    /// Whether a slot's connections have been closed since the appointment was made; its ports may be used again since.
    fn is_closing(&self, ticket: Ticket) -> bool {
        let slot = self.slots.get(ticket.slot as usize);
        self.is_current(ticket) && slot.is_some_and(|slot| slot.closing == Some(ticket.at))
    }

    /// Drops appointments with slots that were freed.
    fn forget_tickets(&mut self) {
        let idle = std::mem::take(&mut self.idle);
        self.idle = idle
            .into_iter()
            .filter(|ticket| self.is_current(*ticket))
            .collect();
    }

    /// When a slot was last used, if it is still the ticket's.
    fn last_seen(&self, ticket: Ticket) -> Option<Nanos> {
        let slot = self.slots.get(ticket.slot as usize)?;
        (slot.generation == ticket.generation && slot.flow.is_some()).then_some(slot.last_seen)
    }
}

impl Slot {
    /// Gives a segment to its connection; whether anything has become known by it.
    fn segment(&mut self, segment: &Segment, payload: &[u8], now: Nanos, desk: &mut Desk<'_>) -> bool {
        let Some((connection, vantage)) = self.place(segment, now, desk) else {
            return true;
        };
        let told = match self.connections.get_mut(connection) {
            Some(connection) => connection.segment(vantage, segment, payload, desk),
            None => false,
        };
        if self.connections.len() == 1 {
            return told;
        }
        let newest = self.connections.len().saturating_sub(1);
        let surplus = newest > OLDER_CONNECTIONS;
        let mut n = 0;
        self.connections.retain_mut(|connection| {
            n += 1;
            let over = n <= newest && (connection.closed() || (surplus && n == 1));
            if over {
                desk.counters.connections_evicted += u64::from(!connection.closed());
                connection.finish(now, desk);
            }
            !over
        });
        true
    }

    /// Finds the connection and the observer that a segment belongs to; makes them if need be.
    fn place(&mut self, segment: &Segment, now: Nanos, desk: &mut Desk<'_>) -> Option<(usize, usize)> {
        let syn = segment.flags.has(Flags::SYN);
        for (n, connection) in self.connections.iter_mut().enumerate().rev() {
            let Some(vantage) = connection.vantage(segment) else {
                continue;
            };
            if !connection.contradicts(vantage, segment) {
                return Some((n, vantage));
            }
            // For this observer, the connection is over and another one has begun.
            connection.finish_vantage(vantage, Close::Cut, now, desk);
            let newer = self
                .connections
                .get_mut(n + 1)
                .filter(|newer| newer.accepts(segment));
            if let Some(vantage) = newer.and_then(|newer| newer.observe(segment)) {
                return Some((n + 1, vantage));
            }
            desk.counters.ports_reused += 1;
            return self.begin(segment, desk);
        }
        // An observer that was not met yet. Where ports are used again, it may be its last word on an earlier connection.
        if segment.payload_len() == 0 && !syn && !self.connections.is_empty() {
            desk.counters.stray += 1;
            return None;
        }
        let known = self
            .connections
            .iter()
            .rposition(|connection| !syn || connection.accepts(segment));
        let Some(known) = known else {
            desk.counters.ports_reused += u64::from(!self.connections.is_empty());
            return self.begin(segment, desk);
        };
        let vantage = self.connections.get_mut(known)?.observe(segment);
        if vantage.is_none() {
            desk.counters.vantages_refused += 1;
        }
        Some((known, vantage?))
    }

    fn begin(&mut self, segment: &Segment, desk: &mut Desk<'_>) -> Option<(usize, usize)> {
        let mut connection = Connection::new(segment, desk.counters);
        let vantage = connection.observe(segment)?;
        self.connections.reserve_exact(1);
        self.connections.push(connection);
        self.closing = None;
        Some((self.connections.len() - 1, vantage))
    }
}
