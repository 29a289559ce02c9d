//! Situations of HTTP/2, through packets.

mod wire;

use wire::{PREFACE, Wire, data, frame, go_away, headers, literal, reset, settings, trailers};
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome, Value};

/// Method, path, status, outcome, marks.
fn tell(call: &Call) -> String {
    let request = match &call.request {
        Some(_) => format!("{} {}", call.method, call.path),
        None => "-".to_owned(),
    };
    let status = call.status.map_or("-".to_owned(), |status| status.to_string());
    let marks: Vec<&str> = call.marks.names().collect();
    format!("{request} {status} {} {}", call.outcome.as_str(), marks.join(" "))
        .trim()
        .to_owned()
}

#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| (call.stream, call.index));
    let told: Vec<String> = calls.into_iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

fn field<'c>(call: &'c Call, name: &str) -> Option<&'c Value> {
    call.fields
        .iter()
        .find(|(field, _)| *field == name)
        .map(|(_, value)| value)
}

fn text<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    match field(call, name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn int(call: &Call, name: &str) -> Option<i64> {
    match field(call, name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

/// A connection whose preface and settings are exchanged.
fn begun() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake().ask(PREFACE).ask(settings()).answer(settings());
    talk
}

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
fn streams_that_are_given_up() {
    let mut talk = begun();
    for (stream, path) in [
        (1, "/cancelled"),
        (3, "/half"),
        (5, "/refused"),
        (7, "/flood"),
        (9, "/enough"),
    ] {
        talk.ask(Wire::post(path).on(stream));
    }
    talk.ask(reset(1, 8));
    talk.answer([Wire::status(200).on(3), data(3, b"abc", false)].concat())
        .ask(reset(3, 8));
    talk.answer([reset(5, 7), reset(7, 11), Wire::status(413).end(9), reset(9, 0)].concat());
    // What was under way when they were given up.
    talk.answer([Wire::status(200).on(1), data(1, b"late", true)].concat());
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "POST /cancelled - no_response no_response",
            "POST /half 200 unknown",
            "POST /refused - server_error no_response",
            "POST /flood - client_error no_response",
            "POST /enough 413 client_error",
        ],
    );
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| call.index);
    let errors: Vec<_> = calls
        .iter()
        .map(|call| (text(call, "error"), text(call, "http2_reset_by")))
        .collect();
    let by = |name, who| (Some(name), Some(who));
    let expected = [
        by("CANCEL", "client"),
        by("CANCEL", "client"),
        by("REFUSED_STREAM", "server"),
        by("ENHANCE_YOUR_CALM", "server"),
        (None, None),
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_server_that_goes_away() {
    let mut talk = begun();
    talk.ask(
        [
            Wire::get("/one").end(1),
            Wire::get("/two").end(3),
            Wire::get("/three").end(5),
        ]
        .concat(),
    );
    talk.answer(go_away(1, 0));
    talk.answer(Wire::status(200).end(1)).close();
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "GET /two - no_response no_response",
            "GET /three - no_response no_response",
            "GET /one 200 ok",
        ],
    );
    let gone: Vec<_> = dissected
        .calls
        .iter()
        .filter_map(|call| text(call, "error"))
        .collect();
    assert_eq!(gone, ["GOAWAY NO_ERROR"; 2]);
}

#[test]
fn a_connection_given_up_for_an_error() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1))
        .answer(go_away(1, 11))
        .reset(Who::Server);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - client_error no_response reset"]);
    assert_eq!(
        text(&dissected.calls[0], "error"),
        Some("GOAWAY ENHANCE_YOUR_CALM")
    );
}

#[test]
fn a_server_that_closes_without_an_answer() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1)).close();
    check(&dissect(&talk.packets), &["GET /a - no_response no_response"]);
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

/// Calls on one connection, all with the same fields: from the second on, they are told by reference.
fn long_lived() -> Talk {
    let mut talk = begun();
    let (mut client, mut server) = (wire::Encoder::default(), wire::Encoder::default());
    for n in 0..6_u32 {
        let stream = 2 * n + 1;
        let path = if n % 2 == 0 { "/even" } else { "/odd" };
        let request = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop"),
            ("x-n", "n"),
        ];
        talk.ask(frame(1, 5, stream, &client.block(&request)));
        let response = [(":status", "200"), ("server", "nginx"), ("x-n", "n")];
        talk.answer(
            [
                frame(1, 4, stream, &server.block(&response)),
                data(stream, b"body", true),
            ]
            .concat(),
        );
    }
    talk
}

