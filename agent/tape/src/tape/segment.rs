//! The open segment: a buffer before a file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{disk, losses};
use crate::format::encode::{self, Statistics};
use crate::format::{MAX_CAPTURED, PEN, block, tag};
use crate::names::Names;
use crate::read::IndexRecord;
use crate::{Event, InterfaceInfo, LinkType, Loss, Name, Nanos, Packet, SegmentInfo};

/// Most interfaces of one segment; a segment that would need more is sealed. Bounds the table when veths come and go.
pub(super) const MAX_INTERFACES: usize = 4096;

/// The segment that is being recorded.
pub(super) struct OpenSegment {
    path: PathBuf,
    /// By which the file at that path is known for the one that is written.
    inode: u64,
    file: File,
    /// Whole blocks that are not in the file yet.
    buffer: Vec<u8>,
    /// What the file holds.
    written: SegmentInfo,
    /// What the buffer adds to it.
    buffered: Extent,
    interfaces: Vec<InterfaceUse>,
    ordinals: HashMap<(LinkType, u32), u32>,
    /// The interface of the last packet: most often also that of the next.
    recent: Option<(LinkType, u32, u32)>,
    /// Losses that the latest statistics tell, and those that the file's do.
    told_lost: u64,
    written_lost: u64,
}

struct InterfaceUse {
    info: InterfaceInfo,
    packets: u64,
}

/// Packets and events, and the time that they span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    packets: u64,
    /// Captured bytes.
    bytes: u64,
    events: u64,
    first: Option<Nanos>,
    last: Option<Nanos>,
    /// Whether the statistics of the first interface, which tell of losses, are among the blocks.
    statistics: bool,
}

impl Extent {
    fn add(&mut self, ts: Nanos, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.span(ts);
    }

    fn add_event(&mut self, at: Nanos) {
        self.events += 1;
        self.span(at);
    }

    fn span(&mut self, ts: Nanos) {
        self.first = Some(self.first.map_or(ts, |first| first.min(ts)));
        self.last = self.last.max(Some(ts));
    }
}

/// A write that failed for good. What the file holds ends with a whole block again.
#[derive(Debug)]
pub(super) struct WriteFailure {
    /// Packets of the buffer that did not get into the file.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
    /// The time of what was in the buffer.
    pub span: Range<Nanos>,
    /// Events of the buffer that did not.
    pub events: u64,
    pub error: io::Error,
}

/// What is left of a segment that is no longer open.
pub(super) struct Ended {
    /// Of the file, if there still is one.
    pub info: Option<SegmentInfo>,
    /// Losses that it did not get to tell; the next segment does.
    pub untold: u64,
    /// When and where they were lost, as far as that is known.
    pub untold_losses: Vec<Loss>,
    /// For the next segment.
    pub buffer: Vec<u8>,
}

impl OpenSegment {
    /// Makes the file. Its head, with the names that hold from `now` on, stays in the buffer until the first write.
    pub fn create(
        dir: &Path,
        name: String,
        buffer: Vec<u8>,
        node: &str,
        agent: &str,
        names: &Names,
        now: Nanos,
    ) -> io::Result<Self> {
        let path = dir.join(&name);
        let file = disk::create(&path)?;
        let inode = file.metadata()?.ino();
        let mut segment = Self {
            path,
            inode,
            file,
            buffer,
            written: SegmentInfo {
                name,
                ..SegmentInfo::default()
            },
            buffered: Extent::default(),
            interfaces: Vec::new(),
            ordinals: HashMap::new(),
            recent: None,
            told_lost: 0,
            written_lost: 0,
        };
        segment.buffer.clear();
        encode::section(&mut segment.buffer, node, agent, "");
        encode::names(&mut segment.buffer, names.within(now, Nanos::MAX))?;
        Ok(segment)
    }

    /// Bytes in file and buffer.
    pub fn bytes(&self) -> u64 {
        self.written.bytes + self.buffer.len() as u64
    }

    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// What a cut taken now would hold.
    pub fn written(&self) -> &SegmentInfo {
        &self.written
    }

    /// Whether it can describe the packet's interface.
    pub fn takes(&self, packet: &Packet<'_>) -> bool {
        self.interfaces.len() < MAX_INTERFACES || self.ordinals.contains_key(&(packet.link, packet.ifindex))
    }

