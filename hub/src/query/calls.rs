//! Calls by filter, page by page.

use std::fmt;
use std::str::FromStr;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, SortExpr, col, lit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wiretape_tape::Nanos;

use super::bodies::{self, Side};
use super::entry;
use super::fields::instant;
use super::row::Row;
use super::scope::Scope;
use super::{Database, QueryError};

/// Most calls of one page.
pub const MAX_LIMIT: i64 = 1000;

/// Calls of a page when nobody says how many.
pub const DEFAULT_LIMIT: i64 = 100;

/// Bytes of each body in the full form of a list of calls: a page of 1000 stays below 10 MiB.
pub const PREVIEW: usize = 4 << 10;

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

/// Which calls come first. Of equals, the one that comes first in time, connection and order on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The oldest.
    #[default]
    Time,
    /// The slowest; those whose time is not known last.
    Latency,
    /// The largest, request and response together on the wire.
    Size,
}

/// A question for calls. `Default` asks for the first 100 of all.
#[derive(Clone, Debug, Default)]
pub struct CallsQuery {
    /// The filter; none and the empty one let everything through.
    pub kfl: Option<String>,
    /// Most calls in the answer, 1 to [`MAX_LIMIT`]; [`DEFAULT_LIMIT`] when not given.
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

impl CallsQuery {
    /// Which calls it is about.
    fn scope(&self) -> Scope {
        Scope {
            kfl: self.kfl.clone(),
            start: self.start,
            end: self.end,
            now: self.now,
        }
    }
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
    /// Packets that the recorders lost while this was recorded, so that calls may be missing; absent when none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_packets: Option<u64>,
}

/// The calls that match, one page of them.
///
/// # Errors
/// [`QueryError::BadRequest`] for a limit out of range, a window that ends before it starts, a filter that is none, or
/// a cursor of another question.
pub async fn calls(db: &Database, query: &CallsQuery) -> Result<CallsPage, QueryError> {
    let limit = limit(query.limit)?;
    let scope = query.scope();
    let scoped = scope.read()?;
    let cursor = query
        .cursor
        .as_deref()
        .map(|text| Cursor::parse(text, query.order))
        .transpose()?;

    let total = count_calls(db, scoped.condition()).await?;
    let mut page = db.table().await?;
    if let Some(condition) = scoped.and(cursor.map(Cursor::after)) {
        page = page.filter(condition)?;
    }
    let mut page = page.sort(order(query.order))?.limit(0, Some(limit + 1))?;
    if query.format == Format::Compact {
        let mut columns = entry::COMPACT.to_vec();
        columns.extend(["req_bytes", "resp_bytes"]);
        page = page.select_columns(&columns)?;
    }
    let batches = page.collect().await?;
    let truncated = Row::each(&batches).count() > limit;

    let mut answer = CallsPage {
        total,
        truncated,
        ..CallsPage::default()
    };
    for row in Row::each(&batches).take(limit) {
        answer.calls.push(match query.format {
            Format::Compact => Value::Object(entry::compact(row)),
            Format::Full => {
                let mut entry = entry::full(row);
                with_bodies(db, row, PREVIEW, &mut entry).await?;
                Value::Object(entry)
            }
            Format::Raw => row.raw(),
        });
    }
    if truncated {
        answer.cursor = Row::each(&batches)
            .nth(limit - 1)
            .map(|last| Cursor::at(last, query.order).to_string());
    }
    if answer.calls.is_empty() {
        answer.explanation = Some(scoped.nothing(db, &scope, total).await?);
    }
    answer.lost_packets = Some(db.summary().lost_packets).filter(|lost| *lost > 0);
    Ok(answer)
}

/// One call in full, by its id: `<node>/<stream>/<index>`, or `/<stream>/<index>`. With previews of its bodies.
///
/// # Errors
/// [`QueryError::BadRequest`] for what is no id, [`QueryError::NotFound`] when there is no such call.
pub async fn call_by_id(db: &Database, id: &str) -> Result<Value, QueryError> {
    let batches = find(db, id).await?;
    let row = Row::each(&batches).next().ok_or_else(|| unknown(id))?;
    let mut entry = entry::full(row);
    with_bodies(db, row, PREVIEW, &mut entry).await?;
    Ok(Value::Object(entry))
}

/// One call with its payloads (contract, section 1.6): `{"entry", "req_body", "resp_body", "truncated"}`.
/// `max_payload_size` is per body, in bytes; `None` leaves payloads out.
///
/// # Errors
/// As [`call_by_id`].
pub async fn call_details(
    db: &Database,
    id: &str,
    max_payload_size: Option<usize>,
) -> Result<Value, QueryError> {
    let batches = find(db, id).await?;
    let row = Row::each(&batches).next().ok_or_else(|| unknown(id))?;
    let mut details = Map::new();
    details.insert("entry".to_owned(), Value::Object(entry::full(row)));
    let mut truncated = false;
    if let Some(most) = max_payload_size {
        truncated = with_bodies(db, row, most, &mut details).await?;
    }
    details.insert("truncated".to_owned(), json!(truncated));
    Ok(Value::Object(details))
}

/// Puts `req_body` and `resp_body` into an answer, or why they cannot be had. Whether one of them was cut.
async fn with_bodies(
    db: &Database,
    row: Row<'_>,
    most: usize,
    answer: &mut Map<String, Value>,
) -> Result<bool, QueryError> {
    let mut cut = false;
    for side in [Side::Request, Side::Response] {
        let Some(message) = bodies::StoredMessage::of(row, side) else {
            answer.insert(format!("{}_body", side.prefix()), json!(""));
            continue;
        };
        let db = db.clone();
        let shown = tokio::task::spawn_blocking(move || bodies::show(&db, &message, most))
            .await
            .map_err(|error| QueryError::Internal(format!("cannot read a body: {error}")))?;
        cut |= shown.truncated;
        shown.put(side.prefix(), answer);
    }
    Ok(cut)
}

async fn find(
    db: &Database,
    id: &str,
) -> Result<Vec<datafusion::arrow::record_batch::RecordBatch>, QueryError> {
    let CallId { node, stream, index } = id.parse()?;
    let mut condition = col("stream").eq(lit(stream)).and(col("index").eq(lit(index)));
    if !node.is_empty() {
        condition = condition.and(col("node").eq(lit(node)));
    }
    Ok(db
        .table()
        .await?
        .filter(condition)?
        .limit(0, Some(1))?
        .collect()
        .await?)
}

fn unknown(id: &str) -> QueryError {
    QueryError::NotFound(format!(
        "there is no call {id:?} in this dissection; ids are in the answers of /mcp/calls"
    ))
}

/// The parts of an id.
struct CallId {
    node: String,
    stream: u64,
    index: i32,
}

impl FromStr for CallId {
    type Err = QueryError;

