//! Connections added up by flow, or by what the ends of flows have in common.

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::expr_fn::concat;
use datafusion::functions_aggregate::expr_fn::{bool_or, count, max, min, sum};
use datafusion::logical_expr::{Expr, SortExpr, cast, col, lit, when};
use datafusion::prelude::DataFrame;

use super::{FlowGroup, FlowOrder};
use crate::query::fields::first_known;
use crate::query::{QueryError, connection};

/// The column that tells one flow from another.
pub(super) const KEY: &str = "key";

/// What is known of each end, behind `src_` and `dst_`.
const NAMES: [&str; 6] = ["ip", "pod", "namespace", "service", "node", "process"];

/// Stands between the parts of a key; no name has it.
const BETWEEN: &str = "\u{1f}";

/// The key of a connection's flow.
pub(super) fn key(group: Option<FlowGroup>) -> Expr {
    let ends = |columns: &[&[&str]]| {
        let mut parts = vec![col("transport")];
        for end in ["src_", "dst_"] {
            for known in columns {
                let names: Vec<String> = known.iter().map(|name| format!("{end}{name}")).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                parts.extend([lit(BETWEEN), first_known(&names)]);
            }
        }
        concat(parts)
    };
    match group {
        None => concat(vec![
            col("transport"),
            lit(BETWEEN),
            cast(col("flow_id"), DataType::Utf8),
        ]),
        Some(FlowGroup::Pod) => ends(&[&["namespace"], &["pod", "ip"]]),
        Some(FlowGroup::Service) => ends(&[&["namespace"], &["service", "pod", "ip"]]),
        Some(FlowGroup::Namespace) => ends(&[&["namespace"]]),
        Some(FlowGroup::Node) => ends(&[&["node"]]),
    }
}

/// The key of a single flow, as [`key`] writes it.
pub(super) fn key_of(transport: &str, flow_id: i64) -> String {
    format!("{transport}{BETWEEN}{flow_id}")
}

/// A row for each flow: its [`KEY`], the names of its ends, and the sums over its connections.
pub(super) fn grouped(connections: DataFrame, group: Option<FlowGroup>) -> Result<DataFrame, QueryError> {
    // What a side counted is told where that side was recorded; who does not say is taken for the client's.
    let at_client = col("side").not_eq(lit("server"));
    let at_server = col("side").in_list(vec![lit("server"), lit("both")], false);
    let state_in =
        |states: &[&str]| col("state").in_list(states.iter().map(|state| lit(*state)).collect(), false);
    let mut sums = vec![
        count(lit(1_i64)).alias("connections"),
        sum(cast(col("calls"), DataType::Int64)).alias("calls"),
        sum(col("client_retransmissions") + col("server_retransmissions")).alias("retransmissions"),
        sum(col("client_pkts") + col("server_pkts")).alias("pkts"),
        sum(col("client_bytes") + col("server_bytes")).alias("bytes"),
        max(col("handshake_us")).alias("slowest_us"),
        min(col("ts")).alias("ts"),
        max(col("last_ts")).alias("last_ts"),
        max(col("flow_id")).alias("flow_id"),
        max(cast(col("dst_port"), DataType::Int64)).alias("dst_port"),
        bool_or(state_in(&connection::OPEN)).alias("open"),
        bool_or(state_in(&connection::IN_PROGRESS)).alias("in_progress"),
    ];
    for (seen, side) in [("c", at_client), ("s", at_server)] {
        let told = |value: Expr| when(side.clone(), value).otherwise(lit(0_i64));
        sums.push(sum(told(lit(1_i64))?).alias(format!("{seen}_seen")));
        for (end, sender) in [("client", "c"), ("server", "s")] {
            for what in ["pkts", "bytes"] {
                let way = if seen == sender { "tx" } else { "rx" };
                sums.push(sum(told(col(format!("{end}_{what}")))?).alias(format!("{seen}_{way}_{what}")));
            }
        }
    }
    for end in ["src", "dst"] {
        for name in NAMES {
            let column = format!("{end}_{name}");
            // Connections of one flow agree on these; where they do not, the greatest stands for all.
            sums.push(max(col(&column)).alias(&column));
        }
    }
    Ok(connections.aggregate(vec![key(group).alias(KEY), col("transport")], sums)?)
}

/// The order of flows, with no two alike.
pub(super) fn order(order: FlowOrder) -> Vec<SortExpr> {
    let most = |column: &str| col(column).sort(false, false);
    let first = match order {
        FlowOrder::Bytes => most("bytes"),
        FlowOrder::Packets => most("pkts"),
        FlowOrder::Connections => most("connections"),
        FlowOrder::Retransmissions => most("retransmissions"),
        FlowOrder::Handshake => most("slowest_us"),
        FlowOrder::Time => col("ts").sort(true, false),
    };
    vec![first, col(KEY).sort(true, false)]
}
