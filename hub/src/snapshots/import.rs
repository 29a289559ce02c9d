//! A snapshot out of capture files: copied in, inflated, read through once, published like any other.
//!
//! Works on the data folder alone. A hub that runs on it finds the new snapshot by the next list, or by the next
//! question for its name.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use wiretape_tape::{Chunk, Name, Nanos, ReadError, SegmentInfo};

use super::name::{self, BadName};
use super::recover::{IMPORT_LOCK, IMPORTING};
use super::{DiskError, Manifest, NodePart, Origin, PartStatus, SEGMENTS, SNAPSHOTS, Status};
use super::{disk, manifest, sync_folder};
use crate::calls::NodeName;

/// Copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Bytes between two looks at the free room: a gzipped file may be a thousand times its size.
const LOOK_EVERY: u64 = 64 << 20;
/// First bytes of a gzipped file (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Most names that are kept of the files; a tape of one node keeps far fewer.
const MAX_NAMES: usize = 100_000;

/// What to bring in.
#[derive(Clone, Debug)]
pub struct Import {
    /// The hub's data folder.
    pub data: PathBuf,
    /// Name of the snapshot.
    pub name: String,
    /// Captures: pcapng or pcap, gzipped or not.
    pub files: Vec<PathBuf>,
}

/// Why nothing was brought in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The name is no name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Another snapshot has it.
    #[error("there is already a snapshot named `{0}` in the data folder; choose another --name")]
    Taken(String),
    /// No file was given.
    #[error("give at least one capture file")]
    NoFiles,
    /// A file is no capture.
    #[error("{}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: ReadError,
    },
    /// No packet is in any of them.
    #[error("there is no packet in the given files, so there is nothing to make a snapshot of")]
    Empty,
    /// No room for it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Makes a snapshot of capture files. Blocks until it is published; on an error nothing is left behind.
///
/// Files of our agents go to their node; any other file is a node by itself, called after the file.
pub fn import(import: &Import, now: Nanos) -> Result<Manifest, ImportError> {
    name::check(&import.name)?;
    if import.files.is_empty() {
        return Err(ImportError::NoFiles);
    }
    let root = import.data.join(SNAPSHOTS);
    std::fs::create_dir_all(&root).map_err(|source| ImportError::Io {
        path: root.clone(),
        source,
    })?;
    if is_taken(&root, &import.name) {
        return Err(ImportError::Taken(import.name.clone()));
    }
    let id = uuid::Uuid::new_v4().to_string();
    let folder = root.join(format!("{IMPORTING}{id}"));
    let filled = fill(import, &folder, &id, now).and_then(|manifest| {
        let publish = || {
            std::fs::remove_file(folder.join(IMPORT_LOCK))?;
            std::fs::rename(&folder, root.join(&id))?;
            sync_folder(&root)
        };
        publish().map_err(|source| ImportError::Io {
            path: folder.clone(),
            source,
        })?;
        Ok(manifest)
    });
    if filled.is_err() {
        // The reason that is told is the one for which the import ends; a leftover is removed by the hub's next start.
        let _ = std::fs::remove_dir_all(&folder);
    }
    filled
}

/// Looks into the folders themselves: the catalogue belongs to a hub that may be running.
fn is_taken(root: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(root) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| Manifest::read(&entry.path()).ok())
        .any(|manifest| manifest.name == name)
}

fn fill(import: &Import, folder: &Path, id: &str, now: Nanos) -> Result<Manifest, ImportError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Io { path, source }
    };
    std::fs::create_dir_all(folder.join(SEGMENTS)).map_err(wrong(folder))?;
    let lock = File::create(folder.join(IMPORT_LOCK)).map_err(wrong(folder))?;
    lock.lock().map_err(wrong(folder))?;

    let mut nodes: Vec<NodePart> = Vec::new();
    let mut names: Vec<NodeName> = Vec::new();
    let mut problems = Vec::new();
    for (ordinal, file) in import.files.iter().enumerate() {
        let arrived = folder.join(SEGMENTS).join(format!(".{ordinal}"));
        copy(file, &arrived)?;
        let read = read_through(file, &arrived)?;
        problems.extend(read.problem);
        let part = place(&mut nodes, file, read.node.as_deref());
        let place = folder.join(SEGMENTS).join(&part.folder);
        std::fs::create_dir_all(&place).map_err(wrong(&place))?;
        let mut segment = read.segment;
        segment.name = format!("{ordinal:06}.{}", read.ending);
        std::fs::rename(&arrived, place.join(&segment.name)).map_err(wrong(&arrived))?;
        let room = MAX_NAMES.saturating_sub(names.len());
        names.extend(read.names.into_iter().take(room).map(|name| NodeName {
            node: part.name.clone(),
            name,
        }));
        part.segments.push(segment);
    }
    for part in &mut nodes {
        part.segments.sort_by_key(|segment| segment.first);
    }
    let first = nodes
        .iter()
        .filter_map(NodePart::first)
        .min()
        .ok_or(ImportError::Empty)?;
    let last = nodes
        .iter()
        .filter_map(NodePart::last)
        .max()
        .ok_or(ImportError::Empty)?;
    let manifest = Manifest {
        version: manifest::VERSION,
        id: id.to_owned(),
        name: import.name.clone(),
        origin: Origin::Import,
        created_at: now,
        start: first,
        end: last.saturating_add(1),
        status: Status::Completed,
        reason: None,
        problems,
        nodes,
        all_nodes: false,
        workload_filter: None,
        cluster: None,
        names,
    };
    manifest.write(folder).map_err(wrong(folder))?;
    Ok(manifest)
}

