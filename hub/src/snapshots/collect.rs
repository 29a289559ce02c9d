//! How a snapshot comes together: cut on every node, stream the segments, release the cuts, publish.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;
use wiretape_tape::{Cut, SegmentInfo};

use super::{
    Collecting, Inner, Manifest, NodePart, PartStatus, SEGMENTS, Status, WorkloadFilter, blocking, disk,
    name, sync_folder, workloads,
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
/// Segments of one node. A 1 TiB ring in 64 MiB segments has 16 Ki.
const MAX_SEGMENTS: usize = 1 << 16;

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
            release(inner, &manifest).await;
        }
        None => tracing::info!(
            id = manifest.id,
            "snapshot interrupted; it is continued at the next start"
        ),
        Some(gathered) => {
            conclude(&mut manifest, gathered.err());
            release(inner, &manifest).await;
            if let Err(error) = publish(inner, &folder, &manifest).await {
                // Nothing is lost: the folder stays, and the next start tries again.
                tracing::error!(id = manifest.id, %error, "the snapshot cannot be published");
            }
            count(inner, &manifest);
        }
    }
}

/// Renames a whole snapshot into its place.
pub(super) async fn publish(inner: &Inner, folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let (root, folder, kept) = (inner.folder.clone(), folder.to_owned(), manifest.clone());
    blocking(move || {
        if kept.status == Status::Failed {
            match std::fs::remove_dir_all(folder.join(SEGMENTS)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        kept.write(&folder)?;
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

async fn gather(
    inner: &Inner,
    folder: &Path,
    manifest: &mut Manifest,
    live: &Collecting,
) -> Result<(), String> {
    cut(inner, manifest).await;
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

/// Makes the cuts on all nodes, or finds those again that an earlier run made.
async fn cut(inner: &Inner, manifest: &mut Manifest) {
    let (id, start, end) = (manifest.id.as_str(), manifest.start, manifest.end);
    let cuts = join_all(manifest.nodes.iter().map(|part| async move {
        let agent = inner.nodes.agent(&part.url).map_err(|error| error.to_string())?;
        if !part.cut {
            return agent.cut(id, start, end).await.map_err(|error| error.to_string());
        }
        match agent.held_cut(id).await {
            Ok(Some(cut)) => Ok(cut),
            Ok(None) => {
                Err("the agent no longer holds the cut that was made before the hub ended".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }))
    .await;
    for (part, cut) in manifest.nodes.iter_mut().zip(cuts) {
        match cut.and_then(checked) {
            Ok(cut) => {
                // The agent may have told its name only now.
                if !cut.node.is_empty() {
                    part.name = cut.node;
                }
                part.segments = cut.segments;
                let node = part.name.clone();
                if !part.cut {
                    manifest.names.extend(cut.names.into_iter().map(|name| NodeName {
                        node: node.clone(),
                        name,
                    }));
                }
                part.cut = true;
            }
            Err(error) => {
                part.status = PartStatus::Failed;
                part.error = Some(error);
            }
        }
    }
}

/// Leaves of every node's packets those that are meant. Where that fails, nothing of the node is kept: more than was asked
/// for is as wrong as less.
async fn filter_parts(filter: &WorkloadFilter, folder: &Path, manifest: &mut Manifest) -> Result<(), String> {
    let meant = Arc::new(filter.meant()?);
    let names = Arc::new(Names::new(manifest.names.clone()));
    let taken: Vec<String> = manifest.nodes.iter().map(|part| part.folder.clone()).collect();
    for part in &mut manifest.nodes {
        // Into a folder of its own: a hub that ends here begins again with what has come, not with half of what is kept.
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
            std::fs::remove_dir_all(&from)?;
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

/// An agent's word becomes paths and sizes here, so it is not taken on trust.
pub(crate) fn checked(cut: Cut) -> Result<Cut, String> {
    if cut.segments.len() > MAX_SEGMENTS {
        return Err(format!(
            "the cut has {} segments, more than {MAX_SEGMENTS}",
            cut.segments.len()
        ));
    }
    for segment in &cut.segments {
        name::check(&segment.name)
            .map_err(|error| format!("the cut has a segment that cannot be stored: {error}"))?;
    }
    Ok(cut)
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
    for segment in &part.segments {
        let path = place.join(&segment.name);
        let fetched = match &problem {
            // The cut is gone, but what an earlier run has brought whole counts.
            Some(_) if length(&path).await == segment.bytes => Ok(()),
            Some(problem) => Err(problem.clone()),
            None => fetch(inner, &agent, cut, segment, &path, live).await,
        };
        match fetched {
            Ok(()) => here.push(segment.clone()),
            Err(error) => {
                problem = Some(error);
                // A part of a segment would count as one; nothing else is done about a file that is not there.
                let _ = tokio::fs::remove_file(&path).await;
            }
        }
    }
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

/// Brings one segment, taking a broken stream up again where it broke.
async fn fetch(
    inner: &Inner,
    agent: &Agent,
    cut: &str,
    segment: &SegmentInfo,
    path: &Path,
    live: &Collecting,
) -> Result<(), String> {
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
            return Err(error.to_string());
        }
        if let Broken::Disk(error) = &error {
            return Err(format!("cannot store {}: {error}", segment.name));
        }
        breaks = if length(path).await > before {
            1
        } else {
            breaks + 1
        };
        if breaks > MAX_BREAKS {
            return Err(format!(
                "{} broke off {breaks} times without a byte: {error}",
                segment.name
            ));
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

/// Lets the agents forget their cuts. One that cannot be told forgets by itself after an hour.
async fn release(inner: &Inner, manifest: &Manifest) {
    join_all(manifest.nodes.iter().filter(|part| part.cut).map(|part| async {
        let released = match inner.nodes.agent(&part.url) {
            Ok(agent) => agent.release(&manifest.id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = released {
            inner.counters.unreleased.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(node = part.name, %error, "the agent cannot be told to release its cut");
        }
    }))
    .await;
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
