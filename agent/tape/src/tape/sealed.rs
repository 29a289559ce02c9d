//! The sealed segments, and how they lie on disk: as they were written, or compressed.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{TapeCounters, disk};
use crate::SegmentInfo;

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
}

impl Sealed {
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            list: VecDeque::new(),
            bytes: 0,
            held: BTreeMap::new(),
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

    pub fn oldest(&self) -> Option<&SegmentInfo> {
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

    /// Takes the oldest segment off the ring; says whether a cut goes on holding its bytes.
    pub fn drop_oldest(&mut self, counters: &mut TapeCounters) -> Option<bool> {
        let oldest = self.list.pop_front()?;
        self.bytes -= oldest.stored;
        let path = self.dir.join(oldest.file());
        let held = self.is_held(&path);
        match disk::remove(&path) {
            Ok(()) => {}
            // Someone else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => counters.write_errors += 1,
        }
        if held {
            self.held.insert(oldest.info.name, oldest.stored);
        }
        Some(held)
    }

    /// The disk is full: drops the oldest segment, whether or not that frees its bytes at once. `false` when there is
    /// none.
    pub fn drop_for_room(&mut self, counters: &mut TapeCounters) -> bool {
        let Some(held) = self.drop_oldest(counters) else {
            return false;
        };
        counters.dropped_disk_full += 1;
        counters.dropped_held += u64::from(held);
        true
    }

    /// Only what these cuts hold is held still; what they hold and the ring has not is held by them alone.
    pub fn held_by_cuts(&mut self, cuts: &BTreeMap<&str, u64>) {
        self.held.retain(|name, _| cuts.contains_key(name.as_str()));
    }

    /// At the start: what the cuts of earlier runs hold beside the ring.
    pub fn hold(&mut self, cuts: &BTreeMap<&str, u64>) {
        let beside = |name: &str| !self.list.iter().any(|segment| segment.info.name == name);
        let held = cuts.iter().filter(|(name, _)| beside(name));
        self.held = held.map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect();
    }

    fn is_held(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|file| file.nlink() > 1)
    }
}
