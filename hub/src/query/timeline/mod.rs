//! What changed when: series by peers or endpoint with the moments at which their level shifted, first failures, and
//! what else the calls of a window say of the system: retries, connections, correlation, waiting.

mod facts;

mod changes;

mod retries;

mod findings;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wiretape_tape::Nanos;

use super::entries::Asked;
use super::entry::ms;
use super::latency::{self, EXACT_LATENCIES};
use super::scope::{Scope, shown_span};
use super::stats::{Bucket, Buckets, Measures, rate, share, shown_series};
use super::{Database, QueryError, events, scan};
use crate::dissections::OneClock;
use changes::{Stretch, stretches};
use facts::{Fact, Facts, Reading};

/// Most calls of one timeline: 160 MB of facts. Few enough that their latencies are all kept, too.
pub const MAX_CALLS: usize = EXACT_LATENCIES;

/// Lines with series in an answer.
const LINES: usize = 20;

/// Bytes of the events beside the calls.
const BESIDE_BYTES: usize = 8 << 10;

/// Lines in which changes are looked for, those with most calls first.
const LOOKED_AT: usize = 500;

/// Calls that a line must have for its changes to mean something.
const ENOUGH: u64 = 20;

/// Calls of a stretch without which it is not compared.
const STRETCH_CALLS: u64 = 5;

/// Factor by which a latency or a rate has changed its level.
const FACTOR: f64 = 2.0;

/// Difference by which a share of errors has.
const POINTS: f64 = 0.05;

/// Calls that an event names as evidence.
const EVIDENCE: usize = 3;

/// Events of one answer, the earliest first.
const EVENTS: usize = 100;

/// How long after a request another like it counts as its retry, when nobody says.
pub const RETRY_WITHIN: Nanos = 1_000_000_000;

/// What makes a line of a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lines {
    /// Client and server.
    #[default]
    Peers,
    /// Server and endpoint.
    Endpoint,
}

/// A question for a timeline.
#[derive(Clone, Debug)]
pub struct TimelineQuery {
    /// The calls that are looked at.
    pub scope: Scope,
    /// What makes a line.
    pub by: Lines,
    /// Length of its buckets.
    pub bucket: Bucket,
    /// How long after a request another like it counts as its retry, in ns.
    pub retry_within: Nanos,
    /// Most bytes of the lines in the answer; the others are left out.
    pub max_bytes: usize,
}

/// One line: calls by bucket, and their places among the facts.
struct Line {
    name: (String, String),
    calls: Vec<usize>,
    cells: Vec<Measures>,
}

/// Looks at the calls of a window.
///
/// # Errors
/// [`QueryError::BadRequest`] for a scope that is none or asks for connections, buckets out of range, or more than
/// [`MAX_CALLS`] calls.
pub async fn timeline(db: &Database, query: &TimelineQuery) -> Result<Value, QueryError> {
    let clock = OneClock::of(&db.summary().clocks);
    let apart = clock.apart().map(|(_, ahead)| ahead.unsigned_abs()).max();
    let apart = apart.unwrap_or_default();
    // Calls are stored by the clocks of their nodes.
    let scoped = query.scope.widened(apart)?.read(db).await?;
    let scoped = scoped.without_redactions()?.of_calls()?;
    db.endpoints().await?;
    let reading = || Reading::new(db, &query.scope, &clock);
    let tasks = scan::fold(db, scoped.condition(), &facts::COLUMNS, reading).await?;
    let facts = Facts::merge(tasks, recorded(db, apart))?;
    let span = facts.span(db, &query.scope);
    let buckets = Buckets::over(span, query.bucket)?;
    let mut answer = match facts.all.len() {
        0 => {
            json!({ "calls": 0, "explanation": scoped.nothing(db, &query.scope, Asked::default(), 0).await? })
        }
        _ => {
            let query = query.clone();
            tokio::task::spawn_blocking(move || told(&facts, &query, buckets))
                .await
                .map_err(|error| QueryError::Internal(format!("the timeline's task failed: {error}")))?
        }
    };
    answer["window"] = shown_span(span);
    answer["happened"] = events::beside(db, query.scope.around(db), BESIDE_BYTES).await?;
    if let Some(clocks) = events::clocks(&clock) {
        answer["clocks"] = clocks;
    }
    let warnings = scoped.warnings();
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    Ok(answer)
}

/// From when to when every node recorded, by the one clock: each began and ended by its own, which is apart by so much at
/// most.
fn recorded(db: &Database, apart: Nanos) -> (Nanos, Nanos) {
    let summary = db.summary();
    let packets = || summary.first_ts.zip(summary.last_ts);
    let (from, to) = summary.window.or_else(packets).unwrap_or((0, Nanos::MAX));
    (from.saturating_add(apart), to.saturating_sub(apart))
}

