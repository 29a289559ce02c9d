//! Snapshots: create, list, look at, delete.

use serde::Serialize;
use serde_json::{Value, json};

use super::{losses as told, millis, required};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::catalogue::SnapshotEntry;
use crate::losses::{self, Lost};
use crate::snapshots::window::{self, Asked, DEFAULT_DURATION};
use crate::snapshots::{Create, Manifest, NodePart, Origin, PartStatus, Status, WorkloadFilter, shown};

/// What a snapshot is asked for by, where nothing else is (contract 8).
pub(super) const KEYS: &[&str] = &["id", "snapshot", "snapshot_name", "snapshot_id", "name"];

/// A snapshot in a list.
#[derive(Serialize)]
struct Entry {
    id: String,
    name: String,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    origin: Origin,
    size_bytes: u64,
    created_at: String,
    duration: String,
    start_ts: u64,
    end_ts: u64,
    node_count: usize,
    packet_count: u64,
    lost_packets: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// How much of a snapshot has come.
#[derive(Serialize)]
struct Progress {
    bytes: u64,
    bytes_total: u64,
    percent: u64,
}

/// A snapshot by itself.
#[derive(Serialize)]
struct Full {
    #[serde(flatten)]
    entry: Entry,
    nodes: Vec<Node>,
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload_filter: Option<WorkloadFilter>,
    name_count: usize,
    dissections: Vec<Value>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    status: PartStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    segments: usize,
    size_bytes: u64,
    packet_count: u64,
    lost_packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out_packets: Option<u64>,
    first_ts: Option<u64>,
    last_ts: Option<u64>,
}

/// Cuts a window out of every tape; it is collected in the background.
pub async fn create(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let name = params.text(&["name"])?.ok_or_else(|| {
        ApiError::bad_request("`name` is required: a name for the snapshot, e.g. {\"name\": \"incident-001\", \"duration\": \"1h\"}")
    })?;
    let asked = asked(params)?;
    let nodes = params.list(&["nodes"])?;
    let workloads = workload_filter(params)?;
    let create = Create {
        name,
        asked,
        nodes,
        workloads,
    };
    let manifest = app.hub.snapshots.create(create, crate::now()).await?;
    let mut answer = json!({
        "success": true,
        "id": manifest.id,
        "name": manifest.name,
        "status": manifest.status,
        "start_ts": millis(manifest.start),
        "end_ts": millis(manifest.end),
        "duration": window::show_duration(manifest.end - manifest.start),
        "nodes": manifest.nodes.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
    });
    if !manifest.problems.is_empty() {
        answer["warnings"] = json!(manifest.problems);
    }
    Ok(answer)
}

/// Whose packets are kept: an object, or its JSON as text.
fn workload_filter(params: &mut Params) -> Result<Option<WorkloadFilter>, ApiError> {
    let wrong = |why: String| {
        ApiError::bad_request(format!(
            "`workload_filter` must be {{\"namespaces\": [\"production\"], \"pod_regex\": \"checkout-.*\"}}, both or one of \
             them: {why}"
        ))
    };
    let asked = match params.value(&["workload_filter"]) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) => serde_json::from_str(&text),
        Some(asked) => serde_json::from_value(asked),
    };
    let filter: WorkloadFilter = asked.map_err(|error| wrong(shown(&error.to_string())))?;
    filter.meant().map_err(wrong)?;
    Ok(Some(filter).filter(|filter| *filter != WorkloadFilter::default()))
}

/// The window in any of the spellings of contract 1.8.
pub(super) fn asked(params: &mut Params) -> Result<Asked, ApiError> {
    let duration = params.duration(&["duration"])?;
    let start = params.moment(&["start_time", "start", "start_ts"])?;
    let end = params.moment(&["end_time", "end", "end_ts"])?;
    match (duration, start, end) {
        (None, None, None) => Ok(Asked::Last(DEFAULT_DURATION)),
        (Some(length), None, None) => Ok(Asked::Last(length)),
        (None, Some(start), end) => Ok(Asked::Between(start, end)),
        (Some(length), Some(start), None) => Ok(Asked::Between(start, Some(start.saturating_add(length)))),
        (Some(length), None, Some(end)) => Ok(Asked::Between(end.saturating_sub(length), Some(end))),
        (None, None, Some(end)) => Ok(Asked::Between(end.saturating_sub(DEFAULT_DURATION), Some(end))),
        (Some(_), Some(_), Some(_)) => Err(ApiError::bad_request(
            "`duration`, `start_time` and `end_time` together say too much; give a duration, or a start and an end",
        )),
    }
}

