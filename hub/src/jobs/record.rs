//! `dissection.json`: what a dissection is, beside its tables.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wiretape_tape::Nanos;

use crate::dissections::Summary;
use crate::snapshots::replace;

/// Name of the file in a dissection's folder.
pub const RECORD: &str = "dissection.json";

/// How far a dissection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It waits for others to end.
    Pending,
    /// It runs.
    Running,
    /// Its tables are whole; they never change again.
    Completed,
    /// It gave no tables; `error` says why.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl JobStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether there is still something to come.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

/// One dissection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Chosen by the hub, never used twice.
    pub id: String,
    /// Chosen by the user; the folder's name, once per snapshot.
    pub name: String,
    /// When it was asked for.
    pub created_at: Nanos,
    /// When it last began to run.
    #[serde(default)]
    pub started_at: Option<Nanos>,
    /// When it ended, in whatever way.
    #[serde(default)]
    pub finished_at: Option<Nanos>,
    /// How far it has come.
    pub status: JobStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How often it began: more than once when the hub ended under it.
    #[serde(default)]
    pub attempts: u32,
    /// What the job said at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

impl Record {
    /// Reads the record of the dissection in `folder`.
    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(folder.join(RECORD))?)?)
    }

    /// Writes it so that a crash leaves either the old one or the new one.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        replace(&folder.join(RECORD), &text)
    }
}
