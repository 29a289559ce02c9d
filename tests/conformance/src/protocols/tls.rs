//! TLS and QUIC: what the two hellos say, by name and by fingerprint.

use std::collections::HashSet;

use serde_json::Value;
use wiretape_dissect::Call;

use super::{Protocol, field, of};
use crate::compare::Message;
use crate::tshark::{Packet, objects, text, texts};

/// TLS over TCP.
pub const TLS: Protocol = Protocol {
    name: "tls",
    ours: |calls| ours(calls, "tls"),
    tshark: |packets| tshark(packets, false),
    deepflow: None,
};

/// The same messages in QUIC's first packets, each once: they are sent again as often as it takes.
pub const QUIC: Protocol = Protocol {
    name: "quic",
    ours: |calls| once(ours(calls, "quic")),
    tshark: |packets| once(tshark(packets, true)),
    deepflow: None,
};

/// TLS 1.3 (RFC 8446, section 4.2.1): the version that stands in the extension; before it, there is none.
const TLS13: u64 = 0x0304;
/// How the random of a HelloRetryRequest begins (RFC 8446, section 4.1.3): a server hello that is none.
const RETRY: &str = "cf:21:ad:74:e5:9a:61:11";

fn ours(calls: &[Call], protocol: &'static str) -> Vec<Message> {
    let mut messages = Vec::new();
    for call in of(calls, protocol) {
        if field(call, "tlsx_cipher_suites").is_some() {
            messages.push(
                Message::new("client hello")
                    .with_some("ja3", field(call, "tlsx_ja3"))
                    .with_some("ja3 text", field(call, "tlsx_ja3_full"))
                    .with_some("server name", field(call, "tlsx_sni"))
                    .with_some("alpn", field(call, "tlsx_alpn_offered")),
            );
        }
        if let Some(ja3s) = field(call, "tlsx_ja3s") {
            messages.push(
                Message::new("server hello")
                    .with("ja3s", ja3s)
                    .with_some("ja3s text", field(call, "tlsx_ja3s_full"))
                    .with_some("version", field(call, "tlsx_version"))
                    .with_some("cipher suite", field(call, "tlsx_cipher_suite"))
                    .with_some("alpn", field(call, "tlsx_alpn")),
            );
        }
    }
    messages
}

/// Of a connection of TLS the first hello of each end: our call is of the connection.
fn tshark(packets: &[Packet], quic: bool) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut seen = HashSet::new();
    for packet in packets
        .iter()
        .filter(|packet| packet.layers("quic").is_empty() != quic)
    {
        let layers = packet.layers(if quic { "quic" } else { "tls" });
        for hello in layers
            .into_iter()
            .flat_map(|layer| objects(layer, "tls.handshake.type"))
        {
            let kind = text(hello, "tls.handshake.type");
            let retry = text(hello, "tls.handshake.random").starts_with(RETRY);
            if retry || !quic && !seen.insert((packet.first("tcp.stream"), kind)) {
                continue;
            }
            match kind {
                "1" => messages.push(
                    Message::new("client hello")
                        .with_known("ja3", text(hello, "tls.handshake.ja3"))
                        .with_known("ja3 text", text(hello, "tls.handshake.ja3_full"))
                        .with_known("server name", text(hello, "tls.handshake.extensions_server_name"))
                        .with_known(
                            "alpn",
                            texts(hello, "tls.handshake.extensions_alpn_str").join(", "),
                        ),
                ),
                "2" => messages.push(server_hello(hello)),
                _ => {}
            }
        }
    }
    messages
}

fn server_hello(hello: &Value) -> Message {
    let chosen = number(text(hello, "tls.handshake.extensions.supported_version"));
    let version = chosen.or_else(|| number(text(hello, "tls.handshake.version")));
    let alpn = texts(hello, "tls.handshake.extensions_alpn_str").join(", ");
    Message::new("server hello")
        .with_known("ja3s", text(hello, "tls.handshake.ja3s"))
        .with_known("ja3s text", text(hello, "tls.handshake.ja3s_full"))
        .with_some("version", version)
        .with_some("cipher suite", number(text(hello, "tls.handshake.ciphersuite")))
        // Encrypted from 1.3 on: what it shows there, it was given the keys for.
        .with_some(
            "alpn",
            Some(alpn).filter(|alpn| !alpn.is_empty() && version < Some(TLS13)),
        )
}

fn number(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok()
}

fn once(messages: Vec<Message>) -> Vec<Message> {
    let mut kept: Vec<Message> = Vec::new();
    for message in messages {
        if !kept.contains(&message) {
            kept.push(message);
        }
    }
    kept
}
