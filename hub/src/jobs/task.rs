//! One dissection that is under way: what it works on, how it runs, how it stands.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{DissectionError, JobStatus, Record};
use crate::catalogue::DissectionEntry;
use crate::dissections::{self, Job, JobError, Progress, SUMMARY, Source, Summary, TABLES};
use crate::snapshots::{DISSECTIONS, Manifest, NodePart, SEGMENTS, blocking, sync_folder};

/// A dissection that waits or runs.
pub(super) struct Task {
    pub(super) key: String,
    /// The snapshot's folder, and what it says.
    pub(super) snapshot: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) record: Mutex<Record>,
    pub(super) progress: Progress,
    pub(super) ended: watch::Sender<bool>,
}

/// A dissection as it stands now.
#[derive(Clone, Debug)]
pub struct State {
    /// The snapshot's id.
    pub snapshot_id: String,
    /// The snapshot's name.
    pub snapshot_name: String,
    /// Its record.
    pub record: Record,
    /// 0 to 100.
    pub progress: u8,
    /// Files to read.
    pub files: usize,
    /// Bytes of all files.
    pub bytes_total: u64,
    /// Bytes read so far.
    pub bytes: u64,
    /// Packets read so far.
    pub packets: u64,
    /// Calls found so far.
    pub calls: u64,
}

impl Task {
    pub(super) fn new(snapshot_id: &str, snapshot: PathBuf, manifest: Manifest, record: Record) -> Arc<Self> {
        Arc::new(Self {
            key: key(snapshot_id, &record.name),
            folder: snapshot.join(DISSECTIONS).join(&record.name),
            snapshot,
            manifest,
            record: Mutex::new(record),
            progress: Progress::default(),
            ended: watch::Sender::new(false),
        })
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, threads: usize) -> Job {
        let segments = self.snapshot.join(SEGMENTS);
        let sources = self.manifest.parts().map(|part| Source {
            node: part.name.clone(),
            files: part
                .segments
                .iter()
                .map(|segment| segments.join(&part.folder).join(&segment.name))
                .collect(),
        });
        Job {
            sources: sources.collect(),
            names: self.manifest.names.clone(),
            losses: self.manifest.nodes.iter().flat_map(NodePart::losses).collect(),
            problems: self.manifest.problems.clone(),
            window: Some((self.manifest.start, self.manifest.end)),
            out: self.folder.clone(),
            threads,
        }
    }

    pub(super) fn state(&self) -> State {
        let record = self.record().clone();
        State {
            snapshot_id: self.manifest.id.clone(),
            snapshot_name: self.manifest.name.clone(),
            progress: if record.status == JobStatus::Completed {
                100
            } else {
                self.progress.percent()
            },
            files: self.manifest.parts().map(|part| part.segments.len()).sum(),
            bytes_total: self.manifest.bytes(),
            bytes: self.progress.bytes_done(),
            packets: self.progress.packets(),
            calls: self.progress.calls(),
            record,
        }
    }
}

impl State {
    /// What its calls are asked for by: `<snapshot>/<dissection>`.
    pub fn db(&self) -> String {
        format!("{}/{}", self.snapshot_name, self.record.name)
    }

    pub(super) fn of(entry: &DissectionEntry) -> Self {
        let summary = entry.record.summary.as_ref();
        Self {
            snapshot_id: entry.snapshot.clone(),
            snapshot_name: entry.snapshot_name.clone(),
            progress: if entry.record.status == JobStatus::Completed {
                100
            } else {
                0
            },
            files: entry.files,
            bytes_total: summary.map_or(0, |summary| summary.bytes),
            bytes: summary.map_or(0, |summary| summary.bytes),
            packets: summary.map_or(0, |summary| summary.packets),
            calls: summary.map_or(0, |summary| summary.calls),
            record: entry.record.clone(),
        }
    }
}

/// Runs a job on a thread of its own; a panic there is a failure of the job.
pub(super) async fn run(task: Arc<Task>, threads: usize) -> Result<Summary, JobError> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    let panicked = |message: String| JobError::Panicked {
        thread: "dissection".to_owned(),
        message,
    };
    let spawned = std::thread::Builder::new()
        .name("dissection".to_owned())
        .spawn(move || {
            let job = task.job(threads);
            let outcome = catch_unwind(AssertUnwindSafe(|| dissections::run(&job, &task.progress)))
                .unwrap_or_else(|panic| Err(panicked(crate::catalogue::last_words(panic.as_ref()))));
            // Whoever waits for it lives as long as the hub.
            let _ = done.send(outcome);
        });
    match spawned {
        Ok(_) => outcome
            .await
            .unwrap_or_else(|_| Err(panicked("its thread ended without a word".to_owned()))),
        Err(error) => Err(panicked(error.to_string())),
    }
}

/// Writes a dissection's record down, so that it outlives the hub.
pub(super) async fn write(folder: PathBuf, record: Record) -> Result<(), DissectionError> {
    blocking(move || {
        let all = folder.parent().unwrap_or(&folder);
        // Not with all parents: the folder of a snapshot that was deleted meanwhile must not come back.
        for folder in [all, &folder] {
            match std::fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        record.write(&folder)?;
        sync_folder(all)
    })
    .await
    .map_err(|source| DissectionError::Io {
        doing: "write down",
        source,
    })
}

/// What a job has said that put its tables in place.
pub(super) fn published(folder: &Path) -> Option<Summary> {
    let text = std::fs::read(folder.join(TABLES).join(SUMMARY)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// What tasks are known by.
pub(super) fn key(snapshot: &str, name: &str) -> String {
    format!("{snapshot}/{name}")
}
