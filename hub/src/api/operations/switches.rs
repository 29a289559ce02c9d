//! What clients of the contract look at before they ask, and may want to switch: raw capture, live dissection, cloud
//! storage, who they are (contract 1.7, 1.14 and 3.3). What is not there is said to be not there.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::millis;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::JobStatus;
use crate::snapshots::SnapshotError;

const NOT_LIVE: &str = "live dissection is not there yet: traffic is recorded all the time, and dissected when you ask: \
                        POST /mcp/snapshots cuts a window, POST /mcp/dissections dissects it (investigate does both)";

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

/// Whether live traffic is dissected: not yet.
pub async fn dissection(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({ "enabled": false, "explanation": NOT_LIVE }))
}

/// Refused: to say yes would let clients wait for calls that never come.
pub async fn enable_dissection(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Err(ApiError::conflict(NOT_LIVE))
}

/// It is off already.
pub async fn disable_dissection(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({ "success": true, "enabled": false }))
}

/// From when to when there are calls: in dissections, since there is no live one.
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
    let told = |span: Option<(u64, u64)>| (span.map(|span| millis(span.0)), span.map(|span| millis(span.1)));
    let (oldest, newest) = told(cluster);
    let explanation = match databases.len() {
        0 => format!("nothing is dissected yet, so there are no calls; {NOT_LIVE}"),
        count => format!(
            "these are the calls of {count} dissections, which need not follow each other; {NOT_LIVE}"
        ),
    };
    let nodes: Vec<Value> = nodes
        .into_iter()
        .map(|(name, span)| {
            let (oldest, newest) = told(span);
            json!({ "name": name, "oldest_ts": oldest, "newest_ts": newest })
        })
        .collect();
    Ok(json!({
        "dissection_enabled": false,
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

/// Who asks, and what they may do: everybody everything, since the hub asks nobody who they are.
pub async fn whoami(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({
        "identity": "anonymous",
        "role": "admin",
        "auth_enabled": false,
        "capabilities": ["snapshot:read", "snapshot:write", "snapshot:dissection"],
        "authzFilters": [],
    }))
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
