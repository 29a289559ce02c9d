//! A dissection, opened for questions.

use std::any::Any;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::error::DataFusionError;
use datafusion::prelude::{DataFrame, SessionContext};
use thiserror::Error;
use tokio::sync::OnceCell;
use wiretape_dissect::protobuf::Descriptors;
use wiretape_tape::{BlockReader, ReadError};

use super::endpoints::Endpoints;
use super::sql;
use crate::calls::growing::Grown;
use crate::calls::parts::Parts;
use crate::calls::{schema, session};
use crate::dissections::{CONNECTIONS, EVENTS, NAMES, Partial, SUMMARY, Summary, TABLES};

/// Most segments of one dissection that are kept open for reading bodies.
const OPEN_FILES: usize = 64;

/// Most dissections that [`Databases`] keeps open. The one that was opened first goes first.
const OPEN_DATABASES: usize = 64;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The question is wrong; the message says what to ask instead.
    #[error("{0}")]
    BadRequest(String),
    /// What was asked for by name is not there.
    #[error("{0}")]
    NotFound(String),
    /// Not now: others are asking.
    #[error("{0}")]
    Busy(String),
    /// Ours: the folder is damaged, memory ran out, a defect.
    #[error("{0}")]
    Internal(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(message) => Self::Internal(format!(
                "the question needs more memory than there is for it: {message}"
            )),
            error => Self::Internal(format!("cannot read the table of calls: {error}")),
        }
    }
}

/// One dissection: its tables, and the segments that these point into. Cheap to clone, and shared between threads.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
    descriptors: Arc<Descriptors>,
    /// What its files live as long as.
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

struct Inner {
    /// Tells it from all others that were ever opened.
    number: u64,
    dir: PathBuf,
    identity: Option<Identity>,
    summary: Summary,
    /// What there is of its tables, while its job is under way.
    grown: Option<Grown>,
    session: SessionContext,
    files: Mutex<HashMap<usize, Arc<BlockReader>>>,
    /// Learned when first asked for: the table never changes.
    endpoints: OnceCell<Endpoints>,
    /// Opened when first asked for.
    sql: OnceCell<SessionContext>,
}

