//! Calls of a dissection.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::stats::max_bytes;
use super::{DISSECTION, SNAPSHOT, millis};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::{JobStatus, State as Job};
use crate::query::{self, ANSWER_BYTES, CallsGroup, CallsQuery, Database, Format, Order, Scope};
use crate::snapshots::shown;

/// Bytes per body of a call's details when the request does not say (contract 1.6).
const PAYLOAD: i64 = 65_536;
/// Most bytes per body that may be asked for; what the dissector inflates at most.
const MAX_PAYLOAD: i64 = 16 << 20;

/// Problems of a dissection that are told with every answer about it; get_snapshot tells all.
const PROBLEMS: usize = 3;

/// Calls by filter, as many as fit.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let Scope { kfl, start, end, now } = scope(params)?;
    let limit = params.integer(&["limit"])?;
    let max_bytes = max_bytes(params)?;
    let question = CallsQuery {
        kfl,
        limit,
        format: format(params)?,
        start,
        end,
        cursor: params.text(&["cursor"])?,
        order: order(params)?,
        now,
        fields: query::columns_named(&params.list(&["fields"])?)?,
        group_by: group_by(params)?,
        // Who says how many calls it wants gets them; who does not gets what is easily read.
        max_bytes: max_bytes.or_else(|| limit.is_none().then_some(ANSWER_BYTES)),
    };
    let opened = open(app, params).await?;
    let page = query::calls(&opened.database, &question).await?;
    let mut answer = super::json(page)?;
    answer["db"] = json!(opened.db);
    Ok(answer)
}

/// One call by its id.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let id = id(params)?;
    let opened = open(app, params).await?;
    let mut answer = query::call_by_id(&opened.database, &id).await?;
    answer["db"] = json!(opened.db);
    Ok(answer)
}

/// One call with its payloads.
pub async fn details(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let id = id(params)?;
    let payload = params.flag(&["include_payload"])?.unwrap_or(true);
    let size = params.integer(&["max_payload_size"])?.unwrap_or(PAYLOAD);
    if !(0..=MAX_PAYLOAD).contains(&size) {
        return Err(ApiError::bad_request(format!(
            "`max_payload_size` must be 0 to {MAX_PAYLOAD}, not {size}"
        )));
    }
    let l4 = params.flag(&["include_l4"])?.unwrap_or(true);
    let pcap = params.flag(&["include_pcap"])?.unwrap_or(false);
    let opened = open(app, params).await?;
    let size = usize::try_from(size).map_err(ApiError::internal)?;
    let mut answer = query::call_details(&opened.database, &id, payload.then_some(size), l4).await?;
    if pcap {
        super::pcap::of_connection(app, &opened, &id, &mut answer).await?;
    }
    answer["db"] = json!(opened.db);
    Ok(answer)
}

/// The id of a call: `node/stream/index`, or `/stream/index` with the node beside it.
fn id(params: &mut Params) -> Result<String, ApiError> {
    let id = params
        .text(&["id"])?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| ApiError::bad_request("id is required"))?;
    let node = params.text(&["node_id"])?.unwrap_or_default();
    Ok(if id.starts_with('/') {
        format!("{node}{id}")
    } else {
        id
    })
}

pub(super) fn format(params: &mut Params) -> Result<Format, ApiError> {
    match params.text(&["format"])?.as_deref() {
        None | Some("" | "compact") => Ok(Format::Compact),
        Some("full") => Ok(Format::Full),
        Some("raw") => Ok(Format::Raw),
        Some(other) => {
            let other = shown(other);
            Err(ApiError::bad_request(format!(
                "`format` must be compact, full or raw, not \"{other}\""
            )))
        }
    }
}

fn order(params: &mut Params) -> Result<Order, ApiError> {
    match params.text(&["order"])?.as_deref() {
        None | Some("" | "time") => Ok(Order::Time),
        Some("latency") => Ok(Order::Latency),
        Some("size") => Ok(Order::Size),
        Some(other) => {
            let other = shown(other);
            Err(ApiError::bad_request(format!(
                "`order` must be time, latency or size, not \"{other}\""
            )))
        }
    }
}

fn group_by(params: &mut Params) -> Result<Option<CallsGroup>, ApiError> {
    match params.text(&["group_by"])?.as_deref() {
        None | Some("") => Ok(None),
        Some("node") => Ok(Some(CallsGroup::Node)),
        Some("ns" | "namespace") => Ok(Some(CallsGroup::Namespace)),
        Some("worker") => Ok(Some(CallsGroup::Worker)),
        Some(other) => {
            let other = shown(other);
            Err(ApiError::bad_request(format!(
                "`group_by` must be node, ns or worker, not \"{other}\"; GET /mcp/stats groups by more"
            )))
        }
    }
}

/// Which calls a question is about.
pub(super) fn scope(params: &mut Params) -> Result<Scope, ApiError> {
    Ok(Scope {
        kfl: params.text(&["kfl"])?,
        start: params
            .moment(&["start", "start_time", "start_ts"])?
            .map(as_millis),
        end: params.moment(&["end", "end_time", "end_ts"])?.map(as_millis),
        now: crate::now(),
    })
}

