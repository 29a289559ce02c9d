//! One direction of a connection.

use std::collections::VecDeque;

use super::{Close, Event, Stamp, Tell, Told};
use crate::Counters;
use crate::flow::End;

/// Positions begin here, so that there is room for what lies before the first byte that was seen. The lower 32 bits
/// of a position are its sequence number.
const BASE: u64 = 1 << 32;

/// Early segments whose room is kept once they are told: there is often one, and rarely a burst.
const EARLY_KEPT: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Half {
    /// Position of the next byte to be told. Before the direction has begun, a position near which it will begin.
    pub next: u64,
    /// Whether a byte or a SYN was seen.
    pub begun: bool,
    /// Whether a SYN was.
    pub syn: bool,
    /// Sequence number of the first byte.
    pub first: u32,
    /// How far the other end has acknowledged it, a FIN included.
    pub acked: u64,
    /// Where it ends.
    pub fin: Option<u64>,
    /// Whether its end was told.
    pub ended: bool,
    /// In order of position, without overlap.
    pub early: VecDeque<Early<Box<[u8]>>>,
    /// Bytes in `early`.
    pub early_bytes: usize,
    /// Of the last data that was told.
    pub last: Stamp,
    /// Whether any was.
    pub spoke: bool,
    /// Whether what was told last is that bytes are missing.
    pub gapped: bool,
}

/// A segment's data that may have to wait.
#[derive(Debug)]
pub(super) struct Early<B> {
    pub position: u64,
    /// Bytes missing at its end.
    pub missing: u32,
    /// Whether its first byte is the segment's.
    pub begins: bool,
    pub stamp: Stamp,
    pub bytes: B,
}

impl Half {
    /// Says near which position the direction will begin.
    pub fn near(&mut self, position: u64) {
        self.next = position;
    }

    /// Begins with a SYN.
    pub fn open(&mut self, isn: u32) {
        let first = isn.wrapping_add(1);
        if !self.begun {
            self.join(first);
        }
        self.syn |= self.first == first;
    }

    /// Begins in the middle.
    pub fn join(&mut self, seq: u32) {
        self.next = self.position(seq);
        self.first = seq;
        self.begun = true;
    }

    /// The position of a sequence number: the one nearest to what comes next.
    pub fn position(&self, seq: u32) -> u64 {
        if self.next == 0 {
            return BASE + u64::from(seq);
        }
        let ahead = seq.wrapping_sub(self.next as u32) as i32;
        self.next.saturating_add_signed(i64::from(ahead))
    }

    /// Bytes between what was told and the next that is known.
    pub fn hole(&self) -> u64 {
        match self.early.front() {
            Some(early) => early.position.saturating_sub(self.next),
            None => self.acked.saturating_sub(self.next),
        }
    }

    /// Whether something is missing.
    pub fn holed(&self) -> bool {
        self.begun && !self.ended && self.hole() > 0
    }

    /// Whether the other end has received what is missing, so that it will not be sent again.
    pub fn proved(&self) -> bool {
        // A FIN that was not seen is acknowledged like a byte; it is not worth a gap until something comes after it.
        let fin = u64::from(self.early.is_empty() && self.fin.is_some());
        self.begun && !self.ended && self.acked > self.next + fin
    }

    /// What the next segment acknowledges, if its turn has come.
    pub fn ready(&self) -> Option<u64> {
        let early = self.early.front()?;
        (early.position <= self.next).then_some(early.stamp.ack)
    }

    /// Tells data that comes next. `turn` says whether it is its sender's turn to speak.
    pub fn deliver(
        &mut self,
        from: End,
        data: Early<&[u8]>,
        turn: bool,
        counters: &mut Counters,
        tell: &mut Tell<'_>,
    ) {
        if self.ended {
            return;
        }
        let known = self.next.saturating_sub(data.position) as usize;
        if let Some(bytes) = data.bytes.get(known..).filter(|bytes| !bytes.is_empty()) {
            let told = Told {
                from,
                position: self.next,
                stamp: data.stamp,
                event: Event::Data {
                    bytes,
                    turn: turn && data.begins && known == 0,
                },
            };
            tell(told, counters);
            self.next += bytes.len() as u64;
            self.last = data.stamp;
            self.spoke = true;
            self.gapped = false;
        }
        if data.missing > 0 {
            let end = data.end() + u64::from(data.missing);
            let gap = end.saturating_sub(self.next);
            if gap > 0 {
                self.gap(from, gap, counters, tell);
            }
        }
    }

