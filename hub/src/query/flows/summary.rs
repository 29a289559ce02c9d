//! All flows in a few numbers (contract, section 1.12).

use datafusion::functions_aggregate::expr_fn::{count, count_distinct, sum};
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::DataFrame;
use serde_json::{Map, Value, json};

use super::table::{self, KEY};
use super::{FlowsQuery, nothing};
use crate::query::fields::first_known;
use crate::query::row::Row;
use crate::query::{Database, QueryError};

/// Pairs of peers in each list of the summary.
pub const MAX_TOP: usize = 10;

/// Most pairs of namespaces that are told apart, those with most flows first: a cluster has some hundred namespaces, and
/// few of them talk to each other.
const MAX_NAMESPACES: usize = 1000;

/// Numbers about the flows that match. Packets and bytes count once here, whoever recorded them.
///
/// # Errors
/// As [`flows`](super::flows()).
pub async fn flows_summary(db: &Database, query: &FlowsQuery) -> Result<Value, QueryError> {
    let (connections, scoped) = query.connections(db).await?;
    let flows = table::grouped(connections.clone(), None)?;

    let mut answer = Map::new();
    let (mut total, mut bytes, mut pkts) = (0, 0, 0);
    let by_transport = flows
        .clone()
        .aggregate(
            vec![col("transport")],
            vec![
                count(lit(1_i64)).alias("flows"),
                sum(col("bytes")).alias("bytes"),
                sum(col("pkts")).alias("pkts"),
            ],
        )?
        .collect()
        .await?;
    for transport in ["tcp", "udp"] {
        let of = Row::each(&by_transport).find(|row| row.text("transport") == transport);
        let flows = of.and_then(|row| row.int("flows")).unwrap_or_default();
        answer.insert(format!("{transport}_flows"), json!(flows));
    }
    // Those of other transports are among all.
    for row in Row::each(&by_transport) {
        let number = |name: &str| row.int(name).unwrap_or_default();
        total += number("flows");
        bytes += number("bytes");
        pkts += number("pkts");
    }
    answer.insert("total_flows".to_owned(), json!(total));
    answer.insert("total_bytes".to_owned(), json!(bytes));
    answer.insert("total_pkts".to_owned(), json!(pkts));

    let uniques = connections
        .aggregate(
            Vec::new(),
            vec![
                count_distinct(col("src_ip")).alias("clients"),
                count_distinct(col("dst_ip")).alias("servers"),
            ],
        )?
        .collect()
        .await?;
    for (member, name) in [("unique_clients", "clients"), ("unique_servers", "servers")] {
        let unique = Row::each(&uniques).next().and_then(|row| row.int(name));
        answer.insert(member.to_owned(), json!(unique.unwrap_or_default()));
    }
    for what in ["bytes", "pkts"] {
        answer.insert(format!("top_by_{what}"), top(flows.clone(), what).await?);
    }
    namespaces(flows, &mut answer).await?;
    if total == 0 {
        answer.insert("explanation".to_owned(), json!(nothing(db)));
    }
    let warnings = scoped.warnings();
    if !warnings.is_empty() {
        answer.insert("warnings".to_owned(), json!(warnings));
    }
    Ok(Value::Object(answer))
}

/// The pairs of peers with most of something. Who is no pod is told by the address.
async fn top(flows: DataFrame, what: &str) -> Result<Value, QueryError> {
    let peers = [("client_pod", "src"), ("server_pod", "dst")].map(|(member, end)| {
        let known = [format!("{end}_pod"), format!("{end}_ip")];
        first_known(&known.each_ref().map(String::as_str)).alias(member)
    });
    let batches = flows
        .aggregate(peers.into(), vec![sum(col(what)).alias(what)])?
        .sort(vec![
            col(what).sort(false, false),
            col("client_pod").sort(true, false),
            col("server_pod").sort(true, false),
        ])?
        .limit(0, Some(MAX_TOP))?
        .collect()
        .await?;
    let pairs = Row::each(&batches).map(|row| {
        json!({
            "client_pod": row.text("client_pod"),
            "server_pod": row.text("server_pod"),
            what: row.int(what),
        })
    });
    Ok(pairs.collect())
}

/// How many flows each namespace has an end of, and what passes between two of them.
async fn namespaces(flows: DataFrame, answer: &mut Map<String, Value>) -> Result<(), QueryError> {
    let batches = flows
        .aggregate(
            vec![col("src_namespace"), col("dst_namespace")],
            vec![count(col(KEY)).alias("flows"), sum(col("bytes")).alias("bytes")],
        )?
        .sort(vec![
            col("flows").sort(false, false),
            col("src_namespace").sort(true, false),
            col("dst_namespace").sort(true, false),
        ])?
        .limit(0, Some(MAX_NAMESPACES))?
        .collect()
        .await?;
    let mut by_namespace: Map<String, Value> = Map::new();
    let mut cross = Vec::new();
    for row in Row::each(&batches) {
        let (src, dst) = (row.text("src_namespace"), row.text("dst_namespace"));
        let flows = row.int("flows").unwrap_or_default();
        for (namespace, again) in [(src, false), (dst, src == dst)] {
            // An end without a namespace belongs to none, and both ends in one are one flow of it.
            if namespace.is_empty() || again {
                continue;
            }
            let before = by_namespace
                .get(namespace)
                .and_then(Value::as_i64)
                .unwrap_or_default();
            by_namespace.insert(namespace.to_owned(), json!(before + flows));
        }
        if !src.is_empty() && !dst.is_empty() && src != dst {
            cross.push(json!({ "src_ns": src, "dst_ns": dst, "flows": flows, "bytes": row.int("bytes") }));
        }
    }
    answer.insert("by_namespace".to_owned(), Value::Object(by_namespace));
    answer.insert("cross_namespace".to_owned(), Value::Array(cross));
    Ok(())
}
