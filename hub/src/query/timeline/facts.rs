//! What a timeline has to know of each call.

use std::hash::{Hash, Hasher};

use datafusion::arrow::record_batch::RecordBatch;
use rustc_hash::FxHasher;
use wiretape_dissect::{Marks, Outcome};
use wiretape_tape::Nanos;

use super::MAX_CALLS;
use crate::dissections::OneClock;
use crate::query::group::{Words, endpoint_name};
use crate::query::scan::{Fold, ids, ints, maps, texts, times};
use crate::query::stats::{is_error, outcome};
use crate::query::{Database, QueryError, Scope};

/// Header fields that tie the calls of one request together.
pub(super) const CORRELATION: [&str; 9] = [
    "x-correlation-id",
    "correlation-id",
    "traceparent",
    "x-b3-traceid",
    "b3",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "x-request-id",
];

/// What a client sends again with the same request (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY: &str = "idempotency-key";

/// Columns that facts are made of.
pub(super) const COLUMNS: [&str; 21] = [
    "ts",
    "stream",
    "index",
    "node",
    "protocol",
    "src_ip",
    "src_pod",
    "src_service",
    "dst_ip",
    "dst_pod",
    "dst_service",
    "method",
    "path",
    "query",
    "status",
    "outcome",
    "elapsed_ns",
    "req_body_bytes",
    "resp_bytes",
    "req_headers",
    "marks",
];

/// One call. Names are numbers of [`Facts::words`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    /// By the one clock of all nodes.
    pub(super) ts: Nanos,
    pub(super) stream: u64,
    pub(super) index: i64,
    pub(super) node: u32,
    /// Service, pod or address, whichever is known first.
    pub(super) src: u32,
    /// The client itself: a service's pods do not retry for one another.
    pub(super) client: u32,
    pub(super) dst: u32,
    pub(super) endpoint: u32,
    /// What was asked, with all values: two calls with the same may be a request and its retry.
    pub(super) asked: u64,
    pub(super) status: Option<i64>,
    pub(super) outcome: Outcome,
    pub(super) latency: Option<u64>,
    /// What ties it to the calls that it caused.
    pub(super) request: Option<u64>,
    pub(super) idempotency: Option<u64>,
    /// Which of [`CORRELATION`] it has, by bit; `None` where no header was recorded.
    pub(super) correlation: Option<u16>,
    pub(super) marks: Marks,
}

impl Fact {
    /// When it was over, as far as is known.
    pub(super) fn end(&self) -> Nanos {
        self.ts.saturating_add(self.latency.unwrap_or_default())
    }

    pub(super) fn failed(&self) -> bool {
        is_error(self.outcome)
    }

    pub(super) fn marked(&self, mark: Marks) -> bool {
        self.marks.0 & mark.0 != 0
    }
}

/// The calls of a question in order of time, stream and index.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) all: Vec<Fact>,
    pub(super) words: Words,
    /// From when to when every node recorded, by the one clock.
    pub(super) recorded: (Nanos, Nanos),
}

impl Facts {
    /// A call's id.
    pub(super) fn id(&self, fact: &Fact) -> String {
        format!("{}/{:x}/{}", self.words.text(fact.node), fact.stream, fact.index)
    }

    /// The calls that all tasks read.
    pub(super) fn merge(tasks: Vec<Reading>, recorded: (Nanos, Nanos)) -> Result<Self, QueryError> {
        let mut merged = Self {
            recorded,
            ..Self::default()
        };
        for task in tasks {
            for mut fact in task.facts.all {
                for word in [
                    &mut fact.node,
                    &mut fact.src,
                    &mut fact.client,
                    &mut fact.dst,
                    &mut fact.endpoint,
                ] {
                    *word = merged.words.number(task.facts.words.text(*word));
                }
                merged.all.push(fact);
            }
            too_many(merged.all.len())?;
        }
        merged
            .all
            .sort_unstable_by_key(|fact| (fact.ts, fact.stream, fact.index));
        Ok(merged)
    }

    /// From when to when, by the one clock: what was asked for, else all of the dissection's calls.
    pub(super) fn span(&self, db: &Database, scope: &Scope) -> (Nanos, Nanos) {
        // Moved to the one clock, calls may be before the first that is stored, and after the last.
        let (mut from, mut to) = scope.span(db);
        if let (None, Some(first)) = (scope.start, self.all.first()) {
            from = from.min(first.ts);
        }
        if let (None, Some(last)) = (scope.end, self.all.last()) {
            to = to.max(last.ts.saturating_add(1));
        }
        (from, to)
    }
}

/// One task's calls.
pub(super) struct Reading {
    db: Database,
    scope: Scope,
    clock: OneClock,
    facts: Facts,
}

impl Reading {
    /// For the calls that are in the scope's window by this clock.
    pub(super) fn new(db: &Database, scope: &Scope, clock: &OneClock) -> Self {
        Self {
            scope: scope.clone(),
            clock: clock.clone(),
            db: db.clone(),
            facts: Facts::default(),
        }
    }
}

