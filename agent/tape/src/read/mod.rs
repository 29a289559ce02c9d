//! Reading: our segments, and captures of any other tool.

mod input;

mod layout;

mod chunk;

mod frame;

mod decode;

mod reader;

mod index;

mod blocks;

pub use blocks::{BlockReader, OwnedPacket};
pub use chunk::{CHUNK_BYTES, Chunk};
pub(crate) use index::{IndexRecord, SKIPPABLE, index_block};
pub use index::{SegmentIndex, head_names, index};
pub(crate) use input::Input;
pub use layout::{InterfaceInfo, Layout};
pub use reader::{ChunkReader, ReadCounters, open};

use std::io;

/// Why a capture cannot be read at all. What is broken inside of one is [`Damage`], not an error.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or stream behind it failed.
    #[error("cannot read the capture: {0}")]
    Io(#[from] io::Error),
    /// Neither pcapng nor pcap.
    #[error(
        "not a capture: it begins with {found:02x?}; give a pcapng or pcap file, as it is or gzipped or in zstd"
    )]
    NotACapture {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// Single packets of a compressed file cannot be reached.
    #[error("the capture is compressed; inflate it first, packets are read at their offset in it")]
    Compressed,
    /// No packet begins there.
    #[error("no packet at offset {at}: {reason}")]
    NoPacketAt {
        /// The offset that was asked for.
        at: u64,
        /// What stands there instead.
        reason: String,
    },
}

/// Where the readable part of a capture ends, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the broken block in the (inflated) file.
    pub at: u64,
    /// What is wrong with it.
    pub reason: String,
}
