//! Connections that fail as such.

use wiretape_dissect::State;
use wiretape_dissect::testing::{Dissected, Talk, Who, dissect};

use crate::script::{MS, SEGMENT, START, Script, Segment};

/// Kinds and messages of the calls that tell of failures.
fn failures(dissected: &Dissected) -> Vec<String> {
    let field = |call: &wiretape_dissect::Call, name: &str| {
        let value = call.fields.iter().find(|(known, _)| *known == name);
        value.map_or(String::new(), |(_, value)| match value {
            wiretape_dissect::Value::Text(text) => text.to_string(),
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
    assert_eq!((&*call.method, call.outcome.as_str()), ("SYN", "server_error"));
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
    later.handshake();
    script.packets.extend(later.packets);
    let dissected = dissect(&script.packets);
    assert_eq!(
        failures(&dissected),
        ["CloseWait: the server has closed, the client has not"]
    );
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
