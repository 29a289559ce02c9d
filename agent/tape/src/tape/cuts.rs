//! Cuts: segments held by hard links, so that the ring cannot take them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use serde::{Deserialize, Serialize};

use super::sealed::COMPRESSED;
use super::{TapeError, disk};
use crate::read::Input;
use crate::{Cut, Nanos};

/// How long a cut is held that nobody releases: whoever asked for it has died, and the disk is not theirs.
pub const CUT_LIFETIME: Nanos = 3_600_000_000_000;

/// Most cuts held at once. Each costs disk; a caller that makes more has a bug.
pub const MAX_CUTS: usize = 256;

/// Longest id of a cut.
const MAX_ID: usize = 128;

/// Folder of the cuts in the tape's folder: links need the same file system.
const FOLDER: &str = "cuts";

/// In a cut's folder, beside the links.
const MANIFEST: &str = "manifest.json";

/// Folder of a cut that is being made. No id begins with a dot.
const UNFINISHED: &str = ".unfinished";

/// Why there is no such cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Not one of ours.
    #[error("bad id of a cut {id:?}: use 1 to {MAX_ID} of A-Z a-z 0-9 . _ - and begin with no dot")]
    BadId {
        /// As given.
        id: String,
    },
    /// Ends before it begins.
    #[error("the window is empty: its end {end} is not after its start {start}")]
    EmptyWindow {
        /// As asked for.
        start: Nanos,
        /// As asked for.
        end: Nanos,
    },
    /// Nothing was recorded then, or no longer is there.
    #[error("the window is outside the tape, which {}", reach(oldest, newest))]
    OutsideTape {
        /// Oldest packet on the tape.
        oldest: Option<Nanos>,
        /// Newest packet on the tape.
        newest: Option<Nanos>,
    },
    /// Never made, released or expired.
    #[error("there is no cut {id:?}: it was never made, or released, or is older than an hour")]
    Unknown {
        /// As asked for.
        id: String,
    },
    /// The cut has no such segment, or no longer.
    #[error(
        "cut {id:?} holds no segment {segment:?}: its manifest does not list it, or its room was needed for what is recorded since"
    )]
    UnknownSegment {
        /// The cut.
        id: String,
        /// As asked for.
        segment: String,
    },
    /// Too many are held.
    #[error("{MAX_CUTS} cuts are held already: release those that are collected")]
    TooMany,
    /// The disk failed.
    #[error("cannot {doing} cut {id:?}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The cut.
        id: String,
        /// Why not.
        source: io::Error,
    },
}

fn reach(oldest: &Option<Nanos>, newest: &Option<Nanos>) -> String {
    match (oldest, newest) {
        (Some(oldest), Some(newest)) => format!("reaches from {oldest} to {newest} (ns since 1970)"),
        _ => "is empty".to_owned(),
    }
}

/// The cuts of one tape. The folders are the truth; the table spares reading them.
pub(super) struct Cuts {
    /// The tape's folder.
    tape: PathBuf,
    dir: PathBuf,
    held: Mutex<Table>,
}

/// Cuts by id, and what has been done with them.
#[derive(Default)]
pub(super) struct Table {
    cuts: BTreeMap<String, Held>,
    pub expired: u64,
}

/// A cut as its manifest keeps it.
#[derive(Serialize, Deserialize)]
struct Held {
    made: Nanos,
    cut: Cut,
    /// Segments that have given way since. The folder tells it, not the manifest.
    #[serde(skip)]
    gone: BTreeSet<String>,
}

impl Held {
    fn segments(&self) -> impl Iterator<Item = &str> {
        let all = self.cut.segments.iter().map(|info| info.name.as_str());
        all.filter(|name| !self.gone.contains(*name))
    }

    /// Whether nothing is left of what it held.
    fn is_spent(&self) -> bool {
        !self.gone.is_empty() && self.gone.len() == self.cut.segments.len()
    }
}

