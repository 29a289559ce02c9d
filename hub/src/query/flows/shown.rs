//! How a flow is shown (contract, section 1.11).

use serde_json::{Map, Value, json};

use super::{FlowGroup, Handshakes};
use crate::query::connection::seconds;
use crate::query::latency::Latencies;
use crate::query::row::{Row, rfc3339};

/// A flow, or several that were added up.
pub(super) fn flow(row: Row<'_>, group: Option<FlowGroup>, handshakes: Handshakes, full: bool) -> Value {
    let mut flow = Map::new();
    let mut put = |name: &str, value: Value| flow.insert(name.to_owned(), value);
    put("proto", json!(row.text("transport")));
    put("client", Value::Object(end(row, "src", group, full)));
    put("server", Value::Object(end(row, "dst", group, full)));
    let sides = [
        ("client_stats", "c", handshakes.client),
        ("server_stats", "s", handshakes.server),
    ];
    let (mut pkts, mut bytes) = (0, 0);
    for (member, side, handshakes) in sides {
        let number = |name: &str| row.int(&format!("{side}_{name}")).unwrap_or_default();
        // A side that nobody recorded has seen nothing that could be told.
        if number("seen") == 0 {
            continue;
        }
        pkts += number("tx_pkts") + number("rx_pkts");
        bytes += number("tx_bytes") + number("rx_bytes");
        put(member, Value::Object(stats(row, side, handshakes, full)));
    }
    put(
        "totals",
        json!({ "pkts": pkts, "bytes": bytes, "pps": rate(pkts, row), "bps": rate(bytes * 8, row) }),
    );
    if full {
        if group.is_none() {
            put("flow_id", json!(row.int("flow_id")));
        }
        put("state", json!(state(row)));
        put("connections", json!(row.int("connections")));
        put("calls", json!(row.int("calls")));
        put("retransmissions", json!(row.int("retransmissions")));
        put("first", json!(rfc3339(row.time("ts").unwrap_or_default())));
        put("last", json!(rfc3339(row.time("last_ts").unwrap_or_default())));
    }
    Value::Object(flow)
}

/// One end: all that is known of a single flow's, or what the flows that were added up have in common.
fn end(row: Row<'_>, end: &str, group: Option<FlowGroup>, full: bool) -> Map<String, Value> {
    let mut shown = Map::new();
    let text = |name: &str| row.text(&format!("{end}_{name}"));
    let mut tell = |member: &str, name: &str| {
        let value = text(name);
        if !value.is_empty() {
            shown.insert(member.to_owned(), json!(value));
        }
    };
    match group {
        None => {
            tell("ip", "ip");
            tell("pod", "pod");
            tell("ns", "namespace");
            tell("svc", "service");
            tell("node", "node");
            if full {
                tell("process", "process");
            }
        }
        Some(FlowGroup::Namespace) => tell("ns", "namespace"),
        Some(FlowGroup::Node) => tell("node", "node"),
        Some(FlowGroup::Pod | FlowGroup::Service) => {
            tell("ns", "namespace");
            let named = [("svc", "service"), ("pod", "pod"), ("ip", "ip")];
            let asked = named
                .into_iter()
                .skip(usize::from(group == Some(FlowGroup::Pod)))
                .find(|(_, name)| !text(name).is_empty());
            if let Some((member, name)) = asked {
                tell(member, name);
            }
        }
    }
    if group.is_none() && end == "dst" {
        shown.insert("port".to_owned(), json!(row.int("dst_port")));
    }
    shown
}

/// What one side sent and received, and how long its handshakes took where that is known.
fn stats(row: Row<'_>, side: &str, mut handshakes: Latencies, full: bool) -> Map<String, Value> {
    let mut stats = Map::new();
    for name in ["tx_pkts", "rx_pkts", "tx_bytes", "rx_bytes"] {
        stats.insert(name.to_owned(), json!(row.int(&format!("{side}_{name}"))));
    }
    if let Some([p50, p90, p99]) = handshakes.percentiles([50, 90, 99]) {
        for (name, us) in [("p50", p50), ("p90", p90), ("p99", p99)] {
            stats.insert(format!("tcp_handshake_{name}_us"), json!(us));
        }
    }
    if full {
        for way in ["tx", "rx"] {
            let number = |what: &str| row.int(&format!("{side}_{way}_{what}")).unwrap_or_default();
            stats.insert(format!("{way}_pps"), json!(rate(number("pkts"), row)));
            stats.insert(format!("{way}_bps"), json!(rate(number("bytes") * 8, row)));
        }
        let last = row.time("last_ts").unwrap_or_default();
        stats.insert("timestamp".to_owned(), json!(rfc3339(last)));
    }
    stats
}

fn state(row: Row<'_>) -> &'static str {
    match (row.truth("open"), row.truth("in_progress")) {
        (true, _) => "established",
        (false, true) => "closing",
        (false, false) => "closed",
    }
}

/// How many a second, from the first packet to the last; to a thousandth.
fn rate(count: i64, row: Row<'_>) -> f64 {
    (count as f64 / seconds(row) * 1000.0).round() / 1000.0
}
