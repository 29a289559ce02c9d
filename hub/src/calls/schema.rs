//! The columns of the table of calls, said once: the writer, the sessions and `docs/schema.md` follow this list.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// Version of the table. A column that changes its type or meaning, or goes, takes the next number, and the hub refuses
/// tables of a later version than its own; columns that come are NULL where tables of before are read.
pub const VERSION: u32 = 2;

/// What a column holds, and how Parquet keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nanoseconds since 1970 UTC, never absent.
    Time,
    /// The same, or NULL when it was not recorded.
    MaybeTime,
    /// Text of which there are few different ones; `""` when unknown.
    Word,
    /// Any text; `""` when unknown or absent.
    Text,
    /// A whole number, never absent.
    Int,
    /// A whole number, or NULL when there is none.
    MaybeInt,
    /// A small whole number (32 bits), never absent.
    Small,
    /// A small whole number (32 bits), or NULL when there is none.
    MaybeSmall,
    /// A hash or ordinal: 64 bits without sign.
    Id,
    /// Text by text.
    Map,
    /// Locations of packets: 64 bits without sign each.
    Locations,
}

impl Kind {
    /// The type as SQL calls it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Time | Self::MaybeTime => "timestamp(ns), UTC",
            Self::Word | Self::Text => "text",
            Self::Int | Self::MaybeInt => "bigint",
            Self::Small | Self::MaybeSmall => "int",
            Self::Id => "unsigned bigint",
            Self::Map => "map(text, text)",
            Self::Locations => "list(unsigned bigint)",
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it means, with its unit.
    pub doc: &'static str,
}

impl Column {
    /// Whether the table of calls holds its least and greatest value of every row group, so that conditions on it skip
    /// those that cannot match. Words are the same in all of them, and hashes anything.
    pub fn has_statistics(&self) -> bool {
        match self.kind {
            Kind::Time | Kind::MaybeTime | Kind::Small | Kind::MaybeSmall | Kind::MaybeInt => true,
            Kind::Text => self.name == "path",
            Kind::Word | Kind::Int | Kind::Id | Kind::Map | Kind::Locations => false,
        }
    }
}

pub(super) const fn column(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, doc }
}