impl Cuts {
    /// Lists the cuts that earlier runs have made; removes those that were not finished.
    pub fn open(tape: &Path) -> Result<Self, TapeError> {
        let dir = tape.join(FOLDER);
        let failed = |doing| move |path: &Path, error| TapeError::io(doing, path, error);
        disk::make_folder(&dir).map_err(|error| failed("make")(&dir, error))?;
        let mut table = Table::default();
        for entry in fs::read_dir(&dir).map_err(|error| failed("list")(&dir, error))? {
            let path = entry.map_err(|error| failed("list")(&dir, error))?.path();
            match read_manifest(&path).filter(|held| !held.is_spent()) {
                Some(held) => drop(table.cuts.insert(held.cut.id.clone(), held)),
                None => disk::remove_folder(&path)
                    .map_err(|error| failed("remove unfinished cut")(&path, error))?,
            }
        }
        Ok(Self {
            tape: tape.to_owned(),
            dir,
            held: Mutex::new(table),
        })
    }

    /// The table, locked. Held while a cut is made, so that an id is made once.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, if nobody is at it. For whoever has the ring locked: the table comes before the ring, so it must not be
    /// waited for then.
    pub fn try_table(&self) -> Option<MutexGuard<'_, Table>> {
        match self.held.try_lock() {
            Ok(table) => Some(table),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Links the segments of `cut` and keeps it. Segments that the ring has dropped meanwhile are taken off it.
    pub fn make(&self, table: &mut Table, mut cut: Cut, now: Nanos) -> Result<Cut, CutError> {
        if table.cuts.len() >= MAX_CUTS {
            return Err(CutError::TooMany);
        }
        let id = cut.id.clone();
        let unfinished = self.dir.join(UNFINISHED);
        self.link(&unfinished, &mut cut).map_err(|source| {
            // What is left of it goes with the next attempt.
            let _ = disk::remove_folder(&unfinished);
            CutError::Io {
                doing: "make",
                id: id.clone(),
                source,
            }
        })?;
        let held = Held {
            made: now,
            cut: cut.clone(),
            gone: BTreeSet::new(),
        };
        let finish = || -> io::Result<()> {
            disk::write(&unfinished.join(MANIFEST), &serde_json::to_vec_pretty(&held)?)?;
            disk::rename(&unfinished, &self.dir.join(&id))
        };
        finish().map_err(|source| CutError::Io {
            doing: "keep",
            id: id.clone(),
            source,
        })?;
        table.cuts.insert(id, held);
        Ok(cut)
    }

    fn link(&self, into: &Path, cut: &mut Cut) -> io::Result<()> {
        if into.exists() {
            disk::remove_folder(into)?;
        }
        disk::make_folder(into)?;
        let mut failure = None;
        cut.segments
            .retain(|info| match self.link_segment(&info.name, into) {
                Ok(()) => true,
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        failure.get_or_insert(error);
                    }
                    false
                }
            });
        failure.map_or(Ok(()), Err)
    }

    /// As it lies there: it may just have been compressed.
    fn link_segment(&self, name: &str, into: &Path) -> io::Result<()> {
        let link = |file: &str| disk::link(&self.tape.join(file), &into.join(file));
        match link(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => link(&format!("{name}{COMPRESSED}")),
            outcome => outcome,
        }
    }

    /// Opens a segment of a cut at `from`; with it, how many bytes in all belong to the cut.
    pub fn segment(&self, id: &str, segment: &str, from: u64) -> Result<(CutReader, u64), CutError> {
        let cut = self.table().get(id)?;
        let unknown = || CutError::UnknownSegment {
            id: id.to_owned(),
            segment: segment.to_owned(),
        };
        let info = cut
            .segments
            .iter()
            .find(|info| info.name == segment)
            .ok_or_else(unknown)?;
        let path = self.dir.join(&cut.id).join(&info.name);
        match open_at(&path, from, info.bytes) {
            Ok(reader) => Ok((reader, info.bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
            Err(source) => Err(CutError::Io {
                doing: "read",
                id: id.to_owned(),
                source,
            }),
        }
    }

    /// Removes those that nobody released in time; says how many.
    pub fn expire(&self, table: &mut Table, now: Nanos) -> usize {
        let old = |held: &Held| now.saturating_sub(held.made) > CUT_LIFETIME;
        let expired: Vec<String> = table
            .cuts
            .iter()
            .filter(|(_, held)| old(held))
            .map(|(id, _)| id.clone())
            .collect();
        // One that cannot be removed stays in the table and is tried again.
        let removed = expired.iter().filter(|id| self.remove(table, id).is_ok()).count();
        table.expired += removed as u64;
        removed
    }

    /// Names of the segments held that are not `on_ring`, each once, and their bytes on disk.
    pub fn beside(&self, on_ring: &BTreeSet<&str>) -> BTreeMap<String, u64> {
        let table = self.table();
        let mut beside = BTreeMap::new();
        for (id, held) in &table.cuts {
            for name in held.segments().filter(|name| !on_ring.contains(name)) {
                let path = self.dir.join(id).join(name);
                let file = fs::metadata(&path).or_else(|_| fs::metadata(compressed(&path)));
                beside.insert(name.to_owned(), file.map_or(0, |file| file.len()));
            }
        }
        beside
    }

    /// Takes a segment from every cut that holds it, because its room is needed. A cut is counted with the first that it
    /// loses, and released with the last.
    pub fn give_way(&self, table: &mut Table, segment: &str) -> io::Result<()> {
        let mut spent = Vec::new();
        let Table { cuts, expired } = table;
        for (id, held) in cuts
            .iter_mut()
            .filter(|(_, held)| held.segments().any(|held| held == segment))
        {
            let path = self.dir.join(id).join(segment);
            for file in [&path, &compressed(&path)] {
                match disk::remove(file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            *expired += u64::from(held.gone.is_empty());
            held.gone.insert(segment.to_owned());
            if held.is_spent() {
                spent.push(id.clone());
            }
        }
        for id in spent {
            // One that cannot be removed holds no bytes, and goes when its time is up.
            let _ = self.remove(table, &id);
        }
        Ok(())
    }

    pub fn remove(&self, table: &mut Table, id: &str) -> Result<(), CutError> {
        // A cut is whole or not there: killed while its files go, it must not be found again without some of them.
        let going = self.dir.join(UNFINISHED);
        let moved = match disk::remove_folder(&going) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk::rename(&self.dir.join(id), &going),
        };
        match moved {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CutError::Io {
                doing: "release",
                id: id.to_owned(),
                source,
            }),
            _ => {
                table.cuts.remove(id);
                // What is left of it goes with the next cut, or the next start.
                let _ = disk::remove_folder(&going);
                Ok(())
            }
        }
    }
}

impl Table {
    pub fn get(&self, id: &str) -> Result<Cut, CutError> {
        check_id(id)?;
        match self.cuts.get(id) {
            Some(held) => Ok(held.cut.clone()),
            None => Err(CutError::Unknown { id: id.to_owned() }),
        }
    }

    pub fn len(&self) -> usize {
        self.cuts.len()
    }

    /// Names of all segments held, each once.
    pub fn segments(&self) -> BTreeSet<&str> {
        self.cuts.values().flat_map(Held::segments).collect()
    }
}

/// An id names a folder and stands in URLs, so only plain characters are let in.
pub(super) fn check_id(id: &str) -> Result<(), CutError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = (1..=MAX_ID).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(plain);
    if good {
        Ok(())
    } else {
        Err(CutError::BadId {
            id: id.chars().take(MAX_ID).collect(),
        })
    }
}

