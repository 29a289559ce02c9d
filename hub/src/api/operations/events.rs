//! What happened beside the calls.

use serde_json::Value;

use super::calls::open;
use super::stats::max_bytes;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::{self, ANSWER_BYTES, EventsQuery};

/// Events of a dissection by kind, namespace, pod and time.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let mut namespaces = params.list(&["namespaces"])?;
    namespaces.extend(params.text(&["namespace", "ns"])?.filter(|ns| !ns.is_empty()));
    let mut some = |names: &[&str]| -> Result<Option<String>, ApiError> {
        Ok(params.text(names)?.filter(|text| !text.is_empty()))
    };
    let (reason, pod, node) = (some(&["reason"])?, some(&["pod"])?, some(&["node"])?);
    let question = EventsQuery {
        kinds: params.list(&["kind", "kinds"])?,
        reason,
        namespaces,
        pod,
        node,
        warning: params.flag(&["warning"])?,
        start: params.moment(&["start", "start_time", "start_ts"])?,
        end: params.moment(&["end", "end_time", "end_ts"])?,
        limit: params.integer(&["limit"])?,
        max_bytes: max_bytes(params)?.unwrap_or(ANSWER_BYTES),
    };
    let opened = open(app, params).await?;
    let mut answer = query::events(&opened.database, &question).await?;
    opened.tell((question.start, question.end), &mut answer);
    Ok(answer)
}
