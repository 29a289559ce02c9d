//! Snapshots and dissections, followed to their end by whoever asked and waits. Called off, they are given up.

use std::time::Duration;

use serde_json::{Value, json};

use super::{dissections, service, snapshots};
use crate::api::params::Params;
use crate::api::tools::Follow;
use crate::api::{ApiError, App};
use crate::catalogue::SnapshotEntry;
use crate::jobs::State as Job;
use crate::losses;
use crate::snapshots::Status;

/// Between two looks at work that is under way.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Cuts a window out of every tape. Who hears of its progress gets the answer when all of it has come, others at once.
pub async fn snapshot(app: &App, params: &mut Params, follow: &Follow) -> Result<Value, ApiError> {
    let mut answer = snapshots::create(app, params).await?;
    if follow.is_heard() {
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        let entry = collected(app, &id, follow, (0.0, 100.0)).await?;
        answer["status"] = json!(entry.status);
        answer["packet_count"] = json!(entry.packets);
        answer["size_bytes"] = json!(entry.bytes);
        answer["lost_packets"] = json!(losses::lost(&entry.losses));
        if !entry.losses.is_empty() {
            answer["losses"] = json!(super::losses::few(&entry.losses));
        }
        if let Some(reason) = entry.reason {
            answer["reason"] = json!(reason);
        }
    }
    answer["next"] = json!(match answer["status"].as_str() {
        Some("completed") => "start_snapshot_dissection turns its packets into API calls",
        Some("failed") => "see `reason`; get_recording_health tells which nodes record",
        _ => "ask get_snapshot until its status is completed, then start_snapshot_dissection",
    });
    Ok(answer)
}

/// Starts a dissection. Who hears of its progress gets the answer when it is done, others at once.
pub async fn dissection(app: &App, params: &mut Params, follow: &Follow) -> Result<Value, ApiError> {
    let job = dissections::start(app, params).await?;
    let job = if follow.is_heard() {
        dissected(app, &job, follow, (0.0, 100.0)).await?
    } else {
        job
    };
    let mut answer = service::show(&job);
    answer["next"] = json!(if job.record.status.is_active() {
        format!(
            "ask get_snapshot_dissection_status {{\"dissection_id\": \"{}\"}} until it is completed",
            job.record.id
        )
    } else {
        format!("list_api_calls {{\"db\": \"{}\"}}", job.db())
    });
    Ok(answer)
}

/// Waits for a snapshot as long as whoever asked does. `share` is what it is of all the work, in percent.
pub(super) async fn collected(
    app: &App,
    id: &str,
    follow: &Follow,
    share: (f64, f64),
) -> Result<SnapshotEntry, ApiError> {
    loop {
        let entry = app.hub.snapshots.find(id).await?;
        if entry.status != Status::InProgress || !follow.waits() {
            if entry.status == Status::InProgress && follow.is_cancelled() {
                app.hub.snapshots.delete(&entry).await?;
                return Err(called_off("the snapshot is given up"));
            }
            return Ok(entry);
        }
        let (done, total) = app.hub.snapshots.progress(id).unwrap_or_default();
        let part = if total == 0 {
            0.0
        } else {
            done.min(total) as f64 / total as f64
        };
        follow.step(
            within(share, part),
            format!("collecting {}: {done} of {total} bytes", entry.name),
        );
        follow.pause(LOOK_EVERY).await;
    }
}

/// Waits for a dissection as long as whoever asked does.
pub(super) async fn dissected(
    app: &App,
    job: &Job,
    follow: &Follow,
    share: (f64, f64),
) -> Result<Job, ApiError> {
    loop {
        let (_, entry) = app.dissection(&job.snapshot_id, &job.record.name).await?;
        let job = app.hub.jobs.state(&entry);
        if !job.record.status.is_active() || !follow.waits() {
            if job.record.status.is_active() && follow.is_cancelled() {
                app.hub.jobs.stop(&entry).await?;
                return Err(called_off("the dissection is stopped"));
            }
            return Ok(job);
        }
        follow.step(
            within(share, f64::from(job.progress) / 100.0),
            format!("dissecting {}: {} calls so far", job.db(), job.calls),
        );
        follow.pause(LOOK_EVERY).await;
    }
}

fn within((from, to): (f64, f64), part: f64) -> f64 {
    from + (to - from) * part
}

fn called_off(what: &str) -> ApiError {
    ApiError::conflict(format!("called off: {what}"))
}