/// Every column, in the order of the table.
pub const COLUMNS: &[Column] = &[
    column(
        "ts",
        Kind::Time,
        "when the call began: the request's first byte (the response's, if no request was recorded), seen by `node`",
    ),
    column(
        "stream",
        Kind::Id,
        "the TCP connection, the same number at both ends",
    ),
    column(
        "index",
        Kind::Small,
        "ordinal of the call in its connection, from 0",
    ),
    column(
        "node",
        Kind::Word,
        "node whose clock `ts` and `elapsed_ns` are told by: the client's if it was recorded there, else the server's",
    ),
    column(
        "side",
        Kind::Word,
        "at which ends it was recorded: `client`, `server`, `both`, or `unknown` if the capture does not say",
    ),
    column("protocol", Kind::Word, "lower case: `http`"),
    column("version", Kind::Word, "as spoken: `HTTP/1.1`"),
    column("src_ip", Kind::Word, "the client's address"),
    column("src_port", Kind::Small, "the client's port"),
    column("src_pod", Kind::Word, "the client's pod"),
    column(
        "src_namespace",
        Kind::Word,
        "the client's namespace; `internal` or `public`, by its address, for what is no pod and no service",
    ),
    column("src_service", Kind::Word, "the client's service"),
    column("src_node", Kind::Word, "the node that the client runs on"),
    column("src_process", Kind::Word, "the client's process"),
    column("src_labels", Kind::Map, "labels of the client's pod"),
    column("src_container", Kind::Word, "the container in the client's pod"),
    column(
        "src_owner_kind",
        Kind::Word,
        "kind of what made the client's pod or process: `Deployment`, `StatefulSet`, `Unit` ..",
    ),
    column("src_owner", Kind::Word, "name of that"),
    column(
        "src_resolution",
        Kind::Word,
        "why the client has no name: `cache_miss` (its node's agent knew none) or `no_node_mapping` (recorded on no node, and nobody told its address); empty if it has one, or is outside",
    ),
    column("src_annotations", Kind::Map, "annotations of the client's pod"),
    column(
        "src_dns",
        Kind::Word,
        "the name that DNS gave to the client's address at the time",
    ),
    column("src_dns_source", Kind::Word, "`answer` if there is one"),
    column("dst_ip", Kind::Word, "the server's address"),
    column("dst_port", Kind::Small, "the server's port"),
    column("dst_pod", Kind::Word, "the server's pod"),
    column(
        "dst_namespace",
        Kind::Word,
        "the server's namespace; `internal` or `public`, by its address, for what is no pod and no service",
    ),
    column("dst_service", Kind::Word, "the server's service"),
    column("dst_node", Kind::Word, "the node that the server runs on"),
    column("dst_process", Kind::Word, "the server's process"),
    column("dst_labels", Kind::Map, "labels of the server's pod"),
    column("dst_container", Kind::Word, "the container in the server's pod"),
    column(
        "dst_owner_kind",
        Kind::Word,
        "kind of what made the server's pod or process: `Deployment`, `StatefulSet`, `Unit` ..",
    ),
    column("dst_owner", Kind::Word, "name of that"),
    column(
        "dst_resolution",
        Kind::Word,
        "why the server has no name: `cache_miss` (its node's agent knew none) or `no_node_mapping` (recorded on no node, and nobody told its address); empty if it has one, or is outside",
    ),
    column("dst_annotations", Kind::Map, "annotations of the server's pod"),
    column(
        "dst_dns",
        Kind::Word,
        "the name under which the client reached the server: what DNS had answered it, else anyone; else, for what is no pod and no service, what the client said it wanted",
    ),
    column(
        "dst_dns_source",
        Kind::Word,
        "how that is known: `answer` (of DNS), `sni` (of TLS) or `host` (of HTTP); empty without a name",
    ),
    column("method", Kind::Word, "HTTP verb, RPC name, command"),
    column(
        "path",
        Kind::Text,
        "path without the query; key, topic or table in other protocols",
    ),
    column("query", Kind::Text, "what followed `?`"),
    column("authority", Kind::Word, "host that the request named"),
    column(
        "status",
        Kind::MaybeSmall,
        "status code of the response, NULL without one",
    ),
    column(
        "outcome",
        Kind::Word,
        "`ok`, `client_error`, `server_error`, `timeout`, `no_response` or `unknown`",
    ),
    column(
        "elapsed_ns",
        Kind::MaybeInt,
        "request's first byte to response's last, in ns; NULL when half is missing",
    ),
    column(
        "req_bytes",
        Kind::MaybeInt,
        "bytes of the request on the wire; NULL when it was not recorded",
    ),
    column("req_head_bytes", Kind::MaybeInt, "of these, head and framing"),
    column(
        "req_body_bytes",
        Kind::MaybeInt,
        "of these, body, before decompression",
    ),
    column(
        "req_missing_bytes",
        Kind::MaybeInt,
        "of these, bytes that no tape holds",
    ),
    column(
        "resp_bytes",
        Kind::MaybeInt,
        "bytes of the response on the wire; NULL when it was not recorded",
    ),
    column("resp_head_bytes", Kind::MaybeInt, "of these, head and framing"),
    column(
        "resp_body_bytes",
        Kind::MaybeInt,
        "of these, body, before decompression",
    ),
    column(
        "resp_missing_bytes",
        Kind::MaybeInt,
        "of these, bytes that no tape holds",
    ),
    column(
        "req_headers",
        Kind::Map,
        "header fields of the request in wire order, names in lower case; a name may repeat",
    ),
    column(
        "resp_headers",
        Kind::Map,
        "header fields of the response, likewise",
    ),
    column(
        "fields",
        Kind::Map,
        "what only this protocol has, by KFL name; numbers in decimal, truths as `true` and `false`",
    ),
    column(
        "marks",
        Kind::Small,
        "what is incomplete about the call: a set of bits, listed below",
    ),
    column(
        "conn_id",
        Kind::Int,
        "the connection as a number that JSON can carry: the lower 53 bits of `stream`",
    ),
    column(
        "flow_id",
        Kind::Int,
        "the flow (client address, server address and port), 53 bits",
    ),
    column(
        "client_req_first",
        Kind::MaybeTime,
        "request's first byte at the client's socket; NULL where it was not recorded, as the following",
    ),
    column(
        "client_req_last",
        Kind::MaybeTime,
        "request's last byte at the client's socket",
    ),
    column(
        "client_resp_first",
        Kind::MaybeTime,
        "response's first byte at the client's socket",
    ),
    column(
        "client_resp_last",
        Kind::MaybeTime,
        "response's last byte at the client's socket",
    ),
    column(
        "server_req_first",
        Kind::MaybeTime,
        "request's first byte at the server's socket",
    ),
    column(
        "server_req_last",
        Kind::MaybeTime,
        "request's last byte at the server's socket",
    ),
    column(
        "server_resp_first",
        Kind::MaybeTime,
        "response's first byte at the server's socket",
    ),
    column(
        "server_resp_last",
        Kind::MaybeTime,
        "response's last byte at the server's socket",
    ),
    column(
        "other_req_first",
        Kind::MaybeTime,
        "request's first byte in a capture that does not say at which end it was taken",
    ),
    column("other_req_last", Kind::MaybeTime, "request's last byte there"),
    column("other_resp_first", Kind::MaybeTime, "response's first byte there"),
    column("other_resp_last", Kind::MaybeTime, "response's last byte there"),
    column(
        "req_seq",
        Kind::MaybeInt,
        "TCP sequence number of the request's first byte",
    ),
    column(
        "req_packets",
        Kind::Locations,
        "the packets that carry the request: number of the file in the upper 16 bits, offset of the block in the lower 48",
    ),
    column(
        "resp_seq",
        Kind::MaybeInt,
        "TCP sequence number of the response's first byte",
    ),
    column(
        "resp_packets",
        Kind::Locations,
        "the packets that carry the response",
    ),
];