/// All snapshots, newest first.
pub async fn list(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let snapshots = app.hub.snapshots.list().await?;
    let snapshots: Vec<Entry> = snapshots.into_iter().map(|entry| show(app, entry)).collect();
    let mut answer = json!({ "snapshots": snapshots });
    if snapshots.is_empty() {
        answer["explanation"] = json!(
            "there are no snapshots yet: POST /mcp/snapshots {\"name\": …, \"duration\": \"1h\"} (create_snapshot) cuts the \
             last hour out of every tape"
        );
    }
    Ok(answer)
}

/// One snapshot.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let entry = named(app, params).await?;
    let Manifest {
        nodes,
        problems,
        names,
        workload_filter,
        ..
    } = app.hub.snapshots.manifest(&entry).await?;
    let dissections = app.hub.jobs.list(Some(&entry.id)).await?;
    super::json(Full {
        nodes: nodes.iter().map(|part| node(part, &entry.losses)).collect(),
        problems,
        workload_filter,
        name_count: names.len(),
        dissections: dissections.iter().map(super::dissections::entry).collect(),
        entry: Entry {
            losses: told::many(&entry.losses),
            ..show(app, entry)
        },
    })
}

/// Deletes a snapshot with its dissections.
pub async fn delete(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let entry = named(app, params).await?;
    app.hub.jobs.stop_all(&entry.id).await?;
    for dissection in app.hub.jobs.list(Some(&entry.id)).await? {
        app.hub
            .databases
            .forget(&app.dissection_folder(&entry, &dissection.record.name));
    }
    app.hub.snapshots.delete(&entry).await?;
    Ok(json!({ "success": true, "id": entry.id, "name": entry.name }))
}

/// The snapshot that is meant.
async fn named(app: &App, params: &mut Params) -> Result<SnapshotEntry, ApiError> {
    let key = required(params, KEYS)?;
    Ok(app.hub.snapshots.find(&key).await?)
}

fn show(app: &App, entry: SnapshotEntry) -> Entry {
    let progress = app
        .hub
        .snapshots
        .progress(&entry.id)
        .map(|(done, total)| Progress {
            bytes: done.min(total),
            bytes_total: total,
            percent: (done.min(total) * 100).checked_div(total).unwrap_or(0),
        });
    Entry {
        id: entry.id,
        name: entry.name,
        status: entry.status,
        reason: entry.reason,
        origin: entry.origin,
        size_bytes: entry.bytes,
        created_at: window::at(entry.created_at),
        duration: window::show_duration(entry.end.saturating_sub(entry.start)),
        start_ts: millis(entry.start),
        end_ts: millis(entry.end),
        node_count: entry.nodes,
        packet_count: entry.packets,
        lost_packets: losses::lost(&entry.losses),
        losses: told::few(&entry.losses),
        progress: progress.filter(|_| entry.status == Status::InProgress),
    }
}

fn node(part: &NodePart, lost: &[Lost]) -> Node {
    let of_node = |lost: &&Lost| lost.node == part.name;
    let lost: Vec<Lost> = lost.iter().filter(of_node).cloned().collect();
    Node {
        name: part.name.clone(),
        url: part.url.clone(),
        status: part.status,
        error: part.error.clone(),
        segments: part.segments.len(),
        size_bytes: part.bytes(),
        packet_count: part.packets(),
        lost_packets: losses::lost(&lost),
        left_out_packets: part.left_out,
        first_ts: part.first().map(millis),
        last_ts: part.last().map(millis),
    }
}
