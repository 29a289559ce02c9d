//! The ring: the open segment, the sealed ones behind it, and what must hold of them together.

use std::collections::HashMap;
use std::sync::Arc;

use super::cuts::Cuts;
use super::piece::Piece;
use super::recovery::{self, Recovered};
use super::sealed::{Sealed, Shelved};
use super::segment::{OpenSegment, WriteFailure, is_full};
use super::writer::Writer;
use super::{Place, Progress, TapeCounters, TapeError, TapeOptions};
use super::{disk, losses};
use crate::format::MAX_CAPTURED;
use crate::names::Names;
use crate::{Boundaries, Event, Loss, LossStage, Name, Nanos, Packet, SegmentInfo};

/// Most interface names kept; beyond, the table begins anew (names are told again as interfaces are seen).
const MAX_INTERFACE_NAMES: usize = 65_536;

/// Suffix of a segment's file.
const SUFFIX: &str = ".pcapng";

/// All of a tape's state. Behind one lock.
pub(super) struct Ring {
    options: TapeOptions,
    sealed: Sealed,
    open: Option<OpenSegment>,
    writer: Writer,
    /// Memory for packets, while no segment is open.
    spare: Piece,
    names: Names,
    interface_names: HashMap<u32, String>,
    /// Lost while no segment was open; the next one tells them.
    untold: u64,
    untold_losses: Vec<Loss>,
    /// Why nothing can be written; nothing is tried until the next flush.
    blocked: Option<Blocked>,
    next: SegmentName,
    counters: TapeCounters,
    /// Packets that came here.
    appended: u64,
}

/// Why nothing can be written.
#[derive(Clone, Copy)]
enum Blocked {
    DiskFull,
    WriteError,
}

impl Ring {
    pub fn new(options: TapeOptions, recovered: Recovered, cuts: Arc<Cuts>) -> Self {
        let last = recovered
            .segments
            .last()
            .and_then(|segment| SegmentName::parse(&segment.info.name));
        let sealed = Sealed::new(&options.dir, recovered.segments, cuts);
        let room = options.piece_bytes + MAX_CAPTURED;
        let mut ring = Self {
            options,
            sealed,
            open: None,
            writer: Writer::new(room),
            spare: Piece::new(room),
            names: recovered.names,
            interface_names: HashMap::new(),
            untold: 0,
            untold_losses: Vec::new(),
            blocked: None,
            next: last.map_or_else(SegmentName::default, SegmentName::following),
            counters: recovered.counters,
            appended: 0,
        };
        // The ring may have been longer in the run before.
        ring.keep_to_size();
        ring
    }

    pub fn append(&mut self, packet: &Packet<'_>) -> Result<(), TapeError> {
        self.appended += 1;
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
            self.drop_packets(1, packet.ts, packet.ts);
            return begun;
        };
        open.append(packet, &self.interface_names);
        let is_due = open.has_piece(self.options.piece_bytes);
        self.counters.packets += 1;
        self.counters.bytes += packet.data.len().min(MAX_CAPTURED) as u64;
        self.counters.cut_short += u64::from(packet.data.len() > MAX_CAPTURED);
        if is_due {
            self.write_out(false);
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
        if open.has_piece(self.options.piece_bytes) {
            self.write_out(false);
        }
        Ok(())
    }

    pub fn lost(&mut self, packets: u64, known: Option<Loss>) {
        self.counters.lost += packets;
        self.tell_lost(packets, known);
    }

    /// Begins a segment if there are losses that no segment tells, so that they do not wait for a packet.
    pub fn begin_for_losses(&mut self, now: Nanos) -> Result<(), TapeError> {
        if self.untold > 0 && self.open.is_none() && self.blocked.is_none() {
            self.begin(now)
        } else {
            Ok(())
        }
    }

    /// Puts into the file what is buffered, and lets writing be tried again if it was given up. A file that someone
    /// else has changed is noticed now.
    pub fn flush(&mut self) {
        self.blocked = None;
        self.look_after_open();
        if let Some(open) = &mut self.open {
            open.tell_losses();
            self.write_out(true);
        }
    }

    /// Seals the open segment if its first packet is older than `seal_before`, and drops those of which all packets are
    /// older than `oldest`.
    pub fn keep_since(&mut self, oldest: Nanos, seal_before: Nanos, now: Nanos) {
        let first = self.open.as_ref().and_then(|open| open.written().first);
        if first.is_some_and(|first| first < seal_before) {
            self.close();
        }
        let dropped = self.sealed.drop_old(oldest, now, &mut self.counters);
        self.counters.dropped_old += dropped as u64;
        if dropped > 0 {
            self.forget_names();
        }
    }

