//! ICMP, by situation.

use wiretape_dissect::testing::{Chat, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome, Value};

const SECOND: u64 = 1_000_000_000;

/// A type and code, four bytes behind the checksum, and the rest.
fn message(kind: u8, code: u8, words: [u8; 4], rest: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0], words.as_slice(), rest].concat()
}

fn text<'a>(call: &'a Call, name: &str) -> &'a str {
    let found = call.fields.iter().find(|(known, _)| *known == name);
    match found {
        Some((_, Value::Text(text))) => text,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn an_echo_and_its_reply() {
    let mut chat = Chat::usual();
    for n in 0..3 {
        chat.icmp(Who::Client, &message(8, 0, [1, 2, 0, n], b"payload"));
        chat.icmp(Who::Server, &message(0, 0, [1, 2, 0, n], b"payload"));
    }
    chat.icmp(Who::Client, &message(8, 0, [1, 2, 0, 9], b"payload"));
    chat.now += 31 * SECOND;
    chat.icmp(Who::Client, &message(8, 0, [1, 2, 0, 10], b"payload"));
    let calls = dissect(&chat.packets).calls;
    let outcomes: Vec<_> = calls.iter().map(|call| call.outcome).collect();
    let answered = [Outcome::Ok; 3].into_iter();
    assert!(
        outcomes
            .into_iter()
            .eq(answered.chain([Outcome::NoResponse, Outcome::Unknown]))
    );
    assert_eq!((calls[0].protocol, &*calls[0].method), ("icmp", "EchoRequest"));
    assert_eq!(text(&calls[0], "icmp_type"), "EchoRequest");
    assert_eq!(calls[0].observation().and_then(|seen| seen.elapsed()), Some(1000));
    assert_eq!(calls[0].client.address.to_string(), "10.0.0.1:0");
}

#[test]
fn an_echo_to_oneself() {
    let mut chat = Chat::new("127.0.0.1:1", "127.0.0.1:2", SECOND);
    chat.icmp(Who::Client, &message(8, 0, [1, 2, 0, 1], b"payload"));
    chat.icmp(Who::Server, &message(0, 0, [1, 2, 0, 1], b"payload"));
    let calls = dissect(&chat.packets).calls;
    assert_eq!((calls.len(), calls[0].outcome), (1, Outcome::Ok));
}

#[test]
fn an_error_with_the_flow_it_speaks_of() {
    let mut lost = Chat::usual();
    lost.ask(b"a question to a port that nobody listens on");
    let quoted = &lost.packets[0].data[..28];
    let mut chat = Chat::usual();
    chat.icmp(Who::Server, &message(3, 3, [0; 4], quoted));
    let calls = dissect(&chat.packets).calls;
    let call = &calls[0];
    assert_eq!(
        (&*call.method, call.outcome),
        ("DestinationUnreachable", Outcome::ServerError)
    );
    assert_eq!(call.path, "udp 10.0.0.1:40000 -> 10.0.0.2:53");
    assert_eq!(text(call, "error"), "port_unreachable");
    assert_eq!(text(call, "icmp_about_protocol"), "udp");
    assert_eq!(text(call, "icmp_about_dst"), "10.0.0.2:53");
    assert_eq!(call.client.address.to_string(), "10.0.0.2:0");
}

#[test]
fn routers_that_are_looked_for_make_no_calls() {
    let mut chat = Chat::usual();
    for kind in [9, 10] {
        chat.icmp(Who::Client, &message(kind, 0, [0; 4], &[0; 16]));
    }
    let dissected = dissect(&chat.packets);
    assert_eq!(
        (dissected.calls.len(), dissected.counters.icmp_housekeeping),
        (0, 2)
    );
}

#[test]
fn errors_by_name() {
    let errors = [
        (3, 1, "host_unreachable", Outcome::ServerError),
        (3, 4, "fragmentation_needed", Outcome::ClientError),
        (11, 0, "hop_limit_exceeded", Outcome::ServerError),
        (12, 0, "parameter_problem", Outcome::ClientError),
    ];
    for (kind, code, name, outcome) in errors {
        let mut chat = Chat::usual();
        chat.icmp(Who::Server, &message(kind, code, [0; 4], &[]));
        let calls = dissect(&chat.packets).calls;
        assert_eq!((text(&calls[0], "error"), calls[0].outcome), (name, outcome));
    }
}

#[test]
fn a_reply_to_an_echo_that_was_not_recorded() {
    let mut chat = Chat::usual();
    chat.icmp(Who::Server, &message(0, 0, [1, 2, 0, 1], b"payload"));
    let calls = dissect(&chat.packets).calls;
    assert!(calls[0].marks.has(Marks::NO_REQUEST));
    assert_eq!(calls[0].server.address.to_string(), "10.0.0.2:0");
}

#[test]
fn the_same_error_seen_by_both_ends_is_one_call() {
    let mut known = Chat::new("10.0.0.3:1", "10.0.0.1:1", SECOND);
    let mut packets = known.ask("known").seen_by(Who::Server, 0, 0);
    let mut chat = Chat::usual();
    chat.icmp(Who::Server, &message(3, 3, [0; 4], b"quoted"));
    chat.icmp(Who::Server, &message(3, 3, [0; 4], b"quoted"));
    packets.extend(chat.seen_by(Who::Server, 1, 0));
    packets.extend(chat.seen_by(Who::Client, 0, 10));
    packets.sort_by_key(|packet| packet.ts);
    let calls = dissect(&packets).calls;
    // Two that look the same are two.
    assert_eq!(calls.len(), 2);
    assert!(
        calls
            .iter()
            .all(|call| call.client_side.is_some() && call.server_side.is_some())
    );
}

#[test]
fn any_truncation_and_any_byte() {
    let whole = message(3, 3, [0; 4], &[0x45; 60]);
    for len in 0..whole.len() {
        for byte in 0..=255 {
            let mut bytes = whole[..len].to_vec();
            if let Some(last) = bytes.last_mut() {
                *last = byte;
            }
            let mut chat = Chat::usual();
            chat.icmp(Who::Client, &bytes);
            assert!(dissect(&chat.packets).calls.len() <= 1);
        }
    }
}
