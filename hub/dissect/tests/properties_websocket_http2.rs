//! What holds for WebSocket on streams of HTTP/2, however a connection is cut, lost, seen late or twice.

mod frames;
mod wire;

use frames::frame as ws;
use proptest::prelude::*;
use wire::{Encoder, data, frame};
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Value};

/// One message, as it is meant.
#[derive(Clone, Debug)]
struct Message {
    stream: u32,
    by_client: bool,
    ping: bool,
    len: usize,
    fragments: usize,
    /// Bytes of each frame of data.
    piece: usize,
}

fn message() -> impl Strategy<Value = Message> {
    (
        prop::sample::select(vec![1u32, 3]),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop_oneof![20..60usize, 100..140usize, 3000..4000usize],
        1..4usize,
        prop::sample::select(vec![3usize, 50, 16384, 16384]),
    )
        .prop_map(|(stream, by_client, ping, len, fragments, piece)| Message {
            stream,
            by_client,
            ping,
            len: if ping { len.min(120) } else { len },
            fragments,
            piece,
        })
}

/// What the nth message says: which it is, and bytes that could be taken for frames.
fn said(n: usize, len: usize) -> Vec<u8> {
    let text = format!("#{n}; \u{2}\u{3}quoted").into_bytes();
    text.into_iter().cycle().take(len).collect()
}

fn send(talk: &mut Talk, who: Who, message: &Message, bytes: &[u8]) {
    for (n, part) in bytes.chunks(message.piece).enumerate() {
        if n % 3 == 2 {
            // Padding, and a frame of no concern before it.
            let padded = [&[4][..], part, &[0; 4]].concat();
            talk.send(who, &frame(8, 0, message.stream, &[0, 0, 1, 0]));
            talk.send(who, &frame(0, 8, message.stream, &padded));
        } else {
            talk.send(who, &data(message.stream, part, false));
        }
    }
}

fn talk(messages: &[Message], mss: usize) -> Talk {
    let mut talk = wire::begun();
    let (mut client, mut server) = (Encoder::default(), Encoder::default());
    for stream in [1, 3] {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/live"),
            (":authority", "chat"),
        ];
        talk.ask(frame(1, 4, stream, &client.block(&fields)));
        talk.answer(frame(1, 4, stream, &server.block(&[(":status", "200")])));
    }
    talk.mss = mss;
    for (n, message) in messages.iter().enumerate() {
        let (who, other) = if message.by_client {
            (Who::Client, Who::Server)
        } else {
            (Who::Server, Who::Client)
        };
        let payload = said(n, message.len);
        if message.ping {
            send(&mut talk, who, message, &ws(who, 0x89, &payload));
            send(&mut talk, other, message, &ws(other, 0x8a, &payload));
            continue;
        }
        let parts: Vec<&[u8]> = payload
            .chunks(payload.len().div_ceil(message.fragments))
            .collect();
        for (part_n, part) in parts.iter().enumerate() {
            let first = u8::from(part_n == 0);
            let last = if part_n + 1 == parts.len() { 0x80 } else { 0 };
            send(&mut talk, who, message, &ws(who, first | last, part));
        }
    }
    talk.close();
    talk
}

fn calls(packets: &[Recorded]) -> Vec<Call> {
    let mut calls = dissect(packets).calls;
    calls.retain(|call| call.protocol == "ws");
    calls
}

/// What a call says, without times and packets.
fn told(calls: &[Call]) -> Vec<String> {
    let line = |call: &Call| {
        let fields = call.fields.iter().filter(|(name, _)| *name != "ws_round_trip");
        let fields: Vec<_> = fields.collect();
        format!("{} {:?} {:?}", call.method, call.outcome, fields)
    };
    calls.iter().map(line).collect()
}

/// Whether what a call says is of a message of this plan, and on the stream that it was said on.
fn check(call: &Call, messages: &[Message]) -> Result<(), TestCaseError> {
    let stream = wire::int(call, "http2_stream");
    for name in ["ws_request_payload_data", "ws_response_payload_data"] {
        let Some(Value::Text(text)) = wire::field(call, name) else {
            continue;
        };
        let whole = !call.marks.has(Marks::REQUEST_GAP) && !call.marks.has(Marks::RESPONSE_GAP);
        let fits = messages.iter().enumerate().any(|(n, message)| {
            let payload = said(n, message.len);
            let expected = String::from_utf8_lossy(&payload[..payload.len().min(2048)]).into_owned();
            stream == Some(i64::from(message.stream))
                && (message.by_client == (name == "ws_request_payload_data") || message.ping)
                && (*text == expected || (!whole && expected.starts_with(&**text)))
        });
        prop_assert!(fits, "{} {} {:?}", call.method, text, call.marks);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_chunking_gives_the_same_calls(messages in prop::collection::vec(message(), 1..8), mss in 1..80usize) {
        let whole = calls(&talk(&messages, 1460).packets);
        prop_assert_eq!(whole.len(), messages.len());
        for call in &whole {
            check(call, &messages)?;
        }
        prop_assert_eq!(told(&calls(&talk(&messages, mss).packets)), told(&whole));
    }

    #[test]
    fn a_lost_segment_gives_no_wrong_field(
        messages in prop::collection::vec(message(), 1..8),
        mss in prop::sample::select(vec![40usize, 300, 1460]),
        lost in any::<prop::sample::Index>(),
    ) {
        let mut packets = talk(&messages, mss).packets;
        packets.remove(lost.index(packets.len()));
        for call in calls(&packets) {
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
        for call in calls(&packets) {
            check(&call, &messages)?;
        }
    }

    #[test]
    fn any_bytes_changed_are_survived(
        messages in prop::collection::vec(message(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..20),
        joined in any::<bool>(),
    ) {
        let mut packets = talk(&messages, 300).packets;
        for (packet, at, byte) in changes {
            let n = packet.index(packets.len());
            // Behind the headers of IP and TCP.
            if let Some(payload) = packets[n].data.get_mut(40..).filter(|payload| !payload.is_empty()) {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
        }
        let from = if joined { packets.len() / 2 } else { 0 };
        let dissected = dissect(&packets[from..]);
        prop_assert_eq!(dissected.counters.calls as usize, dissected.calls.len());
    }

    #[test]
    fn cut_at_any_packet(messages in prop::collection::vec(message(), 1..10), cut in any::<prop::sample::Index>()) {
        let packets = talk(&messages, 1460).packets;
        let cut = cut.index(packets.len());
        let whole = told(&calls(&packets));
        for call in calls(&packets[cut..]) {
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
        let calls = calls(&packets);
        prop_assert_eq!(calls.len(), messages.len());
        for call in &calls {
            check(call, &messages)?;
            prop_assert!(call.client_side.is_some() && call.server_side.is_some());
        }
    }
}
