//! What an agent says of its tape, and what crosses to the hub beside the segments: JSON forms, shared by both.

use serde::{Deserialize, Serialize};

use crate::{Name, Nanos};

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
