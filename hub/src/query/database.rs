//! A dissection, opened for questions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::dissections::Summary;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The question is wrong; the message says what to ask instead.
    #[error("{0}")]
    BadRequest(String),
    /// What was asked for by name is not there.
    #[error("{0}")]
    NotFound(String),
    /// Ours: the folder is damaged, memory ran out, a defect.
    #[error("{0}")]
    Internal(String),
}

/// One dissection: its tables, and the segments that they point into. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    summary: Summary,
}

impl Database {
    /// Opens the dissection whose folder is `dir` (the one that holds `calls/`). Reads only its summary.
    pub fn open(dir: &Path) -> Result<Self, QueryError> {
        let _ = dir;
        Err(QueryError::Internal("not built yet".to_owned()))
    }

    /// The dissection's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What the job that made it said: number of calls, first and last times, losses, problems.
    pub fn summary(&self) -> &Summary {
        &self.inner.summary
    }
}

/// Databases that are open, by folder, so that footers and sessions are read once.
#[derive(Default)]
pub struct Databases {
    open: std::sync::Mutex<std::collections::HashMap<PathBuf, Database>>,
}

impl Databases {
    /// The database of that folder, opened if it is not yet.
    pub fn get(&self, dir: &Path) -> Result<Database, QueryError> {
        let _ = &self.open;
        Database::open(dir)
    }

    /// Forgets a folder that is about to be deleted.
    pub fn forget(&self, dir: &Path) {
        let _ = dir;
    }
}
