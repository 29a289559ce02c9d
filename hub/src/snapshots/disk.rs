//! Room on the hub's disk.

use std::io;
use std::path::Path;

/// Kept free beside what is collected: for tables, the catalogue and the log of whoever shares the disk.
pub const RESERVE: u64 = 128 << 20;

/// The data folder has no room.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Too little is free.
    #[error(
        "not enough room on the hub's disk: {need} bytes to store and {RESERVE} to keep free, but only {free} are free \
         under {folder}; delete snapshots (DELETE /mcp/snapshots/NAME), ask for a shorter window or fewer nodes"
    )]
    Full {
        /// Bytes that would be stored.
        need: u64,
        /// Bytes that are free.
        free: u64,
        /// The folder asked about.
        folder: String,
    },
    /// It cannot be told.
    #[error("cannot tell how much room there is under {folder}: {reason}")]
    Unknown {
        /// The folder asked about.
        folder: String,
        /// What the system said.
        reason: io::Error,
    },
}

/// Bytes that can still be written below `folder`.
pub fn free(folder: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Whether `need` bytes more can be stored below `folder`.
pub fn check(folder: &Path, need: u64) -> Result<(), DiskError> {
    let shown = || folder.display().to_string();
    let free = free(folder).map_err(|reason| DiskError::Unknown {
        folder: shown(),
        reason,
    })?;
    if need.saturating_add(RESERVE) > free {
        return Err(DiskError::Full {
            need,
            free,
            folder: shown(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_with_what_to_do() {
        let folder = std::env::temp_dir();
        assert!(
            check(&folder, u64::MAX / 2).is_err_and(|error| error.to_string().contains("delete snapshots"))
        );
        assert!(matches!(
            check(Path::new("/nowhere/at/all"), 1),
            Err(DiskError::Unknown { .. })
        ));
    }
}
