//! Connections that were recorded at both ends.

use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Nanos};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const SECOND: Nanos = 1_000_000_000;

/// Exchanges on a kept-alive connection, one each 10 ms.
fn exchanges(n: usize) -> Talk {
    let mut talk = Talk::usual();
    talk.step = 5_000_000;
    talk.handshake();
    for n in 0..n {
        talk.ask(format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .answer(OK);
    }
    talk.close();
    talk
}

/// Both ends' packets in order of their (skewed) times.
fn merged(mut packets: Vec<Recorded>, others: Vec<Recorded>) -> Vec<Recorded> {
    packets.extend(others);
    packets.sort_by_key(|packet| packet.ts);
    packets
}

/// Path, status, which sides, marks.
fn tell(call: &Call) -> String {
    let path = if call.request.is_some() { &call.path } else { "-" };
    let status = call.status.map_or("-".to_owned(), |status| status.to_string());
    let client = if call.client_side.is_some() { "c" } else { "" };
    let server = if call.server_side.is_some() { "s" } else { "" };
    let marks: Vec<&str> = call.marks.names().collect();
    format!("{path} {status} {client}{server} {}", marks.join(" "))
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

#[test]
fn recorded_on_two_nodes() {
    let talk = exchanges(3);
    let packets = merged(
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, 50_000),
    );
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200 cs", "/1 200 cs", "/2 200 cs"]);
    let call = &dissected.calls[0];
    assert_eq!((call.client.tape, call.client.cgroup), (Some(0), 100));
    assert_eq!((call.server.tape, call.server.cgroup), (Some(1), 101));
    assert_eq!(
        call.server_side.unwrap().start() - call.client_side.unwrap().start(),
        50_000
    );
    assert_eq!(
        (dissected.counters.connections, dissected.counters.calls_joined),
        (1, 3)
    );
}

#[test]
fn a_handshake_as_each_end_saw_it() {
    let talk = exchanges(1);
    let at_client = talk.seen_by(Who::Client, 0, 0);
    // The first SYN was under way for longer than all that follows.
    let mut at_server = talk.seen_by(Who::Server, 1, 0);
    at_server[0].ts += 2_000_000;
    let told = |packets: &[Recorded]| {
        let tcp = dissect(packets).connections[0].tcp.unwrap();
        (tcp.handshake, tcp.handshake_at_server)
    };
    assert_eq!(told(&at_client), (Some(10_000_000), None));
    assert_eq!(told(&at_server), (Some(8_000_000), Some(8_000_000)));
    assert_eq!(
        told(&merged(at_client, at_server)),
        (Some(10_000_000), Some(8_000_000))
    );
}

#[test]
fn recorded_twice_on_one_node() {
    let talk = exchanges(2);
    let packets = merged(
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 0, 10_000),
    );
    check(&dissect(&packets), &["/0 200 cs", "/1 200 cs"]);
}

#[test]
fn recorded_on_one_node_only() {
    let talk = exchanges(2);
    check(
        &dissect(&talk.seen_by(Who::Server, 0, 0)),
        &["/0 200 s", "/1 200 s"],
    );
    check(
        &dissect(&talk.seen_by(Who::Client, 0, 0)),
        &["/0 200 c", "/1 200 c"],
    );
}

#[test]
fn the_servers_clock_is_ahead_or_behind() {
    for skew in [0, 1_000_000, 12_000_000, SECOND, 4 * SECOND] {
        let talk = exchanges(3);
        for (client, server) in [(0, skew), (skew, 0)] {
            let mut packets = earlier();
            packets.extend(merged(
                talk.seen_by(Who::Client, 0, client),
                talk.seen_by(Who::Server, 1, server),
            ));
            check(&dissect(&packets), &["/0 200 cs", "/1 200 cs", "/2 200 cs"]);
        }
    }
}

/// Something of each node was met before, as on tapes that begin earlier.
fn earlier() -> Vec<Recorded> {
    let begin = Talk::usual().now - 10 * SECOND;
    let mut talk = Talk::new("10.0.0.1:39999", "10.0.0.2:81", begin, (1, 2));
    talk.handshake();
    merged(talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, 0))
}

