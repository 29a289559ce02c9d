//! DNS: questions, answers, flags and codes of every message.

use anyhow::Result;
use serde_json::Value;
use wiretape_dissect::Call;

use super::{DeepFlow, Protocol, field, of};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, objects, text, walk};

/// DNS over UDP and TCP.
pub const PROTOCOL: Protocol = Protocol {
    name: "dns",
    ours,
    tshark,
    deepflow: Some(DeepFlow {
        folder: "deepflow/dns",
        ours,
        theirs: deepflow,
    }),
};

/// Fields of tshark with the addresses and names that records hold.
const RECORDS: &[&str] = &["dns.a", "dns.aaaa", "dns.cname", "dns.ptr.domain_name", "dns.ns"];

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in of(calls, "dns") {
        let message = |kind| {
            Message::new(kind)
                .with_some("id", field(call, "dns_id"))
                .with_known("name", &call.path)
                .with_some("type", field(call, "dns_question_types"))
        };
        if call.request.is_some() {
            let again: usize = field(call, "dns_retries")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            messages.extend((0..=again).map(|_| message("request")));
        }
        if let Some(status) = call.status {
            let values = field(call, "dns_answers").unwrap_or_default();
            messages.push(
                message("response")
                    .with("rcode", status)
                    .with("outcome", call.outcome.as_str())
                    .with_some("answers", field(call, "dns_answer_count"))
                    .with("truncated", field(call, "dns_truncated").is_some())
                    .with("values", sorted(values.split(", ").map(str::to_owned).collect())),
            );
        }
    }
    messages
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    // What an ICMP error quotes was not said there.
    let quoted = |packet: &&Packet| !packet.layers("icmp").is_empty() || !packet.layers("icmpv6").is_empty();
    let said = packets.iter().filter(|packet| !quoted(packet));
    for layer in said.flat_map(|packet| packet.layers("dns")) {
        let id = text(layer, "dns.id").trim_start_matches("0x");
        let Ok(id) = u16::from_str_radix(id, 16) else {
            continue;
        };
        let questions = objects(layer, "dns.qry.name");
        let message = |kind| {
            Message::new(kind)
                .with("id", id)
                .with_known(
                    "name",
                    questions
                        .first()
                        .map_or("", |question| text(question, "dns.qry.name")),
                )
                .with_known("type", types(layer))
        };
        if text(layer, "dns.flags.response") != "1" {
            messages.push(message("request"));
            continue;
        }
        messages.push(
            message("response")
                .with("rcode", text(layer, "dns.flags.rcode"))
                .with("answers", text(layer, "dns.count.answers"))
                .with("truncated", text(layer, "dns.flags.truncated") == "1")
                .with_some("values", values(layer)),
        );
    }
    messages
}

/// The types of the questions, which it names only in the labels it shows: `a.example: type A, class IN`.
fn types(layer: &Value) -> String {
    let mut types = Vec::new();
    walk(layer, &mut |label, value| {
        if value.get("dns.qry.name").is_some()
            && let Some((_, rest)) = label.split_once(": type ")
        {
            types.push(rest.split([',', ' ']).next().unwrap_or_default());
        }
    });
    types.join(", ")
}

/// What the answers hold, if all of them are of types with one value.
fn values(layer: &Value) -> Option<String> {
    let mut values = Vec::new();
    let answers = layer.get("Answers")?;
    walk(answers, &mut |name, value| {
        if RECORDS.contains(&name) {
            values.extend(value.as_str().map(str::to_owned));
        }
    });
    (values.len().to_string() == text(layer, "dns.count.answers")).then(|| sorted(values))
}

/// In an order of their own: JSON's objects have none.
fn sorted(mut values: Vec<String>) -> String {
    values.sort();
    values.join(", ")
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines {
        let line = line.json()?;
        let told = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| line.get(name).and_then(Value::as_u64);
        let message = |kind| {
            Message::new(kind)
                .with_some("id", number("request_id"))
                .with_known("name", told("request_resource"))
                .with_known("type", told("request_type"))
        };
        match told("msg_type") {
            "Request" => messages.push(message("request")),
            "Response" => messages.push(
                message("response")
                    .with_some("rcode", number("response_code"))
                    .with_known("outcome", told("response_status")),
            ),
            _ => {}
        }
    }
    Ok(messages)
}
