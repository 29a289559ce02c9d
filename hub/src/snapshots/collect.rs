//! How a snapshot comes together: cut on every node, stream the segments, publish, release the cuts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;
use wiretape_tape::SegmentInfo;

use super::{
    Collecting, Inner, Manifest, NodePart, PartStatus, SEGMENTS, Status, WorkloadFilter, blocking, cuts,
    disk, name, remove_all, sync_folder, workloads,
};
use crate::calls::{Names, NodeName};
use crate::catalogue::incoming_folder;
use crate::cluster::{CLUSTER, Cluster};
use crate::nodes::{Agent, NodeError};

/// Nodes that stream to one snapshot at the same time. More would not fill the hub's disk any faster.
const MAX_STREAMS: usize = 16;
/// Times in a row that a stream may break without having brought a byte.
const MAX_BREAKS: u32 = 6;
/// Wait before a broken stream is taken up again, doubled each time: 6 s in all, longer than an agent takes to restart.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Written at once: the segments are large, and a write costs a switch of threads.
const WRITE_BYTES: usize = 1 << 20;

/// Collects until the snapshot is published, deleted, or the hub stops (it is then continued at the next start).
pub(super) async fn collect(inner: &Inner, mut manifest: Manifest, live: &Collecting) {
    let folder = inner.folder.join(incoming_folder(&manifest.id));
    let gathered = tokio::select! {
        gathered = gather(inner, &folder, &mut manifest, live) => Some(gathered),
        () = live.cancel.cancelled() => None,
    };
    match gathered {
        None if live.deleted.load(Ordering::Relaxed) => {
            // The folder is removed by whoever deletes.
            cuts::release(inner, &manifest).await;
        }
        None => tracing::info!(
            id = manifest.id,
            "snapshot interrupted; it is continued at the next start"
        ),
        Some(gathered) => {
            conclude(&mut manifest, gathered.err());
            match publish(inner, &folder, &manifest).await {
                Ok(()) => {
                    count(inner, &manifest);
                    // Not before: until it is published, a hub that ends begins again with what the agents hold.
                    cuts::release(inner, &manifest).await;
                }
                // Nothing is lost: the folder stays, and the next start tries again.
                Err(error) => tracing::error!(id = manifest.id, %error, "the snapshot cannot be published"),
            }
        }
    }
}

/// Renames a whole snapshot into its place.
pub(super) async fn publish(inner: &Inner, folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let (root, folder, kept) = (inner.folder.clone(), folder.to_owned(), manifest.clone());
    blocking(move || {
        let segments = folder.join(SEGMENTS);
        if kept.status == Status::Failed {
            remove_all(&segments)?;
        }
        kept.write(&folder)?;
        if kept.status != Status::Failed {
            remove_unnamed(&segments, &kept)?;
        }
        std::fs::rename(&folder, root.join(&kept.id))?;
        sync_folder(&root)
    })
    .await?;
    inner
        .catalogue
        .refresh_snapshot(&manifest.id)
        .await
        .map_err(io::Error::other)
}

