//! The open segment: a piece in memory before a file.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::piece::{Extent, Piece, SECTOR, whole_blocks};
use super::writer::{Landed, Writer};
use super::{disk, losses};
use crate::format::encode::{self, Statistics};
use crate::format::{MAX_CAPTURED, tag};
use crate::names::Names;
use crate::read::IndexRecord;
use crate::{Event, InterfaceInfo, LinkType, Loss, Name, Nanos, Packet, SegmentInfo};

/// Most interfaces of one segment; a segment that would need more is sealed. Bounds the table when veths come and go.
pub(super) const MAX_INTERFACES: usize = 4096;

/// Pieces at least so long go past the page cache. For shorter ones, who waits for the disk loses more than the page cache
/// takes.
const DIRECT: usize = if cfg!(test) { 1024 } else { 1 << 20 };

/// Bytes of a piece, unless told otherwise: past the page cache, a disk is about as fast as it can be with pieces so long.
pub(super) const PIECE: usize = if cfg!(test) { 2048 } else { 4 << 20 };

/// Pieces on their way at a time: with the one behind it, the disk need not wait for the recorder's turn on the processor.
const MAX_UNDER_WAY: usize = 2;

/// Most pieces in memory: those, and the one that is being filled.
pub const PIECES: usize = MAX_UNDER_WAY + 1;

/// The segment that is being recorded.
pub(super) struct OpenSegment {
    path: PathBuf,
    /// By which the file at that path is known for the one that is written.
    inode: u64,
    file: File,
    /// The same file past the page cache, once that was of use.
    direct: Option<Arc<File>>,
    /// What the file holds.
    written: SegmentInfo,
    /// What is on its way to it, and the bytes of all of that.
    under_way: VecDeque<Extent>,
    under_way_bytes: u64,
    /// What is not in the file yet, nor on its way.
    piece: Piece,
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

impl WriteFailure {
    /// With what was behind it, and got as little into the file.
    fn with(self, behind: Extent) -> Self {
        let span = match (behind.first, behind.last) {
            (Some(first), Some(last)) => self.span.start.min(first)..self.span.end.max(last),
            _ => self.span,
        };
        Self {
            packets: self.packets + behind.packets,
            bytes: self.bytes + behind.bytes,
            span,
            events: self.events + behind.events,
            ..self
        }
    }
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
    pub piece: Piece,
}

impl OpenSegment {
    /// Makes the file. Its head, with the names that hold from `now` on, stays in memory until the first write.
    pub fn create(
        dir: &Path,
        name: String,
        piece: Piece,
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
            direct: None,
            written: SegmentInfo {
                name,
                ..SegmentInfo::default()
            },
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            piece,
            interfaces: Vec::new(),
            ordinals: HashMap::new(),
            recent: None,
            told_lost: 0,
            written_lost: 0,
        };
        segment.piece.clear();
        encode::section(segment.piece.out(), node, agent, "");
        encode::names(segment.piece.out(), names.within(now, Nanos::MAX))?;
        Ok(segment)
    }

    /// Bytes in file and memory.
    pub fn bytes(&self) -> u64 {
        self.sent() + self.piece.len() as u64
    }

    /// Bytes that are to be written.
    pub fn buffered_bytes(&self) -> usize {
        self.piece.len()
    }

    /// Whether they are enough to be written, in pieces of `bytes`. The disk has had nothing to do since the segment before was sealed, so
    /// the first piece is a short one.
    pub fn has_piece(&self, bytes: usize) -> bool {
        let least = if self.sent() == 0 {
            DIRECT.min(bytes)
        } else {
            bytes
        };
        self.piece.len() >= least
    }

    /// Bytes in the file or on their way.
    fn sent(&self) -> u64 {
        self.written.bytes + self.under_way_bytes
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
        encode::packet(self.piece.out(), ordinal, packet);
        self.piece
            .extent
            .add(packet.ts, packet.data.len().min(MAX_CAPTURED));
    }

    pub fn name(&mut self, name: &Name) -> io::Result<()> {
        encode::names(self.piece.out(), [name])
    }

