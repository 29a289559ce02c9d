//! Flows: who talks to whom over TCP and UDP, how much, and how long their handshakes take (contract, sections 1.11 and
//! 1.12). They are what a dissection's connections add up to.

mod table;

mod shown;

mod summary;

use std::collections::HashMap;

use datafusion::logical_expr::{Expr, Operator, col, lit};
use datafusion::prelude::DataFrame;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;

use super::calls::Format;
use super::entries::{self, Asked};
use super::fields::instant;
use super::filter::joined;
use super::latency::{EXACT_LATENCIES, Latencies};
use super::row::Row;
use super::scope::Scoped;
use super::{Database, QueryError, Scope, connection};

pub use summary::{MAX_TOP, flows_summary};

/// Flows in an answer when nobody says how many.
pub const DEFAULT_FLOWS: i64 = 100;
/// Most flows in an answer, as of calls (contract, section 1.5).
pub const MAX_FLOWS: i64 = 1000;

/// What flows are added up by, instead of by themselves (contract, section 1.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowGroup {
    /// Pods; addresses where there is none.
    Pod,
    /// Namespaces.
    Namespace,
    /// Nodes that the ends run on.
    Node,
    /// Services; pods or addresses where there is none.
    Service,
}

/// Which flows come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowOrder {
    /// Most bytes.
    #[default]
    Bytes,
    /// Most packets.
    Packets,
    /// Most connections.
    Connections,
    /// Most segments that were sent again.
    Retransmissions,
    /// The one whose slowest handshake took longest.
    Handshake,
    /// The oldest.
    Time,
}

/// A question about flows. `Default` is all of them.
#[derive(Clone, Debug, Default)]
pub struct FlowsQuery {
    /// Which connections count: a filter that is asked of connections, and a window. A connection counts whole when it
    /// passed a packet in it.
    pub scope: Scope,
    /// `tcp` or `udp`; both when not given.
    pub transport: Option<String>,
    /// An address at either end.
    pub ip: Option<String>,
    /// The namespace of either end.
    pub namespace: Option<String>,
    /// A pod at either end, or part of its name.
    pub pod: Option<String>,
    /// The service of either end.
    pub service: Option<String>,
    /// What they are added up by.
    pub group: Option<FlowGroup>,
    /// How they are shown.
    pub format: Format,
    /// Which come first.
    pub order: FlowOrder,
    /// Most of them; [`DEFAULT_FLOWS`] when not given.
    pub limit: Option<i64>,
    /// Most bytes of them; no limit when not given.
    pub max_bytes: Option<usize>,
}

/// Flows, those that come first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FlowsPage {
    /// The flows.
    pub flows: Vec<Value>,
    /// How many there are.
    pub total: u64,
    /// Whether there are more than are shown.
    pub truncated: bool,
    /// What to do to see the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Why there is nothing, when there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// What is to be said about how the filter was run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The flows that match.
