//! What holds for every connection of WebSocket, and every capture of it.

mod frames;

use frames::{frame, upgraded};
use proptest::prelude::*;
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Value};

/// One message, as it is meant.
#[derive(Clone, Debug)]
struct Message {
    by_client: bool,
    kind: Kind,
    len: usize,
    fragments: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Binary,
    /// With its pong.
    Ping,
}

fn message() -> impl Strategy<Value = Message> {
    (
        any::<bool>(),
        prop::sample::select(vec![Kind::Text, Kind::Text, Kind::Binary, Kind::Ping]),
        prop_oneof![0..60usize, 100..140usize, 3000..4000usize],
        1..4usize,
    )
        .prop_map(|(by_client, kind, len, fragments)| Message {
            by_client,
            kind,
            len: if kind == Kind::Ping { len.min(120) } else { len },
            fragments,
        })
}

/// What the nth message says: which it is, and bytes that could be taken for frames.
fn said(n: usize, len: usize) -> Vec<u8> {
    format!("#{n}; \u{2}\u{3}quoted")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(len.max(8))
        .collect()
}

fn other(who: Who) -> Who {
    if who == Who::Client {
        Who::Server
    } else {
        Who::Client
    }
}

fn talk(messages: &[Message], mss: usize) -> Talk {
    let mut talk = upgraded("");
    talk.mss = mss;
    for (n, message) in messages.iter().enumerate() {
        let who = if message.by_client {
            Who::Client
        } else {
            Who::Server
        };
        let payload = said(n, message.len);
        if message.kind == Kind::Ping {
            talk.send(who, &frame(who, 0x89, &payload));
            talk.send(other(who), &frame(other(who), 0x8a, &payload));
            continue;
        }
        let opcode = if message.kind == Kind::Text { 1 } else { 2 };
        let parts: Vec<&[u8]> = payload
            .chunks(payload.len().div_ceil(message.fragments))
            .collect();
        for (part_n, part) in parts.iter().enumerate() {
            let first = if part_n == 0 { opcode } else { 0 };
            let last = if part_n + 1 == parts.len() { 0x80 } else { 0 };
            talk.send(who, &frame(who, first | last, part));
        }
    }
    talk.close();
    talk
}

fn ws(packets: &[Recorded]) -> Vec<Call> {
    let mut calls = dissect(packets).calls;
    calls.retain(|call| call.protocol == "ws");
    calls
}

fn field<'c>(call: &'c Call, wanted: &str) -> Option<&'c Value> {
    let found = call.fields.iter().find(|(name, _)| *name == wanted);
    found.map(|(_, value)| value)
}

/// What a call says, without times and packets.
fn told(calls: &[Call]) -> Vec<String> {
    let line = |call: &Call| {
        let fields: Vec<_> = call
            .fields
            .iter()
            .filter(|(name, _)| *name != "ws_round_trip")
            .collect();
        format!("{} {:?} {:?}", call.method, call.outcome, fields)
    };
    calls.iter().map(line).collect()
}

/// Whether what a call says of its payload is of a message of this plan.
fn check(call: &Call, messages: &[Message]) -> Result<(), TestCaseError> {
    for name in ["ws_request_payload_data", "ws_response_payload_data"] {
        let Some(Value::Text(text)) = field(call, name) else {
            continue;
        };
        let by_client = name == "ws_request_payload_data";
        let whole = !call.marks.has(Marks::REQUEST_GAP) && !call.marks.has(Marks::RESPONSE_GAP);
        let fits = messages.iter().enumerate().any(|(n, message)| {
            let payload = said(n, message.len);
            let ping = message.kind == Kind::Ping;
            let expected = match message.kind {
                Kind::Binary => payload
                    .iter()
                    .take(1024)
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                Kind::Text | Kind::Ping => {
                    String::from_utf8_lossy(&payload[..payload.len().min(2048)]).into_owned()
                }
            };
            (message.by_client == by_client || ping)
                && if whole {
                    *text == expected
                } else {
                    expected.starts_with(&**text)
                }
        });
        prop_assert!(fits, "{} {} {:?}", call.method, text, call.marks);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_gives_the_same_calls(messages in prop::collection::vec(message(), 1..8), mss in 1..80usize) {
        let calls = ws(&talk(&messages, 1460).packets);
        prop_assert_eq!(calls.len(), messages.len());
        for call in &calls {
            check(call, &messages)?;
        }
        prop_assert_eq!(told(&ws(&talk(&messages, mss).packets)), told(&calls));
    }

    #[test]
    fn without_any_stretch_of_it_short_segments_give_no_wrong_field(
        messages in prop::collection::vec(message(), 1..8),
        (from, len, joined) in (any::<usize>(), any::<usize>(), any::<bool>()),
        mss in 1..9usize,
    ) {
        let talk = talk(&messages, 1460);
        let missing = talk.stretch(from, len, joined);
        for call in ws(&talk.again_without(missing, mss)) {
            check(&call, &messages)?;
        }
    }

    #[test]
    fn a_lost_segment_gives_no_wrong_field(
        messages in prop::collection::vec(message(), 1..8),
        mss in prop::sample::select(vec![40usize, 300, 1460]),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut packets = talk(&messages, mss).packets;
        packets.remove(lost.index(packets.len()));
        for call in ws(&packets) {
            check(&call, &messages)?;
        }
    }

    #[test]
    fn any_truncation_is_survived(
        messages in prop::collection::vec(message(), 1..6),
        cut in any::<prop::sample::Index>(),
        len in 0..1500usize,
    ) {
        let mut packets = talk(&messages, 300).packets;
        let n = cut.index(packets.len());
        packets[n].data.truncate(len);
        for call in ws(&packets) {
            check(&call, &messages)?;
        }
    }

    #[test]
    fn cut_at_any_packet(messages in prop::collection::vec(message(), 1..10), cut in any::<prop::sample::Index>()) {
        let packets = talk(&messages, 1460).packets;
        let cut = cut.index(packets.len());
        let whole = told(&ws(&packets));
        for call in ws(&packets[cut..]) {
            check(&call, &messages)?;
            // What is marked by nothing but the late join is told as it was.
            let rest = call.marks.0 & !(Marks::JOINED.0 | Marks::NO_REQUEST.0 | Marks::NO_RESPONSE.0);
            if rest == 0 && call.method != "pong" && call.method != "ping" {
                prop_assert!(whole.contains(&told(std::slice::from_ref(&call))[0]), "{:?}", call);
            }
        }
    }

    #[test]
    fn seen_by_both_ends_each_call_comes_once(messages in prop::collection::vec(message(), 1..10), delay in 0..5000u64) {
        let talk = talk(&messages, 1460);
        let mut packets: Vec<Recorded> = talk.seen_by(Who::Client, 0, 0);
        packets.extend(talk.seen_by(Who::Server, 1, delay));
        packets.sort_by_key(|packet| packet.ts);
        let calls = ws(&packets);
        prop_assert_eq!(calls.len(), messages.len());
        for call in &calls {
            check(call, &messages)?;
            prop_assert!(call.client_side.is_some() && call.server_side.is_some());
        }
    }
}
