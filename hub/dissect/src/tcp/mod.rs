//! TCP reassembly: the segments of one connection, as one observer saw them, to its two streams of bytes.
//!
//! What comes out is in order within each direction, and in causal order between them: data that acknowledges other
//! data comes after it. So a response never comes before its request, not even when packets of two directions were
//! recorded out of order, and a request that no tape holds shows as a gap before the response to it.

mod half;

mod analysis;

mod round_trips;

mod outcome;

pub(crate) use analysis::Analysis;
pub use analysis::Sent;
pub use round_trips::RoundTrips;

use half::{Early, Half};

use crate::flow::{End, Ends};
use crate::limits::{EARLY_BYTES, EARLY_SEGMENTS, HOLE_PATIENCE, RETRANSMISSION_REACH};
use crate::segment::{Flags, Segment};
use crate::{Counters, Nanos};

/// What the dissection of a connection is told, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Whose bytes.
    pub from: End,
    /// Where in that end's stream. The lower 32 bits are the sequence number; the same byte has the same position at
    /// every observer.
    pub position: u64,
    /// The packet that carried them.
    pub stamp: Stamp,
    /// What is told.
    pub event: Event<'a>,
}

/// Data in order, a gap, the end: everything there is to be told of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The next bytes. Never empty.
    Data {
        /// The bytes.
        bytes: &'a [u8],
        /// Whether a message is likely to begin with them: a segment does, and it is its sender's turn. The other
        /// end had received exactly what comes before when it spoke last; in the middle of a message, it had not.
        turn: bool,
    },
    /// So many bytes were never seen.
    Gap(u64),
    /// There is nothing more.
    End(Close),
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Its sender closed it.
    Finished,
    /// One of the ends gave up the connection.
    Reset,
    /// It goes on, but no more of it was recorded, or it was given up.
    Cut,
}

/// What is known of the packet that carried some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// When it was seen.
    pub ts: Nanos,
    /// Where it can be found again.
    pub at: u64,
    /// Where its first fragment is; else `at`.
    pub at_first: u64,
    /// How far its sender had received the other direction, as a position in that stream; 0 when it did not say.
    pub ack: u64,
}

/// Takes what is told.
pub(crate) type Tell<'a> = dyn FnMut(Told<'_>, &mut Counters) + 'a;

/// Both directions of a connection, seen by one observer.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    halves: Ends<Half>,
    /// Segments since a hole was proved.
    waited: u32,
}

impl Stream {
    /// A stream whose positions agree with those of another observer.
    pub fn beside(positions: Ends<u64>) -> Self {
        let mut stream = Self::default();
        for end in End::BOTH {
            stream.halves[end].near(positions[end]);
        }
        stream
    }

    /// Where each direction stands; 0 where nothing is known of it.
    pub fn positions(&self) -> Ends<u64> {
        Ends {
            low: self.halves.low.next,
            high: self.halves.high.next,
        }
    }

    /// Whether the begin of the connection was seen.
    pub fn whole(&self) -> bool {
        self.halves.low.syn || self.halves.high.syn
    }

    /// Whether both directions have ended.
    pub fn closed(&self) -> bool {
        self.halves.low.ended && self.halves.high.ended
    }

    /// Bytes that wait.
    pub fn memory(&self) -> usize {
        self.halves.low.memory() + self.halves.high.memory()
    }

    /// Whether a segment belongs to another connection than this one, between the same addresses and ports.
    pub fn contradicts(&self, segment: &Segment) -> bool {
        let half = &self.halves[segment.from.end];
        if segment.flags.has(Flags::SYN) {
            return if half.begun {
                half.first != segment.seq.wrapping_add(1)
            } else {
                self.closed()
            };
        }
        if segment.len == 0 || !half.begun {
            return false;
        }
        let position = half.position(segment.seq);
        let behind = half.next.saturating_sub(position);
        let ahead = if self.closed() {
            position.saturating_sub(half.next)
        } else {
            0
        };
        behind.max(ahead) > RETRANSMISSION_REACH
    }

