//! WebSocket, through packets.

mod frames;

use flate2::{Compress, Compression, FlushCompress};
use frames::{frame, upgraded};
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome, Value};

/// As in `limits.rs`.
const WS_PAYLOAD: usize = 2048;
const WS_INFLATED: usize = 64 << 10;
const WS_PINGS: usize = 64;

fn say(talk: &mut Talk, who: Who, first: u8, payload: impl AsRef<[u8]>) {
    let bytes = frame(who, first, payload.as_ref());
    talk.send(who, &bytes);
}

fn dissect_all(talk: &Talk) -> Dissected {
    dissect(&talk.packets)
}

/// The calls of WebSocket.
fn ws(dissected: &Dissected) -> Vec<&Call> {
    dissected
        .calls
        .iter()
        .filter(|call| call.protocol == "ws")
        .collect()
}

fn text<'c>(call: &'c Call, name: &str) -> &'c str {
    match call.fields.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Text(text))) => text,
        _ => "",
    }
}

fn number(call: &Call, name: &str) -> Option<i64> {
    match call.fields.iter().find(|(known, _)| *known == name) {
        Some((_, Value::Int(number))) => Some(*number),
        _ => None,
    }
}

/// What is said, by whom: `>` the client, `<` the server.
fn said(dissected: &Dissected) -> Vec<String> {
    let one = |call: &&Call| {
        let asked = text(call, "ws_request_payload_data");
        let answered = text(call, "ws_response_payload_data");
        let arrow = match (&call.request, &call.response) {
            (Some(_), None) => ">",
            (None, Some(_)) => "<",
            _ => "=",
        };
        format!("{arrow}{} {asked}{answered}", call.method)
    };
    ws(dissected).iter().map(one).collect()
}

#[test]
fn messages_of_both_ends_after_an_upgrade() {
    let mut talk = upgraded("");
    say(&mut talk, Who::Client, 0x81, "{\"op\":\"subscribe\"}");
    say(&mut talk, Who::Server, 0x81, "{\"event\":1}");
    say(&mut talk, Who::Server, 0x82, b"\x00\xff\x10");
    talk.close();
    let dissected = dissect_all(&talk);
    assert_eq!(
        said(&dissected),
        [
            ">text {\"op\":\"subscribe\"}",
            "<text {\"event\":1}",
            "<binary 00ff10"
        ]
    );
    let calls = ws(&dissected);
    // Whoever sent them.
    for call in &calls {
        let target = (&*call.path, &*call.query, &*call.authority);
        assert_eq!(target, ("/live", "room=7", "chat.example"));
    }
    assert_eq!(calls[0].outcome, Outcome::Ok);
    assert_eq!(number(calls[0], "ws_request_payload_length"), Some(18));
    assert_eq!(number(calls[1], "ws_response_payload_length"), Some(11));
    let message = calls[0].request.as_ref().expect("a request");
    assert_eq!(
        (message.head_len, message.body_len, message.wire_len),
        (6, 18, 24)
    );
    let upgrade = &dissected.calls[0];
    assert_eq!((upgrade.protocol, upgrade.status), ("http", Some(101)));
}

#[test]
fn a_message_in_fragments_with_a_ping_between_them() {
    let mut talk = upgraded("");
    say(&mut talk, Who::Client, 0x01, "one, ");
    say(&mut talk, Who::Client, 0x89, "are you there");
    say(&mut talk, Who::Server, 0x8a, "are you there");
    say(&mut talk, Who::Client, 0x00, "two, ");
    say(&mut talk, Who::Client, 0x80, "three");
    talk.close();
    let dissected = dissect_all(&talk);
    assert_eq!(
        said(&dissected),
        [">text one, two, three", "=ping are you thereare you there"]
    );
    let calls = ws(&dissected);
    assert_eq!(number(calls[0], "ws_frames"), Some(3));
    assert_eq!(number(calls[0], "ws_request_payload_length"), Some(15));
    assert_eq!(
        (calls[1].outcome, text(calls[1], "ws_by")),
        (Outcome::Ok, "client")
    );
}

