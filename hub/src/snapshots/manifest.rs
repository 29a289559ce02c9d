//! `manifest.json`: what a snapshot is. The folder it lies in is the truth; everything else is derived from it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wiretape_tape::{Nanos, SegmentInfo};

use super::WorkloadFilter;
use crate::calls::NodeName;
use crate::losses::{self, Lost};

/// Name of the file in a snapshot's folder.
pub const MANIFEST: &str = "manifest.json";
/// Folder of the segments, one folder per node in it.
pub const SEGMENTS: &str = "segments";
/// Folder of the dissections, one folder per dissection in it.
pub const DISSECTIONS: &str = "dissections";

/// Raised when an older hub could no longer read what is written.
pub const VERSION: u32 = 1;

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Segments are still on their way.
    InProgress,
    /// Whole; it never changes again.
    Completed,
    /// Nothing could be collected; `reason` says why.
    Failed,
}

impl Status {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// Where a snapshot's packets came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Cut from the nodes' tapes.
    Cut,
    /// Brought in from files.
    Import,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub version: u32,
    /// Chosen by the hub, never used twice; also the folder's name.
    pub id: String,
    /// Chosen by the user.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// When it was asked for.
    pub created_at: Nanos,
    /// The window; segments may reach beyond it on both sides.
    pub start: Nanos,
    /// End of the window, exclusive.
    pub end: Nanos,
    /// How far it has come.
    pub status: Status,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is missing from it, in words.
    #[serde(default)]
    pub problems: Vec<String>,
    /// One part per node.
    pub nodes: Vec<NodePart>,
    /// Whether it was cut from every node that the hub knew. Older ones do not tell.
    #[serde(default)]
    pub all_nodes: bool,
    /// Whose packets were kept; all when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_filter: Option<WorkloadFilter>,
    /// What the hub itself knew of the cluster: names and events, no packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<NodePart>,
    /// Every name known on any node that held in the window.
    #[serde(default)]
    pub names: Vec<NodeName>,
}

/// How one node's part has fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartStatus {
    /// Segments are still on their way.
    InProgress,
    /// All of its segments are here.
    Completed,
    /// Some are; `error` says why not all.
    Partial,
    /// None is.
    Failed,
}

/// One node's part of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodePart {
    /// The node.
    pub name: String,
    /// Its agent; empty for an import.
    #[serde(default)]
    pub url: String,
    /// Its folder below `segments/`; the name made safe.
    pub folder: String,
    /// How it has fared.
    pub status: PartStatus,
    /// Why it is not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Packets that a filter by workload has left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// Whether the agent has made its cut. After a restart that cut must still be held.
    #[serde(default)]
    pub cut: bool,
    /// Segments, oldest first: those to collect while in progress, those that are here afterwards.
    pub segments: Vec<SegmentInfo>,
}

impl NodePart {
    /// Bytes of its segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Packets in its segments.
    pub fn packets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.packets).sum()
    }

    /// What was lost while its segments were recorded.
    pub fn losses(&self) -> Vec<Lost> {
        losses::of_segments(&self.name, &self.segments)
    }

    /// Time of its oldest packet.
    pub fn first(&self) -> Option<Nanos> {
        self.segments.iter().filter_map(|segment| segment.first).min()
    }

    /// Time of its newest packet.
    pub fn last(&self) -> Option<Nanos> {
        self.segments.iter().filter_map(|segment| segment.last).max()
    }
}

impl Manifest {
    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.parts().map(NodePart::bytes).sum()
    }

    /// Whether it holds all that was recorded in its window, or will once it has come.
    pub fn is_whole(&self) -> bool {
        let is_whole =
            |part: &NodePart| matches!(part.status, PartStatus::InProgress | PartStatus::Completed);
        self.origin == Origin::Cut
            && self.all_nodes
            && self.workload_filter.is_none()
            && self.nodes.iter().all(is_whole)
    }

    /// The parts of all nodes, and the cluster's.
    pub fn parts(&self) -> impl Iterator<Item = &NodePart> {
        self.nodes.iter().chain(&self.cluster)
    }

    /// Packets of all segments.
    pub fn packets(&self) -> u64 {
        self.nodes.iter().map(NodePart::packets).sum()
    }

    /// What was lost in the window.
    pub fn losses(&self) -> Vec<Lost> {
        let mut all: Vec<Lost> = self.nodes.iter().flat_map(NodePart::losses).collect();
        all.retain(|lost| lost.touches(Some(self.start), Some(self.end)));
        losses::merged(all, losses::KEPT)
    }

    /// Reads the manifest of the snapshot in `folder`.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let text = std::fs::read(folder.join(MANIFEST))?;
        let manifest: Self = serde_json::from_slice(&text)?;
        if manifest.version > VERSION {
            let told = format!(
                "version {} is newer than this hub, which reads up to {VERSION}",
                manifest.version
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, told));
        }
        Ok(manifest)
    }

    /// Writes it so that a crash leaves either the old one or the new one.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        replace(&folder.join(MANIFEST), &text)
    }
}

/// Writes a file beside the old one, makes it durable and puts it in its place.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
