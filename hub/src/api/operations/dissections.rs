//! Dissections, and the databases that they become.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{DISSECTION, SNAPSHOT, millis, required};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::catalogue::{DissectionEntry, SnapshotEntry};
use crate::jobs::{JobStatus, State as Job};
use crate::snapshots::{DISSECTIONS, window};

impl App {
    /// The folder of a dissection, which is what a database is opened from.
    pub(super) fn dissection_folder(&self, snapshot: &SnapshotEntry, name: &str) -> PathBuf {
        self.hub.snapshots.path(snapshot).join(DISSECTIONS).join(name)
    }

    /// A snapshot and a dissection of it, by any of their names.
    pub(super) async fn dissection(
        &self,
        snapshot: &str,
        name: &str,
    ) -> Result<(SnapshotEntry, DissectionEntry), ApiError> {
        let snapshot = self.hub.snapshots.find(snapshot).await?;
        let dissection = self.hub.jobs.find(&snapshot, name).await?;
        Ok((snapshot, dissection))
    }

    /// Stops a dissection, and lets go of what was asked of it.
    pub(super) async fn stop_dissection(
        &self,
        snapshot: &SnapshotEntry,
        dissection: &DissectionEntry,
    ) -> Result<Job, ApiError> {
        let job = self.hub.jobs.stop(dissection).await?;
        let folder = self.dissection_folder(snapshot, &job.record.name);
        self.hub.databases.forget(&folder);
        Ok(job)
    }

    /// Deletes a dissection and whatever is open of it.
    pub(super) async fn delete_dissection(
        &self,
        snapshot: &str,
        name: &str,
    ) -> Result<DissectionEntry, ApiError> {
        let (snapshot, dissection) = self.dissection(snapshot, name).await?;
        let folder = self.dissection_folder(&snapshot, &dissection.record.name);
        self.hub.databases.forget(&folder);
        let deleted = self
            .hub
            .jobs
            .delete(self.hub.snapshots.path(&snapshot), &dissection)
            .await;
        // Somebody may have asked it until then.
        self.hub.databases.forget(&folder);
        deleted?;
        Ok(dissection)
    }
}

/// All dissections, or those of one snapshot.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let snapshot = match params.text(SNAPSHOT)? {
        Some(key) => Some(app.hub.snapshots.find(&key).await?.id),
        None => None,
    };
    let all = app.hub.jobs.list(snapshot.as_deref()).await?;
    let mut answer = json!({ "dissections": all.iter().map(entry).collect::<Vec<_>>() });
    if all.is_empty() {
        answer["explanation"] = json!(
            "no dissection is completed: POST /mcp/dissections {\"snapshot\": …} turns a snapshot into calls"
        );
    }
    Ok(answer)
}

/// Starts one.
pub async fn create(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let job = start(app, params).await?;
    Ok(json!({
        "success": true,
        "snapshot": job.snapshot_name,
        "name": job.record.name,
        "id": job.record.id,
        "status": job.record.status.as_str(),
        "db": job.db(),
    }))
}

/// Starts the dissection that a request asks for, in whatever spelling.
pub(super) async fn start(app: &App, params: &mut Params) -> Result<Job, ApiError> {
    let snapshot = params.text(SNAPSHOT)?.ok_or_else(|| {
        ApiError::bad_request(
            "`snapshot` (also `snapshot_name`) is required: id or name of a completed snapshot (GET /mcp/snapshots lists them)",
        )
    })?;
    let name = params.text(DISSECTION)?;
    let snapshot = app.hub.snapshots.find_completed(&snapshot).await?;
    let manifest = app.hub.snapshots.manifest(&snapshot).await?;
    let path = app.hub.snapshots.path(&snapshot);
    Ok(app
        .hub
        .jobs
        .start(&snapshot, path, manifest, name, crate::now())
        .await?)
}

/// One dissection.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (_, dissection) = named(app, params).await?;
    Ok(full(&app.hub.jobs.state(&dissection)))
}

