//! HTTP/2: heads and trailers of each stream, all header fields.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;
use wiretape_dissect::Call;

use super::{DeepFlow, Protocol, field, http1, url};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, objects, text};

/// HTTP/2, that of gRPC too.
pub const PROTOCOL: Protocol = Protocol {
    name: "http2",
    ours,
    tshark,
    deepflow: Some(DeepFlow {
        folder: "deepflow/http",
        ours,
        theirs: deepflow,
    }),
};

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in calls.iter().filter(|call| call.version == "HTTP/2") {
        let stream = field(call, "http2_stream").unwrap_or_default();
        if let Some(request) = &call.request {
            messages.push(
                Message::new("request")
                    .with("stream", &stream)
                    .with("method", &call.method)
                    .with("url", url(call))
                    .with("authority", &call.authority)
                    .with_headers(request.headers.iter()),
            );
        }
        if let Some(response) = &call.response {
            messages.push(
                Message::new("response")
                    .with("stream", &stream)
                    .with_some("status", call.status)
                    .with("outcome", call.outcome.as_str())
                    .with_headers(response.headers.iter()),
            );
        }
    }
    messages
}

/// A stream's heads and trailers, in each direction.
#[derive(Default)]
pub struct Stream<'v> {
    /// What the client sent: its header fields, pseudo ones too.
    pub request: Vec<(&'v str, &'v str)>,
    /// What the server sent; interim responses left out.
    pub response: Vec<(&'v str, &'v str)>,
    /// Who asked.
    client_port: &'v str,
}

/// Every stream that tshark saw a head of, by connection and number.
pub fn streams(packets: &[Packet]) -> BTreeMap<(&str, u64), Stream<'_>> {
    let mut streams: BTreeMap<(&str, u64), Stream<'_>> = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.layers("tls").is_empty()) {
        let (connection, port) = (packet.first("tcp.stream"), packet.first("tcp.srcport"));
        for layer in packet.layers("http2") {
            for frame in objects(layer, "http2.streamid") {
                let fields = header_fields(frame);
                if fields.is_empty() {
                    continue;
                }
                let number = text(frame, "http2.streamid").parse().unwrap_or_default();
                let stream = streams.entry((connection, number)).or_default();
                let pseudo = |name: &str| {
                    fields
                        .iter()
                        .find(|(known, _)| *known == name)
                        .map(|(_, value)| *value)
                };
                let asks = pseudo(":method").is_some();
                let interim =
                    pseudo(":status").is_some_and(|status| status.starts_with('1') && status != "101");
                if asks {
                    stream.client_port = port;
                }
                if asks || port == stream.client_port {
                    stream.request.extend(fields);
                } else if !interim {
                    stream.response.extend(fields);
                }
            }
        }
    }
    streams
}

/// The fields whose names it knows: joined late, it knows not all, and says so.
fn header_fields(frame: &Value) -> Vec<(&str, &str)> {
    let fields = objects(frame, "http2.header.name").into_iter();
    fields
        .map(|field| {
            (
                text(field, "http2.header.name"),
                text(field, "http2.header.value"),
            )
        })
        .filter(|(name, _)| *name != "<unknown>")
        .collect()
}

/// The first value of a header field.
pub fn value<'v>(fields: &[(&'v str, &'v str)], name: &str) -> Option<&'v str> {
    fields
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    for ((_, number), stream) in streams(packets) {
        let (request, response) = (&stream.request, &stream.response);
        if !request.is_empty() {
            messages.push(
                Message::new("request")
                    .with("stream", number)
                    .with_some("method", value(request, ":method"))
                    .with_some("url", value(request, ":path"))
                    .with_some("authority", value(request, ":authority"))
                    .with_headers(regular(request)),
            );
        }
        if !response.is_empty() {
            messages.push(
                Message::new("response")
                    .with("stream", number)
                    .with_some("status", value(response, ":status"))
                    .with_headers(regular(response)),
            );
        }
    }
    messages
}

fn regular<'v>(fields: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
    fields
        .iter()
        .filter(|(name, _)| !name.starts_with(':'))
        .copied()
        .collect()
}

/// Heads only: data it cuts into messages in its own way, and of trailers it says nothing.
fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines {
        let (protocol, method) = (line.shown("proto"), line.shown("method"));
        let head = match protocol.as_str() {
            "Http2" => !line.shown("stream_id").is_empty(),
            "Grpc" => method == "_RequestHeader" || method == "_ResponseHeader",
            _ => false,
        };
        if !head {
            continue;
        }
        let method = if protocol == "Http2" {
            method.to_uppercase()
        } else {
            String::new()
        };
        let status = line.shown("status_code");
        if line.shown("msg_type") == "Request" {
            messages.push(
                Message::new("request")
                    .with("stream", line.shown("stream_id"))
                    .with_known("method", method)
                    .with_known("url", line.shown("path"))
                    .with_known("authority", line.shown("host"))
                    .with_known("header user-agent", line.shown("user_agent")),
            );
        } else if !status.is_empty() {
            messages.push(
                Message::new("response")
                    .with("stream", line.shown("stream_id"))
                    .with("status", status)
                    .with_known("outcome", http1::outcome(&line.shown("status"))),
            );
        }
    }
    Ok(messages)
}
