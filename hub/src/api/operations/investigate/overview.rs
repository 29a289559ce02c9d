//! What there is to know of a workload at first sight, by questions that anybody could ask one by one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::findings;
use crate::api::ApiError;
use crate::api::operations::calls::Opened;
use crate::query::{
    self, Bucket, CallsQuery, GroupKey, Lines, Order, RETRY_WITHIN, Scope, StatsOrder, StatsQuery,
    TimelineQuery,
};
use crate::snapshots::shown;

/// Endpoints, callers and callees in an overview.
const ROWS: i64 = 12;
/// Calls of each kind.
const CALLS: i64 = 5;
/// Changes in an overview; get_timeline has all of them.
const EVENTS: usize = 10;
/// Bytes of the groups of one question; the tool's budget cuts further.
const BYTES: usize = 16 << 10;

/// Filters of the calls that a workload has to do with.
pub(super) struct Filters {
    workload: Option<String>,
    asked: String,
    asking: String,
}

impl Filters {
    /// Those of a part of a name, a namespace or an address; of all calls, without one.
    pub(super) fn of(workload: Option<&str>) -> Result<Self, ApiError> {
        let Some(workload) = workload.map(str::trim) else {
            return Ok(Self {
                workload: None,
                asked: String::new(),
                asking: String::new(),
            });
        };
        if workload.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Err(ApiError::bad_request(format!(
                "`workload` must be a name or an address, not \"{}\"",
                shown(workload)
            )));
        }
        let is_address = workload.parse::<IpAddr>().is_ok();
        let side = |side: &str| {
            if is_address {
                return format!("{side}.ip == \"{workload}\"");
            }
            format!(
                "({side}.name contains \"{workload}\" or {side}.svc contains \"{workload}\" or {side}.ns == \
                 \"{workload}\")"
            )
        };
        Ok(Self {
            workload: Some(workload.to_owned()),
            asked: side("dst"),
            asking: side("src"),
        })
    }

    fn both(&self) -> String {
        match self.workload {
            None => String::new(),
            Some(_) => format!("({} or {})", self.asked, self.asking),
        }
    }
}

/// The overview of a dissection, or of a part of its time.
pub(super) async fn overview(
    opened: &Opened,
    filters: &Filters,
    span: Option<(u64, u64)>,
    now: u64,
) -> Result<Value, ApiError> {
    let ask = Ask { opened, span, now };
    let both = filters.both();
    let outcomes = ask.stats(&both, "outcome", StatsOrder::Count).await?;
    let statuses = ask.stats(&both, "status", StatsOrder::Count).await?;
    let endpoints = ask.stats(&both, "endpoint", StatsOrder::Count).await?;
    let callers = ask.stats(&filters.asked, "src", StatsOrder::Count).await?;
    let callees = ask.stats(&filters.asking, "dst", StatsOrder::Count).await?;
    let total = &outcomes["total"];
    let mut answer = json!({
        "status": if opened.progress.is_some() { "in_progress" } else { "completed" },
        "db": opened.db,
        "window": outcomes["window"],
        "totals": total_of(total),
        "outcomes": total["outcomes"],
        "statuses": by_status(&statuses),
        "endpoints": rows(&endpoints, "endpoint"),
        "callers": rows(&callers, "src"),
        "callees": rows(&callees, "dst"),
        "slowest": ask.calls(&both, Order::Latency).await?,
        "failing": ask.calls(&and(&both, "error"), Order::Time).await?,
    });
    if let Some(workload) = &filters.workload {
        answer["workload"] = json!(workload);
    }
    match ask.timeline(&both).await {
        Ok(mut timeline) => {
            answer["findings"] = json!(findings::of(&timeline));
            let mut events = timeline["events"].take();
            if let Value::Array(events) = &mut events {
                events.truncate(EVENTS);
            }
            answer["events"] = if events.is_null() { json!([]) } else { events };
            answer["happened"] = timeline["happened"].take();
        }
        // Of a million calls and more there is a timeline only by parts.
        Err(error) => answer["warnings"] = json!([format!("no timeline: {}", error.message())]),
    }
    let span = span.map_or((None, None), |(start, end)| (Some(start), Some(end)));
    opened.tell(span, &mut answer);
    answer["summary"] = json!(summary(&answer, filters));
    if let Some(explanation) = outcomes.get("explanation") {
        answer["explanation"] = explanation.clone();
    }
    answer["next"] = json!(match &filters.workload {
        Some(workload) if answer["totals"]["calls"] == 0 => ask.others(workload).await?,
        _ => next(&answer, filters),
    });
    Ok(answer)
}