/// Milliseconds, as questions count time.
pub(super) fn as_millis(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

/// A dissection, opened for questions.
pub(super) struct Opened {
    /// `<snapshot>/<dissection>`.
    pub(super) db: String,
    /// The id of its snapshot.
    pub(super) snapshot: String,
    /// Its tables.
    pub(super) database: Database,
}

/// The dissection that `db` names, or that the names of a snapshot and a dissection do.
pub(super) async fn open(app: &App, params: &mut Params) -> Result<Opened, ApiError> {
    let db = params.text(&["db"])?.filter(|db| !db.is_empty());
    let parts = (params.text(SNAPSHOT)?, params.text(DISSECTION)?);
    let db = match (db, parts) {
        (Some(db), _) => Some(db),
        (None, (Some(snapshot), Some(dissection))) => Some(format!("{snapshot}/{dissection}")),
        (None, (snapshot, _)) => snapshot,
    };
    let Some(db) = db else {
        let there = databases(&app.hub.jobs.list(None).await?);
        return Err(ApiError::bad_request(format!(
            "`db` is required: <snapshot>/<dissection>; {there}"
        )));
    };
    let (snapshot, dissection) = match db.split_once('/') {
        Some((snapshot, dissection)) => (snapshot, Some(dissection)),
        None => (db.as_str(), None),
    };
    let unknown = async |why: String| -> Result<ApiError, ApiError> {
        Ok(ApiError::not_found(format!(
            "{why}; {}",
            databases(&app.hub.jobs.list(None).await?)
        )))
    };
    let Ok(snapshot) = app.hub.snapshots.find(snapshot).await else {
        return Err(unknown(format!("there is no database `{}`", shown(&db))).await?);
    };
    let found = match dissection {
        Some(name) => app
            .hub
            .jobs
            .find(&snapshot, name)
            .await
            .ok()
            .map(|entry| app.hub.jobs.state(&entry)),
        // The snapshot alone means its dissection, as long as there is one only.
        None => match app.hub.jobs.list(Some(&snapshot.id)).await? {
            mut all if all.len() < 2 => all.pop(),
            all => {
                return Err(ApiError::bad_request(format!(
                    "`db` names several dissections; {}",
                    databases(&all)
                )));
            }
        },
    };
    let Some(job) = found else {
        return Err(unknown(format!("there is no database `{}`", shown(&db))).await?);
    };
    let db = job.db();
    check_completed(&db, &job)?;
    let folder = app.dissection_folder(&snapshot, &job.record.name);
    Ok(Opened {
        db,
        snapshot: snapshot.id,
        database: app.hub.databases.get(&folder)?,
    })
}

fn check_completed(db: &str, job: &Job) -> Result<(), ApiError> {
    let status = job.record.status;
    match status {
        JobStatus::Completed => Ok(()),
        JobStatus::Pending | JobStatus::Running => Err(ApiError::conflict(format!(
            "the dissection `{db}` is {} ({} %); ask again when it is completed",
            status.as_str(),
            job.progress
        ))),
        JobStatus::Failed | JobStatus::Cancelled => {
            let reason = job.record.error.as_ref();
            let reason = reason.map(|error| format!(": {error}")).unwrap_or_default();
            Err(ApiError::conflict(format!(
                "the dissection `{db}` is {}{reason}; delete it and start it again",
                status.as_str()
            )))
        }
    }
}

/// What an answer about a database rests on.
pub(in crate::api) async fn coverage(app: &App, db: &str) -> Option<Value> {
    let mut params = Params::default();
    params.give("db", json!(db));
    let opened = open(app, &mut params).await.ok()?;
    let summary = opened.database.summary();
    let window = summary.window.or(summary.first_ts.zip(summary.last_ts));
    let nodes: BTreeSet<&str> = summary.files.iter().map(|file| file.node.as_str()).collect();
    let mut coverage = json!({
        "start_ts": window.map(|(start, _)| millis(start)),
        "end_ts": window.map(|(_, end)| millis(end)),
        "first_call_ts": summary.first_call.map(millis),
        "last_call_ts": summary.last_call.map(millis),
        "nodes": nodes,
        "calls": summary.calls,
        "lost_packets": summary.lost_packets,
    });
    if !summary.problems.is_empty() {
        coverage["problems"] = summary.problems.iter().take(PROBLEMS).cloned().collect();
    }
    Some(coverage)
}

fn databases(jobs: &[Job]) -> String {
    let completed = jobs
        .iter()
        .filter(|job| job.record.status == JobStatus::Completed);
    let names: Vec<String> = completed.map(Job::db).collect();
    if names.is_empty() {
        return "nothing is dissected yet: POST /mcp/dissections {\"snapshot\": …, \"name\": …} starts one"
            .to_owned();
    }
    format!("there are: {}", names.join(", "))
}
