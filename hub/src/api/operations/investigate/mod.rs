//! The whole beginning of an investigation in one question: a snapshot of the window, its dissection, and an overview.

mod overview;

mod findings;

use serde_json::{Value, json};

use super::calls::{self, Opened};
use super::dissections;
use super::follow::{collected, dissected};
use super::{DISSECTION, SNAPSHOT, millis};
use crate::api::params::Params;
use crate::api::tools::Follow;
use crate::api::{ApiError, App};
use crate::catalogue::SnapshotEntry;
use crate::jobs::{JobStatus, State as Job};
use crate::snapshots::{Asked, Create, Manifest, PartStatus, Status, shown, window};

/// The window when none is asked for: an incident that pages somebody has just begun.
const USUAL: u64 = 900 * 1_000_000_000;
/// A snapshot that ends so long before now, at most a quarter of the window, still is the last while.
const RECENT: u64 = 60 * 1_000_000_000;
/// What snapshots and dissections are called that nobody has named.
const NAMED: &str = "investigate";

/// Shares of the work, in percent: collecting, dissecting.
const COLLECTING: (f64, f64) = (0.0, 40.0);
const DISSECTING: (f64, f64) = (40.0, 90.0);

/// What a workload was asked and asked of others in a window. Makes what is missing to answer it, uses what is there.
pub async fn investigate(app: &App, params: &mut Params, follow: &Follow) -> Result<Value, ApiError> {
    let workload = params
        .text(&["workload", "service", "pod"])?
        .filter(|text| !text.trim().is_empty());
    let filters = overview::Filters::of(workload.as_deref())?;
    let span = Span::read(params)?;
    if params.has(&["db"]) || (params.has(SNAPSHOT) && params.has(DISSECTION)) {
        let opened = calls::open(app, params).await?;
        return overview::overview(&opened, &filters, span.exact(), crate::now()).await;
    }
    let found = snapshot(app, params, &span).await?;
    let entry = collected(app, &found.entry.id, follow, COLLECTING).await?;
    match entry.status {
        Status::Completed => {}
        Status::InProgress => return Ok(later(&found, 0, "its packets are being collected")),
        Status::Failed => {
            let reason = entry.reason.unwrap_or_default();
            return Err(ApiError::conflict(format!(
                "the snapshot `{}` failed: {reason}; get_recording_health tells which nodes record",
                entry.name
            )));
        }
    }
    // Here, for what a node could not give is known only now.
    let manifest = app.hub.snapshots.manifest(&entry).await?;
    let job = dissection(app, &entry).await?;
    let job = dissected(app, &job, follow, DISSECTING).await?;
    if job.record.status.is_active() {
        return Ok(later(&found, job.progress, "it is being dissected"));
    }
    follow.step(DISSECTING.1, format!("asking {}", job.db()));
    params.give("db", json!(job.db()));
    let opened: Opened = calls::open(app, params).await?;
    let mut answer = overview::overview(&opened, &filters, span.exact(), crate::now()).await?;
    answer["snapshot"] = found.shown();
    missing(&manifest, &mut answer);
    if let Some(note) = found.note {
        answer["note"] = json!(note);
    }
    Ok(answer)
}

/// The time that is asked about.
enum Span {
    /// The last while, of which nothing is said.
    Usual,
    /// So long until now.
    Last(u64),
    /// From a moment to a moment.
    Between(u64, u64),
}

impl Span {
    fn read(params: &mut Params) -> Result<Self, ApiError> {
        let length = params.duration(&["window", "duration"])?;
        let start = params.moment(&["start_time", "start", "start_ts"])?;
        let end = params.moment(&["end_time", "end", "end_ts"])?;
        Ok(match (length, start, end) {
            (None, None, None) => Self::Usual,
            (Some(length), None, None) => Self::Last(length),
            (length, Some(start), None) => Self::Between(
                start,
                length.map_or(crate::now(), |length| start.saturating_add(length)),
            ),
            (length, None, Some(end)) => Self::Between(end.saturating_sub(length.unwrap_or(USUAL)), end),
            (None, Some(start), Some(end)) => Self::Between(start, end),
            (Some(_), Some(_), Some(_)) => {
                return Err(ApiError::bad_request(
                    "`window`, `start_time` and `end_time` together say too much; give a window, or a start and an end",
                ));
            }
        })
    }

    /// Its length.
    fn length(&self) -> u64 {
        match self {
            Self::Usual => USUAL,
            Self::Last(length) => *length,
            Self::Between(start, end) => end.saturating_sub(*start),
        }
    }

    /// The moments that calls of a larger snapshot are held against.
    fn exact(&self) -> Option<(u64, u64)> {
        match self {
            Self::Between(start, end) => Some((*start, *end)),
            Self::Usual | Self::Last(_) => None,
        }
    }