#[test]
fn pings_of_the_server_answered_skipped_and_unanswered() {
    let mut talk = upgraded("");
    say(&mut talk, Who::Server, 0x89, "1");
    say(&mut talk, Who::Server, 0x89, "2");
    say(&mut talk, Who::Client, 0x8a, "2");
    say(&mut talk, Who::Client, 0x8a, "heartbeat");
    say(&mut talk, Who::Server, 0x89, "3");
    talk.close();
    let dissected = dissect_all(&talk);
    let told: Vec<_> = ws(&dissected)
        .iter()
        .map(|call| {
            (
                &*call.method,
                text(call, "ws_response_payload_data").to_owned(),
                call.outcome,
            )
        })
        .collect();
    let expected = [
        ("ping", "1".to_owned(), Outcome::Unknown),
        ("ping", "2".to_owned(), Outcome::Ok),
        ("pong", String::new(), Outcome::Ok),
        ("ping", "3".to_owned(), Outcome::NoResponse),
    ];
    for one in &expected {
        assert!(told.contains(one), "{one:?} in {told:?}");
    }
    assert_eq!(told.len(), expected.len());
    let answered = ws(&dissected)
        .into_iter()
        .find(|call| call.method == "ping" && call.request.is_some());
    assert_eq!(answered.and_then(|call| number(call, "ws_round_trip")), Some(1));
}

#[test]
fn closed_by_code() {
    for (by, code, outcome, error) in [
        (Who::Client, 1000_u16, Outcome::Ok, ""),
        (Who::Server, 1011, Outcome::ServerError, "internal_error"),
        (Who::Server, 1008, Outcome::ClientError, "policy_violation"),
        (Who::Client, 4002, Outcome::Unknown, "code 4002"),
    ] {
        let mut talk = upgraded("");
        let payload = [&code.to_be_bytes(), b"so long".as_slice()].concat();
        let other = if by == Who::Client {
            Who::Server
        } else {
            Who::Client
        };
        say(&mut talk, by, 0x88, &payload);
        say(&mut talk, other, 0x88, code.to_be_bytes());
        talk.close();
        let dissected = dissect_all(&talk);
        let [call] = ws(&dissected)[..] else {
            panic!("one call, {:?}", said(&dissected));
        };
        assert_eq!((&*call.method, call.outcome), ("close", outcome));
        assert_eq!(call.status, Some(i32::from(code)));
        assert_eq!(number(call, "ws_close_code"), Some(i64::from(code)));
        assert_eq!(
            (text(call, "ws_close_reason"), text(call, "error")),
            ("so long", error)
        );
    }
}

/// Messages compressed one after the other, without the bytes that are taken off.
fn deflated(messages: &[&str], takeover: bool) -> Vec<Vec<u8>> {
    let mut encoder = Compress::new(Compression::default(), false);
    let mut all = Vec::new();
    for message in messages {
        if !takeover {
            encoder.reset();
        }
        let mut bytes = Vec::with_capacity(message.len() + 128);
        encoder
            .compress_vec(message.as_bytes(), &mut bytes, FlushCompress::Sync)
            .expect("compressible");
        assert_eq!(bytes.split_off(bytes.len() - 4), [0, 0, 0xff, 0xff]);
        all.push(bytes);
    }
    all
}

/// Digits in no order, which do not compress to less than some four bits each.
fn digits(seed: u32, count: u32) -> String {
    let mut state = seed;
    let mut digit = |_| {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        char::from(b'0' + (state >> 16) as u8 % 10)
    };
    (0..count).map(&mut digit).collect()
}

const QUOTES: [&str; 3] = [
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.25\",\"ask\":\"101.50\"}",
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.50\",\"ask\":\"101.75\"}",
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.75\",\"ask\":\"102.00\"}",
];

#[test]
fn compressed_messages_that_refer_to_earlier_ones() {
    let mut talk = upgraded("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    for bytes in deflated(&QUOTES, true) {
        say(&mut talk, Who::Server, 0xc1, bytes);
    }
    talk.close();
    let dissected = dissect_all(&talk);
    assert_eq!(said(&dissected), QUOTES.map(|quote| format!("<text {quote}")));
}

#[test]
fn compressed_in_fragments_over_small_segments() {
    let mut talk = upgraded("Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n");
    talk.mss = 7;
    for bytes in deflated(&QUOTES, false) {
        let (first, rest) = bytes.split_at(9);
        say(&mut talk, Who::Client, 0x41, first);
        say(&mut talk, Who::Client, 0x80, rest);
    }
    talk.close();
    assert_eq!(
        said(&dissect_all(&talk)),
        QUOTES.map(|quote| format!(">text {quote}"))
    );
}

