//! What clients of the contract look at before they ask: raw capture, cloud storage (contract 1.7 and 3.3). What is not
//! there is said to be not there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::millis;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::JobStatus;
use crate::live::LiveError;
use crate::snapshots::SnapshotError;

const NO_CLOUD: &str = "no cloud storage is set up for this hub, and it cannot use any yet: fetch packets with \
                        /mcp/snapshots/:snapshot/pcap, or copy the snapshot's folder below the hub's data";

/// Whether traffic is recorded: always, as far as the nodes answer.
pub async fn raw_capture(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let surveyed = app.hub.nodes.survey().await.map_err(SnapshotError::Find)?;
    let (recording, silent): (Vec<_>, Vec<_>) = surveyed.iter().partition(|node| node.boundaries.is_ok());
    let names = |nodes: &[&crate::nodes::Surveyed]| -> Vec<String> {
        nodes.iter().map(|node| node.name.clone()).collect()
    };
    let mut answer = json!({
        "enabled": !recording.is_empty(),
        // There is one, which begins with the agent and ends with it.
        "session_id": "tape",
        "nodes": names(&recording),
    });
    if !silent.is_empty() {
        let silent = names(&silent).join(", ");
        answer["warnings"] = json!([format!("these agents do not answer: {silent}")]);
    }
    if surveyed.is_empty() {
        answer["explanation"] =
            json!("the hub knows no agents; start it with --node http://HOST:8897 or --nodes-dns NAME:8897");
    }
    Ok(answer)
}

/// From when to when there are calls: in dissections, and of the last minutes while these are dissected.
pub async fn l7_boundaries(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let mut cluster: Option<(u64, u64)> = None;
    let mut nodes: BTreeMap<String, Option<(u64, u64)>> = BTreeMap::new();
    let mut databases = Vec::new();
    for job in app.hub.jobs.list(None).await? {
        let Some(summary) = &job.record.summary else {
            continue;
        };
        if job.record.status != JobStatus::Completed {
            continue;
        }
        let span = summary.first_call.zip(summary.last_call);
        cluster = wider(cluster, span);
        let snapshot = app.hub.snapshots.find(&job.snapshot_id).await?;
        for part in app.hub.snapshots.manifest(&snapshot).await?.nodes {
            let of = nodes.entry(part.name).or_default();
            *of = wider(*of, span);
        }
        databases.push(json!({
            "db": job.db(),
            "oldest_ts": span.map(|span| millis(span.0)),
            "newest_ts": span.map(|span| millis(span.1)),
        }));
    }
    let live = app.hub.live.state();
    if let Some(round) = &live.latest {
        let span = round.summary.first_call.zip(round.summary.last_call);
        cluster = wider(cluster, span);
        for node in &round.nodes {
            let of = nodes.entry(node.clone()).or_default();
            *of = wider(*of, span);
        }
    }
    if let Some(mut database) = super::live::database(app) {
        databases.push(json!({
            "db": database["db"].take(),
            "oldest_ts": database["first_ts"].take(),
            "newest_ts": database["last_ts"].take(),
        }));
    }
    let told = |span: Option<(u64, u64)>| (span.map(|span| millis(span.0)), span.map(|span| millis(span.1)));
    let (oldest, newest) = told(cluster);
    let explanation = match (databases.len(), live.enabled()) {
        (0, true) => {
            "nothing is dissected yet, so there are no calls; live dissection has just been switched on"
                .to_owned()
        }
        (0, false) => format!(
            "nothing is dissected yet, so there are no calls; {}; investigate dissects a window",
            LiveError::Off(live.idle)
        ),
        (1, _) => "these are the calls of one dissection".to_owned(),
        (count, _) => format!("these are the calls of {count} dissections, which need not follow each other"),
    };
    let nodes: Vec<Value> = nodes
        .into_iter()
        .map(|(name, span)| {
            let (oldest, newest) = told(span);
            json!({ "name": name, "oldest_ts": oldest, "newest_ts": newest })
        })
        .collect();
    Ok(json!({
        "dissection_enabled": live.enabled(),
        "cluster": { "oldest_ts": oldest, "newest_ts": newest },
        "nodes": nodes,
        "databases": databases,
        "explanation": explanation,
    }))
}

fn wider(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

/// Whether snapshots can be kept in a cloud: no.
pub async fn cloud_status(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({ "enabled": false, "explanation": NO_CLOUD }))
}

/// Refused, with what to do instead.
pub async fn no_cloud(_: &App, params: &mut Params) -> Result<Value, ApiError> {
    // Taken, so that nobody is told that they are no parameters.
    params.value(&["id"]);
    params.value(&["job_id"]);
    Err(ApiError::conflict(NO_CLOUD))
}
