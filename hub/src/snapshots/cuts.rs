//! The cuts of a snapshot on its nodes: made, found again by a later run of the hub, released.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::future::join_all;
use wiretape_tape::{Cut, Nanos};

use super::{Inner, Manifest, NodePart, PartStatus, name};
use crate::calls::NodeName;
use crate::nodes::{Agent, NodeError};

/// Segments of one node. A 1 TiB ring in 64 MiB segments has 16 Ki.
const MAX_SEGMENTS: usize = 1 << 16;
/// A node that cannot be reached is asked to cut for so long: longer than an agent takes to restart, and no longer, for
/// somebody waits, and a node may be gone for good.
const CUTS_WITHIN: Duration = Duration::from_secs(6);
/// For a cut that an earlier run has made, a node is asked for so long: whatever has ended the hub may have ended it too,
/// and what it holds may be nowhere else by now.
const FOUND_WITHIN: Duration = Duration::from_secs(30);
/// Wait before a node is asked again, doubled each time up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(3200);

/// Makes the cuts on all nodes, or finds those again that an earlier run made.
pub(super) async fn make(inner: &Inner, manifest: &mut Manifest) {
    let (id, window) = (manifest.id.as_str(), (manifest.start, manifest.end));
    let cuts = join_all(manifest.nodes.iter().map(|part| async move {
        let agent = inner.nodes.agent(&part.url).map_err(|error| error.to_string())?;
        ask(&agent, id, window, part.cut).await
    }))
    .await;
    for (part, cut) in manifest.nodes.iter_mut().zip(cuts) {
        manifest.names.extend(take(part, cut.and_then(checked)));
    }
}

/// Asks one node for its cut, which it may have made for an earlier run.
async fn ask(agent: &Agent, id: &str, (start, end): (Nanos, Nanos), is_made: bool) -> Result<Cut, String> {
    let within = if is_made { FOUND_WITHIN } else { CUTS_WITHIN };
    let begun = Instant::now();
    let mut wait = FIRST_WAIT;
    loop {
        let answer = if is_made {
            agent.held_cut(id).await
        } else {
            agent.cut(id, start, end).await.map(Some)
        };
        match answer {
            Ok(Some(cut)) => return Ok(cut),
            Ok(None) => {
                return Err(
                    "the agent no longer holds the cut that was made before the hub ended".to_owned(),
                );
            }
            Err(NodeError::Unreachable { .. } | NodeError::TimedOut { .. }) if begun.elapsed() < within => {}
            Err(error) => return Err(error.to_string()),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Takes over what a node has said of its cut; gives the names that it told for the first time.
fn take(part: &mut NodePart, cut: Result<Cut, String>) -> Vec<NodeName> {
    let cut = match cut {
        Ok(cut) => cut,
        Err(error) => {
            part.status = PartStatus::Failed;
            part.error = Some(error);
            return Vec::new();
        }
    };
    // An earlier run may have given it up.
    part.status = PartStatus::InProgress;
    part.error = None;
    // The agent may have told its name only now.
    if !cut.node.is_empty() {
        part.name = cut.node;
    }
    part.segments = cut.segments;
    if std::mem::replace(&mut part.cut, true) {
        return Vec::new();
    }
    let named = |name| NodeName {
        node: part.name.clone(),
        name,
    };
    cut.names.into_iter().map(named).collect()
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
///
/// All of them are told: who has not answered may have made its cut all the same.
pub(super) async fn release(inner: &Inner, manifest: &Manifest) {
    join_all(manifest.nodes.iter().map(|part| async {
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

#[cfg(test)]
mod tests {
    use wiretape_tape::{Name, SegmentInfo};

    use super::*;

    #[test]
    fn a_node_that_an_earlier_run_gave_up_is_taken_up_again() {
        let mut part = NodePart {
            name: "http://10.0.0.1:8897".to_owned(),
            url: "http://10.0.0.1:8897".to_owned(),
            folder: "10.0.0.1".to_owned(),
            status: PartStatus::InProgress,
            error: None,
            left_out: None,
            cut: false,
            segments: Vec::new(),
        };
        let gone = Err("cannot reach it".to_owned());
        assert_eq!(take(&mut part, gone.clone()), []);
        assert_eq!(
            (part.status, part.error.as_deref()),
            (PartStatus::Failed, Some("cannot reach it"))
        );
        let cut = Cut {
            node: "node-1".to_owned(),
            segments: vec![SegmentInfo::default()],
            names: vec![Name::default()],
            ..Cut::default()
        };
        assert_eq!(take(&mut part, Ok(cut.clone())).len(), 1);
        let collected = (PartStatus::InProgress, None, "node-1".to_owned(), 1);
        let now = |part: &NodePart| {
            (
                part.status,
                part.error.clone(),
                part.name.clone(),
                part.segments.len(),
            )
        };
        assert_eq!((now(&part), part.cut), (collected.clone(), true));
        // Its names are known by then.
        take(&mut part, gone);
        assert_eq!((take(&mut part, Ok(cut)).len(), now(&part)), (0, collected));
    }
}
