//! WebSocket on streams of HTTP/2, through packets.

mod frames;
mod wire;

use flate2::{Compress, Compression, FlushCompress};
use frames::frame as ws;
use wire::{PREFACE, begun, data, field, frame, headers, int, reset, settings, text, trailers};
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome, Value};

/// The request for a stream of WebSocket.
fn connect(path: &str) -> wire::Wire {
    headers(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "chat.example"),
    ])
}

/// A connection on which a stream of WebSocket was opened, with fields of the response.
fn opened(stream: u32, fields: &[(&str, &str)]) -> Talk {
    let mut talk = begun();
    talk.ask(connect("/live?room=7").on(stream));
    let response = [&[(":status", "200")], fields].concat();
    talk.answer(headers(&response).on(stream));
    talk
}

/// A frame of WebSocket in a frame of data.
fn say(talk: &mut Talk, who: Who, stream: u32, first: u8, payload: impl AsRef<[u8]>) {
    talk.send(who, &data(stream, &ws(who, first, payload.as_ref()), false));
}

fn of_ws(dissected: &Dissected) -> Vec<&Call> {
    let calls = dissected.calls.iter();
    calls.filter(|call| call.protocol == "ws").collect()
}

/// What is said on which stream, by whom: `>` the client, `<` the server.
fn said(dissected: &Dissected) -> Vec<String> {
    let one = |call: &&Call| {
        let said = ["ws_request_payload_data", "ws_response_payload_data"];
        let said: String = said.iter().filter_map(|name| text(call, name)).collect();
        let arrow = match (&call.request, &call.response) {
            (Some(_), None) => ">",
            (None, Some(_)) => "<",
            _ => "=",
        };
        let stream = int(call, "http2_stream").unwrap_or_default();
        format!("{stream}{arrow}{} {said}", call.method)
    };
    of_ws(dissected).iter().map(one).collect()
}

#[test]
fn messages_after_an_extended_connect() {
    let mut talk = opened(1, &[]);
    say(&mut talk, Who::Client, 1, 0x81, "{\"op\":\"subscribe\"}");
    say(&mut talk, Who::Server, 1, 0x81, "{\"event\":1}");
    say(&mut talk, Who::Server, 1, 0x89, "beat");
    say(&mut talk, Who::Client, 1, 0x8a, "beat");
    say(&mut talk, Who::Client, 1, 0x88, 1000_u16.to_be_bytes());
    say(&mut talk, Who::Server, 1, 0x88, 1000_u16.to_be_bytes());
    talk.ask(data(1, b"", true)).answer(data(1, b"", true)).close();
    let dissected = dissect(&talk.packets);
    assert_eq!(
        said(&dissected),
        [
            "1>text {\"op\":\"subscribe\"}",
            "1<text {\"event\":1}",
            "1=ping beatbeat",
            "1=close "
        ]
    );
    let connect = &dissected.calls[0];
    assert_eq!(
        (connect.protocol, &*connect.method, connect.status),
        ("http", "CONNECT", Some(200))
    );
    assert_eq!(text(connect, "http2_connect_protocol"), Some("websocket"));
    let calls = of_ws(&dissected);
    assert!(calls.iter().all(|call| call.path == "/live"));
    let [message, ..] = calls[..] else {
        panic!("{:?}", said(&dissected));
    };
    assert_eq!(
        (
            message.query.as_str(),
            message.authority.as_str(),
            message.version
        ),
        ("room=7", "chat.example", "13")
    );
    let request = message.request.as_ref().expect("a request");
    assert_eq!(
        (request.head_len, request.body_len, request.packets.len()),
        (6, 18, 1)
    );
    // Where it stands in the connection: behind the head of its frame of data.
    let packet = &talk.packets[request.packets[0] as usize];
    let seq = u32::from_be_bytes(packet.data[24..28].try_into().unwrap());
    assert_eq!(request.seq, seq + 9);
    assert!(calls.iter().all(|call| call.outcome == Outcome::Ok));
    assert_eq!(
        (dissected.counters.resyncs, dissected.counters.skipped_bytes),
        (0, 0)
    );
}

