//! Snapshots: a window of time cut on every node, collected, kept, given out again.
//!
//! A snapshot is a folder below `snapshots/`. While segments are on their way it is hidden (`.incoming-ID`) and its
//! manifest says so; it is published under its id by a rename and never changes afterwards. Dissections lie in it but
//! are not part of it.

pub mod name;

pub mod window;

mod manifest;

mod cuts;

mod collect;

mod workloads;

pub mod disk;

mod recover;

mod import;

mod chosen;

mod export;

mod error;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wiretape_tape::Nanos;

pub use chosen::Connections;
pub(crate) use cuts::checked as checked_cut;
pub use disk::DiskError;
pub use error::SnapshotError;
pub use export::{Export, ExportError, Wanted};
pub use import::{Import, ImportError, import};
pub use manifest::{DISSECTIONS, MANIFEST, Manifest, NodePart, Origin, PartStatus, SEGMENTS, Status};
pub(crate) use manifest::{replace, sync_folder};
pub use name::BadName;
pub(crate) use recover::DELETED;
pub use window::{Asked, WindowError};
pub use workloads::{Meant, WorkloadFilter};

use crate::catalogue::{Catalogue, Found, SnapshotEntry, incoming_folder};
use crate::cluster::{CLUSTER, Cluster};
use crate::nodes::{Nodes, Surveyed};

/// Folder of the snapshots below the data folder.
pub const SNAPSHOTS: &str = "snapshots";

/// Snapshots collected at the same time. Each streams from every node, so a few already fill the network and the disk.
pub const MAX_COLLECTING: usize = 8;

/// What a new snapshot shall be.
#[derive(Clone, Debug)]
pub struct Create {
    /// Its name; see [`name::check`].
    pub name: String,
    /// Its window.
    pub asked: Asked,
    /// Nodes by name or URL; all when empty.
    pub nodes: Vec<String>,
    /// Whose packets are kept; all when not given.
    pub workloads: Option<WorkloadFilter>,
}

/// All snapshots of a hub. Cheap to clone.
#[derive(Clone)]
pub struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    nodes: Arc<Nodes>,
    cluster: Option<Arc<Cluster>>,
    catalogue: Catalogue,
    /// Held from the look whether a name is free until it is taken.
    naming: tokio::sync::Mutex<()>,
    collecting: Mutex<HashMap<String, Arc<Collecting>>>,
    stopping: CancellationToken,
    counters: Counters,
}

/// What is counted from the start of the hub on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Snapshots asked for.
    pub created: AtomicU64,
    /// Of them and those continued: completed.
    pub completed: AtomicU64,
    /// Failed.
    pub failed: AtomicU64,
    /// Bytes of segments received.
    pub bytes: AtomicU64,
    /// Streams of segments that broke and were taken up again.
    pub resumed: AtomicU64,
    /// Nodes that gave less than their part.
    pub nodes_failed: AtomicU64,
    /// Cuts that an agent could not be told to forget; it does by itself after its own time.
    pub unreleased: AtomicU64,
}

/// A snapshot whose segments are on their way.
#[derive(Debug)]
struct Collecting {
    total: AtomicU64,
    done: AtomicU64,
    cancel: CancellationToken,
    deleted: AtomicBool,
    ended: watch::Sender<bool>,
}

impl Collecting {
    fn new(stopping: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            cancel: stopping.child_token(),
            deleted: AtomicBool::new(false),
            ended: watch::Sender::new(false),
        })
    }
}

impl Snapshots {
    /// The snapshots of a data folder. Those that an earlier run left unfinished are continued in the background.
    pub async fn open(
        data: &Path,
        nodes: Arc<Nodes>,
        cluster: Option<Arc<Cluster>>,
        catalogue: Catalogue,
        stopping: CancellationToken,
    ) -> Result<Self, SnapshotError> {
        let folder = data.join(SNAPSHOTS);
        std::fs::create_dir_all(&folder).map_err(|source| SnapshotError::Io {
            doing: "make the folder for",
            source,
        })?;
        let snapshots = Self {
            inner: Arc::new(Inner {
                folder,
                nodes,
                cluster,
                catalogue,
                naming: tokio::sync::Mutex::default(),
                collecting: Mutex::default(),
                stopping,
                counters: Counters::default(),
            }),
        };
        snapshots.recover().await?;
        Ok(snapshots)
    }

