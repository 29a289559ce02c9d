//! The tape: a ring of pcapng segments on one node's disk, and the only code that knows the file format.
//!
//! Pure of clocks, network and async: time comes in as an argument, and the only outside thing it touches is files.

mod manifest;
mod packet;

pub use manifest::{Boundaries, Cut, SegmentInfo};
pub use packet::{Direction, LinkType, Name, Nanos, Packet, PacketMeta};

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
