//! gRPC over HTTP/2, and gRPC-Web over HTTP/1: as bytes, as text, and with bytes missing.

mod wire;

use wire::{Wire, begun, check, data, field, frame, int, text, trailers};
use wiretape_dissect::testing::{Talk, dissect};
use wiretape_dissect::{Outcome, Value};

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
fn a_deadline_that_passes() {
    // How long it takes, how it ends, whether that is too long, and the outcome.
    let answer = |status| [Wire::status(200).field("grpc-status", status).end(1)].concat();
    let cases = [
        (10, Some(answer("0")), false, Outcome::Ok),
        (300, Some(answer("0")), true, Outcome::Ok),
        (10, Some(answer("4")), true, Outcome::Timeout),
        (249, Some(answer("0")), false, Outcome::Ok),
        (250, None, true, Outcome::Timeout),
        // Deadlines are rounded up before they are told.
        (248, None, true, Outcome::Timeout),
        (100, None, false, Outcome::NoResponse),
    ];
    for (millis, answer, exceeded, outcome) in cases {
        let mut talk = begun();
        let request = Wire::post("/s/M").field("content-type", "application/grpc");
        talk.ask(request.field("grpc-timeout", "250m").on(1));
        talk.now += millis * 1_000_000 - talk.step;
        match answer {
            Some(answer) => talk.answer(answer).ask(data(1, b"", true)),
            None => talk.ask(wire::reset(1, 8)),
        };
        let dissected = dissect(&talk.packets);
        let call = &dissected.calls[0];
        assert_eq!(call.outcome, outcome, "{millis} {call:?}");
        assert_eq!(
            field(call, "grpc_deadline_exceeded").is_some(),
            exceeded,
            "{millis}"
        );
    }
}

#[test]
fn a_stream_of_messages_of_which_a_part_is_seen() {
    let mut talk = begun();
    talk.ask(
        [
            Wire::post("/s/List")
                .field("content-type", "application/grpc")
                .on(1),
            data(1, b"\0\0\0\0\0", true),
        ]
        .concat(),
    );
    talk.answer(Wire::status(200).field("content-type", "application/grpc").on(1));
    for _ in 0..20 {
        talk.answer(data(1, b"\x01\0\0\0\x0aaaaaaaaaaa", false));
    }
    // Still under way when the recording ends: so many as were seen.
    let call = &dissect(&talk.packets).calls[0];
    let counts = ["grpc_response_messages", "grpc_response_compressed"].map(|name| int(call, name));
    assert_eq!((counts, call.outcome), ([Some(20), Some(20)], Outcome::Unknown));
    // A whole frame is lost: nobody knows how many there were, but the status is known.
    talk.answer(trailers(&[("grpc-status", "0")]).end(1));
    talk.packets.remove(15);
    let call = &dissect(&talk.packets).calls[0];
    assert_eq!(
        (int(call, "grpc_response_messages"), int(call, "grpc_status")),
        (None, Some(0))
    );
    // Joined behind the head, on a connection that another call makes known.
    let mut joined = Talk::usual();
    joined
        .ask(Wire::get("/beside").end(3))
        .answer(Wire::status(204).end(3));
    joined.answer(
        [
            data(1, b"\x01\0\0\0\x0aaaaaaaaaaa", false),
            trailers(&[("grpc-status", "5")]).end(1),
        ]
        .concat(),
    );
    let joined = dissect(&joined.packets);
    let call = joined
        .calls
        .iter()
        .find(|call| call.protocol == "grpc")
        .expect("known by its trailers");
    assert_eq!(
        (int(call, "grpc_response_messages"), call.outcome),
        (None, Outcome::ClientError)
    );
    assert!(call.request.is_none());
}

const REQUEST: &[u8] =
    b"POST /shop.v1.Cart/Get HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc-web+proto\r\n\
    Content-Length: 7\r\n\r\n\0\0\0\0\x02ab";