    /// Begins a snapshot; its segments come in the background. What is returned is on disk.
    pub async fn create(&self, create: Create, now: Nanos) -> Result<Manifest, SnapshotError> {
        name::check(&create.name)?;
        // Early, so that a name that is taken is told even when no node answers.
        self.check_free(&create.name).await?;
        let surveyed = self.inner.nodes.survey().await?;
        if surveyed.is_empty() {
            return Err(SnapshotError::NoNodes);
        }
        let there = surveyed.len();
        let chosen = choose(surveyed, &create.nodes)?;
        let all_nodes = chosen.len() == there;
        let tape = window::span(chosen.iter().filter_map(|node| node.boundaries.as_ref().ok()));
        if chosen.iter().all(|node| node.boundaries.is_err()) {
            return Err(SnapshotError::NoAnswer(
                chosen
                    .iter()
                    .filter_map(|node| node.boundaries.as_ref().err())
                    .map(ToString::to_string)
                    .collect(),
            ));
        }
        let (start, end) = window::resolve(create.asked, now, tape)?;

        let manifest = Manifest {
            version: manifest::VERSION,
            id: uuid::Uuid::new_v4().to_string(),
            name: create.name,
            origin: Origin::Cut,
            created_at: now,
            start,
            end,
            status: Status::InProgress,
            reason: None,
            problems: uncovered(create.asked, start, tape),
            nodes: parts(&chosen),
            all_nodes,
            workload_filter: create.workloads,
            cluster: None,
            names: Vec::new(),
        };
        let snapshots = self.clone();
        let broken = |source| SnapshotError::Io {
            doing: "begin",
            source,
        };
        to_the_end(async move { snapshots.add(manifest).await }, broken).await
    }

