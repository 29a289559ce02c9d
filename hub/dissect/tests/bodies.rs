//! Bodies on demand.

use std::io::Write;

use wiretape_dissect::testing::{Recorded, Talk, dissect};
use wiretape_dissect::{Body, BodyLimits, MessageBytes, Routed, Router, read_body};

const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog, again and again and again and again";

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut wire = format!(
        "HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    wire.extend_from_slice(body);
    wire
}

fn read(wire: &[u8]) -> Body {
    read_body(wire, Some("GET"), true, BodyLimits::default())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn codings_of_all_kinds() {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(TEXT).unwrap();
    let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    bare.write_all(TEXT).unwrap();
    let zstd = zstd::stream::encode_all(TEXT, 3).unwrap();
    let codings = [
        ("", TEXT.to_vec()),
        ("Content-Encoding: identity\r\n", TEXT.to_vec()),
        ("Content-Encoding: gzip\r\n", gzip(TEXT)),
        ("Content-Encoding: X-GZIP\r\n", gzip(TEXT)),
        ("Content-Encoding: deflate\r\n", zlib.finish().unwrap()),
        ("Content-Encoding: deflate\r\n", bare.finish().unwrap()),
        ("Content-Encoding: zstd\r\n", zstd.clone()),
        ("Content-Encoding: zstd, gzip\r\n", gzip(&zstd)),
    ];
    for (header, body) in codings {
        let body = read(&response(header, &body));
        assert_eq!(body.bytes, TEXT, "{header}");
        assert!(body.decoded && !body.truncated && body.missing == 0, "{header}");
    }
}

#[test]
fn a_zstd_body_that_asks_for_a_window_beyond_the_limit() {
    let packed = |window_log: u32| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(TEXT).unwrap();
        encoder.finish().unwrap()
    };
    let within = read(&response("Content-Encoding: zstd\r\n", &packed(23)));
    assert_eq!((within.bytes.as_slice(), within.decoded), (TEXT, true));
    let beyond = packed(24);
    let body = read(&response("Content-Encoding: zstd\r\n", &beyond));
    assert_eq!((body.bytes, body.decoded), (beyond, false));
}

#[test]
fn a_brotli_body_of_a_real_server() {
    // `printf hello | brotli`, whose stream holds the text as it is.
    let body = read(&response(
        "Content-Encoding: br\r\n",
        &[0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03],
    ));
    assert_eq!((body.bytes.as_slice(), body.decoded), (&b"hello"[..], true));
}

#[test]
fn chunks_are_taken_apart() {
    let packed = gzip(TEXT);
    let mut wire =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
    for chunk in packed.chunks(10) {
        wire.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\nX: y\r\n\r\n");
    assert_eq!(read(&wire).bytes, TEXT);
    // Cut in the middle: what can be inflated is, and it says that something is missing.
    let cut = read(&wire[..wire.len() / 2 + 40]);
    assert!(cut.missing > 0);
}

#[test]
fn what_cannot_be_inflated_is_given_as_it_is() {
    let body = read(&response("Content-Encoding: sdch\r\n", b"abc"));
    assert_eq!(
        (body.bytes.as_slice(), body.decoded, body.encoding.as_str()),
        (&b"abc"[..], false, "sdch")
    );
    let body = read(&response("Content-Encoding: gzip\r\n", b"this is no gzip at all"));
    assert_eq!(
        (body.bytes.as_slice(), body.decoded),
        (&b"this is no gzip at all"[..], false)
    );
    assert_eq!(read(b"garbage"), Body::default());
}

#[test]
fn a_body_has_a_limit_and_a_bomb_costs_no_more() {
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            encoder.write_all(&[0; 1 << 20]).unwrap();
        }
        encoder.finish().unwrap()
    };
    for (asked, given) in [(100, 100), (64 << 10, 64 << 10), (usize::MAX, 16 << 20)] {
        let body = read_body(
            &response("Content-Encoding: gzip\r\n", &bomb),
            None,
            true,
            BodyLimits { bytes: asked },
        );
        assert_eq!((body.bytes.len(), body.truncated), (given, true));
    }
    let body = read_body(&response("", TEXT), None, true, BodyLimits { bytes: TEXT.len() });
    assert_eq!((body.bytes.as_slice(), body.truncated), (TEXT, false));
}

#[test]
fn bodiless_and_incomplete_messages() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    assert_eq!(
        read_body(head, Some("HEAD"), true, BodyLimits::default()).missing,
        0
    );
    assert_eq!(
        read_body(head, Some("GET"), true, BodyLimits::default()).missing,
        10
    );
    let request = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(
        read_body(request, None, false, BodyLimits::default()).bytes,
        b"abc"
    );
    let until_close = b"HTTP/1.0 200 OK\r\n\r\nabc";
    assert_eq!(read(until_close).bytes, b"abc");
}

/// The packets of a call, found again by their locations.
fn again(
    packets: &[Recorded],
    message: &wiretape_dissect::Message,
    from: std::net::SocketAddr,
    to: std::net::SocketAddr,
) -> MessageBytes {
    let mut router = Router::new();
    let mut bytes = MessageBytes::new(message, "HTTP/1.1", from, to);
    for packet in packets
        .iter()
        .filter(|packet| message.packets.contains(&packet.at))
    {
        if let Routed::Segment { segment, .. } = router.route(&packet.packet()) {
            bytes.take(&segment, segment.payload(&packet.data));
        }
    }
    bytes
}

#[test]
fn the_body_of_a_call_from_its_packets() {
    let wire = response("Content-Encoding: gzip\r\n", &gzip(&TEXT.repeat(100)));
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", 1, (u32::MAX - 5, u32::MAX - 30));
    talk.mss = 60;
    talk.handshake();
    talk.ask("POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n")
        .answer(&wire);
    let mut packets = talk.packets.clone();
    packets[4..].reverse();
    let dissected = dissect(&packets);
    let call = &dissected.calls[0];
    let (client, server) = (call.client.address, call.server.address);

    let request = again(&packets, call.request.as_ref().unwrap(), client, server);
    assert!(request.is_complete());
    assert_eq!(
        read_body(request.wire(), None, false, BodyLimits::default()).bytes,
        b"abc"
    );

    let response = again(&packets, call.response.as_ref().unwrap(), server, client);
    assert!(response.is_complete());
    assert_eq!(
        read_body(response.wire(), Some(&call.method), true, BodyLimits::default()).bytes,
        TEXT.repeat(100)
    );

    // Without its last packet but one.
    let fewer: Vec<Recorded> = packets
        .iter()
        .filter(|packet| packet.at != talk.packets.len() as u64 - 2)
        .cloned()
        .collect();
    let response = again(&fewer, call.response.as_ref().unwrap(), server, client);
    assert_eq!(response.missing(), 60);
    assert!(response.wire().len() < wire.len() - 60);
}