    /// Seals the open segment, if there is one.
    pub fn close(&mut self) {
        self.look_after_open();
        self.write_out(true);
        let Some(open) = &mut self.open else { return };
        if open.finish(&self.names).is_err() {
            self.counters.write_errors += 1;
        }
        self.write_out(true);
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
            recorded: None,
            node: node.to_owned(),
            oldest: all().filter_map(|info| info.first).min(),
            newest: all().filter_map(|info| info.last).max(),
            segments: all().count() as u64,
            bytes: all().map(|info| info.bytes).sum(),
            packets: all().map(|info| info.packets).sum(),
            lost: all().map(|info| info.lost).sum::<u64>() + self.untold,
            losses: self.losses(),
        }
    }

    /// The end of what is in the files.
    pub fn place(&self) -> Place {
        let open = self.open.as_ref().map(OpenSegment::written);
        let last = open.or_else(|| self.sealed.infos().last());
        last.and_then(place_in).unwrap_or_default()
    }

    /// What has become of the packets so far.
    pub fn progress(&mut self) -> Progress {
        self.with_open(|open, writer, _, make_room| open.land_ready(writer, make_room));
        let waiting = self.open.as_ref().map_or(0, |open| open.buffered().0);
        let Place { segment, packets } = self.place();
        let told = |open: &OpenSegment| open.has_told_losses();
        Progress {
            losses_told: self.untold == 0 && self.open.as_ref().is_none_or(told),
            appended: self.appended,
            settled: self.appended - waiting,
            end: Place {
                segment,
                packets: packets + waiting,
            },
        }
    }

    /// Packets in the files from a place on.
    pub fn packets_since(&self, place: Place) -> u64 {
        let ends = self.segments().filter_map(place_in);
        let after = ends.filter(|end| end.segment >= place.segment).map(|end| {
            let before = if end.segment == place.segment {
                place.packets
            } else {
                0
            };
            end.packets.saturating_sub(before)
        });
        after.sum()
    }

    fn losses(&self) -> Vec<Loss> {
        let mut list = Vec::new();
        let told = self.segments().flat_map(|info| &info.losses);
        for loss in told.chain(&self.untold_losses) {
            losses::add(&mut list, *loss);
        }
        list
    }

    /// All segments, oldest first; of the open one, what is in the file.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &SegmentInfo> {
        self.sealed
            .infos()
            .chain(self.open.as_ref().map(OpenSegment::written))
    }

    /// Bytes written into segments so far.
    pub fn written_bytes(&self) -> u64 {
        self.counters.written_bytes
    }

    /// The sealed segments, with how they lie on disk.
    pub fn sealed(&mut self) -> &mut Sealed {
        &mut self.sealed
    }

    /// Someone else has deleted a sealed segment or changed its length, and this is what is left of it.
    pub fn changed(&mut self, name: &str, left: Option<SegmentInfo>) {
        let Some(was) = self.sealed.take(name) else { return };
        if let Some(kept) = self.vanished(was, left) {
            self.sealed.insert(Shelved::plain(kept));
        }
        self.forget_names();
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn counters(&self) -> TapeCounters {
        TapeCounters {
            names_refused: self.names.refused(),
            held_bytes: self.sealed.held_bytes(),
            direct_bytes: self.writer.bytes(),
            stored_bytes: self.sealed.bytes() + self.open.as_ref().map_or(0, |open| open.written().bytes),
            plain_bytes: self.segments().map(|info| info.bytes).sum(),
            ..self.counters.clone()
        }
    }

    fn begin(&mut self, ts: Nanos) -> Result<(), TapeError> {
        let name = self.next.at(ts);
        loop {
            let piece = std::mem::take(&mut self.spare);
            let TapeOptions { dir, node, agent, .. } = &self.options;
            let error = match OpenSegment::create(dir, name.to_string(), piece, node, agent, &self.names, ts)
            {
                Ok(mut open) => {
                    open.lost(
                        std::mem::take(&mut self.untold),
                        std::mem::take(&mut self.untold_losses),
                    );
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
            if !self.sealed.drop_for_room(0, &mut self.counters) {
                self.blocked = Some(Blocked::DiskFull);
                return Ok(());
            }
        }
    }

    /// Writes what is in memory, making room on the ring and on the disk; unless this is to `wait`, some of it may still be on
    /// its way. If that fails, the segment is given up as far as it is whole.
    fn write_out(&mut self, wait: bool) {
        if let Some(open) = &mut self.open {
            open.fill(&self.writer);
        }
        self.keep_to_size();
        self.with_open(|open, writer, counters, make_room| {
            if open.buffered_bytes() == 0 {
                return open.land(writer, 0, make_room);
            }
            *counters += 1;
            open.write_out(writer, wait, make_room)
        });
    }

    /// Waits for what is on its way to the file.
    fn land(&mut self) {
        self.with_open(|open, writer, _, make_room| open.land(writer, 0, make_room));
    }

    fn with_open(
        &mut self,
        act: impl FnOnce(
            &mut OpenSegment,
            &mut Writer,
            &mut u64,
            &mut dyn FnMut() -> bool,
        ) -> Result<(), WriteFailure>,
    ) {
        let Self {
            open: Some(open),
            writer,
            sealed,
            counters,
            ..
        } = self
        else {
            return;
        };
        let before = open.written().bytes;
        let mut flushes = 0;
        let mut make_room = || {
            counters.write_errors += 1;
            sealed.drop_for_room(before, counters)
        };
        let outcome = act(open, writer, &mut flushes, &mut make_room);
        counters.flushes += flushes;
        counters.written_bytes += open.written().bytes.saturating_sub(before);
        let Err(failure) = outcome else { return };
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
        self.drop_packets(failure.packets, failure.span.start, failure.span.end);
        if let Some(open) = self.open.take() {
            self.shelve(open);
        }
    }

    /// From open to sealed.
    fn shelve(&mut self, open: OpenSegment) {
        let ended = open.end();
        self.spare = ended.piece;
        self.tell_lost(ended.untold, ended.untold_losses);
        let shelved = ended.info.map(Shelved::plain);
        shelved.into_iter().for_each(|segment| self.sealed.push(segment));
    }

    /// If someone else has deleted the open segment's file or changed its length, nothing that is written to it can
    /// be relied on: what is whole in it is kept, the rest told as lost, and the next segment begun.
    fn look_after_open(&mut self) {
        self.land();
        let Some(open) = self.open.take_if(|open| open.is_tampered_with()) else {
            return;
        };
        let (buffered, events) = open.buffered();
        let left = recovery::recover_segment(open.path()).ok().flatten();
        let path = open.path().to_owned();
        let (was, piece) = open.abandon();
        self.spare = piece;
        // What had not been written yet goes with it, since the blocks refer to the head of the file.
        self.counters.packets = self.counters.packets.saturating_sub(buffered);
        self.counters.events = self.counters.events.saturating_sub(events);
        self.counters.events_lost += events;
        let last = was.last.unwrap_or(0);
        self.drop_packets(buffered, last, last);
        match self.vanished(was, left.map(|(index, _)| index.info)) {
            Some(kept) => self.sealed.push(Shelved::plain(kept)),
            // Its name is not used again, so nothing of it must stay. If it cannot be removed, the next start tries.
            None => drop(disk::remove(&path)),
        }
    }

    /// Tells what someone else has taken of a segment: the packets that are gone, and the losses that it told. Gives
    /// what is left of it.
    fn vanished(&mut self, mut was: SegmentInfo, left: Option<SegmentInfo>) -> Option<SegmentInfo> {
        let (kept, kept_lost) = left.as_ref().map_or((0, 0), |info| (info.packets, info.lost));
        let packets = was.packets.saturating_sub(kept);
        self.counters.vanished += 1;
        self.counters.vanished_packets += packets;
        let loss = Loss {
            stage: LossStage::Vanished,
            since: was.first.unwrap_or(0),
            until: was.last.unwrap_or(0),
            packets,
        };
        self.tell_lost(packets, [loss]);
        let untold = was.lost.saturating_sub(kept_lost);
        self.tell_lost(untold, losses::take_latest(&mut was.losses, untold));
        left.map(|info| SegmentInfo {
            losses: was.losses,
            ..info
        })
    }

    fn drop_packets(&mut self, packets: u64, since: Nanos, until: Nanos) {
        let (stage, counter) = match self.blocked {
            Some(Blocked::DiskFull) => (LossStage::DiskFull, &mut self.counters.lost_disk_full),
            Some(Blocked::WriteError) | None => (LossStage::WriteError, &mut self.counters.lost_write_error),
        };
        *counter += packets;
        self.tell_lost(
            packets,
            [Loss {
                stage,
                since,
                until,
                packets,
            }],
        );
    }

    fn tell_lost(&mut self, packets: u64, known: impl IntoIterator<Item = Loss>) {
        match &mut self.open {
            Some(open) => open.lost(packets, known),
            None => {
                self.untold += packets;
                for loss in known {
                    losses::add(&mut self.untold_losses, loss);
                }
            }
        }
    }

    /// Drops the oldest segments while the ring is too long. What cuts hold beside the ring counts.
    fn keep_to_size(&mut self) {
        let mut dropped = false;
        loop {
            let open = self.open.as_ref().map_or(0, OpenSegment::bytes);
            let room = self.options.ring_bytes;
            if self.sealed.bytes() + open + self.sealed.held_bytes() <= room {
                break;
            }
            // Else it is tried again with the next write.
            let Some(made) = self.sealed.make_room(room, &mut self.counters) else {
                break;
            };
            self.counters.dropped += made.segments;
            dropped |= made.segments > 0;
        }
        if dropped {
            self.forget_names();
        }
    }

    fn forget_names(&mut self) {
        let oldest = self.segments().filter_map(|info| info.first).min();
        oldest
            .into_iter()
            .for_each(|oldest| self.names.forget_before(oldest));
    }
}

/// The end of a segment.
fn place_in(info: &SegmentInfo) -> Option<Place> {
    let SegmentName { start, sequence } = SegmentName::parse(&info.name)?;
    Some(Place {
        segment: [start, sequence],
        packets: info.packets,
    })
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