/// The part that a file belongs to.
fn place<'a>(nodes: &'a mut Vec<NodePart>, file: &Path, node: Option<&str>) -> &'a mut NodePart {
    let known = nodes.iter().position(|part| node == Some(part.name.as_str()));
    let index = known.unwrap_or_else(|| {
        let name = node.map_or_else(|| stem(file), str::to_owned);
        let folder = name::folder(&name, |folder| nodes.iter().any(|part| part.folder == folder));
        // Two foreign files of one stem are two nodes, and are told apart like their folders.
        let name = if nodes.iter().any(|part| part.name == name) {
            folder.clone()
        } else {
            name
        };
        nodes.push(NodePart {
            name,
            url: String::new(),
            folder,
            status: PartStatus::Completed,
            error: None,
            left_out: None,
            cut: false,
            segments: Vec::new(),
        });
        nodes.len() - 1
    });
    &mut nodes[index]
}

/// `capture` of `/tmp/capture.pcap.gz`.
fn stem(file: &Path) -> String {
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut stem = name.as_str();
    for ending in [".gz", ".pcapng", ".pcap", ".cap"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    if stem.is_empty() { name } else { stem.to_owned() }
}

fn copy(from: &Path, to: &Path) -> Result<(), ImportError> {
    let reading = |source| ImportError::Io {
        path: from.to_owned(),
        source,
    };
    let writing = |source| ImportError::Io {
        path: to.to_owned(),
        source,
    };
    let mut source = BufReader::with_capacity(COPY_BYTES, File::open(from).map_err(reading)?);
    let packed = io::BufRead::fill_buf(&mut source)
        .map_err(reading)?
        .starts_with(&GZIP);
    let mut source: Box<dyn Read> = if packed {
        Box::new(MultiGzDecoder::new(source))
    } else {
        Box::new(source)
    };
    let mut target = File::create(to).map_err(writing)?;
    let mut buffer = vec![0; COPY_BYTES];
    let (mut copied, mut looked) = (0, None);
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A gzipped file that is cut off: what came out of it so far can be read.
            Err(_) if packed && copied > 0 => break,
            Err(error) => return Err(reading(error)),
        };
        if looked.is_none_or(|looked| copied - looked >= LOOK_EVERY) {
            disk::check(to, LOOK_EVERY)?;
            looked = Some(copied);
        }
        target
            .write_all(buffer.get(..read).unwrap_or_default())
            .map_err(writing)?;
        copied += read as u64;
    }
    target.sync_data().map_err(writing)
}

/// What one pass over a file tells.
struct Contents {
    segment: SegmentInfo,
    node: Option<String>,
    names: Vec<Name>,
    ending: &'static str,
    problem: Option<String>,
}

fn read_through(file: &Path, copy: &Path) -> Result<Contents, ImportError> {
    let unreadable = |source| ImportError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let mut reader = wiretape_tape::open(copy).map_err(unreadable)?;
    let mut chunk = Chunk::default();
    let (mut first, mut last): (Option<Nanos>, Option<Nanos>) = (None, None);
    let mut problem = None;
    loop {
        match reader.next_chunk(&mut chunk) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                problem = Some(format!("{}: {error}", file.display()));
                break;
            }
        }
        let events = chunk.events.iter().map(|event| event.at);
        for ts in chunk.packets.iter().map(|packet| packet.ts).chain(events) {
            first = Some(first.map_or(ts, |first| first.min(ts)));
            last = Some(last.map_or(ts, |last| last.max(ts)));
        }
    }
    let counters = reader.counters();
    if counters.unread_bytes > 0 && problem.is_none() {
        let why = reader
            .damage()
            .map_or("it ends inside of a block", |damage| damage.reason.as_str());
        let lost = counters.unread_bytes;
        problem = Some(format!(
            "{}: {why}; {lost} bytes at its end could not be read",
            file.display()
        ));
    }
    // Of our own segments; one that cannot be read has been told of above.
    let told = wiretape_tape::index(copy).ok().flatten();
    let segment = SegmentInfo {
        name: String::new(),
        bytes: std::fs::metadata(copy).map_or(0, |metadata| metadata.len()),
        packets: counters.packets,
        events: counters.events,
        lost: reader.losses(),
        first,
        last,
        sealed: true,
        losses: told.map(|told| told.info.losses).unwrap_or_default(),
    };
    let ending = if is_pcapng(copy) { "pcapng" } else { "pcap" };
    Ok(Contents {
        segment,
        node: reader.node().map(str::to_owned),
        names: reader.names(),
        ending,
        problem,
    })
}

/// A Section Header Block comes first (draft-ietf-opsawg-pcapng, section 4.1).
fn is_pcapng(path: &Path) -> bool {
    let mut first = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut first))
        .is_ok()
        && first == [0x0a, 0x0d, 0x0d, 0x0a]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_of_captures() {
        for (file, expected) in [
            ("/x/a.pcap.gz", "a"),
            ("b.pcapng", "b"),
            ("c", "c"),
            ("d.cap", "d"),
            (".pcap", ".pcap"),
            ("e.log", "e.log"),
        ] {
            assert_eq!(stem(Path::new(file)), expected);
        }
    }
}