    /// Takes the next segment and tells what has become known by it.
    pub fn segment(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        counters: &mut Counters,
        tell: &mut Tell<'_>,
    ) {
        let from = segment.from.end;
        let ack = self.acknowledge(segment);
        let stamp = Stamp {
            ts: segment.ts,
            at: segment.at,
            at_first: segment.at_first,
            ack,
        };
        let syn = segment.flags.has(Flags::SYN);
        let half = &mut self.halves[from];
        if syn {
            half.open(segment.seq);
        } else if !half.begun && (segment.payload_len() > 0 || segment.flags.has(Flags::FIN)) {
            half.join(segment.seq);
        }
        let position = half.position(segment.seq.wrapping_add(u32::from(syn)));
        let end = position + u64::from(segment.len) + u64::from(segment.missing);
        if segment.flags.has(Flags::FIN) && half.begun && half.fin.is_none() {
            half.fin = Some(end);
        }
        if segment.flags.has(Flags::RST) {
            self.reset(position, stamp, from, counters, tell);
            return;
        }

        let data = Early {
            position,
            missing: segment.missing,
            begins: true,
            stamp,
            bytes: payload,
        };
        if !payload.is_empty() || segment.missing > 0 {
            let in_order = position == half.next && half.early.is_empty() && !half.ended;
            if in_order && self.may_deliver(from, ack) {
                let turn = self.is_turn(from, position, ack);
                self.halves[from].deliver(from, data, turn, counters, tell);
            } else {
                self.halves[from].keep(data, counters);
            }
        }
        if self.idle() {
            self.waited = 0;
        } else {
            self.settle(counters, tell);
        }
    }

    /// Tells everything that still waits, and the end.
    pub fn finish(&mut self, close: Close, counters: &mut Counters, tell: &mut Tell<'_>) {
        self.drain(counters, tell);
        while let Some(end) = self.oldest_waiting() {
            self.give_way(end, counters, tell);
        }
        for end in End::BOTH {
            let half = &mut self.halves[end];
            let lost = half.lost_tail();
            if lost > 0 {
                half.gap(end, lost, counters, tell);
            }
            let finished = half.fin.is_some() && close == Close::Cut;
            half.end(
                end,
                if finished { Close::Finished } else { close },
                counters,
                tell,
            );
        }
    }

    /// Notes what a segment acknowledges; gives it as a position in the other direction.
    fn acknowledge(&mut self, segment: &Segment) -> u64 {
        if !segment.flags.has(Flags::ACK) {
            return 0;
        }
        let met = self.halves[segment.from.end].syn || segment.flags.has(Flags::SYN);
        let other = &mut self.halves[segment.from.end.other()];
        if met && !other.begun {
            // The other end's SYN was not recorded, but the first thing said to it tells its number.
            other.open(segment.ack.wrapping_sub(1));
        }
        let ack = other.position(segment.ack);
        if other.next == 0 {
            other.near(ack);
        }
        // What lies further ahead than any window is no acknowledgement of this stream.
        if other.begun && ack > other.acked && ack.saturating_sub(other.next) <= 1 << 30 {
            other.acked = ack;
        }
        ack
    }

    /// Whether data that acknowledges `ack` may be told: all of that has been.
    fn may_deliver(&self, from: End, ack: u64) -> bool {
        let other = &self.halves[from.other()];
        !other.begun || ack <= other.next + u64::from(other.fin.is_some())
    }

    /// Whether it is an end's turn to speak, at a position of its stream and having received `ack` of the other.
    fn is_turn(&self, from: End, position: u64, ack: u64) -> bool {
        let (mine, other) = (&self.halves[from], &self.halves[from.other()]);
        match (other.spoke, mine.syn) {
            // Both directions have just lost something, as when the recorder was away: what the other end had received
            // when it spoke last is among it. That this end has received all of it is as near as one can come.
            _ if mine.gapped && other.gapped => ack == other.next,
            (true, _) => other.last.ack == position,
            (false, true) => mine.first == position as u32,
            (false, false) => !mine.spoke,
        }
    }

