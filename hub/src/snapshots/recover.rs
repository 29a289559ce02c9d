//! What a start finds of runs that were cut short: snapshots on their way are continued, leftovers removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Manifest, SnapshotError, Snapshots, Status, blocking, collect};
use crate::catalogue::incoming_folder;

/// Begins the name of a folder that is being removed.
pub(crate) const DELETED: &str = ".deleted-";
/// Begins the name of a folder that `wiretape-hub import` is filling.
pub(super) const IMPORTING: &str = ".importing-";
/// Locked in such a folder as long as the import runs.
pub(super) const IMPORT_LOCK: &str = "lock";

impl Snapshots {
    pub(super) async fn recover(&self) -> Result<(), SnapshotError> {
        let root = self.inner.folder.clone();
        let unfinished = blocking(move || sweep(&root))
            .await
            .map_err(|source| SnapshotError::Io {
                doing: "look for unfinished parts of",
                source,
            })?;
        for manifest in unfinished {
            let folder = self.inner.folder.join(incoming_folder(&manifest.id));
            if manifest.status == Status::InProgress {
                tracing::info!(id = manifest.id, name = manifest.name, "snapshot continued");
                self.begin(manifest);
            } else {
                // It was whole; only the rename was missing.
                collect::publish(&self.inner, &folder, &manifest)
                    .await
                    .map_err(|source| SnapshotError::Io {
                        doing: "publish",
                        source,
                    })?;
            }
        }
        Ok(())
    }
}

/// Removes leftovers and gives the snapshots that are not published yet.
fn sweep(root: &Path) -> io::Result<Vec<Manifest>> {
    let mut unfinished = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with(DELETED) || (name.starts_with(IMPORTING) && is_abandoned(&path)) {
            tracing::info!(folder = name, "leftover of an earlier run removed");
            std::fs::remove_dir_all(&path)?;
        } else if name.starts_with(&incoming_folder("")) {
            unfinished.extend(read_unfinished(path)?);
        }
    }
    Ok(unfinished)
}

fn read_unfinished(path: PathBuf) -> io::Result<Option<Manifest>> {
    match Manifest::read(&path) {
        Ok(manifest) if path.ends_with(incoming_folder(&manifest.id)) => Ok(Some(manifest)),
        // The manifest is written before the snapshot is confirmed: without one, nobody was told of it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::remove_dir_all(&path).map(|()| None)
        }
        Ok(_) => {
            tracing::warn!(folder = %path.display(), "an unfinished snapshot has another id than its folder; left alone");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(folder = %path.display(), %error, "an unfinished snapshot cannot be read; left alone");
            Ok(None)
        }
    }
}

/// Whether the import that made the folder has ended without finishing it.
fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(IMPORT_LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        // It may have made its folder a moment ago.
        Err(_) => false,
    }
}
