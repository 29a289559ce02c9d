//! The service `delayed_dissection.DelayedDissection`, as Connect's unary JSON over HTTP
//! (<https://connectrpc.com/docs/protocol/>): POST with the message as the body, and GET for what changes nothing.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::params::Params;
use super::rest::{entry, full, start};
use super::{ApiError, App};
use crate::jobs::State as Job;

pub(super) fn routes() -> Router<App> {
    const SERVICE: &str = "/delayed_dissection.DelayedDissection";
    Router::new()
        .route("/delayed_dissection", post(begin))
        .route(&format!("{SERVICE}/Start"), post(begin))
        .route(&format!("{SERVICE}/GetStatus"), get(status).post(status))
        .route(&format!("{SERVICE}/Stop"), post(stop))
        .route(&format!("{SERVICE}/List"), get(list).post(list))
        .route(&format!("{SERVICE}/Delete"), post(delete))
}

/// A message, or why it cannot be read.
type Asked = Result<Params, ApiError>;

async fn begin(State(app): State<App>, asked: Asked) -> Response {
    reply(async {
        let mut params = message(asked)?;
        Ok(show(&start(&app, &mut params).await?))
    })
    .await
}

async fn status(State(app): State<App>, asked: Asked) -> Response {
    reply(async {
        let mut params = message(asked)?;
        let (snapshot, dissection) = keys(&mut params)?;
        if let (Some(snapshot), Some(dissection)) = (&snapshot, &dissection) {
            let (_, found) = app.dissection(snapshot, dissection).await?;
            return Ok(show(&app.hub.jobs.state(&found)));
        }
        // Asked without saying of which: the one started last, and all there are.
        let jobs = jobs(&app, snapshot.as_deref()).await?;
        let meant = |job: &&Job| dissection.as_ref().is_none_or(|key| is_called(job, key));
        let mut answer = match (jobs.iter().find(meant), &dissection) {
            (Some(job), _) => show(job),
            (None, Some(key)) => {
                let key = crate::snapshots::shown(key);
                return Err(ApiError::not_found(format!(
                    "there is no dissection `{key}`; List shows those there are"
                )));
            }
            (None, None) => json!({ "active": false, "status": "none", "progress": 0 }),
        };
        answer["dissections"] = jobs.iter().map(entry).collect();
        Ok(answer)
    })
    .await
}

async fn stop(State(app): State<App>, asked: Asked) -> Response {
    reply(async {
        let mut params = message(asked)?;
        let (snapshot, dissection) = both(&app, &mut params).await?;
        let (_, found) = app.dissection(&snapshot, &dissection).await?;
        Ok(show(&app.hub.jobs.stop(&found).await?))
    })
    .await
}

async fn list(State(app): State<App>, asked: Asked) -> Response {
    reply(async {
        let mut params = message(asked)?;
        let (snapshot, _) = keys(&mut params)?;
        let jobs = jobs(&app, snapshot.as_deref()).await?;
        Ok(json!({ "dissections": jobs.iter().map(show).collect::<Vec<_>>() }))
    })
    .await
}

async fn delete(State(app): State<App>, asked: Asked) -> Response {
    reply(async {
        let mut params = message(asked)?;
        let (snapshot, dissection) = both(&app, &mut params).await?;
        let deleted = app.delete_dissection(&snapshot, &dissection).await?;
        Ok(json!({
            "success": true,
            "snapshot": deleted.snapshot_name,
            "name": deleted.record.name,
            "snapshot_name": deleted.snapshot_name,
            "dissection_name": deleted.record.name,
            "dissection_id": deleted.record.id,
        }))
    })
    .await
}

async fn reply(answer: impl Future<Output = Result<Value, ApiError>>) -> Response {
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_connect(),
    }
}

/// Connect's GET carries the message in one parameter; ours may stand beside it or alone.
fn message(asked: Asked) -> Asked {
    let mut params = asked?;
    // Both say how the message is written; JSON is the only way here.
    params.text(&["connect"])?;
    let encoding = params.text(&["encoding"])?;
    if encoding.is_some_and(|encoding| encoding != "json") {
        return Err(ApiError::bad_request("`encoding` must be json"));
    }
    let packed = params.flag(&["base64"])?.unwrap_or(false);
    if let Some(message) = params.text(&["message"])? {
        let message = match packed {
            // With or without padding: the protocol lets clients choose.
            true => BASE64_URL_SAFE_NO_PAD
                .decode(message.trim_end_matches('='))
                .map_err(|error| ApiError::bad_request(format!("`message` is not base64: {error}")))?,
            false => message.into_bytes(),
        };
        params.give_json(&message, "`message`")?;
    }
    Ok(params)
}

fn keys(params: &mut Params) -> Result<(Option<String>, Option<String>), ApiError> {
    let snapshot = params.text(&["snapshot_name", "snapshot_id", "snapshot"])?;
    let dissection = params.text(&["dissection_name", "dissection_id", "dissection", "name"])?;
    Ok((
        snapshot.filter(|key| !key.is_empty()),
        dissection.filter(|key| !key.is_empty()),
    ))
}

/// Both keys; a dissection's id alone is enough, since no two share one.
async fn both(app: &App, params: &mut Params) -> Result<(String, String), ApiError> {
    match keys(params)? {
        (Some(snapshot), Some(dissection)) => Ok((snapshot, dissection)),
        (None, Some(dissection)) => {
            let jobs = jobs(app, None).await?;
            let mut named = jobs.into_iter().filter(|job| is_called(job, &dissection));
            match (named.next(), named.next()) {
                (Some(job), None) => Ok((job.snapshot_id, job.record.name)),
                _ => Err(ApiError::bad_request(
                    "`snapshot_name` is required, since no single dissection goes by that",
                )),
            }
        }
        (_, None) => Err(ApiError::bad_request(
            "`snapshot_name` and `dissection_name` are required",
        )),
    }
}

async fn jobs(app: &App, snapshot: Option<&str>) -> Result<Vec<Job>, ApiError> {
    let snapshot = match snapshot {
        Some(key) => Some(app.hub.snapshots.find(key).await?.id),
        None => None,
    };
    Ok(app.hub.jobs.list(snapshot.as_deref()).await?)
}

fn is_called(job: &Job, key: &str) -> bool {
    job.record.name == key || (key.len() >= 4 && job.record.id.starts_with(key))
}

/// The union of what the documents and the demonstrations show (contract 2).
fn show(job: &Job) -> Value {
    let mut answer = full(job);
    answer["snapshot_name"] = json!(job.snapshot_name);
    answer["dissection_name"] = json!(job.record.name);
    answer["dissection_id"] = json!(job.record.id);
    answer["active"] = json!(job.record.status.is_active());
    answer["entry_count"] = json!(job.calls);
    answer["db"] = json!(format!("{}/{}", job.snapshot_name, job.record.name));
    answer
}
