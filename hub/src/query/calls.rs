//! Calls by filter, page by page.

use std::str::FromStr;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::count as counted;
use datafusion::logical_expr::{Expr, col, lit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wiretape_kfl::Field;
use wiretape_tape::Nanos;

use super::bodies::{self, Side};
use super::connection;
use super::cursor::{Cursor, order};
use super::entries::{self, Asked};
use super::entry;
use super::first;
use super::redaction::{Hidden, REDACTED};
use super::row::Row;
use super::scope::Scope;
use super::select::CallsGroup;
use super::{Database, QueryError, Zone};
use crate::calls::schema::{self, Column};

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
    /// Shows these columns of each call instead of a format; none shows the format.
    pub fields: Vec<&'static Column>,
    /// Counts the calls by this, too.
    pub group_by: Option<CallsGroup>,
    /// Most bytes of calls in the answer; those beyond come with the next page. `None` leaves none out.
    pub max_bytes: Option<usize>,
    /// Tells times in this zone, too.
    pub zone: Option<Zone>,
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

    /// The columns that it needs; `None` for all.
    fn columns(&self) -> Option<Vec<&'static str>> {
        let mut columns: Vec<&'static str> = match self.format {
            _ if !self.fields.is_empty() => self.fields.iter().map(|column| column.name).collect(),
            Format::Compact => entry::COMPACT.to_vec(),
            Format::Full | Format::Raw => return None,
        };
        // What ids, cursors and orders are made of.
        for name in [
            "ts",
            "stream",
            "index",
            "node",
            "elapsed_ns",
            "req_bytes",
            "resp_bytes",
        ] {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        Some(columns)
    }

    /// A call as it asks for it.
    async fn shown(&self, db: &Database, whole: Row<'_>, hidden: &Hidden) -> Result<Value, QueryError> {
        let row = whole.hiding(hidden);
        if !self.fields.is_empty() {
            return Ok(row.selected(&self.fields));
        }
        if let Some(kind) = connection::Kind::of(whole) {
            return Ok(Value::Object(kind.entry(row, self.format)));
        }
        Ok(match self.format {
            Format::Compact => Value::Object(entry::compact(row)),
            Format::Full => {
                let mut entry = entry::full(row, &db.summary().clocks);
                with_bodies(db, whole, PREVIEW, hidden, &mut entry).await?;
                Value::Object(entry)
            }
            Format::Raw => Value::Object(row.raw(schema::COLUMNS)),
        })
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
    /// Ask again with this for the next page; only there when `truncated`, and not by the filter's own `limit(n)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What to do to see the rest, when fewer calls are here than were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How many calls match by group, when they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Value>>,
    /// Why there is nothing, when there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// What could not be looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The calls that match, one page of them.
///
/// # Errors
/// [`QueryError::BadRequest`] for a limit out of range, a window that ends before it starts, a filter that is none, or
/// a cursor of another question.
pub async fn calls(db: &Database, query: &CallsQuery) -> Result<CallsPage, QueryError> {
    let asked_for = limit(query.limit)?;
    let scope = query.scope();
    let scoped = scope.read(db).await?;
    // Who writes `limit(500)` and passes none wants 500.
    let most = scoped
        .filter
        .limit
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let limit = match query.limit {
        None if most != usize::MAX => most.min(MAX_LIMIT.unsigned_abs() as usize),
        _ => asked_for.min(most),
    };
    let hidden = Hidden::by(&scoped.filter);
    let cursor = query
        .cursor
        .as_deref()
        .map(|text| Cursor::parse(text, query.order, db.age()))
        .transpose()?;

    let asked = Asked::by(&scoped.filter);
    let (total, batches) = if asked.is_calls() {
        let after = cursor.map(Cursor::rank);
        first::page(
            db,
            scoped.condition(),
            query.order,
            after,
            limit + 1,
            query.columns(),
        )
        .await?
    } else {
        let total = count(db, asked, scoped.condition()).await?;
        let mut page = entries::table(db, asked).await?;
        if let Some(condition) = scoped.and(cursor.map(Cursor::after)) {
            page = page.filter(condition)?;
        }
        page = page.sort(order(query.order))?.limit(0, Some(limit + 1))?;
        if let Some(mut columns) = query.columns() {
            columns.extend(["protocol", "conn_id", "flow_id", "side"]);
            columns.extend(entries::own().map(|column| column.name));
            columns.sort_unstable();
            columns.dedup();
            page = page.select_columns(&columns)?;
        }
        (total, page.collect().await?)
    };

    let mut answer = CallsPage {
        total,
        ..CallsPage::default()
    };
    let mut room = query.max_bytes.unwrap_or(usize::MAX);
    let mut last = None;
    for row in Row::each(&batches) {
        if answer.calls.len() == limit {
            answer.truncated = true;
            break;
        }
        let mut call = query.shown(db, row, &hidden).await?;
        if let Some(zone) = &query.zone {
            zone.tell(&mut call);
        }
        // What it takes on the wire, with its comma. One call is shown however long it is, so that paging goes on.
        let bytes = call.to_string().len() + 1;
        if bytes > room && !answer.calls.is_empty() {
            answer.truncated = true;
            answer.hint = Some(format!(
                "more calls would make the answer longer than {} bytes; pass the cursor for the next, select \
                 fields, or raise max_bytes",
                query.max_bytes.unwrap_or_default()
            ));
            break;
        }
        room = room.saturating_sub(bytes);
        answer.calls.push(call);
        last = Some(row);
    }
    if answer.truncated && answer.calls.len() == most {
        answer.hint = Some(format!(
            "the filter's limit({most}) ends the answer; leave it out to see more"
        ));
    } else if answer.truncated {
        answer.cursor = last.map(|last| Cursor::at(last, query.order, db.age()).to_string());
    }
    if let Some(group) = query.group_by {
        answer.groups = Some(group.counted(db, asked, scoped.condition(), &hidden).await?);
    }
    if answer.calls.is_empty() {
        answer.explanation = Some(scoped.nothing(db, &scope, asked, total).await?);
    }
    answer.warnings = scoped.warnings();
    Ok(answer)
}

/// One call in full, by its id: `<node>/<stream>/<index>`, or `/<stream>/<index>`. With previews of its bodies.
///
/// # Errors
/// [`QueryError::BadRequest`] for what is no id, [`QueryError::NotFound`] when there is no such call.
pub async fn call_by_id(db: &Database, id: &str) -> Result<Value, QueryError> {
    let batches = find(db, id).await?;
    let row = Row::each(&batches).next().ok_or_else(|| unknown(id))?;
    if let Some(kind) = connection::Kind::of(row) {
        return Ok(Value::Object(kind.entry(row, Format::Full)));
    }
    let mut entry = entry::full(row, &db.summary().clocks);
    with_bodies(db, row, PREVIEW, &Hidden::default(), &mut entry).await?;
    Ok(Value::Object(entry))
}

/// One call with its payloads (contract, section 1.6): `{"entry", "req_body", "resp_body", "truncated", "l4_flow",
/// "l4_conn"}`. `max_payload_size` is per body, in bytes; `None` leaves payloads out. `l4`: with the last two.
///
/// # Errors
/// As [`call_by_id`].
pub async fn call_details(
    db: &Database,
    id: &str,
    max_payload_size: Option<usize>,
    l4: bool,
) -> Result<Value, QueryError> {
    let batches = find(db, id).await?;
    let row = Row::each(&batches).next().ok_or_else(|| unknown(id))?;
    let mut details = Map::new();
    if let Some(kind) = connection::Kind::of(row) {
        details.insert("entry".to_owned(), Value::Object(kind.entry(row, Format::Full)));
        details.insert("truncated".to_owned(), json!(false));
        return Ok(Value::Object(details));
    }
    details.insert(
        "entry".to_owned(),
        Value::Object(entry::full(row, &db.summary().clocks)),
    );
    let mut truncated = false;
    if let Some(most) = max_payload_size {
        truncated = with_bodies(db, row, most, &Hidden::default(), &mut details).await?;
    }
    details.insert("truncated".to_owned(), json!(truncated));
    if l4 {
        let flow = row.int("flow_id").unwrap_or_default();
        with_l4(db, row.id("stream"), flow.unsigned_abs(), &mut details).await?;
    }
    Ok(Value::Object(details))
}

/// Puts the call's flow and connection into an answer, if there is a table of them.
async fn with_l4(
    db: &Database,
    stream: u64,
    flow: u64,
    details: &mut Map<String, Value>,
) -> Result<(), QueryError> {
    if db.connections().await?.is_none() {
        return Ok(());
    }
    for (member, index, id) in [
        ("l4_flow", entries::FLOW, flow),
        ("l4_conn", entries::CONNECTION, stream),
    ] {
        let condition = col("stream").eq(lit(id)).and(col("index").eq(lit(index)));
        let batches = entries::table(db, Asked::by_index(index))
            .await?
            .filter(condition)?
            .collect()
            .await?;
        if let Some((row, kind)) = Row::each(&batches).find_map(|row| Some((row, connection::Kind::of(row)?)))
        {
            details.insert(member.to_owned(), Value::Object(kind.l4(row)));
        }
    }
    Ok(())
}

/// Puts `req_body` and `resp_body` into an answer, or why they cannot be had. Whether one of them was cut.
async fn with_bodies(
    db: &Database,
    row: Row<'_>,
    most: usize,
    hidden: &Hidden,
    answer: &mut Map<String, Value>,
) -> Result<bool, QueryError> {
    let mut cut = false;
    for (side, field) in [
        (Side::Request, Field::RequestBody),
        (Side::Response, Field::ResponseBody),
    ] {
        if hidden.body(field) {
            answer.insert(format!("{}_body", side.prefix()), json!(REDACTED));
            continue;
        }
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
    let asked = Asked::by_index(index);
    if asked.is_calls() {
        return Ok(first::page(db, Some(condition), Order::Time, None, 1, None)
            .await?
            .1);
    }
    Ok(entries::table(db, asked)
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

/// The connection that an id speaks of.
pub(super) fn stream_of(id: &str) -> Result<u64, QueryError> {
    id.parse().map(|id: CallId| id.stream)
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

/// How many entries meet a condition.
pub(super) async fn count(db: &Database, asked: Asked, condition: Option<Expr>) -> Result<u64, QueryError> {
    let Some(condition) = condition.or_else(|| (!asked.is_calls()).then(|| lit(true))) else {
        return Ok(db.summary().calls);
    };
    if asked.is_calls() {
        return first::count(db, Some(condition)).await;
    }
    let counted = entries::table(db, asked)
        .await?
        .filter(condition)?
        .aggregate(Vec::new(), vec![counted(lit(1_i64)).alias("n")])?;
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