    /// Writes a new snapshot down and begins to collect it.
    async fn add(&self, manifest: Manifest) -> Result<Manifest, SnapshotError> {
        let _naming = self.inner.naming.lock().await;
        self.check_free(&manifest.name).await?;
        if self.collecting().len() >= MAX_COLLECTING {
            return Err(SnapshotError::TooMany);
        }
        let folder = self.inner.folder.join(incoming_folder(&manifest.id));
        let kept = manifest.clone();
        blocking(move || {
            std::fs::create_dir_all(folder.join(SEGMENTS))?;
            kept.write(&folder)?;
            folder.parent().map_or(Ok(()), sync_folder)
        })
        .await
        .map_err(|source| SnapshotError::Io {
            doing: "create the folder of",
            source,
        })?;
        self.inner.catalogue.refresh_snapshot(&manifest.id).await?;
        self.inner.counters.created.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            id = manifest.id,
            name = manifest.name,
            start = manifest.start,
            end = manifest.end,
            "snapshot begun"
        );
        self.begin(manifest.clone());
        Ok(manifest)
    }

    /// The snapshot that goes by an id, a name, or the start of an id.
    pub async fn find(&self, key: &str) -> Result<SnapshotEntry, SnapshotError> {
        match self.inner.catalogue.snapshot(key).await? {
            Found::One(entry) => Ok(entry),
            Found::Many(ids) => Err(SnapshotError::Ambiguous {
                asked: shown(key),
                ids,
            }),
            Found::None => {
                let all = self.inner.catalogue.snapshots().await?;
                let there = all.into_iter().take(20).map(|entry| entry.name).collect();
                Err(SnapshotError::Unknown {
                    asked: shown(key),
                    there,
                })
            }
        }
    }

    /// The same, provided that it is whole.
    pub async fn find_completed(&self, key: &str) -> Result<SnapshotEntry, SnapshotError> {
        let entry = self.find(key).await?;
        let advice = match entry.status {
            Status::Completed => return Ok(entry),
            Status::InProgress => format!("ask GET /mcp/snapshots/{} until it is completed", entry.name),
            Status::Failed => entry.reason.clone().unwrap_or_default(),
        };
        Err(SnapshotError::NotCompleted {
            name: entry.name,
            status: entry.status,
            advice,
        })
    }

    /// Everything about a snapshot, from its folder.
    pub async fn manifest(&self, entry: &SnapshotEntry) -> Result<Manifest, SnapshotError> {
        let published = self.published(&entry.id);
        let folder = self.path(entry);
        // It may have been published since the catalogue was asked.
        blocking(move || Manifest::read(&folder).or_else(|_| Manifest::read(&published)))
            .await
            .map_err(|source| SnapshotError::Io {
                doing: "read the manifest of",
                source,
            })
    }

    /// The folder of a snapshot that is whole, by its id.
    pub fn published(&self, id: &str) -> PathBuf {
        self.inner.folder.join(id)
    }

    /// The folder of a snapshot.
    pub fn path(&self, entry: &SnapshotEntry) -> PathBuf {
        self.inner.folder.join(&entry.folder)
    }

    /// All snapshots, newest first.
    pub async fn list(&self) -> Result<Vec<SnapshotEntry>, SnapshotError> {
        Ok(self.inner.catalogue.snapshots().await?)
    }

    /// Bytes that have come, and that are to come, of a snapshot on its way.
    pub fn progress(&self, id: &str) -> Option<(u64, u64)> {
        let collecting = self.collecting();
        let live = collecting.get(id)?;
        Some((
            live.done.load(Ordering::Relaxed),
            live.total.load(Ordering::Relaxed),
        ))
    }

    /// Deletes a snapshot with its dissections. One that is on its way is given up first.
    ///
    /// The caller has stopped the dissections that run on it.
    pub async fn delete(&self, entry: &SnapshotEntry) -> Result<(), SnapshotError> {
        let (snapshots, entry) = (self.clone(), entry.clone());
        let broken = |source| SnapshotError::Io {
            doing: "delete",
            source,
        };
        to_the_end(async move { snapshots.remove(&entry).await }, broken).await
    }

    async fn remove(&self, entry: &SnapshotEntry) -> Result<(), SnapshotError> {
        let live = self.collecting().get(&entry.id).map(Arc::clone);
        if let Some(live) = live {
            live.deleted.store(true, Ordering::Relaxed);
            live.cancel.cancel();
            let mut ended = live.ended.subscribe();
            // An error means that the sender is gone, which is an end as well.
            let _ = ended.wait_for(|ended| *ended).await;
        }
        let (root, id) = (self.inner.folder.clone(), entry.id.clone());
        blocking(move || remove(&root, &id))
            .await
            .map_err(|source| SnapshotError::Io {
                doing: "delete the folder of",
                source,
            })?;
        self.inner.catalogue.refresh_snapshot(&entry.id).await?;
        tracing::info!(id = entry.id, name = entry.name, "snapshot deleted");
        Ok(())
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// How many are being collected.
    pub fn active(&self) -> usize {
        self.collecting().len()
    }

    /// Waits until nothing is being collected any more; after the stop was asked for.
    pub async fn settled(&self) {
        let live: Vec<_> = self.collecting().values().map(Arc::clone).collect();
        for live in live {
            let mut ended = live.ended.subscribe();
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    async fn check_free(&self, name: &str) -> Result<(), SnapshotError> {
        match self.inner.catalogue.snapshot(name).await? {
            // The start of another snapshot's id is a poor name, but a free one.
            Found::One(entry) if entry.name == name || entry.id == name => {
                Err(SnapshotError::Taken(name.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn begin(&self, manifest: Manifest) {
        let live = Collecting::new(&self.inner.stopping);
        self.collecting().insert(manifest.id.clone(), Arc::clone(&live));
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let id = manifest.id.clone();
            collect::collect(&inner, manifest, &live).await;
            inner
                .collecting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&id);
            live.ended.send_replace(true);
        });
    }

    fn collecting(&self) -> MutexGuard<'_, HashMap<String, Arc<Collecting>>> {
        self.inner
            .collecting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The nodes that are meant, all when none is named.
fn choose(surveyed: Vec<Surveyed>, asked: &[String]) -> Result<Vec<Surveyed>, SnapshotError> {
    for asked in asked {
        if !surveyed
            .iter()
            .any(|node| node.name == *asked || node.agent.url() == asked)
        {
            let there = surveyed.iter().map(|node| node.name.clone()).collect();
            return Err(SnapshotError::UnknownNode {
                asked: shown(asked),
                there,
            });
        }
    }
    let meant = |node: &Surveyed| {
        asked
            .iter()
            .any(|asked| node.name == *asked || node.agent.url() == asked)
    };
    Ok(surveyed
        .into_iter()
        .filter(|node| asked.is_empty() || meant(node))
        .collect())
}

fn parts(nodes: &[Surveyed]) -> Vec<NodePart> {
    let mut parts: Vec<NodePart> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let folder = name::folder(&node.name, |folder| {
            folder == CLUSTER || parts.iter().any(|part| part.folder == folder)
        });
        parts.push(NodePart {
            name: node.name.clone(),
            url: node.agent.url().to_owned(),
            folder,
            status: PartStatus::InProgress,
            error: None,
            left_out: None,
            cut: false,
            segments: Vec::new(),
        });
    }
    parts
}

/// A window that was named moment by moment and begins before the tape does: said, not passed over.
fn uncovered(asked: Asked, start: Nanos, tape: Option<(Nanos, Nanos)>) -> Vec<String> {
    match (asked, tape) {
        (Asked::Between(..), Some((oldest, _))) if start < oldest => vec![format!(
            "nothing is on any tape from {} to {}: the window begins before the oldest packet that was still kept",
            window::at(start),
            window::at(oldest)
        )],
        _ => Vec::new(),
    }
}

/// Hides the folder, so that half a removal is never taken for a snapshot, and removes it.
fn remove(root: &Path, id: &str) -> io::Result<()> {
    let hidden = root.join(format!("{}{id}", recover::DELETED));
    for folder in [root.join(id), root.join(incoming_folder(id))] {
        match std::fs::rename(&folder, &hidden) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            renamed => renamed?,
        }
        sync_folder(root)?;
        std::fs::remove_dir_all(&hidden)?;
    }
    Ok(())
}

/// Runs on a task of its own: all of it is done, also when whoever waits for it goes away meanwhile.
/// When its task breaks, the error is what `broken` makes of it.
pub(crate) async fn to_the_end<T: Send + 'static, E: Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
    broken: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(broken(io::Error::other(error))))
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Runs what waits for the disk away from the async workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// What a user wrote, short enough for an answer and without control characters.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
