//! What a reader gives out at a time.

use crate::PacketMeta;

/// About how much of a file one chunk holds: large enough that the work per chunk does not show, small enough that
/// chunks in flight do not fill memory.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A run of a file's bytes with the packets that lie whole inside it.
///
/// Packets name their bytes by range, so a chunk can go to another thread (`Arc<Chunk>`) without a copy.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The packets, in file order.
    pub packets: Vec<PacketMeta>,
}

impl Chunk {
    /// The captured bytes of one of its packets.
    pub fn data(&self, packet: &PacketMeta) -> &[u8] {
        self.bytes
            .get(packet.data.start as usize..packet.data.end as usize)
            .unwrap_or(&[])
    }
}
