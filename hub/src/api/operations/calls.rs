//! Calls of a dissection.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use wiretape_tape::Nanos;

use super::stats::max_bytes;
use super::{DISSECTION, SNAPSHOT, live, losses, millis};
use crate::api::param::words;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::catalogue::SnapshotEntry;
use crate::jobs::{JobStatus, State as Job};
use crate::query::{self, ANSWER_BYTES, CallsGroup, CallsQuery, Database, Format, Order, Scope};
use crate::snapshots::{DISSECTIONS, Status, shown};

/// Bytes per body of a call's details when the request does not say (contract 1.6).
const PAYLOAD: i64 = 65_536;
/// Most bytes per body that may be asked for; what the dissector inflates at most.
const MAX_PAYLOAD: i64 = 16 << 20;

/// Problems of a dissection that are told with every answer about it; get_snapshot tells all.
const PROBLEMS: usize = 3;

/// How much of each entry an answer shows.
pub const FORMAT_WORDS: &[&str] = &words(&FORMATS);

const FORMATS: [(&str, Format); 3] = [
    ("compact", Format::Compact),
    ("full", Format::Full),
    ("raw", Format::Raw),
];

/// Which calls come first.
pub const ORDER_WORDS: &[&str] = &words(&ORDERS);

const ORDERS: [(&str, Order); 3] = [
    ("time", Order::Time),
    ("latency", Order::Latency),
    ("size", Order::Size),
];

/// By what a list of calls is counted.
const GROUPS: [(&str, CallsGroup); 4] = [
    ("node", CallsGroup::Node),
    ("ns", CallsGroup::Namespace),
    ("namespace", CallsGroup::Namespace),
    ("worker", CallsGroup::Worker),
];

/// Calls by filter, as many as fit.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let scope = scope(params)?;
    let span = scope_span(&scope);
    let Scope { kfl, start, end, now } = scope;
    let limit = params.integer(&["limit"])?;
    let max_bytes = max_bytes(params)?;
    let question = CallsQuery {
        kfl,
        limit,
        format: format(params)?,
        start,
        end,
        cursor: params.text(&["cursor"])?,
        order: params.one_of(&["order"], &ORDERS)?.unwrap_or_default(),
        now,
        fields: query::columns_named(&params.list(&["fields"])?)?,
        group_by: params.one_of(&["group_by"], &GROUPS)?,
        // Who says how many calls it wants gets them; who does not gets what is easily read.
        max_bytes: max_bytes.or_else(|| limit.is_none().then_some(ANSWER_BYTES)),
        zone: params.zone()?,
    };
    // The next page is of the same state of a dissection under way as the one before.
    let age = question.cursor.as_deref().and_then(query::cursor_age);
    let opened = open_at(app, params, age).await?;
    let page = query::calls(&opened.database, &question).await?;
    let mut answer = super::json(page)?;
    opened.tell(span, &mut answer);
    Ok(answer)
}

/// One call by its id.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let id = id(params)?;
    let opened = open(app, params).await?;
    let mut answer = query::call_by_id(&opened.database, &id).await?;
    losses::tell_call(opened.database.summary(), &mut answer);
    opened.sign(&mut answer);
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
    losses::tell_call(opened.database.summary(), &mut answer);
    opened.sign(&mut answer);
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

/// How much of each entry is shown.
pub(super) fn format(params: &mut Params) -> Result<Format, ApiError> {
    Ok(params.one_of(&["format"], &FORMATS)?.unwrap_or_default())
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

/// What names a dissection, or the snapshot of the one that is meant.
pub(in crate::api) const NAMES_DB: &[&str] = &["db", "snapshot", "snapshot_name", "snapshot_id"];

/// A dissection, opened for questions.
#[derive(Clone)]
pub(in crate::api) struct Opened {
    /// `<snapshot>/<dissection>`.
    pub(in crate::api) db: String,
    /// The id of its snapshot; live calls are of none.
    pub(in crate::api) snapshot: Option<String>,
    /// Its tables.
    pub(in crate::api) database: Database,
    /// How far it is, while it is under way.
    pub(in crate::api) progress: Option<Progress>,
}

/// How far a dissection is.
#[derive(Clone, Debug, Serialize)]
pub(in crate::api) struct Progress {
    /// In percent.
    progress: u8,
    bytes: u64,
    bytes_total: u64,
    packets: u64,
    /// That can be asked for.
    calls: u64,
    /// Calls that were over by then are among them.
    complete_until_ts: Option<u64>,
}

/// A part of a dissection's time, open at both ends.
pub(in crate::api) type Span = (Option<Nanos>, Option<Nanos>);

/// The time that a question is about.
pub(super) fn scope_span(scope: &Scope) -> Span {
    let nanos = |ms: i64| u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000);
    (scope.start.map(nanos), scope.end.map(nanos))
}

