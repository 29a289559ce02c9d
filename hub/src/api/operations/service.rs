//! Dissections in the words of the service `DelayedDissection` and of the tools: every spelling of a name, and the union
//! of what documents and demonstrations show (contract 2).

use serde_json::{Value, json};

use super::dissections::{entry, full};
use super::{DISSECTION, SNAPSHOT};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::State as Job;

/// Starts a dissection.
pub async fn start(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    Ok(show(&super::dissections::start(app, params).await?))
}

/// How far a dissection is. Asked without saying of which: the one started last, and all there are.
pub async fn status(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, dissection) = keys(params)?;
    if let (Some(snapshot), Some(dissection)) = (&snapshot, &dissection) {
        let (_, found) = app.dissection(snapshot, dissection).await?;
        return Ok(show(&app.hub.jobs.state(&found)));
    }
    let jobs = jobs(app, snapshot.as_deref()).await?;
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
}

/// Stops a dissection.
pub async fn stop(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, dissection) = both(app, params).await?;
    let (snapshot, found) = app.dissection(&snapshot, &dissection).await?;
    Ok(show(&app.stop_dissection(&snapshot, &found).await?))
}

/// All dissections, or those of one snapshot.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, _) = keys(params)?;
    let jobs = jobs(app, snapshot.as_deref()).await?;
    Ok(json!({ "dissections": jobs.iter().map(show).collect::<Vec<_>>() }))
}

/// Deletes a dissection with its tables.
pub async fn delete(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, dissection) = both(app, params).await?;
    let deleted = app.delete_dissection(&snapshot, &dissection).await?;
    Ok(json!({
        "success": true,
        "snapshot": deleted.snapshot_name,
        "name": deleted.record.name,
        "snapshot_name": deleted.snapshot_name,
        "dissection_name": deleted.record.name,
        "dissection_id": deleted.record.id,
    }))
}

fn keys(params: &mut Params) -> Result<(Option<String>, Option<String>), ApiError> {
    let (snapshot, dissection) = (params.text(SNAPSHOT)?, params.text(DISSECTION)?);
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

/// Everything about a dissection, under every name that clients look for.
pub(super) fn show(job: &Job) -> Value {
    let mut answer = full(job);
    answer["snapshot_name"] = json!(job.snapshot_name);
    answer["dissection_name"] = json!(job.record.name);
    answer["dissection_id"] = json!(job.record.id);
    answer["active"] = json!(job.record.status.is_active());
    answer["entry_count"] = json!(job.calls);
    answer["db"] = json!(job.db());
    answer
}
