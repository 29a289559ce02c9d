//! Connections as such: what their headers tell of the way between the ends. One situation each.

use etherparse::{PacketBuilder, TcpOptionElement};
use wiretape_dissect::testing::{Chat, Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{ClientBy, ConnectionRecord, Direction, Link, Nanos, SeenFrom, Sent, State};

const MS: Nanos = 1_000_000;
const START: Nanos = 1_700_000_000_000_000_000;
/// Initial sequence numbers.
const CLIENT: u32 = 1000;
const SERVER: u32 = 5000;

/// A connection written segment by segment. Numbers are relative to the initial ones.
#[derive(Default)]
struct Script {
    packets: Vec<Recorded>,
}

/// One segment; `..SEGMENT` leaves the rest as usual.
#[derive(Clone, Copy)]
struct Segment {
    flags: &'static str,
    seq: u32,
    ack: u32,
    len: usize,
    window: u16,
    scale: Option<u8>,
}

const SEGMENT: Segment = Segment {
    flags: "A",
    seq: 1,
    ack: 1,
    len: 0,
    window: 1000,
    scale: None,
};

impl Script {
    /// Sends a segment, so many ms after the begin.
    fn at(&mut self, ms: u64, who: Who, segment: Segment) -> &mut Self {
        let ([from, to], [port, to_port], [isn, other]) = match who {
            Who::Client => ([[10, 0, 0, 1], [10, 0, 0, 2]], [40_000, 80], [CLIENT, SERVER]),
            Who::Server => ([[10, 0, 0, 2], [10, 0, 0, 1]], [80, 40_000], [SERVER, CLIENT]),
        };
        let seq = isn.wrapping_add(segment.seq);
        let mut builder = PacketBuilder::ipv4(from, to, 64).tcp(port, to_port, seq, segment.window);
        for flag in segment.flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'F' => builder.fin(),
                'R' => builder.rst(),
                _ => builder.ack(other.wrapping_add(segment.ack)),
            };
        }
        if let Some(shift) = segment.scale {
            builder = builder.options(&[TcpOptionElement::WindowScale(shift)]).unwrap();
        }
        let mut data = Vec::new();
        builder.write(&mut data, &vec![b'.'; segment.len]).unwrap();
        self.packets.push(Recorded {
            ts: START + ms * MS,
            orig_len: data.len() as u32,
            data,
            link: Link::Raw,
            direction: Direction::Unknown,
            tape: 0,
            interface: 0,
            cgroup: 0,
            at: self.packets.len() as u64,
        });
        self
    }

    fn client(&mut self, ms: u64, segment: Segment) -> &mut Self {
        self.at(ms, Who::Client, segment)
    }

    fn server(&mut self, ms: u64, segment: Segment) -> &mut Self {
        self.at(ms, Who::Server, segment)
    }

    fn syn(&mut self, ms: u64) -> &mut Self {
        let syn = Segment {
            flags: "S",
            seq: 0,
            scale: Some(2),
            ..SEGMENT
        };
        self.client(ms, syn)
    }

    fn syn_ack(&mut self, ms: u64) -> &mut Self {
        let syn_ack = Segment {
            flags: "SA",
            seq: 0,
            scale: Some(3),
            ..SEGMENT
        };
        self.server(ms, syn_ack)
    }

    /// A handshake whose round trip is 40 ms, at the client's side.
    fn handshake() -> Self {
        let mut script = Self::default();
        script.syn(0).syn_ack(40).client(40, SEGMENT);
        script
    }

    /// Data of the server, which the client acknowledges when `acked`.
    fn data(&mut self, ms: u64, seq: u32, len: usize, acked: bool) -> &mut Self {
        self.server(ms, Segment { seq, len, ..SEGMENT });
        if acked {
            let ack = seq + len as u32;
            self.client(ms, Segment { ack, ..SEGMENT });
        }
        self
    }

    #[track_caller]
    fn one(&self) -> ConnectionRecord {
        let mut connections = dissect(&self.packets).connections;
        assert_eq!(connections.len(), 1);
        connections.remove(0)
    }

    /// What the server sent.
    #[track_caller]
    fn servers(&self) -> Sent {
        self.one().sent[1]
    }

    /// What the client sent.
    #[track_caller]
    fn clients(&self) -> Sent {
        self.one().sent[0]
    }
}