/// Removes the packets that are not the snapshot's in the end: those that a filter by workload was asked of.
fn remove_unnamed(segments: &Path, manifest: &Manifest) -> io::Result<()> {
    for entry in std::fs::read_dir(segments)? {
        let entry = entry?;
        let is_named = manifest
            .parts()
            .any(|part| !part.segments.is_empty() && entry.file_name() == part.folder.as_str());
        if !is_named && entry.file_type()?.is_dir() {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

async fn gather(
    inner: &Inner,
    folder: &Path,
    manifest: &mut Manifest,
    live: &Collecting,
) -> Result<(), String> {
    cuts::make(inner, manifest).await;
    if let Some(cluster) = &inner.cluster {
        cluster_part(cluster, folder, manifest).await;
    }
    let (kept, path) = (manifest.clone(), folder.to_owned());
    blocking(move || kept.write(&path))
        .await
        .map_err(|error| format!("cannot write the manifest: {error}"))?;

    let total = manifest.nodes.iter().map(NodePart::bytes).sum();
    live.total.store(total, Ordering::Relaxed);
    let (path, nodes) = (folder.to_owned(), manifest.nodes.clone());
    let here = blocking(move || Ok(bytes_here(&path, &nodes))).await.unwrap_or(0);
    live.done.store(here, Ordering::Relaxed);
    disk::check(folder, total.saturating_sub(here)).map_err(|error| error.to_string())?;

    let mut streams = Vec::with_capacity(manifest.nodes.len());
    for part in &mut manifest.nodes {
        streams.push(stream_part(inner, folder, &manifest.id, part, live));
    }
    stream::iter(streams)
        .buffer_unordered(MAX_STREAMS)
        .collect::<Vec<()>>()
        .await;
    if let Some(filter) = manifest.workload_filter.clone() {
        filter_parts(&filter, folder, manifest).await?;
    }
    Ok(())
}

/// Leaves of every node's packets those that are meant. Where that fails, nothing of the node is kept: more than was asked
/// for is as wrong as less.
async fn filter_parts(filter: &WorkloadFilter, folder: &Path, manifest: &mut Manifest) -> Result<(), String> {
    let meant = Arc::new(filter.meant()?);
    let names = Arc::new(Names::new(manifest.names.clone()));
    let taken: Vec<String> = manifest.nodes.iter().map(|part| part.folder.clone()).collect();
    for part in &mut manifest.nodes {
        // Into a folder of its own: a hub that ends here begins again with what has come, not with half of what is kept.
        // So what has come stays until the snapshot is published.
        let kept = name::folder(&format!("{}-kept", part.folder), |folder| {
            taken.iter().any(|taken| taken == folder)
        });
        let (from, to) = (
            folder.join(SEGMENTS).join(&part.folder),
            folder.join(SEGMENTS).join(&kept),
        );
        let (meant, names) = (Arc::clone(&meant), Arc::clone(&names));
        let (node, segments) = (part.name.clone(), part.segments.clone());
        let done = blocking(move || {
            let done = workloads::keep(&meant, &names, &node, &segments, (&from, &to));
            if done.is_err() {
                // Room for the others. The reason that is told is the first.
                let _ = remove_all(&to);
            }
            done
        })
        .await;
        match done {
            Ok(done) => {
                part.folder = kept;
                part.segments = done.segments;
                part.left_out = Some(done.left_out);
            }
            Err(error) => {
                part.status = PartStatus::Failed;
                part.segments.clear();
                part.error = Some(format!("its packets cannot be filtered by workload: {error}"));
            }
        }
    }
    Ok(())
}

/// What the hub itself knows of the cluster. Without it the snapshot is poorer, not worthless.
async fn cluster_part(cluster: &Arc<Cluster>, folder: &Path, manifest: &mut Manifest) {
    let place = folder.join(SEGMENTS).join(CLUSTER);
    let (id, start, end, cut) = (
        manifest.id.clone(),
        manifest.start,
        manifest.end,
        Arc::clone(cluster),
    );
    match blocking(move || cut.cut(&id, start, end, &place)).await {
        Ok(part) => {
            // A run that was cut short has told some already.
            manifest.names.retain(|name| name.node != CLUSTER);
            manifest.names.extend(part.names.into_iter().map(|name| NodeName {
                node: CLUSTER.to_owned(),
                name,
            }));
            manifest.cluster = Some(NodePart {
                name: CLUSTER.to_owned(),
                url: String::new(),
                folder: CLUSTER.to_owned(),
                status: PartStatus::Completed,
                error: None,
                left_out: None,
                cut: true,
                segments: part.segments,
            });
        }
        Err(error) => manifest.problems.push(format!(
            "what the hub knew of services, nodes and Kubernetes events is missing: {error}"
        )),
    }
    for problem in cluster.status().problems() {
        if !manifest.problems.contains(&problem) {
            manifest.problems.push(problem);
        }
    }
}

fn bytes_here(folder: &Path, nodes: &[NodePart]) -> u64 {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    nodes
        .iter()
        .flat_map(|part| part.segments.iter().map(move |segment| (part, segment)))
        .map(|(part, segment)| {
            size(folder.join(SEGMENTS).join(&part.folder).join(&segment.name)).min(segment.bytes)
        })
        .sum()
}

/// Brings one node's segments, one after the other. What cannot be had leaves a reason and no file.
async fn stream_part(inner: &Inner, folder: &Path, cut: &str, part: &mut NodePart, live: &Collecting) {
    let place = folder.join(SEGMENTS).join(&part.folder);
    let agent = match inner.nodes.agent(&part.url) {
        Ok(agent) if part.cut => agent,
        _ => return,
    };
    let mut problem = part.error.take();
    if let Err(error) = tokio::fs::create_dir_all(&place).await {
        problem = Some(format!("cannot make its folder: {error}"));
    }
    let mut here = Vec::with_capacity(part.segments.len());
    let mut gone = None;
    for segment in &part.segments {
        let path = place.join(&segment.name);
        let fetched = match &problem {
            // The cut is gone, but what an earlier run has brought whole counts.
            Some(_) if length(&path).await == segment.bytes => Ok(()),
            Some(problem) => Err(Missing::Rest(problem.clone())),
            None => fetch(inner, &agent, cut, segment, &path, live).await,
        };
        match fetched {
            Ok(()) => here.push(segment.clone()),
            Err(missing) => {
                match missing {
                    Missing::Segment(error) => gone = gone.or(Some(error)),
                    Missing::Rest(error) => problem = Some(error),
                }
                // A part of a segment would count as one; nothing else is done about a file that is not there.
                let _ = tokio::fs::remove_file(&path).await;
            }
        }
    }
    // What is here whole is so, whether or not the agent still holds its cut.
    let problem = problem.or(gone).filter(|_| here.len() < part.segments.len());
    part.status = match &problem {
        None => PartStatus::Completed,
        Some(_) if here.is_empty() => PartStatus::Failed,
        Some(_) => PartStatus::Partial,
    };
    part.error = problem.map(|error| {
        format!(
            "{error} ({} of {} segments are here)",
            here.len(),
            part.segments.len()
        )
    });
    part.segments = here;
}

/// Why a segment is not here.
enum Missing {
    /// The agent does not give it: a cut that holds too much loses its oldest segments. Those behind it may be there.
    Segment(String),
    /// Nothing more comes of this node.
    Rest(String),
}

/// Brings one segment, taking a broken stream up again where it broke.
async fn fetch(
    inner: &Inner,
    agent: &Agent,
    cut: &str,
    segment: &SegmentInfo,
    path: &Path,
    live: &Collecting,
) -> Result<(), Missing> {
    let mut breaks = 0;
    loop {
        let before = length(path).await;
        if before == segment.bytes {
            return Ok(());
        }
        let error = match fetch_once(inner, agent, cut, segment, path, before, live).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if let Broken::Node(error @ NodeError::Refused { .. }) = &error {
            return Err(Missing::Segment(error.to_string()));
        }
        if let Broken::Disk(error) = &error {
            return Err(Missing::Rest(format!("cannot store {}: {error}", segment.name)));
        }
        breaks = if length(path).await > before {
            1
        } else {
            breaks + 1
        };
        if breaks > MAX_BREAKS {
            return Err(Missing::Rest(format!(
                "{} broke off {breaks} times without a byte: {error}",
                segment.name
            )));
        }
        inner.counters.resumed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(FIRST_WAIT * 2_u32.pow(breaks - 1)).await;
    }
}

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("the agent sent {0} bytes instead of {1}")]
    Length(u64, u64),
}

async fn fetch_once(
    inner: &Inner,
    agent: &Agent,
    cut: &str,
    segment: &SegmentInfo,
    path: &Path,
    from: u64,
    live: &Collecting,
) -> Result<(), Broken> {
    // More than the whole can only be rubbish of another kind; begin again.
    let from = if from > segment.bytes { 0 } else { from };
    let mut answer = agent.segment(cut, &segment.name, from).await?;
    let from = if answer.status() == StatusCode::PARTIAL_CONTENT {
        from
    } else {
        0
    };
    let mut file = tokio::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .await?;
    file.set_len(from).await?;
    tokio::io::AsyncSeekExt::seek(&mut file, io::SeekFrom::Start(from)).await?;
    let mut file = tokio::io::BufWriter::with_capacity(WRITE_BYTES, file);
    let mut have = from;
    let streamed = loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                have += bytes.len() as u64;
                if have > segment.bytes {
                    break Err(Broken::Length(have, segment.bytes));
                }
                file.write_all(&bytes).await?;
                live.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                inner
                    .counters
                    .bytes
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Ok(None) if have == segment.bytes => break Ok(()),
            Ok(None) => break Err(Broken::Length(have, segment.bytes)),
            Err(error) => break Err(agent.failed(&error).into()),
        }
    };
    // Also after a break, so that it can be taken up again here.
    file.flush().await?;
    file.get_ref().sync_data().await?;
    streamed
}

