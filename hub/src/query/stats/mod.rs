//! Counts, rates, errors, latencies and bytes of calls, by groups and over time.

mod measures;

mod tally;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use wiretape_tape::Nanos;

use super::entries::Asked;
use super::entry::ms;
use super::group::GroupKey;
use super::scan;
use super::scope::{Scope, shown_span};
use super::{Database, QueryError, latency};
pub(super) use measures::{Measures, Told, is_error, outcome, rate, share};
use tally::{ByGroup, ByTime, Group, Key};

/// Most groups that the calls of one question may make.
pub const MAX_GROUPS: usize = 10_000;

/// Most groups in one answer.
pub const MAX_SHOWN: i64 = 1000;

/// Groups in an answer when nobody says how many.
pub const DEFAULT_SHOWN: i64 = 50;

/// Most buckets of time.
pub const MAX_BUCKETS: u64 = 1000;

/// Most cells (groups by buckets) of one question: about 10 MB.
pub const MAX_CELLS: usize = 50_000;

/// Buckets that are made, at most, when nobody says how long they are.
const AUTO_BUCKETS: u64 = 60;

/// Lengths that read well, in seconds.
const ROUND_SECONDS: [u64; 16] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400,
];

const SECOND: Nanos = 1_000_000_000;

/// Shortest bucket, in ns: a millisecond, as answers count time.
pub const SHORTEST_BUCKET: Nanos = 1_000_000;

/// Length of buckets of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// A round length that makes some tens of buckets.
    Auto,
    /// So many ns.
    Length(Nanos),
}

/// What groups are ordered by, most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsOrder {
    /// Number of calls.
    #[default]
    Count,
    /// Number of failed calls.
    Errors,
    /// Their share.
    ErrorRate,
    /// Median latency.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
    /// Longest latency.
    Max,
    /// Mean latency.
    Avg,
    /// Requests and responses on the wire.
    Bytes,
}

/// Every order by its name.
pub const ORDERS: [(&str, StatsOrder); 10] = [
    ("count", StatsOrder::Count),
    ("errors", StatsOrder::Errors),
    ("error_rate", StatsOrder::ErrorRate),
    ("p50", StatsOrder::P50),
    ("p90", StatsOrder::P90),
    ("p95", StatsOrder::P95),
    ("p99", StatsOrder::P99),
    ("max", StatsOrder::Max),
    ("avg", StatsOrder::Avg),
    ("bytes", StatsOrder::Bytes),
];

/// A question for numbers.
#[derive(Clone, Debug, Default)]
pub struct StatsQuery {
    /// The calls that are counted.
    pub scope: Scope,
    /// Keys of the groups; none makes no groups.
    pub group_by: Vec<GroupKey>,
    /// Which groups come first.
    pub order: StatsOrder,
    /// Most groups in the answer, 1 to [`MAX_SHOWN`]; [`DEFAULT_SHOWN`] when not given.
    pub limit: Option<i64>,
    /// Makes series, too.
    pub bucket: Option<Bucket>,
    /// Most bytes of the groups in the answer; the others are left out.
    pub max_bytes: usize,
}

/// Buckets of time, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    pub(super) from: Nanos,
    pub(super) length: Nanos,
    pub(super) count: usize,
}

/// Counts.
///
/// # Errors
/// [`QueryError::BadRequest`] for a scope that is none or asks for connections, a limit or bucket out of range, or too
/// many groups.
pub async fn stats(db: &Database, query: &StatsQuery) -> Result<Value, QueryError> {
    let limit = limit(query.limit)?;
    let scoped = query.scope.read(db).await?.without_redactions()?.of_calls()?;
    let span = query.scope.span(db);
    let buckets = query
        .bucket
        .map(|bucket| Buckets::over(span, bucket))
        .transpose()?;
    if query.group_by.iter().any(|key| key.is_endpoint()) {
        db.endpoints().await?;
    }

    let mut columns = measures::COLUMNS.to_vec();
    for column in query.group_by.iter().flat_map(|key| key.columns()) {
        if !columns.contains(column) {
            columns.push(column);
        }
    }
    let tasks = scan::fold(
        db,
        scoped.condition(),
        &columns,
        ByGroup::new(db, &query.group_by),
    )
    .await?;
    let (groups, exact) = ByGroup::merge(tasks)?;
    let mut total = Measures::default();
    for group in groups.values() {
        total.merge(group.measures.clone());
    }

    let seconds = span.1.saturating_sub(span.0) as f64 / 1e9;
    let mut answer = Map::new();
    let mut put = |key: &str, value: Value| answer.insert(key.to_owned(), value);
    put("window", shown_span(span));
    put("total", Value::Object(total.shown(seconds)));
    put("percentiles", latency::method(exact));
    let total_groups = groups.len();
    let shown = ordered(groups, query.order, limit);
    let mut series = match buckets {
        None => Vec::new(),
        Some(buckets) => {
            put("buckets", buckets.shown());
            series(db, query, scoped.condition(), columns, &shown, buckets).await?
        }
    }
    .into_iter();
    if let Some(mut all) = series.next() {
        put("series", shown_series(&mut all));
    }
    if !query.group_by.is_empty() {
        put("group_by", query.group_by.iter().map(|key| key.name()).collect());
        let told = shown_groups(query, shown, series, seconds);
        let truncated = told.len() < total_groups;
        if let Some(at) = query.group_by.iter().position(|key| key.is_endpoint()) {
            let endpoints = told.iter().filter_map(|(key, _)| key.get(at)).map(AsRef::as_ref);
            put("placeholders", db.endpoints().await?.legend(endpoints));
        }
        put("total_groups", json!(total_groups));
        put("truncated", json!(truncated));
        put(
            "groups",
            told.into_iter().map(|(_, group)| Value::Object(group)).collect(),
        );
    }
    if total.count == 0 {
        put(
            "explanation",
            json!(scoped.nothing(db, &query.scope, Asked::default(), 0).await?),
        );
    }
    let warnings = scoped.warnings();
    if !warnings.is_empty() {
        put("warnings", json!(warnings));
    }
    Ok(Value::Object(answer))
}