/// Kinds and messages of the calls that tell of failures.
fn failures(dissected: &Dissected) -> Vec<String> {
    let field = |call: &wiretape_dissect::Call, name: &str| {
        let value = call.fields.iter().find(|(known, _)| *known == name);
        value.map_or(String::new(), |(_, value)| match value {
            wiretape_dissect::Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        })
    };
    let failed = dissected.calls.iter().filter(|call| call.protocol == "tcp");
    failed
        .map(|call| {
            format!(
                "{}: {}",
                field(call, "tcp_error_type"),
                field(call, "tcp_error_message")
            )
        })
        .collect()
}

#[test]
fn an_exchange_from_begin_to_end() {
    let mut script = Script::handshake();
    let ask = Segment { len: 100, ..SEGMENT };
    script.client(41, ask).server(
        90,
        Segment {
            ack: 101,
            len: 300,
            ..SEGMENT
        },
    );
    script.client(
        91,
        Segment {
            seq: 101,
            ack: 301,
            ..SEGMENT
        },
    );
    script.client(
        95,
        Segment {
            flags: "FA",
            seq: 101,
            ack: 301,
            ..SEGMENT
        },
    );
    script.server(
        130,
        Segment {
            flags: "FA",
            seq: 301,
            ack: 102,
            ..SEGMENT
        },
    );
    script.client(
        131,
        Segment {
            seq: 102,
            ack: 302,
            ..SEGMENT
        },
    );
    let connection = script.one();
    assert_eq!(
        (connection.state, connection.client_by, connection.seen_from),
        (State::Closed, ClientBy::Opening, SeenFrom::Between)
    );
    assert_eq!(connection.client.address.to_string(), "10.0.0.1:40000");
    assert_eq!(connection.times, (START, START + 131 * MS));
    let tcp = connection.tcp.unwrap();
    assert_eq!(tcp.completeness, 31);
    assert_eq!((tcp.initial_rtt, tcp.handshake), (Some(40 * MS), Some(40 * MS)));
    assert_eq!(tcp.first_byte, Some(49 * MS));
    let [client, server] = connection.sent;
    assert_eq!(
        (client.packets, client.bytes, client.goodput),
        (6, 44 + 5 * 40 + 100, 100)
    );
    assert_eq!(
        (server.packets, server.bytes, server.goodput),
        (3, 44 + 2 * 40 + 300, 300)
    );
    assert_eq!((client.window_shift, server.window_shift), (Some(2), Some(3)));
    // SYN, request and FIN, each acknowledged by one segment.
    let trips = client.round_trips;
    assert_eq!((trips.samples, trips.min, trips.max), (3, 35_000, 49_000));
    assert_eq!((trips.mean(), trips.deviation()), (41_333, 5_792));
    assert_eq!(client.windows, (5 * 4000, 5));
    assert_eq!(
        (client.retransmissions, client.dup_acks, client.lost_segments),
        (0, 0, 0)
    );
}

#[test]
fn a_retransmission_after_a_timeout() {
    let mut script = Script::handshake();
    script.data(50, 1, 100, false).data(350, 1, 100, true);
    let sent = script.servers();
    assert_eq!(
        (sent.retransmissions, sent.fast_retransmissions, sent.out_of_order),
        (1, 0, 0)
    );
    assert_eq!((sent.segments, sent.goodput), (3, 100));
    // By the first copy: whose acknowledgement it is, nobody can tell.
    assert_eq!(sent.round_trips.max, 300_000);
}

#[test]
fn a_fast_retransmission() {
    let mut script = Script::handshake();
    script
        .data(50, 1, 100, true)
        .data(51, 201, 100, false)
        .data(52, 301, 100, false);
    let asks = Segment { ack: 101, ..SEGMENT };
    script.client(100, asks).client(101, asks).client(102, asks);
    script.data(110, 101, 100, false);
    let sent = script.servers();
    assert_eq!(
        (
            sent.lost_segments,
            sent.fast_retransmissions,
            sent.retransmissions
        ),
        (1, 1, 1)
    );
    assert_eq!(script.clients().dup_acks, 3);
    assert_eq!(sent.goodput, 400);
}

