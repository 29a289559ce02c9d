//! How connections and flows are shown (contract, sections 1.5, 1.6 and 1.13).

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, cast, col, lit, when};
use serde_json::{Map, Value, json};

use super::calls::Format;
use super::entry;
use super::row::{Row, rfc3339};
use crate::calls::connections::COLUMNS;

/// What an entry is, if it is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Connection,
    Flow,
}

/// A second, in ns: the least that a rate is told of, so that a single packet has one.
const SECOND: i64 = 1_000_000_000;

/// States of a connection that is open.
pub(super) const OPEN: [&str; 2] = ["established", "mid_stream"];
/// States of one that is on its way to that, or from it.
pub(super) const IN_PROGRESS: [&str; 3] = ["syn_sent", "syn_received", "closing"];

impl Kind {
    /// What an entry is; `None` for a call.
    pub(super) fn of(row: Row<'_>) -> Option<Self> {
        // Before that stands the transport.
        match row.text("protocol").rsplit_once('_') {
            Some((_, "conn")) => Some(Self::Connection),
            Some((_, "flow")) => Some(Self::Flow),
            _ => None,
        }
    }

    /// The entry in a list.
    pub(super) fn entry(self, row: Row<'_>, format: Format) -> Map<String, Value> {
        let mut entry = match format {
            Format::Compact | Format::Full => entry::compact(row),
            Format::Raw => row.raw(
                COLUMNS
                    .iter()
                    .filter(|column| self == Self::Connection || of_flow(column.name)),
            ),
        };
        if self == Self::Flow
            && let Some(Value::Object(source)) = entry.get_mut("src")
        {
            // A flow is of all of the client's ports.
            source.remove("port");
        }
        entry.insert("proto".to_owned(), json!(row.text("protocol")));
        entry.extend(self.l4(row));
        if format == Format::Compact {
            return entry;
        }
        entry.insert("node_id".to_owned(), json!(row.text("node")));
        entry.insert("flow_id".to_owned(), json!(row.int("flow_id")));
        entry.insert("worker".to_owned(), json!(row.text("node")));
        entry.insert(
            "first".to_owned(),
            json!(rfc3339(row.time("ts").unwrap_or_default())),
        );
        entry.insert(
            "last".to_owned(),
            json!(rfc3339(row.time("last_ts").unwrap_or_default())),
        );
        entry.insert("calls".to_owned(), json!(row.int("calls")));
        entry.insert("l7_detected".to_owned(), json!(protocols(row)));
        entry.insert("side".to_owned(), json!(row.text("side")));
        if self == Self::Connection {
            entry.insert("client_by".to_owned(), json!(row.text("client_by")));
        }
        if format == Format::Raw && row.text("protocol").starts_with("tcp") {
            entry.insert("tcp_metrics".to_owned(), Value::Object(tcp_metrics(row)));
        }
        entry
    }

    /// The numbers of packets and bytes: `l4_conn` or `l4_flow`.
    pub(super) fn l4(self, row: Row<'_>) -> Map<String, Value> {
        let mut l4 = Map::new();
        let mut put = |name: &str, value: Value| l4.insert(name.to_owned(), value);
        match self {
            Self::Connection => put("conn_id", json!(row.int("conn_id"))),
            Self::Flow => put("flow_id", json!(row.int("flow_id"))),
        };
        put("state", json!(row.text("state")));
        for side in [Side::Local, Side::Remote] {
            for what in ["pkts", "bytes"] {
                put(&format!("{}_{what}", side.name()), json!(side.number(row, what)));
            }
        }
        if self == Self::Flow {
            for (side, (rate, what)) in [Side::Local, Side::Remote]
                .into_iter()
                .flat_map(|side| [(side, ("pps", "pkts")), (side, ("bps", "bytes"))])
            {
                let count = side.number(row, what).unwrap_or_default();
                put(
                    &format!("{}_{rate}", side.name()),
                    json!(rate_of(count, nanos(row))),
                );
            }
        }
        l4
    }
}

/// One of the two sides, as the contract calls them: the local one is that which was recorded, the client's if both were
/// or nobody knows.
#[derive(Clone, Copy)]
enum Side {
    Local,
    Remote,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }

    /// A number of what this side sent.
    fn number(self, row: Row<'_>, what: &str) -> Option<i64> {
        let server = (row.text("side") == "server") == matches!(self, Self::Local);
        row.int(&format!("{}_{what}", if server { "server" } else { "client" }))
    }
}

