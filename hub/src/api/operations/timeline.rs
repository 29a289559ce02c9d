//! What changed when.

use serde_json::Value;

use super::calls::{open, scope, scope_span};
use super::stats::{bucket, max_bytes};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, Bucket, Lines, RETRY_WITHIN, TimelineQuery};
use crate::snapshots::shown;

/// Series with their changes, first failures, retries, connections, correlation, waiting.
pub async fn timeline(app: &App, params: &mut Params) -> Result<Value, ApiError> {
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
    let opened = open(app, params).await?;
    let mut answer = query::timeline(&opened.database, &question).await?;
    opened.tell(scope_span(&question.scope), &mut answer);
    Ok(answer)
}
