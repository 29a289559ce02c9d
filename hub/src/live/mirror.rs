//! The newest segments of every tape, kept beside the hub from round to round, so that only what is new crosses the
//! network.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use reqwest::StatusCode;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use wiretape_tape::{Cut, Nanos, SegmentInfo};

use crate::calls::NodeName;
use crate::dissections::Source;
use crate::losses::{self, Lost};
use crate::nodes::{Agent, Nodes};
use crate::snapshots::{checked_cut, name};

/// The segments that are here.
pub(super) struct Mirror {
    folder: PathBuf,
}

/// A cut that was asked for. It is released when this is dropped, so also when its round is called off half-way.
struct Held {
    agent: Agent,
    id: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let (agent, id) = (self.agent.clone(), std::mem::take(&mut self.id));
        let release = async move {
            if let Err(error) = agent.release(&id).await {
                // The agent forgets it by itself after an hour.
                tracing::debug!(%error, "a cut of live dissection is not released");
            }
        };
        // Without a runtime the hub has ended.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}

/// What a round has to dissect.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) sources: Vec<Source>,
    pub(super) names: Vec<NodeName>,
    pub(super) losses: Vec<Lost>,
    /// From when on all of it is here: a window that holds too many bytes begins later.
    pub(super) start: Nanos,
    /// Bytes of its segments.
    pub(super) bytes: u64,
    /// What is missing, in words.
    pub(super) problems: Vec<String>,
}

impl Mirror {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Brings what the window of `[start, end)` holds and is not here yet.
    ///
    /// # Errors
    /// Why there is nothing from any node.
    pub(super) async fn gather(
        &self,
        nodes: &Nodes,
        id: &str,
        (start, end): (Nanos, Nanos),
        most_bytes: u64,
    ) -> Result<Gathered, String> {
        let agents = nodes.agents().await.map_err(|error| error.to_string())?;
        if agents.is_empty() {
            return Err("the hub knows no agents; start it with --node or --nodes-dns".to_owned());
        }
        let share = most_bytes / agents.len() as u64;
        let parts = join_all(
            agents
                .iter()
                .map(|agent| self.part(agent, id, (start, end), share)),
        )
        .await;
        let mut gathered = Gathered {
            start,
            ..Gathered::default()
        };
        let mut failed = 0;
        for part in parts {
            match part {
                Ok(part) => {
                    gathered.sources.extend(part.sources);
                    gathered.names.extend(part.names);
                    gathered.losses.extend(part.losses);
                    gathered.start = gathered.start.max(part.start);
                    gathered.bytes += part.bytes;
                    gathered.problems.extend(part.problems);
                }
                Err(problem) => {
                    failed += 1;
                    gathered.problems.push(problem);
                }
            }
        }
        if failed == agents.len() {
            return Err(gathered.problems.join("; "));
        }
        Ok(gathered)
    }

    /// One node's part of it.
    async fn part(
        &self,
        agent: &Agent,
        id: &str,
        window: (Nanos, Nanos),
        share: u64,
    ) -> Result<Gathered, String> {
        let _held = Held {
            agent: agent.clone(),
            id: id.to_owned(),
        };
        let cut = agent.cut(id, window.0, window.1).await;
        let cut = cut.map_err(|error| error.to_string()).and_then(checked_cut)?;
        self.bring(agent, &cut, window.0, share).await
    }

    async fn bring(&self, agent: &Agent, cut: &Cut, start: Nanos, share: u64) -> Result<Gathered, String> {
        let (segments, start) = newest(&cut.segments, start, share);
        // Two agents may say that they are the same node; their segments must not mix.
        let place = self
            .folder
            .join(name::folder(&cut.node, |_| false))
            .join(name::folder(agent.url(), |_| false));
        let made = tokio::fs::create_dir_all(&place).await;
        made.map_err(|error| format!("cannot make {}: {error}", place.display()))?;
        let mut part = Gathered {
            start,
            ..Gathered::default()
        };
        let mut files = Vec::with_capacity(segments.len());
        for segment in segments {
            let path = place.join(&segment.name);
            match fetch(agent, &cut.id, segment, &path).await {
                Ok(()) => {
                    part.bytes += segment.bytes;
                    files.push(path);
                }
                Err(error) => part
                    .problems
                    .push(format!("{}: {} is missing: {error}", cut.node, segment.name)),
            }
        }
        part.sources.push(Source {
            node: cut.node.clone(),
            files,
        });
        part.losses = losses::of_segments(&cut.node, segments);
        part.names.extend(cut.names.iter().map(|name| NodeName {
            node: cut.node.clone(),
            name: name.clone(),
        }));
        Ok(part)
    }