/// Stops one.
pub async fn stop(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, dissection) = named(app, params).await?;
    let job = app.stop_dissection(&snapshot, &dissection).await?;
    Ok(json!({
        "success": true,
        "snapshot": job.snapshot_name,
        "name": job.record.name,
        "status": job.record.status.as_str(),
    }))
}

/// Deletes one with its tables.
pub async fn delete(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (snapshot, name) = (required(params, SNAPSHOT)?, required(params, DISSECTION)?);
    let deleted = app.delete_dissection(&snapshot, &name).await?;
    Ok(json!({ "success": true, "snapshot": deleted.snapshot_name, "name": deleted.record.name }))
}

/// The dissection that is meant.
async fn named(app: &App, params: &mut Params) -> Result<(SnapshotEntry, DissectionEntry), ApiError> {
    let (snapshot, name) = (required(params, SNAPSHOT)?, required(params, DISSECTION)?);
    app.dissection(&snapshot, &name).await
}

/// What can be asked for calls: the last minutes while they are dissected, dissections under way and completed ones.
pub async fn databases(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let all = app.hub.jobs.list(None).await?;
    let dissected = all
        .iter()
        .filter(|job| matches!(job.record.status, JobStatus::Completed | JobStatus::Running))
        .map(|job| {
            let summary = job.record.summary.as_ref();
            json!({
                "type": "dissection",
                "db": job.db(),
                "snapshot": job.snapshot_name,
                "name": job.record.name,
                "entry_count": job.calls,
                "status": job.record.status.as_str(),
                "first_ts": summary.and_then(|summary| summary.first_call).map(millis),
                "last_ts": summary.and_then(|summary| summary.last_call).map(millis),
            })
        });
    let databases: Vec<Value> = super::live::database(app).into_iter().chain(dissected).collect();
    let mut answer = json!({ "databases": databases });
    if databases.is_empty() {
        answer["explanation"] = json!(
            "no dissection is completed: POST /mcp/snapshots cuts a window, POST /mcp/dissections dissects it"
        );
    }
    Ok(answer)
}

/// A dissection in a list.
pub(super) fn entry(job: &Job) -> Value {
    let mut entry = json!({
        "snapshot": job.snapshot_name,
        "snapshot_id": job.snapshot_id,
        "name": job.record.name,
        "id": job.record.id,
        "status": job.record.status.as_str(),
        "created_at": window::at(job.record.created_at),
    });
    match job.record.status {
        JobStatus::Completed => entry["entry_count"] = json!(job.calls),
        JobStatus::Pending | JobStatus::Running => entry["progress"] = json!(job.progress),
        JobStatus::Failed => entry["error"] = json!(job.record.error),
        JobStatus::Cancelled => {}
    }
    entry
}

/// A dissection by itself.
pub(super) fn full(job: &Job) -> Value {
    let record = &job.record;
    let summary = record.summary.as_ref();
    let mut full = entry(job);
    full["progress"] = json!(job.progress);
    full["started_at"] = json!(record.started_at.map(window::at));
    full["finished_at"] = json!(record.finished_at.map(window::at));
    full["errors"] = json!(record.error.iter().collect::<Vec<_>>());
    full["stats"] = json!({
        "pcap_files": job.files,
        "pcap_bytes": job.bytes_total,
        "bytes_processed": job.bytes,
        "packets_processed": job.packets,
        "entries_created": job.calls,
        "protocol_counts": summary.map(|summary| summary.protocol_counts.clone()).unwrap_or_default(),
    });
    if let Some(summary) = summary {
        full["lost_packets"] = json!(summary.lost_packets);
        if !summary.losses.is_empty() {
            full["losses"] = json!(super::losses::many(&summary.losses));
        }
        full["problems"] = json!(summary.problems);
        if !summary.clocks.is_empty() {
            full["clocks"] = json!(summary.clocks);
        }
        full["counters"] = json!(summary.counters);
        full["first_ts"] = json!(summary.first_call.map(millis));
        full["last_ts"] = json!(summary.last_call.map(millis));
    }
    full
}
