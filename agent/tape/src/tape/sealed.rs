//! The sealed segments, and how they lie on disk: as they were written, or compressed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cuts::Cuts;
use super::{TapeCounters, disk};
use crate::{Nanos, SegmentInfo};

/// What a compressed segment's file is called, behind its name.
pub(super) const COMPRESSED: &str = ".zst";

/// A sealed segment.
pub(super) struct Shelved {
    /// As a cut gives it out: uncompressed.
    pub info: SegmentInfo,
    /// Bytes on disk.
    pub stored: u64,
    pub compressed: bool,
}

impl Shelved {
    /// As it was written.
    pub fn plain(info: SegmentInfo) -> Self {
        Self {
            stored: info.bytes,
            info,
            compressed: false,
        }
    }

    /// The name of its file.
    pub fn file(&self) -> String {
        let suffix = if self.compressed { COMPRESSED } else { "" };
        format!("{}{suffix}", self.info.name)
    }
}

/// The sealed segments on the ring, oldest first, and those beside it that cuts go on holding.
pub(super) struct Sealed {
    dir: PathBuf,
    list: VecDeque<Shelved>,
    bytes: u64,
    /// Dropped from the ring while a cut held them: names, and bytes on disk.
    held: BTreeMap<String, u64>,
    cuts: Arc<Cuts>,
}

/// What making room has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Segments that the ring has dropped.
    pub segments: u64,
    /// Of those, how many cuts go on holding.
    pub held: u64,
}

impl Sealed {
    /// What an earlier run has left, oldest first.
    pub fn new(dir: &Path, segments: Vec<Shelved>, cuts: Arc<Cuts>) -> Self {
        let on_ring = segments.iter().map(|segment| segment.info.name.as_str());
        Self {
            dir: dir.to_owned(),
            held: cuts.beside(&on_ring.collect()),
            bytes: segments.iter().map(|segment| segment.stored).sum(),
            list: segments.into(),
            cuts,
        }
    }

    pub fn push(&mut self, segment: Shelved) {
        self.bytes += segment.stored;
        self.list.push_back(segment);
    }

    /// Bytes of the ring's sealed segments on disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes on disk that only cuts hold.
    pub fn held_bytes(&self) -> u64 {
        self.held.values().sum()
    }

    pub fn infos(&self) -> impl DoubleEndedIterator<Item = &SegmentInfo> {
        self.list.iter().map(|segment| &segment.info)
    }

    /// Name, file and bytes on disk of each, oldest first.
    pub fn files(&self) -> Vec<(String, PathBuf, u64)> {
        let file = |segment: &Shelved| {
            (
                segment.info.name.clone(),
                self.dir.join(segment.file()),
                segment.stored,
            )
        };
        self.list.iter().map(file).collect()
    }

    fn oldest(&self) -> Option<&SegmentInfo> {
        self.list.front().map(|segment| &segment.info)
    }

    /// A segment that may be compressed: the oldest that is not, and that no cut holds, since its bytes would be
    /// there twice then. Not one of `but`.
    pub fn to_compress(&self, but: &[String]) -> Option<String> {
        let mut plain = self.list.iter().filter(|segment| !segment.compressed);
        let free = |segment: &&Shelved| {
            !but.contains(&segment.info.name) && !self.is_held(&self.dir.join(segment.file()))
        };
        plain.find(free).map(|segment| segment.info.name.clone())
    }

    /// The compressed file takes the place of the plain one; `false` when that is gone or held by a cut.
    pub fn compressed(&mut self, name: &str, stored: u64) -> bool {
        let path = self.dir.join(name);
        if self.is_held(&path) {
            return false;
        }
        let Some(segment) = self.list.iter_mut().find(|segment| segment.info.name == name) else {
            return false;
        };
        // What cannot be removed stays, is found by the next start, and stands then in place of the other.
        if disk::remove(&path).is_err() {
            return false;
        }
        self.bytes = self.bytes - segment.stored + stored;
        segment.stored = stored;
        segment.compressed = true;
        true
    }

    /// Takes a segment off the ring, not its file.
    pub fn take(&mut self, name: &str) -> Option<SegmentInfo> {
        let at = self.list.iter().position(|segment| segment.info.name == name)?;
        let segment = self.list.remove(at)?;
        self.bytes -= segment.stored;
        Some(segment.info)
    }

    /// Puts one back where it was: names are in the order of recording.
    pub fn insert(&mut self, segment: Shelved) {
        let at = self
            .list
            .partition_point(|other| other.info.name < segment.info.name);
        self.bytes += segment.stored;
        self.list.insert(at, segment);
    }