/// The table as it is written.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| build(COLUMNS, DataType::Utf8));
    Arc::clone(&SCHEMA)
}

/// The table as it is read: the same, with text columns as views into the pages, so that filtering copies nothing.
pub fn reading_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| reading(COLUMNS));
    Arc::clone(&SCHEMA)
}

/// Columns that tables of version 1 do not have: what is told of a peer behind `src_` and `dst_`, and of a name.
const SINCE_2: &[&str] = &[
    "container",
    "container_id",
    "owner_kind",
    "owner",
    "resolution",
    "on_node",
    "annotations",
    "dns",
    "dns_source",
];

/// The schema to read a list of columns with: those that came later may be missing.
pub(super) fn reading(columns: &[Column]) -> SchemaRef {
    let schema = build(columns, DataType::Utf8View);
    let later = |name: &str| {
        let of_peer = name.strip_prefix("src_").or_else(|| name.strip_prefix("dst_"));
        SINCE_2.contains(&of_peer.unwrap_or(name))
    };
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let nullable = field.is_nullable() || later(field.name());
            field.as_ref().clone().with_nullable(nullable)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Type of map columns.
pub fn map_type() -> DataType {
    DataType::Map(map_entries(), false)
}

/// The entries of a map, as Parquet's specification names them.
pub(crate) fn map_entries() -> Arc<Field> {
    Arc::new(Field::new("key_value", DataType::Struct(map_fields()), false))
}

/// Key and value of a map's entry.
pub(crate) fn map_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ])
}

/// The element of a list of locations.
fn location_field() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::UInt64, false))
}

/// The schema of a list of columns, whose texts are of a type.
pub(super) fn build(columns: &[Column], text: DataType) -> SchemaRef {
    let time = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let (data_type, nullable) = match column.kind {
                Kind::Time => (time(), false),
                Kind::MaybeTime => (time(), true),
                Kind::Word | Kind::Text => (text.clone(), false),
                Kind::Int => (DataType::Int64, false),
                Kind::MaybeInt => (DataType::Int64, true),
                Kind::Small => (DataType::Int32, false),
                Kind::MaybeSmall => (DataType::Int32, true),
                Kind::Id => (DataType::UInt64, false),
                Kind::Map => (map_type(), false),
                Kind::Locations => (DataType::List(location_field()), false),
            };
            Field::new(column.name, data_type, nullable)
        })
        .collect();
    Arc::new(Schema::new(fields))
}
