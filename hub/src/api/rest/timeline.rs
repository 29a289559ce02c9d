//! `/mcp/timeline`: what changed when.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::calls::{open, scope, warn};
use super::stats::{bucket, max_bytes};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, Bucket, Lines, RETRY_WITHIN, TimelineQuery};
use crate::snapshots::shown;

pub(super) async fn get(State(app): State<App>, mut params: Params) -> Result<Json<Value>, ApiError> {
    timeline(&app, &mut params).await.map(Json)
}

/// Series with their changes, first failures, retries, connections, correlation, waiting.
pub(in crate::api) async fn timeline(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = TimelineQuery {
        scope: scope(params)?,
        by: match params.text(&["by", "group_by"])?.as_deref() {
            None | Some("" | "peers") => Lines::Peers,
            Some("endpoint") => Lines::Endpoint,
            Some(other) => {
                let other = shown(other);
                return Err(ApiError::bad_request(format!(
                    "`by` must be peers or endpoint, not \"{other}\""
                )));
            }
        },
        bucket: bucket(params)?.unwrap_or(Bucket::Auto),
        retry_within: params.duration(&["retry_within"])?.unwrap_or(RETRY_WITHIN),
        max_bytes: max_bytes(params)?.unwrap_or(ANSWER_BYTES / 2),
    };
    let (db, database) = open(app, params).await?;
    let mut answer = query::timeline(&database, &question).await?;
    answer["db"] = json!(db);
    warn(&mut answer, params);
    Ok(answer)
}
