//! What is on the tape, without reading a packet.

use std::fs::File;
use std::sync::Arc;

use super::cuts::check_id;
use super::{CutError, Shared, TapeCounters};
use crate::{Boundaries, Cut, Name, Nanos, SegmentInfo};

/// A handle on a tape for those who do not write it: how much there is, and cuts of it. Cheap to clone, and for any
/// thread.
#[derive(Clone)]
pub struct Shelf {
    shared: Arc<Shared>,
}

impl Shelf {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// From when to when there is tape, and how much.
    pub fn boundaries(&self) -> Boundaries {
        self.shared.ring().boundaries(&self.shared.node)
    }

    /// The segments on the ring, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.ring().segments().cloned().collect()
    }

    /// All names known, those that have ended included as long as the ring reaches back to them.
    pub fn names(&self) -> Vec<Name> {
        self.shared.ring().names().iter().cloned().collect()
    }

    /// Cuts `start..end` out of the tape: flushes, then holds every segment that has packets of that window by a hard
    /// link. No byte is copied. Asked again with the same id, it gives the same cut, whatever the window.
    pub fn cut(&self, id: &str, start: Nanos, end: Nanos, now: Nanos) -> Result<Cut, CutError> {
        check_id(id)?;
        let mut table = self.shared.cuts.table();
        if let Ok(cut) = table.get(id) {
            return Ok(cut);
        }
        if end <= start {
            return Err(CutError::EmptyWindow { start, end });
        }
        let cut = self.window(id, start, end)?;
        self.shared.cuts.make(&mut table, cut, now)
    }

    /// The cut as it was made.
    pub fn cut_manifest(&self, id: &str) -> Result<Cut, CutError> {
        self.shared.cuts.table().get(id)
    }

    /// Opens a segment of a cut. With it comes how many of its bytes are the cut's: the file may have grown since.
    pub fn cut_segment(&self, id: &str, segment: &str) -> Result<(File, u64), CutError> {
        self.shared.cuts.segment(id, segment)
    }

    /// Lets go of a cut; what the ring has dropped meanwhile is gone then.
    pub fn release(&self, id: &str) -> Result<(), CutError> {
        self.shared.cuts.release(id)
    }

    /// Releases the cuts that are older than [`CUT_LIFETIME`](crate::CUT_LIFETIME); returns how many.
    pub fn expire_cuts(&self, now: Nanos) -> usize {
        self.shared.cuts.expire(now)
    }

    /// What the tape has done since it was opened.
    pub fn counters(&self) -> TapeCounters {
        let (on_ring, counters) = {
            let ring = self.shared.ring();
            let on_ring: std::collections::HashSet<String> =
                ring.segments().map(|info| info.name.clone()).collect();
            (on_ring, ring.counters())
        };
        let table = self.shared.cuts.table();
        let held = table
            .segments()
            .into_iter()
            .filter(|(name, _)| !on_ring.contains(*name));
        TapeCounters {
            cuts: table.len() as u64,
            held_bytes: held.map(|(_, bytes)| bytes).sum(),
            cuts_expired: table.expired,
            ..counters
        }
    }

    /// Everything of the window that is in files now.
    fn window(&self, id: &str, start: Nanos, end: Nanos) -> Result<Cut, CutError> {
        let mut ring = self.shared.ring();
        ring.flush();
        let Boundaries {
            node, oldest, newest, ..
        } = ring.boundaries(&self.shared.node);
        let reaches =
            oldest.is_some_and(|oldest| oldest < end) && newest.is_some_and(|newest| newest >= start);
        if !reaches {
            return Err(CutError::OutsideTape { oldest, newest });
        }
        let inside = |info: &&SegmentInfo| {
            info.first.is_some_and(|first| first < end) && info.last.is_some_and(|last| last >= start)
        };
        let segments = ring.segments().filter(inside).cloned().collect();
        let names = ring.names().within(start, end).cloned().collect();
        Ok(Cut {
            id: id.to_owned(),
            node,
            start,
            end,
            segments,
            names,
        })
    }
}
