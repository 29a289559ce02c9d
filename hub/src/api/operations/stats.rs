//! Numbers about the calls of a dissection.

use serde_json::Value;

use super::calls::{open, scope, scope_span};
use crate::api::param::words;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, Bucket, GroupKey, MAX_ANSWER_BYTES, ORDERS, StatsQuery};

/// What groups are ordered by.
pub const ORDER_WORDS: &[&str] = &words(&ORDERS);

/// Counts, rates, errors, latencies and bytes, by groups and over time.
pub async fn stats(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = StatsQuery {
        scope: scope(params)?,
        group_by: GroupKey::all_named(&params.list(&["group_by"])?)?,
        order: params
            .one_of(&["order", "order_by"], &ORDERS)?
            .unwrap_or_default(),
        limit: params.integer(&["limit"])?,
        bucket: bucket(params)?,
        max_bytes: max_bytes(params)?.unwrap_or(ANSWER_BYTES),
    };
    let opened = open(app, params).await?;
    let mut answer = query::stats(&opened.database, &question).await?;
    opened.tell(scope_span(&question.scope), &mut answer);
    Ok(answer)
}

/// The length of buckets of time, if there are to be any.
pub(super) fn bucket(params: &mut Params) -> Result<Option<Bucket>, ApiError> {
    match params.text(&["bucket"])?.as_deref() {
        None | Some("") => Ok(None),
        Some("auto") => Ok(Some(Bucket::Auto)),
        Some(text) => crate::snapshots::window::parse_duration(text)
            .map(|length| Some(Bucket::Length(length)))
            .map_err(|error| ApiError::bad_request(format!("`bucket` must be auto or a duration: {error}"))),
    }
}

/// How long the rows of an answer may be, where the question says.
pub(super) fn max_bytes(params: &mut Params) -> Result<Option<usize>, ApiError> {
    let asked = params.integer(&["max_bytes"])?;
    asked
        .map(|asked| {
            usize::try_from(asked)
                .ok()
                .filter(|asked| (1024..=MAX_ANSWER_BYTES).contains(asked))
                .ok_or_else(|| {
                    ApiError::bad_request(format!(
                        "`max_bytes` must be 1024 to {MAX_ANSWER_BYTES}, not {asked}"
                    ))
                })
        })
        .transpose()
}
