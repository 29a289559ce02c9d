//! Flows of a dissection (contract 1.11 and 1.12).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::calls::{Opened, format, open, scope, scope_span};
use super::stats::max_bytes;
use super::{DISSECTION, SNAPSHOT};
use crate::api::param::words;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::jobs::JobStatus;
use crate::query::{self, ANSWER_BYTES, FlowGroup, FlowOrder, FlowsQuery, Format};

/// The names of what flows are added up by.
const GROUPS: [(&str, FlowGroup); 4] = [
    ("pod", FlowGroup::Pod),
    ("namespace", FlowGroup::Namespace),
    ("node", FlowGroup::Node),
    ("service", FlowGroup::Service),
];

/// What flows are ordered by.
pub const ORDER_WORDS: &[&str] = &words(&ORDERS);

const ORDERS: [(&str, FlowOrder); 6] = [
    ("bytes", FlowOrder::Bytes),
    ("pkts", FlowOrder::Packets),
    ("connections", FlowOrder::Connections),
    ("retransmissions", FlowOrder::Retransmissions),
    ("handshake", FlowOrder::Handshake),
    ("time", FlowOrder::Time),
];

/// Flows that match, those with most bytes first.
pub async fn list(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let (format, limit) = (format(params)?, params.integer(&["limit"])?);
    let max_bytes = max_bytes(params)?;
    let question = FlowsQuery {
        group: params.one_of(&["aggregate"], &GROUPS)?,
        order: params.one_of(&["order"], &ORDERS)?.unwrap_or_default(),
        format,
        limit,
        max_bytes: max_bytes.or_else(|| limit.is_none().then_some(ANSWER_BYTES)),
        ..matching(params)?
    };
    let (opened, warning) = open_or_newest(app, params).await?;
    let mut answer = super::json(query::flows(&opened.database, &question).await?)?;
    tell(&mut answer, &opened, &question, warning);
    Ok(answer)
}

/// All of them in a few numbers.
pub async fn summary(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = FlowsQuery {
        format: Format::Compact,
        ..matching(params)?
    };
    let (opened, warning) = open_or_newest(app, params).await?;
    let mut answer = query::flows_summary(&opened.database, &question).await?;
    tell(&mut answer, &opened, &question, warning);
    Ok(answer)
}

/// Which flows a question is about.
fn matching(params: &mut Params) -> Result<FlowsQuery, ApiError> {
    let transports = [("tcp", "tcp"), ("udp", "udp")];
    let transport = params.one_of(&["l4proto", "proto"], &transports)?;
    let mut name = |names: &[&str]| Ok::<_, ApiError>(params.text(names)?.filter(|name| !name.is_empty()));
    let ip = name(&["ip"])?.map(|text| address(&text)).transpose()?;
    Ok(FlowsQuery {
        transport: transport.map(str::to_owned),
        ip,
        namespace: name(&["ns", "namespace"])?,
        pod: name(&["pod"])?,
        service: name(&["svc", "service"])?,
        scope: scope(params)?,
        ..FlowsQuery::default()
    })
}

/// An address as the tables write it.
pub(super) fn address(text: &str) -> Result<String, ApiError> {
    let address: IpAddr = text.trim().parse().map_err(|_| {
        let text = crate::snapshots::shown(text);
        ApiError::bad_request(format!("`ip` must be an IPv4 or IPv6 address, not \"{text}\""))
    })?;
    Ok(address.to_canonical().to_string())
}

/// The dissection that is named. Without a name the flows of the cluster as it is now are meant; the nearest to them is
/// the dissection that was completed last, and the answer must say that it is that.
async fn open_or_newest(app: &App, params: &mut Params) -> Result<(Opened, Option<String>), ApiError> {
    if params.has(&["db"]) || params.has(SNAPSHOT) || params.has(DISSECTION) {
        return Ok((open(app, params).await?, None));
    }
    if app.hub.live.state().enabled() {
        return Ok((open(app, params).await?, None));
    }
    let jobs = app.hub.jobs.list(None).await?;
    let completed = jobs
        .iter()
        .filter(|job| job.record.status == JobStatus::Completed);
    let Some(newest) = completed.max_by_key(|job| job.record.created_at) else {
        return Err(ApiError::not_found(
            "flows come from a dissection, and none is completed yet: POST /mcp/snapshots cuts a window, POST \
             /mcp/dissections dissects it",
        ));
    };
    let db = newest.db();
    params.give("db", json!(db));
    let warning = format!(
        "no db is named: these are the flows of `{db}`, which was dissected last, not those of the cluster as it is now; \
         take a new snapshot for these"
    );
    Ok((open(app, params).await?, Some(warning)))
}

fn tell(answer: &mut Value, opened: &Opened, question: &FlowsQuery, warning: Option<String>) {
    opened.tell(scope_span(&question.scope), answer);
    if let Some(warning) = warning {
        match &mut answer["warnings"] {
            Value::Array(warnings) => warnings.insert(0, json!(warning)),
            none => *none = json!([warning]),
        }
    }
}