#[test]
fn frames_and_frames_of_data_that_do_not_agree() {
    // Two messages and a half in one frame of data, the rest byte by byte, with padding and other streams between.
    let all: Vec<u8> = [
        ws(Who::Client, 0x81, b"one"),
        ws(Who::Client, 0x01, b"two, "),
        ws(Who::Client, 0x80, b"three"),
        ws(Who::Client, 0x82, &[7; 300]),
    ]
    .concat();
    for mss in [1, 11, 1460] {
        for first in (0..24).chain((24..all.len()).step_by(97)) {
            let mut talk = opened(1, &[]);
            talk.mss = mss;
            talk.ask(wire::Wire::post("/other").on(3));
            let (together, rest) = all.split_at(first);
            talk.ask(data(1, together, false));
            for (n, part) in rest.chunks(3).enumerate() {
                let padded = [&[2][..], part, &[0, 0]].concat();
                talk.ask(frame(0, 8, 1, &padded));
                if n % 4 == 0 {
                    talk.ask(data(3, b"body of another stream", false));
                }
            }
            talk.close();
            let dissected = dissect(&talk.packets);
            let hex = "07".repeat(300);
            let expected = [
                "1>text one".to_owned(),
                "1>text two, three".to_owned(),
                format!("1>binary {hex}"),
            ];
            assert_eq!(said(&dissected), expected, "{first} {mss}");
        }
    }
}

#[test]
fn streams_beside_each_other() {
    let mut talk = opened(1, &[]);
    talk.ask(connect("/other").on(3))
        .answer(wire::Wire::status(200).on(3));
    for n in 0..3 {
        for stream in [1, 3] {
            let text = format!("{n} on {stream}");
            let bytes = ws(Who::Server, 0x81, text.as_bytes());
            let (begin, rest) = bytes.split_at(4);
            talk.answer([data(stream, begin, false), data(4 - stream, b"", false)].concat());
            talk.answer(data(stream, rest, false));
        }
    }
    // One of them is given up, the other one goes on.
    say(&mut talk, Who::Server, 1, 0x89, "1");
    say(&mut talk, Who::Server, 3, 0x89, "3");
    talk.ask(reset(1, 2));
    say(&mut talk, Who::Client, 3, 0x8a, "3");
    talk.close();
    let dissected = dissect(&talk.packets);
    let mut told = said(&dissected);
    told.sort();
    let texts = |stream: u32| (0..3).map(move |n| format!("{stream}<text {n} on {stream}"));
    let mut expected: Vec<String> = texts(1).chain(texts(3)).collect();
    expected.extend(["1<ping 1".to_owned(), "3=ping 33".to_owned()]);
    expected.sort();
    assert_eq!(told, expected);
    let given_up = of_ws(&dissected)
        .into_iter()
        .find(|call| call.method == "ping" && call.request.is_none());
    assert!(given_up.is_some_and(|call| call.marks.has(Marks::RESET) && call.outcome == Outcome::NoResponse));
}

#[test]
fn what_is_refused_or_is_something_else_is_no_websocket() {
    let mut talk = begun();
    talk.ask(connect("/forbidden").on(1));
    talk.answer([wire::Wire::status(403).on(1), data(1, b"\x81\x02no", true)].concat());
    talk.ask(data(1, b"", true));
    let other = headers(&[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "http"),
        (":path", "/u"),
    ]);
    talk.ask(other.on(3)).answer(wire::Wire::status(200).on(3));
    talk.ask(data(3, &ws(Who::Client, 0x81, b"hello"), true));
    talk.answer([data(3, b"\x81\x02hi", false), trailers(&[("x", "y")]).end(3)].concat())
        .close();
    let dissected = dissect(&talk.packets);
    assert_eq!(said(&dissected), [""; 0]);
    assert_eq!(dissected.calls.len(), 2);
    let tunnel = &dissected.calls[1];
    assert_eq!(tunnel.request.as_ref().map(|half| half.body_len), Some(11));
    assert_eq!(tunnel.response.as_ref().map(|half| half.body_len), Some(4));
}