fn told(facts: &Facts, query: &TimelineQuery, buckets: Buckets) -> Value {
    let lines = lines(facts, query.by, buckets);
    let total = lines.len();
    let mut events = findings::firsts(facts);
    let mut changed = Vec::new();
    let mut quiet = Vec::new();
    for (at, mut line) in lines.into_iter().enumerate() {
        let count = line.calls.len() as u64;
        let shifts = if at < LOOKED_AT && count >= ENOUGH {
            shifts(facts, query.by, &mut line, buckets)
        } else {
            Vec::new()
        };
        if shifts.is_empty() {
            quiet.push(line)
        } else {
            changed.push(line)
        }
        events.extend(shifts);
    }
    events.sort_by_key(|event| event["ts"].as_u64());
    let events_total = events.len();
    events.truncate(EVENTS);

    let mut room = query.max_bytes;
    let mut shown = Vec::new();
    for mut line in changed.into_iter().chain(quiet).take(LINES) {
        let value = shown_line(query.by, &mut line);
        let bytes = value.to_string().len() + 1;
        let Some(left) = room.checked_sub(bytes) else {
            break;
        };
        room = left;
        shown.push(value);
    }
    json!({
        "calls": facts.all.len(),
        "percentiles": latency::method(true),
        "events": events,
        "total_events": events_total,
        "failures": findings::failures(facts),
        "retries": retries::found(facts, query.retry_within),
        "connections": findings::connections(facts),
        "correlation": findings::correlation(facts),
        "waiting": findings::waiting(facts),
        "buckets": buckets.shown(),
        "truncated": shown.len() < total,
        "lines": shown,
        "total_lines": total,
    })
}

/// The lines, those with most calls first.
fn lines(facts: &Facts, by: Lines, buckets: Buckets) -> Vec<Line> {
    let mut found = BTreeMap::<(u32, u32), Vec<usize>>::new();
    for (at, fact) in facts.all.iter().enumerate() {
        let key = match by {
            Lines::Peers => (fact.src, fact.dst),
            Lines::Endpoint => (fact.dst, fact.endpoint),
        };
        found.entry(key).or_default().push(at);
    }
    let mut lines: Vec<Line> = found
        .into_iter()
        .map(|((one, other), calls)| Line {
            name: (
                facts.words.text(one).to_owned(),
                facts.words.text(other).to_owned(),
            ),
            calls,
            cells: Vec::new(),
        })
        .collect();
    lines.sort_by(|a, b| {
        Reverse(a.calls.len())
            .cmp(&Reverse(b.calls.len()))
            .then(a.name.cmp(&b.name))
    });
    for line in lines.iter_mut().take(LOOKED_AT) {
        line.cells = vec![Measures::default(); buckets.count];
        for fact in line.calls.iter().filter_map(|at| facts.all.get(*at)) {
            if let Some(cell) = buckets.of(fact.ts).and_then(|bucket| line.cells.get_mut(bucket)) {
                cell.add(fact.outcome, fact.latency, 0, 0);
            }
        }
    }
    lines
}

fn shown_line(by: Lines, line: &mut Line) -> Value {
    let mut all = Measures::default();
    for cell in &line.cells {
        all.merge(cell.clone());
    }
    let mut shown = Map::new();
    put_name(&mut shown, by, line);
    shown.insert("count".to_owned(), json!(all.count));
    shown.insert("error_rate".to_owned(), json!(share(all.errors(), all.count)));
    if let Some(told) = all.told() {
        shown.insert("p50_ms".to_owned(), json!(ms(told.p50)));
        shown.insert("p99_ms".to_owned(), json!(ms(told.p99)));
    }
    shown.insert("series".to_owned(), shown_series(&mut line.cells));
    Value::Object(shown)
}

fn put_name(into: &mut Map<String, Value>, by: Lines, line: &Line) {
    let names = match by {
        Lines::Peers => ["src", "dst"],
        Lines::Endpoint => ["dst", "endpoint"],
    };
    let (one, other) = &line.name;
    for (name, value) in names.into_iter().zip([one, other]) {
        into.insert(name.to_owned(), json!(value));
    }
}

/// Something of a line that can change its level.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Metric {
    Latency,
    Errors,
    Rate,
}

impl Metric {
    fn kind(self) -> &'static str {
        match self {
            Self::Latency => "latency_shift",
            Self::Errors => "error_rate_shift",
            Self::Rate => "rate_shift",
        }
    }

    /// What counts as an accident at least: a tenth of a latency, a fifth of a rate, some errors of a hundred.
    fn noise(self) -> f64 {
        match self {
            Self::Latency => 0.1,
            Self::Errors => 0.03,
            Self::Rate => 0.2,
        }
    }

    /// Of a bucket, in the measure in which levels are compared.
    fn of(self, cell: &mut Measures) -> Option<f64> {
        match self {
            Self::Latency => cell.told().map(|told| (told.p50.max(1) as f64).ln()),
            Self::Errors => (cell.count > 0).then(|| share(cell.errors(), cell.count)),
            // One more, so that a bucket without calls has a logarithm.
            Self::Rate => Some((cell.count as f64 + 1.0).ln()),
        }
    }
}