#[test]
fn segments_out_of_order() {
    let mut script = Script::handshake();
    script.data(50, 101, 100, false).data(55, 1, 100, true);
    let sent = script.servers();
    // The first segment is ahead of the handshake, the second one comes within a round trip.
    assert_eq!(
        (sent.lost_segments, sent.out_of_order, sent.retransmissions),
        (1, 1, 0)
    );
    assert_eq!(sent.goodput, 200);
}

#[test]
fn what_the_other_end_has_already_is_a_retransmission() {
    let mut script = Script::handshake();
    script.data(50, 1, 100, true).data(51, 1, 100, false);
    assert_eq!(
        (script.servers().retransmissions, script.servers().out_of_order),
        (1, 0)
    );
}

#[test]
fn a_window_that_closes_and_opens_again() {
    let mut script = Script::handshake();
    script.data(50, 1, 4000, false);
    let closed = Segment {
        ack: 4001,
        window: 0,
        ..SEGMENT
    };
    script.client(51, closed);
    // A probe of one byte beyond, and the answer that there is still no room.
    script
        .server(
            300,
            Segment {
                seq: 4001,
                len: 1,
                ..SEGMENT
            },
        )
        .client(300, closed);
    script.client(
        400,
        Segment {
            window: 1000,
            ..closed
        },
    );
    script.data(401, 4001, 100, false);
    let (client, server) = (script.clients(), script.servers());
    assert_eq!((client.zero_windows, client.dup_acks), (2, 0));
    // 1000, shifted by 2: to the edge.
    assert_eq!(server.windows_full, 1);
    assert_eq!(
        (server.retransmissions, server.lost_segments, server.keep_alives),
        (0, 0, 0)
    );
}

#[test]
fn keep_alives_are_no_retransmissions_and_their_answers_no_repeated_acknowledgements() {
    let mut script = Script::handshake();
    script.data(50, 1, 100, true);
    let nothing_new = Segment { ack: 101, ..SEGMENT };
    for ms in [10_000, 20_000] {
        script
            .server(ms, Segment { seq: 100, ..SEGMENT })
            .client(ms, nothing_new);
    }
    script.server(
        30_000,
        Segment {
            seq: 100,
            len: 1,
            ..SEGMENT
        },
    );
    let server = script.servers();
    assert_eq!(
        (server.keep_alives, server.retransmissions, server.goodput),
        (3, 0, 100)
    );
    assert_eq!(script.clients().dup_acks, 0);
}

#[test]
fn a_syn_that_nobody_answers() {
    let mut script = Script::default();
    script.syn(0).syn(1000).syn(3000);
    let dissected = dissect(&script.packets);
    assert_eq!(dissected.connections[0].state, State::SynSent);
    assert_eq!(dissected.connections[0].state.in_short(), "in_progress");
    assert_eq!(dissected.connections[0].sent[0].retransmissions, 2);
    assert_eq!(
        failures(&dissected),
        ["SynSent: 3 SYNs in 3000 ms were not answered"]
    );
    // The recording ended before anybody could have answered: nothing is claimed.
    let mut script = Script::default();
    let dissected = dissect(&script.syn(0).packets);
    assert_eq!((dissected.connections.len(), failures(&dissected).len()), (1, 0));
}

#[test]
fn a_connection_refused() {
    let mut script = Script::default();
    script.syn(0).server(
        3,
        Segment {
            flags: "RA",
            seq: 0,
            ..SEGMENT
        },
    );
    let dissected = dissect(&script.packets);
    let connection = &dissected.connections[0];
    assert_eq!(
        (connection.state, connection.tcp.unwrap().completeness),
        (State::Refused, 33)
    );
    assert_eq!(
        failures(&dissected),
        ["Reset: refused: the SYN was answered by a reset"]
    );
    let call = &dissected.calls[0];
    assert_eq!(
        (call.method.as_str(), call.outcome.as_str()),
        ("SYN", "server_error")
    );
    assert_eq!(call.observation().unwrap().elapsed(), Some(3 * MS));
}

