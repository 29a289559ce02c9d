//! The ring: the open segment, the sealed ones behind it, and what must hold of them together.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::recovery::Recovered;
use super::segment::{OpenSegment, is_full};
use super::{TapeCounters, TapeError, TapeOptions};
use crate::format::MAX_CAPTURED;
use crate::names::Names;
use crate::{Boundaries, Event, Name, Nanos, Packet, SegmentInfo};

/// Bytes at which the buffer goes to the file: large enough that a write's own cost does not show, small enough to
/// stay in the processor's cache.
const WRITE_BUFFER: usize = 256 << 10;

/// Most interface names kept; beyond, the table begins anew (names are told again as interfaces are seen).
const MAX_INTERFACE_NAMES: usize = 65_536;

/// Suffix of a segment's file.
const SUFFIX: &str = ".pcapng";

/// All of a tape's state. Behind one lock.
pub(super) struct Ring {
    options: TapeOptions,
    sealed: Sealed,
    open: Option<OpenSegment>,
    /// The buffer, while no segment is open.
    spare: Vec<u8>,
    names: Names,
    interface_names: HashMap<u32, String>,
    /// Lost while no segment was open; the next one tells them.
    untold: u64,
    /// Why nothing can be written; nothing is tried until the next flush.
    blocked: Option<Blocked>,
    next: SegmentName,
    counters: TapeCounters,
}

/// Why nothing can be written.
#[derive(Clone, Copy)]
enum Blocked {
    DiskFull,
    WriteError,
}

impl Ring {
    pub fn new(options: TapeOptions, recovered: Recovered) -> Self {
        let last = recovered
            .segments
            .last()
            .and_then(|info| SegmentName::parse(&info.name));
        let mut sealed = Sealed {
            dir: options.dir.clone(),
            list: VecDeque::new(),
            bytes: 0,
        };
        recovered.segments.into_iter().for_each(|info| sealed.push(info));
        let mut ring = Self {
            options,
            sealed,
            open: None,
            spare: Vec::with_capacity(WRITE_BUFFER + MAX_CAPTURED),
            names: recovered.names,
            interface_names: HashMap::new(),
            untold: 0,
            blocked: None,
            next: last.map_or_else(SegmentName::default, SegmentName::following),
            counters: recovered.counters,
        };
        // The ring may have been longer in the run before.
        ring.keep_to_size();
        ring
    }

    pub fn append(&mut self, packet: &Packet<'_>) -> Result<(), TapeError> {
        let full = |open: &OpenSegment| {
            open.bytes() + packet.data.len() as u64 > self.options.segment_bytes || !open.takes(packet)
        };
        if self.open.as_ref().is_some_and(full) {
            self.close();
        }
        let begun = if self.open.is_none() && self.blocked.is_none() {
            self.begin(packet.ts)
        } else {
            Ok(())
        };
        let Some(open) = &mut self.open else {
            self.drop_packets(1);
            return begun;
        };
        open.append(packet, &self.interface_names);
        let buffered = open.buffered_bytes();
        self.counters.packets += 1;
        self.counters.bytes += packet.data.len().min(MAX_CAPTURED) as u64;
        self.counters.cut_short += u64::from(packet.data.len() > MAX_CAPTURED);
        if buffered >= WRITE_BUFFER {
            self.write_out();
        }
        begun
    }

    pub fn interface_name(&mut self, ifindex: u32, name: &str) {
        if self.interface_names.len() >= MAX_INTERFACE_NAMES {
            self.interface_names.clear();
        }
        self.interface_names.insert(ifindex, name.to_owned());
    }

    pub fn name(&mut self, name: &Name) -> Result<(), TapeError> {
        if self.names.insert(name.clone())
            && let Some(open) = &mut self.open
        {
            open.name(name)
                .map_err(|error| TapeError::io("write names to", &self.options.dir, error))?;
        }
        Ok(())
    }