/// Questions to one dissection.
struct Ask<'a> {
    opened: &'a Opened,
    span: Option<(u64, u64)>,
    now: u64,
}

impl Ask<'_> {
    fn scope(&self, kfl: &str) -> Scope {
        let ms = |nanos: u64| i64::try_from(nanos / 1_000_000).ok();
        Scope {
            kfl: Some(kfl.to_owned()),
            start: self.span.and_then(|(start, _)| ms(start)),
            end: self.span.and_then(|(_, end)| ms(end)),
            now: self.now,
        }
    }

    async fn stats(&self, kfl: &str, by: &str, order: StatsOrder) -> Result<Value, ApiError> {
        let question = StatsQuery {
            scope: self.scope(kfl),
            group_by: vec![GroupKey::named(by)?],
            order,
            limit: Some(ROWS),
            max_bytes: BYTES,
            ..StatsQuery::default()
        };
        Ok(query::stats(&self.opened.database, &question).await?)
    }

    /// Whom to ask about instead of one that has no calls.
    async fn others(&self, workload: &str) -> Result<String, ApiError> {
        let mut names = BTreeSet::new();
        for side in ["src", "dst"] {
            let groups = rows(&self.stats("", side, StatsOrder::Count).await?, side);
            names.extend(
                groups
                    .iter()
                    .filter_map(|group| group[side].as_str().map(str::to_owned)),
            );
        }
        if names.is_empty() {
            return Ok(
                "no calls began in this time at all: ask about another one, or get_recording_health"
                    .to_owned(),
            );
        }
        let meant = query::nearest(workload, names.iter().map(String::as_str));
        let meant = meant.map_or_else(String::new, |name| format!("did you mean `{name}`? "));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(format!(
            "{meant}who has most calls here: {}; list_workloads tells all names, and which pods nobody records",
            names.join(", ")
        ))
    }

    /// What changed in the calls, and what happened beside them.
    async fn timeline(&self, kfl: &str) -> Result<Value, ApiError> {
        let question = TimelineQuery {
            scope: self.scope(kfl),
            by: Lines::Peers,
            bucket: Bucket::Auto,
            retry_within: RETRY_WITHIN,
            max_bytes: 0,
        };
        Ok(query::timeline(&self.opened.database, &question).await?)
    }

    async fn calls(&self, kfl: &str, order: Order) -> Result<Vec<Value>, ApiError> {
        let scope = self.scope(kfl);
        let question = CallsQuery {
            kfl: scope.kfl,
            start: scope.start,
            end: scope.end,
            now: scope.now,
            limit: Some(CALLS),
            order,
            ..CallsQuery::default()
        };
        Ok(query::calls(&self.opened.database, &question).await?.calls)
    }
}

fn and(filter: &str, more: &str) -> String {
    if filter.is_empty() {
        more.to_owned()
    } else {
        format!("{filter} and {more}")
    }
}