/// A response in chunks of so many bytes.
fn chunked(content: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut wire =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {content}\r\nTransfer-Encoding: chunked\r\n\r\n")
            .into_bytes();
    for chunk in body.chunks(size) {
        wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

#[test]
fn trailers_in_the_body_whatever_it_is_made_of() {
    let bytes = b"\x00\x00\x00\x00\x01a\x80\x00\x00\x00\x1fgrpc-status: 5\r\nGRPC-Message:x\n";
    let base64 = b"AAAAAAFhgAAAAB9ncnBjLXN0YXR1czogNQ0KR1JQQy1NZXNzYWdlOngK";
    for (content, body) in [
        ("application/grpc-web", &bytes[..]),
        ("application/grpc-web-text", &base64[..]),
    ] {
        for size in [1, 7, 100] {
            let mut talk = Talk::usual();
            talk.mss = 10;
            talk.handshake()
                .ask(REQUEST)
                .answer(chunked(content, body, size))
                .close();
            let dissected = dissect(&talk.packets);
            let call = &dissected.calls[0];
            assert_eq!(
                (call.protocol, call.version, call.outcome),
                ("grpc", "HTTP/1.1", Outcome::ClientError)
            );
            assert_eq!(field(call, "error"), Some(&Value::Text("NOT_FOUND".into())));
            assert_eq!(field(call, "grpc_method"), Some(&Value::Text("Get".into())));
            let counts = ["grpc_status", "grpc_request_messages", "grpc_response_messages"]
                .map(|name| int(call, name));
            assert_eq!(counts, [Some(5), Some(1), Some(1)], "{content} {size}");
        }
    }
}

#[test]
fn bytes_missing_in_a_message() {
    let mut talk = Talk::usual();
    talk.mss = 100;
    let mut body = b"\x00\x00\x00\x01\x00".to_vec();
    body.resize(5 + 256, b'm');
    body.extend_from_slice(b"\x80\x00\x00\x00\x0egrpc-status: 0");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    talk.handshake()
        .ask(REQUEST)
        .answer([head.as_bytes(), &body].concat())
        .close();
    let lost = talk
        .packets
        .iter()
        .rposition(|packet| packet.data.ends_with(b"mmmm"))
        .unwrap();
    talk.packets.remove(lost);
    let dissected = dissect(&talk.packets);
    let call = &dissected.calls[0];
    assert_eq!(
        (int(call, "grpc_response_messages"), int(call, "grpc_status")),
        (Some(1), Some(0))
    );
    assert_eq!(
        (call.outcome, call.response.as_ref().unwrap().missing),
        (Outcome::Ok, 100)
    );
}

/// Gateways hand on what `Grpc-Metadata-…` says; that makes no gRPC of what is asked of them.
#[test]
fn a_gateway_is_asked_by_http() {
    for (status, outcome) in [
        (200, Outcome::Ok),
        (204, Outcome::Ok),
        (502, Outcome::ServerError),
    ] {
        let mut talk = begun();
        talk.ask(Wire::get("/v1/cart").field("grpc-metadata-user", "u").end(1));
        talk.answer(Wire::status(status).field("grpc-metadata-node", "n").end(1));
        let call = &dissect(&talk.packets).calls[0];
        assert_eq!((call.protocol, call.outcome), ("http", outcome), "{status}");
        assert_eq!(text(call, "grpc_method"), None);
    }
}

/// How many messages came behind a head of which the end was not recorded, nobody knows.
#[test]
fn messages_behind_a_head_that_was_cut_are_not_counted() {
    let body = b"\x00\x00\x00\x00\x01a\x80\x00\x00\x00\x0egrpc-status: 0";
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n", body.len());
    let mut talk = Talk::usual();
    talk.handshake().ask(REQUEST).answer(answer);
    talk.packets[4].data.truncate(40 + head.len() + 5);
    talk.answer(body).close();
    let call = &dissect(&talk.packets).calls[0];
    let counts = ["grpc_request_messages", "grpc_response_messages"].map(|name| int(call, name));
    assert_eq!((call.protocol, counts), ("grpc", [Some(1), None]));
}