#[test]
fn joined_in_the_middle() {
    let talk = long_lived();
    let whole = dissect(&talk.packets);
    check(
        &whole,
        &[
            "GET /even 200 ok",
            "GET /odd 200 ok",
            "GET /even 200 ok",
            "GET /odd 200 ok",
            "GET /even 200 ok",
            "GET /odd 200 ok",
        ],
    );
    assert_eq!(whole.counters.headers_unresolved, 0);
    // From the third call on; of the first two, whose fields are meant, nothing was seen.
    let joined = dissect(&talk.packets[10..]);
    assert_eq!(joined.calls.len(), 4);
    for call in &joined.calls {
        assert!(call.marks.has(Marks::JOINED) && call.marks.has(Marks::HEADERS_UNRESOLVED));
        assert_eq!(
            (call.method.as_str(), call.path.as_str(), call.status),
            ("GET", "", Some(200))
        );
        // Path, authority and x-n; server and x-n.
        assert_eq!(int(call, "unresolved_headers"), Some(5));
        assert!(call.request.as_ref().unwrap().headers.is_empty());
    }
    // With the second call's, its path is known, and the others' that mean the same.
    let joined = dissect(&talk.packets[8..]);
    let paths: Vec<&str> = joined.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, ["/odd", "", "/odd", "", "/odd"]);
}

#[test]
fn joined_between_a_request_and_its_answer() {
    let mut talk = begun();
    talk.ask(Wire::get("/a").end(1));
    talk.answer([Wire::status(200).field("x", "y").on(1), data(1, b"abc", true)].concat());
    talk.ask(Wire::get("/b").end(3)).answer(Wire::status(404).end(3));
    let dissected = dissect(&talk.packets[7..]);
    check(
        &dissected,
        &["- 200 ok no_request joined", "GET /b 404 client_error joined"],
    );
}

#[test]
fn the_server_is_seen_first_on_an_unusual_port() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:5432", 1, (1, 2));
    talk.ask(Wire::get("/a").end(1)).answer(Wire::status(200).end(1));
    talk.ask(Wire::get("/b").end(3)).answer(Wire::status(200).end(3));
    let dissected = dissect(&talk.packets[1..]);
    check(
        &dissected,
        &["- 200 ok no_request joined", "GET /b 200 ok joined"],
    );
    assert_eq!(dissected.calls[0].server.address.port(), 5432);
}

#[test]
fn joined_at_the_preface_everything_is_known() {
    let talk = long_lived();
    let dissected = dissect(&talk.packets[3..]);
    assert_eq!(dissected.calls.len(), 6);
    assert_eq!(dissected.counters.headers_unresolved, 0);
    assert!(dissected.calls.iter().all(|call| call.marks == Marks::JOINED));
}

#[test]
fn a_gap_inside_data_costs_those_bytes_only() {
    let mut talk = begun();
    talk.mss = 100;
    talk.ask(Wire::get("/a").end(1));
    talk.answer(Wire::status(200).field("x", "y").on(1))
        .answer(data(1, &[b'x'; 1000], true));
    let mut encoder = wire::Encoder::default();
    talk.ask(Wire::get("/b").end(3))
        .answer(frame(1, 5, 3, &encoder.block(&[(":status", "200")])));
    talk.packets.remove(12);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200 ok response_gap", "GET /b 200 ok"]);
    let response = dissected.calls[0].response.as_ref().unwrap();
    assert_eq!((response.body_len, response.missing), (1000, 100));
    assert_eq!(
        (dissected.counters.hpack_voided, dissected.counters.resyncs),
        (0, 0)
    );
}

#[test]
fn a_gap_over_a_header_block_makes_the_table_worthless() {
    let talk = long_lived();
    let mut packets = talk.packets.clone();
    // The second request.
    packets.remove(8);
    let dissected = dissect(&packets);
    let mut told: Vec<String> = dissected.calls.iter().map(tell).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "- 200 ok no_request",
            "GET  200 ok headers_unresolved",
            "GET  200 ok headers_unresolved",
            "GET  200 ok headers_unresolved",
            "GET  200 ok headers_unresolved",
            "GET /even 200 ok",
        ]
    );
}

