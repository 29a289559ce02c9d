//! What an agent says of its tape, and what crosses to the hub beside the segments: JSON forms, shared by both.

use serde::{Deserialize, Serialize};

use crate::{Name, Nanos, Recorded};

/// How much tape there is, known at any time without reading packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundaries {
    /// The node whose tape this is.
    pub node: String,
    /// Oldest packet kept; `None` while nothing was recorded.
    pub oldest: Option<Nanos>,
    /// Newest packet that is flushed, so that a cut would hold it.
    pub newest: Option<Nanos>,
    /// Segments on the ring, the open one included.
    pub segments: u64,
    /// Bytes on the ring.
    pub bytes: u64,
    /// Packets on the ring.
    pub packets: u64,
    /// Packets that passed while the ring's segments were recorded but are not in them.
    pub lost: u64,
    /// Where and when they were lost, as far as that is known: a killed agent's last second is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
    /// What is recorded now. The tape does not know; its agent does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// Packets lost at one place, in one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Where.
    pub stage: LossStage,
    /// The earliest that one of them passed.
    pub since: Nanos,
    /// The latest.
    pub until: Nanos,
    /// How many.
    pub packets: u64,
}

/// Where on its way a packet can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossStage {
    /// The buffer between the kernel and the recorder was full.
    BufferFull,
    /// The kernel could not read the packet's bytes.
    Unreadable,
    /// The disk was full, and nothing was left on the ring to drop.
    DiskFull,
    /// The disk failed otherwise.
    WriteError,
    /// It was on the tape, and someone else deleted the file or cut it short.
    Vanished,
}

/// One segment, as its index tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// File name, unique on its node and in order of time.
    pub name: String,
    /// Bytes; of an open segment, those flushed so far.
    pub bytes: u64,
    /// Packets in those bytes.
    pub packets: u64,
    /// Events in those bytes.
    #[serde(default)]
    pub events: u64,
    /// Packets lost while it was the open one.
    pub lost: u64,
    /// Time of the oldest packet or event, if there is one.
    pub first: Option<Nanos>,
    /// Time of the newest.
    pub last: Option<Nanos>,
    /// Whether it will never change again.
    pub sealed: bool,
    /// Of the packets lost, where and when, as far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
}

/// A cut: the segments of a window, held until released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Chosen by who asked; asking again with the same id gives the same cut.
    pub id: String,
    /// The node.
    pub node: String,
    /// The window that was asked for; the segments may reach beyond it on both sides.
    pub start: Nanos,
    /// End of the window, exclusive.
    pub end: Nanos,
    /// Oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Every name known to the agent that held at some time in the window.
    pub names: Vec<Name>,
}
