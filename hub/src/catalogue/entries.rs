//! What the catalogue knows of each snapshot and dissection: enough for a list, without opening its files.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use wiretape_tape::Nanos;

use crate::jobs::Record;
use crate::losses::Lost;
use crate::snapshots::{Manifest, Origin, Status};

/// What a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<T> {
    /// Nothing goes by that.
    None,
    /// This one.
    One(T),
    /// It is the start of several ids: these.
    Many(Vec<String>),
}

/// A snapshot, as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotEntry {
    /// See [`Manifest::id`].
    pub id: String,
    /// See [`Manifest::name`].
    pub name: String,
    /// See [`Manifest::origin`].
    pub origin: Origin,
    /// See [`Manifest::status`].
    pub status: Status,
    /// See [`Manifest::reason`].
    pub reason: Option<String>,
    /// See [`Manifest::created_at`].
    pub created_at: Nanos,
    /// See [`Manifest::start`].
    pub start: Nanos,
    /// See [`Manifest::end`].
    pub end: Nanos,
    /// Nodes that it has parts of.
    pub nodes: usize,
    /// See [`Manifest::is_whole`].
    pub whole: bool,
    /// See [`Manifest::bytes`].
    pub bytes: u64,
    /// See [`Manifest::packets`].
    pub packets: u64,
    /// See [`Manifest::losses`].
    #[serde(default)]
    pub losses: Vec<Lost>,
    /// Its folder's name below `snapshots/`: the id, or a hidden one while segments are on their way.
    pub folder: String,
    /// Of the manifest that this was read from.
    pub(super) stamp: Stamp,
}

impl SnapshotEntry {
    pub(super) fn new(manifest: &Manifest, folder: &str, stamp: Stamp) -> Self {
        // Whole is what has its own name: between its last word and that, its folder is about to move.
        let status = if folder == manifest.id {
            manifest.status
        } else {
            Status::InProgress
        };
        Self {
            id: manifest.id.clone(),
            name: manifest.name.clone(),
            origin: manifest.origin,
            status,
            reason: manifest.reason.clone(),
            created_at: manifest.created_at,
            start: manifest.start,
            end: manifest.end,
            nodes: manifest.nodes.len(),
            whole: manifest.is_whole(),
            bytes: manifest.bytes(),
            packets: manifest.packets(),
            losses: manifest.losses(),
            folder: folder.to_owned(),
            stamp,
        }
    }
}

/// A dissection, as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DissectionEntry {
    /// Its record; the list of files is left in the folder.
    pub record: Record,
    /// Files that were read.
    pub files: usize,
    /// The id of the snapshot whose folder it lies in.
    pub snapshot: String,
    /// The name of that snapshot.
    pub snapshot_name: String,
    /// Of the record that this was read from.
    pub(super) stamp: Stamp,
}

/// Tells whether a file is the one that was read before: every rewrite is a new file in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: i64,
    modified_nanos: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: metadata.mtime(),
            modified_nanos: metadata.mtime_nsec(),
        }
    }
}

/// Begins the name of a folder whose segments are still on their way.
const INCOMING: &str = ".incoming-";

/// The folder's name of a snapshot that is being collected.
pub fn incoming_folder(id: &str) -> String {
    format!("{INCOMING}{id}")
}

/// The id that a folder's name stands for; `None` for what is no snapshot.
pub(super) fn id_of(folder: &str) -> Option<&str> {
    let id = folder.strip_prefix(INCOMING).unwrap_or(folder);
    (!id.is_empty() && !id.starts_with('.')).then_some(id)
}
