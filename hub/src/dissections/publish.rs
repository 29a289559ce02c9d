//! Nothing is visible until all of it is on disk: tables are written into folders with temporary names, which renames
//! publish. That of the calls comes last, and counts: without calls there is no dissection.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::job::{JobError, Summary};

/// The tables' folder in a dissection's folder.
pub const TABLES: &str = "calls";

/// The folder of the table of connections, beside that.
pub const CONNECTIONS: &str = "connections";

/// The folder of the table of names, beside these.
pub const NAMES: &str = "names";

/// The folder of the table of events.
pub const EVENTS: &str = "events";

/// The [`Summary`] in the tables' folder.
pub const SUMMARY: &str = "summary.json";

/// The tables' folder while it is written. What a killed job left under this name is thrown away by the next.
const UNPUBLISHED: &str = ".calls.incoming";

/// The same of the connections.
const UNPUBLISHED_CONNECTIONS: &str = ".connections.incoming";

/// The same of the names.
const UNPUBLISHED_NAMES: &str = ".names.incoming";

/// The same of the events.
const UNPUBLISHED_EVENTS: &str = ".events.incoming";

/// A folder of tables that nobody sees yet. Removed when dropped, unless published.
pub(super) struct Unpublished {
    out: PathBuf,
    folder: PathBuf,
    connections: PathBuf,
    names: PathBuf,
    events: PathBuf,
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
        let connections = out.join(UNPUBLISHED_CONNECTIONS);
        let names = out.join(UNPUBLISHED_NAMES);
        let events = out.join(UNPUBLISHED_EVENTS);
        // Other tables without calls are what a job that was killed between the renames has left.
        for left in [
            &folder,
            &connections,
            &names,
            &events,
            &out.join(CONNECTIONS),
            &out.join(NAMES),
            &out.join(EVENTS),
        ] {
            if left.exists() {
                fs::remove_dir_all(left).map_err(|e| JobError::io("remove", left, e))?;
            }
        }
        for new in [&folder, &connections, &names, &events] {
            fs::create_dir_all(new).map_err(|e| JobError::io("make the folder", new, e))?;
        }
        Ok(Self {
            out: out.to_owned(),
            folder,
            connections,
            names,
            events,
            made_out,
            published: false,
        })
    }

    /// Where a worker's part of the calls goes.
    pub(super) fn part(&self, worker: usize) -> PathBuf {
        self.folder.join(format!("part-{worker}.parquet"))
    }

    /// Where its part of the connections goes.
    pub(super) fn connections_part(&self, worker: usize) -> PathBuf {
        self.connections.join(format!("part-{worker}.parquet"))
    }

    /// Where the names go.
    pub(super) fn names_part(&self) -> PathBuf {
        self.names.join("part-0.parquet")
    }

    /// Where the events go.
    pub(super) fn events_part(&self) -> PathBuf {
        self.events.join("part-0.parquet")
    }

    pub(super) fn publish(mut self, summary: &Summary) -> Result<(), JobError> {
        let path = self.folder.join(SUMMARY);
        let write = || {
            let json = serde_json::to_vec_pretty(summary)?;
            fs::write(&path, json)?;
            File::open(&path)?.sync_all()?;
            File::open(&self.names)?.sync_all()?;
            File::open(&self.events)?.sync_all()?;
            File::open(&self.connections)?.sync_all()?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| JobError::io("write", &path, e))?;
        for (written, published) in [
            (&self.names, NAMES),
            (&self.events, EVENTS),
            (&self.connections, CONNECTIONS),
        ] {
            let published = self.out.join(published);
            fs::rename(written, &published).map_err(|e| JobError::io("publish", &published, e))?;
        }
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
        let _ = fs::remove_dir_all(&self.connections);
        let _ = fs::remove_dir_all(&self.names);
        let _ = fs::remove_dir_all(&self.events);
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