    /// Begins a segment for it if none is open.
    pub fn event(&mut self, event: &Event) -> Result<(), TapeError> {
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.bytes() > self.options.segment_bytes)
        {
            self.close();
        }
        let begun = if self.open.is_none() && self.blocked.is_none() {
            self.begin(event.at)
        } else {
            Ok(())
        };
        let Some(open) = &mut self.open else {
            self.counters.events_lost += 1;
            return begun;
        };
        let told = open
            .event(event)
            .map_err(|error| TapeError::io("write an event to", &self.options.dir, error))?;
        self.counters.events += u64::from(told);
        self.counters.events_lost += u64::from(!told);
        if open.buffered_bytes() >= WRITE_BUFFER {
            self.write_out();
        }
        Ok(())
    }

    pub fn lost(&mut self, packets: u64) {
        self.counters.lost += packets;
        self.tell_lost(packets);
    }

    /// Begins a segment if there are losses that no segment tells, so that they do not wait for a packet.
    pub fn begin_for_losses(&mut self, now: Nanos) -> Result<(), TapeError> {
        if self.untold > 0 && self.open.is_none() && self.blocked.is_none() {
            self.begin(now)
        } else {
            Ok(())
        }
    }

    /// Puts into the file what is buffered, and lets writing be tried again if it was given up.
    pub fn flush(&mut self) {
        self.blocked = None;
        if let Some(open) = &mut self.open {
            open.tell_losses();
            if open.buffered_bytes() > 0 {
                self.write_out();
            }
        }
    }

    /// Seals the open segment, if there is one.
    pub fn close(&mut self) {
        self.write_out();
        let Some(open) = &mut self.open else { return };
        if open.finish(&self.names).is_err() {
            self.counters.write_errors += 1;
        }
        self.write_out();
        // Without its index when that last write failed; the segment is given up then, and listed already.
        if let Some(open) = self.open.take() {
            self.counters.sealed += 1;
            self.shelve(open);
        }
        self.keep_to_size();
    }

    pub fn boundaries(&self, node: &str) -> Boundaries {
        let all = || self.segments();
        Boundaries {
            node: node.to_owned(),
            oldest: all().filter_map(|info| info.first).min(),
            newest: all().filter_map(|info| info.last).max(),
            segments: all().count() as u64,
            bytes: all().map(|info| info.bytes).sum(),
            packets: all().map(|info| info.packets).sum(),
            lost: all().map(|info| info.lost).sum::<u64>() + self.untold,
        }
    }

    /// All segments, oldest first; of the open one, what is in the file.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.sealed
            .list
            .iter()
            .chain(self.open.as_ref().map(OpenSegment::written))
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn counters(&self) -> TapeCounters {
        TapeCounters {
            names_refused: self.names.refused(),
            ..self.counters.clone()
        }
    }

    fn begin(&mut self, ts: Nanos) -> Result<(), TapeError> {
        let name = self.next.at(ts);
        loop {
            let buffer = std::mem::take(&mut self.spare);
            let TapeOptions { dir, node, agent, .. } = &self.options;
            let error = match OpenSegment::create(dir, name.to_string(), buffer, node, agent, &self.names, ts)
            {
                Ok(mut open) => {
                    open.lost(std::mem::take(&mut self.untold));
                    self.open = Some(open);
                    self.next = name.following();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.counters.write_errors += 1;
            if !is_full(&error) {
                self.blocked = Some(Blocked::WriteError);
                return Err(TapeError::io("begin a segment in", &self.options.dir, error));
            }
            if !self.sealed.drop_for_room(&mut self.counters) {
                self.blocked = Some(Blocked::DiskFull);
                return Ok(());
            }
        }
    }

    /// Writes the buffer out, making room on the ring and on the disk. If that fails, the segment is given up as far
    /// as it is whole.
    fn write_out(&mut self) {
        self.keep_to_size();
        let Self {
            open: Some(open),
            sealed,
            counters,
            ..
        } = self
        else {
            return;
        };
        if open.buffered_bytes() == 0 {
            return;
        }
        counters.flushes += 1;
        let mut make_room = || {
            counters.write_errors += 1;
            sealed.drop_for_room(counters)
        };
        let Err(failure) = open.write_out(&mut make_room) else {
            return;
        };
        self.blocked = Some(if is_full(&failure.error) {
            Blocked::DiskFull
        } else {
            self.counters.write_errors += 1;
            Blocked::WriteError
        });
        // They were counted as taken.
        self.counters.packets -= failure.packets;
        self.counters.bytes -= failure.bytes;
        self.counters.events -= failure.events;
        self.counters.events_lost += failure.events;
        self.drop_packets(failure.packets);
        if let Some(open) = self.open.take() {
            self.shelve(open);
        }
    }

    /// From open to sealed.
    fn shelve(&mut self, open: OpenSegment) {
        let ended = open.end();
        self.spare = ended.buffer;
        self.untold += ended.untold;
        ended.info.into_iter().for_each(|info| self.sealed.push(info));
    }

    fn drop_packets(&mut self, packets: u64) {
        match self.blocked {
            Some(Blocked::DiskFull) => self.counters.lost_disk_full += packets,
            Some(Blocked::WriteError) | None => self.counters.lost_write_error += packets,
        }
        self.tell_lost(packets);
    }

    fn tell_lost(&mut self, packets: u64) {
        match &mut self.open {
            Some(open) => open.lost(packets),
            None => self.untold += packets,
        }
    }

    /// Drops the oldest segments while the ring is too long.
    fn keep_to_size(&mut self) {
        let before = self.sealed.list.len();
        let open = self.open.as_ref().map_or(0, OpenSegment::bytes);
        while self.sealed.bytes + open > self.options.ring_bytes
            && self.sealed.drop_oldest(&mut self.counters).is_some()
        {
            self.counters.dropped += 1;
        }
        if self.sealed.list.len() < before {
            let oldest = self.segments().find_map(|info| info.first);
            oldest
                .into_iter()
                .for_each(|oldest| self.names.forget_before(oldest));
        }
    }
}

/// The sealed segments, oldest first.
struct Sealed {
    dir: PathBuf,
    list: VecDeque<SegmentInfo>,
    bytes: u64,
}

impl Sealed {
    fn push(&mut self, info: SegmentInfo) {
        self.bytes += info.bytes;
        self.list.push_back(info);
    }

    /// Takes the oldest segment off the ring; says whether a cut goes on holding its bytes.
    fn drop_oldest(&mut self, counters: &mut TapeCounters) -> Option<bool> {
        let oldest = self.list.pop_front()?;
        self.bytes -= oldest.bytes;
        let path = self.dir.join(&oldest.name);
        let held = fs::metadata(&path).is_ok_and(|file| file.nlink() > 1);
        match fs::remove_file(&path) {
            Ok(()) => {}
            // Someone else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => counters.write_errors += 1,
        }
        Some(held)
    }

    /// The disk is full: drops the oldest segment, whether or not that frees its bytes at once. `false` when there is
    /// none.
    fn drop_for_room(&mut self, counters: &mut TapeCounters) -> bool {
        let Some(held) = self.drop_oldest(counters) else {
            return false;
        };
        counters.dropped_disk_full += 1;
        counters.dropped_held += u64::from(held);
        true
    }
}

/// Name of a segment's file: sorts by time, and is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    /// Time of the first packet, but never before that of the segment before.
    start: Nanos,
    sequence: u64,
}

impl SegmentName {
    pub fn parse(name: &str) -> Option<Self> {
        let (start, sequence) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let parsed = Self {
            start: start.parse().ok()?,
            sequence: sequence.parse().ok()?,
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    fn at(self, ts: Nanos) -> Self {
        Self {
            start: self.start.max(ts),
            ..self
        }
    }

    fn following(self) -> Self {
        Self {
            sequence: self.sequence.saturating_add(1),
            ..self
        }
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { start, sequence } = self;
        write!(f, "{start:020}-{sequence:06}{SUFFIX}")
    }
}