/// The first groups in the order that is asked for; of equals, that whose key comes first.
fn ordered(groups: BTreeMap<Key, Group>, order: StatsOrder, limit: usize) -> Vec<(Key, Group)> {
    let mut keyed: Vec<_> = groups
        .into_iter()
        .map(|(key, mut group)| (rank(&mut group.measures, order), key, group))
        .collect();
    keyed.sort_by(|(a, ..), (b, ..)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
    keyed.truncate(limit);
    keyed.into_iter().map(|(_, key, group)| (key, group)).collect()
}

/// What a group is ordered by; less than nothing where its latency is not known.
fn rank(measures: &mut Measures, order: StatsOrder) -> f64 {
    let latency =
        |measures: &mut Measures, of: fn(Told) -> u64| measures.told().map_or(-1.0, |told| of(told) as f64);
    match order {
        StatsOrder::Count => measures.count as f64,
        StatsOrder::Errors => measures.errors() as f64,
        StatsOrder::ErrorRate => share(measures.errors(), measures.count),
        StatsOrder::P50 => latency(measures, |told| told.p50),
        StatsOrder::P90 => latency(measures, |told| told.p90),
        StatsOrder::P95 => latency(measures, |told| told.p95),
        StatsOrder::P99 => latency(measures, |told| told.p99),
        StatsOrder::Max => latency(measures, |told| told.max),
        StatsOrder::Avg => latency(measures, |told| told.avg),
        StatsOrder::Bytes => measures.bytes() as f64,
    }
}

async fn series(
    db: &Database,
    query: &StatsQuery,
    condition: Option<datafusion::logical_expr::Expr>,
    mut columns: Vec<&'static str>,
    shown: &[(Key, Group)],
    buckets: Buckets,
) -> Result<Vec<Vec<Measures>>, QueryError> {
    // Without groups there is one, that of all calls, whose series is there anyhow.
    let groups = if query.group_by.is_empty() { 0 } else { shown.len() };
    if (groups + 1) * buckets.count > MAX_CELLS {
        return Err(QueryError::BadRequest(format!(
            "{groups} groups over {} buckets are more than {MAX_CELLS} cells; ask for fewer groups (limit) or \
             longer buckets",
            buckets.count
        )));
    }
    columns.push("ts");
    let keys = shown.iter().take(groups).map(|(key, _)| key.clone());
    let asked: HashMap<Key, usize> = keys.enumerate().map(|(at, key)| (key, at)).collect();
    let tally = ByTime::new(db, &query.group_by, asked, buckets);
    let tasks = scan::fold(db, condition, &columns, tally).await?;
    Ok(ByTime::merge(tasks, buckets))
}

/// As many groups as there is room for.
fn shown_groups(
    query: &StatsQuery,
    groups: Vec<(Key, Group)>,
    mut series: impl Iterator<Item = Vec<Measures>>,
    seconds: f64,
) -> Vec<(Key, Map<String, Value>)> {
    let mut room = query.max_bytes;
    let mut told = Vec::new();
    for (key, mut group) in groups {
        let mut shown = Map::new();
        for (by, value) in query.group_by.iter().zip(&key) {
            shown.insert(by.name().to_owned(), by.shown(value));
            if by.is_endpoint() {
                shown.insert("examples".to_owned(), group.examples.shown());
            }
        }
        shown.extend(group.measures.shown(seconds));
        if let Some(mut series) = series.next() {
            shown.insert("series".to_owned(), shown_series(&mut series));
        }
        // What it takes on the wire, with its comma.
        let bytes = serde_json::to_string(&shown).map_or(usize::MAX, |text| text.len() + 1);
        let Some(left) = room.checked_sub(bytes) else {
            break;
        };
        room = left;
        told.push((key, shown));
    }
    told
}

/// A series as lists of the same length, one number for each bucket.
pub(super) fn shown_series(series: &mut [Measures]) -> Value {
    let told: Vec<Option<Told>> = series.iter_mut().map(Measures::told).collect();
    let latency = |of: fn(&Told) -> u64| -> Value {
        let shown = told.iter().map(|told| told.as_ref().map(|told| ms(of(told))));
        shown.map(|shown| json!(shown)).collect()
    };
    json!({
        "count": series.iter().map(|cell| cell.count).collect::<Vec<_>>(),
        "errors": series.iter().map(Measures::errors).collect::<Vec<_>>(),
        "p50_ms": latency(|told| told.p50),
        "p99_ms": latency(|told| told.p99),
    })
}

impl Buckets {
    /// Buckets that cover a span, from a multiple of their length on.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] when they are too short, or would be more than [`MAX_BUCKETS`].
    pub(super) fn over((from, to): (Nanos, Nanos), bucket: Bucket) -> Result<Self, QueryError> {
        let length = match bucket {
            Bucket::Length(length) => length,
            Bucket::Auto => auto_length(to.saturating_sub(from)),
        };
        if length < SHORTEST_BUCKET {
            return Err(QueryError::BadRequest("a bucket is at least 1ms long".to_owned()));
        }
        let from = from - from % length;
        let count = to.saturating_sub(from).div_ceil(length);
        if count > MAX_BUCKETS {
            return Err(QueryError::BadRequest(format!(
                "buckets of {} make {count} over this window, more than {MAX_BUCKETS}; ask for longer ones",
                crate::snapshots::window::show_duration(length)
            )));
        }
        Ok(Self {
            from,
            length,
            count: usize::try_from(count).unwrap_or_default(),
        })
    }

    /// The bucket of a time.
    pub(super) fn of(&self, ts: Nanos) -> Option<usize> {
        let at = ts.checked_sub(self.from)? / self.length.max(1);
        usize::try_from(at).ok().filter(|at| *at < self.count)
    }

    /// When a bucket begins.
    pub(super) fn start(&self, bucket: usize) -> Nanos {
        self.from
            .saturating_add(self.length.saturating_mul(bucket as u64))
    }

    pub(super) fn shown(&self) -> Value {
        json!({
            "start_ts": self.from / 1_000_000,
            "bucket_ms": self.length / 1_000_000,
            "count": self.count,
        })
    }
}

/// The shortest round length of which some tens cover a span.
fn auto_length(span: Nanos) -> Nanos {
    // Captures of less than a minute have buckets of milliseconds.
    let fine = [1, 2, 5, 10, 20, 50, 100, 200, 500].map(|ms| ms * SHORTEST_BUCKET);
    let round = ROUND_SECONDS.map(|seconds| seconds * SECOND);
    let mut lengths = fine.into_iter().chain(round);
    let days = || span.div_ceil(AUTO_BUCKETS).div_ceil(86_400 * SECOND).max(1) * 86_400 * SECOND;
    lengths
        .find(|length| span.div_ceil(*length) <= AUTO_BUCKETS)
        .unwrap_or_else(days)
}

fn limit(limit: Option<i64>) -> Result<usize, QueryError> {
    let limit = limit.unwrap_or(DEFAULT_SHOWN);
    usize::try_from(limit)
        .ok()
        .filter(|_| (1..=MAX_SHOWN).contains(&limit))
        .ok_or_else(|| {
            QueryError::BadRequest(format!("limit is {limit}; it must be 1 to {MAX_SHOWN} groups"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_window_and_are_round() {
        let hour = (1_700_000_000 * SECOND, 1_700_003_600 * SECOND);
        let buckets = Buckets::over(hour, Bucket::Auto).unwrap();
        assert_eq!(buckets.length, 60 * SECOND);
        assert_eq!(buckets.from % (60 * SECOND), 0);
        assert!(buckets.from <= hour.0 && buckets.start(buckets.count) >= hour.1);
        for span in [0, 1, 999_999, 61 * SECOND, 90 * 86_400 * SECOND] {
            let buckets = Buckets::over((0, span), Bucket::Auto).unwrap();
            assert!(buckets.count as u64 <= AUTO_BUCKETS && buckets.start(buckets.count) >= span);
        }
        assert!(Buckets::over(hour, Bucket::Length(SECOND)).is_err());
        assert!(Buckets::over(hour, Bucket::Length(SHORTEST_BUCKET - 1)).is_err());
        assert_eq!(
            Buckets::over(hour, Bucket::Length(4 * SECOND)).unwrap().count,
            900
        );
    }
}
