//! What there is to ask: tables, columns, functions, limits.

use datafusion::common::SchemaError;
use datafusion::prelude::SessionContext;
use serde_json::{Map, Value, json};
use wiretape_dissect::Marks;

use super::session::{self, FUNCTIONS};
use super::{DEFAULT_ROWS, MAX_ROWS, SQL_MEMORY, SQL_TIME, values};
use crate::calls::connections::COLUMNS as CONNECTIONS;
use crate::calls::events::COLUMNS as EVENTS;
use crate::calls::known::COLUMNS as NAMES;
use crate::calls::schema::{COLUMNS, VERSION};
use crate::calls::session::{EVENTS as OF_EVENTS, NAMES as OF_NAMES};
use crate::query::{Database, QueryError, nearest};

/// Questions that show how it is done.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "what failed, where",
        "SELECT dst_service, path, status, count(*) AS n FROM calls WHERE outcome NOT IN ('ok', 'unknown') \
         GROUP BY dst_service, path, status ORDER BY n DESC LIMIT 20",
    ),
    (
        "latency by service",
        "SELECT dst_service, count(*) AS n, approx_percentile_cont(elapsed_ns, 0.99) / 1e6 AS p99_ms FROM calls \
         GROUP BY dst_service ORDER BY p99_ms DESC",
    ),
    (
        "by minute",
        "SELECT date_trunc('minute', ts) AS minute, count(*) AS n FROM calls GROUP BY minute ORDER BY minute",
    ),
    (
        "who talks to whom, and how well",
        "SELECT src_ip, dst_ip, dst_port, connections, client_bytes + server_bytes AS bytes, client_retransmissions + \
         server_retransmissions AS again FROM flows ORDER BY bytes DESC LIMIT 20",
    ),
    (
        "what was killed, refused or failing when",
        "SELECT ts, kind, namespace, pod, reason, message FROM events WHERE warning = 1 ORDER BY ts LIMIT 50",
    ),
    (
        "by a header",
        "SELECT ts, path, req_headers['x-request-id'] AS request FROM calls WHERE status = 503 ORDER BY ts LIMIT 10",
    ),
];

/// The tables of a dissection with their columns, and what SQL may do with them.
///
/// # Errors
/// [`QueryError::Internal`] when a table cannot be opened.
pub async fn describe_schema(db: &Database) -> Result<Value, QueryError> {
    let session = db.sql_session().await?;
    let mut tables = Vec::new();
    for name in session::tables(&session) {
        let table = session.table_provider(name.as_str()).await?;
        let columns: Vec<Value> = table
            .schema()
            .fields()
            .iter()
            .map(|field| {
                // Flows are made of connections, and nothing in them means what it does of calls alone.
                let mut of_table = match name.as_str() {
                    OF_EVENTS => EVENTS.iter().chain(&[]),
                    OF_NAMES => NAMES.iter().chain(&[]),
                    _ => COLUMNS.iter().chain(CONNECTIONS.iter()),
                };
                let known = of_table.find(|column| column.name == field.name());
                let mut column = Map::new();
                column.insert("name".to_owned(), json!(field.name()));
                let kind = known.map_or_else(
                    || values::type_name(field.data_type()),
                    |column| column.kind.sql().to_owned(),
                );
                column.insert("type".to_owned(), json!(kind));
                column.insert("nullable".to_owned(), json!(field.is_nullable()));
                if let Some(known) = known {
                    column.insert("meaning".to_owned(), json!(known.doc));
                }
                Value::Object(column)
            })
            .collect();
        tables.push(json!({ "name": name, "columns": columns }));
    }
    let marks: Map<String, Value> = Marks::NAMES
        .iter()
        .map(|(mark, name)| ((*name).to_owned(), json!(mark.0)))
        .collect();
    let mut aggregates: Vec<String> = session.state().aggregate_functions().keys().cloned().collect();
    aggregates.sort();
    let examples: Vec<Value> = EXAMPLES
        .iter()
        .map(|(what, sql)| json!({ "what": what, "sql": sql }))
        .collect();
    Ok(json!({
        "version": VERSION,
        "tables": tables,
        "marks": marks,
        "functions": FUNCTIONS,
        "aggregates": aggregates,
        "examples": examples,
        "limits": {
            "rows_default": DEFAULT_ROWS,
            "rows_most": MAX_ROWS,
            "seconds": SQL_TIME.as_secs(),
            "memory_bytes": SQL_MEMORY,
            "sql_bytes": super::MAX_SQL,
            "sql_tokens": super::MAX_TOKENS,
            "tables": super::MAX_TABLES,
        },
    }))
}

/// What to say of a column that is not there.
pub(super) fn unknown_column(error: &SchemaError) -> String {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return error.to_string();
    };
    let names = valid_fields.iter().map(|column| column.name.as_str());
    let meant = nearest::nearest(&field.name, names)
        .map_or_else(|| ";".to_owned(), |name| format!("; did you mean \"{name}\"?"));
    format!(
        "there is no column \"{}\"{meant} describe_schema (GET /mcp/schema) lists all (names in upper case need quotes, texts stand in '…')",
        crate::snapshots::shown(&field.name)
    )
}

/// What to say of a function that is not there.
pub(super) fn unknown_function(session: &SessionContext, name: &str) -> String {
    let state = session.state();
    let aggregates = state.aggregate_functions().keys().map(String::as_str);
    let windows = state.window_functions().keys().map(String::as_str);
    let meant = nearest::nearest(name, FUNCTIONS.iter().copied().chain(aggregates).chain(windows))
        .map_or_else(|| ";".to_owned(), |name| format!("; did you mean \"{name}\"?"));
    format!(
        "there is no function \"{}\"{meant} describe_schema (GET /mcp/schema) lists all",
        crate::snapshots::shown(name)
    )
}
