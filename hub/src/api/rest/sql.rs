//! `/mcp/sql` and `/mcp/schema`: the tables of a dissection for those who know what they look for.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::calls::{open, warn};
use super::stats::max_bytes;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, SqlQuery};

pub(super) async fn get(State(app): State<App>, mut params: Params) -> Result<Json<Value>, ApiError> {
    sql(&app, &mut params).await.map(Json)
}

pub(super) async fn schema(State(app): State<App>, mut params: Params) -> Result<Json<Value>, ApiError> {
    describe_schema(&app, &mut params).await.map(Json)
}

/// The rows of one SELECT.
pub(in crate::api) async fn sql(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = SqlQuery {
        sql: params.text(&["sql", "query"])?.unwrap_or_default(),
        limit: params.integer(&["limit"])?,
        max_bytes: max_bytes(params)?.unwrap_or(ANSWER_BYTES),
    };
    let (db, database) = open(app, params).await?;
    let mut answer = query::sql(&database, &question).await?;
    answer["db"] = json!(db);
    warn(&mut answer, params);
    Ok(answer)
}

/// Tables, columns and their meaning, functions, limits.
pub(in crate::api) async fn describe_schema(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (db, database) = open(app, params).await?;
    let mut answer = query::describe_schema(&database).await?;
    answer["db"] = json!(db);
    warn(&mut answer, params);
    Ok(answer)
}
