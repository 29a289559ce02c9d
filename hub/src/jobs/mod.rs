//! Dissection jobs: which run, which wait, how far they are, and what becomes of them.
//!
//! `dissection.json` in the dissection's folder says all of it, so a start of the hub finds what was under way and
//! begins it again. A job runs on threads of its own; a panic in it fails the job and nothing else.

mod record;

mod task;

mod remove;

mod error;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wiretape_tape::Nanos;

pub use error::DissectionError;
pub use record::{JobStatus, RECORD, Record};
pub use task::State;
use task::{Task, key, published, run, write};

use crate::catalogue::{Catalogue, DissectionEntry, Found, SnapshotEntry};
use crate::dissections::{JobError, Partial, Summary};
use crate::snapshots::{DISSECTIONS, Manifest, blocking, name, shown, to_the_end};

/// Jobs that run at the same time. One uses all threads it is given; a second would only take memory.
pub const MAX_RUNNING: usize = 1;
/// Jobs that wait for their turn.
pub const MAX_PENDING: usize = 64;
/// Times that a job is begun again after the hub ended under it. Beyond that it may be the reason.
pub const MAX_ATTEMPTS: u32 = 3;

/// All dissection jobs of a hub. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    catalogue: Catalogue,
    threads: usize,
    /// Held from the look whether a name is free until it is taken.
    naming: tokio::sync::Mutex<()>,
    board: Mutex<Board>,
    counters: Counters,
}

/// What is under way.
#[derive(Default)]
struct Board {
    waiting: VecDeque<Arc<Task>>,
    running: usize,
    /// Those that wait and those that run, by `snapshot id/dissection name`.
    live: HashMap<String, Arc<Task>>,
    stopping: bool,
}

/// What is counted from the start of the hub on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Jobs asked for.
    pub started: AtomicU64,
    /// Completed.
    pub completed: AtomicU64,
    /// Failed.
    pub failed: AtomicU64,
    /// Stopped.
    pub cancelled: AtomicU64,
    /// Calls that completed jobs found.
    pub calls: AtomicU64,
    /// Bytes of segments that completed jobs read.
    pub bytes: AtomicU64,
}

