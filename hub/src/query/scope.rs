//! Which calls a question is about: those that pass a filter and began in a window.

use std::sync::atomic::Ordering;

use datafusion::logical_expr::{Expr, Operator, col};
use datafusion::prelude::DataFrame;
use serde_json::{Value, json};
use wiretape_kfl::{EVALUATION_STEPS, Filter};
use wiretape_tape::Nanos;

use super::entries::Asked;
use super::fields::instant;
use super::filter::{self, GaveUp, joined};
use super::row::rfc3339;
use super::{Database, Order, QueryError, calls, cursor, explain};

/// The calls that a question is about. `Default` is all of them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The filter; none and the empty one let everything through.
    pub kfl: Option<String>,
    /// Calls that began at this time or later, in ms since 1970 UTC.
    pub start: Option<i64>,
    /// Calls that began before this time, in ms since 1970 UTC.
    pub end: Option<i64>,
    /// What `now()` means in the filter.
    pub now: Nanos,
}

/// A scope, read and checked.
pub(super) struct Scoped {
    /// The filter as it was understood.
    pub(super) filter: Filter,
    /// The conditions of the window alone.
    window: Vec<Expr>,
    /// The conditions of window and filter.
    matching: Vec<Expr>,
    /// What recorders said of what they recorded.
    recorded: Vec<String>,
    /// What the filter was not asked of.
    warnings: Vec<String>,
    gave_up: GaveUp,
}

/// What recorders said of what they recorded that an answer has room for.
const MAX_SAID: usize = 8;

/// That not everything was recorded: calls may be missing, or lack their bodies, by choice.
fn not_recorded(db: &Database) -> impl Iterator<Item = String> {
    let recorded = &db.summary().recorded;
    let said = recorded.iter().take(MAX_SAID).map(|said| {
        let node = if said.node.is_empty() {
            "a node"
        } else {
            &said.node
        };
        format!("{node} said at {}: {}", rfc3339(said.since), said.said)
    });
    let more = recorded.len().checked_sub(MAX_SAID + 1).map(|more| {
        format!(
            "recorders said {} things more of what they recorded: ask for events of kind recorder",
            more + 1
        )
    });
    said.chain(more)
}

impl Scope {
    /// Checks it and turns it into conditions on the table. If the filter asks about bodies, they are read for that.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] for a filter that is none, or a window that ends before it starts.
    pub(super) async fn read(&self, db: &Database) -> Result<Scoped, QueryError> {
        let filter = self.compile()?;
        let window = self.window()?;
        let condition = filter::read(db, &filter, &window).await?;
        let matching = window.clone().into_iter().chain(condition.expr).collect();
        Ok(Scoped {
            filter,
            window,
            matching,
            recorded: not_recorded(db).collect(),
            warnings: condition.warnings,
            gave_up: condition.gave_up,
        })
    }

    /// Most entries that the filter's own `limit(n)` leaves.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] for a filter that is none.
    pub fn most(&self) -> Result<Option<u64>, QueryError> {
        Ok(self.compile()?.limit)
    }

    fn compile(&self) -> Result<Filter, QueryError> {
        wiretape_kfl::compile(self.kfl.as_deref().unwrap_or_default(), self.now)
            .map_err(|error| QueryError::BadRequest(format!("the filter is wrong at {error}")))
    }

    fn window(&self) -> Result<Vec<Expr>, QueryError> {
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start >= end
        {
            return Err(QueryError::BadRequest(format!(
                "start ({start}) must be before end ({end}); both are ms since 1970 UTC"
            )));
        }
        let start = self.start.map(|start| col("ts").gt_eq(instant(nanos(start))));
        let end = self.end.map(|end| col("ts").lt(instant(nanos(end))));
        Ok(start.into_iter().chain(end).collect())
    }

    /// The same, with a window that is longer by so many ns, rounded up to ms, at each end that was asked for.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] for a window that ends before it starts.
    pub(super) fn widened(&self, by: Nanos) -> Result<Self, QueryError> {
        self.window()?;
        let by = i64::try_from(by.div_ceil(1_000_000)).unwrap_or(i64::MAX);
        Ok(Self {
            start: self.start.map(|start| start.saturating_sub(by)),
            end: self.end.map(|end| end.saturating_add(by)),
            ..self.clone()
        })
    }

    /// Whether a time is in the window that was asked for.
    pub(super) fn holds(&self, at: Nanos) -> bool {
        self.start.is_none_or(|start| at >= nanos(start)) && self.end.is_none_or(|end| at < nanos(end))
    }

