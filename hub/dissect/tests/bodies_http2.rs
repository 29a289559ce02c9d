//! Bodies of HTTP/2, out of packets that carry other streams as well.

mod wire;

use std::io::Write;

use wire::{PREFACE, Wire, data, frame, settings};
use wiretape_dissect::testing::{Recorded, Talk, dissect};
use wiretape_dissect::{About, Body, BodyLimits, Call, MessageBytes, Routed, Router, body_of};

/// The body of a call's response, from the packets that it names.
fn response(packets: &[Recorded], call: &Call) -> Body {
    let message = call.response.as_ref().unwrap();
    let mut bytes = MessageBytes::new(message, call.version, call.server.address, call.client.address);
    let mut router = Router::new();
    for packet in packets
        .iter()
        .filter(|packet| message.packets.contains(&packet.at))
    {
        if let Routed::Segment { segment, .. } = router.route(&packet.packet()) {
            bytes.take(&segment, segment.payload(&packet.data));
        }
    }
    assert_eq!((bytes.is_complete(), bytes.missing()), (false, 0));
    let about = About {
        version: call.version,
        method: Some(&call.method),
        is_response: true,
        encoding: message.headers.get("content-encoding").unwrap_or_default(),
        body_len: message.body_len,
    };
    body_of(&bytes, about, BodyLimits::default())
}

fn text(n: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| b'a' + (at as u8).wrapping_mul(n) % 26)
        .collect()
}

/// Two responses whose frames alternate, with frames of the connection between them.
fn interleaved(mss: usize) -> Talk {
    let mut talk = Talk::usual();
    talk.mss = mss;
    talk.handshake()
        .ask([PREFACE, &settings()].concat())
        .answer(settings());
    talk.ask([Wire::get("/one").end(1), Wire::get("/two").end(3)].concat());
    talk.answer([Wire::status(200).on(1), Wire::status(200).on(3)].concat());
    let (one, two) = (text(3, 3000), text(7, 6000));
    for (one, two) in one.chunks(500).zip(two.chunks(1000)) {
        talk.answer(data(1, one, false))
            .answer(frame(6, 0, 0, b"12345678"));
        // With padding.
        let padded = [&[5][..], two, &[0; 5]].concat();
        talk.answer(frame(0, 8, 3, &padded));
    }
    talk.answer([data(1, b"", true), data(3, b"", true)].concat());
    talk
}

#[test]
fn bodies_that_lie_one_among_the_other() {
    for mss in [50, 100, 700, 1460] {
        let talk = interleaved(mss);
        let dissected = dissect(&talk.packets);
        assert_eq!(dissected.calls.len(), 2);
        for call in &dissected.calls {
            let body = response(&talk.packets, call);
            let expected = if call.path == "/one" {
                text(3, 3000)
            } else {
                text(7, 6000)
            };
            assert_eq!(body.bytes, expected, "{} in segments of {mss}", call.path);
            assert_eq!((body.missing, body.truncated), (0, false));
        }
    }
}

#[test]
fn a_body_of_which_a_packet_is_gone() {
    let talk = interleaved(100);
    let dissected = dissect(&talk.packets);
    let call = dissected.calls.iter().find(|call| call.path == "/two").unwrap();
    let gone = call.response.as_ref().unwrap().packets[20];
    let packets: Vec<Recorded> = talk
        .packets
        .iter()
        .filter(|packet| packet.at != gone)
        .cloned()
        .collect();
    let body = response(&packets, call);
    let expected = text(7, 6000);
    // Where the rest begins cannot be proved any more: it ends at the first hole.
    assert!(expected.starts_with(&body.bytes) && body.bytes.len() < 6000);
    assert_eq!(body.missing, 6000 - body.bytes.len() as u64);
}

#[test]
fn a_body_that_is_inflated() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"hello, hello, hello").unwrap();
    let packed = encoder.finish().unwrap();
    let mut talk = Talk::usual();
    talk.handshake()
        .ask([PREFACE, &settings()].concat())
        .answer(settings());
    talk.ask(Wire::get("/").end(1));
    let (first, rest) = packed.split_at(7);
    let head = Wire::status(200).field("content-encoding", "gzip").on(1);
    talk.answer([head, data(1, first, false), data(1, rest, true)].concat());
    let dissected = dissect(&talk.packets);
    let body = response(&talk.packets, &dissected.calls[0]);
    assert_eq!(
        (body.bytes.as_slice(), body.decoded),
        (&b"hello, hello, hello"[..], true)
    );
    assert_eq!(body.encoding, "gzip");
}
