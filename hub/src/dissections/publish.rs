//! Nothing is visible until all of it is on disk: tables are written into folders with temporary names, which renames
//! publish. That of the calls comes last, and counts: without calls there is no dissection.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use super::job::{JobError, Summary};
use super::last_words;
use crate::calls::Written;

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

    /// Waits until the disk has everything, and shows it. `parts` are all files but the summary.
    pub(super) fn publish(mut self, summary: &Summary, parts: &[Written]) -> Result<(), JobError> {
        let path = self.folder.join(SUMMARY);
        let write = || fs::write(&path, serde_json::to_vec_pretty(summary)?);
        write().map_err(|e| JobError::io("write", &path, e))?;
        let others = [&path, &self.folder, &self.connections, &self.names, &self.events];
        let others = others.map(PathBuf::as_path);
        sync(parts, &others)?;
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

/// Waits until the disk has parts and other files and folders: for all at a time, which takes it little longer than one.
fn sync(parts: &[Written], others: &[&Path]) -> Result<(), JobError> {
    let opened = others
        .iter()
        .map(|path| File::open(path).map_err(|e| JobError::io("write", path, e)));
    let opened = opened.collect::<Result<Vec<_>, _>>()?;
    let parts = parts.iter().map(|part| (part.path(), part.file()));
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (path, file) in parts.chain(others.iter().copied().zip(&opened)) {
            let wait = move || file.sync_all().map_err(|e| JobError::io("write", path, e));
            let thread = thread::Builder::new()
                .spawn_scoped(scope, wait)
                .map_err(|e| JobError::io("start a thread for", path, e))?;
            threads.push(thread);
        }
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| {
                Err(JobError::Panicked {
                    thread: "sync".to_owned(),
                    message: last_words(panic.as_ref()),
                })
            })
        })
    })
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
