//! The hub as one piece: its parts in one place, opened in order and stopped in order.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use wiretape_dissect::protobuf::Descriptors;

use crate::catalogue::{Catalogue, CatalogueError};
use crate::cluster::{CLUSTER, Cluster, ClusterError, Kubernetes};
use crate::jobs::{DissectionError, Jobs};
use crate::live::{Live, Pace};
use crate::nodes::{Nodes, Patience, Where};
use crate::query::Databases;
use crate::snapshots::{DiskError, SNAPSHOTS, SnapshotError, Snapshots, disk};

/// Locked as long as a hub runs on the data folder.
const LOCK: &str = "hub.lock";
/// Longest wait for jobs to end at a stop. What has not ended then is begun again at the next start.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// What a hub is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its data folder.
    pub data: PathBuf,
    /// Where the agents are.
    pub places: Where,
    /// Whether and how the Kubernetes API is asked.
    pub kubernetes: Kubernetes,
    /// How long they are waited for.
    pub patience: Patience,
    /// Threads to dissect on.
    pub threads: usize,
    /// Names for bodies of gRPC.
    pub descriptors: Arc<Descriptors>,
}

/// Why a hub cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {}: {source}; give another one with --data", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another hub uses it.
    #[error("another hub runs on the data folder {}; stop it, or give this one another --data", .0.display())]
    InUse(PathBuf),
    /// Its catalogue gives no answers.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The Kubernetes API cannot be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Its snapshots cannot be taken over.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// Its dissections cannot be taken over.
    #[error(transparent)]
    Dissections(#[from] DissectionError),
}

/// A running hub.
pub struct Hub {
    /// The agents.
    pub nodes: Arc<Nodes>,
    /// What the Kubernetes API tells, if it is asked.
    pub cluster: Option<Arc<Cluster>>,
    /// The snapshots.
    pub snapshots: Snapshots,
    /// The dissections.
    pub jobs: Jobs,
    /// Those that are open for questions.
    pub databases: Arc<Databases>,
    /// The last minutes, while that is switched on.
    pub live: Live,
    /// What there is of both.
    pub catalogue: Catalogue,
    /// The data folder.
    pub data: PathBuf,
    /// When it started.
    pub since: Instant,
    stopping: CancellationToken,
    _lock: File,
}

impl Hub {
    /// Takes over a data folder, with all that an earlier run has left in it.
    pub async fn open(options: Options) -> Result<Self, StartError> {
        let lock = lock(&options)?;
        let stopping = CancellationToken::new();
        let nodes = Arc::new(Nodes::new(options.places, options.patience));
        let folder = options.data.join(CLUSTER);
        let cluster = Cluster::start(&options.kubernetes, &folder, stopping.clone()).await?;
        let cluster = cluster.map(Arc::new);
        let catalogue = Catalogue::open(&options.data).await?;
        let snapshots = Snapshots::open(
            &options.data,
            Arc::clone(&nodes),
            cluster.clone(),
            catalogue.clone(),
            stopping.clone(),
        )
        .await?;
        let jobs = Jobs::new(catalogue.clone(), options.threads);
        let root = options.data.join(SNAPSHOTS);
        jobs.recover(|id| root.join(id), crate::now()).await?;
        let databases = Arc::new(Databases::new(options.descriptors));
        let live = Live::new(
            Arc::clone(&nodes),
            cluster.clone(),
            Arc::clone(&databases),
            &options.data,
            Pace::default(),
            stopping.clone(),
        );
        Ok(Self {
            nodes,
            cluster,
            snapshots,
            jobs,
            databases,
            live,
            catalogue,
            data: options.data,
            since: Instant::now(),
            stopping,
            _lock: lock,
        })
    }

    /// Whether there is room in the data folder to go on.
    pub fn room(&self) -> Result<(), DiskError> {
        disk::check(&self.data, 0)
    }

    /// Ends what runs in the background so that the next start can go on with it.
    pub async fn stop(&self) {
        self.stopping.cancel();
        let ended = async {
            self.snapshots.settled().await;
            self.jobs.interrupt().await;
        };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::warn!("some jobs did not end in time; the next start begins them again");
        }
    }
}

fn lock(options: &Options) -> Result<File, StartError> {
    let folder = options.data.clone();
    let wrong = |source| StartError::Folder {
        folder: folder.clone(),
        source,
    };
    std::fs::create_dir_all(options.data.join(SNAPSHOTS)).map_err(wrong)?;
    let path = options.data.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse(folder)),
        Err(TryLockError::Error(source)) => Err(wrong(source)),
    }
}