impl Opened {
    /// Tells in an answer which dissection it comes from, and what is missing in the time that it is about.
    pub(super) fn tell(&self, span: Span, answer: &mut Value) {
        losses::tell(self.database.summary(), span, answer);
        self.sign(answer);
    }

    /// Tells which dissection it comes from, and how far that is while it is under way.
    pub(super) fn sign(&self, answer: &mut Value) {
        answer["db"] = json!(self.db);
        if let Some(progress) = &self.progress {
            answer["partial"] = json!(true);
            answer["dissected"] = json!(progress);
        }
    }

    /// Refuses what is to be of all calls, while there are not all.
    pub(super) fn completed(&self) -> Result<(), ApiError> {
        match &self.progress {
            None => Ok(()),
            Some(progress) => Err(ApiError::conflict(format!(
                "the dissection `{}` is running ({} %), and a capture is of all its calls; ask again when it is completed",
                self.db, progress.progress
            ))),
        }
    }

    /// The id of its snapshot, where packets are to be had.
    pub(super) fn snapshot(&self) -> Result<&str, ApiError> {
        self.snapshot.as_deref().ok_or_else(|| {
            ApiError::conflict(
                "live calls are of no snapshot, which captures are made from: POST /mcp/snapshots {\"name\": …, \
                 \"duration\": \"2m\"} keeps the last minutes, POST /mcp/dissections dissects them",
            )
        })
    }
}

/// The dissection that `db` names, or that the names of a snapshot and a dissection do; live calls when nothing is named
/// and they are switched on.
pub(in crate::api) async fn open(app: &App, params: &mut Params) -> Result<Opened, ApiError> {
    open_at(app, params, None).await
}

/// The same; a dissection under way as it was at that age.
async fn open_at(app: &App, params: &mut Params, age: Option<usize>) -> Result<Opened, ApiError> {
    let db = params.text(&["db"])?.filter(|db| !db.is_empty());
    let parts = (params.text(SNAPSHOT)?, params.text(DISSECTION)?);
    let db = match (db, parts) {
        (Some(db), _) => Some(db),
        (None, (Some(snapshot), Some(dissection))) => Some(format!("{snapshot}/{dissection}")),
        (None, (snapshot, _)) => snapshot,
    };
    if let Some(opened) = &params.opened {
        return Ok(opened.clone());
    }
    if db
        .as_deref()
        .map_or(app.hub.live.state().enabled(), |db| db == live::LIVE_DB)
    {
        return live::open(app).await;
    }
    let Some(db) = db else {
        let there = databases(&app.hub.jobs.list(None).await?);
        return Err(ApiError::bad_request(format!(
            "`db` is required: <snapshot>/<dissection>; {there}. Without it live calls are meant, which POST \
             /mcp/dissection/enable switches on"
        )));
    };
    let mut found = job(app, &db).await?;
    while age.is_none() && is_young(&found.1) {
        tokio::time::sleep(YOUNG_LOOK).await;
        found = job(app, &db).await?;
    }
    for _ in 0..LOOKS {
        let (snapshot, job) = &found;
        if job.record.status != JobStatus::Running {
            break;
        }
        if let Some(partial) = app.hub.jobs.partial(job, age) {
            let progress = Progress {
                progress: job.progress,
                bytes: job.bytes,
                bytes_total: job.bytes_total,
                packets: partial.summary.packets,
                calls: partial.summary.calls,
                complete_until_ts: partial.tables.complete_until.map(millis),
            };
            let folder = app.dissection_folder(snapshot, &job.record.name);
            return Ok(Opened {
                db: job.db(),
                snapshot: Some(snapshot.id.clone()),
                database: app.hub.databases.under_way(&folder, partial)?,
                progress: Some(progress),
            });
        }
        // It has ended since.
        found = self::job(app, &db).await?;
    }
    let (snapshot, job) = found;
    let folder = app.dissection_folder(&snapshot, &job.record.name);
    if let Err(not_completed) = check_completed(&job) {
        // Whoever asked it while it was under way; its tables are gone.
        app.hub.databases.forget(&folder);
        return Err(not_completed);
    }
    Ok(Opened {
        db: job.db(),
        snapshot: Some(snapshot.id),
        database: app.hub.databases.get(&folder)?,
        progress: None,
    })
}

