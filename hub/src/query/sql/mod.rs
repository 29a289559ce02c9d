//! SQL over the tables of one dissection: a single SELECT, within limits on text, memory, time, rows and bytes.
//!
//! Questions run on threads of their own with deep stacks: a text of [`MAX_TOKENS`] can nest so deep that planning it
//! would not fit on a usual one, and one that takes long must not hold up other answers.

mod turns;

mod text;

mod pairs;

mod session;

mod values;

mod schema;

use std::sync::LazyLock;
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

pub use pairs::MAX_PAIRS;
pub use schema::describe_schema;
pub(super) use session::open;
pub use text::{MAX_CONCATENATIONS, MAX_SQL, MAX_TABLES, MAX_TOKENS};

use self::turns::{Late, Turns};
use super::{Database, QueryError};

/// Memory that all SQL questions together may take for sorting, joining and grouping, in bytes.
pub const SQL_MEMORY: usize = 128 << 20;

/// What they may write to disk where that is not enough, in bytes.
pub const SQL_DISK: u64 = 1 << 30;

/// Longest time of one question, from its turn on.
pub const SQL_TIME: Duration = Duration::from_secs(20);

/// Longest time that a question waits for its turn. Together with [`SQL_TIME`] below the 30 s after which clients give
/// up (contract, section 1.4).
pub const SQL_WAIT: Duration = Duration::from_secs(8);

/// Questions that run at the same time; others wait.
pub const SQL_AT_ONCE: usize = 2;

/// Rows of an answer when nobody says how many.
pub const DEFAULT_ROWS: i64 = 100;

/// Most rows of an answer.
pub const MAX_ROWS: i64 = 10_000;

/// Stack of each thread; memory only as far as it is used.
const STACK: usize = 128 << 20;

/// A question in SQL.
#[derive(Clone, Debug, Default)]
pub struct SqlQuery {
    /// One SELECT.
    pub sql: String,
    /// Most rows in the answer, 1 to [`MAX_ROWS`]; [`DEFAULT_ROWS`] when not given.
    pub limit: Option<i64>,
    /// Most bytes of rows in the answer; the others are left out.
    pub max_bytes: usize,
}

/// Runs a SELECT. Dropping the future stops it.
///
/// # Errors
/// [`QueryError::BadRequest`] for a text that is not one SELECT, that names what is not there, or that needs more than
/// it may; the message says what to change.
pub async fn sql(db: &Database, query: &SqlQuery) -> Result<Value, QueryError> {
    let limit = query.limit.unwrap_or(DEFAULT_ROWS);
    let rows = usize::try_from(limit)
        .ok()
        .filter(|_| (1..=MAX_ROWS).contains(&limit))
        .ok_or_else(|| {
            QueryError::BadRequest(format!("limit is {limit}; it must be 1 to {MAX_ROWS} rows"))
        })?;
    text::check(&query.sql)?;
    let session = db.sql_session().await?;
    let work = run(session, query.sql.clone(), rows, query.max_bytes);
    TURNS
        .take(runtime()?.handle(), work)
        .await
        .unwrap_or_else(|late| {
            Err(match late {
                Late::Waiting => QueryError::Busy(format!(
                    "{SQL_AT_ONCE} other questions are being answered, and none was done within {} s; ask again",
                    SQL_WAIT.as_secs()
                )),
                Late::Working => QueryError::BadRequest(format!(
                    "the question took longer than {} s and was stopped; narrow it by ts, or join and group less",
                    SQL_TIME.as_secs()
                )),
                Late::Died(error) => QueryError::Internal(format!("the question's task failed: {error}")),
            })
        })
}

static TURNS: Turns = Turns {
    free: Semaphore::const_new(SQL_AT_ONCE),
    wait: SQL_WAIT,
    time: SQL_TIME,
};

fn runtime() -> Result<&'static Runtime, QueryError> {
    static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SQL_AT_ONCE + 1)
            .max_blocking_threads(16)
            .thread_stack_size(STACK)
            .thread_name("sql")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    RUNTIME
        .as_ref()
        .map_err(|error| QueryError::Internal(format!("cannot start threads for SQL: {error}")))
}