    pub fn append(&mut self, packet: &Packet<'_>, names: &HashMap<u32, String>) {
        let ordinal = match self.recent {
            Some((link, ifindex, ordinal)) if link == packet.link && ifindex == packet.ifindex => ordinal,
            _ => self.interface(packet.link, packet.ifindex, names),
        };
        if let Some(used) = self.interfaces.get_mut(ordinal as usize) {
            used.packets += 1;
        }
        encode::packet(&mut self.buffer, ordinal, packet);
        self.buffered.add(packet.ts, packet.data.len().min(MAX_CAPTURED));
    }

    pub fn name(&mut self, name: &Name) -> io::Result<()> {
        encode::names(&mut self.buffer, [name])
    }

    /// `false` when it is too long to be told.
    pub fn event(&mut self, event: &Event) -> io::Result<bool> {
        let told = encode::event(&mut self.buffer, event)?;
        if told {
            self.buffered.add_event(event.at);
        }
        Ok(told)
    }

    /// Packets that are missing here, and where and when they were lost, as far as that is known.
    pub fn lost(&mut self, packets: u64, known: impl IntoIterator<Item = Loss>) {
        self.written.lost += packets;
        for loss in known {
            losses::add(&mut self.written.losses, loss);
        }
    }

    /// Whether the file is no longer what was written: deleted, replaced, or of another length.
    pub fn is_tampered_with(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(file) => file.ino() != self.inode || file.len() != self.written.bytes,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the latest count of losses into the buffer, if it has changed, so that a killed segment tells it too.
    pub fn tell_losses(&mut self) {
        if self.told_lost < self.written.lost && !self.interfaces.is_empty() {
            self.statistics(0);
        }
    }

    /// Ends the segment: statistics and index go into the buffer. To be called after all packets are written.
    pub fn finish(&mut self, names: &Names) -> io::Result<()> {
        if self.interfaces.is_empty() && self.written.lost > 0 {
            // Losses are told by interface; all were lost before any was seen.
            self.interface(LinkType::RAW, 0, &HashMap::new());
        }
        for ordinal in 0..self.interfaces.len() {
            self.statistics(ordinal);
        }
        let span = self.written.first.unwrap_or(0)..self.written.last.unwrap_or(u64::MAX);
        let names: Vec<Name> = names
            .within(span.start, span.end.saturating_add(1))
            .cloned()
            .collect();
        let record = IndexRecord {
            bytes: self.bytes(),
            packets: self.written.packets,
            events: self.written.events,
            lost: self.written.lost,
            first: self.written.first,
            last: self.written.last,
            interfaces: self.interfaces.iter().map(|used| used.info.clone()).collect(),
            names: names.into(),
            losses: self.written.losses.clone(),
        };
        encode::json_block(&mut self.buffer, tag::INDEX, &record)
    }

    /// Writes the buffer to the file. `make_room` is asked when the disk is full, and says whether to try again.
    pub fn write_out(&mut self, make_room: &mut dyn FnMut() -> bool) -> Result<(), WriteFailure> {
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            let error = match disk::append(&mut self.file, rest) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    done += written;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_full(&error) && make_room() => continue,
                Err(error) => error,
            };
            return Err(self.cut_back(done, error));
        }
        self.settle(
            done,
            Extent {
                statistics: true,
                ..self.buffered
            },
        );
        Ok(())
    }

    /// No more is written to it. A file that holds nothing is removed.
    pub fn end(self) -> Ended {
        let untold = self.written.lost.saturating_sub(self.written_lost);
        let mut info = SegmentInfo {
            sealed: true,
            lost: self.written_lost,
            ..self.written
        };
        let untold_losses = losses::take_latest(&mut info.losses, untold);
        let empty = info.packets == 0 && info.events == 0 && info.lost == 0;
        if empty {
            // If it cannot be removed either, the next start does.
            let _ = disk::remove(&self.path);
        }
        Ended {
            info: (!empty).then_some(info),
            untold,
            untold_losses,
            buffer: self.buffer,
        }
    }

    /// Gives up a file that is not to be touched any more: what was in it, and the buffer for the next segment.
    pub fn abandon(mut self) -> (SegmentInfo, Vec<u8>) {
        self.buffer.clear();
        (self.written, self.buffer)
    }

    /// Packets and events that are not in the file yet.
    pub fn buffered(&self) -> (u64, u64) {
        (self.buffered.packets, self.buffered.events)
    }

    /// After `done` bytes of the buffer an error came: keeps the whole blocks among them.
    fn cut_back(&mut self, done: usize, error: io::Error) -> WriteFailure {
        let part = self.buffer.get(..done).unwrap_or(&[]);
        let (whole, extent) = whole_blocks(part);
        let packets = self.buffered.packets.saturating_sub(extent.packets);
        let bytes = self.buffered.bytes.saturating_sub(extent.bytes);
        let (first, last) = (self.buffered.first, self.buffered.last);
        let events = self.buffered.events.saturating_sub(extent.events);
        // Should this fail too, the file ends in half a block, which every reader takes for the end.
        let _ = disk::cut_back(&self.file, self.written.bytes + whole as u64);
        self.settle(whole, extent);
        WriteFailure {
            packets,
            bytes,
            span: first.unwrap_or(0)..last.unwrap_or(0),
            events,
            error,
        }
    }

    fn settle(&mut self, bytes: usize, extent: Extent) {
        self.written.bytes += bytes as u64;
        self.written.packets += extent.packets;
        self.written.events += extent.events;
        self.written.first = self.written.first.into_iter().chain(extent.first).min();
        self.written.last = self.written.last.max(extent.last);
        if extent.statistics {
            self.written_lost = self.told_lost;
        }
        self.buffered = Extent::default();
        self.buffer.clear();
    }

    /// Ordinal of an interface, described on first use.
    fn interface(&mut self, link: LinkType, ifindex: u32, names: &HashMap<u32, String>) -> u32 {
        let ordinal = match self.ordinals.get(&(link, ifindex)) {
            Some(ordinal) => *ordinal,
            None => {
                let name = names
                    .get(&ifindex)
                    .cloned()
                    .unwrap_or_else(|| format!("if{ifindex}"));
                encode::interface(&mut self.buffer, link, &name, &format!("index {ifindex}"));
                // At most MAX_INTERFACES.
                let ordinal = self.interfaces.len() as u32;
                self.interfaces.push(InterfaceUse {
                    info: InterfaceInfo::new(link, &name),
                    packets: 0,
                });
                self.ordinals.insert((link, ifindex), ordinal);
                ordinal
            }
        };
        self.recent = Some((link, ifindex, ordinal));
        ordinal
    }

    /// The recorder's losses are not known by interface; the first one carries them.
    fn statistics(&mut self, ordinal: usize) {
        let Some(used) = self.interfaces.get(ordinal) else {
            return;
        };
        let last = self.written.last.max(self.buffered.last);
        let statistics = Statistics {
            at: last.unwrap_or(0),
            first: self.written.first.into_iter().chain(self.buffered.first).min(),
            last,
            received: used.packets,
            dropped: if ordinal == 0 { self.written.lost } else { 0 },
        };
        encode::statistics(&mut self.buffer, ordinal as u32, &statistics);
        if ordinal == 0 {
            self.told_lost = self.written.lost;
        }
    }
}

