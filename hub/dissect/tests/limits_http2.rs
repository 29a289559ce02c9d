//! The limits of HTTP/2, at the limit: what is bounded stays bounded, and says what it lost.

mod wire;

use wire::{Encoder, PREFACE, Wire, data, frame, headers, literal, settings};
use wiretape_dissect::testing::{Recorded, Talk};
use wiretape_dissect::{Call, Counters, Marks, Routed, Router, Shard};

/// One shard that is given everything; its calls, counters, and the most that it held.
fn dissect(packets: &[Recorded]) -> (Vec<Call>, Counters, usize) {
    let (mut shard, mut router, mut calls, mut peak) = (Shard::new(), Router::new(), Vec::new(), 0);
    for packet in packets {
        if let Routed::Segment { segment, .. } = router.route(&packet.packet()) {
            shard.segment(&segment, segment.payload(&packet.data), &mut calls);
            peak = peak.max(shard.memory());
        }
    }
    shard.finish(&[], &mut calls);
    (calls, shard.counters().clone(), peak)
}

fn begun() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake().ask(PREFACE).ask(settings()).answer(settings());
    talk
}

#[test]
fn more_streams_than_are_kept_open() {
    let mut talk = begun();
    for n in 0..1500_u32 {
        talk.ask(Wire::get("/a").end(2 * n + 1));
    }
    // The answer to the oldest comes when it is given up, and to the newest while it waits.
    talk.answer([Wire::status(200).end(1), Wire::status(200).end(2999)].concat());
    let (calls, counters, _) = dissect(&talk.packets);
    assert_eq!((calls.len(), counters.streams_dropped), (1500, 1500 - 1024));
    assert_eq!(counters.streams_unknown, 1);
    assert_eq!(calls.iter().filter(|call| call.status.is_some()).count(), 1);
}

#[test]
fn more_bytes_than_open_streams_hold() {
    let mut talk = begun();
    let field = "v".repeat(4000);
    for n in 0..500_u32 {
        talk.ask(Wire::get("/a").field("x-large", &field).end(2 * n + 1));
    }
    let (calls, counters, peak) = dissect(&talk.packets);
    assert!(
        counters.streams_dropped > 300 && peak < 850 << 10,
        "{peak} {counters:#?}"
    );
    assert_eq!(calls.len(), 500);
}

#[test]
fn a_header_block_longer_than_is_kept() {
    let mut talk = begun();
    let block = Wire::get("/flood").field("x-large", &"v".repeat(200_000)).block;
    let mut parts = block.chunks(16_000);
    let mut bytes = frame(1, 1, 1, parts.next().unwrap());
    for part in parts {
        bytes.extend(frame(9, 0, 1, part));
    }
    bytes.extend(frame(9, 4, 1, b""));
    talk.ask(bytes).answer(Wire::status(431).end(1));
    talk.ask(Wire::get("/next").end(3))
        .answer(Wire::status(200).end(3));
    let (calls, counters, peak) = dissect(&talk.packets);
    assert_eq!(
        (counters.heads_too_long, counters.hpack_voided, counters.resyncs),
        (1, 1, 0)
    );
    assert!(peak < 200 << 10, "{peak}");
    assert!(
        calls[0].marks == Marks::HEADERS_CUT && calls[0].path == "/flood",
        "{:?}",
        calls[0]
    );
    assert_eq!((calls[1].path.as_str(), calls[1].status), ("/next", Some(200)));
}

#[test]
fn a_flood_of_empty_continuations() {
    let mut talk = begun();
    talk.ask(frame(1, 1, 1, &Wire::get("/flood").block));
    for _ in 0..50_000 {
        talk.ask(frame(9, 0, 1, b""));
    }
    talk.ask(frame(9, 4, 1, b""));
    let (calls, _, peak) = dissect(&talk.packets);
    assert_eq!(calls[0].path, "/flood");
    assert!(calls[0].marks.has(Marks::PACKETS_CUT) && peak < 20_000, "{peak}");
}

