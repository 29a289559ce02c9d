//! The cuts of a snapshot on its nodes: made, found again by a later run of the hub, released.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use wiretape_tape::Cut;

use super::{Inner, Manifest, PartStatus, name};
use crate::calls::NodeName;

/// Segments of one node. A 1 TiB ring in 64 MiB segments has 16 Ki.
const MAX_SEGMENTS: usize = 1 << 16;

/// Makes the cuts on all nodes, or finds those again that an earlier run made.
pub(super) async fn make(inner: &Inner, manifest: &mut Manifest) {
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

/// Lets the agents forget their cuts. One that cannot be told forgets by itself after an hour.
pub(super) async fn release(inner: &Inner, manifest: &Manifest) {
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