/// Messages compressed one after the other, without the bytes that are taken off.
fn deflated(messages: &[&str]) -> Vec<Vec<u8>> {
    let mut encoder = Compress::new(Compression::default(), false);
    let one = |message: &&str| {
        let mut bytes = Vec::with_capacity(message.len() + 128);
        let compressed = encoder.compress_vec(message.as_bytes(), &mut bytes, FlushCompress::Sync);
        compressed.expect("compressible");
        assert_eq!(bytes.split_off(bytes.len() - 4), [0, 0, 0xff, 0xff]);
        bytes
    };
    messages.iter().map(one).collect()
}

const QUOTES: [&str; 3] = [
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.25\",\"ask\":\"101.50\"}",
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.50\",\"ask\":\"101.75\"}",
    "{\"symbol\":\"ABCDEF\",\"bid\":\"101.75\",\"ask\":\"102.00\"}",
];

#[test]
fn compressed_messages_and_one_that_is_lost() {
    let mut talk = opened(1, &[("sec-websocket-extensions", "permessage-deflate")]);
    for bytes in deflated(&QUOTES) {
        say(&mut talk, Who::Server, 1, 0xc1, bytes);
        talk.ack(Who::Client);
    }
    talk.close();
    assert_eq!(
        said(&dissect(&talk.packets)),
        QUOTES.map(|quote| format!("1<text {quote}"))
    );
    // The second one is gone, and the third refers to it. What is known is that there was something.
    let mut packets = talk.packets.clone();
    packets.remove(8 + 2);
    let dissected = dissect(&packets);
    assert_eq!(said(&dissected)[0], format!("1<text {}", QUOTES[0]));
    assert!(!said(&dissected).iter().any(|said| said.contains("101.75")));
    assert!(
        of_ws(&dissected)[1..]
            .iter()
            .all(|call| call.marks.has(Marks::AFTER_GAP))
    );
}

#[test]
fn bytes_missing_inside_a_message() {
    let mut talk = opened(1, &[]);
    talk.mss = 100;
    say(&mut talk, Who::Server, 1, 0x81, [b'x'; 950]);
    say(&mut talk, Who::Server, 1, 0x81, "whole");
    talk.close();
    let lost = talk
        .packets
        .iter()
        .position(|packet| packet.data.ends_with(b"xxxx"))
        .unwrap()
        + 2;
    talk.packets.remove(lost);
    let dissected = dissect(&talk.packets);
    let [cut, whole] = of_ws(&dissected)[..] else {
        panic!("{:?}", said(&dissected));
    };
    assert_eq!(
        (int(cut, "ws_response_payload_length"), cut.outcome),
        (Some(950), Outcome::Unknown)
    );
    assert_eq!(cut.response.as_ref().map(|half| half.missing), Some(100));
    assert!(cut.marks.has(Marks::RESPONSE_GAP) && !whole.marks.has(Marks::AFTER_GAP));
    assert_eq!(text(whole, "ws_response_payload_data"), Some("whole"));
}

/// A stream of WebSocket that goes on for long, beside other calls.
fn under_way() -> Talk {
    let mut talk = opened(1, &[]);
    for n in 0..6 {
        say(&mut talk, Who::Client, 1, 0x81, format!("{{\"ask\":{n}}}"));
        say(
            &mut talk,
            Who::Server,
            1,
            0x81,
            format!("{{\"answer\":{n},\"text\":\"as asked\"}}"),
        );
        talk.ask(wire::Wire::get("/beside").end(3 + 2 * n));
        talk.answer(
            [
                wire::Wire::status(200).on(3 + 2 * n),
                data(3 + 2 * n, b"{}", true),
            ]
            .concat(),
        );
    }
    talk.close();
    talk
}

#[test]
fn joined_in_the_middle_of_a_stream() {
    let packets = under_way().packets;
    let whole = said(&dissect(&packets));
    assert_eq!(whole.len(), 12);
    // Behind the response to CONNECT.
    for cut in 8..packets.len() {
        let dissected = dissect(&packets[cut..]);
        let told = said(&dissected);
        assert!(told.iter().all(|said| whole.contains(said)), "{cut} {told:?}");
        if cut < 18 {
            assert!(told.len() >= 6, "{cut} {told:?}");
        }
        for call in of_ws(&dissected) {
            assert!(call.marks.has(Marks::JOINED) && call.path.is_empty());
        }
        assert!(
            dissected
                .calls
                .iter()
                .all(|call| call.protocol == "ws" || call.request.is_some() || cut > 8)
        );
    }
}

