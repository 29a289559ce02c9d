//! The catalogue: which snapshots and dissections there are, found by id, by the start of an id or by name.
//!
//! Derived, never the truth: it mirrors `manifest.json` and `dissection.json` of the data folder. What is missing,
//! damaged or different is built again from there, and what another process puts into the folder (an import) is found
//! by the next list or by the next name that is not known.
//!
//! One thread owns the store and looks at the folders; everyone else asks it over a channel. No async worker waits
//! for a disk because of it.

mod entries;

mod index;

mod store;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

pub use entries::{DissectionEntry, Found, SnapshotEntry, incoming_folder};
use index::Index;

/// Questions that may wait for the thread; each is answered in well under a millisecond.
const QUEUE: usize = 256;

/// Why the catalogue gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The folders cannot be read.
    #[error("cannot read the data folder: {0}; check that it is there and readable")]
    Folder(String),
    /// Its thread is gone, which only a clean stop does.
    #[error("the catalogue is closed: the hub is stopping")]
    Closed,
}

/// Handle of the catalogue. Cheap to clone.
#[derive(Clone)]
pub struct Catalogue {
    questions: mpsc::Sender<Question>,
    rebuilt: Arc<AtomicU64>,
    changes: watch::Sender<u64>,
}

type Question = Box<dyn FnOnce(&mut Keeper) + Send>;

/// What the thread owns.
struct Keeper {
    index: Index,
    data: PathBuf,
    rebuilt: Arc<AtomicU64>,
}

impl Catalogue {
    /// Opens the catalogue of a data folder and brings it up to date with the snapshots in it.
    pub async fn open(data: &Path) -> Result<Self, CatalogueError> {
        let (questions, mut inbox) = mpsc::channel::<Question>(QUEUE);
        let rebuilt = Arc::new(AtomicU64::new(0));
        let changes = watch::Sender::new(0);
        let mut keeper = Keeper {
            index: Index::open(data, changes.clone()),
            data: data.to_owned(),
            rebuilt: Arc::clone(&rebuilt),
        };
        std::thread::Builder::new()
            .name("catalogue".to_owned())
            .spawn(move || {
                while let Some(question) = inbox.blocking_recv() {
                    question(&mut keeper);
                }
            })
            .map_err(|error| CatalogueError::Folder(error.to_string()))?;
        let catalogue = Self {
            questions,
            rebuilt,
            changes,
        };
        catalogue.refresh().await?;
        Ok(catalogue)
    }

    /// Looks at the folders and takes over what has changed in them.
    pub async fn refresh(&self) -> Result<(), CatalogueError> {
        self.ask(Index::refresh).await
    }

    /// Looks at one snapshot's folder only.
    pub async fn refresh_snapshot(&self, id: &str) -> Result<(), CatalogueError> {
        let id = id.to_owned();
        self.ask(move |index| index.refresh_snapshot(&id)).await
    }

    /// All snapshots, newest first.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotEntry>, CatalogueError> {
        self.ask(|index| {
            index.refresh()?;
            index.snapshots()
        })
        .await
    }

    /// The snapshot that goes by an id, a name, or the start of an id that no other snapshot shares.
    pub async fn snapshot(&self, key: &str) -> Result<Found<SnapshotEntry>, CatalogueError> {
        let key = key.to_owned();
        self.ask(move |index| match index.snapshot(&key)? {
            Found::None => {
                index.refresh()?;
                index.snapshot(&key)
            }
            found => Ok(found),
        })
        .await
    }

    /// The dissections of one snapshot, or of all; newest first.
    pub async fn dissections(&self, snapshot: Option<&str>) -> Result<Vec<DissectionEntry>, CatalogueError> {
        let snapshot = snapshot.map(str::to_owned);
        self.ask(move |index| {
            match &snapshot {
                Some(id) => index.refresh_snapshot(id)?,
                None => index.refresh()?,
            }
            index.dissections(snapshot.as_deref())
        })
        .await
    }

    /// The dissections of all snapshots, as far as they are known without a look at the folders; newest first.
    pub async fn known_dissections(&self) -> Result<Vec<DissectionEntry>, CatalogueError> {
        self.ask(|index| index.dissections(None)).await
    }

    /// The dissection of a snapshot (by its id) that goes by a name, an id, or the start of an id.
    pub async fn dissection(
        &self,
        snapshot: &str,
        key: &str,
    ) -> Result<Found<DissectionEntry>, CatalogueError> {
        let (snapshot, key) = (snapshot.to_owned(), key.to_owned());
        self.ask(move |index| match index.dissection(&snapshot, &key)? {
            Found::None => {
                index.refresh_snapshot(&snapshot)?;
                index.dissection(&snapshot, &key)
            }
            found => Ok(found),
        })
        .await
    }

    /// How often a snapshot or a dissection has come, changed its state, or gone: for who wants to hear of it.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How often the store was given up and built again since the start.
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Index) -> io::Result<T> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |keeper| {
            // Whoever asked may be gone; the answer is then of no use to anyone.
            let _ = answer.send(keeper.answer(&question));
        });
        self.questions
            .send(question)
            .await
            .map_err(|_| CatalogueError::Closed)?;
        answered.await.map_err(|_| CatalogueError::Closed)?
    }
}

impl Keeper {
    /// Answers; when the store fails, throws it away, builds it again from the folders and answers then.
    fn answer<T>(&mut self, question: &impl Fn(&Index) -> io::Result<T>) -> Result<T, CatalogueError> {
        let reason = match attempt(&self.index, question) {
            Ok(answer) => return Ok(answer),
            Err(reason) => reason,
        };
        tracing::warn!(
            reason,
            "the catalogue is damaged or out of reach; building it again from the folders"
        );
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
        self.index = self.index.rebuild(&self.data);
        let again = attempt(&self.index, &|index| {
            index.refresh()?;
            question(index)
        });
        again.map_err(CatalogueError::Folder)
    }
}

/// A store of alpha quality may panic where it is damaged; that must not end the thread.
fn attempt<T>(index: &Index, question: &impl Fn(&Index) -> io::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(|| question(index))) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(last_words(panic.as_ref())),
    }
}

/// The message that a thread panicked with.
pub(crate) fn last_words(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(words), _) => (*words).to_owned(),
        (_, Some(words)) => words.clone(),
        _ => "a panic without a message".to_owned(),
    }
}