impl Jobs {
    /// The jobs of a hub with so many threads to dissect on.
    pub fn new(catalogue: Catalogue, threads: usize) -> Self {
        let inner = Inner {
            catalogue,
            threads: threads.max(1),
            naming: tokio::sync::Mutex::default(),
            board: Mutex::default(),
            counters: Counters::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Begins again what an earlier run left under way. `path` gives a snapshot's folder.
    pub async fn recover(&self, path: impl Fn(&str) -> PathBuf, now: Nanos) -> Result<(), DissectionError> {
        for snapshot in self.inner.catalogue.snapshots().await? {
            let folder = path(&snapshot.id).join(DISSECTIONS);
            blocking(move || remove::sweep(&folder))
                .await
                .map_err(broken("remove what is left of"))?;
        }
        let mut unfinished = self.inner.catalogue.dissections(None).await?;
        unfinished.retain(|entry| entry.record.status.is_active());
        // Oldest first, as they were asked for.
        for entry in unfinished.into_iter().rev() {
            let snapshot = path(&entry.snapshot);
            let folder = snapshot.join(DISSECTIONS).join(&entry.record.name);
            let mut record = entry.record;
            let from = snapshot.clone();
            let manifest = blocking(move || Manifest::read(&from)).await;
            if let Some(summary) = published(&folder) {
                // The tables were whole; only the record was missing.
                record.status = JobStatus::Completed;
                record.finished_at = Some(now);
                record.summary = Some(summary);
                write(folder, record).await?;
                self.inner.counters.completed.fetch_add(1, Ordering::Relaxed);
                self.inner.catalogue.refresh_snapshot(&entry.snapshot).await?;
                continue;
            }
            let reason = match &manifest {
                Err(error) => Some(format!("the snapshot's manifest cannot be read: {error}")),
                Ok(_) if record.attempts >= MAX_ATTEMPTS => Some(format!(
                    "the hub ended {} times while it ran; it is not begun again",
                    record.attempts
                )),
                Ok(_) => None,
            };
            match (manifest, reason) {
                (Ok(manifest), None) => {
                    record.status = JobStatus::Pending;
                    let task = Task::new(&entry.snapshot, snapshot, manifest, record);
                    tracing::info!(key = task.key, "dissection begun again");
                    self.enqueue(task);
                }
                (_, reason) => {
                    record.status = JobStatus::Failed;
                    record.error = reason;
                    record.finished_at = Some(now);
                    write(folder, record).await?;
                    self.inner.counters.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.inner.catalogue.refresh_snapshot(&entry.snapshot).await?;
        }
        Ok(())
    }

    /// Begins the dissection of a completed snapshot, or lets it wait for its turn. What is returned is on disk.
    ///
    /// Without a name it gets the start of its id.
    pub async fn start(
        &self,
        snapshot: &SnapshotEntry,
        path: PathBuf,
        manifest: Manifest,
        name: Option<String>,
        now: Nanos,
    ) -> Result<State, DissectionError> {
        let id = uuid::Uuid::new_v4().to_string();
        let name = name.unwrap_or_else(|| id.chars().take(8).collect());
        name::check(&name)?;
        let record = Record {
            id,
            name,
            created_at: now,
            started_at: None,
            finished_at: None,
            status: JobStatus::Pending,
            error: None,
            attempts: 0,
            summary: None,
        };
        let (jobs, snapshot) = (self.clone(), snapshot.clone());
        let work = async move { jobs.add(&snapshot, path, manifest, record).await };
        to_the_end(work, broken("begin")).await
    }

    /// Writes a new dissection down and lets it wait for its turn.
    async fn add(
        &self,
        snapshot: &SnapshotEntry,
        path: PathBuf,
        manifest: Manifest,
        record: Record,
    ) -> Result<State, DissectionError> {
        let _naming = self.inner.naming.lock().await;
        if let Found::One(entry) = self
            .inner
            .catalogue
            .dissection(&snapshot.id, &record.name)
            .await?
            && entry.record.name == record.name
        {
            let status = self.state(&entry).record.status;
            return Err(DissectionError::Taken {
                snapshot: snapshot.name.clone(),
                name: record.name,
                status,
            });
        }
        if self.board().waiting.len() >= MAX_PENDING {
            return Err(DissectionError::TooMany);
        }
        let task = Task::new(&snapshot.id, path, manifest, record.clone());
        write(task.folder.clone(), record).await?;
        self.inner.catalogue.refresh_snapshot(&snapshot.id).await?;
        self.inner.counters.started.fetch_add(1, Ordering::Relaxed);
        tracing::info!(key = task.key, "dissection asked for");
        let state = task.state();
        self.enqueue(task);
        Ok(state)
    }

    /// The dissection of a snapshot that goes by a name, an id, or the start of an id.
    pub async fn find(
        &self,
        snapshot: &SnapshotEntry,
        key: &str,
    ) -> Result<DissectionEntry, DissectionError> {
        match self.inner.catalogue.dissection(&snapshot.id, key).await? {
            Found::One(entry) => Ok(entry),
            Found::Many(ids) => Err(DissectionError::Ambiguous {
                asked: shown(key),
                ids,
            }),
            Found::None => {
                let all = self.inner.catalogue.dissections(Some(&snapshot.id)).await?;
                let there = all.into_iter().map(|entry| entry.record.name).collect();
                Err(DissectionError::Unknown {
                    snapshot: snapshot.name.clone(),
                    asked: shown(key),
                    there,
                })
            }
        }
    }

    /// The dissections of one snapshot (by its id), or of all; newest first.
    pub async fn list(&self, snapshot: Option<&str>) -> Result<Vec<State>, DissectionError> {
        let entries = self.inner.catalogue.dissections(snapshot).await?;
        Ok(entries.iter().map(|entry| self.state(entry)).collect())
    }

    /// The one dissection there is, as far as that is known without a look at the folders.
    pub async fn only(&self) -> Result<Option<State>, DissectionError> {
        let entries = self.inner.catalogue.known_dissections().await?;
        let [only] = entries.as_slice() else {
            return Ok(None);
        };
        Ok(Some(self.state(only)))
    }

    /// How a dissection stands at this moment.
    pub fn state(&self, entry: &DissectionEntry) -> State {
        match self.board().live.get(&key(&entry.snapshot, &entry.record.name)) {
            Some(task) => task.state(),
            None => State::of(entry),
        }
    }

    /// What can be asked of a dissection that runs: as it is now, or, if it ever was of that `age`, as it was then. `None`
    /// if it does not run any more.
    pub fn partial(&self, job: &State, age: Option<usize>) -> Option<Partial> {
        let key = key(&job.snapshot_id, &job.record.name);
        let task = self.board().live.get(&key).map(Arc::clone)?;
        task.progress.partial(age).or_else(|| task.progress.partial(None))
    }

    /// Stops a dissection that waits or runs; returns when nothing of it is left but its record.
    pub async fn stop(&self, entry: &DissectionEntry) -> Result<State, DissectionError> {
        let (jobs, entry) = (self.clone(), entry.clone());
        to_the_end(async move { jobs.end(&entry).await }, broken("stop")).await
    }

    async fn end(&self, entry: &DissectionEntry) -> Result<State, DissectionError> {
        let key = key(&entry.snapshot, &entry.record.name);
        let task = self.board().live.get(&key).map(Arc::clone);
        let Some(task) = task else {
            let state = State::of(entry);
            return match state.record.status {
                JobStatus::Cancelled => Ok(state),
                status => Err(DissectionError::Ended {
                    name: state.record.name,
                    status,
                }),
            };
        };
        task.progress.cancel();
        let waiting = {
            let mut board = self.board();
            let before = board.waiting.len();
            board.waiting.retain(|waiting| waiting.key != key);
            before > board.waiting.len()
        };
        if waiting {
            self.inner.end(&task, Err(JobError::Cancelled)).await;
        }
        let mut ended = task.ended.subscribe();
        // An error means that the sender is gone, which is an end as well.
        let _ = ended.wait_for(|ended| *ended).await;
        Ok(task.state())
    }

    /// Deletes a dissection with its tables; one that is under way is stopped first.
    pub async fn delete(&self, snapshot: PathBuf, entry: &DissectionEntry) -> Result<(), DissectionError> {
        let (jobs, entry) = (self.clone(), entry.clone());
        let work = async move { jobs.remove(snapshot, &entry).await };
        to_the_end(work, broken("delete")).await
    }

    async fn remove(&self, snapshot: PathBuf, entry: &DissectionEntry) -> Result<(), DissectionError> {
        if self.state(entry).record.status.is_active() {
            self.end(entry).await?;
        }
        let (all, name) = (snapshot.join(DISSECTIONS), entry.record.name.clone());
        blocking(move || remove::remove(&all, &name))
            .await
            .map_err(broken("delete the folder of"))?;
        self.inner.catalogue.refresh_snapshot(&entry.snapshot).await?;
        tracing::info!(
            snapshot = entry.snapshot,
            name = entry.record.name,
            "dissection deleted"
        );
        Ok(())
    }

    /// Stops all dissections of a snapshot that is about to be deleted.
    pub async fn stop_all(&self, snapshot: &str) -> Result<(), DissectionError> {
        for entry in self.inner.catalogue.dissections(Some(snapshot)).await? {
            match self.stop(&entry).await {
                Err(DissectionError::Ended { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends what runs, so that the next start begins it again; nothing new begins.
    pub async fn interrupt(&self) {
        let live: Vec<_> = {
            let mut board = self.board();
            board.stopping = true;
            board.waiting.clear();
            board.live.values().map(Arc::clone).collect()
        };
        for task in live {
            task.progress.cancel();
            // Also one that has come to its end, but has not written that down yet.
            if task.record().status != JobStatus::Pending {
                let mut ended = task.ended.subscribe();
                let _ = ended.wait_for(|ended| *ended).await;
            }
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// How many run, and how many wait.
    pub fn active(&self) -> (usize, usize) {
        let board = self.board();
        (board.running, board.waiting.len())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.inner.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, task: Arc<Task>) {
        let mut board = self.board();
        board.live.insert(task.key.clone(), Arc::clone(&task));
        board.waiting.push_back(task);
        drop(board);
        Inner::dispatch(&self.inner);
    }
}

impl Inner {
    /// Begins as many of the waiting jobs as may run.
    fn dispatch(self: &Arc<Self>) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        while !board.stopping && board.running < MAX_RUNNING {
            let Some(task) = board.waiting.pop_front() else {
                break;
            };
            board.running += 1;
            let inner = Arc::clone(self);
            tokio::spawn(async move {
                inner.attend(task).await;
                inner.board.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
                Self::dispatch(&inner);
            });
        }
    }

    /// Runs one job from its first record to its last.
    async fn attend(&self, task: Arc<Task>) {
        let record = {
            let mut record = task.record();
            record.status = JobStatus::Running;
            record.started_at = Some(crate::now());
            record.attempts += 1;
            record.clone()
        };
        let begun = write(task.folder.clone(), record).await;
        self.follow(&task).await;
        let outcome = match begun {
            Ok(()) => run(Arc::clone(&task), self.threads).await,
            Err(error) => Err(JobError::Io {
                doing: "write the record of",
                path: task.folder.clone(),
                source: io::Error::other(error),
            }),
        };
        self.end(&task, outcome).await;
    }

    /// Writes down how a job ended, unless the hub itself is ending.
    async fn end(&self, task: &Arc<Task>, outcome: Result<Summary, JobError>) {
        let stopping = self.board.lock().unwrap_or_else(PoisonError::into_inner).stopping;
        let record = {
            let mut record = task.record();
            record.finished_at = Some(crate::now());
            match outcome {
                Ok(summary) => {
                    self.counters.completed.fetch_add(1, Ordering::Relaxed);
                    self.counters.calls.fetch_add(summary.calls, Ordering::Relaxed);
                    self.counters.bytes.fetch_add(summary.bytes, Ordering::Relaxed);
                    tracing::info!(
                        key = task.key,
                        calls = summary.calls,
                        packets = summary.packets,
                        "dissection completed"
                    );
                    record.status = JobStatus::Completed;
                    record.summary = Some(summary);
                }
                Err(JobError::Cancelled) if stopping => {
                    tracing::info!(
                        key = task.key,
                        "dissection interrupted; it is begun again at the next start"
                    );
                    record.status = JobStatus::Pending;
                    record.finished_at = None;
                    // The hub was told to stop; that is not the job's doing.
                    record.attempts = record.attempts.saturating_sub(1);
                }
                Err(JobError::Cancelled) => {
                    self.counters.cancelled.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(key = task.key, "dissection stopped");
                    record.status = JobStatus::Cancelled;
                }
                Err(error) => {
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(key = task.key, %error, "dissection failed");
                    record.status = JobStatus::Failed;
                    record.error = Some(error.to_string());
                }
            }
            record.clone()
        };
        if let Err(error) = write(task.folder.clone(), record).await {
            tracing::error!(key = task.key, %error, "how the dissection ended cannot be written down");
        }
        self.follow(task).await;
        self.board
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .live
            .remove(&task.key);
        task.ended.send_replace(true);
    }

    async fn follow(&self, task: &Task) {
        if let Err(error) = self.catalogue.refresh_snapshot(&task.manifest.id).await {
            tracing::warn!(key = task.key, %error, "the catalogue does not follow");
        }
    }
}

/// Why nothing came of it.
fn broken(doing: &'static str) -> impl FnOnce(io::Error) -> DissectionError {
    move |source| DissectionError::Io { doing, source }
}
