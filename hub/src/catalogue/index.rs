//! The maps of the catalogue, and how they follow the folders.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::entries::{DissectionEntry, Found, SnapshotEntry, Stamp, id_of, incoming_folder};
use super::store::{Map, Store};
use crate::jobs::{RECORD, Record};
use crate::snapshots::{DISSECTIONS, MANIFEST, Manifest, SNAPSHOTS};

/// Fewest characters that stand for an id. Fewer would soon stand for many.
const MIN_PREFIX: usize = 4;

/// Snapshots by id, ids by name, dissections by `snapshot id/dissection name`.
pub(super) struct Index {
    store: Store,
    snapshots: Map,
    names: Map,
    dissections: Map,
    folder: PathBuf,
    changes: watch::Sender<u64>,
}

impl Index {
    /// Counts what it takes over from the folders in `changes`.
    pub(super) fn open(data: &Path, changes: watch::Sender<u64>) -> Self {
        Self::over(Store::open(data), data, changes)
    }

    /// Empty, to be filled from the folders.
    pub(super) fn rebuild(&self, data: &Path) -> Self {
        Self::over(Store::afresh(data), data, self.changes.clone())
    }

    fn over(store: Store, data: &Path, changes: watch::Sender<u64>) -> Self {
        Self {
            snapshots: store.map("snapshots"),
            names: store.map("names"),
            dissections: store.map("dissections"),
            store,
            folder: data.join(SNAPSHOTS),
            changes,
        }
    }

    /// Follows the folders: reads what is new or rewritten, forgets what is gone.
    pub(super) fn refresh(&self) -> io::Result<()> {
        let mut there = BTreeMap::new();
        for folder in folders(&self.folder)? {
            if let Some(id) = id_of(&folder).map(str::to_owned) {
                let both = there.insert(id.clone(), folder.clone());
                // A rename under our eyes shows both; the whole one counts.
                if both.is_some() {
                    there.insert(id.clone(), id);
                }
            }
        }
        let mut changed = false;
        for (id, _) in self.snapshots.beginning("")? {
            if !there.contains_key(&id) {
                changed |= self.forget(&id)?;
            }
        }
        for (id, folder) in &there {
            changed |= self.follow(id, folder)?;
        }
        self.settle(changed)
    }

    /// The same for one snapshot.
    pub(super) fn refresh_snapshot(&self, id: &str) -> io::Result<()> {
        let incoming = incoming_folder(id);
        let changed = if self.folder.join(id).is_dir() {
            self.follow(id, id)?
        } else if self.folder.join(&incoming).is_dir() {
            self.follow(id, &incoming)?
        } else {
            self.forget(id)?
        };
        self.settle(changed)
    }