/// Once all that is shown is known, the rest is passed over, and the decoder stands wherever that was.
#[test]
fn compressed_by_itself_and_longer_than_is_shown() {
    let mut encoder = Compress::new(Compression::default(), false);
    let [shown, rest] = [1, 2].map(|seed| {
        let mut bytes = Vec::with_capacity(8192);
        encoder
            .compress_vec(digits(seed, 4000).as_bytes(), &mut bytes, FlushCompress::Sync)
            .expect("compressible");
        bytes
    });
    // In the middle of what says how the next block is coded, what closes a message makes no sense.
    for len in 1..40 {
        let mut talk =
            upgraded("Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n");
        // So that all of the first frame is inflated at once.
        talk.mss = 4096;
        let (begun, rest) = rest[..rest.len() - 4].split_at(len);
        say(&mut talk, Who::Client, 0x41, [&shown, begun].concat());
        say(&mut talk, Who::Client, 0x80, rest);
        say(&mut talk, Who::Client, 0xc1, &deflated(&QUOTES, false)[0]);
        talk.close();
        let expected = [&digits(1, 4000)[..WS_PAYLOAD], QUOTES[0]].map(|text| format!(">text {text}"));
        assert_eq!(said(&dissect_all(&talk)), expected, "{len}");
    }
}

#[test]
fn a_lost_message_takes_the_context_with_it() {
    for (takeover, last) in [
        (true, "<text "),
        (
            false,
            "<text {\"symbol\":\"ABCDEF\",\"bid\":\"101.75\",\"ask\":\"102.00\"}",
        ),
    ] {
        let extension = if takeover {
            ""
        } else {
            "; server_no_context_takeover"
        };
        let mut talk = upgraded(&format!(
            "Sec-WebSocket-Extensions: permessage-deflate{extension}\r\n"
        ));
        for bytes in deflated(&QUOTES, takeover) {
            say(&mut talk, Who::Server, 0xc1, &bytes);
            // Without compression, so that the place is found again.
            say(
                &mut talk,
                Who::Server,
                0x81,
                "a line of text that tells where we are",
            );
            talk.ack(Who::Client);
        }
        talk.close();
        let mut packets = talk.packets.clone();
        packets.remove(5 + 3);
        let dissected = dissect(&packets);
        let said = said(&dissected);
        assert_eq!(
            said.first().map(String::as_str),
            Some(&*format!("<text {}", QUOTES[0]))
        );
        assert!(!said.iter().any(|said| said.contains("101.50\",\"ask\":\"101.75")));
        assert_eq!(said[said.len() - 2], last, "{said:?}");
    }
}

#[test]
fn joined_in_the_middle() {
    let mut talk = upgraded("");
    let before = talk.packets.len();
    for n in 0..5 {
        say(
            &mut talk,
            Who::Client,
            0x81,
            format!("{{\"op\":\"get\",\"n\":{n}}}"),
        );
        say(
            &mut talk,
            Who::Server,
            0x81,
            format!("{{\"op\":\"got\",\"n\":{n}}}"),
        );
    }
    talk.close();
    let whole = said(&dissect_all(&talk));
    for cut in before..before + 4 {
        let dissected = dissect(&talk.packets[cut..]);
        let joined = said(&dissected);
        assert!(joined.len() >= 6, "{joined:?}");
        assert_eq!(joined, whole[whole.len() - joined.len()..]);
        assert!(ws(&dissected).iter().all(|call| call.marks.has(Marks::JOINED)));
    }
}

#[test]
fn a_gap_in_a_payload_costs_those_bytes() {
    let mut talk = upgraded("");
    talk.mss = 100;
    say(&mut talk, Who::Client, 0x81, "x".repeat(1000));
    say(&mut talk, Who::Client, 0x81, "next");
    talk.ack(Who::Server).close();
    let mut packets = talk.packets.clone();
    // Behind the handshake, the request and the response: in the middle of the long message.
    packets.remove(12);
    let dissected = dissect(&packets);
    let calls = ws(&dissected);
    assert_eq!(calls.len(), 2);
    assert!(calls[0].marks.has(Marks::REQUEST_GAP));
    assert_eq!(number(calls[0], "ws_request_payload_length"), Some(1000));
    assert_eq!(text(calls[1], "ws_request_payload_data"), "next");
}