#[test]
fn a_body_that_is_not_websocket_is_not_taken_for_it_at_a_join() {
    let mut talk = begun();
    talk.ask(wire::Wire::post("/upload").on(1))
        .answer(wire::Wire::status(200).on(1));
    for n in 0..100_u8 {
        talk.ask(data(1, &[b"\0\0\0\0\x05".as_slice(), &[n; 5]].concat(), false));
        talk.answer(data(1, format!("{{\"line\": {n}}}\n").as_bytes(), false));
    }
    talk.close();
    let dissected = dissect(&talk.packets[8..]);
    assert_eq!(said(&dissected), [""; 0]);
}

#[test]
fn a_connect_whose_fields_are_told_by_reference() {
    let mut talk = begun();
    let mut client = wire::Encoder::default();
    for stream in [1, 3] {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/live"),
            (":authority", "chat"),
        ];
        talk.ask(frame(1, 4, stream, &client.block(&fields)));
        talk.answer(wire::Wire::status(200).on(stream));
        for n in 0..4 {
            say(
                &mut talk,
                Who::Client,
                stream,
                0x81,
                format!("{{\"ask\":{n}}} on {stream}"),
            );
            say(
                &mut talk,
                Who::Server,
                stream,
                0x81,
                format!("{{\"answer\":{n}}} on {stream}"),
            );
        }
    }
    talk.close();
    let second = talk.packets.len() - 3 - 10;
    let dissected = dissect(&talk.packets[second..]);
    assert_eq!(said(&dissected).len(), 8, "{:?}", said(&dissected));
    let http = dissected
        .calls
        .iter()
        .find(|call| call.protocol == "http")
        .expect("the CONNECT");
    assert!(http.marks.has(Marks::HEADERS_UNRESOLVED));
}

#[test]
fn a_padded_frame_of_which_only_the_head_was_recorded() {
    let mut talk = opened(1, &[]);
    let message = ws(Who::Server, 0x81, b"one two three four");
    for (n, part) in message.chunks(5).enumerate() {
        talk.answer(frame(0, 8, 1, &[&[2][..], part, &[0; 2]].concat()));
        if n == 1 {
            // The headers of IP and TCP, and the frame's own: not how much of it is padding.
            talk.packets.last_mut().unwrap().data.truncate(40 + 9);
        }
    }
    say(&mut talk, Who::Server, 1, 0x81, "five, behind the gap");
    say(&mut talk, Who::Server, 1, 0x81, "six");
    talk.close();
    let dissected = dissect(&talk.packets);
    // Nobody knows how far the message goes: what is shown of it ends with the gap, and the next one begins a frame.
    assert_eq!(
        said(&dissected),
        ["1<text one", "1<text five, behind the gap", "1<text six"]
    );
    assert!(of_ws(&dissected)[0].marks.has(Marks::RESPONSE_GAP));
}

#[test]
fn recorded_at_both_ends() {
    let talk = under_way();
    let mut packets: Vec<Recorded> = talk.seen_by(Who::Client, 0, 0);
    packets.extend(talk.seen_by(Who::Server, 1, 300));
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    assert_eq!((said(&dissected).len(), dissected.calls.len()), (12, 19));
    for call in &dissected.calls {
        assert!(
            call.client_side.is_some() && call.server_side.is_some(),
            "{call:?}"
        );
    }
    assert!(field(of_ws(&dissected)[0], "ws_request").is_some_and(|told| *told == Value::Bool(true)));
}

#[test]
fn an_upgrade_of_http_1_before_it() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask(
        "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
    );
    talk.answer(
        [
            &b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"[..],
            &settings(),
            &wire::Wire::status(204).end(1),
        ]
        .concat(),
    );
    talk.ask([PREFACE, &settings(), &connect("/live").on(3)].concat());
    talk.answer(wire::Wire::status(200).on(3));
    say(&mut talk, Who::Client, 3, 0x81, "hello");
    talk.close();
    assert_eq!(said(&dissect(&talk.packets)), ["3>text hello"]);
}
