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

/// Numbers of types by our names: in version 4 (RFC 792), and in version 6 (RFC 4443, 4861).
const TYPES: &[(&str, &str, &str)] = &[
    ("EchoRequest", "8", "128"),
    ("EchoReply", "0", "129"),
    ("DestinationUnreachable", "3", "1"),
    ("TimeExceeded", "11", "3"),
    ("Redirect", "5", "137"),
    ("PacketTooBig", "", "2"),
];

/// Types by which routers, groups and neighbours find each other: what nobody asked for makes no calls.
const HOUSEKEEPING: &[(u8, &[&str])] = &[
    (4, &["9", "10"]),
    (6, &["130", "131", "132", "133", "134", "135", "136", "143"]),
];

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in of(calls, "icmp") {
        let version = field(call, "icmp_version").unwrap_or_default();
        let name = field(call, "icmp_type").unwrap_or_default();
        if call.request.is_some() {
            let again: usize = field(call, "icmp_retries")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default();
            let request = Message::new("message")
                .with("version", &version)
                .with("type", number(&name, &version))
                .with_some("code", field(call, "icmp_code"));
            messages.extend((0..=again).map(|_| request.clone()));
        }
        if let Some(status) = call.status {
            messages.push(
                Message::new("message")
                    .with("version", &version)
                    .with("type", number("EchoReply", &version))
                    .with("code", status)
                    .with("answers", call.request.is_some()),
            );
        }
    }
    messages
}

/// The number of a type; a name without one stays as it is, to be seen among the differences.
fn number<'n>(name: &'n str, version: &str) -> &'n str {
    match TYPES.iter().find(|(known, ..)| *known == name) {
        Some((_, four, six)) => {
            if version == "6" {
                six
            } else {
                four
            }
        }
        None => name,
    }
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    for packet in packets {
        for (layer, version) in [("icmp", 4), ("icmpv6", 6)] {
            let field = |layer_value, name: &str| text(layer_value, &format!("{layer}.{name}")).to_owned();
            for value in packet.layers(layer) {
                let kind = field(value, "type");
                let passed = |(of, kinds): &(u8, &[&str])| *of == version && kinds.contains(&kind.as_str());
                if HOUSEKEEPING.iter().any(passed) {
                    continue;
                }
                let answers = !field(value, "resp_to").is_empty();
                messages.push(
                    Message::new("message")
                        .with("version", version)
                        .with("type", kind)
                        .with("code", field(value, "code"))
                        .with_some("answers", answers.then_some(true)),
                );
            }
        }
    }
    messages
}
