//! What a sealed segment says of itself in its last block, found from the file's end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::decode::{self, FRAME};
use super::layout::{InterfaceInfo, Order};
use super::{Chunk, ReadError, open};
use crate::format::{MAX_BLOCK, block, tag};
use crate::{Loss, Name, Nanos, SegmentInfo};

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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
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

/// What begins the skippable frame (RFC 8878, section 3.1.2) behind a compressed segment in which its index stands once
/// more. Its length follows, little-endian, in four bytes.
pub(crate) const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

pub(super) fn read_index(file: &File, name: String) -> Result<Option<SegmentIndex>, ReadError> {
    let Some(last) = last_block(file)? else {
        return Ok(None);
    };
    let Some(record) = parse(&last.block) else {
        return Ok(None);
    };
    let plain = record.bytes == last.start;
    if !plain && !is_skippable(file, &last)? {
        return Ok(None);
    }
    let name = match name.strip_suffix(".zst") {
        Some(name) if !plain => name.to_owned(),
        _ => name,
    };
    Ok(Some(SegmentIndex {
        info: SegmentInfo {
            name,
            bytes: record.bytes + last.block.len() as u64,
            packets: record.packets,
            events: record.events,
            lost: record.lost,
            first: record.first,
            last: record.last,
            sealed: true,
            losses: record.losses,
        },
        interfaces: record.interfaces,
        names: record.names.into_owned(),
    }))
}

/// The whole block of a plain segment's index.
pub(crate) fn index_block(file: &File) -> io::Result<Option<Vec<u8>>> {
    let last = last_block(file)?;
    let whole = |last: &LastBlock| parse(&last.block).is_some_and(|record| record.bytes == last.start);
    Ok(last.filter(whole).map(|last| last.block))
}

/// The last bytes of a file, as many as they themselves say.
struct LastBlock {
    start: u64,
    block: Vec<u8>,
}

fn last_block(file: &File) -> io::Result<Option<LastBlock>> {
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
    let mut block = vec![0; length];
    file.read_exact_at(&mut block, start)?;
    Ok(Some(LastBlock { start, block }))
}

/// Whether the block is all that is in a skippable frame.
fn is_skippable(file: &File, last: &LastBlock) -> io::Result<bool> {
    let Some(start) = last.start.checked_sub(8) else {
        return Ok(false);
    };
    let mut head = [0; 8];
    file.read_exact_at(&mut head, start)?;
    let [magic, length] = head.as_chunks::<4>().0 else {
        return Ok(false);
    };
    Ok(*magic == SKIPPABLE && u32::from_le_bytes(*length) as usize == last.block.len())
}

/// The index in a block, if it is one.
fn parse(last: &[u8]) -> Option<IndexRecord<'static>> {
    let [kind, length] = *last.first_chunk::<8>()?.as_chunks::<4>().0 else {
        return None;
    };
    if u32::from_le_bytes(kind) != block::CUSTOM || u32::from_le_bytes(length) as usize != last.len() {
        return None;
    }
    let (tag::INDEX, json) = decode::ours(last, Order::Little)? else {
        return None;
    };
    serde_json::from_slice(json).ok()
}