/// Counts, and the latencies that tell most.
fn total_of(group: &Value) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("calls".to_owned(), group["count"].clone());
    for name in ["errors", "error_rate"] {
        row.insert(name.to_owned(), group[name].clone());
    }
    for (name, of) in [("p50_ms", "p50"), ("p99_ms", "p99"), ("max_ms", "max")] {
        if let Some(value) = group.pointer(&format!("/latency_ms/{of}")) {
            // A hundredth of a millisecond is enough for a first look, and costs half of the tokens.
            let rounded = value.as_f64().map(|ms| (ms * 100.0).round() / 100.0);
            row.insert(name.to_owned(), json!(rounded));
        }
    }
    row
}

fn rows(stats: &Value, key: &str) -> Vec<Value> {
    let groups = stats["groups"].as_array().into_iter().flatten();
    let named = |group: &Value| {
        let mut row = Map::new();
        row.insert(key.to_owned(), group[key].clone());
        row.extend(total_of(group));
        Value::Object(row)
    };
    groups.map(named).collect()
}

fn by_status(stats: &Value) -> Map<String, Value> {
    let groups = stats["groups"].as_array().into_iter().flatten();
    groups
        .map(|group| {
            let status = match &group["status"] {
                Value::Null => "none".to_owned(),
                status => status.to_string(),
            };
            (status, group["count"].clone())
        })
        .collect()
}

/// The overview in a sentence.
fn summary(answer: &Value, filters: &Filters) -> String {
    let totals = &answer["totals"];
    let number = |name: &str| totals[name].as_f64().unwrap_or_default();
    let calls = number("calls");
    let whose = filters
        .workload
        .as_ref()
        .map_or_else(String::new, |workload| format!(" to and from {workload}"));
    if calls == 0.0 {
        return format!("no calls{whose}");
    }
    let failed = match number("errors") {
        0.0 => "none failed".to_owned(),
        errors => format!("{errors} failed ({:.1} %)", number("error_rate") * 100.0),
    };
    let latency = match totals["p99_ms"].as_f64() {
        None => String::new(),
        Some(p99) => format!("; p50 {:.1} ms, p99 {p99:.1} ms", number("p50_ms")),
    };
    let lost = match answer["lost_packets"].as_u64() {
        None => String::new(),
        Some(lost) => format!("; the recorders lost {lost} packets, so calls may be missing (`losses`)"),
    };
    format!("{calls} calls{whose}, {failed}{latency}{lost}")
}

/// What is worth asking now, out of what was found.
fn next(answer: &Value, filters: &Filters) -> String {
    let db = answer["db"].as_str().unwrap_or_default();
    if answer["totals"]["calls"] == 0 {
        return "get_recording_health tells what is recorded; or ask about a longer window".to_owned();
    }
    if answer["failing"]
        .as_array()
        .is_some_and(|failing| !failing.is_empty())
    {
        let kfl = and(&filters.both(), "error");
        return format!(
            "{}list_api_calls {} for all that failed; get_api_call_details with the id of one of `failing`; export_pcap \
             with the same filter for the packets",
            downstream(answer, db),
            json!({ "db": db, "kfl": kfl })
        );
    }
    format!(
        "get_api_call_details with the id of one of `slowest`; list_api_calls {} for more",
        json!({ "db": db, "kfl": filters.both(), "order": "latency" })
    )
}

/// Failures come from below more often than not. Of those asked that failed, the one that failed most is looked at next;
/// first among those that had nobody below to blame.
fn downstream(answer: &Value, db: &str) -> String {
    let errors = |row: &&Value| row["errors"].as_u64().unwrap_or_default();
    let failing = |list: &str| {
        answer[list]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| errors(row) > 0)
    };
    let has_below = |row: &&Value| failing("callers").any(|caller| caller["src"] == row["dst"]);
    let worst = failing("callees").max_by_key(|row| (!has_below(row), errors(row)));
    let Some(worst) = worst.and_then(|row| row["dst"].as_str()) else {
        return String::new();
    };
    let asked = json!({ "db": db, "workload": worst });
    format!("investigate {asked} goes on where calls of it failed; ")
}
