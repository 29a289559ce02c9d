//! What is on the tape, without reading a packet.

use std::fs;
use std::io;
use std::sync::Arc;

use super::cuts::{CutReader, Table, check_id};
use super::pages::{MAX_FILES, Pages};
use super::sealed::COMPRESSED;
use super::{CutError, Shared, TapeCounters, compress, disk, recovery};
use crate::{Boundaries, Cut, Name, Nanos, SegmentInfo};

/// A handle on a tape for those who do not write it: how much there is, and cuts of it. Cheap to clone, and for any
/// thread.
#[derive(Clone)]
pub struct Shelf {
    shared: Arc<Shared>,
}

/// What compressing a segment has come to: its bytes on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// As it was written.
    pub before: u64,
    /// Now; the same when it was not worth while, or the segment was needed as it is.
    pub after: u64,
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
        // Before the table is locked: on a full disk, cuts may have to make room for what is buffered.
        self.shared.ring().flush();
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

    /// Opens a segment of a cut at byte `from`. With it comes how many bytes in all are the cut's: the file may have
    /// grown since.
    pub fn cut_segment(&self, id: &str, segment: &str, from: u64) -> Result<(CutReader, u64), CutError> {
        self.shared.cuts.segment(id, segment, from)
    }

    /// Lets go of a cut; what the ring has dropped meanwhile is gone then.
    pub fn release(&self, id: &str) -> Result<(), CutError> {
        let mut table = self.shared.cuts.table();
        table.get(id)?;
        let outcome = self.shared.cuts.remove(&mut table, id);
        self.shared.tell_held(&table);
        outcome
    }

    /// Releases the cuts that are older than [`CUT_LIFETIME`](crate::CUT_LIFETIME); returns how many.
    pub fn expire_cuts(&self, now: Nanos) -> usize {
        let mut table = self.shared.cuts.table();
        let expired = self.shared.cuts.expire(&mut table, now);
        if expired > 0 {
            self.shared.tell_held(&table);
        }
        expired
    }

    /// Looks whether the sealed segments' files are there and as long as they were. What someone else has deleted or
    /// cut short is told as lost; returns how many such files there were. Reads no packet of those that are well.
    pub fn look_after(&self) -> usize {
        let files = self.shared.ring().sealed().files();
        let mut changed = 0;
        for (name, path, stored) in files {
            let left = match fs::metadata(&path) {
                Ok(file) if file.len() == stored => continue,
                Ok(_) if path.ends_with(&name) => recovery::recover_segment(&path).ok().flatten(),
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                // It cannot be seen now; that does not mean that it is gone.
                Err(_) => continue,
            };
            let mut ring = self.shared.ring();
            // It may have been dropped or compressed meanwhile.
            let still = ring.sealed().files();
            if still.contains(&(name.clone(), path.clone(), stored)) {
                changed += 1;
                ring.changed(&name, left.map(|(index, _)| index.info));
            }
        }
        changed
    }

    /// Has the kernel keep no more of the tape in memory than its newest bytes. Worth a call some times a second: it looks
    /// at files only after some megabytes.
    pub fn settle(&self, pages: &mut Pages) {
        let newest: Vec<SegmentInfo> = {
            let ring = self.shared.ring();
            if !pages.is_due(ring.written_bytes()) {
                return;
            }
            ring.segments().rev().take(MAX_FILES).cloned().collect()
        };
        let newest: Vec<SegmentInfo> = newest.into_iter().rev().collect();
        pages.settle(&self.shared.dir, &newest);
    }

    /// Compresses one sealed segment that is not one of `but`: the oldest that no cut holds. `None` when there is
    /// none, else its name and how it went.
    pub fn compress_one(&self, but: &[String]) -> Option<(String, io::Result<Compressed>)> {
        let name = self.shared.ring().sealed().to_compress(but)?;
        let outcome = self.compress(&name);
        Some((name, outcome))
    }

    fn compress(&self, name: &str) -> io::Result<Compressed> {
        let plain = self.shared.dir.join(name);
        let packed = self.shared.dir.join(format!("{name}{COMPRESSED}"));
        let before = fs::metadata(&plain)?.len();
        let after = compress::compress(&plain, &packed)?;
        // Not worth it, or dropped, or held by a cut meanwhile.
        if after >= before || !self.shared.ring().sealed().compressed(name, after) {
            disk::remove(&packed)?;
            return Ok(Compressed {
                before,
                after: before,
            });
        }
        Ok(Compressed { before, after })
    }

    /// What the tape has done since it was opened.
    pub fn counters(&self) -> TapeCounters {
        let counters = self.shared.ring().counters();
        with_cuts(counters, &self.shared.cuts.table())
    }

    /// [`counters`](Self::counters) and [`boundaries`](Self::boundaries) without waiting: `None` while somebody is at the
    /// tape. That is most often over at once, but a write takes as long as its disk.
    pub fn glance(&self) -> Option<(TapeCounters, Boundaries)> {
        let table = self.shared.cuts.try_table()?;
        let ring = self.shared.try_ring()?;
        Some((
            with_cuts(ring.counters(), &table),
            ring.boundaries(&self.shared.node),
        ))
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

fn with_cuts(counters: TapeCounters, table: &Table) -> TapeCounters {
    TapeCounters {
        cuts: table.len() as u64,
        cuts_expired: table.expired,
        ..counters
    }
}