    /// Whether a snapshot holds all of it.
    fn is_within(&self, entry: &SnapshotEntry, now: u64) -> bool {
        match self {
            Self::Between(start, end) => entry.start <= *start && entry.end >= *end,
            Self::Usual | Self::Last(_) => {
                let late = RECENT.min(self.length() / 4);
                // Not a day's snapshot for a minute's question: its length is the answer's.
                let alike = entry.end.saturating_sub(entry.start) <= self.length() + late;
                let start = now.saturating_sub(self.length());
                alike && entry.start <= start && entry.end.saturating_add(late) >= now
            }
        }
    }
}

/// The snapshot that is asked.
struct Found {
    entry: SnapshotEntry,
    reused: bool,
    note: Option<String>,
}

impl Found {
    fn shown(&self) -> Value {
        json!({
            "id": self.entry.id,
            "name": self.entry.name,
            "reused": self.reused,
            "start_ts": millis(self.entry.start),
            "end_ts": millis(self.entry.end),
        })
    }
}

/// The snapshot that is named, one that holds the window, or a new one.
async fn snapshot(app: &App, params: &mut Params, span: &Span) -> Result<Found, ApiError> {
    let used = |entry| Found {
        entry,
        reused: true,
        note: None,
    };
    if let Some(key) = params.text(SNAPSHOT)? {
        return Ok(used(app.hub.snapshots.find(&key).await?));
    }
    let now = crate::now();
    let all = app.hub.snapshots.list().await?;
    let newest = all.first().cloned();
    let recording = !app.hub.nodes.agents().await.is_ok_and(|agents| agents.is_empty());
    // What was narrowed, or could not be had, may be on the tapes yet. Where nothing records, it is all there is.
    let holds = |entry: &SnapshotEntry| entry.whole || !recording;
    let covering = all
        .into_iter()
        .find(|entry| entry.status != Status::Failed && holds(entry) && span.is_within(entry, now));
    if let Some(entry) = covering {
        return Ok(used(entry));
    }
    if let (false, Some(entry)) = (recording, newest) {
        let note = format!(
            "nothing records here, so the newest snapshot `{}` is asked, from {} to {}",
            entry.name,
            window::at(entry.start),
            window::at(entry.end)
        );
        return Ok(Found {
            note: Some(note),
            ..used(entry)
        });
    }
    let asked = match *span {
        Span::Usual | Span::Last(_) => Asked::Last(span.length()),
        Span::Between(start, end) => Asked::Between(start, Some(end)),
    };
    let create = Create {
        name: format!("{NAMED}-{}", millis(now)),
        asked,
        nodes: Vec::new(),
        workloads: None,
    };
    let made = app.hub.snapshots.create(create, now).await?;
    Ok(Found {
        entry: app.hub.snapshots.find(&made.id).await?,
        reused: false,
        note: None,
    })
}

/// The dissection of a snapshot that is completed or under way, or a new one.
async fn dissection(app: &App, entry: &SnapshotEntry) -> Result<Job, ApiError> {
    let all = app.hub.jobs.list(Some(&entry.id)).await?;
    let of = |wanted: fn(JobStatus) -> bool| all.iter().find(|job| wanted(job.record.status)).cloned();
    if let Some(job) = of(|status| status == JobStatus::Completed).or_else(|| of(JobStatus::is_active)) {
        return Ok(job);
    }
    let mut params = Params::default();
    params.give("snapshot", json!(entry.id));
    if all.is_empty() {
        params.give("name", json!(NAMED));
    }
    dissections::start(app, &mut params).await
}

/// Tells what of its snapshot an overview could not see.
fn missing(manifest: &Manifest, answer: &mut Value) {
    if manifest.problems.is_empty() {
        return;
    }
    let told = answer["warnings"].as_array().into_iter().flatten().cloned();
    let warnings: Vec<Value> = manifest
        .problems
        .iter()
        .map(|problem| json!(problem))
        .chain(told)
        .collect();
    answer["warnings"] = json!(warnings);
    let short = manifest
        .nodes
        .iter()
        .filter(|part| matches!(part.status, PartStatus::Partial | PartStatus::Failed));
    let short: Vec<&str> = short.map(|part| part.name.as_str()).collect();
    if let (Some(summary), false) = (answer["summary"].as_str(), short.is_empty()) {
        answer["summary"] = json!(format!(
            "{summary}; packets of {} are missing (`warnings`)",
            short.join(", ")
        ));
    }
}

/// The answer while there is no overview yet.
fn later(found: &Found, progress: u8, what: &str) -> Value {
    let name = shown(&found.entry.name);
    json!({
        "status": "in_progress",
        "progress": progress,
        "snapshot": found.shown(),
        "summary": format!("the snapshot {name} is there, and {what}"),
        "next": format!("call investigate again with the same arguments and \"snapshot_id\": \"{}\"", found.entry.id),
    })
}