#[test]
fn a_frame_of_headers_longer_than_is_kept() {
    let mut talk = begun();
    // The server takes long frames.
    talk.answer(frame(4, 0, 0, &[0, 5, 0, 0x80, 0, 0]));
    let block = Wire::get("/flood").field("x-large", &"v".repeat(100_000)).block;
    talk.ask([frame(1, 5, 1, &block), Wire::get("/next").end(3)].concat());
    talk.answer(Wire::status(200).end(3));
    let (calls, counters, peak) = dissect(&talk.packets);
    assert_eq!(
        (counters.heads_too_long, counters.resyncs, calls.len()),
        (1, 0, 1),
        "{calls:#?}"
    );
    assert!(peak < 20_000, "{peak}");
}

#[test]
fn a_bomb_of_indexed_fields() {
    let mut talk = begun();
    let mut block = headers(&[(":method", "GET"), (":path", "/bomb")]).block;
    block.extend(literal("x-bomb", &"b".repeat(4000), true));
    block.resize(block.len() + 12_000, 0xbe);
    talk.ask(frame(1, 5, 1, &block));
    let (calls, counters, peak) = dissect(&talk.packets);
    let request = calls[0].request.as_ref().unwrap();
    assert!(calls[0].marks.has(Marks::HEADERS_CUT) && request.headers.memory() < 70_000);
    assert!(counters.headers_cut == 1 && peak < 100_000, "{peak}");
}

#[test]
fn more_fields_than_are_kept() {
    let mut talk = begun();
    let mut wire = Wire::get("/many");
    for n in 0..500 {
        wire = wire.field(&format!("x-{n}"), "");
    }
    talk.ask(wire.end(1));
    let (calls, counters, _) = dissect(&talk.packets);
    assert_eq!(
        (
            calls[0].request.as_ref().unwrap().headers.len(),
            counters.headers_cut
        ),
        (256, 1)
    );
}

#[test]
fn a_table_larger_than_is_kept() {
    let mut talk = begun();
    // 1 MiB is announced and used.
    let mut size = Vec::new();
    wire::integer(&mut size, 5, 0x20, 1 << 20);
    talk.ask(frame(1, 5, 1, &[size, Wire::get("/a").block].concat()));
    for n in 1..40_u32 {
        let field = literal("x-large", &"v".repeat(10_000), true);
        talk.ask(frame(1, 5, 2 * n + 1, &[Wire::get("/a").block, field].concat()));
        talk.answer(Wire::status(200).end(2 * n + 1));
    }
    // The newest entry is known; the oldest one was let go.
    talk.ask(frame(
        1,
        5,
        101,
        &[&Wire::get("/a").block[..], &[0xbe, 0xbe + 38]].concat(),
    ));
    let (calls, counters, peak) = dissect(&talk.packets);
    let last = calls
        .iter()
        .max_by_key(|call| call.request.as_ref().unwrap().seq)
        .unwrap();
    assert!(last.marks.has(Marks::HEADERS_UNRESOLVED));
    assert_eq!(last.request.as_ref().unwrap().headers.len(), 1);
    assert!(counters.hpack_entries_dropped > 30 && peak < 120 << 10, "{peak}");
}

#[test]
fn a_late_view_of_a_call_that_is_no_longer_remembered() {
    use wiretape_dissect::testing::Who;
    let mut talk = begun();
    let mut encoder = Encoder::default();
    for n in 0..3000_u32 {
        let stream = 2 * n + 1;
        talk.ask(Wire::get("/a").end(stream));
        talk.answer(
            [
                frame(1, 4, stream, &encoder.block(&[(":status", "200")])),
                data(stream, b"x", true),
            ]
            .concat(),
        );
    }
    // The server's tape comes long after the client's.
    let packets = [
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, 60_000_000_000),
    ]
    .concat();
    let (calls, counters, _) = dissect(&packets);
    assert_eq!((calls.len(), counters.twins_late), (3000, 3000));
}

