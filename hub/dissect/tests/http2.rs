//! Situations of HTTP/2, through packets.

mod wire;

use wire::{
    PREFACE, Wire, begun, check, data, field, frame, headers, int, literal, reset, settings, text, trailers,
};
use wiretape_dissect::testing::{Talk, dissect};
use wiretape_dissect::{Call, Value};

#[test]
fn a_get_and_its_answer() {
    let mut talk = begun();
    talk.ask(Wire::get("/a?b=c").end(1));
    talk.answer(
        [
            Wire::status(200).field("content-type", "text/plain").on(1),
            data(1, b"hello", true),
        ]
        .concat(),
    );
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200 ok"]);
    let call = &dissected.calls[0];
    assert_eq!((call.protocol, call.version), ("http", "HTTP/2"));
    assert_eq!((call.query.as_str(), call.authority.as_str()), ("b=c", "shop"));
    let response = call.response.as_ref().unwrap();
    assert_eq!(
        response.headers.iter().collect::<Vec<_>>(),
        [("content-type", "text/plain")]
    );
    assert_eq!((response.body_len, response.wire_len), (5, response.head_len + 5));
    assert_eq!(response.packets.len(), 1);
    assert_eq!(int(call, "http2_stream"), Some(1));
}

#[test]
fn streams_one_among_the_other() {
    let mut talk = begun();
    talk.ask(
        [
            Wire::post("/slow").on(1),
            Wire::get("/fast").end(3),
            data(1, b"ab", false),
        ]
        .concat(),
    );
    talk.answer([Wire::status(200).on(3), data(3, b"1", false)].concat());
    talk.ask(data(1, b"cd", true));
    talk.answer(
        [
            Wire::status(201).on(1),
            data(3, b"23", true),
            data(1, b"xyz", true),
        ]
        .concat(),
    );
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /fast 200 ok", "POST /slow 201 ok"]);
    let [fast, slow] = &dissected.calls[..] else {
        panic!()
    };
    let bodies = |call: &Call| {
        (
            call.request.as_ref().unwrap().body_len,
            call.response.as_ref().unwrap().body_len,
        )
    };
    assert!(slow.path == "/fast" || fast.path == "/slow" || slow.path == "/slow");
    for call in [fast, slow] {
        let expected = if call.path == "/slow" { (4, 3) } else { (0, 3) };
        assert_eq!(bodies(call), expected, "{}", call.path);
    }
}

#[test]
fn padding_priority_and_frames_of_no_concern() {
    let mut talk = begun();
    let block = Wire::get("/padded").block;
    let mut payload = vec![3, 0x80, 0, 0, 0, 16];
    payload.extend_from_slice(&block);
    payload.extend_from_slice(&[0; 3]);
    talk.ask(frame(6, 0, 0, b"12345678"));
    talk.ask(
        [
            frame(2, 0, 1, &[0, 0, 0, 0, 5]),
            frame(1, 0x2d, 1, &payload),
            frame(8, 0, 1, &[0, 0, 1, 0]),
        ]
        .concat(),
    );
    talk.ask(frame(0xb7, 0x55, 77, b"an extension"));
    talk.ask(frame(0x10, 0, 0, b"\0\0\0\x01u=1"));
    talk.answer(
        [
            frame(0xa, 0, 0, b"\0\x04shoph2=\":1\""),
            frame(0xc, 0, 0, b"\0\x0chttp://other"),
        ]
        .concat(),
    );
    talk.answer([Wire::status(200).on(1), frame(0, 9, 1, b"\x02hello\0\0")].concat());
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /padded 200 ok"]);
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().body_len, 5);
    assert_eq!(dissected.counters.resyncs, 0);
}

#[test]
fn a_header_block_over_many_frames() {
    let mut talk = begun();
    let wire = Wire::get("/long").field("x-long", &"v".repeat(300));
    let mut parts = wire.block.chunks(7);
    let mut bytes = frame(1, 1, 1, parts.next().unwrap());
    for part in parts {
        bytes.extend(frame(9, 0, 1, part));
    }
    bytes.extend(frame(9, 4, 1, b""));
    talk.ask(&bytes);
    talk.answer(Wire::status(204).end(1));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /long 204 ok"]);
    let request = dissected.calls[0].request.as_ref().unwrap();
    assert_eq!(request.headers.get("x-long").map(str::len), Some(300));
    assert_eq!(request.wire_len, bytes.len() as u64);
}

#[test]
fn interim_responses_and_trailers() {
    let mut talk = begun();
    talk.ask([Wire::post("/t").field("expect", "100-continue").on(1)].concat());
    talk.answer(Wire::status(100).on(1));
    talk.ask([data(1, b"x", false), trailers(&[("sum", "1")]).end(1)].concat());
    talk.answer(
        [
            Wire::status(103).field("link", "l").on(1),
            Wire::status(200).on(1),
            data(1, b"y", false),
        ]
        .concat(),
    );
    talk.answer(trailers(&[("digest", "2")]).end(1));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /t 200 ok"]);
    let call = &dissected.calls[0];
    assert_eq!(call.request.as_ref().unwrap().headers.get("sum"), Some("1"));
    let response = &call.response.as_ref().unwrap().headers;
    assert_eq!((response.get("digest"), response.get("link")), (Some("2"), None));
}

#[test]
fn a_pushed_stream() {
    let mut talk = begun();
    talk.ask(Wire::get("/page").end(1));
    let mut promise = 2_u32.to_be_bytes().to_vec();
    promise.extend_from_slice(&Wire::get("/style").block);
    talk.answer([frame(5, 4, 1, &promise), Wire::status(200).end(1)].concat());
    talk.answer([Wire::status(200).on(2), data(2, b"css", true)].concat());
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /page 200 ok", "GET /style 200 ok"]);
    let pushed = dissected.calls.iter().find(|call| call.path == "/style").unwrap();
    assert_eq!(field(pushed, "http2_pushed"), Some(&Value::Bool(true)));
}