#[test]
fn the_first_message_after_the_upgrade_is_lost() {
    let mut talk = upgraded("");
    say(&mut talk, Who::Server, 0x81, "y".repeat(2000));
    say(
        &mut talk,
        Who::Server,
        0x81,
        "what comes behind it is found again",
    );
    talk.ack(Who::Client);
    say(&mut talk, Who::Client, 0x81, "ok");
    talk.close();
    let mut packets = talk.packets.clone();
    packets.remove(5);
    let said = said(&dissect(&packets));
    assert_eq!(said, ["<text what comes behind it is found again", ">text ok"]);
}

#[test]
fn seen_by_both_ends_each_message_is_one_call() {
    let mut talk = upgraded("");
    say(&mut talk, Who::Client, 0x89, "a");
    for n in 0..20 {
        say(&mut talk, Who::Client, 0x81, format!("question {n}"));
        say(&mut talk, Who::Server, 0x81, format!("answer {n}"));
    }
    say(&mut talk, Who::Server, 0x8a, "a");
    talk.close();
    let mut packets: Vec<Recorded> = talk.seen_by(Who::Client, 0, 0);
    packets.extend(talk.seen_by(Who::Server, 1, 500));
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    let calls = ws(&dissected);
    assert_eq!(calls.len(), 41);
    assert!(
        calls
            .iter()
            .all(|call| call.client_side.is_some() && call.server_side.is_some())
    );
}

#[test]
fn what_inflates_beyond_the_limit_is_not_inflated_further() {
    // It shrinks a thousandfold, so that its own bytes add little to what it may become.
    let bomb = "0".repeat(WS_INFLATED + 100_000);
    let fits = "0".repeat(WS_INFLATED);
    for (message, stopped) in [(fits, 0), (bomb, 1)] {
        let mut talk = upgraded("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        let mut encoder = Compress::new(Compression::best(), false);
        for text in [message.as_str(), "0000"] {
            let mut bytes = Vec::with_capacity(64 << 10);
            encoder
                .compress_vec(text.as_bytes(), &mut bytes, FlushCompress::Sync)
                .expect("compressible");
            bytes.truncate(bytes.len() - 4);
            say(&mut talk, Who::Client, 0xc1, bytes);
        }
        talk.close();
        let dissected = dissect_all(&talk);
        assert_eq!(dissected.counters.ws_inflation_stopped, stopped);
        let calls = ws(&dissected);
        assert_eq!(text(calls[0], "ws_request_payload_data").len(), WS_PAYLOAD);
        let next = text(calls[1], "ws_request_payload_data");
        assert_eq!(next, if stopped == 0 { "0000" } else { "" });
    }
}

#[test]
fn pings_without_pongs_are_given_up_beyond_the_limit() {
    let mut talk = upgraded("");
    for n in 0..=WS_PINGS {
        say(&mut talk, Who::Client, 0x89, format!("{n}"));
    }
    talk.close();
    let dissected = dissect_all(&talk);
    assert_eq!(dissected.counters.ws_pings_dropped, 1);
    assert_eq!(ws(&dissected).len(), WS_PINGS + 1);
}

#[test]
fn a_message_by_itself_is_inflated_up_to_the_limit_where_the_context_is_lost() {
    for (count, shown) in [(1000, true), (20_000, false)] {
        let mut talk = upgraded("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        for message in [digits(1, 10), digits(1, count)] {
            // Each refers to nothing, though the ends have not agreed on that.
            for bytes in deflated(&[&message], true) {
                say(&mut talk, Who::Client, 0xc1, &bytes);
            }
            say(
                &mut talk,
                Who::Client,
                0x81,
                "a line of text that tells where we are",
            );
            talk.ack(Who::Server);
        }
        talk.close();
        let mut packets = talk.packets.clone();
        // The first message.
        packets.remove(5);
        let dissected = dissect(&packets);
        let calls = ws(&dissected);
        let found = calls
            .iter()
            .find(|call| call.fields.iter().any(|(name, _)| *name == "ws_compressed"));
        let data = found.map(|call| text(call, "ws_request_payload_data"));
        let expected = if shown { digits(1, count) } else { String::new() };
        assert_eq!(data, Some(expected.as_str()), "{count}");
        assert_eq!(dissected.counters.texts_cut, u64::from(!shown));
    }
}