    fn from_str(id: &str) -> Result<Self, QueryError> {
        let mut parts = id.rsplitn(3, '/');
        let index = parts.next().and_then(|index| index.parse().ok());
        let stream = parts
            .next()
            .and_then(|stream| u64::from_str_radix(stream, 16).ok());
        match (index, stream) {
            (Some(index), Some(stream)) => Ok(Self {
                node: parts.next().unwrap_or_default().to_owned(),
                stream,
                index,
            }),
            _ => Err(QueryError::BadRequest(format!(
                "{id:?} is no id of a call; they look like node1/5f3e9a/0 or /5f3e9a/0"
            ))),
        }
    }
}

/// How many calls meet a condition.
pub(super) async fn count_calls(db: &Database, condition: Option<Expr>) -> Result<u64, QueryError> {
    let Some(condition) = condition else {
        return Ok(db.summary().calls);
    };
    let counted = db
        .table()
        .await?
        .filter(condition)?
        .aggregate(Vec::new(), vec![count(lit(1_i64)).alias("n")])?;
    let batches = counted.collect().await?;
    let count = batches.first().and_then(|batch| {
        batch
            .column_by_name("n")?
            .as_primitive_opt::<Int64Type>()?
            .values()
            .first()
            .copied()
    });
    Ok(count
        .and_then(|count| u64::try_from(count).ok())
        .unwrap_or_default())
}

fn limit(limit: Option<i64>) -> Result<usize, QueryError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    usize::try_from(limit).ok().filter(|_| (1..=MAX_LIMIT).contains(&limit)).ok_or_else(|| {
        QueryError::BadRequest(format!(
            "limit is {limit}; it must be 1 to {MAX_LIMIT}; for more, pass the answer's cursor and ask again"
        ))
    })
}