    /// Whether nothing waits and nothing is known to be missing.
    fn idle(&self) -> bool {
        End::BOTH.into_iter().all(|end| {
            let half = &self.halves[end];
            half.early.is_empty()
                && (half.acked <= half.next || half.ended || !half.begun)
                && (half.fin.is_none() || half.ended)
        })
    }

    /// Tells what can be told, and gives up holes that waited for too long.
    fn settle(&mut self, counters: &mut Counters, tell: &mut Tell<'_>) {
        self.drain(counters, tell);
        for end in End::BOTH {
            while self.halves[end].early_bytes > EARLY_BYTES || self.halves[end].early.len() > EARLY_SEGMENTS
            {
                counters.gaps_forced += 1;
                self.give_way(end, counters, tell);
            }
        }
        match End::BOTH.into_iter().find(|end| self.halves[*end].proved()) {
            None => self.waited = 0,
            Some(_) if self.waited < HOLE_PATIENCE => self.waited += 1,
            Some(end) => {
                self.waited = 0;
                self.give_way(end, counters, tell);
            }
        }
    }

    /// Tells everything that has become deliverable.
    fn drain(&mut self, counters: &mut Counters, tell: &mut Tell<'_>) {
        loop {
            let mut progress = false;
            for end in End::BOTH {
                while let Some(ack) = self.halves[end].ready()
                    && self.may_deliver(end, ack)
                {
                    let turn = self.is_turn(end, self.halves[end].next, ack);
                    self.halves[end].deliver_early(end, turn, counters, tell);
                    progress = true;
                }
                let half = &mut self.halves[end];
                if half.fin.is_some_and(|fin| fin <= half.next) && half.early.is_empty() && !half.ended {
                    half.end(end, Close::Finished, counters, tell);
                    progress = true;
                }
            }
            if !progress {
                return;
            }
        }
    }

    /// Gives up the hole that keeps a direction from going on: its own, or the other's that it has acknowledged.
    fn give_way(&mut self, end: End, counters: &mut Counters, tell: &mut Tell<'_>) {
        let holed = [end, end.other()]
            .into_iter()
            .find(|end| self.halves[*end].holed());
        match holed {
            Some(end) => {
                let half = &mut self.halves[end];
                half.gap(end, half.hole(), counters, tell);
            }
            // Each waits for the other, which no real connection does.
            None => self.halves[end].deliver_early(end, false, counters, tell),
        }
        self.drain(counters, tell);
    }

    /// The direction whose next waiting segment is the oldest.
    fn oldest_waiting(&self) -> Option<End> {
        let oldest = |end: End| self.halves[end].early.front().map(|early| early.stamp.ts);
        match (oldest(End::Low), oldest(End::High)) {
            (None, None) => None,
            (Some(_), None) => Some(End::Low),
            (None, Some(_)) => Some(End::High),
            (Some(low), Some(high)) => Some(if low <= high { End::Low } else { End::High }),
        }
    }

    fn reset(
        &mut self,
        position: u64,
        stamp: Stamp,
        from: End,
        counters: &mut Counters,
        tell: &mut Tell<'_>,
    ) {
        let half = &self.halves[from];
        // A reset counts when it lies in the window (RFC 9293, section 3.5.3), whose size is not always known here.
        let fits = !half.begun || position.abs_diff(half.next) <= RETRANSMISSION_REACH;
        if !fits {
            counters.resets_ignored += 1;
            return;
        }
        for end in End::BOTH {
            self.halves[end].last = Stamp {
                ack: self.halves[end].last.ack,
                ..stamp
            };
        }
        self.finish(Close::Reset, counters, tell);
    }
}
