//! HTTP/2 that was joined late, lost bytes on the way, or was seen from both ends.

mod wire;

use wire::{Wire, begun, check, data, frame, int, tell};
use wiretape_dissect::Marks;
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};

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
            (&*call.method, call.path.as_str(), call.status),
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
fn padding_whose_length_was_not_recorded() {
    for (ends, after) in [(true, 0), (false, 100)] {
        let mut talk = begun();
        talk.ask(Wire::post("/a").on(1));
        talk.ask(frame(
            0,
            8 | u8::from(ends),
            1,
            &[&[4][..], b"body", &[0; 4]].concat(),
        ));
        // The headers of IP and TCP, and the frame's own.
        talk.packets.last_mut().unwrap().data.truncate(40 + 9);
        if !ends {
            talk.ask(data(1, &vec![b'x'; after], true));
        }
        talk.answer(Wire::status(200).end(1));
        let dissected = dissect(&talk.packets);
        check(&dissected, &["POST /a 200 ok request_gap"]);
        let request = dissected.calls[0].request.as_ref().unwrap();
        assert_eq!(request.body_len, after as u64);
        assert_eq!(dissected.counters.resyncs, 0);
    }
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

/// A segment is recorded up to the middle of a header block, and what stands behind the block is not. The call comes as
/// soon as it is answered, and does not say what it does not know.
#[test]
fn a_head_whose_rest_is_missing_together_with_what_follows() {
    let mut talk = begun();
    let request = Wire::post("/s/M").field("content-type", "application/grpc");
    let known = request.block.len();
    let ask = [
        request.field("x-second", "2").on(1),
        data(1, b"\0\0\0\0\x01a", true),
    ]
    .concat();
    talk.ask(ask);
    let recorded = talk.packets.last_mut().unwrap();
    recorded.data.truncate(40 + 9 + known + 3);
    talk.answer(
        [
            Wire::status(200).on(1),
            wire::trailers(&[("grpc-status", "0")]).end(1),
        ]
        .concat(),
    );
    talk.ask(Wire::get("/next").end(3))
        .answer(Wire::status(200).end(3));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /s/M 200 ok request_gap", "GET /next 200 ok"]);
    let call = dissected.calls.iter().find(|call| call.path == "/s/M").unwrap();
    assert_eq!(
        (call.protocol, int(call, "grpc_request_messages")),
        ("grpc", None)
    );
    let first = dissected.calls.iter().min_by_key(|call| call.index);
    assert_eq!(first.map(|call| call.path.as_str()), Some("/s/M"));
}
