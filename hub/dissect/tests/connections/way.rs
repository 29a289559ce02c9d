//! What happens to segments on their way between the ends.

use wiretape_dissect::testing::dissect;
use wiretape_dissect::{ClientBy, SeenFrom, State};

use crate::script::{MS, SEGMENT, START, Script, Segment};

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