impl Fold for Reading {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let endpoints = self.db.learned_endpoints()?;
        let (ts, streams, indexes) = (times(batch, "ts")?, ids(batch, "stream")?, ints(batch, "index")?);
        let [nodes, protocols, methods, paths, queries, outcomes] =
            ["node", "protocol", "method", "path", "query", "outcome"].map(|name| texts(batch, name));
        let (nodes, protocols, methods) = (nodes?, protocols?, methods?);
        let (paths, queries, outcomes) = (paths?, queries?, outcomes?);
        let [src_ip, src_pod, src_service] =
            ["src_ip", "src_pod", "src_service"].map(|name| texts(batch, name));
        let [dst_ip, dst_pod, dst_service] =
            ["dst_ip", "dst_pod", "dst_service"].map(|name| texts(batch, name));
        let (src_ip, src_pod, src_service) = (src_ip?, src_pod?, src_service?);
        let (dst_ip, dst_pod, dst_service) = (dst_ip?, dst_pod?, dst_service?);
        let (statuses, latencies) = (ints(batch, "status")?, ints(batch, "elapsed_ns")?);
        let (bodies, marks) = (ints(batch, "req_body_bytes")?, ints(batch, "marks")?);
        let headers = maps(batch, "req_headers")?;
        let words = &mut self.facts.words;
        for row in 0..batch.num_rows() {
            let ts = self.clock.time(nodes.value(row), ts.get(row).unwrap_or_default());
            if !self.scope.holds(ts) {
                continue;
            }
            let src = [src_service.value(row), src_pod.value(row), src_ip.value(row)];
            let dst = [dst_service.value(row), dst_pod.value(row), dst_ip.value(row)];
            let [_, pod, ip] = src;
            let (method, path) = (methods.value(row), paths.value(row));
            let told = Told::of(headers.row(row));
            let endpoint = endpoint_name(endpoints, protocols.value(row), method, path);
            self.facts.all.push(Fact {
                ts,
                stream: streams.get(row).copied().unwrap_or_default(),
                index: indexes.get(row).unwrap_or_default(),
                node: words.number(nodes.value(row)),
                src: words.number(first_known(&src)),
                client: words.number(first_known(&[pod, ip])),
                dst: words.number(first_known(&dst)),
                endpoint: words.number(&endpoint),
                asked: hash((method, path, queries.value(row), bodies.get(row))),
                status: statuses.get(row),
                outcome: outcome(outcomes.value(row)),
                latency: latencies.count(row),
                request: told.request,
                idempotency: told.idempotency,
                correlation: told.correlation,
                marks: Marks(
                    marks
                        .count(row)
                        .and_then(|marks| u32::try_from(marks).ok())
                        .unwrap_or_default(),
                ),
            });
        }
        too_many(self.facts.all.len())
    }
}

/// The first of these texts that says something.
fn first_known<'a>(texts: &[&'a str]) -> &'a str {
    let mut texts = texts.iter();
    texts.find(|text| !text.is_empty()).copied().unwrap_or_default()
}

/// What the headers of a request tell of other calls.
#[derive(Default)]
struct Told {
    request: Option<u64>,
    idempotency: Option<u64>,
    correlation: Option<u16>,
}

impl Told {
    fn of<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut told = Self::default();
        let mut best = usize::MAX;
        for (name, value) in headers {
            let has = told.correlation.get_or_insert_default();
            if name == IDEMPOTENCY {
                told.idempotency = Some(hash(value));
            } else if let Some(at) = CORRELATION.iter().position(|known| *known == name) {
                *has |= 1 << at;
                if at < best {
                    best = at;
                    told.request = Some(hash(trace(name, value)));
                }
            }
        }
        // Often of each hop alone, where an idempotency key goes through all.
        if CORRELATION.get(best).is_none_or(|name| *name == "x-request-id") {
            told.request = told.idempotency.or(told.request);
        }
        told
    }
}

/// The part of a header that all calls of a request have in common (W3C Trace Context, section 3.2.2; B3; Jaeger).
fn trace<'a>(header: &str, value: &'a str) -> &'a str {
    match header {
        "traceparent" => value.split('-').nth(1).unwrap_or(value),
        "b3" => value.split('-').next().unwrap_or(value),
        "uber-trace-id" => value.split(':').next().unwrap_or(value),
        "x-cloud-trace-context" => value.split('/').next().unwrap_or(value),
        _ => value,
    }
}

/// Of 64 bits: two of a million different texts come out the same once in 36 million such questions.
fn hash(of: impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    of.hash(&mut hasher);
    hasher.finish()
}

fn too_many(calls: usize) -> Result<(), QueryError> {
    if calls > MAX_CALLS {
        return Err(QueryError::BadRequest(format!(
            "a timeline takes in {MAX_CALLS} calls at most, and these are more; narrow them by kfl, start and end"
        )));
    }
    Ok(())
}
