//! HTTP/1: first lines, all header fields, and which response is to which request.

use std::collections::HashMap;

use anyhow::Result;
use wiretape_dissect::Call;

use super::{DeepFlow, Protocol, url};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, text, texts};

/// HTTP/1.
pub const PROTOCOL: Protocol = Protocol {
    name: "http1",
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
    for call in calls.iter().filter(|call| call.version.starts_with("HTTP/1")) {
        if let Some(request) = &call.request {
            messages.push(
                Message::new("request")
                    .with("method", &call.method)
                    .with("url", url(call))
                    .with("authority", &call.authority)
                    .with_headers(request.headers.iter()),
            );
        }
        if let Some((response, status)) = call.response.as_ref().zip(call.status) {
            let to = call
                .request
                .as_ref()
                .map(|_| format!("{} {}", call.method, url(call)));
            messages.push(
                Message::new("response")
                    .with("status", status)
                    .with("outcome", call.outcome.as_str())
                    .with_some("to", to)
                    .with_headers(response.headers.iter()),
            );
        }
    }
    messages
}

/// What tshark has of HTTP/1, that of gRPC-Web too.
pub fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    // By the number of their packet: all requests in it.
    let mut asked: HashMap<String, Vec<String>> = HashMap::new();
    // What TLS hid, it shows where it was given the keys.
    for packet in packets.iter().filter(|packet| packet.layers("tls").is_empty()) {
        for http in packet.layers("http") {
            let method = text(http, "http.request.method");
            if !method.is_empty() {
                let url = text(http, "http.request.uri");
                let frame = packet.first("frame.number").to_owned();
                asked.entry(frame).or_default().push(format!("{method} {url}"));
                messages.push(
                    Message::new("request")
                        .with("method", method)
                        .with("url", url)
                        .with_known("authority", text(http, "http.host"))
                        .with_headers(lines(&texts(http, "http.request.line"))),
                );
            }
            let status = text(http, "http.response.code");
            // An interim response is no message of a call; 101 is final.
            if !status.is_empty() && (!status.starts_with('1') || status == "101") {
                // Of several in one packet, it does not say which.
                let to = asked
                    .get(text(http, "http.request_in"))
                    .filter(|all| all.len() == 1);
                messages.push(
                    Message::new("response")
                        .with("status", status)
                        .with_some("to", to.and_then(|all| all.first()))
                        .with_headers(lines(&texts(http, "http.response.line"))),
                );
            }
        }
    }
    messages
}

fn lines<'l>(lines: &[&'l str]) -> Vec<(&'l str, &'l str)> {
    lines.iter().filter_map(|line| line.split_once(':')).collect()
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines.iter().filter(|line| line.shown("proto") == "Http1") {
        match line.shown("msg_type").as_str() {
            "Request" => messages.push(
                Message::new("request")
                    .with("method", line.shown("method").to_uppercase())
                    .with("url", line.shown("path"))
                    .with_known("authority", line.shown("host"))
                    .with_known("header user-agent", line.shown("user_agent"))
                    .with_known("header referer", line.shown("referer"))
                    .with_known("header content-length", line.shown("req_content_length")),
            ),
            "Response" => messages.push(
                Message::new("response")
                    .with("status", line.shown("status_code"))
                    .with_known("outcome", outcome(&line.shown("status")))
                    .with_known("header content-length", line.shown("resp_content_length")),
            ),
            _ => {}
        }
    }
    Ok(messages)
}

/// How it calls what came of a call, in our words; empty where it cannot tell.
pub fn outcome(status: &str) -> &'static str {
    match status {
        "Ok" => "ok",
        "ClientError" => "client_error",
        "ServerError" => "server_error",
        _ => "",
    }
}