    /// From when to when, in ns: what was asked for, else from the first call of the dissection to its last.
    pub(super) fn span(&self, db: &Database) -> (Nanos, Nanos) {
        let summary = db.summary();
        let from = self.start.map_or(summary.first_call.unwrap_or_default(), nanos);
        // A window excludes its end, and the last call is in it.
        let last = summary.last_call.map_or(0, |last| last.saturating_add(1));
        let to = self.end.map_or(last, nanos);
        (from, to.max(from))
    }
}

impl Scope {
    /// The time in which events have to do with these calls: what was asked for, else the whole window of the snapshot,
    /// since causes come before calls and their consequences after them.
    pub(super) fn around(&self, db: &Database) -> (Nanos, Nanos) {
        let window = db.summary().window.unwrap_or_else(|| self.span(db));
        (
            self.start.map_or(window.0, nanos),
            self.end.map_or(window.1, nanos),
        )
    }
}

impl Scoped {
    /// For an answer that shows no entries, and so cannot hide anything of them.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] if the filter wants something hidden.
    pub(super) fn without_redactions(self) -> Result<Self, QueryError> {
        if let Some(redaction) = self.filter.redactions.first() {
            return Err(QueryError::BadRequest(format!(
                "redact(..) hides fields of calls in a list of calls; this answer is computed from all of them. Leave out \
                 `redact({redaction})`"
            )));
        }
        Ok(self)
    }

    /// For an answer that counts calls alone.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] if the filter asks for other entries.
    pub(super) fn of_calls(self) -> Result<Self, QueryError> {
        if Asked::by(&self.filter).is_calls() {
            return Ok(self);
        }
        Err(QueryError::BadRequest(
            "the filter speaks of connections or flows, and this answer counts calls alone; ask for calls, list \
             connections and flows as calls are listed, or ask for flows"
                .to_owned(),
        ))
    }

    /// What an answer has to say about what was recorded, and how the filter was run; to be asked after it ran.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.recorded.clone();
        warnings.extend(self.not_asked());
        warnings
    }

    /// Of what the filter was not asked, so that more may match; to be asked after it ran.
    pub(super) fn not_asked(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if self.gave_up.load(Ordering::Relaxed) {
            warnings.push(format!(
                "the filter takes more than {EVALUATION_STEPS} steps for some entries; they count as not matching"
            ));
        }
        warnings
    }

    /// Those that the filter's own `limit(n)` leaves of entries that match: the oldest.
    pub(super) fn limited(&self, matching: DataFrame) -> Result<DataFrame, QueryError> {
        let Some(most) = self.filter.limit else {
            return Ok(matching);
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(matching.sort(cursor::order(Order::Time))?.limit(0, Some(most))?)
    }

    /// The condition of the calls that the question is about; `None` when it is about all.
    pub(super) fn condition(&self) -> Option<Expr> {
        all_of(self.matching.clone())
    }

    /// The same, with another condition.
    pub(super) fn and(&self, more: Option<Expr>) -> Option<Expr> {
        all_of(self.matching.iter().cloned().chain(more).collect())
    }

    /// Why nothing that was asked for is in an answer, of which `total` match on all pages.
    pub(super) async fn nothing(
        &self,
        db: &Database,
        scope: &Scope,
        asked: Asked,
        total: u64,
    ) -> Result<String, QueryError> {
        let in_window = if total == 0 {
            calls::count(db, asked, all_of(self.window.clone())).await?
        } else {
            total
        };
        let nothing = explain::nothing(
            db.summary(),
            scope,
            &self.filter,
            total,
            (in_window, if asked.is_calls() { "calls" } else { "entries" }),
        );
        Ok(match db.age() {
            Some(_) => explain::so_far(db.summary(), &nothing),
            None => nothing,
        })
    }
}

/// How an answer tells the time that it covers.
pub(super) fn shown_span((from, to): (Nanos, Nanos)) -> Value {
    json!({
        "start_ts": from / 1_000_000,
        "end_ts": to.div_ceil(1_000_000),
        "seconds": to.saturating_sub(from) as f64 / 1e9,
    })
}

fn nanos(ms: i64) -> Nanos {
    u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000)
}

fn all_of(conditions: Vec<Expr>) -> Option<Expr> {
    (!conditions.is_empty()).then(|| joined(conditions, Operator::And))
}
