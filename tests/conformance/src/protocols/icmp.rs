//! ICMP: types and codes of every message, and which reply is to which request.

use wiretape_dissect::Call;

use super::{Protocol, field, of};
use crate::compare::Message;
use crate::tshark::{Packet, text};

/// ICMP and `ICMPv6`.
pub const PROTOCOL: Protocol = Protocol {
    name: "icmp",
    ours,
    tshark,
    deepflow: None,
};

/// Numbers of types by our names, of version 4 (RFC 792) and 6 (RFC 4443, 4861). A name for both halves of a call is
/// that of the request.
const TYPES: &[(&str, &str, u32)] = &[
    ("4", "destination_unreachable", 3),
    ("4", "time_exceeded", 11),
    ("4", "redirect", 5),
    ("4", "echo", 8),
    ("4", "timestamp", 13),
    ("6", "destination_unreachable", 1),
    ("6", "packet_too_big", 2),
    ("6", "time_exceeded", 3),
    ("6", "echo", 128),
    ("6", "router_solicitation", 133),
    ("6", "router_advertisement", 134),
    ("6", "neighbor_solicitation", 135),
    ("6", "neighbor_advertisement", 136),
    ("6", "multicast_listener_report_v2", 143),
];

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in of(calls, "icmp") {
        let (version, name) = (
            field(call, "icmp_version").unwrap_or_default(),
            field(call, "icmp_type").unwrap_or_default(),
        );
        let number = TYPES
            .iter()
            .find(|(of, known, _)| *of == version && *known == name);
        let asked = number.map_or(name.clone(), |(.., number)| number.to_string());
        if call.request.is_some() {
            let again: usize = field(call, "icmp_retries")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            let request = Message::new("message")
                .with("version", &version)
                .with("type", asked)
                .with_some("code", field(call, "icmp_code"));
            messages.extend((0..=again).map(|_| request.clone()));
        }
        if let Some(status) = call.status {
            messages.push(
                Message::new("message")
                    .with("version", &version)
                    .with("type", if version == "6" { 129 } else { 0 })
                    .with("code", status)
                    .with("answers", call.request.is_some()),
            );
        }
    }
    messages
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    for packet in packets {
        for (layer, version) in [("icmp", 4), ("icmpv6", 6)] {
            let field = |layer_value, name: &str| text(layer_value, &format!("{layer}.{name}")).to_owned();
            for value in packet.layers(layer) {
                let answers = !field(value, "resp_to").is_empty();
                messages.push(
                    Message::new("message")
                        .with("version", version)
                        .with("type", field(value, "type"))
                        .with("code", field(value, "code"))
                        .with_some("answers", answers.then_some(true)),
                );
            }
        }
    }
    messages
}