/// The bytes of a segment that a cut holds, uncompressed on the way. Blocking.
pub struct CutReader(Take<Input<File>>);

impl Read for CutReader {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.read(space)
    }
}

fn open_at(path: &Path, from: u64, bytes: u64) -> io::Result<CutReader> {
    let left = bytes.saturating_sub(from);
    let input = match File::open(path) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(from))?;
            Input::plain(file)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut input = Input::new(File::open(compressed(path))?)?;
            // Streams that are taken up again are rare, and this is quicker than the network.
            io::copy(&mut input.by_ref().take(from), &mut io::sink())?;
            input
        }
        Err(error) => return Err(error),
    };
    Ok(CutReader(input.take(left)))
}

/// The file of a segment, when it is compressed.
fn compressed(path: &Path) -> PathBuf {
    let mut packed = path.as_os_str().to_owned();
    packed.push(COMPRESSED);
    packed.into()
}

/// The manifest in a cut's folder, if the folder is one, and which of its segments are not there any more.
fn read_manifest(path: &Path) -> Option<Held> {
    let mut held: Held = serde_json::from_slice(&fs::read(path.join(MANIFEST)).ok()?).ok()?;
    let names = held.cut.segments.iter().map(|info| &info.name);
    let gone = names.filter(|name| {
        let file = path.join(name);
        !file.exists() && !compressed(&file).exists()
    });
    held.gone = gone.cloned().collect();
    (path.file_name()?.to_str()? == held.cut.id).then_some(held)
}