    /// `false` when it is too long to be told.
    pub fn event(&mut self, event: &Event) -> io::Result<bool> {
        let told = encode::event(self.piece.out(), event)?;
        if told {
            self.piece.extent.add_event(event.at);
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

    /// Puts the latest count of losses behind the packets, if it has changed, so that a killed segment tells it too.
    pub fn tell_losses(&mut self) {
        if self.told_lost < self.written.lost && !self.interfaces.is_empty() {
            self.statistics(0);
        }
    }

    /// Whether the file tells all losses.
    pub fn has_told_losses(&self) -> bool {
        self.written_lost == self.written.lost
    }

    /// Ends the segment: statistics and index are to be written. To be called after all packets are written.
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
        encode::json_block(self.piece.out(), tag::INDEX, &record)
    }

    /// Has the next write end where a sector does, if it is to go past the page cache.
    pub fn fill(&mut self, writer: &Writer) {
        if writer.is_off() || self.piece.len() < DIRECT || self.interfaces.is_empty() {
            return;
        }
        let block = self.piece.out().len();
        self.statistics(0);
        // Fits: less than a sector.
        let over = (self.bytes() % SECTOR as u64) as usize;
        encode::fill(self.piece.out(), block, over.wrapping_neg() % SECTOR, SECTOR);
    }

    /// Writes what is in memory to the file; a large piece by `writer`, which goes on with it meanwhile unless this is to
    /// `wait`. `make_room` is asked when the disk is full, and says whether to try again.
    pub fn write_out(
        &mut self,
        writer: &mut Writer,
        wait: bool,
        make_room: &mut dyn FnMut() -> bool,
    ) -> Result<(), WriteFailure> {
        self.land(writer, MAX_UNDER_WAY - 1, make_room)?;
        if self.begin(writer) {
            let left = if wait { 0 } else { MAX_UNDER_WAY };
            return self.land(writer, left, make_room);
        }
        self.land(writer, 0, make_room)?;
        self.piece.told_lost = self.told_lost;
        if let Err((done, error)) = put(&mut self.file, self.piece.bytes(), 0, make_room) {
            let piece = std::mem::take(&mut self.piece);
            let failure = self.cut_back(&piece, done, error);
            self.piece = piece;
            self.piece.clear();
            return Err(failure);
        }
        self.settle(self.piece.len(), self.piece.extent, self.piece.told_lost);
        self.piece.clear();
        Ok(())
    }

    /// Waits until no more than so many pieces are on their way to the file.
    pub fn land(
        &mut self,
        writer: &mut Writer,
        left: usize,
        make_room: &mut dyn FnMut() -> bool,
    ) -> Result<(), WriteFailure> {
        while self.under_way.len() > left
            && let Some(extent) = self.under_way.pop_front()
        {
            let Landed {
                piece,
                written,
                outcome,
            } = writer.wait(extent);
            if let Err(error) = outcome {
                return self.mend(writer, piece, written, error, make_room);
            }
            self.under_way_bytes -= piece.len() as u64;
            self.settle(piece.len(), piece.extent, piece.told_lost);
            writer.keep(piece);
        }
        Ok(())
    }

    /// The same for what has come there, without waiting.
    pub fn land_ready(
        &mut self,
        writer: &mut Writer,
        make_room: &mut dyn FnMut() -> bool,
    ) -> Result<(), WriteFailure> {
        while !self.under_way.is_empty() && writer.has_landed() {
            self.land(writer, self.under_way.len() - 1, make_room)?;
        }
        Ok(())
    }

    /// Of a piece, only `done` bytes got into the file past the page cache: has the rest take the usual way, and what came
    /// after it, where that may help.
    fn mend(
        &mut self,
        writer: &mut Writer,
        piece: Piece,
        done: usize,
        error: io::Error,
        make_room: &mut dyn FnMut() -> bool,
    ) -> Result<(), WriteFailure> {
        self.under_way_bytes = 0;
        // They lie behind a hole now.
        let behind = self.under_way.drain(..).map(|extent| writer.wait(extent).piece);
        let pieces: Vec<Piece> = std::iter::once(piece).chain(behind).collect();
        let unfit = error.kind() == io::ErrorKind::InvalidInput;
        if unfit {
            writer.turn_off();
        }
        let mut failed = match disk::cut_back(&self.file, self.written.bytes + done as u64) {
            Ok(()) if unfit || is_full(&error) && make_room() => None,
            Ok(()) => Some((done, error)),
            Err(error) => Some((done, error)),
        };
        let mut failure: Option<WriteFailure> = None;
        for (at, piece) in pieces.iter().enumerate() {
            let from = if at == 0 { done } else { 0 };
            failure = match failure {
                // Refers to what is missing.
                Some(failure) => Some(failure.with(piece.extent)),
                None => {
                    let outcome = match failed.take() {
                        Some(failed) => Err(failed),
                        None => put(&mut self.file, piece.bytes(), from, make_room),
                    };
                    match outcome {
                        Ok(()) => {
                            self.settle(piece.len(), piece.extent, piece.told_lost);
                            None
                        }
                        Err((done, error)) => Some(self.cut_back(piece, done, error)),
                    }
                }
            };
        }
        pieces.into_iter().for_each(|piece| writer.keep(piece));
        let Some(failure) = failure else { return Ok(()) };
        let here = self.piece.extent;
        self.piece.clear();
        Err(failure.with(here))
    }

    /// Has the writer begin with what is in memory, if that is of use and possible.
    fn begin(&mut self, writer: &mut Writer) -> bool {
        let aligned = self.sent().is_multiple_of(SECTOR as u64) && self.piece.is_aligned();
        if writer.is_off() || self.piece.len() < DIRECT || !aligned {
            return false;
        }
        let Some(file) = self.direct(writer) else {
            return false;
        };
        self.piece.told_lost = self.told_lost;
        let (extent, bytes) = (self.piece.extent, self.piece.len() as u64);
        let begun = writer.begin(file, self.sent(), &mut self.piece);
        if begun {
            self.under_way.push_back(extent);
            self.under_way_bytes += bytes;
        }
        begun
    }

    fn direct(&mut self, writer: &mut Writer) -> Option<Arc<File>> {
        if self.direct.is_none() {
            match disk::open_direct(&self.path) {
                // Someone else's, in the place of ours, is none of ours.
                Ok(file) if file.metadata().ok()?.ino() == self.inode => self.direct = Some(Arc::new(file)),
                Ok(_) => return None,
                Err(error) => {
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                    ) {
                        writer.turn_off();
                    }
                    return None;
                }
            }
        }
        self.direct.clone()
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
            piece: self.piece,
        }
    }

    /// Gives up a file that is not to be touched any more: what was in it, and memory for the next segment.
    pub fn abandon(mut self) -> (SegmentInfo, Piece) {
        self.piece.clear();
        (self.written, self.piece)
    }

    /// Packets and events that are not in the file yet.
    pub fn buffered(&self) -> (u64, u64) {
        let all = self.under_way.iter().chain([&self.piece.extent]);
        all.fold((0, 0), |(packets, events), extent| {
            (packets + extent.packets, events + extent.events)
        })
    }

    /// After `done` bytes of the piece an error came: keeps the whole blocks among them.
    fn cut_back(&mut self, piece: &Piece, done: usize, error: io::Error) -> WriteFailure {
        let (whole, kept) = whole_blocks(piece.bytes().get(..done).unwrap_or_default());
        // Should this fail too, the file ends in half a block, which every reader takes for the end.
        let _ = disk::cut_back(&self.file, self.written.bytes + whole as u64);
        let told = if kept.statistics {
            piece.told_lost
        } else {
            self.written_lost
        };
        self.settle(whole, kept, told);
        WriteFailure {
            packets: piece.extent.packets.saturating_sub(kept.packets),
            bytes: piece.extent.bytes.saturating_sub(kept.bytes),
            span: piece.extent.times(),
            events: piece.extent.events.saturating_sub(kept.events),
            error,
        }
    }

    fn settle(&mut self, bytes: usize, extent: Extent, told_lost: u64) {
        self.written.bytes += bytes as u64;
        self.written.packets += extent.packets;
        self.written.events += extent.events;
        self.written.first = self.written.first.into_iter().chain(extent.first).min();
        self.written.last = self.written.last.max(extent.last);
        self.written_lost = told_lost;
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
                encode::interface(self.piece.out(), link, &name, &format!("index {ifindex}"));
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
        let told = || self.under_way.iter().chain([&self.piece.extent]);
        let last = told().map(|extent| extent.last).fold(self.written.last, Ord::max);
        let statistics = Statistics {
            at: last.unwrap_or(0),
            first: told()
                .filter_map(|extent| extent.first)
                .chain(self.written.first)
                .min(),
            last,
            received: used.packets,
            dropped: if ordinal == 0 { self.written.lost } else { 0 },
        };
        encode::statistics(self.piece.out(), ordinal as u32, &statistics);
        if ordinal == 0 {
            self.told_lost = self.written.lost;
        }
    }
}

/// Writes what comes after the first `done` bytes to the end of the file; if that fails, gives how many are there, and why.
fn put(
    file: &mut File,
    bytes: &[u8],
    mut done: usize,
    make_room: &mut dyn FnMut() -> bool,
) -> Result<(), (usize, io::Error)> {
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let error = match disk::append(file, rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(written) => {
                done += written;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_full(&error) && make_room() => continue,
            Err(error) => error,
        };
        return Err((done, error));
    }
    Ok(())
}

/// Whether an error means that there is no room: the disk is full, or the quota used up.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
