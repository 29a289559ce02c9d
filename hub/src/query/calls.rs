//! Calls by filter, page by page.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use wiretape_tape::Nanos;

use super::{Database, QueryError};

/// How much of each call an answer holds (contract, section 1.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What fits on a line.
    #[default]
    Compact,
    /// With headers, previews of bodies, and what we know beyond the contract.
    Full,
    /// Every column.
    Raw,
}

/// Which calls come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The oldest.
    #[default]
    Time,
    /// The slowest.
    Latency,
    /// The largest (request and response together).
    Size,
}

/// A question for calls. `Default` asks for the first 100 of all.
#[derive(Clone, Debug, Default)]
pub struct CallsQuery {
    /// The filter; none and the empty one let everything through.
    pub kfl: Option<String>,
    /// Most calls in the answer, 1 to 1000; 100 when not given.
    pub limit: Option<i64>,
    /// How much of each.
    pub format: Format,
    /// Calls that began at this time or later, in ms since 1970 UTC.
    pub start: Option<i64>,
    /// Calls that began before this time, in ms since 1970 UTC.
    pub end: Option<i64>,
    /// Where the last page ended ([`CallsPage::cursor`]).
    pub cursor: Option<String>,
    /// Which come first.
    pub order: Order,
    /// What `now()` means in the filter.
    pub now: Nanos,
}

/// A page of calls.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CallsPage {
    /// The calls, in the order that was asked for.
    pub calls: Vec<Value>,
    /// How many calls match in all, on this and all other pages.
    pub total: u64,
    /// Whether there are more after this page.
    pub truncated: bool,
    /// Ask again with this for the next page; only there when `truncated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Why there is nothing, when there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// Packets that the recorders lost while this was recorded; absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_packets: Option<u64>,
}

/// The calls that match, one page of them.
pub async fn calls(db: &Database, query: &CallsQuery) -> Result<CallsPage, QueryError> {
    let _ = (db, query);
    Err(QueryError::Internal("not built yet".to_owned()))
}

/// One call in full, by its id: `<node>/<stream>/<index>`, or `/<stream>/<index>`.
pub async fn call_by_id(db: &Database, id: &str) -> Result<Value, QueryError> {
    let _ = (db, id);
    Err(QueryError::Internal("not built yet".to_owned()))
}

/// One call with its payloads (contract, section 1.6): `{"entry", "req_body", "resp_body", "truncated", …}`.
/// `max_payload_size` is per body, in bytes; `None` leaves payloads out.
pub async fn call_details(db: &Database, id: &str, max_payload_size: Option<usize>) -> Result<Value, QueryError> {
    let _ = (db, id, max_payload_size);
    Err(QueryError::Internal("not built yet".to_owned()))
}
