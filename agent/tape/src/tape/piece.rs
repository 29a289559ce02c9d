//! What goes to a segment's file at once: whole blocks, and what they hold.

use std::ops::Range;

use crate::Nanos;
use crate::format::{PEN, block, tag};

/// What the device wants offsets, lengths and memory to be multiples of, where the page cache is passed by: no usual disk has
/// larger sectors (`logical_block_size`). In tests, so small that a short segment has several.
pub(super) const SECTOR: usize = if cfg!(test) { 512 } else { 4096 };

/// Whole blocks in memory.
#[derive(Default)]
pub(super) struct Piece {
    memory: Vec<u8>,
    /// Where the blocks begin in it: at a multiple of [`SECTOR`], unless the memory has moved meanwhile.
    start: usize,
    /// What they hold.
    pub extent: Extent,
    /// Losses that are told when they are in the file.
    pub told_lost: u64,
}

impl Piece {
    /// An empty one, with room for so many bytes.
    pub fn new(room: usize) -> Self {
        let mut piece = Self {
            memory: Vec::with_capacity(room + SECTOR),
            start: 0,
            extent: Extent::default(),
            told_lost: 0,
        };
        piece.clear();
        piece
    }

    /// What is left of one whose memory is gone.
    pub fn lost(extent: Extent) -> Self {
        Self {
            extent,
            ..Self::default()
        }
    }

    /// Empties it; the memory stays.
    pub fn clear(&mut self) {
        self.memory.clear();
        self.start = self.memory.as_ptr().addr().wrapping_neg() % SECTOR;
        self.memory.resize(self.start, 0);
        self.extent = Extent::default();
    }

    /// To have blocks added at its end.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// The blocks.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Whether a device can take it as it lies there.
    pub fn is_aligned(&self) -> bool {
        self.bytes().as_ptr().addr().is_multiple_of(SECTOR) && self.len().is_multiple_of(SECTOR)
    }
}

/// Packets and events, and the time that they span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub packets: u64,
    /// Captured bytes.
    pub bytes: u64,
    pub events: u64,
    pub first: Option<Nanos>,
    pub last: Option<Nanos>,
    /// Whether the statistics of the first interface, which tell of losses, are among the blocks.
    pub statistics: bool,
}

impl Extent {
    pub fn add(&mut self, ts: Nanos, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.span(ts);
    }

    pub fn add_event(&mut self, at: Nanos) {
        self.events += 1;
        self.span(at);
    }

    /// From the first to the last, 0 when there is nothing.
    pub fn times(&self) -> Range<Nanos> {
        self.first.unwrap_or(0)..self.last.unwrap_or(0)
    }

    fn span(&mut self, ts: Nanos) {
        self.first = Some(self.first.map_or(ts, |first| first.min(ts)));
        self.last = self.last.max(Some(ts));
    }
}

/// How many bytes of our own blocks are whole, and what packets they hold.
pub(super) fn whole_blocks(mut rest: &[u8]) -> (usize, Extent) {
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

/// When the event of a block happened, if it is one of ours.
fn event_time(block: &[u8]) -> Option<Nanos> {
    let rest = block.strip_prefix(&block::CUSTOM.to_le_bytes())?;
    let rest = rest.get(4..)?.strip_prefix(&PEN.to_le_bytes())?;
    let rest = rest.strip_prefix(&tag::EVENT)?;
    Some(u64::from_le_bytes(*rest.first_chunk()?))
}
