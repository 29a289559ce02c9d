//! What happened beside the calls: events of the nodes and of the cluster.

use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, Operator, col, lit};
use datafusion::prelude::DataFrame;
use serde_json::{Map, Value, json};
use wiretape_tape::Nanos;

use super::fields::instant;
use super::filter::joined;
use super::row::Row;
use super::{Database, QueryError};
use crate::dissections::OneClock;

/// Events of one answer, when nobody says how many.
pub const DEFAULT_EVENTS: i64 = 100;

/// Most events of one answer.
pub const MAX_EVENTS: i64 = 1000;

/// Events beside a timeline.
const BESIDE: usize = 40;

/// What happens to a connection, and so to many when it happens.
const SOCKETS: &[&str] = &[
    "socket_refused",
    "socket_reset",
    "socket_timeout",
    "packet_dropped",
];

/// What Kubernetes does without calling it a warning, and what changes for callers all the same.
const CHANGES: &[&str] = &[
    "Killing",
    "Preempted",
    "ScalingReplicaSet",
    "SuccessfulRescale",
    "TaintManagerEviction",
];

/// Words of `kind`, as the table has them.
pub const KINDS: &[&str] = &[
    "process_start",
    "process_exit",
    "oom_kill",
    "socket_refused",
    "socket_reset",
    "socket_timeout",
    "packet_dropped",
    "memory_pressure",
    "kubernetes",
    "recorder",
    "other",
];

/// Which events are asked for. `Default` is all of them.
#[derive(Clone, Debug, Default)]
pub struct EventsQuery {
    /// Of these kinds ([`KINDS`]).
    pub kinds: Vec<String>,
    /// Those with this reason.
    pub reason: Option<String>,
    /// Of these namespaces.
    pub namespaces: Vec<String>,
    /// Of pods with this in their name.
    pub pod: Option<String>,
    /// On this node.
    pub node: Option<String>,
    /// Warnings, or the others.
    pub warning: Option<bool>,
    /// From this time on, in ns.
    pub start: Option<Nanos>,
    /// Before this time, in ns.
    pub end: Option<Nanos>,
    /// Most of them, the earliest; [`DEFAULT_EVENTS`] when not given.
    pub limit: Option<i64>,
    /// Most bytes of them; the others are left out.
    pub max_bytes: usize,
}

/// Events, the earliest first.
///
/// # Errors
/// [`QueryError::BadRequest`] for a kind or a limit that is none.
pub async fn events(db: &Database, query: &EventsQuery) -> Result<Value, QueryError> {
    let limit = query.limit.unwrap_or(DEFAULT_EVENTS);
    let rows = usize::try_from(limit)
        .ok()
        .filter(|_| (1..=MAX_EVENTS).contains(&limit))
        .ok_or_else(|| {
            QueryError::BadRequest(format!("limit is {limit}; it must be 1 to {MAX_EVENTS} events"))
        })?;
    if let Some(other) = query.kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        let other = crate::snapshots::shown(other);
        let kinds = KINDS.join(", ");
        return Err(QueryError::BadRequest(format!(
            "there are no events of kind \"{other}\"; kinds are {kinds}"
        )));
    }
    let Some(table) = db.events().await? else {
        return Ok(nothing(
            "this dissection is older than the table of events; dissect the snapshot again",
        ));
    };
    let all = number(table.clone()).await?;
    let matching = match query.condition() {
        Some(condition) => table.filter(condition)?,
        None => table,
    };
    let total = number(matching.clone()).await?;
    let (events, more) = rows_of(matching, rows, query.max_bytes).await?;
    if total == 0 {
        let why = match all {
            0 => "the tapes of this snapshot hold no events in its window: agents tell of processes and sockets where eBPF \
                  records, the hub of Kubernetes' events where it may watch them"
                .to_owned(),
            all => format!("none of the {all} events of this dissection is meant"),
        };
        return Ok(nothing(&why));
    }
    let mut answer =
        json!({ "total": total, "truncated": more || (events.len() as u64) < total, "events": events });
    if let Some(clocks) = clocks(&OneClock::of(&db.summary().clocks)) {
        answer["clocks"] = clocks;
    }
    Ok(answer)
}

/// Which nodes' clocks are apart from the others', where there are such.
pub fn clocks(clock: &OneClock) -> Option<Value> {
    let apart: Map<String, Value> = clock
        .apart()
        .map(|(node, ahead)| (node.to_owned(), json!(ahead as f64 / 1e6)))
        .collect();
    (!apart.is_empty()).then(|| json!({ "node": clock.node, "ahead_ms": apart }))
}

