//! The tape: a ring of pcapng segments on one node's disk, and the only code that knows the file format.
//!
//! Pure of clocks, network and async: time comes in as an argument, and the only outside thing it touches is files.
//!
//! The modules stand in the order in which a packet meets them: [`Packet`] is appended to a [`Tape`], the [`Shelf`]
//! says what is on it and cuts a window out of it, a [`ChunkReader`] reads the segments back (and any other capture
//! file), a [`BlockReader`] goes back to single packets, and an [`Export`] writes those that were asked for.

mod packet;

mod dropped;

mod event;

mod format;
mod names;

mod tape;

mod recording;

mod manifest;

mod read;

mod export;

pub use dropped::DropReason;
pub use event::{EVENT_BYTES, Event, EventKind};
pub use export::{Export, ExportCounters, ExportError, ExportFormat, remark};
pub use format::{MAX_BLOCK, MAX_CAPTURED, PEN};
pub use manifest::{Boundaries, Cut, Loss, LossStage, SegmentInfo};
pub use names::{NAMES_BYTES, Names};
pub use packet::{Direction, LinkType, Name, Nanos, Packet, PacketMeta};
pub use read::{
    BlockReader, CHUNK_BYTES, Chunk, ChunkReader, Damage, InterfaceInfo, Layout, OwnedPacket, ReadCounters,
    ReadError, SegmentIndex, head_names, index, open,
};
pub use recording::{
    Capture, Change, MAX_FILTER_BYTES, MAX_RULES, MAX_SAMPLE, Match, Record, Recorded, Recording,
    RecordingError, Rule,
};
pub use tape::{
    CUT_LIFETIME, Compressed, CutError, CutReader, MAX_CUTS, PIECES, Pages, Place, Progress, Shelf, Tape,
    TapeCounters, TapeError, TapeOptions,
};