#[test]
fn a_head_whose_rest_is_missing() {
    let mut talk = begun();
    talk.mss = 40;
    let wire = Wire::get("/a")
        .field("x-first", "1")
        .field("x-second", &"2".repeat(100));
    talk.ask(wire.end(1));
    talk.answer(Wire::status(200).end(1));
    talk.ask(Wire::get("/b").end(3)).answer(Wire::status(200).end(3));
    let at = talk.packets.len() - 6;
    talk.packets.remove(at);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200 ok request_gap", "GET /b 200 ok"]);
    let request = dissected.calls[0].request.as_ref().unwrap();
    assert_eq!(request.headers.iter().count(), 1, "{:?}", request.headers);
}

#[test]
fn bytes_that_are_no_frames() {
    let mut talk = begun();
    talk.answer("HTTP/1.1 400 Bad Request\r\n\r\n");
    talk.ask(Wire::get("/a").end(1));
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.resyncs, 1);
    check(&dissected, &["GET /a - unknown no_response"]);
}

#[test]
fn a_grpc_call() {
    let mut talk = begun();
    let request = Wire::post("/shop.v1.Cart/Add")
        .field("content-type", "application/grpc+proto")
        .field("te", "trailers");
    talk.ask(
        [
            request.field("grpc-timeout", "250m").on(1),
            data(1, b"\0\0\0\0\x02ab", true),
        ]
        .concat(),
    );
    talk.answer([Wire::status(200).field("content-type", "application/grpc").on(1)].concat());
    // The second message lies in two frames.
    talk.answer(
        [
            data(1, b"\0\0\0\0\x01c\0\0\0", false),
            data(1, b"\0\x02de", false),
        ]
        .concat(),
    );
    talk.answer(trailers(&[("grpc-status", "0")]).end(1));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /shop.v1.Cart/Add 200 ok"]);
    let call = &dissected.calls[0];
    assert_eq!(call.protocol, "grpc");
    assert_eq!(
        (text(call, "grpc_service"), text(call, "grpc_method")),
        (Some("shop.v1.Cart"), Some("Add"))
    );
    let numbers = [
        ("grpc_status", 0),
        ("grpc_timeout", 250_000),
        ("grpc_request_messages", 1),
        ("grpc_request_message_bytes", 2),
        ("grpc_response_messages", 2),
        ("grpc_response_message_bytes", 3),
    ];
    for (name, number) in numbers {
        assert_eq!(int(call, name), Some(number), "{name}");
    }
    assert_eq!(text(call, "error"), None);
}

#[test]
fn grpc_errors_by_trailers_only() {
    let cases = [
        ("4", Outcome::Timeout, "DEADLINE_EXCEEDED"),
        ("5", Outcome::ClientError, "NOT_FOUND"),
        ("14", Outcome::ServerError, "UNAVAILABLE"),
    ];
    for (status, outcome, name) in cases {
        let mut talk = begun();
        talk.ask(
            [
                Wire::post("/s/M").field("content-type", "application/grpc").on(1),
                data(1, b"", true),
            ]
            .concat(),
        );
        let answer = Wire::status(200)
            .field("content-type", "application/grpc")
            .field("grpc-status", status);
        talk.answer(answer.field("grpc-message", "no%20luck").end(1));
        let dissected = dissect(&talk.packets);
        let call = &dissected.calls[0];
        assert_eq!(
            (call.outcome, text(call, "error"), text(call, "grpc_message")),
            (outcome, Some(name), Some("no luck"))
        );
    }
}

