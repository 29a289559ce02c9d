//! gRPC-Web over HTTP/1: as bytes, as text, and with bytes missing.

use wiretape_dissect::testing::{Talk, dissect};
use wiretape_dissect::{Call, Outcome, Value};

const REQUEST: &[u8] =
    b"POST /shop.v1.Cart/Get HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc-web+proto\r\n\
    Content-Length: 7\r\n\r\n\0\0\0\0\x02ab";

fn field<'c>(call: &'c Call, name: &str) -> Option<&'c Value> {
    call.fields
        .iter()
        .find(|(field, _)| *field == name)
        .map(|(_, value)| value)
}

fn int(call: &Call, name: &str) -> Option<i64> {
    match field(call, name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

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
    let text = b"AAAAAAFhgAAAAB9ncnBjLXN0YXR1czogNQ0KR1JQQy1NZXNzYWdlOngK";
    for (content, body) in [
        ("application/grpc-web", &bytes[..]),
        ("application/grpc-web-text", &text[..]),
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
            assert_eq!(field(call, "error"), Some(&Value::Text("NOT_FOUND".to_owned())));
            assert_eq!(field(call, "grpc_method"), Some(&Value::Text("Get".to_owned())));
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