/// The 24 numbers of section 1.13; those that are zero or not known are left out, as they are there.
fn tcp_metrics(row: Row<'_>) -> Map<String, Value> {
    let both = |what: &str| {
        let sides = [Side::Local, Side::Remote];
        sides
            .into_iter()
            .filter_map(|side| side.number(row, what))
            .sum::<i64>()
    };
    let local = |what: &str| Side::Local.number(row, what).unwrap_or_default();
    let own = |column: &str| row.int(column).unwrap_or_default();
    let numbers = [
        ("retransmissions", both("retransmissions")),
        ("fast_retransmissions", both("fast_retransmissions")),
        ("zero_window_events", both("zero_windows")),
        ("window_full_events", both("windows_full")),
        ("window_scale", local("window_scale")),
        ("avg_receive_window", local("avg_window")),
        ("out_of_order", both("out_of_order")),
        ("dup_acks", both("dup_acks")),
        ("missing_segments", both("missing_segments")),
        ("rst_count", both("rsts")),
        ("fin_count", both("fins")),
        ("keepalive_count", both("keepalives")),
        ("connection_completeness", own("completeness")),
        ("initial_rtt_us", own("initial_rtt_us")),
        ("handshake_time_us", own("handshake_us")),
        ("connection_time_us", nanos(row) / 1000),
        ("time_to_first_byte_us", own("first_byte_us")),
        ("rtt_min_us", local("rtt_min_us")),
        ("rtt_max_us", local("rtt_max_us")),
        ("rtt_avg_us", local("rtt_avg_us")),
        ("rtt_samples", local("rtt_samples")),
        ("jitter_us", local("rtt_dev_us")),
        ("goodput_bytes", local("goodput_bytes")),
    ];
    let told = numbers.into_iter().filter(|(_, number)| *number != 0);
    let mut metrics: Map<String, Value> = told
        .map(|(name, number)| (name.to_owned(), json!(number)))
        .collect();
    let (again, segments) = (both("retransmissions"), both("segments"));
    if again > 0 && segments > 0 {
        metrics.insert(
            "retransmission_rate".to_owned(),
            json!(again as f64 / segments as f64),
        );
    }
    metrics
}

/// Protocols that were found, each once.
fn protocols(row: Row<'_>) -> Vec<&str> {
    let mut protocols: Vec<&str> = row
        .text("l7")
        .split(", ")
        .filter(|name| !name.is_empty())
        .collect();
    protocols.sort_unstable();
    protocols.dedup();
    protocols
}

/// From the first packet to the last.
fn nanos(row: Row<'_>) -> i64 {
    let [first, last] = ["ts", "last_ts"].map(|column| row.time(column).unwrap_or_default());
    i64::try_from(last.saturating_sub(first)).unwrap_or(i64::MAX)
}

/// From the first packet to the last in seconds, one at least.
pub(super) fn seconds(row: Row<'_>) -> f64 {
    nanos(row).max(SECOND) as f64 / SECOND as f64
}

fn rate_of(count: i64, nanos: i64) -> i64 {
    let rate = i128::from(count) * i128::from(SECOND) / i128::from(nanos.max(SECOND));
    i64::try_from(rate).unwrap_or(i64::MAX)
}

/// Whether a flow has a column: it has no single connection, and no single port of the client.
fn of_flow(column: &str) -> bool {
    let single = [
        "stream",
        "conn_id",
        "client_by",
        "src_port",
        "src_labels",
        "dst_labels",
        "src_annotations",
        "dst_annotations",
        "src_container",
        "dst_container",
    ];
    !single.contains(&column)
}

/// `conn_state` and `flow_state`: the state in one of three words.
pub(super) fn state_in_short() -> Expr {
    let is = |states: &[&str]| col("state").in_list(states.iter().map(|state| lit(*state)).collect(), false);
    when(is(&OPEN), lit("open"))
        .when(is(&IN_PROGRESS), lit("in_progress"))
        .when(col("state").eq(lit("")), lit(""))
        .otherwise(lit("closed"))
        .unwrap_or_else(|_| col("state"))
}

/// How many of something came in a second.
pub(super) fn per_second(count: Expr) -> Expr {
    let [first, last] = ["ts", "last_ts"].map(|column| cast(col(column), DataType::Int64));
    let nanos = last - first;
    let nanos = when(nanos.clone().lt(lit(SECOND)), lit(SECOND))
        .otherwise(nanos)
        .unwrap_or_else(|_| lit(SECOND));
    // In floating point: bytes by nanoseconds would not fit.
    cast(
        cast(count, DataType::Float64) * lit(SECOND as f64) / cast(nanos, DataType::Float64),
        DataType::Int64,
    )
}
