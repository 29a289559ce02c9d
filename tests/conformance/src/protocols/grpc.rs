//! gRPC: service, method, status, and the messages of each direction.

use anyhow::Result;
use wiretape_dissect::Call;

use super::http1;
use super::http2::{streams, value};
use super::{DeepFlow, Protocol, field, of};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, objects, text};

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

/// What tshark calls the message that holds gRPC-Web's trailers.
const TRAILERS: &str = "1";

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
    messages.extend(http1::tshark(packets).into_iter().filter_map(web));
    let (mut count, mut bytes) = (0, 0);
    let layers = packets.iter().flat_map(|packet| packet.layers("grpc"));
    for message in layers.flat_map(|layer| objects(layer, "grpc.message_length")) {
        // Of gRPC-Web, whose trailers have the form of a message.
        if text(message, "grpc.frame_type") == TRAILERS {
            continue;
        }
        count += 1;
        bytes += text(message, "grpc.message_length")
            .parse::<u64>()
            .unwrap_or_default();
    }
    messages.extend(totals(count, bytes));
    messages
}

/// gRPC-Web in a request of HTTP/1.
fn web(request: Message) -> Option<Message> {
    let told = |name: &str| request.fields.get(name).filter(|_| request.kind == "request");
    let (service, method) = told("url")?.strip_prefix('/')?.rsplit_once('/')?;
    told("header content-type")?
        .starts_with("application/grpc")
        .then(|| {
            Message::new("call")
                .with("stream", 0)
                .with("service", service)
                .with("method", method)
        })
}

/// All messages of a capture: tshark shows them apart from their streams.
fn totals(count: u64, bytes: u64) -> Option<Message> {
    (count > 0).then(|| Message::new("messages").with("count", count).with("bytes", bytes))
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines.iter().filter(|line| line.shown("proto") == "Grpc") {
        let path = line.shown("path");
        if line.shown("msg_type") != "Request" {
            continue;
        }
        let path = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
        messages.push(
            Message::new("call")
                .with("stream", line.shown("stream_id"))
                .with_some("service", path.map(|(service, _)| service))
                .with_some("method", path.map(|(_, method)| method)),
        );
    }
    Ok(messages)
}