/// Where a line's levels shift, with the calls that show it.
fn shifts(facts: &Facts, by: Lines, line: &mut Line, buckets: Buckets) -> Vec<Value> {
    let mut events = Vec::new();
    for metric in [Metric::Latency, Metric::Errors, Metric::Rate] {
        let mut series: Vec<Option<f64>> = line.cells.iter_mut().map(|cell| metric.of(cell)).collect();
        if metric == Metric::Rate {
            // The window begins and ends within a bucket, and so does the recording of each node: calls are fewer for that
            // alone.
            let (last, (from, to)) = (series.len().saturating_sub(1), facts.recorded);
            for (bucket, value) in series.iter_mut().enumerate() {
                let in_part = buckets.start(bucket) < from || buckets.start(bucket + 1) > to;
                if in_part || bucket == 0 || bucket == last {
                    *value = None;
                }
            }
        }
        let mut before: Option<(Stretch, Measures)> = None;
        for stretch in stretches(&series, metric.noise()) {
            let mut after = Measures::default();
            for cell in line.cells.iter().take(stretch.to).skip(stretch.from) {
                after.merge(cell.clone());
            }
            if metric != Metric::Rate && after.count < STRETCH_CALLS {
                continue;
            }
            if let Some((was, measures)) = &mut before
                && let Some(mut event) = shift(metric, (*was, measures), (stretch, &mut after), buckets)
            {
                put_name(&mut event, by, line);
                put_evidence(&mut event, facts, metric, line, buckets.start(stretch.from));
                events.push(Value::Object(event));
            }
            before = Some((stretch, after));
        }
    }
    events
}

/// The event between two stretches, if their levels are far enough apart.
fn shift(
    metric: Metric,
    before: (Stretch, &mut Measures),
    after: (Stretch, &mut Measures),
    buckets: Buckets,
) -> Option<Map<String, Value>> {
    let apart = |a: f64, b: f64| a.max(b) >= a.min(b) * FACTOR;
    let per_second = |stretch: Stretch, measures: &Measures| {
        let seconds = (buckets.start(stretch.to) - buckets.start(stretch.from)) as f64 / 1e9;
        rate(measures.count, seconds)
    };
    let mut event = Map::new();
    let mut put = |key: &str, value: Value| event.insert(key.to_owned(), value);
    put("kind", json!(metric.kind()));
    put("ts", json!(buckets.start(after.0.from) / 1_000_000));
    match metric {
        Metric::Latency => {
            let (was, is) = (before.1.told()?, after.1.told()?);
            if !apart(was.p50 as f64, is.p50 as f64) {
                return None;
            }
            put("before", json!({ "p50_ms": ms(was.p50), "p99_ms": ms(was.p99) }));
            put("after", json!({ "p50_ms": ms(is.p50), "p99_ms": ms(is.p99) }));
        }
        Metric::Errors => {
            let of = |measures: &Measures| share(measures.errors(), measures.count);
            let (was, is) = (of(before.1), of(after.1));
            if (was - is).abs() < POINTS {
                return None;
            }
            put("before", json!({ "error_rate": was }));
            put("after", json!({ "error_rate": is }));
        }
        Metric::Rate => {
            let (was, is) = (per_second(before.0, before.1)?, per_second(after.0, after.1)?);
            if !apart(was, is) {
                return None;
            }
            put("before", json!({ "rate": was }));
            put("after", json!({ "rate": is }));
        }
    }
    let until = buckets.start(after.0.to);
    put("until_ts", json!(until / 1_000_000));
    Some(event)
}

/// The first calls after a shift that are as it says; the first of them is the moment.
fn put_evidence(event: &mut Map<String, Value>, facts: &Facts, metric: Metric, line: &Line, from: Nanos) {
    let of = |side: &str, what: &str| {
        let side = event.get(side).and_then(|side| side.get(what));
        side.and_then(Value::as_f64).unwrap_or_default()
    };
    let level = match metric {
        Metric::Latency => "p50_ms",
        Metric::Errors => "error_rate",
        Metric::Rate => "rate",
    };
    let (was, is) = (of("before", level), of("after", level));
    let shows = |fact: &Fact| match metric {
        // Nearer to the new level than to the old one, by factor.
        Metric::Latency => fact.latency.is_some_and(|latency| {
            let between = (was * is).sqrt();
            (ms(latency) >= between) == (is >= was)
        }),
        Metric::Errors => fact.failed() == (is > was),
        Metric::Rate => true,
    };
    let evidence: Vec<&Fact> = line
        .calls
        .iter()
        .filter_map(|at| facts.all.get(*at))
        .filter(|fact| fact.ts >= from && shows(fact))
        .take(EVIDENCE)
        .collect();
    if let Some(first) = evidence.first() {
        event.insert("ts".to_owned(), json!(first.ts / 1_000_000));
    }
    let ids = evidence.into_iter().map(|fact| facts.id(fact)).collect();
    event.insert("calls".to_owned(), ids);
}