/// What a client says on a stream of WebSocket of whose begin nothing was seen, but which proves nothing.
fn says_little(n: u32) -> Vec<u8> {
    data(2 * n + 1, b"\x82\x81\x01\x02\x03\x04\x05", false)
}

#[test]
fn more_streams_that_may_be_websocket_than_are_looked_at() {
    let mut talk = begun();
    for n in 0..1000 {
        talk.ask([says_little(n), says_little(n)].concat());
    }
    // Joined behind the preface and a first request, so that the connection is known and these streams are not.
    let mut known = Talk::usual();
    known
        .ask(Wire::get("/a").end(4001))
        .answer(Wire::status(200).end(4001));
    for n in 0..1000 {
        known.ask(says_little(n));
    }
    let (calls, counters, peak) = dissect(&known.packets);
    assert_eq!((calls.len(), counters.streams_unknown), (1, 1000));
    assert_eq!(counters.strangers_forgotten, 1000 - 64);
    assert!(peak < 40 << 10, "{peak}");
    // Of streams whose begin must have been seen, nothing is kept.
    let (calls, _, peak) = dissect(&talk.packets);
    assert!(calls.is_empty() && peak < 40 << 10, "{peak}");
}

#[test]
fn what_may_be_websocket_is_looked_at_within_limits() {
    let known = || {
        let mut talk = Talk::usual();
        talk.ask(Wire::get("/a").end(4001))
            .answer(Wire::status(200).end(4001));
        talk
    };
    // One end says much that proves nothing without the other: one message after the other, and all at once.
    let small = known()
        .ask(data(1, b"\x82\x81\x01\x02\x03\x04\x05", false).repeat(1000))
        .clone();
    let mut large = vec![0x82, 0xfe, 0x27, 0x10, 1, 2, 3, 4];
    large.resize(10_000, 0);
    let large = known().ask(data(1, &large, false).repeat(5)).clone();
    for talk in [&small, &large] {
        let (calls, counters, peak) = dissect(&talk.packets);
        assert_eq!(calls.len(), 1);
        assert!(
            counters.strangers_forgotten >= 1 && peak < 40 << 10,
            "{peak} {counters:#?}"
        );
    }
    // What is none is not looked at for long, even if it would be later.
    let mut talk = known();
    for _ in 0..16 {
        talk.ask(data(1, b"no frame of WebSocket", false));
    }
    for _ in 0..10 {
        talk.ask(data(1, b"\x81\x8a\0\0\0\0{\"ask\": 1}", false));
        talk.answer(data(1, b"\x81\x0e{\"answer\": 12}", false));
    }
    let (calls, counters, _) = dissect(&talk.packets);
    assert_eq!((calls.len(), counters.strangers_forgotten), (1, 1));
    talk.packets.drain(2..3);
    let (calls, ..) = dissect(&talk.packets);
    assert!(calls.len() > 10, "one less is few enough: {}", calls.len());
}

#[test]
fn more_compressed_streams_of_websocket_than_there_is_memory_for() {
    let mut talk = begun();
    let message = {
        let mut encoder = flate2::Compress::new(flate2::Compression::default(), false);
        let mut bytes = Vec::with_capacity(256);
        encoder
            .compress_vec(b"a line of text", &mut bytes, flate2::FlushCompress::Sync)
            .unwrap();
        bytes.truncate(bytes.len() - 4);
        [&[0xc1, bytes.len() as u8][..], &bytes].concat()
    };
    for n in 0..100 {
        let connect = headers(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/live"),
        ]);
        talk.ask(connect.on(2 * n + 1));
        let response = Wire::status(200).field("sec-websocket-extensions", "permessage-deflate");
        talk.answer([response.on(2 * n + 1), data(2 * n + 1, &message, false)].concat());
    }
    let (calls, counters, peak) = dissect(&talk.packets);
    // All streams go on; the oldest have forgotten what their messages refer to.
    assert_eq!((calls.len(), counters.streams_dropped), (200, 0));
    assert!(counters.ws_inflation_stopped > 80, "{counters:#?}");
    assert!(peak < 850 << 10, "{peak}");
}
