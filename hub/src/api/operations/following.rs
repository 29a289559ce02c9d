//! Live calls as they end, each once (contract 1.14).
//!
//! A round dissects the last minutes afresh, so a call stands in many rounds. It is told in the first in which it is
//! settled: it has ended so long ago that every node's tape has all of it, or it has waited long enough for a response.

use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use rustc_hash::FxHasher;
use serde_json::Value;
use tokio::sync::watch;

use super::millis;
use crate::api::{ApiError, App};
use crate::live::{Round, State};
use crate::query::{self, CallsQuery, Format, Order};

/// How long a call's response is waited for. One that has none by then is told without.
const WAIT_MS: i64 = 10_000;
/// What one node has recorded and another has not flushed yet is no older than this.
const SETTLE_MS: i64 = 2_000;
/// Calls that are read at a time.
const PAGE: i64 = 100;
/// Most calls of ten seconds that one reader is told; each is remembered so long, in some 40 bytes.
const MOST: usize = 1 << 17;

/// The calls that one reader is told.
pub(in crate::api) struct Following {
    app: App,
    kfl: String,
    format: Format,
    rounds: watch::Receiver<State>,
    /// All that began before this has been told, in ms; `None` before the first round.
    until: Option<i64>,
    told: Told,
}

/// What has been told of what a later round may show again.
struct Told {
    /// By its looks: when it began, and how many look like it.
    kinds: HashMap<u64, (i64, u32)>,
    most: usize,
}

impl Told {
    fn new(most: usize) -> Self {
        Self {
            kinds: HashMap::new(),
            most,
        }
    }

    /// Notes a call, so many of whose looks the round has shown. Whether it is told now: it was not before.
    fn note(&mut self, looks: u64, began: i64, shown: u32) -> bool {
        let (_, told) = self.kinds.entry(looks).or_insert((began, 0));
        let is_new = *told < shown;
        *told = (*told).max(shown);
        is_new
    }

    /// Forgets what began before this.
    fn forget_before(&mut self, until: i64) {
        self.kinds.retain(|_, (began, _)| *began >= until);
    }

    /// An error when there is more than can be remembered: then a call might be told twice.
    fn has_room(&self) -> Result<(), ApiError> {
        if self.kinds.len() > self.most {
            return Err(ApiError::too_many(format!(
                "more than {} calls within ten seconds pass this filter; narrow it",
                self.most
            )));
        }
        Ok(())
    }
}

/// A round's calls that have not been told yet, page by page.
pub(in crate::api) struct Telling<'f> {
    following: &'f mut Following,
    round: Arc<Round>,
    question: Option<CallsQuery>,
    /// The round's end, in ms.
    end: i64,
    /// How many of each kind the round has shown so far.
    shown: HashMap<u64, u32>,
}

impl Following {
    /// The filter is read with the first round.
    pub(in crate::api) fn new(app: &App, kfl: String, format: Format) -> Self {
        Self {
            app: app.clone(),
            kfl,
            format,
            rounds: app.hub.live.changes(),
            until: None,
            told: Told::new(MOST),
        }
    }

    /// Waits for a round that has not been told yet.
    ///
    /// # Errors
    /// Live dissection is off or comes to nothing, or so much has come since the last round that calls were missed.
    pub(in crate::api) async fn next_round(&mut self) -> Result<Telling<'_>, ApiError> {
        let (round, end) = loop {
            self.rounds.mark_unchanged();
            let round = self.app.hub.live.latest().await?;
            let end = as_signed(millis(round.window.1));
            if self.until.is_none_or(|until| until < end - WAIT_MS) {
                break (round, end);
            }
            self.rounds.changed().await.map_err(ApiError::internal)?;
        };
        if self
            .until
            .is_some_and(|until| until < as_signed(millis(round.window.0)))
        {
            return Err(ApiError::too_many(
                "calls were missed: they come faster than they are read; narrow the filter, or read faster",
            ));
        }
        let question = CallsQuery {
            kfl: Some(self.kfl.clone()),
            limit: Some(PAGE),
            format: self.format,
            start: self.until,
            order: Order::Time,
            now: crate::now(),
            ..CallsQuery::default()
        };
        Ok(Telling {
            following: self,
            round,
            question: Some(question),
            end,
            shown: HashMap::new(),
        })
    }
}

impl Telling<'_> {
    /// Some more calls to be told, which may be none; `None` at the round's end.
    ///
    /// # Errors
    /// The filter is none, or it lets through more than can be told.
    pub(in crate::api) async fn next_page(&mut self) -> Result<Option<Vec<Value>>, ApiError> {
        let Some(question) = self.question.take() else {
            let until = self.end - WAIT_MS;
            self.following.until = Some(until);
            self.following.told.forget_before(until);
            return Ok(None);
        };
        let page = query::calls(&self.round.database, &question).await?;
        self.question = page.cursor.map(|cursor| CallsQuery {
            cursor: Some(cursor),
            ..question
        });
        let calls: Vec<Value> = page.calls.into_iter().filter(|call| self.is_new(call)).collect();
        self.following.told.has_room()?;
        Ok(Some(calls))
    }

    /// Whether a call is settled, and was not told in a round before. Its id does not tell: it counts the calls of the
    /// connection that are in the round. So those that look the same are counted.
    fn is_new(&mut self, call: &Value) -> bool {
        let began = call["ts"].as_i64().unwrap_or_default();
        let took = call["latency_ms"].as_f64();
        let ended = |took: f64| began as f64 + took <= (self.end - SETTLE_MS) as f64;
        if began > self.end - WAIT_MS && !took.is_some_and(ended) {
            return false;
        }
        let looks = looks(call);
        let shown = self.shown.entry(looks).or_default();
        *shown += 1;
        self.following.told.note(looks, began, *shown)
    }
}

/// What a call looks like: the same in every round.
fn looks(call: &Value) -> u64 {
    let mut hasher = FxHasher::default();
    for member in [
        "/ts",
        "/src/ip",
        "/src/port",
        "/dst/ip",
        "/dst/port",
        "/proto",
        "/method",
        "/path",
    ] {
        if let Some(value) = call.pointer(member) {
            value.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn as_signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_round_adds_to_a_call_does_not_change_its_looks() {
        let call = json!({ "id": "n/1/0", "ts": 5, "src": { "ip": "10.0.0.1", "port": 1 }, "method": "GET" });
        let mut later = call.clone();
        later["id"] = json!("n/1/7");
        later["latency_ms"] = json!(3.5);
        assert_eq!(looks(&call), looks(&later));
        later["src"]["port"] = json!(2);
        assert_ne!(looks(&call), looks(&later));
    }

    #[test]
    fn so_many_calls_are_remembered_and_no_more() {
        const MOST: u64 = 100;
        let mut told = Told::new(100);
        for call in 0..MOST {
            assert!(told.note(call, 0, 1));
        }
        assert!(told.has_room().is_ok());
        // What is known takes no room, and is told once; a second one that looks the same is another.
        assert!(!told.note(7, 0, 1));
        assert!(told.note(7, 0, 2));
        assert!(told.has_room().is_ok());
        assert!(told.note(MOST, 5, 1));
        let error = told.has_room().expect_err("one too many");
        assert!(error.is_too_many() && error.message().contains("more than 100 calls"));
        // There is room again for what comes later.
        told.forget_before(5);
        assert!(told.has_room().is_ok());
        assert!(!told.note(MOST, 5, 1));
    }
}