async fn length(path: &Path) -> u64 {
    tokio::fs::metadata(path)
        .await
        .map_or(0, |metadata| metadata.len())
}

/// Says what has become of it.
fn conclude(manifest: &mut Manifest, failure: Option<String>) {
    for part in &manifest.nodes {
        if let Some(error) = &part.error {
            let missing = if part.status == PartStatus::Partial {
                "some of its packets"
            } else {
                "its packets"
            };
            manifest
                .problems
                .push(format!("{}: {error}; {missing} are missing", part.name));
        }
    }
    let nothing = manifest
        .nodes
        .iter()
        .all(|part| part.status == PartStatus::Failed);
    manifest.reason = match failure {
        Some(reason) => Some(reason),
        None if nothing => Some(format!(
            "no node could be collected: {}",
            manifest.problems.join("; ")
        )),
        None => None,
    };
    manifest.status = if manifest.reason.is_some() {
        Status::Failed
    } else {
        Status::Completed
    };
    if manifest.status == Status::Failed {
        for part in &mut manifest.nodes {
            part.status = PartStatus::Failed;
            part.segments.clear();
        }
    }
}

fn count(inner: &Inner, manifest: &Manifest) {
    let counters = &inner.counters;
    let short = manifest.nodes.iter().filter(|part| part.error.is_some()).count();
    counters.nodes_failed.fetch_add(short as u64, Ordering::Relaxed);
    match manifest.status {
        Status::Failed => {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                id = manifest.id,
                name = manifest.name,
                reason = manifest.reason,
                "snapshot failed"
            );
        }
        _ => {
            counters.completed.fetch_add(1, Ordering::Relaxed);
            tracing::info!(
                id = manifest.id,
                name = manifest.name,
                bytes = manifest.bytes(),
                "snapshot completed"
            );
        }
    }
}