async fn run(
    session: SessionContext,
    sql: String,
    rows: usize,
    max_bytes: usize,
) -> Result<Value, QueryError> {
    let refused = |error| refused(&session, error);
    let statement = text::select(&sql)?;
    let plan = session
        .state()
        .statement_to_plan(statement)
        .await
        .map_err(refused)?;
    let options = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    options.verify_plan(&plan).map_err(refused)?;
    let optimised = session.state().optimize(&plan).map_err(refused)?;
    let mut tables = pairs::Rows::new();
    for table in pairs::tables(&optimised)? {
        let counted = session.table(table.clone()).await.map_err(refused)?;
        let counted = counted.count().await.map_err(refused)?;
        tables.insert(table, counted as u64);
    }
    pairs::check(&optimised, &tables)?;
    let frame = session.execute_logical_plan(plan).await.map_err(refused)?;
    let columns: Vec<Value> = frame
        .schema()
        .fields()
        .iter()
        .map(|field| json!({ "name": field.name(), "type": values::type_name(field.data_type()) }))
        .collect();

    let mut stream = frame
        .limit(0, Some(rows + 1))
        .map_err(refused)?
        .execute_stream()
        .await
        .map_err(refused)?;
    let mut told: Vec<Value> = Vec::new();
    let mut room = max_bytes;
    let mut cut = None;
    'reading: while let Some(batch) = stream.try_next().await.map_err(refused)? {
        for row in 0..batch.num_rows() {
            let values: Value = batch
                .columns()
                .iter()
                .map(|column| values::value(column, row))
                .collect();
            // What it takes on the wire, with its comma.
            let bytes = values.to_string().len() + 1;
            match room.checked_sub(bytes) {
                Some(_) if told.len() == rows => cut = Some("rows"),
                Some(left) => {
                    room = left;
                    told.push(values);
                    continue;
                }
                None => cut = Some("bytes"),
            }
            break 'reading;
        }
    }
    let mut answer = json!({
        "columns": columns,
        "row_count": told.len(),
        "rows": told,
        "truncated": cut.is_some(),
    });
    match cut {
        Some("rows") => {
            answer["hint"] = json!(format!(
                "there are more than {rows} rows; raise limit (up to {MAX_ROWS}), aggregate, or use ORDER BY with \
                 LIMIT and OFFSET"
            ));
        }
        Some(_) => {
            answer["hint"] = json!(format!(
                "more rows would make the answer longer than {max_bytes} bytes; select fewer columns or raise max_bytes"
            ));
        }
        None => {}
    }
    Ok(answer)
}

/// What the engine says against a question, in words that help to ask another.
fn refused(session: &SessionContext, error: DataFusionError) -> QueryError {
    let error = match error {
        DataFusionError::Collection(mut errors) if !errors.is_empty() => errors.swap_remove(0),
        error => error,
    };
    let told = |message: &str| {
        let message = message.lines().next().unwrap_or_default().trim_end_matches('.');
        message.replace("datafusion.public.", "")
    };
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::BadRequest(format!(
            "the question needs more than the {} MiB of memory that there are for SQL; narrow it by ts, or group and \
             join by less",
            SQL_MEMORY >> 20
        )),
        DataFusionError::SchemaError(error, _) => QueryError::BadRequest(schema::unknown_column(error)),
        error @ (DataFusionError::Plan(_)
        | DataFusionError::SQL(..)
        | DataFusionError::NotImplemented(_)
        | DataFusionError::Configuration(_)
        | DataFusionError::Execution(_)
        | DataFusionError::ArrowError(..)) => {
            let message = told(&error.strip_backtrace());
            if message.contains("table '") && message.contains("not found") {
                let tables = session::tables(session).join(", ");
                return QueryError::BadRequest(format!("{message}; there are: {tables}"));
            }
            if message.contains("Invalid function '")
                && let Some(name) = message.split('\'').nth(1)
            {
                return QueryError::BadRequest(schema::unknown_function(session, name));
            }
            QueryError::BadRequest(format!(
                "{message}; GET /mcp/schema tells tables, columns and functions"
            ))
        }
        other => QueryError::Internal(format!("cannot answer: {}", other.strip_backtrace())),
    }
}
