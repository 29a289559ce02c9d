//! Ordered maps of bytes, in sled; the only code that knows it.

use std::collections::BTreeMap;
use std::io;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::catalogue::last_words;

/// Folder of the store below the data folder.
const FOLDER: &str = "catalogue";
/// Changes when entries change their form; another one on disk is thrown away.
const FORM: &[u8] = b"2";
/// Keys per leaf. Fixed for a store's life; small, since a catalogue holds hundreds of entries and not millions.
const LEAF: usize = 128;
/// Enough for tens of thousands of entries; sled's own default is 512 MiB.
const CACHE_BYTES: usize = 16 << 20;

type Db = sled::Db<LEAF>;

/// The open store. Its maps hold nothing that the folders do not.
pub(super) struct Store {
    /// `None`: the disk does not take it (full, read-only), and the maps live in memory until the next start.
    db: Option<Db>,
}

/// One ordered map.
pub(super) enum Map {
    Kept(Box<sled::Tree<LEAF>>),
    Memory(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>),
}

impl Store {
    /// Opens what is there; starts afresh where that is damaged or of another form.
    pub(super) fn open(data: &Path) -> Self {
        let folder = data.join(FOLDER);
        match open(&folder) {
            Ok(db) => Self { db: Some(db) },
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the catalogue cannot be opened; building it again from the folders"
                );
                Self::afresh(data)
            }
        }
    }

    /// Throws away what is there.
    pub(super) fn afresh(data: &Path) -> Self {
        let folder = data.join(FOLDER);
        let cleared = match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        };
        match cleared.and_then(|()| open(&folder)) {
            Ok(db) => Self { db: Some(db) },
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the catalogue cannot be kept on disk; it lives in memory for now"
                );
                Self { db: None }
            }
        }
    }

    /// The map of that name.
    pub(super) fn map(&self, name: &str) -> Map {
        match self.db.as_ref().map(|db| db.open_tree(name)) {
            Some(Ok(tree)) => Map::Kept(Box::new(tree)),
            Some(Err(error)) => {
                tracing::error!(%error, name, "a part of the catalogue cannot be kept on disk");
                Map::Memory(Mutex::default())
            }
            None => Map::Memory(Mutex::default()),
        }
    }

    /// Makes changes durable. What is lost of them is read from the folders again.
    pub(super) fn flush(&self) -> io::Result<()> {
        match &self.db {
            Some(db) => db.flush().map(|_| ()),
            None => Ok(()),
        }
    }
}

fn open(folder: &Path) -> Result<Db, String> {
    // No flusher thread: sled's aborts the whole process when a write fails, and a full disk must not do that.
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity_bytes(CACHE_BYTES)
        .flush_every_ms(None);
    let opened = catch_unwind(|| -> io::Result<Db> {
        let db: Db = config.open()?;
        match db.insert(b"form", FORM)? {
            Some(form) if form.as_ref() != FORM => Err(io::Error::other("it has another form")),
            _ => Ok(db),
        }
    });
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(last_words(panic.as_ref())),
    }
}

impl Map {
    pub(super) fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Kept(tree) => Ok(tree.get(key)?.map(|value| value.to_vec())),
            Self::Memory(map) => Ok(lock(map).get(key.as_bytes()).cloned()),
        }
    }

    pub(super) fn insert(&self, key: &str, value: &[u8]) -> io::Result<()> {
        match self {
            Self::Kept(tree) => tree.insert(key, value).map(|_| ()),
            Self::Memory(map) => {
                lock(map).insert(key.as_bytes().to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        match self {
            Self::Kept(tree) => tree.remove(key).map(|_| ()),
            Self::Memory(map) => {
                lock(map).remove(key.as_bytes());
                Ok(())
            }
        }
    }

    /// All pairs whose key begins so, in order of keys.
    pub(super) fn beginning(&self, prefix: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        match self {
            Self::Kept(tree) => tree
                .scan_prefix(prefix)
                .map(|pair| pair.map(|(key, value)| (text(&key), value.to_vec())))
                .collect(),
            Self::Memory(map) => Ok(lock(map)
                .range(prefix.as_bytes().to_vec()..)
                .take_while(|(key, _)| key.starts_with(prefix.as_bytes()))
                .map(|(key, value)| (text(key), value.clone()))
                .collect()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
