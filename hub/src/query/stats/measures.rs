//! What is counted about a group of calls.

use datafusion::arrow::record_batch::RecordBatch;
use serde_json::{Map, Value, json};
use wiretape_dissect::Outcome;

use crate::query::QueryError;
use crate::query::entry::ms;
use crate::query::latency::Latencies;
use crate::query::scan::{Counts, counts, texts};

/// Columns that are counted.
pub(in crate::query) const COLUMNS: [&str; 4] = ["outcome", "elapsed_ns", "req_bytes", "resp_bytes"];

/// Every outcome, in the order of [`Measures::outcomes`].
const OUTCOMES: [Outcome; 6] = [
    Outcome::Ok,
    Outcome::ClientError,
    Outcome::ServerError,
    Outcome::Timeout,
    Outcome::NoResponse,
    Outcome::Unknown,
];

/// Whether a call failed for its caller.
pub(in crate::query) fn is_error(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Ok | Outcome::Unknown)
}

/// An outcome by its name in the table.
pub(in crate::query) fn outcome(name: &str) -> Outcome {
    let known = OUTCOMES.into_iter().find(|outcome| outcome.as_str() == name);
    known.unwrap_or_default()
}

/// Where an outcome is among all.
fn place(outcome: Outcome) -> u8 {
    let place = (0_u8..).zip(OUTCOMES).find(|(_, known)| *known == outcome);
    place.map_or(u8::MAX, |(place, _)| place)
}

/// What is counted about some calls.
#[derive(Clone, Debug, Default)]
pub(in crate::query) struct Measures {
    /// How many there are.
    pub(in crate::query) count: u64,
    outcomes: [u64; OUTCOMES.len()],
    latencies: Latencies,
    latency_sum: u128,
    latency_max: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// Latencies that answers show, in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::query) struct Told {
    pub(in crate::query) p50: u64,
    pub(in crate::query) p90: u64,
    pub(in crate::query) p95: u64,
    pub(in crate::query) p99: u64,
    pub(in crate::query) max: u64,
    pub(in crate::query) avg: u64,
}

impl Measures {
    /// Counts a call.
    pub(in crate::query) fn add(
        &mut self,
        outcome: Outcome,
        latency: Option<u64>,
        bytes_in: u64,
        bytes_out: u64,
    ) {
        self.add_at(place(outcome), latency, bytes_in, bytes_out);
    }

    /// The same, of the outcome at this place among all.
    #[inline]
    fn add_at(&mut self, outcome: u8, latency: Option<u64>, bytes_in: u64, bytes_out: u64) {
        self.count += 1;
        if let Some(count) = self.outcomes.get_mut(usize::from(outcome)) {
            *count += 1;
        }
        if let Some(latency) = latency {
            self.latencies.add(latency);
            self.latency_sum += u128::from(latency);
            self.latency_max = self.latency_max.max(latency);
        }
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
    }

    /// Takes in what was counted about others.
    pub(in crate::query) fn merge(&mut self, other: Self) {
        self.count += other.count;
        for (count, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *count += more;
        }
        self.latencies.merge(other.latencies);
        self.latency_sum += other.latency_sum;
        self.latency_max = self.latency_max.max(other.latency_max);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }

    /// Goes over to a histogram of latencies.
    pub(super) fn coarsen(&mut self) {
        self.latencies.coarsen();
    }

    /// How many latencies there are.
    pub(super) fn latencies(&self) -> u64 {
        self.latencies.len()
    }

    /// Calls that failed.
    pub(in crate::query) fn errors(&self) -> u64 {
        let counted = OUTCOMES.iter().zip(self.outcomes);
        counted
            .filter(|(outcome, _)| is_error(**outcome))
            .map(|(_, count)| count)
            .sum()
    }

    /// Requests and responses on the wire.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_in + self.bytes_out
    }

    /// `None` when no latency is known.
    pub(in crate::query) fn told(&mut self) -> Option<Told> {
        let [p50, p90, p95, p99] = self.latencies.percentiles([50, 90, 95, 99])?;
        let avg = self.latency_sum / u128::from(self.latencies.len().max(1));
        // A cell's middle may lie above all that is in it.
        let most = self.latency_max;
        Some(Told {
            p50: p50.min(most),
            p90: p90.min(most),
            p95: p95.min(most),
            p99: p99.min(most),
            max: most,
            avg: u64::try_from(avg).unwrap_or(u64::MAX),
        })
    }

    /// As answers show it; `seconds` is what rates refer to.
    pub(super) fn shown(&mut self, seconds: f64) -> Map<String, Value> {
        let mut shown = Map::new();
        let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
        put("count", json!(self.count));
        put("rate", json!(rate(self.count, seconds)));
        put("errors", json!(self.errors()));
        put("error_rate", json!(share(self.errors(), self.count)));
        let counted = OUTCOMES.iter().zip(self.outcomes).filter(|(_, count)| *count > 0);
        let outcomes: Map<String, Value> = counted
            .map(|(outcome, count)| (outcome.as_str().to_owned(), json!(count)))
            .collect();
        put("outcomes", Value::Object(outcomes));
        if let Some(told) = self.told() {
            put("latency_ms", told.shown());
        }
        put("bytes_in", json!(self.bytes_in));
        put("bytes_out", json!(self.bytes_out));
        shown
    }
}

impl Told {
    fn shown(self) -> Value {
        json!({
            "p50": ms(self.p50),
            "p90": ms(self.p90),
            "p95": ms(self.p95),
            "p99": ms(self.p99),
            "max": ms(self.max),
            "avg": ms(self.avg),
        })
    }
}

/// A part of a whole, to six places.
pub(in crate::query) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1e6).round() / 1e6
}

/// How many in a second, to three places. `None` where there is no time to speak of.
pub(in crate::query) fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| (count as f64 / seconds * 1e3).round() / 1e3)
}

/// The counted columns of a batch.
pub(super) struct Counted<'b> {
    /// By their places among all.
    outcomes: Vec<u8>,
    latencies: Counts<'b>,
    requests: Counts<'b>,
    responses: Counts<'b>,
}

impl<'b> Counted<'b> {
    pub(super) fn of(batch: &'b RecordBatch) -> Result<Self, QueryError> {
        let mut outcomes = Vec::new();
        texts(batch, "outcome")?.map(batch.num_rows(), |word| place(outcome(word)), &mut outcomes);
        Ok(Self {
            outcomes,
            latencies: counts(batch, "elapsed_ns")?,
            requests: counts(batch, "req_bytes")?,
            responses: counts(batch, "resp_bytes")?,
        })
    }

    /// Of how many calls the latency is known.
    pub(super) fn latencies(&self) -> usize {
        self.latencies.known()
    }

    /// Counts the call of a row.
    #[inline]
    pub(super) fn add(&self, row: usize, to: &mut Measures) {
        to.add_at(
            self.outcomes.get(row).copied().unwrap_or(u8::MAX),
            self.latencies.get(row),
            self.requests.get(row).unwrap_or_default(),
            self.responses.get(row).unwrap_or_default(),
        );
    }
}