/// A dissection under way is not asked before it is so old: most are over by then, and who begins one and asks at once
/// means all of it.
const YOUNG: Nanos = 1_000_000_000;
/// How often it is looked at until then.
const YOUNG_LOOK: Duration = Duration::from_millis(50);

fn is_young(job: &Job) -> bool {
    let age = job
        .record
        .started_at
        .map(|started| crate::now().saturating_sub(started));
    job.record.status == JobStatus::Running && age.is_some_and(|age| age < YOUNG)
}

/// How often a dissection is looked for that ends just then.
const LOOKS: usize = 3;

/// The dissection of that name, and its snapshot.
async fn job(app: &App, db: &str) -> Result<(SnapshotEntry, Job), ApiError> {
    let (snapshot, dissection) = match db.split_once('/') {
        Some((snapshot, dissection)) => (snapshot, Some(dissection)),
        None => (db, None),
    };
    let unknown = async |why: String| -> Result<ApiError, ApiError> {
        Ok(ApiError::not_found(format!(
            "{why}; {}",
            databases(&app.hub.jobs.list(None).await?)
        )))
    };
    let Ok(snapshot) = app.hub.snapshots.find(snapshot).await else {
        return Err(unknown(format!("there is no database `{}`", shown(db))).await?);
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
        let why = format!("there is no database `{}`", shown(db));
        return Err(match dissection {
            None => ApiError::not_found(format!("{why}: {}", undissected(&snapshot))),
            Some(_) => unknown(why).await?,
        });
    };
    Ok((snapshot, job))
}

/// The one dissection there is, opened. `None` where there are several, or where it is not completed.
pub(in crate::api) async fn only(app: &App) -> Result<Option<Opened>, ApiError> {
    let only = app.hub.jobs.only().await?;
    let Some(job) = only.filter(|job| job.record.status == JobStatus::Completed) else {
        return Ok(None);
    };
    let snapshot = app.hub.snapshots.published(&job.snapshot_id);
    let folder = snapshot.join(DISSECTIONS).join(&job.record.name);
    Ok(Some(Opened {
        db: job.db(),
        snapshot: Some(job.snapshot_id),
        database: app.hub.databases.get(&folder)?,
        progress: None,
    }))
}

/// The dissection that a question means, looked for once, however often it is opened after that.
pub(in crate::api) async fn find(app: &App, params: &mut Params) -> Result<Opened, ApiError> {
    // What names it stays, for the operation to take.
    let age = params
        .peek("cursor")
        .and_then(Value::as_str)
        .and_then(query::cursor_age);
    let opened = open_at(app, &mut params.clone(), age).await?;
    params.opened = Some(opened.clone());
    Ok(opened)
}

fn check_completed(job: &Job) -> Result<(), ApiError> {
    let (db, status) = (job.db(), job.record.status);
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

/// The dissection of a name.
pub(in crate::api) async fn open_db(app: &App, db: &str) -> Result<Opened, ApiError> {
    let mut params = Params::default();
    params.give("db", json!(db));
    open(app, &mut params).await
}

/// What an answer about a database rests on; with where and when packets were lost, if the answer does not tell that.
pub(in crate::api) fn coverage(opened: &Opened, with_losses: bool) -> Value {
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
    if !summary.recorded.is_empty() {
        coverage["recorded"] = json!(summary.recorded);
    }
    if with_losses && !summary.losses.is_empty() {
        coverage["losses"] = json!(losses::few(&summary.losses));
    }
    if !summary.problems.is_empty() {
        coverage["problems"] = summary.problems.iter().take(PROBLEMS).cloned().collect();
    }
    coverage
}

/// What to do with a snapshot that has no dissection.
fn undissected(snapshot: &SnapshotEntry) -> String {
    let name = &snapshot.name;
    match snapshot.status {
        Status::Completed => format!(
            "the snapshot `{name}` is not dissected yet; POST /mcp/dissections {{\"snapshot\": \"{name}\"}} \
             (start_snapshot_dissection) does that"
        ),
        status => format!(
            "the snapshot `{name}` is {}, and not dissected; GET /mcp/snapshots/{name} (get_snapshot) tells how it goes",
            status.as_str()
        ),
    }
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