///
/// # Errors
/// [`QueryError::BadRequest`] for a limit out of range, a window that ends before it starts, a filter that is none or
/// that speaks of flows, or raw groups; [`QueryError::NotFound`] for a dissection that is older than the table.
pub async fn flows(db: &Database, query: &FlowsQuery) -> Result<FlowsPage, QueryError> {
    let limit = limit(query.limit)?;
    if query.format == Format::Raw && query.group.is_some() {
        return Err(QueryError::BadRequest(
            "`raw` shows the columns of single flows; with `aggregate`, ask for compact or full".to_owned(),
        ));
    }
    let (connections, scoped) = query.connections(db).await?;
    let most = scoped.filter.limit.unwrap_or(u64::MAX);
    let limit = limit.min(usize::try_from(most).unwrap_or(usize::MAX));
    let grouped = table::grouped(connections.clone(), query.group)?;
    let total = grouped.clone().count().await? as u64;
    let batches = grouped
        .sort(table::order(query.order))?
        .limit(0, Some(limit))?
        .collect()
        .await?;
    let rows: Vec<Row<'_>> = Row::each(&batches).collect();
    let keys: Vec<&str> = rows.iter().map(|row| row.text(table::KEY)).collect();
    let shown: Vec<Value> = if query.format == Format::Raw {
        raw(&connections, &keys).await?
    } else {
        let mut handshakes = handshakes(&connections, query.group, &keys).await?;
        let full = query.format == Format::Full;
        rows.iter()
            .map(|row| {
                let told = handshakes.remove(row.text(table::KEY)).unwrap_or_default();
                shown::flow(*row, query.group, told, full)
            })
            .collect()
    };
    let mut page = FlowsPage {
        total,
        warnings: scoped.warnings(),
        ..FlowsPage::default()
    };
    let mut room = query.max_bytes.unwrap_or(usize::MAX);
    for flow in shown {
        let bytes = flow.to_string().len() + 1;
        // One is shown however long it is.
        if bytes > room && !page.flows.is_empty() {
            break;
        }
        room = room.saturating_sub(bytes);
        page.flows.push(flow);
    }
    let there = page.flows.len();
    page.truncated = (there as u64) < total;
    if page.truncated && there as u64 == most {
        page.hint = Some(format!(
            "the filter's limit({most}) ends the answer; leave it out to see more"
        ));
    } else if page.truncated {
        page.hint = Some(format!(
            "{there} of {total} flows are here; raise limit or max_bytes, ask for one pod, service or address, or \
             add them up with aggregate"
        ));
    }
    if total == 0 {
        page.explanation = Some(nothing(db));
    }
    Ok(page)
}

impl FlowsQuery {
    /// The connections that it is about, as rows like those of calls.
    async fn connections(&self, db: &Database) -> Result<(DataFrame, Scoped), QueryError> {
        let filter = Scope {
            start: None,
            end: None,
            ..self.scope.clone()
        };
        let scoped = filter.read(db).await?.without_redactions()?;
        if Asked::by(&scoped.filter).is_of_flows() {
            return Err(QueryError::BadRequest(
                "the filter is asked of connections here: write `conn_…`, `tcp_conn` or `udp_conn` for `flow_…`, \
                 `tcp_flow` and `udp_flow`, or ask /mcp/calls"
                    .to_owned(),
            ));
        }
        let mut conditions = self.window()?;
        let either = |column: &str, value: &str| {
            let ends = ["src", "dst"].map(|end| col(format!("{end}_{column}")).eq(lit(value)));
            joined(ends.into(), Operator::Or)
        };
        conditions.extend(self.transport.as_deref().map(|is| col("transport").eq(lit(is))));
        conditions.extend(self.ip.as_deref().map(|ip| either("ip", ip)));
        conditions.extend(self.namespace.as_deref().map(|ns| either("namespace", ns)));
        conditions.extend(self.service.as_deref().map(|service| either("service", service)));
        conditions.extend(self.pod.as_deref().map(|pod| {
            let ends = ["src_pod", "dst_pod"]
                .map(|end| datafusion::functions::expr_fn::contains(col(end), lit(pod)));
            joined(ends.into(), Operator::Or)
        }));
        let more = (!conditions.is_empty()).then(|| joined(conditions, Operator::And));
        let table = entries::connections(db).await?;
        let table = match scoped.and(more) {
            Some(condition) => table.filter(condition)?,
            None => table,
        };
        Ok((table, scoped))
    }

    /// The connections that passed a packet in the window.
    fn window(&self) -> Result<Vec<Expr>, QueryError> {
        let (start, end) = (self.scope.start, self.scope.end);
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(QueryError::BadRequest(format!(
                "start ({start}) must be before end ({end}); both are ms since 1970 UTC"
            )));
        }
        let at = |ms: i64| instant(u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000));
        let start = start.map(|start| col("last_ts").gt_eq(at(start)));
        let end = end.map(|end| col("ts").lt(at(end)));
        Ok(start.into_iter().chain(end).collect())
    }
}