    /// Removes the segments that no round needs any more.
    pub(super) fn prune(&self, needed: &HashSet<PathBuf>) {
        let entries = |folder: &Path| {
            std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect::<Vec<_>>()
        };
        for file in entries(&self.folder)
            .iter()
            .flat_map(|node| entries(node))
            .flat_map(|agent| entries(&agent))
            .filter(|file| !needed.contains(file))
        {
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::debug!(file = %file.display(), %error, "a segment of live dissection stays");
            }
        }
    }
}

/// The newest segments that are within a node's share, one at least, and from when on they hold all.
fn newest(segments: &[SegmentInfo], start: Nanos, share: u64) -> (&[SegmentInfo], Nanos) {
    let mut room = share;
    let mut from = segments.len();
    for segment in segments.iter().rev() {
        if segment.bytes > room && from < segments.len() {
            break;
        }
        room = room.saturating_sub(segment.bytes);
        from -= 1;
    }
    let kept = segments.get(from..).unwrap_or_default();
    let begins = kept.first().and_then(|segment| segment.first);
    match begins {
        Some(first) if from > 0 => (kept, start.max(first)),
        _ => (kept, start),
    }
}

/// Brings what is not here of a segment: a segment only grows.
async fn fetch(agent: &Agent, cut: &str, segment: &SegmentInfo, path: &Path) -> Result<(), String> {
    let here = tokio::fs::metadata(path).await.map_or(0, |file| file.len());
    if here == segment.bytes {
        return Ok(());
    }
    // A tape that was begun anew under the same name is another one.
    let from = if here < segment.bytes { here } else { 0 };
    let mut answer = agent
        .segment(cut, &segment.name, from)
        .await
        .map_err(|error| error.to_string())?;
    let from = match answer.status() {
        StatusCode::PARTIAL_CONTENT => from,
        _ => 0,
    };
    let on_disk = |error: std::io::Error| format!("cannot store it: {error}");
    let mut file = tokio::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .await
        .map_err(on_disk)?;
    file.set_len(from).await.map_err(on_disk)?;
    file.seek(std::io::SeekFrom::Start(from)).await.map_err(on_disk)?;
    let mut have = from;
    while let Some(bytes) = answer
        .chunk()
        .await
        .map_err(|error| agent.failed(&error).to_string())?
    {
        have += bytes.len() as u64;
        if have > segment.bytes {
            break;
        }
        file.write_all(&bytes).await.map_err(on_disk)?;
    }
    file.flush().await.map_err(on_disk)?;
    if have == segment.bytes {
        return Ok(());
    }
    Err(format!(
        "the agent sent {have} bytes instead of {}",
        segment.bytes
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(bytes: &[u64]) -> Vec<SegmentInfo> {
        let segment = |(n, bytes): (usize, &u64)| SegmentInfo {
            name: format!("{n}"),
            bytes: *bytes,
            first: Some(100 * n as Nanos),
            ..SegmentInfo::default()
        };
        bytes.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn a_window_of_too_many_bytes_begins_later() {
        let all = segments(&[10, 10, 10]);
        assert_eq!((newest(&all, 50, 30).0.len(), newest(&all, 50, 30).1), (3, 50));
        assert_eq!((newest(&all, 50, 29).0.len(), newest(&all, 50, 29).1), (2, 100));
        // One at least: an answer about the last seconds is better than none.
        assert_eq!((newest(&all, 50, 1).0.len(), newest(&all, 50, 1).1), (1, 200));
        assert_eq!((newest(&[], 50, 1).0.len(), newest(&[], 50, 1).1), (0, 50));
    }
}
