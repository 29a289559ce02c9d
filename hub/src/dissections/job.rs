//! What a job is given, what it says while it runs, and what it says when it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wiretape_tape::Nanos;

use super::clocks::Clocks;
use crate::calls::growing::{Growing, Grown};
use crate::calls::{NodeName, schema, session};
use crate::losses::Lost;

/// Most files of one job: their number fills the upper 16 bits of a packet's location
/// ([`crate::calls::packets`]). At 64 MiB a segment that is 4 TiB of tape.
pub const MAX_FILES: usize = 1 << 16;

/// Most sources of one job: a packet names its tape by 16 bits.
pub const MAX_SOURCES: usize = 1 << 16;

/// One tape, or one foreign capture.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The node whose tape it is; for a foreign file whatever it shall be called.
    pub node: String,
    /// Its files in order of time.
    pub files: Vec<PathBuf>,
}

/// What to dissect, and where to.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// The tapes.
    pub sources: Vec<Source>,
    /// Who was who, as the snapshot's manifest tells. Names that stand in the files themselves are added.
    pub names: Vec<NodeName>,
    /// What the recorders told that they have lost. What else the files say is missing is added.
    pub losses: Vec<Lost>,
    /// What is missing of the tapes, in words: the first of the summary's problems.
    pub problems: Vec<String>,
    /// Only calls that began in this window (start inclusive, end exclusive) are kept. Packets outside of it are read
    /// all the same: whole segments reach beyond the window, and hold the rest of the calls at its edges.
    pub window: Option<(Nanos, Nanos)>,
    /// The dissection's folder. The job makes `calls/` in it.
    pub out: PathBuf,
    /// Threads, the calling one among them: at most [`MAX_WORKERS`](super::MAX_WORKERS).
    pub threads: usize,
}

/// How far a job is, shared between it and whoever watches. Also the way to stop it.
#[derive(Debug, Default)]
pub struct Progress {
    bytes_total: AtomicU64,
    bytes_done: AtomicU64,
    packets: AtomicU64,
    calls: AtomicU64,
    cancelled: AtomicBool,
    /// What is known of the job before its first packet.
    begun: OnceLock<Summary>,
    /// Of each tape, the time of its last packet, once all are read.
    ends: OnceLock<Vec<Nanos>>,
    tables: Arc<Growing>,
}

/// A dissection under way, as far as it can be asked at one moment.
#[derive(Clone, Debug)]
pub struct Partial {
    /// What can be told so far: of counts and times those of the tables.
    pub summary: Summary,
    /// The tables.
    pub tables: Grown,
}

impl Progress {
    /// Bytes of all files, known once the job has begun.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Ordering::Relaxed)
    }

    /// Bytes read so far, as they lie in the files.
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done.load(Ordering::Relaxed)
    }

    /// Packets read so far.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Calls found so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// 0 to 99 while it runs; only a job that has returned is at 100.
    pub fn percent(&self) -> u8 {
        let total = self.bytes_total();
        if total == 0 {
            return 0;
        }
        let percent = u128::from(self.bytes_done()) * 100 / u128::from(total);
        u8::try_from(percent.min(99)).unwrap_or(99)
    }

    /// Of each tape, the time of its last packet; nothing while they are read.
    pub(super) fn ends(&self) -> &[Nanos] {
        self.ends.get().map_or(&[], Vec::as_slice)
    }

    /// All packets are read.
    pub(super) fn read_until(&self, ends: Vec<Nanos>) {
        let _ = self.ends.set(ends);
    }

    /// Asks the job to end. It does so within a chunk's work, and leaves nothing behind.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The dissection as far as it is, or as it was after its first `age` row groups. `None` where it never was that far.
    pub fn partial(&self, age: Option<usize>) -> Option<Partial> {
        let tables = self.tables.after(age)?;
        let begun = self.begun.get().cloned();
        let calls = tables.span(session::TABLE);
        let summary = Summary {
            packets: self.packets(),
            calls: tables.rows(session::TABLE),
            connections: tables.rows(session::CONNECTIONS),
            events: tables.rows(session::EVENTS),
            first_call: calls.map(|(first, _)| first),
            last_call: calls.map(|(_, last)| last),
            ..begun.unwrap_or_else(|| Summary {
                schema: schema::VERSION,
                ..Summary::default()
            })
        };
        Some(Partial { summary, tables })
    }

    /// The tables that it writes.
    pub(super) fn tables(&self) -> &Arc<Growing> {
        &self.tables
    }

    pub(super) fn begin(&self, begun: Summary) {
        self.bytes_total.store(begun.bytes, Ordering::Relaxed);
        // A progress is of one job.
        let _ = self.begun.set(begun);
        self.bytes_done.store(0, Ordering::Relaxed);
        self.packets.store(0, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn routed(&self, packets: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
    }

    pub(super) fn found(&self, calls: u64) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
    }
}

