//! Who saw a connection, and from when on.

use wiretape_dissect::testing::{Chat, Recorded, Talk, Who, dissect};
use wiretape_dissect::{ClientBy, SeenFrom, State};

use crate::script::{MS, START, Script};

#[test]
fn a_late_join_tells_what_was_seen_and_no_more() {
    let mut script = Script::handshake();
    script.data(50, 1, 100, true).data(51, 101, 100, true);
    script.packets.drain(..4);
    let connection = script.one();
    assert_eq!(
        (connection.state, connection.client_by),
        (State::MidStream, ClientBy::Ports)
    );
    assert_eq!(connection.client.address.port(), 40_000);
    let tcp = connection.tcp.unwrap();
    assert_eq!(
        (tcp.completeness, tcp.initial_rtt, tcp.handshake),
        (8, None, None)
    );
    let [client, server] = connection.sent;
    assert_eq!(
        (client.lost_segments, server.lost_segments, server.window_shift),
        (0, 0, None)
    );
    assert_eq!(
        (server.retransmissions, server.windows_full, server.goodput),
        (0, 0, 100)
    );
    // By what they were to be multiplied, the handshake said.
    assert_eq!((client.windows, server.windows), ((0, 0), (0, 0)));
}

#[test]
fn acknowledgements_alone_are_a_connection() {
    let mut script = Script::handshake();
    script.packets.drain(..2);
    assert_eq!(
        (script.one().state, script.one().tcp.unwrap().completeness),
        (State::MidStream, 0)
    );
}