/// How long the handshakes of one flow took, in µs: as seen at the client, and as seen at the server.
#[derive(Clone, Debug, Default)]
struct Handshakes {
    client: Latencies,
    server: Latencies,
}

impl Handshakes {
    fn coarsen(&mut self) {
        self.client.coarsen();
        self.server.coarsen();
    }
}

/// The handshakes of the flows of these keys.
async fn handshakes(
    connections: &DataFrame,
    group: Option<FlowGroup>,
    keys: &[&str],
) -> Result<HashMap<String, Handshakes>, QueryError> {
    let key = table::key(group);
    let wanted = key
        .clone()
        .in_list(keys.iter().map(|key| lit(*key)).collect(), false);
    let mut batches = connections
        .clone()
        .filter(
            wanted.and(
                col("handshake_us")
                    .is_not_null()
                    .or(col("handshake_at_server_us").is_not_null()),
            ),
        )?
        .select(vec![
            key.alias(table::KEY),
            col("side"),
            col("handshake_us"),
            col("handshake_at_server_us"),
        ])?
        .execute_stream()
        .await?;
    let mut all: HashMap<String, Handshakes> = HashMap::new();
    let (mut kept, mut exact) = (0_usize, true);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for row in Row::each(std::slice::from_ref(&batch)) {
            let took = |column| row.int(column).and_then(|us| u64::try_from(us).ok());
            let of = all.entry(row.text(table::KEY).to_owned()).or_default();
            // Of a connection that the server alone recorded, what the table has is the server's view.
            let at_server = row.text("side") == "server";
            let client = took("handshake_us").filter(|_| !at_server);
            let server =
                took("handshake_at_server_us").or_else(|| took("handshake_us").filter(|_| at_server));
            if !exact {
                of.coarsen();
            }
            for (side, took) in [(&mut of.client, client), (&mut of.server, server)] {
                if let Some(took) = took {
                    side.add(took);
                    kept += 1;
                }
            }
            if exact && kept >= EXACT_LATENCIES {
                exact = false;
                all.values_mut().for_each(Handshakes::coarsen);
            }
        }
    }
    Ok(all)
}

/// The flows of these keys with all columns, as a list of entries shows them, in the keys' order.
async fn raw(connections: &DataFrame, keys: &[&str]) -> Result<Vec<Value>, QueryError> {
    let wanted = table::key(None).in_list(keys.iter().map(|key| lit(*key)).collect(), false);
    let batches = entries::flow_rows(connections.clone().filter(wanted)?)?
        .collect()
        .await?;
    let mut flows: HashMap<String, Value> = Row::each(&batches)
        .filter_map(|row| {
            let kind = connection::Kind::of(row)?;
            let key = table::key_of(row.text("transport"), row.int("flow_id").unwrap_or_default());
            Some((key, Value::Object(kind.entry(row, Format::Raw))))
        })
        .collect();
    Ok(keys.iter().filter_map(|key| flows.remove(*key)).collect())
}

fn nothing(db: &Database) -> String {
    let summary = db.summary();
    match summary.connections {
        0 if db.age().is_some() => format!(
            "the dissection is under way: {} packets are read, and no connection can be asked for yet",
            summary.packets
        ),
        0 => format!(
            "{} packets were read, and neither a TCP connection nor a UDP exchange is in them",
            summary.packets
        ),
        connections => format!("none of the {connections} connections of this dissection is meant"),
    }
}

fn limit(limit: Option<i64>) -> Result<usize, QueryError> {
    let limit = limit.unwrap_or(DEFAULT_FLOWS);
    usize::try_from(limit)
        .ok()
        .filter(|_| (1..=MAX_FLOWS).contains(&limit))
        .ok_or_else(|| QueryError::BadRequest(format!("`limit` must be 1 to {MAX_FLOWS}, not {limit}")))
}
