//! What a sealed segment says of itself in its last block, found from the file's end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decode::{self, FRAME};
use super::layout::{InterfaceInfo, Order};
use super::{Chunk, ReadError, open};
use crate::format::{MAX_BLOCK, block, tag};
use crate::{Name, Nanos, SegmentInfo};

/// The index of a sealed segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    /// Times and counts.
    pub info: SegmentInfo,
    /// Interfaces, in the order of their descriptions.
    pub interfaces: Vec<InterfaceInfo>,
    /// Names that held while it was recorded.
    pub names: Vec<Name>,
}

/// The index as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IndexRecord<'a> {
    /// Bytes of the file before the index; tells a segment from a file that merely ends like one.
    pub bytes: u64,
    pub packets: u64,
    #[serde(default)]
    pub events: u64,
    pub lost: u64,
    pub first: Option<Nanos>,
    pub last: Option<Nanos>,
    pub interfaces: Vec<InterfaceInfo>,
    pub names: std::borrow::Cow<'a, [Name]>,
}

/// Reads the index of a sealed segment from the file's tail; `None` for a segment that was never sealed and for any
/// other file.
pub fn index(path: &Path) -> Result<Option<SegmentIndex>, ReadError> {
    let file = File::open(path)?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    read_index(&file, name)
}

/// The names that stand in a file before its first packet.
pub fn head_names(path: &Path) -> Result<Vec<Name>, ReadError> {
    let mut reader = open(path)?;
    reader.head_only = true;
    let mut chunk = Chunk::default();
    while reader.next_chunk(&mut chunk)? {
        if !chunk.packets.is_empty() {
            break;
        }
    }
    Ok(reader.names())
}

pub(super) fn read_index(file: &File, name: String) -> Result<Option<SegmentIndex>, ReadError> {
    let bytes = file.metadata()?.len();
    let Some(tail) = bytes.checked_sub(4) else {
        return Ok(None);
    };
    let mut length = [0; 4];
    file.read_exact_at(&mut length, tail)?;
    let length = u32::from_le_bytes(length) as usize;
    if !(FRAME..=MAX_BLOCK).contains(&length) {
        return Ok(None);
    }
    let Some(start) = bytes.checked_sub(length as u64) else {
        return Ok(None);
    };
    let mut last = vec![0; length];
    file.read_exact_at(&mut last, start)?;
    Ok(parse(&last, start).map(|record| SegmentIndex {
        info: SegmentInfo {
            name,
            bytes,
            packets: record.packets,
            events: record.events,
            lost: record.lost,
            first: record.first,
            last: record.last,
            sealed: true,
        },
        interfaces: record.interfaces,
        names: record.names.into_owned(),
    }))
}

/// The index in a block that stands at `start`, if it is one and covers all that is before it.
fn parse(last: &[u8], start: u64) -> Option<IndexRecord<'static>> {
    let [kind, length] = *last.first_chunk::<8>()?.as_chunks::<4>().0 else {
        return None;
    };
    if u32::from_le_bytes(kind) != block::CUSTOM || u32::from_le_bytes(length) as usize != last.len() {
        return None;
    }
    let (tag::INDEX, json) = decode::ours(last, Order::Little)? else {
        return None;
    };
    serde_json::from_slice::<IndexRecord<'static>>(json)
        .ok()
        .filter(|record| record.bytes == start)
}