#[test]
fn an_answer_to_a_syn_that_is_not_answered() {
    let mut script = Script::default();
    script.syn(0).syn_ack(1).syn_ack(1001);
    assert_eq!(script.one().state, State::SynReceived);
}

#[test]
fn a_reset_in_the_middle_of_a_transfer() {
    let mut script = Script::handshake();
    script
        .client(41, Segment { len: 10, ..SEGMENT })
        .data(50, 1, 100, false);
    script.server(
        60,
        Segment {
            flags: "RA",
            seq: 101,
            ack: 11,
            ..SEGMENT
        },
    );
    let dissected = dissect(&script.packets);
    assert_eq!(dissected.connections[0].state, State::Reset);
    assert_eq!(dissected.connections[0].tcp.unwrap().completeness, 47);
    let expected = "Reset: reset by the server, after 10 bytes from the client and 100 from the server";
    assert_eq!(failures(&dissected), [expected]);
    // Joined behind the handshake, it may have been used for long: the record says that it was reset, and that is all.
    let joined = dissect(&script.packets[3..]);
    assert_eq!(
        (joined.connections[0].state, failures(&joined).len()),
        (State::Reset, 0)
    );
}

#[test]
fn a_reset_of_a_connection_that_has_served_is_no_failure() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET / HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .reset(Who::Client);
    let dissected = dissect(&talk.packets);
    let connection = &dissected.connections[0];
    assert_eq!((connection.state, connection.calls), (State::Reset, 1));
    assert_eq!(connection.protocols, ["http"]);
    assert_eq!(failures(&dissected).len(), 0);
}

#[test]
fn an_end_that_never_closes() {
    let mut script = Script::handshake();
    script
        .server(
            50,
            Segment {
                flags: "FA",
                ..SEGMENT
            },
        )
        .client(51, Segment { ack: 2, ..SEGMENT });
    let mut later = Talk::new("10.0.0.1:40001", "10.0.0.2:80", START + 61_000 * MS, (1, 2));
    // Of the same shard, whose time it is.
    let port = (40_001..).find(|port| {
        later = Talk::new(
            &format!("10.0.0.1:{port}"),
            "10.0.0.2:80",
            START + 61_000 * MS,
            (1, 2),
        );
        shard(&later.handshake().packets[0]) == shard(&script.packets[0])
    });
    assert!(port.is_some());
    script.packets.extend(later.packets);
    let dissected = dissect(&script.packets);
    assert_eq!(
        failures(&dissected),
        ["CloseWait: the server has closed, the client has not"]
    );
}

fn shard(packet: &Recorded) -> u16 {
    match wiretape_dissect::Router::new().route(&packet.packet()) {
        wiretape_dissect::Routed::Segment { shard, .. } => shard,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_last_fin_that_nobody_acknowledges() {
    let mut script = Script::handshake();
    script.client(
        50,
        Segment {
            flags: "FA",
            ..SEGMENT
        },
    );
    for ms in [60, 260, 660, 1460] {
        script.server(
            ms,
            Segment {
                flags: "FA",
                ack: 2,
                ..SEGMENT
            },
        );
    }
    let dissected = dissect(&script.packets);
    assert_eq!(
        failures(&dissected),
        ["LastAck: 4 FINs of the server were not acknowledged"]
    );
}

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
fn more_segments_under_way_than_are_waited_for() {
    let mut script = Script::handshake();
    for n in 0..200 {
        script.data(50, 1 + n * 10, 10, false);
    }
    script.client(60, Segment { ack: 2001, ..SEGMENT });
    let dissected = dissect(&script.packets);
    assert_eq!(dissected.counters.round_trips_missed, 200 - 128);
    // Without the segment that it acknowledges, the acknowledgement measures nothing.
    assert_eq!(dissected.connections[0].sent[1].round_trips.samples, 1);
}
