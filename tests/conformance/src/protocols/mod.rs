//! What each protocol's messages are compared by: ours, and what the oracles say of them in the same words.

mod dns;
mod grpc;
mod http1;
mod http2;
mod icmp;
mod postgresql;
mod redis;
mod tls;

use anyhow::Result;
use wiretape_dissect::{Call, Value};

use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::Packet;

/// One protocol's side of the comparison.
pub struct Protocol {
    /// As in the table.
    pub name: &'static str,
    /// Our messages, of all calls of a capture.
    pub ours: fn(&[Call]) -> Vec<Message>,
    /// tshark's.
    pub tshark: fn(&[Packet]) -> Vec<Message>,
    /// `DeepFlow`'s, where it has any, and our messages in its words.
    pub deepflow: Option<DeepFlow>,
}

/// How `DeepFlow`'s lines are read.
pub struct DeepFlow {
    /// Folder of the corpora in which the captures are that have lines of this protocol.
    pub folder: &'static str,
    /// Our messages, by its words.
    pub ours: fn(&[Call]) -> Vec<Message>,
    /// Its messages.
    pub theirs: fn(&[Line]) -> Result<Vec<Message>>,
}

/// All of them, in the order of the table.
pub const PROTOCOLS: &[Protocol] = &[
    http1::PROTOCOL,
    http2::PROTOCOL,
    grpc::PROTOCOL,
    dns::PROTOCOL,
    tls::TLS,
    tls::QUIC,
    postgresql::PROTOCOL,
    redis::PROTOCOL,
    icmp::PROTOCOL,
];

/// What tshark is asked for at once, and the layers that it shows of it.
pub const FILTER: &str = "http || http2 || grpc || dns || tls || quic || pgsql || resp || icmp || icmpv6";
/// See [`FILTER`].
pub const LAYERS: &str = "frame tcp http http2 grpc dns tls quic pgsql resp icmp icmpv6";

/// Ports on which tshark would not guess, by capture.
pub const TOLD: &[(&str, &[&str])] = &[
    ("grpc-segmented.pcap", &["tcp.port==20035,http2"]),
    ("grpc-server-stream.pcap", &["tcp.port==9001,http2"]),
    ("grpc-service-name.pcap", &["tcp.port==38888,http2"]),
    ("grpc-unary.pcap", &["tcp.port==30035,http2"]),
    ("grpc-unknown.pcap", &["tcp.port==7000,http2"]),
    ("h2c_ascii.pcap", &["tcp.port==7070,http2"]),
    ("http2-multi.pcap", &["tcp.port==3550,http2"]),
    ("httpv2-stream-id.pcap", &["tcp.port==11800,http2"]),
    (
        "grpc_person_search_json_with_image.pcapng.gz",
        &["tcp.port==50052,http2"],
    ),
    (
        "grpc_person_search_protobuf_with_image-missing_headers.pcapng.gz",
        &["tcp.port==50051,http2"],
    ),
    (
        "grpc_person_search_protobuf_with_image.pcapng.gz",
        &["tcp.port==50051,http2"],
    ),
    (
        "grpc_stream_reassembly_sample.pcapng.gz",
        &["tcp.port==50051,http2", "tcp.port==44363,http2"],
    ),
    ("grpc_web.pcapng.gz", &["tcp.port==57228,http2"]),
    ("packet-h2-14_headers.pcapng", &["tcp.port==3000,http2"]),
    ("pgsql-all.pcap", &["tcp.port==8000,pgsql"]),
    ("simple_query.pcap", &["tcp.port==8000,pgsql"]),
    ("prepare_stat.pcap", &["tcp.port==8000,pgsql"]),
    ("error.pcap", &["tcp.port==8000,pgsql"]),
];

/// A field of a call as text; `None` when it is not there.
fn field(call: &Call, name: &str) -> Option<String> {
    let (_, value) = call.fields.iter().find(|(known, _)| *known == name)?;
    Some(match value {
        Value::Text(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
    })
}

/// Path and query as they were sent.
fn url(call: &Call) -> String {
    let mark = if call.query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", call.path, call.query)
}

/// The calls of a protocol.
fn of<'c>(calls: &'c [Call], protocol: &'static str) -> impl Iterator<Item = &'c Call> {
    calls.iter().filter(move |call| call.protocol == protocol)
}