/// What a job did. Kept beside its tables as `calls/summary.json`, which is also how the tables know their files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the tables' schema ([`crate::calls::schema::VERSION`]).
    pub schema: u32,
    /// The files in the order in which packet locations number them.
    pub files: Vec<FileSummary>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Packets read.
    pub packets: u64,
    /// Calls stored.
    pub calls: u64,
    /// Connections stored, of TCP and of UDP.
    #[serde(default)]
    pub connections: u64,
    /// Events stored.
    #[serde(default)]
    pub events: u64,
    /// How far apart the clocks of nodes are, as far as calls between them tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clocks: Vec<Clocks>,
    /// Of which protocol the calls are.
    pub protocol_counts: BTreeMap<String, u64>,
    /// Time of the oldest packet, if there was one.
    pub first_ts: Option<Nanos>,
    /// Time of the newest packet.
    pub last_ts: Option<Nanos>,
    /// Time of the oldest stored call, if there is one.
    pub first_call: Option<Nanos>,
    /// Time of the newest stored call.
    pub last_call: Option<Nanos>,
    /// The window that calls had to begin in, if there was one.
    #[serde(default)]
    pub window: Option<(Nanos, Nanos)>,
    /// Packets that the recorders say they lost in the window.
    pub lost_packets: u64,
    /// What the recorders say of what they recorded, where that was not everything or was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<Said>,
    /// Where and when, and which packets were recorded without their end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Lost>,
    /// What every stage saw, skipped and gave up, by the stage's own names (`read.…`, `route.…`, `dissect.…`).
    pub counters: BTreeMap<String, u64>,
    /// What went wrong without ending the job, for people to read.
    pub problems: Vec<String>,
}

/// What a recorder says of what it recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Its node.
    pub node: String,
    /// When it first said so.
    pub since: Nanos,
    /// In its words.
    pub said: String,
}

/// One file of a [`Summary`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSummary {
    /// The source it belongs to.
    pub node: String,
    /// Where it is: relative to the dissection's folder when it belongs to the same snapshot (so that a snapshot may
    /// be moved), absolute otherwise.
    pub path: PathBuf,
    /// Its bytes on disk.
    pub bytes: u64,
}

/// Why a job gave no tables.
#[derive(Debug, Error)]
pub enum JobError {
    /// [`Progress::cancel`] was called.
    #[error("the dissection was cancelled")]
    Cancelled,
    /// There is nothing to read.
    #[error("there is no file to dissect")]
    NoFiles,
    /// More than [`MAX_FILES`] or [`MAX_SOURCES`].
    #[error("{count} {what} are more than one dissection can hold ({limit}); dissect a shorter window")]
    TooMany {
        /// Files or sources.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The folder holds tables already; they are never written over.
    #[error("{} is there already; delete that dissection or choose another name", .0.display())]
    Exists(PathBuf),
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The table could not be written.
    #[error("cannot write the table of calls: {0}")]
    Table(#[from] crate::calls::WriteError),
    /// A thread panicked: a defect of ours, never the answer to bad input.
    #[error("thread {thread} of the dissection failed: {message}")]
    Panicked {
        /// Its name.
        thread: String,
        /// Its last words.
        message: String,
    },
}

impl JobError {
    pub(super) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}