fn order(order: Order) -> Vec<SortExpr> {
    let in_time = ["ts", "stream", "index"].map(|column| col(column).sort(true, false));
    key(order)
        .map(|key| key.sort(false, false))
        .into_iter()
        .chain(in_time)
        .collect()
}

/// What is sorted by, largest first, before time.
fn key(order: Order) -> Option<Expr> {
    // What is not known counts as less than nothing, and so comes last, and can stand in a cursor.
    let known = |column: &str, unknown: i64| {
        datafusion::functions::expr_fn::coalesce(vec![col(column), lit(unknown)])
    };
    match order {
        Order::Time => None,
        Order::Latency => Some(known("elapsed_ns", -1)),
        Order::Size => Some(known("req_bytes", 0) + known("resp_bytes", 0)),
    }
}

/// The last call of a page. Written `<order>.<key>.<ns>.<stream>.<index>`, to be handed back as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cursor {
    order: Order,
    key: i64,
    ts: Nanos,
    stream: u64,
    index: i32,
}

impl Cursor {
    fn at(row: Row<'_>, order: Order) -> Self {
        let int = |column| row.int(column);
        Self {
            order,
            key: match order {
                Order::Time => 0,
                Order::Latency => int("elapsed_ns").unwrap_or(-1),
                Order::Size => int("req_bytes").unwrap_or_default() + int("resp_bytes").unwrap_or_default(),
            },
            ts: row.time("ts").unwrap_or_default(),
            stream: row.id("stream"),
            index: int("index")
                .and_then(|index| i32::try_from(index).ok())
                .unwrap_or_default(),
        }
    }

    fn parse(text: &str, order: Order) -> Result<Self, QueryError> {
        let cursor = || {
            let mut parts = text.split('.');
            let told = match parts.next()? {
                "time" => Order::Time,
                "latency" => Order::Latency,
                "size" => Order::Size,
                _ => return None,
            };
            let cursor = Self {
                order: told,
                key: parts.next()?.parse().ok()?,
                ts: parts.next()?.parse().ok()?,
                stream: u64::from_str_radix(parts.next()?, 16).ok()?,
                index: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(cursor)
        };
        cursor().filter(|cursor| cursor.order == order).ok_or_else(|| {
            QueryError::BadRequest(format!(
                "{text:?} is no cursor for this question; pass the cursor of the page before, with the same order"
            ))
        })
    }

    /// The condition of all calls after it.
    fn after(self) -> Expr {
        let ts = || instant(self.ts);
        let later = col("ts").gt(ts()).or(col("ts").eq(ts()).and(
            col("stream").gt(lit(self.stream)).or(col("stream")
                .eq(lit(self.stream))
                .and(col("index").gt(lit(self.index)))),
        ));
        match key(self.order) {
            // Said twice, so that row groups that end before can be skipped.
            None => col("ts").gt_eq(ts()).and(later),
            Some(key) => key.clone().lt(lit(self.key)).or(key.eq(lit(self.key)).and(later)),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Time => "time",
            Order::Latency => "latency",
            Order::Size => "size",
        };
        write!(
            f,
            "{order}.{}.{}.{:x}.{}",
            self.key, self.ts, self.stream, self.index
        )
    }
}
