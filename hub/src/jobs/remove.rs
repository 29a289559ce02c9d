//! How a dissection's folder goes: hidden first, so that half a removal is never taken for a dissection.

use std::io;
use std::path::Path;

use crate::snapshots::{DELETED, remove_all, sync_folder};

/// Removes a dissection from the folder of all of a snapshot.
pub(super) fn remove(all: &Path, name: &str) -> io::Result<()> {
    let hidden = all.join(format!("{DELETED}{name}"));
    // What an earlier one of its name may have left.
    remove_all(&hidden)?;
    std::fs::rename(all.join(name), &hidden)?;
    sync_folder(all)?;
    std::fs::remove_dir_all(hidden)
}

/// Removes what is left of those that were being removed when the hub ended.
pub(super) fn sweep(all: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(DELETED)) {
            remove_all(&path)?;
        }
    }
    Ok(())
}
