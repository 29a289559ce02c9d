//! How a call is shown (contract, section 1.5).

use serde_json::{Map, Value, json};
use wiretape_dissect::Marks;
use wiretape_tape::Nanos;

use super::row::{Row, pairs};
use crate::dissections::Clocks;

/// Columns that the compact form needs.
pub(super) const COMPACT: &[&str] = &[
    "ts",
    "stream",
    "index",
    "node",
    "protocol",
    "src_ip",
    "src_port",
    "src_pod",
    "src_namespace",
    "src_service",
    "src_node",
    "dst_ip",
    "dst_port",
    "dst_pod",
    "dst_namespace",
    "dst_service",
    "dst_node",
    "method",
    "path",
    "status",
    "elapsed_ns",
    "marks",
];

/// What fits on a line. Members that are not known are left out.
pub(super) fn compact(row: Row<'_>) -> Map<String, Value> {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
    put("id", json!(row.call_id()));
    put("ts", json!(row.time("ts").unwrap_or_default() / 1_000_000));
    put("src", Value::Object(endpoint(row, "src")));
    put("dst", Value::Object(endpoint(row, "dst")));
    put("proto", json!(row.text("protocol")));
    put("method", json!(row.text("method")));
    put("path", json!(row.text("path")));
    if let Some(status) = row.int("status") {
        put("status", json!(status));
    }
    if let Some(elapsed) = row.int("elapsed_ns") {
        put("latency_ms", json!(ms(elapsed.unsigned_abs())));
    }
    // Half of a message is to be known as such at a glance.
    let marks = marks(row);
    if marks.has(Marks::REQUEST_GAP) || marks.has(Marks::RESPONSE_GAP) {
        put("marks", marks.names().collect());
    }
    entry
}

fn marks(row: Row<'_>) -> Marks {
    Marks(u32::try_from(row.int("marks").unwrap_or_default()).unwrap_or_default())
}

/// All that is known, but for the bodies, which are put in by who has read them.
pub(super) fn full(row: Row<'_>, clocks: &[Clocks]) -> Map<String, Value> {
    let mut entry = compact(row);
    for side in ["src", "dst"] {
        if let Some(Value::Object(endpoint)) = entry.get_mut(side) {
            for member in [
                "process",
                "container",
                "owner_kind",
                "owner",
                "resolution",
                "dns",
                "dns_source",
            ] {
                let text = row.text(&format!("{side}_{member}"));
                if !text.is_empty() {
                    endpoint.insert(member.to_owned(), json!(text));
                }
            }
            let labels = row.map(&format!("{side}_labels"));
            if !labels.is_empty() {
                endpoint.insert("labels".to_owned(), pairs(labels));
            }
            let annotations = row.map(&format!("{side}_annotations"));
            if !annotations.is_empty() {
                endpoint.insert("annotations".to_owned(), pairs(annotations));
            }
        }
    }
    let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
    put("conn_id", json!(row.int("conn_id")));
    put("node_id", json!(row.text("node")));
    put("flow_id", json!(row.int("flow_id")));
    // Who dissected it is nobody's concern here; on which node it was recorded is.
    put("worker", json!(row.text("node")));
    put("req_headers", pairs(row.map("req_headers")));
    put("resp_headers", pairs(row.map("resp_headers")));
    put("req_size", json!(row.int("req_body_bytes").unwrap_or_default()));
    put("resp_size", json!(row.int("resp_body_bytes").unwrap_or_default()));
    // What follows is ours.
    put("version", json!(row.text("version")));
    for name in ["query", "authority"] {
        if !row.text(name).is_empty() {
            put(name, json!(row.text(name)));
        }
    }
    put("outcome", json!(row.text("outcome")));
    let marks = marks(row);
    if marks != Marks::default() {
        put("marks", marks.names().collect());
    }
    let fields = row.map("fields");
    if !fields.is_empty() {
        put("fields", pairs(fields));
    }
    put("observed", observed(row, clocks));
    if let Some((server, network)) = apart(row) {
        put("server_ms", json!(ms(server)));
        put("network_ms", json!(ms(network)));
    }
    entry
}

/// How long a call that was recorded at both ends was with its server, and how long under way: by each end's own clock, so
/// that it does not matter how far these are apart.
fn apart(row: Row<'_>) -> Option<(Nanos, Nanos)> {
    let at = |column: &str| row.time(column);
    let total = at("client_resp_last")?.checked_sub(at("client_req_first")?)?;
    let server = at("server_resp_last")?.checked_sub(at("server_req_first")?)?;
    Some((server, total.checked_sub(server)?))
}

/// How far the server's clock is ahead of the client's, where both have seen the call and calls between their nodes told.
fn ahead(row: Row<'_>, clocks: &[Clocks]) -> i64 {
    let at_client = row
        .time("client_req_first")
        .or_else(|| row.time("client_resp_first"));
    if at_client.is_none() {
        return 0;
    }
    let (client, server) = (row.text("src_node"), row.text("dst_node"));
    let told = clocks.iter().find_map(|clocks| {
        let pair = (clocks.node.as_str(), clocks.other.as_str());
        if pair == (client, server) {
            Some(clocks.ahead_ns)
        } else if pair == (server, client) {
            Some(clocks.ahead_ns.saturating_neg())
        } else {
            None
        }
    });
    told.unwrap_or_default()
}

/// When the call passed each observer, in ms; at the server by the client's clock, where it is known how far they are apart.
fn observed(row: Row<'_>, clocks: &[Clocks]) -> Value {
    let ahead = ahead(row, clocks);
    let mut observed = Map::new();
    for (side, name) in [("client", "client"), ("server", "server"), ("other", "unknown")] {
        let mut times = Map::new();
        for (part, name) in [("req", "request"), ("resp", "response")] {
            let first = row.time(&format!("{side}_{part}_first"));
            let last = row.time(&format!("{side}_{part}_last"));
            if let (Some(first), Some(last)) = (first, last) {
                let skew = if side == "server" { ahead } else { 0 };
                let [first, last] =
                    [first, last].map(|time| time.saturating_add_signed(skew.saturating_neg()));
                times.insert(name.to_owned(), json!([ms(first), ms(last)]));
            }
        }
        if side == "server" && ahead != 0 && !times.is_empty() {
            times.insert("clock_ahead_ms".to_owned(), json!(ahead as f64 / 1e6));
        }
        if !times.is_empty() {
            observed.insert(name.to_owned(), Value::Object(times));
        }
    }
    Value::Object(observed)
}

fn endpoint(row: Row<'_>, side: &str) -> Map<String, Value> {
    let mut endpoint = Map::new();
    let column = |name: &str| format!("{side}_{name}");
    endpoint.insert("ip".to_owned(), json!(row.text(&column("ip"))));
    endpoint.insert("port".to_owned(), json!(row.int(&column("port"))));
    for (member, name) in [
        ("pod", "pod"),
        ("ns", "namespace"),
        ("svc", "service"),
        ("node", "node"),
    ] {
        let text = row.text(&column(name));
        if !text.is_empty() {
            endpoint.insert(member.to_owned(), json!(text));
        }
    }
    endpoint
}

/// Milliseconds with a fraction. A double holds times of this century to a quarter of a microsecond.
pub(super) fn ms(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}
