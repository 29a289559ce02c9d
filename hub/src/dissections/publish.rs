//! Nothing is visible until all of it is on disk: tables are written into a folder with a temporary name, which a
//! rename publishes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::job::{JobError, Summary};

/// The tables' folder in a dissection's folder.
pub const TABLES: &str = "calls";

/// The [`Summary`] in the tables' folder.
pub const SUMMARY: &str = "summary.json";

/// The tables' folder while it is written. What a killed job left under this name is thrown away by the next.
const UNPUBLISHED: &str = ".calls.incoming";

/// A folder of tables that nobody sees yet. Removed when dropped, unless published.
pub(super) struct Unpublished {
    out: PathBuf,
    folder: PathBuf,
    /// The dissection's folder was made for this.
    made_out: bool,
    published: bool,
}

impl Unpublished {
    pub(super) fn create(out: &Path) -> Result<Self, JobError> {
        let tables = out.join(TABLES);
        if tables.exists() {
            return Err(JobError::Exists(tables));
        }
        let made_out = !out.exists();
        let folder = out.join(UNPUBLISHED);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|e| JobError::io("remove", &folder, e))?;
        }
        fs::create_dir_all(&folder).map_err(|e| JobError::io("make the folder", &folder, e))?;
        Ok(Self {
            out: out.to_owned(),
            folder,
            made_out,
            published: false,
        })
    }

    /// Where a worker's part goes.
    pub(super) fn part(&self, worker: usize) -> PathBuf {
        self.folder.join(format!("part-{worker}.parquet"))
    }

    pub(super) fn publish(mut self, summary: &Summary) -> Result<(), JobError> {
        let path = self.folder.join(SUMMARY);
        let write = || {
            let json = serde_json::to_vec_pretty(summary)?;
            fs::write(&path, json)?;
            File::open(&path)?.sync_all()?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| JobError::io("write", &path, e))?;
        let tables = self.out.join(TABLES);
        fs::rename(&self.folder, &tables).map_err(|e| JobError::io("publish", &tables, e))?;
        self.published = true;
        File::open(&self.out)
            .and_then(|out| out.sync_all())
            .map_err(|e| JobError::io("publish", &tables, e))
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // Nobody is left to tell; the next job of that name removes it.
        let _ = fs::remove_dir_all(&self.folder);
        if self.made_out {
            let _ = fs::remove_dir(&self.out);
        }
    }
}

/// How a file is named in the summary of a dissection in `out`: relative if it belongs to the same snapshot (two
/// folders up: `snapshots/<id>/dissections/<name>`), absolute otherwise.
pub(super) fn stored_path(out: &Path, file: &Path) -> PathBuf {
    let absolute = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let (Ok(out), Ok(file)) = (absolute(out), absolute(file)) else {
        return file.to_owned();
    };
    let within = out
        .ancestors()
        .nth(2)
        .and_then(|snapshot| file.strip_prefix(snapshot).ok());
    match within {
        // A capture that happens to lie in the root folder belongs to no snapshot.
        Some(within) if out.ancestors().nth(3).is_some() => Path::new("../..").join(within),
        _ => file,
    }
}