#[test]
fn recorded_at_both_ends_the_clients_figures_count() {
    let mut talk = Talk::usual();
    talk.step = 10 * MS;
    talk.handshake().ask("GET / HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .close();
    let mut packets = talk.seen_by(Who::Server, 1, 3 * MS);
    // Only the client has seen that the request was sent twice.
    let mut clients = talk.seen_by(Who::Client, 0, 0);
    let again = Recorded {
        ts: clients[3].ts + 5 * MS,
        ..clients[3].clone()
    };
    clients.push(again);
    packets.extend(clients);
    packets.sort_by_key(|packet| packet.ts);
    let connections = dissect(&packets).connections;
    assert_eq!(connections.len(), 1);
    let connection = &connections[0];
    assert_eq!(
        (connection.seen_from, connection.tape, connection.recorded),
        (SeenFrom::Client, 0, (true, true))
    );
    assert_eq!((connection.times.0, connection.calls), (talk.packets[0].ts, 1));
    assert_eq!(
        (connection.sent[0].packets, connection.sent[0].retransmissions),
        (5, 1)
    );
}

#[test]
fn ports_used_again_are_two_connections() {
    let mut first = Talk::usual();
    first.handshake().close();
    let mut second = Talk::new(
        "10.0.0.1:40000",
        "10.0.0.2:80",
        first.now + 1000 * MS,
        (90_000, 80_000),
    );
    second.handshake();
    first.packets.extend(second.packets);
    let states: Vec<State> = dissect(&first.packets)
        .connections
        .iter()
        .map(|one| one.state)
        .collect();
    assert_eq!(states, [State::Closed, State::Established]);
}

#[test]
fn a_reused_port_of_which_only_an_acknowledgement_was_seen_before() {
    let mut old = Talk::new("10.0.0.1:40000", "10.0.0.2:80", START, (7_000, 9_000));
    old.handshake();
    let mut new = Talk::new(
        "10.0.0.1:40000",
        "10.0.0.2:80",
        START + 1000 * MS,
        (90_000, 80_000),
    );
    new.handshake();
    let packets: Vec<Recorded> = old.packets[2..].iter().chain(&new.packets).cloned().collect();
    let states: Vec<State> = dissect(&packets)
        .connections
        .iter()
        .map(|one| one.state)
        .collect();
    assert_eq!(states, [State::MidStream, State::Established]);
}

#[test]
fn datagrams_both_ways() {
    let mut chat = Chat::new("10.0.0.1:40000", "10.0.0.2:9999", START);
    chat.ask(b"one").answer(b"two!").ask(b"three");
    let connections = dissect(&chat.packets).connections;
    assert_eq!(connections.len(), 1);
    let connection = &connections[0];
    assert!(!connection.is_tcp());
    assert_eq!((connection.state, connection.calls), (State::Established, 0));
    assert_eq!(connection.client.address.port(), 40_000);
    let [client, server] = connection.sent;
    assert_eq!((client.packets, client.bytes), (2, 2 * 28 + 8));
    assert_eq!((server.packets, server.bytes), (1, 28 + 4));
}

#[test]
fn datagrams_with_a_long_pause_are_two_exchanges() {
    let mut chat = Chat::new("10.0.0.1:40000", "10.0.0.2:9999", START);
    chat.ask(b"one");
    chat.now += 31_000 * MS;
    chat.ask(b"two");
    let states: Vec<State> = dissect(&chat.packets)
        .connections
        .iter()
        .map(|one| one.state)
        .collect();
    assert_eq!(states, [State::Closed, State::Established]);
}

#[test]
fn what_two_nodes_say_to_themselves_is_not_one_connection() {
    let mut packets = Vec::new();
    for (tape, path) in [(0, "one"), (1, "two")] {
        let mut talk = Talk::new("127.0.0.1:41000", "127.0.0.1:8080", START, (1, 2));
        talk.handshake();
        for n in 0..3 {
            talk.ask(format!("GET /{path}/{n} HTTP/1.1\r\n\r\n"))
                .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        packets.extend(talk.seen_by(Who::Client, tape, 0).split_off(3));
    }
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    let tapes: Vec<_> = dissected.connections.iter().map(|c| (c.tape, c.calls)).collect();
    assert_eq!(tapes.len(), 2);
    assert!(tapes.contains(&(0, 3)) && tapes.contains(&(1, 3)), "{tapes:?}");
    for call in &dissected.calls {
        let tape = u16::from(call.path.starts_with("/two"));
        assert_eq!(
            (call.client.tape, call.status),
            (Some(tape), Some(200)),
            "{}",
            call.path
        );
    }
}

#[test]
fn of_headers_alone_both_ends_are_observers() {
    let mut talk = Talk::usual();
    talk.step = 10 * MS;
    talk.handshake().ask("GET / HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    // Without the handshake, and of each packet the headers of IP and TCP.
    let cut = |who, tape, delay| {
        let mut packets = talk.seen_by(who, tape, delay).split_off(3);
        packets.iter_mut().for_each(|packet| packet.data.truncate(40));
        packets
    };
    let mut packets = cut(Who::Server, 1, 0);
    packets.extend(cut(Who::Client, 0, 3 * MS));
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    let [connection] = &dissected.connections[..] else {
        panic!("{:?}", dissected.connections)
    };
    assert_eq!(
        (connection.seen_from, connection.tape, connection.recorded),
        (SeenFrom::Client, 0, (true, true))
    );
    assert_eq!((dissected.counters.stray, dissected.counters.repeated), (0, 0));
}

#[test]
fn times_at_the_end_of_what_can_be_told() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", u64::MAX - 3, (1, 2));
    talk.step = 1;
    talk.ask("GET / HTTP/1.1\r\n\r\n");
    let mut first = talk.seen_by(Who::Client, 0, 0);
    let mut answer = Talk::new("10.0.0.1:40000", "10.0.0.2:80", u64::MAX - 3, (1, 2));
    answer.step = 1;
    answer
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .ack(Who::Client);
    first.extend(answer.seen_by(Who::Server, 1, 0));
    first.extend(answer.seen_by(Who::Client, 0, 0));
    let ends: Vec<_> = dissect(&first).connections.iter().map(|c| c.times.1).collect();
    assert!(
        !ends.is_empty() && ends.iter().all(|end| *end <= i64::MAX as u64),
        "{ends:?}"
    );
}