#[test]
fn tunnels() {
    let mut talk = begun();
    talk.ask(
        [
            headers(&[(":method", "CONNECT"), (":authority", "db:5432")]).on(1),
            data(1, b"sql", false),
        ]
        .concat(),
    );
    let websocket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "shop"),
    ];
    talk.ask(headers(&websocket).on(3));
    talk.answer(
        [
            Wire::status(200).on(1),
            data(1, b"rows", true),
            Wire::status(200).end(3),
        ]
        .concat(),
    );
    talk.ask([data(1, b"", true), data(3, b"", true)].concat());
    let dissected = dissect(&talk.packets);
    check(&dissected, &["CONNECT  200 ok", "CONNECT /chat 200 ok"]);
    let chat = dissected.calls.iter().find(|call| call.path == "/chat").unwrap();
    assert_eq!(text(chat, "http2_connect_protocol"), Some("websocket"));
    assert!(dissected.calls.iter().any(|call| call.authority == "db:5432"));
}

#[test]
fn an_upgrade_from_http_1() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("GET /up?x=y HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n");
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    talk.answer(
        [
            &switch[..],
            &settings(),
            &Wire::status(200).on(1),
            &data(1, b"hi", true),
        ]
        .concat(),
    );
    talk.ask([PREFACE, &settings(), &Wire::get("/next").end(3)].concat());
    talk.answer(Wire::status(404).end(3));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /up 200 ok", "GET /next 404 client_error"]);
    let call = &dissected.calls[0];
    assert_eq!(
        (call.version, call.query.as_str(), call.authority.as_str()),
        ("HTTP/2", "x=y", "shop")
    );
    assert_eq!(
        call.request.as_ref().unwrap().headers.get("http2-settings"),
        Some("AAA")
    );
}

#[test]
fn an_upgrade_whose_request_has_a_body() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("POST /up HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nContent-Length: 30\r\n\r\n");
    talk.ask("a body of which the sec").ask("ond ha");
    // The client begins to speak HTTP/2 as soon as it is told to, and the body ends in the same segment.
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    talk.ask("l");
    talk.answer([&switch[..], &settings(), &Wire::status(201).on(1)].concat());
    talk.ask([PREFACE, &settings(), &Wire::get("/next").end(3)].concat());
    talk.answer([data(1, b"made", true), Wire::status(404).end(3)].concat());
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /up 201 ok", "GET /next 404 client_error"]);
    let up = &dissected.calls[0];
    let bodies = [&up.request, &up.response].map(|half| half.as_ref().map(|half| half.body_len));
    assert_eq!(bodies, [Some(30), Some(4)]);
}

#[test]
fn a_tunnel_whose_bytes_are_counted_and_not_looked_at() {
    let mut talk = begun();
    talk.ask(headers(&[(":method", "CONNECT"), (":authority", "db:5432")]).on(1));
    talk.answer(Wire::status(200).on(1));
    for _ in 0..10 {
        talk.ask(data(1, b"GET / HTTP/1.1\r\n\r\n", false));
        talk.answer(data(1, &[b'r'; 1000], false));
    }
    talk.ask(data(1, b"", true)).answer(reset(1, 0xa));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["CONNECT  200 server_error"]);
    let call = &dissected.calls[0];
    let bodies = [&call.request, &call.response].map(|half| half.as_ref().map(|half| half.body_len));
    assert_eq!(
        (bodies, text(call, "error")),
        ([Some(180), Some(10_000)], Some("CONNECT_ERROR"))
    );
}

#[test]
fn a_table_that_becomes_smaller_and_larger_again() {
    let mut talk = begun();
    let insert = |name: &str| literal(name, "1", true);
    // A table of no bytes forgets everything; then one of 4096 again, in one block.
    let shrink = [&[0x20][..], &[0x3f, 0xe1, 0x1f]].concat();
    let first = [Wire::get("/a").block, insert("x-a")].concat();
    let second = [shrink, Wire::get("/b").block, insert("x-b")].concat();
    talk.ask([frame(1, 5, 1, &first), frame(1, 5, 3, &second)].concat());
    // The newest entry is the only one.
    talk.ask(frame(1, 5, 5, &[&Wire::get("/c").block[..], &[0xbe]].concat()));
    let dissected = dissect(&talk.packets);
    let call = dissected.calls.iter().find(|call| call.path == "/c").unwrap();
    let headers = &call.request.as_ref().unwrap().headers;
    assert_eq!((headers.get("x-b"), headers.get("x-a")), (Some("1"), None));
    assert_eq!(dissected.counters.hpack_voided, 0);
    // And what it has forgotten cannot be referred to: the block is malformed.
    talk.ask(frame(1, 5, 7, &[&Wire::get("/d").block[..], &[0xbf]].concat()));
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.hpack_voided, 1);
}

#[test]
fn a_table_of_another_size() {
    let mut talk = begun();
    let mut block = vec![0x3f, 0xe1, 0x7f];
    block.extend_from_slice(&literal("x-a", "1", true));
    let request = [Wire::get("/a").block, block].concat();
    // Not where it may stand by the RFC, but clear in what it means.
    talk.ask(frame(1, 5, 1, &request));
    talk.ask(frame(1, 5, 3, &[&Wire::get("/b").block[..], &[0xbe]].concat()));
    let dissected = dissect(&talk.packets);
    let values: Vec<_> = dissected
        .calls
        .iter()
        .map(|call| call.request.as_ref().unwrap().headers.get("x-a"))
        .collect();
    assert_eq!(values, [Some("1"); 2]);
}
