//! Flows of a dissection (contract 1.11 and 1.12).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::calls::{Opened, format, open, scope, scope_span};
use super::stats::max_bytes;
use super::{DISSECTION, SNAPSHOT, live};
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
    let asked = open_or_now(app, params).await?;
    let mut answer = super::json(query::flows(&asked.opened.database, &question).await?)?;
    asked.tell(&mut answer, &question);
    Ok(answer)
}

/// All of them in a few numbers.
pub async fn summary(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let question = FlowsQuery {
        format: Format::Compact,
        ..matching(params)?
    };
    let asked = open_or_now(app, params).await?;
    let mut answer = query::flows_summary(&asked.opened.database, &question).await?;
    asked.tell(&mut answer, &question);
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

/// What flows are asked of.
struct Source {
    opened: Opened,
    /// Of which moment it is, if it was dissected for this question.
    live: Option<Value>,
    warning: Option<String>,
}

impl From<Opened> for Source {
    fn from(opened: Opened) -> Self {
        Self {
            opened,
            live: None,
            warning: None,
        }
    }
}

/// The dissection that is named. Without a name the flows of the cluster as it is now are meant: its tapes' last minutes,
/// which are recorded whether or not live dissection is on. Where there is no tape, the nearest to them is the dissection
/// that was completed last, and the answer must say that it is that.
async fn open_or_now(app: &App, params: &mut Params) -> Result<Source, ApiError> {
    let named = params.has(&["db"]) || params.has(SNAPSHOT) || params.has(DISSECTION);
    if named || app.hub.live.state().enabled() {
        return Ok(open(app, params).await?.into());
    }
    let why = match live::open_lone(app).await {
        Ok((opened, told)) => {
            params.opened = Some(opened.clone());
            return Ok(Source {
                live: Some(told),
                ..opened.into()
            });
        }
        Err(why) => why,
    };
    let jobs = app.hub.jobs.list(None).await?;
    let completed = jobs
        .iter()
        .filter(|job| job.record.status == JobStatus::Completed);
    let Some(newest) = completed.max_by_key(|job| job.record.created_at) else {
        return Err(ApiError::not_found(format!(
            "there are no live flows ({why}), and no dissection is completed yet: POST /mcp/snapshots cuts a window, POST \
             /mcp/dissections dissects it"
        )));
    };
    let db = newest.db();
    params.give("db", json!(db));
    let warning = format!(
        "no db is named, and there are no live flows ({why}): these are those of `{db}`, which was dissected last, not of \
         the cluster as it is now"
    );
    Ok(Source {
        warning: Some(warning),
        ..open(app, params).await?.into()
    })
}

impl Source {
    fn tell(self, answer: &mut Value, question: &FlowsQuery) {
        self.opened.tell(scope_span(&question.scope), answer);
        if let Some(live) = self.live {
            answer["live"] = live;
        }
        if let Some(warning) = self.warning {
            match &mut answer["warnings"] {
                Value::Array(warnings) => warnings.insert(0, json!(warning)),
                none => *none = json!([warning]),
            }
        }
    }
}