    /// Drops the segments that ended before `oldest`; says how many. One whose time cannot be true, because it is after
    /// `now`, or that has none, goes with the next behind it.
    pub fn drop_old(&mut self, oldest: Nanos, now: Nanos, counters: &mut TapeCounters) -> usize {
        let (mut old, mut unknown) = (Vec::new(), Vec::new());
        for (at, segment) in self.list.iter().enumerate() {
            match segment.info.last.filter(|last| *last <= now) {
                None => unknown.push(at),
                Some(last) if last < oldest => {
                    old.append(&mut unknown);
                    old.push(at);
                }
                Some(_) => unknown.clear(),
            }
        }
        for (dropped, at) in old.iter().enumerate() {
            self.drop_at(at - dropped, counters);
        }
        old.len()
    }

    /// Takes the oldest segment off the ring; says whether a cut goes on holding its bytes.
    fn drop_oldest(&mut self, counters: &mut TapeCounters) -> Option<bool> {
        self.drop_at(0, counters)
    }

    fn drop_at(&mut self, at: usize, counters: &mut TapeCounters) -> Option<bool> {
        let dropped = self.list.remove(at)?;
        self.bytes -= dropped.stored;
        let path = self.dir.join(dropped.file());
        let held = self.is_held(&path);
        match disk::remove(&path) {
            Ok(()) => {}
            // Someone else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => counters.write_errors += 1,
        }
        if held {
            self.held.insert(dropped.info.name, dropped.stored);
        }
        Some(held)
    }

    /// Frees about a segment's bytes on a disk of which the tape has `room`; `None` when it cannot.
    ///
    /// The ring drops its oldest segments up to the first that no cut holds, unless cuts came to hold more than half of
    /// the room beside it. Then the oldest segment that they hold is taken from them: it is the one that a hub, which
    /// collects the oldest first, has most likely brought home, and neither ring nor cut loses more than what comes.
    pub fn make_room(&mut self, room: u64, counters: &mut TapeCounters) -> Option<Dropped> {
        let Some(count) = self.until_one_is_free(room / 2) else {
            return self.take_from_cuts(counters);
        };
        let dropped = (0..count).filter_map(|_| self.drop_oldest(counters));
        Some(dropped.fold(Dropped::default(), |sum, held| Dropped {
            segments: sum.segments + 1,
            held: sum.held + u64::from(held),
        }))
    }

    /// The disk is full: what the tape takes now, with `open` bytes in its open segment, is all its room. `false` when
    /// nothing can be freed.
    pub fn drop_for_room(&mut self, open: u64, counters: &mut TapeCounters) -> bool {
        let room = self.bytes + self.held_bytes() + open;
        let Some(made) = self.make_room(room, counters) else {
            return false;
        };
        counters.dropped_disk_full += made.segments;
        counters.dropped_held += made.held;
        true
    }

    /// How many of the oldest segments have to go until bytes are free. `None` when all are held, or cuts came to hold
    /// more than `most` beside the ring.
    fn until_one_is_free(&self, most: u64) -> Option<usize> {
        let mut held = self.held_bytes();
        for (at, segment) in self.list.iter().enumerate() {
            if held > most {
                return None;
            }
            if !self.is_held(&self.dir.join(segment.file())) {
                return Some(at + 1);
            }
            held += segment.stored;
        }
        None
    }

    /// Has cuts let go of the oldest segment that they hold. `None` when they hold none, someone is at their table, or
    /// the disk refuses.
    fn take_from_cuts(&mut self, counters: &mut TapeCounters) -> Option<Dropped> {
        let cuts = Arc::clone(&self.cuts);
        let mut table = cuts.try_table()?;
        // What is beside the ring is older than what is on it, or was dropped for its age.
        let beside = self.held.keys().next().cloned();
        let oldest = beside.as_deref().or_else(|| Some(self.oldest()?.name.as_str()))?;
        if cuts.give_way(&mut table, oldest).is_err() {
            counters.write_errors += 1;
            return None;
        }
        if let Some(name) = beside {
            self.held.remove(&name);
            return Some(Dropped::default());
        }
        let held = self.drop_oldest(counters)?;
        Some(Dropped {
            segments: 1,
            held: u64::from(held),
        })
    }

    /// Only what these cuts hold is held still; what they hold and the ring has not is held by them alone.
    pub fn held_by_cuts(&mut self, cuts: &BTreeSet<&str>) {
        self.held.retain(|name, _| cuts.contains(name.as_str()));
    }

    fn is_held(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| file.nlink() > 1)
    }
}
