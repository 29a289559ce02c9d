//! What a reader gives out at a time.

use crate::{Event, PacketMeta};

/// About how much of a file one chunk holds: large enough that the work per chunk does not show, small enough that
/// chunks in flight do not fill memory.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A run of a file's bytes with the packets that lie whole inside it.
///
/// Packets name their bytes by range, so a chunk can go to another thread (`Arc<Chunk>`) without a copy.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Room for the file's bytes. It stays as long as it ever was, so that it is made and cleared once only.
    pub(super) room: Vec<u8>,
    /// How much of it is filled.
    pub(super) len: usize,
    /// The packets, in file order.
    pub packets: Vec<PacketMeta>,
    /// The events, in file order.
    pub events: Vec<Event>,
}

impl Chunk {
    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.room.get(..self.len).unwrap_or_default()
    }

    /// Bytes that it has room for.
    pub fn capacity(&self) -> usize {
        self.room.len()
    }

    /// The captured bytes of one of its packets.
    pub fn data(&self, packet: &PacketMeta) -> &[u8] {
        self.bytes()
            .get(packet.data.start as usize..packet.data.end as usize)
            .unwrap_or(&[])
    }

    /// Begins with some bytes; gives the space behind them, up to `size` bytes in all.
    pub(super) fn begin(&mut self, bytes: &[u8], size: usize) -> &mut [u8] {
        let size = size.max(bytes.len());
        if self.room.len() < size {
            self.room.resize(size, 0);
        }
        self.len = bytes.len();
        let (begin, space) = self.room.split_at_mut(bytes.len());
        begin.copy_from_slice(bytes);
        let most = size - bytes.len();
        space.get_mut(..most).unwrap_or_default()
    }
}
