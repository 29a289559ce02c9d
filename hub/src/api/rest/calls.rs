//! `/mcp/calls`: questions to a dissection.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::stats::max_bytes;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::{JobStatus, State as Job};
use crate::query::{self, ANSWER_BYTES, CallsGroup, CallsQuery, Database, Format, Order, Scope};
use crate::snapshots::shown;

/// Bytes per body of a call's details when the request does not say (contract 1.6).
const PAYLOAD: i64 = 65_536;
/// Most bytes per body that may be asked for; what the dissector inflates at most.
const MAX_PAYLOAD: i64 = 16 << 20;

pub(super) async fn list(State(app): State<App>, mut params: Params) -> Result<Json<Value>, ApiError> {
    let Scope { kfl, start, end, now } = scope(&mut params)?;
    let limit = params.integer(&["limit"])?;
    let max_bytes = max_bytes(&mut params)?;
    let question = CallsQuery {
        kfl,
        limit,
        format: format(&mut params)?,
        start,
        end,
        cursor: params.text(&["cursor"])?,
        order: order(&mut params)?,
        now,
        fields: query::columns_named(&params.list(&["fields"])?)?,
        group_by: group_by(&mut params)?,
        // Who says how many calls it wants gets them; who does not gets what is easily read.
        max_bytes: max_bytes.or_else(|| limit.is_none().then_some(ANSWER_BYTES)),
    };
    let (db, database) = open(&app, &mut params).await?;
    let page = query::calls(&database, &question).await?;
    let mut answer = serde_json::to_value(page).map_err(ApiError::internal)?;
    answer["db"] = json!(db);
    warn(&mut answer, &params);
    Ok(Json(answer))
}

pub(super) async fn get(
    State(app): State<App>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Json<Value>, ApiError> {
    let (_, database) = open(&app, &mut params).await?;
    Ok(Json(query::call_by_id(&database, &id).await?))
}

pub(super) async fn details(State(app): State<App>, mut params: Params) -> Result<Json<Value>, ApiError> {
    let id = params
        .text(&["id"])?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| ApiError::bad_request("id is required"))?;
    let node = params.text(&["node_id"])?.unwrap_or_default();
    // `/stream/index` names no node; `node_id` does.
    let id = if id.starts_with('/') {
        format!("{node}{id}")
    } else {
        id
    };
    let payload = params.flag(&["include_payload"])?.unwrap_or(true);
    let size = params.integer(&["max_payload_size"])?.unwrap_or(PAYLOAD);
    if !(0..=MAX_PAYLOAD).contains(&size) {
        return Err(ApiError::bad_request(format!(
            "`max_payload_size` must be 0 to {MAX_PAYLOAD}, not {size}"
        )));
    }
    let (_, database) = open(&app, &mut params).await?;
    let size = usize::try_from(size).map_err(ApiError::internal)?;
    let mut answer = query::call_details(&database, &id, payload.then_some(size)).await?;
    warn(&mut answer, &params);
    Ok(Json(answer))
}

/// Says which parameters were not used.
pub(super) fn warn(answer: &mut Value, params: &Params) {
    let warnings = params.warnings();
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
}

fn format(params: &mut Params) -> Result<Format, ApiError> {
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

fn as_millis(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

/// The dissection that `db` names.
pub(super) async fn open(app: &App, params: &mut Params) -> Result<(String, Database), ApiError> {
    let db = params.text(&["db"])?.filter(|db| !db.is_empty());
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
    let name = format!("{}/{}", job.snapshot_name, job.record.name);
    match job.record.status {
        JobStatus::Completed => {}
        JobStatus::Pending | JobStatus::Running => {
            return Err(ApiError::conflict(format!(
                "the dissection `{name}` is {} ({} %); ask again when it is completed",
                job.record.status.as_str(),
                job.progress
            )));
        }
        JobStatus::Failed | JobStatus::Cancelled => {
            let reason = job
                .record
                .error
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            return Err(ApiError::conflict(format!(
                "the dissection `{name}` is {}{reason}; delete it and start it again",
                job.record.status.as_str()
            )));
        }
    }
    let folder = app.dissection_folder(&snapshot, &job.record.name);
    Ok((name, app.hub.databases.get(&folder)?))
}

fn databases(jobs: &[Job]) -> String {
    let names: Vec<String> = jobs
        .iter()
        .filter(|job| job.record.status == JobStatus::Completed)
        .map(|job| format!("{}/{}", job.snapshot_name, job.record.name))
        .collect();
    if names.is_empty() {
        return "nothing is dissected yet: POST /mcp/dissections {\"snapshot\": …, \"name\": …} starts one"
            .to_owned();
    }
    format!("there are: {}", names.join(", "))
}