/// Whether an error means that there is no room: the disk is full, or the quota used up.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// When the event of a block happened, if it is one of ours.
fn event_time(block: &[u8]) -> Option<Nanos> {
    let rest = block.strip_prefix(&block::CUSTOM.to_le_bytes())?;
    let rest = rest.get(4..)?.strip_prefix(&PEN.to_le_bytes())?;
    let rest = rest.strip_prefix(&tag::EVENT)?;
    Some(u64::from_le_bytes(*rest.first_chunk()?))
}

/// How many bytes of our own blocks are whole, and what packets they hold.
fn whole_blocks(mut rest: &[u8]) -> (usize, Extent) {
    let mut whole = 0;
    let mut extent = Extent::default();
    while let Some(head) = rest.first_chunk::<8>() {
        let [kind, length] = head.as_chunks::<4>().0 else {
            break;
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, after)) = rest.split_at_checked(length).filter(|_| length > 0) else {
            break;
        };
        if u32::from_le_bytes(*kind) == block::ENHANCED
            && let Some([high, low, captured]) = block.get(12..24).map(|fields| fields.as_chunks::<4>().0)
        {
            let ts = u64::from(u32::from_le_bytes(*high)) << 32 | u64::from(u32::from_le_bytes(*low));
            extent.add(ts, u32::from_le_bytes(*captured) as usize);
        }
        if let Some(at) = event_time(block) {
            extent.add_event(at);
        }
        extent.statistics |=
            u32::from_le_bytes(*kind) == block::STATISTICS && block.get(8..12) == Some(&[0; 4]);
        whole += length;
        rest = after;
    }
    (whole, extent)
}