impl Database {
    /// Opens the dissection whose folder is `dir` (the one that holds `calls/`). Reads only its summary.
    ///
    /// # Errors
    /// [`QueryError::NotFound`] when there are no tables (not dissected, or not yet), [`QueryError::Internal`] when
    /// they cannot be read.
    pub fn open(dir: &Path) -> Result<Self, QueryError> {
        let tables = dir.join(TABLES);
        let path = tables.join(SUMMARY);
        let identity = Identity::of(dir);
        let json = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => QueryError::NotFound(format!(
                "there are no calls in {}: the dissection is not complete",
                dir.display()
            )),
            _ => QueryError::Internal(format!("cannot read {}: {error}", path.display())),
        })?;
        let summary: Summary = serde_json::from_slice(&json).map_err(|error| {
            QueryError::Internal(format!(
                "{} is damaged ({error}); dissect the snapshot again",
                path.display()
            ))
        })?;
        if summary.schema > schema::VERSION {
            return Err(QueryError::Internal(format!(
                "the tables in {} are of version {}, this hub reads up to {}; use a newer hub or dissect again",
                dir.display(),
                summary.schema,
                schema::VERSION
            )));
        }
        let session = session::open(
            &tables,
            &dir.join(CONNECTIONS),
            &dir.join(NAMES),
            &dir.join(EVENTS),
        )?;
        Ok(Self::new(dir, identity, summary, None, session))
    }

    /// Opens a dissection whose job is under way in the folder `dir`, as it stands. It stays as it is, whatever becomes
    /// of the job.
    ///
    /// # Errors
    /// [`QueryError::Internal`] when there is no opening it.
    pub fn under_way(dir: &Path, partial: Partial) -> Result<Self, QueryError> {
        let Partial { summary, tables } = partial;
        let session = session::grown(&tables)?;
        Ok(Self::new(dir, None, summary, Some(tables), session))
    }

    fn new(
        dir: &Path,
        identity: Option<Identity>,
        summary: Summary,
        grown: Option<Grown>,
        session: SessionContext,
    ) -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let inner = Inner {
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            dir: dir.to_owned(),
            identity,
            summary,
            grown,
            session,
            files: Mutex::default(),
            endpoints: OnceCell::new(),
            sql: OnceCell::new(),
        };
        Self {
            inner: Arc::new(inner),
            descriptors: Arc::default(),
            _held: None,
        }
    }

    /// The same, with names for the bodies of gRPC.
    #[must_use]
    pub fn named_by(self, descriptors: Arc<Descriptors>) -> Self {
        Self { descriptors, ..self }
    }

    /// The same, which keeps what its files live as long as: who asks a question of it has them until the answer.
    #[must_use]
    pub fn holding(self, held: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            _held: Some(held),
            ..self
        }
    }

    /// Names for the bodies of gRPC.
    pub(super) fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// The dissection's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// What tells it from another that takes its folder later; `None` while there is none.
    pub fn identity(&self) -> Option<Identity> {
        self.inner.identity
    }

    /// What the job that made it said: number of calls, first and last times, losses, problems.
    pub fn summary(&self) -> &Summary {
        &self.inner.summary
    }

    /// After how many row groups of a job under way; `None` for a completed dissection.
    pub fn age(&self) -> Option<usize> {
        self.inner.grown.as_ref().map(|grown| grown.age)
    }

    /// The table of calls.
    pub(super) async fn table(&self) -> Result<DataFrame, QueryError> {
        Ok(self.inner.session.table(session::TABLE).await?)
    }

    /// The parts of the table of calls.
    pub(super) async fn parts(&self) -> Result<Arc<Parts>, QueryError> {
        let inner = Arc::clone(&self.inner);
        let open = move || {
            Parts::of(inner.number, || match &inner.grown {
                Some(grown) => Parts::grown(grown.parts(session::TABLE)),
                None => Parts::open(&inner.dir.join(TABLES)),
            })
        };
        let opened = tokio::task::spawn_blocking(open).await;
        Ok(opened
            .map_err(|error| QueryError::Internal(format!("cannot open the table of calls: {error}")))??)
    }

    /// What conditions are compiled in.
    pub(super) fn session(&self) -> &SessionContext {
        &self.inner.session
    }

    /// The table of connections; `None` in dissections that are older than it.
    pub(super) async fn connections(&self) -> Result<Option<DataFrame>, QueryError> {
        let session = &self.inner.session;
        if !session.table_exist(session::CONNECTIONS)? {
            return Ok(None);
        }
        Ok(Some(session.table(session::CONNECTIONS).await?))
    }

    /// The table of events; `None` in dissections that are older than it.
    pub(super) async fn events(&self) -> Result<Option<DataFrame>, QueryError> {
        let session = &self.inner.session;
        if !session.table_exist(session::EVENTS)? {
            return Ok(None);
        }
        Ok(Some(session.table(session::EVENTS).await?))
    }

    /// The table of names; `None` in a dissection that is older than it.
    pub(super) async fn names(&self) -> Result<Option<DataFrame>, QueryError> {
        let session = &self.inner.session;
        if !session.table_exist(session::NAMES)? {
            return Ok(None);
        }
        Ok(Some(session.table(session::NAMES).await?))
    }

    /// Its tables for SQL.
    pub(super) async fn sql_session(&self) -> Result<SessionContext, QueryError> {
        self.inner
            .sql
            .get_or_try_init(|| sql::open(&self.inner.session))
            .await
            .cloned()
    }

    /// What its calls' endpoints are.
    pub(super) async fn endpoints(&self) -> Result<&Endpoints, QueryError> {
        self.inner
            .endpoints
            .get_or_try_init(|| Endpoints::learn(self))
            .await
    }

    /// The same, where they have been learned before.
    pub(super) fn learned_endpoints(&self) -> Result<&Endpoints, QueryError> {
        let missing = || QueryError::Internal("endpoints were asked for before they were learned".to_owned());
        self.inner.endpoints.get().ok_or_else(missing)
    }

    /// A file of the dissection, opened for reading single packets.
    pub(super) fn file(&self, number: usize) -> Result<Arc<BlockReader>, ReadError> {
        let unknown = || {
            std::io::Error::new(
                std::io::ErrorKind::NotFound,
                format!("the dissection has no file {number}"),
            )
        };
        if let Some(open) = self.files().get(&number) {
            return Ok(Arc::clone(open));
        }
        let file = self.inner.summary.files.get(number).ok_or_else(unknown)?;
        // Absolute paths stay what they are.
        let reader = Arc::new(BlockReader::open(&self.inner.dir.join(&file.path))?);
        let mut files = self.files();
        if files.len() >= OPEN_FILES {
            files.clear();
        }
        files.insert(number, Arc::clone(&reader));
        Ok(reader)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<usize, Arc<BlockReader>>> {
        // A map of open files is whole even if a thread died while it held it.
        self.inner.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Databases that are open, by folder, so that their summaries and footers are read once.
#[derive(Default)]
pub struct Databases {
    open: Mutex<Vec<Database>>,
    descriptors: Arc<Descriptors>,
}

impl Databases {
    /// None is open yet; those that will be have these names for the bodies of gRPC.
    pub fn new(descriptors: Arc<Descriptors>) -> Self {
        Self {
            open: Mutex::default(),
            descriptors,
        }
    }

    /// The database of that folder, opened if it is not yet, or if other tables have taken its place since.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn get(&self, dir: &Path) -> Result<Database, QueryError> {
        let current = Identity::of(dir);
        let mut open = self.lock();
        let is_current = |database: &Database| database.inner.identity == current && database.age().is_none();
        open.retain(|database| database.dir() != dir || is_current(database));
        if let Some(database) = open.iter().find(|database| database.dir() == dir) {
            return Ok(database.clone());
        }
        drop(open);
        let database = self.open(dir)?;
        Self::keep(&mut self.lock(), &database);
        Ok(database)
    }

    /// A dissection under way in that folder, opened if it is not yet in this state.
    ///
    /// # Errors
    /// As [`Database::under_way`].
    pub fn under_way(&self, dir: &Path, partial: Partial) -> Result<Database, QueryError> {
        let is = |database: &&Database| {
            let grown = database.inner.grown.as_ref();
            database.dir() == dir && grown.is_some_and(|grown| grown.is(&partial.tables))
        };
        if let Some(database) = self.lock().iter().find(is) {
            return Ok(database.clone());
        }
        let database = Database::under_way(dir, partial)?.named_by(Arc::clone(&self.descriptors));
        let mut open = self.lock();
        open.retain(|database| database.dir() != dir);
        Self::keep(&mut open, &database);
        Ok(database)
    }

    fn keep(open: &mut Vec<Database>, database: &Database) {
        if open.len() >= OPEN_DATABASES {
            open.remove(0);
        }
        open.push(database.clone());
    }

    /// The database of that folder for one owner, who keeps it: it is none of those that are open here.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(&self, dir: &Path) -> Result<Database, QueryError> {
        Ok(Database::open(dir)?.named_by(Arc::clone(&self.descriptors)))
    }

    /// Lets go of a folder that is deleted, and of the segments that are open for it.
    pub fn forget(&self, dir: &Path) {
        self.lock().retain(|database| database.dir() != dir);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Database>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells one dissection from another that takes its folder later: its summary is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Identity {
    /// `None` when there is none in that folder.
    fn of(dir: &Path) -> Option<Self> {
        let summary = fs::metadata(dir.join(TABLES).join(SUMMARY)).ok()?;
        Some(Self {
            device: summary.dev(),
            inode: summary.ino(),
            changed: (summary.ctime(), summary.ctime_nsec()),
        })
    }
}
