//! What only the cluster's API server knows: services and the addresses behind them, nodes, namespaces, and events. Watched here, once
//! for the cluster; pods are told by the agents, each of its own node.
//!
//! What is learnt goes onto a tape of the hub's own ([`keeper`]), names with the time that they held, so that a restart
//! keeps it and a snapshot takes its window of it along, like that of any node.

mod objects;

mod directory;

mod keeper;

mod load;

mod watch;

mod status;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wiretape_tape::{CutError, Name, Nanos, SegmentInfo, TapeError};

pub use status::{Kind, Status, Watched};

use keeper::Keeper;

/// What the cluster's part of a snapshot is called where nodes have their names.
pub const CLUSTER: &str = "cluster";

/// Whether the cluster is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kubernetes {
    /// Not at all.
    #[default]
    Off,
    /// By the account of the pod that the hub runs in.
    InCluster,
    /// As a kubeconfig says.
    File(PathBuf),
}

/// Why the cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody says where it is.
    #[error("cannot tell how to reach the Kubernetes API: {0}; give --kubeconfig, or --kubernetes off")]
    Config(String),
    /// The tape cannot be opened.
    #[error(transparent)]
    Tape(#[from] TapeError),
}

/// The cluster as the hub knows it.
pub struct Cluster {
    keeper: Arc<Keeper>,
}

/// The cluster's part of a snapshot.
#[derive(Debug, Default)]
pub struct Part {
    /// Segments, copied to where they were wanted.
    pub segments: Vec<SegmentInfo>,
    /// Names that held in the window.
    pub names: Vec<Name>,
}

impl Cluster {
    /// Opens the tape in `folder` and begins to watch, in the background, until `stopping`. Whether the API server
    /// answers shows in [`status`](Self::status): the hub goes on without.
    pub async fn start(
        kubernetes: &Kubernetes,
        folder: &Path,
        stopping: CancellationToken,
    ) -> Result<Option<Self>, ClusterError> {
        let config = match kubernetes {
            Kubernetes::Off => return Ok(None),
            Kubernetes::InCluster => watch::in_cluster()?,
            Kubernetes::File(path) => watch::from_file(path).await?,
        };
        let keeper = Arc::new(Keeper::open(folder, crate::now())?);
        watch::start(config, &keeper, stopping)?;
        Ok(Some(Self { keeper }))
    }

    /// How each watch stands, and what is kept.
    pub fn status(&self) -> Status {
        self.keeper.status()
    }

    /// Every name that is known, those that have ended included as long as the tape reaches back to them.
    pub fn names(&self) -> Vec<Name> {
        self.keeper.names()
    }

    /// Copies what is on the tape of a window into `folder`. Blocks; `id` is the snapshot's.
    pub fn cut(&self, id: &str, start: Nanos, end: Nanos, folder: &Path) -> io::Result<Part> {
        let names = self.keeper.names();
        let holds = |name: &Name| name.since < end && name.until.is_none_or(|until| until > start);
        let names = names.into_iter().filter(holds).collect();
        let shelf = self.keeper.shelf();
        let segments = match shelf.cut(id, start, end, crate::now()) {
            Ok(cut) => cut.segments,
            // Nothing has happened then; who was who is known all the same.
            Err(CutError::OutsideTape { .. }) => {
                return Ok(Part {
                    segments: Vec::new(),
                    names,
                });
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let copied = copy(&shelf, id, &segments, folder);
        // Also one without segments: the tape has a gap where the hub was down.
        let released = shelf.release(id).map_err(io::Error::other);
        copied.and(released).map(|()| Part { segments, names })
    }
}

/// The bytes of the cut: the open segment grows meanwhile.
fn copy(shelf: &wiretape_tape::Shelf, id: &str, segments: &[SegmentInfo], folder: &Path) -> io::Result<()> {
    use io::Read;
    if segments.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    for segment in segments {
        let (file, bytes) = shelf
            .cut_segment(id, &segment.name, 0)
            .map_err(io::Error::other)?;
        let mut copy = std::fs::File::create(folder.join(&segment.name))?;
        io::copy(&mut file.take(bytes), &mut copy)?;
        copy.sync_all()?;
    }
    crate::snapshots::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use wiretape_tape::Event;

    use super::*;

    #[test]
    fn a_window_in_which_the_hub_was_down_leaves_no_cut_behind() {
        let folder = tempfile::tempdir().unwrap();
        let record = |at| {
            let keeper = Keeper::open(folder.path(), at).unwrap();
            let event = Event {
                at,
                reason: "Started".to_owned(),
                ..Event::default()
            };
            keeper.event("u1", event, at);
            keeper.tick(u64::MAX / 2);
            keeper
        };
        drop(record(1_000));
        let cluster = Cluster {
            keeper: Arc::new(record(9_000)),
        };
        let part = cluster
            .cut("snapshot", 4_000, 5_000, &folder.path().join("copied"))
            .unwrap();
        assert!(part.segments.is_empty());
        assert_eq!(cluster.keeper.shelf().counters().cuts, 0);
    }
}