    pub(super) fn snapshots(&self) -> io::Result<Vec<SnapshotEntry>> {
        let mut all: Vec<SnapshotEntry> = values(&self.snapshots, "")?;
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    pub(super) fn snapshot(&self, key: &str) -> io::Result<Found<SnapshotEntry>> {
        if let Some(entry) = value(&self.snapshots, key)? {
            return Ok(Found::One(entry));
        }
        // Two snapshots share a name only when another process put one of them into the folder; the older one keeps it.
        let mut named: Vec<SnapshotEntry> = Vec::new();
        for (name, _) in self.names.beginning(&name_key(key, ""))? {
            let id = name.rsplit('/').next().unwrap_or_default();
            named.extend(value(&self.snapshots, id)?);
        }
        if let Some(oldest) = named.into_iter().min_by_key(|entry| entry.created_at) {
            return Ok(Found::One(oldest));
        }
        if key.len() < MIN_PREFIX {
            return Ok(Found::None);
        }
        only(values(&self.snapshots, key)?, |entry| entry.id.clone())
    }

    pub(super) fn dissections(&self, snapshot: Option<&str>) -> io::Result<Vec<DissectionEntry>> {
        let prefix = snapshot.map(|id| format!("{id}/")).unwrap_or_default();
        let mut all: Vec<DissectionEntry> = values(&self.dissections, &prefix)?;
        all.sort_by(|a, b| {
            b.record
                .created_at
                .cmp(&a.record.created_at)
                .then_with(|| a.record.id.cmp(&b.record.id))
        });
        Ok(all)
    }

    pub(super) fn dissection(&self, snapshot: &str, key: &str) -> io::Result<Found<DissectionEntry>> {
        if let Some(entry) = value(&self.dissections, &format!("{snapshot}/{key}"))? {
            return Ok(Found::One(entry));
        }
        let all: Vec<DissectionEntry> = values(&self.dissections, &format!("{snapshot}/"))?;
        if key.len() < MIN_PREFIX {
            return Ok(Found::None);
        }
        let meant = all
            .into_iter()
            .filter(|entry| entry.record.id.starts_with(key))
            .collect();
        only(meant, |entry| entry.record.id.clone())
    }

    /// Takes over one snapshot's folder; tells whether anything was new.
    fn follow(&self, id: &str, folder: &str) -> io::Result<bool> {
        let path = self.folder.join(folder);
        let known: Option<SnapshotEntry> = value(&self.snapshots, id)?;
        let Some(stamp) = stamp(&path.join(MANIFEST))? else {
            // Not a snapshot, or not one yet.
            return self.forget(id);
        };
        let mut changed = false;
        if known
            .as_ref()
            .is_none_or(|known| known.stamp != stamp || known.folder != folder)
        {
            match Manifest::read(&path) {
                // A folder under another snapshot's id is a copy made by hand; it is not ours to guess about.
                Ok(manifest) if manifest.id == id => {
                    if let Some(known) = known.filter(|known| known.name != manifest.name) {
                        self.names.remove(&name_key(&known.name, id))?;
                    }
                    let entry = SnapshotEntry::new(&manifest, folder, stamp);
                    self.names.insert(&name_key(&manifest.name, id), b"")?;
                    self.snapshots.insert(id, &serde_json::to_vec(&entry)?)?;
                    changed = true;
                }
                Ok(manifest) => {
                    tracing::warn!(
                        folder,
                        id = manifest.id,
                        "a snapshot's folder has another id than its manifest"
                    );
                    return self.forget(id);
                }
                Err(error) => {
                    tracing::warn!(folder, %error, "a snapshot's manifest cannot be read");
                    return self.forget(id);
                }
            }
        }
        Ok(changed | self.follow_dissections(id, &path)?)
    }

    fn follow_dissections(&self, id: &str, path: &Path) -> io::Result<bool> {
        let Some(snapshot): Option<SnapshotEntry> = value(&self.snapshots, id)? else {
            return Ok(false);
        };
        let mut changed = false;
        let mut there = Vec::new();
        for folder in folders(&path.join(DISSECTIONS))? {
            // Half a removal.
            if folder.starts_with('.') {
                continue;
            }
            let path = path.join(DISSECTIONS).join(&folder);
            let Some(stamp) = stamp(&path.join(RECORD))? else {
                continue;
            };
            let key = format!("{id}/{folder}");
            let known: Option<DissectionEntry> = value(&self.dissections, &key)?;
            if known.is_none_or(|known| known.stamp != stamp || known.snapshot_name != snapshot.name) {
                let mut record = match Record::read(&path) {
                    Ok(record) => record,
                    Err(error) => {
                        tracing::warn!(folder, snapshot = id, %error, "a dissection's record cannot be read");
                        continue;
                    }
                };
                let files = record
                    .summary
                    .as_mut()
                    .map_or(0, |summary| std::mem::take(&mut summary.files).len());
                let snapshot_name = snapshot.name.clone();
                let entry = DissectionEntry {
                    record,
                    files,
                    snapshot: id.to_owned(),
                    snapshot_name,
                    stamp,
                };
                self.dissections.insert(&key, &serde_json::to_vec(&entry)?)?;
                changed = true;
            }
            there.push(key);
        }
        for (key, _) in self.dissections.beginning(&format!("{id}/"))? {
            if !there.contains(&key) {
                self.dissections.remove(&key)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    fn forget(&self, id: &str) -> io::Result<bool> {
        for (key, _) in self.dissections.beginning(&format!("{id}/"))? {
            self.dissections.remove(&key)?;
        }
        let known: Option<SnapshotEntry> = value(&self.snapshots, id)?;
        if let Some(known) = &known {
            self.names.remove(&name_key(&known.name, id))?;
            self.snapshots.remove(id)?;
        }
        Ok(known.is_some())
    }

    fn settle(&self, changed: bool) -> io::Result<()> {
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
        // A failed flush costs a rebuild at the next start, nothing else.
        if changed && let Err(error) = self.store.flush() {
            tracing::warn!(%error, "the catalogue is not on disk; it will be built again at the next start");
        }
        Ok(())
    }
}

/// Names hold no `/`, so this key begins with one name only.
fn name_key(name: &str, id: &str) -> String {
    format!("{name}/{id}")
}

fn only<T>(mut meant: Vec<T>, id: impl Fn(&T) -> String) -> io::Result<Found<T>> {
    Ok(match meant.len() {
        0 | 1 => meant.pop().map_or(Found::None, Found::One),
        _ => Found::Many(meant.iter().map(id).collect()),
    })
}

fn value<T: DeserializeOwned>(map: &Map, key: &str) -> io::Result<Option<T>> {
    match map.get(key)? {
        Some(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        None => Ok(None),
    }
}

fn values<T: DeserializeOwned>(map: &Map, prefix: &str) -> io::Result<Vec<T>> {
    let pairs = map.beginning(prefix)?;
    pairs
        .iter()
        .map(|(_, bytes)| serde_json::from_slice(bytes).map_err(io::Error::from))
        .collect()
}

/// Names of the folders in a folder; none where it is missing.
fn folders(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Some(name) = entry.file_name().to_str()
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(Stamp::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
