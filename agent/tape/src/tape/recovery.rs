//! What an earlier run has left in the tape's folder.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::compress::UNFINISHED;
use super::ring::SegmentName;
use super::sealed::{COMPRESSED, Shelved};
use super::{TapeCounters, TapeError, TapeOptions, disk};
use crate::format::{encode, tag};
use crate::names::{NAMES_BYTES, Names};
use crate::read::IndexRecord;
use crate::{Chunk, ReadError, SegmentIndex, SegmentInfo, index, open};

/// The tape as it was found.
pub(super) struct Recovered {
    /// Oldest first; all sealed.
    pub segments: Vec<Shelved>,
    /// Of all segments. None of them holds any more: whoever wrote them is gone.
    pub names: Names,
    pub counters: TapeCounters,
}

/// Lists the segments by their index; those without one are cut back to their last whole block and sealed.
pub(super) fn recover(options: &TapeOptions) -> Result<Recovered, TapeError> {
    let names = Names::with_room(names_room(options.segment_bytes));
    let mut found = Recovered {
        segments: Vec::new(),
        names,
        counters: TapeCounters::default(),
    };
    for (name, compressed) in segment_names(&options.dir)? {
        let suffix = if compressed { COMPRESSED } else { "" };
        let path = options.dir.join(format!("{name}{suffix}"));
        let stored = || fs::metadata(&path).map_or(0, |file| file.len());
        let outcome = if compressed {
            index(&path).map(|index| index.map(|index| (index, false)))
        } else {
            recover_segment(&path)
        };
        match outcome {
            Ok(Some((index, sealed_now))) => {
                let last = index.info.last;
                index.names.into_iter().for_each(|name| {
                    found.names.insert(name);
                });
                // Known to have held as long as there were packets.
                last.into_iter()
                    .for_each(|last| found.names.end_all(last.saturating_add(1)));
                found.segments.push(Shelved {
                    stored: stored(),
                    info: index.info,
                    compressed,
                });
                found.counters.recovered += u64::from(sealed_now);
            }
            Ok(None) if !compressed => {}
            Ok(None) | Err(_) => {
                // It stays on the ring, without times, until it is the oldest.
                let info = SegmentInfo {
                    name,
                    bytes: stored(),
                    sealed: true,
                    ..SegmentInfo::default()
                };
                found.segments.push(Shelved {
                    stored: info.bytes,
                    info,
                    compressed,
                });
                found.counters.unreadable += 1;
            }
        }
    }
    Ok(found)
}

/// The part of a segment that the names at its head may take: a quarter, or the segment would hold little else.
fn names_room(segment_bytes: u64) -> usize {
    usize::try_from(segment_bytes / 4).map_or(NAMES_BYTES, |room| room.min(NAMES_BYTES))
}

/// Names of the segments in order of time, and whether they are compressed. Other files are left alone. Where a
/// killed run left a segment in both forms, or a form half made, the plain one stands.
fn segment_names(dir: &Path) -> Result<Vec<(String, bool)>, TapeError> {
    let failed = |error| TapeError::io("list", dir, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let Ok(file) = entry.map_err(failed)?.file_name().into_string() else {
            continue;
        };
        let unfinished = file.strip_suffix(UNFINISHED);
        let whole = unfinished.unwrap_or(&file);
        let name = whole.strip_suffix(COMPRESSED).unwrap_or(whole);
        if SegmentName::parse(name).is_none() {
            continue;
        }
        let compressed = name != whole;
        if unfinished.is_some() || (compressed && dir.join(name).exists()) {
            disk::remove(&dir.join(&file))
                .map_err(|error| TapeError::io("remove a half compressed segment from", dir, error))?;
        } else {
            names.push((name.to_owned(), compressed));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The segment's index, and whether it had to be written now. `None` for a file in which nothing was recorded; it is
/// removed.
pub(super) fn recover_segment(path: &Path) -> Result<Option<(SegmentIndex, bool)>, ReadError> {
    if let Some(index) = index(path)? {
        return Ok(Some((index, false)));
    }
    let mut reader = match open(path) {
        Ok(reader) => reader,
        Err(ReadError::NotACapture { .. }) => {
            disk::remove(path)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut chunk = Chunk::default();
    let mut names = Names::default();
    let (mut first, mut last) = (None, None);
    while reader.next_chunk(&mut chunk)? {
        let times = || {
            let events = chunk.events.iter().map(|event| event.at);
            chunk.packets.iter().map(|packet| packet.ts).chain(events)
        };
        first = first.into_iter().chain(times()).min();
        last = last.into_iter().chain(times()).max();
        reader.names().into_iter().for_each(|name| {
            names.insert(name);
        });
    }
    let (packets, events) = (reader.counters().packets, reader.counters().events);
    let lost = reader.losses();
    if packets == 0 && events == 0 && lost == 0 {
        disk::remove(path)?;
        return Ok(None);
    }
    let names: Vec<_> = names.iter().cloned().collect();
    let interfaces = reader.interfaces().to_vec();
    let bytes = reader.read_to();
    let record = IndexRecord {
        bytes,
        packets,
        events,
        lost,
        first,
        last,
        interfaces,
        names: names.into(),
        // Their times died with the agent.
        losses: Vec::new(),
    };
    // On a full disk there is no room for the index: the segment is on the ring nevertheless, and sealed by a later
    // start.
    let sealed = seal(path, bytes, &record).is_ok();
    if !sealed {
        disk::cut_back(&OpenOptions::new().write(true).open(path)?, bytes)?;
    }
    let bytes = fs::metadata(path)?.len();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let info = SegmentInfo {
        name,
        bytes,
        packets,
        events,
        lost,
        first,
        last,
        sealed: true,
        losses: Vec::new(),
    };
    let index = SegmentIndex {
        info,
        interfaces: record.interfaces,
        names: record.names.into_owned(),
    };
    Ok(Some((index, sealed)))
}

/// Cuts the file back to `bytes` and puts the index behind them.
fn seal(path: &Path, bytes: u64, record: &IndexRecord<'_>) -> io::Result<()> {
    let mut block = Vec::new();
    encode::json_block(&mut block, tag::INDEX, record)?;
    let mut file = OpenOptions::new().append(true).open(path)?;
    disk::cut_back(&file, bytes)?;
    let mut rest = block.as_slice();
    while !rest.is_empty() {
        let written = disk::append(&mut file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}