#[test]
fn grpc_joined_late_is_known_by_its_trailers() {
    let mut talk = begun();
    let (mut client, mut server) = (wire::Encoder::default(), wire::Encoder::default());
    for stream in [1, 3] {
        let request = [
            (":method", "POST"),
            (":path", "/s/M"),
            ("content-type", "application/grpc"),
        ];
        talk.ask(
            [
                frame(1, 4, stream, &client.block(&request)),
                data(stream, b"\0\0\0\0\0", true),
            ]
            .concat(),
        );
        let response = [(":status", "200"), ("content-type", "application/grpc")];
        talk.answer(
            [
                frame(1, 4, stream, &server.block(&response)),
                data(stream, b"\0\0\0\0\x01x", false),
            ]
            .concat(),
        );
        let status = if stream == 1 { "0" } else { "13" };
        talk.answer(frame(1, 5, stream, &server.block(&[("grpc-status", status)])));
    }
    let dissected = dissect(&talk.packets[9..]);
    let call = &dissected.calls[0];
    assert_eq!(
        (call.protocol, call.outcome, call.path.as_str()),
        ("grpc", Outcome::ServerError, "")
    );
    assert_eq!(int(call, "grpc_response_messages"), Some(1));
    assert_eq!(int(call, "unresolved_headers"), Some(3));
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

/// Both sockets' packets, in order of their skewed times.
fn both_ends(talk: &Talk, skew: u64) -> [Vec<Recorded>; 2] {
    [
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, skew),
    ]
}

fn merged(seen: [Vec<Recorded>; 2]) -> Vec<Recorded> {
    let mut packets = seen.concat();
    packets.sort_by_key(|packet| packet.ts);
    packets
}

/// Something of each node was met before, as on tapes that begin earlier.
fn earlier() -> Vec<Recorded> {
    let mut talk = Talk::new(
        "10.0.0.1:39999",
        "10.0.0.2:81",
        Talk::usual().now - 10_000_000_000,
        (1, 2),
    );
    talk.handshake();
    merged(both_ends(&talk, 0))
}

/// Interleaved calls that end in another order than they began.
fn interleaved() -> Talk {
    let mut talk = begun();
    talk.step = 5_000_000;
    for n in 0..4_u32 {
        let (slow, fast) = (4 * n + 1, 4 * n + 3);
        talk.ask(
            [
                Wire::get(&format!("/slow{n}")).end(slow),
                Wire::post(&format!("/fast{n}")).on(fast),
            ]
            .concat(),
        );
        talk.answer([Wire::status(200).on(fast), data(fast, b"f", true)].concat());
        talk.ask(data(fast, b"x", true));
        talk.answer([Wire::status(404).on(slow), data(slow, b"s", true)].concat());
    }
    talk
}

#[test]
fn interleaved_calls_recorded_at_both_ends() {
    let talk = interleaved();
    for skew in [0, 1_000_000, 12_000_000, 3_000_000_000] {
        let packets = [earlier(), merged(both_ends(&talk, skew))].concat();
        let dissected = dissect(&packets);
        assert_eq!(
            (dissected.calls.len(), dissected.counters.calls_joined),
            (8, 8),
            "{skew}: {:#?}",
            dissected.counters
        );
        for call in &dissected.calls {
            assert!(call.client_side.is_some() && call.server_side.is_some());
        }
    }
}

#[test]
fn interleaved_calls_of_which_each_end_lost_something() {
    let talk = interleaved();
    let [mut client, mut server] = both_ends(&talk, 50_000);
    // The client's node lost a request, the server's node a response, of other calls.
    client.remove(10);
    server.remove(15);
    let dissected = dissect(&merged([client, server]));
    let mut told: Vec<String> = dissected.calls.iter().map(tell).collect();
    told.sort();
    told.dedup();
    assert_eq!((told.len(), dissected.calls.len()), (8, 8), "{told:#?}");
    for call in &dissected.calls {
        assert!(
            call.request.is_some() && call.response.is_some(),
            "{}",
            tell(call)
        );
    }
}

#[test]
fn one_end_joins_late_and_the_other_knows_the_fields() {
    let talk = long_lived();
    let [client, server] = both_ends(&talk, 50);
    let dissected = dissect(&merged([client, server[8..].to_vec()]));
    assert_eq!(dissected.calls.len(), 6, "{:#?}", dissected.counters);
    for call in &dissected.calls {
        assert!(!call.marks.has(Marks::HEADERS_UNRESOLVED) && int(call, "unresolved_headers").is_none());
        assert!(call.path == "/even" || call.path == "/odd");
    }
    assert!(dissected.counters.calls_joined >= 4);
}

#[test]
fn a_view_that_comes_too_late_is_dropped() {
    let talk = interleaved();
    let dissected = dissect(&merged(both_ends(&talk, 9_000_000_000)));
    assert_eq!((dissected.calls.len(), dissected.counters.twins_late), (8, 8));
}