    /// Tells the segment that waits at the front.
    pub fn deliver_early(&mut self, from: End, turn: bool, counters: &mut Counters, tell: &mut Tell<'_>) {
        let Some(early) = self.early.pop_front() else {
            return;
        };
        self.early_bytes -= early.bytes.len();
        if self.early.is_empty() && self.early.capacity() > EARLY_KEPT {
            self.early = VecDeque::new();
        }
        let data = Early {
            position: early.position,
            missing: early.missing,
            begins: early.begins,
            stamp: early.stamp,
            bytes: &*early.bytes,
        };
        self.deliver(from, data, turn, counters, tell);
    }

    /// Keeps what is new of a segment until its turn comes. Of bytes that were seen twice, the first copy counts.
    pub fn keep(&mut self, data: Early<&[u8]>, counters: &mut Counters) {
        if self.ended {
            counters.repeated += 1;
            return;
        }
        let end = data.end();
        let mut start = data.position.max(self.next);
        let mut index = self.early.partition_point(|early| early.end() <= start);
        let mut kept = false;
        while start < end {
            let (busy, free) = match self.early.get(index) {
                Some(early) => (early.position, early.end()),
                None => (u64::MAX, u64::MAX),
            };
            let stop = end.min(busy);
            if start < stop {
                let range = (start - data.position) as usize..(stop - data.position) as usize;
                let bytes = data.bytes.get(range).unwrap_or_default();
                self.early_bytes += bytes.len();
                let piece = Early {
                    position: start,
                    missing: if stop == end { data.missing } else { 0 },
                    begins: data.begins && start == data.position,
                    stamp: data.stamp,
                    bytes: Box::from(bytes),
                };
                self.early.insert(index, piece);
                index += 1;
                kept = true;
            }
            start = free.max(start);
            index += 1;
        }
        if kept {
            counters.early += 1;
        } else {
            counters.repeated += 1;
        }
    }

    /// Bytes that wait, and the room that is kept for more.
    pub fn memory(&self) -> usize {
        self.early_bytes + self.early.capacity() * size_of::<Early<Box<[u8]>>>()
    }

    /// Tells that bytes are missing, and goes on behind them.
    pub fn gap(&mut self, from: End, gap: u64, counters: &mut Counters, tell: &mut Tell<'_>) {
        counters.gaps += 1;
        counters.gap_bytes += gap;
        let told = Told {
            from,
            position: self.next,
            stamp: self.last,
            event: Event::Gap(gap),
        };
        tell(told, counters);
        self.next += gap;
        self.gapped = true;
    }

    /// Bytes that are known to have been sent, at the end of everything, and were never seen.
    pub fn lost_tail(&self) -> u64 {
        if !self.begun || self.ended {
            return 0;
        }
        match (self.fin, self.acked.saturating_sub(self.next)) {
            (Some(fin), _) => fin.saturating_sub(self.next),
            // A FIN that was not recorded is acknowledged like a byte.
            (None, 1) => 0,
            (None, lost) => lost,
        }
    }

    /// Tells the end.
    pub fn end(&mut self, from: End, close: Close, counters: &mut Counters, tell: &mut Tell<'_>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.early = VecDeque::new();
        self.early_bytes = 0;
        let told = Told {
            from,
            position: self.next,
            stamp: self.last,
            event: Event::End(close),
        };
        tell(told, counters);
    }
}

impl<B: AsRef<[u8]>> Early<B> {
    fn end(&self) -> u64 {
        self.position + self.bytes.as_ref().len() as u64
    }
}