/// The warnings and changes of a window, for beside its calls: by the one clock of all nodes, as these are.
pub async fn beside(db: &Database, window: (Nanos, Nanos), max_bytes: usize) -> Result<Value, QueryError> {
    let Some(table) = db.events().await? else {
        return Ok(nothing("this dissection is older than the table of events"));
    };
    let changes = CHANGES.iter().map(|reason| lit(*reason)).collect();
    let change = col("kind")
        .eq(lit("kubernetes"))
        .and(col("reason").in_list(changes, false));
    let in_window = col("ts")
        .gt_eq(instant(window.0))
        .and(col("ts").lt(instant(window.1)));
    let table = table.filter(in_window)?;
    let all = number(table.clone()).await?;
    let matching = table.filter(col("warning").eq(lit(1_i32)).or(change))?;
    let total = number(matching.clone()).await?;
    if total == 0 {
        return Ok(nothing(&match all {
            0 => "no events were recorded in this window".to_owned(),
            all => format!("none of the {all} events of this window is a warning; list_events shows them"),
        }));
    }
    // A server that is gone refuses a hundred connections; why it is gone is said once.
    let sockets = SOCKETS.iter().map(|kind| lit(*kind)).collect();
    let of_sockets = col("kind").in_list(sockets, false);
    let others = matching.clone().filter(!of_sockets.clone())?;
    let (mut events, mut more) = rows_of(others, BESIDE, max_bytes).await?;
    let taken: usize = events.iter().map(|event| event.to_string().len() + 1).sum();
    if !more && events.len() < BESIDE {
        let (rows, bytes) = (BESIDE - events.len(), max_bytes.saturating_sub(taken));
        let (of_sockets, beyond) = rows_of(matching.filter(of_sockets)?, rows, bytes).await?;
        events.extend(of_sockets);
        more = beyond;
    }
    let clock = OneClock::of(&db.summary().clocks);
    events.iter_mut().for_each(|event| by_one_clock(event, &clock));
    events.sort_by_key(|event| event["ts"].as_i64());
    Ok(json!({ "total": total, "truncated": more || (events.len() as u64) < total, "events": events }))
}

impl EventsQuery {
    fn condition(&self) -> Option<Expr> {
        let any = |column: &str, words: &[String]| {
            let words = words.iter().map(|word| lit(word.as_str())).collect();
            col(column).in_list(words, false)
        };
        let mut conditions = Vec::new();
        if !self.kinds.is_empty() {
            conditions.push(any("kind", &self.kinds));
        }
        if !self.namespaces.is_empty() {
            conditions.push(any("namespace", &self.namespaces));
        }
        if let Some(reason) = &self.reason {
            conditions.push(col("reason").eq(lit(reason.as_str())));
        }
        if let Some(pod) = &self.pod {
            conditions.push(datafusion::functions::expr_fn::contains(
                col("pod"),
                lit(pod.as_str()),
            ));
        }
        if let Some(node) = &self.node {
            conditions.push(col("node").eq(lit(node.as_str())));
        }
        if let Some(warning) = self.warning {
            conditions.push(col("warning").eq(lit(i32::from(warning))));
        }
        conditions.extend(self.start.map(|start| col("ts").gt_eq(instant(start))));
        conditions.extend(self.end.map(|end| col("ts").lt(instant(end))));
        (!conditions.is_empty()).then(|| joined(conditions, Operator::And))
    }
}

async fn number(table: DataFrame) -> Result<u64, QueryError> {
    let counted = table
        .aggregate(Vec::new(), vec![count(lit(1_i64)).alias("n")])?
        .collect()
        .await?;
    let n = Row::each(&counted).next().and_then(|row| row.int("n"));
    Ok(n.unwrap_or_default().unsigned_abs())
}

/// The earliest, and whether bytes ran out before they did.
async fn rows_of(table: DataFrame, rows: usize, max_bytes: usize) -> Result<(Vec<Value>, bool), QueryError> {
    let order = ["ts", "node", "kind", "object", "reason", "message"];
    let batches = table
        .sort(
            order
                .iter()
                .map(|column| col(*column).sort(true, false))
                .collect(),
        )?
        .limit(0, Some(rows))?
        .collect()
        .await?;
    let mut room = max_bytes;
    let mut events = Vec::new();
    for row in Row::each(&batches) {
        let event = Value::Object(shown(row));
        let Some(left) = room.checked_sub(event.to_string().len() + 1) else {
            return Ok((events, true));
        };
        room = left;
        events.push(event);
    }
    Ok((events, false))
}

/// What is known of an event.
fn shown(row: Row<'_>) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert(
        "ts".to_owned(),
        json!(row.time("ts").unwrap_or_default() / 1_000_000),
    );
    let warning = row.int("warning") == Some(1);
    for (member, column) in [
        ("kind", "kind"),
        ("reason", "reason"),
        ("message", "message"),
        ("node", "node"),
        ("ns", "namespace"),
        ("pod", "pod"),
        ("svc", "service"),
        ("container", "container"),
        ("owner", "owner"),
        ("process", "process"),
        ("object_kind", "object_kind"),
        ("object", "object"),
        ("local_ip", "local_ip"),
        ("remote_ip", "remote_ip"),
        ("remote_pod", "remote_pod"),
        ("remote_svc", "remote_service"),
    ] {
        let text = row.text(column);
        if !text.is_empty() {
            event.insert(member.to_owned(), json!(text));
        }
    }
    event.insert("warning".to_owned(), json!(warning));
    for column in ["pid", "exit_code", "signal", "local_port", "remote_port"] {
        if let Some(number) = row.int(column) {
            event.insert(column.to_owned(), json!(number));
        }
    }
    if let Some(count) = row.int("count").filter(|count| *count > 0) {
        event.insert("count".to_owned(), json!(count));
    }
    event
}

/// Moves an event to the one clock of all nodes, and says by how much.
fn by_one_clock(event: &mut Value, clock: &OneClock) {
    let ahead = clock.ahead(event["node"].as_str().unwrap_or_default());
    if ahead != 0
        && let Some(ts) = event["ts"].as_i64()
    {
        event["ts"] = json!(ts.saturating_sub(ahead / 1_000_000));
        event["clock_ahead_ms"] = json!(ahead as f64 / 1e6);
    }
}

fn nothing(why: &str) -> Value {
    json!({ "total": 0, "truncated": false, "events": [], "explanation": why })
}