#[test]
fn a_twin_that_comes_too_late_is_dropped() {
    let talk = exchanges(2);
    let packets = merged(
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, 9 * SECOND),
    );
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200 c", "/1 200 c"]);
    assert_eq!(dissected.counters.twins_late, 2);
}

#[test]
fn each_end_lost_something() {
    let talk = exchanges(4);
    let (mut client, mut server) = (
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, 50_000),
    );
    // The client's node lost the response of /1, the server's node the request of /2.
    client.remove(6);
    server.remove(7);
    let dissected = dissect(&merged(client, server));
    check(
        &dissected,
        &[
            "/0 200 cs",
            "/1 200 cs",
            "/2 200 cs after_gap",
            "/3 200 cs after_gap",
        ],
    );
    assert_eq!(dissected.counters.gaps, 2);
}

#[test]
fn a_call_of_which_each_end_has_half() {
    let talk = exchanges(4);
    let (mut client, mut server) = (
        talk.seen_by(Who::Client, 0, 0),
        talk.seen_by(Who::Server, 1, 50_000),
    );
    client.remove(6);
    server.remove(5);
    let dissected = dissect(&merged(client, server));
    check(
        &dissected,
        &[
            "/0 200 cs",
            "/1 200 cs after_gap",
            "/2 200 cs after_gap",
            "/3 200 cs after_gap",
        ],
    );
    let call = &dissected.calls[1];
    assert!(call.client_side.unwrap().response.is_none() && call.server_side.unwrap().request.is_none());
}

#[test]
fn one_end_joins_late() {
    let talk = exchanges(4);
    let server = talk.seen_by(Who::Server, 1, 50_000).split_off(7);
    let dissected = dissect(&merged(talk.seen_by(Who::Client, 0, 0), server));
    check(&dissected, &["/0 200 c", "/1 200 c", "/2 200 cs", "/3 200 cs"]);
}

#[test]
fn a_retry_stays_a_call_of_its_own() {
    let mut talk = Talk::usual();
    talk.handshake();
    for _ in 0..3 {
        talk.ask("GET /same HTTP/1.1\r\n\r\n").answer(OK);
    }
    talk.close();
    let packets = merged(talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, 300));
    check(&dissect(&packets), &["/same 200 cs"; 3]);
}

#[test]
fn an_any_capture_sees_it_on_many_interfaces() {
    let talk = exchanges(2);
    let mut packets = Vec::new();
    for interface in 0..12u32 {
        let seen = talk.packets.iter().cloned();
        packets.extend(seen.map(|packet| Recorded {
            interface,
            ts: packet.ts + u64::from(interface),
            ..packet
        }));
    }
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200", "/1 200"]);
    assert!(dissected.counters.vantages_refused > 0);
}

#[test]
fn ports_used_again_seen_at_both_ends_with_skew() {
    let talk = exchanges(1);
    let mut next = Talk::new("10.0.0.1:40000", "10.0.0.2:80", talk.now, (900_000, 800_000));
    next.step = talk.step;
    next.handshake()
        .ask("GET /next HTTP/1.1\r\n\r\n")
        .answer(OK)
        .close();
    let both = |who, tape, skew| {
        let mut packets = talk.seen_by(who, tape, skew);
        packets.extend(next.seen_by(who, tape, skew));
        packets
    };
    let mut packets = earlier();
    packets.extend(merged(both(Who::Client, 0, 0), both(Who::Server, 1, 23_000_000)));
    let dissected = dissect(&packets);
    let mut told: Vec<String> = dissected.calls.iter().map(tell).collect();
    told.sort();
    assert_eq!(told, ["/0 200 cs", "/next 200 cs"], "{:#?}", dissected.counters);
    assert_eq!(dissected.counters.connections, 3);
}

#[test]
fn all_that_was_said_is_over_before_the_other_clock_begins() {
    for skew in [SECOND / 4, 2 * SECOND] {
        for (client, server) in [(0, skew), (skew, 0)] {
            let talk = exchanges(3);
            let packets = merged(
                talk.seen_by(Who::Client, 0, client),
                talk.seen_by(Who::Server, 1, server),
            );
            check(&dissect(&packets), &["/0 200 cs", "/1 200 cs", "/2 200 cs"]);
        }
    }
}
