//! `/mcp/sql` and `/mcp/schema`: the tables of a dissection for those who know what they look for.

use serde_json::Value;

use super::calls::open;
use super::stats::max_bytes;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, SqlQuery};

/// The rows of one SELECT.
pub async fn sql(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = SqlQuery {
        sql: params.text(&["sql", "query"])?.unwrap_or_default(),
        limit: params.integer(&["limit"])?,
        max_bytes: max_bytes(params)?.unwrap_or(ANSWER_BYTES),
    };
    let opened = open(app, params).await?;
    let mut answer = query::sql(&opened.database, &question).await?;
    opened.sign(&mut answer);
    Ok(answer)
}

/// Tables, columns and their meaning, functions, limits.
pub async fn describe_schema(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let opened = open(app, params).await?;
    let mut answer = query::describe_schema(&opened.database).await?;
    opened.sign(&mut answer);
    Ok(answer)
}
