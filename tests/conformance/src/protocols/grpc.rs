//! gRPC: service, method, status, and the messages of each direction.

use anyhow::Result;
use wiretape_dissect::Call;

use super::http2::{streams, value};
use super::{DeepFlow, Protocol, field, of};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, text};

/// gRPC over HTTP/2.
pub const PROTOCOL: Protocol = Protocol {
    name: "grpc",
    ours,
    tshark,
    deepflow: Some(DeepFlow {
        folder: "deepflow/http",
        ours: each_call,
        theirs: deepflow,
    }),
};

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = each_call(calls);
    let sum = |names: [&str; 2]| {
        let all = of(calls, "grpc").flat_map(|call| names.map(|name| number(call, name)));
        all.sum::<u64>()
    };
    messages.extend(totals(
        sum(["grpc_request_messages", "grpc_response_messages"]),
        sum(["grpc_request_message_bytes", "grpc_response_message_bytes"]),
    ));
    messages
}

fn each_call(calls: &[Call]) -> Vec<Message> {
    let message = |call: &Call| {
        Message::new("call")
            .with("stream", number(call, "http2_stream"))
            .with_some("service", field(call, "grpc_service"))
            .with_some("method", field(call, "grpc_method"))
            .with_some("status", field(call, "grpc_status"))
            .with_some("message", field(call, "grpc_message"))
    };
    of(calls, "grpc").map(message).collect()
}

fn number(call: &Call, name: &str) -> u64 {
    field(call, name)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    for ((_, number), stream) in streams(packets) {
        let told = |name: &str| value(&stream.response, name).or_else(|| value(&stream.request, name));
        if !told("content-type").is_some_and(|kind| kind.starts_with("application/grpc")) {
            continue;
        }
        let path = value(&stream.request, ":path").and_then(|path| path.strip_prefix('/')?.rsplit_once('/'));
        messages.push(
            Message::new("call")
                .with("stream", number)
                .with_some("service", path.map(|(service, _)| service))
                .with_some("method", path.map(|(_, method)| method))
                .with_some("status", value(&stream.response, "grpc-status"))
                .with_known(
                    "message",
                    value(&stream.response, "grpc-message").unwrap_or_default(),
                ),
        );
    }
    let (mut count, mut bytes) = (0, 0);
    for layer in packets.iter().flat_map(|packet| packet.layers("grpc")) {
        let length = text(layer, "grpc.message_length");
        count += u64::from(!length.is_empty());
        bytes += length.parse::<u64>().unwrap_or_default();
    }
    messages.extend(totals(count, bytes));
    messages
}

/// All messages of a capture: tshark shows them apart from their streams.
fn totals(count: u64, bytes: u64) -> Option<Message> {
    (count > 0).then(|| Message::new("messages").with("count", count).with("bytes", bytes))
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines.iter().filter(|line| line.shown("proto") == "Grpc") {
        let path = line.shown("path");
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
            continue;
        };
        messages.push(
            Message::new("call")
                .with("stream", line.shown("stream_id"))
                .with("service", service)
                .with("method", method),
        );
    }
    Ok(messages)
}
