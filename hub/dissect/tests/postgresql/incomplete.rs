//! Connections joined late, seen with losses, by two observers, on other ports, and at the limits.

use wiretape_dissect::testing::{Talk, Who, dissect};

use super::*;

#[test]
fn joined_where_a_statement_had_been_prepared_before() {
    let mut talk = started();
    talk.ask([parse("s1", "SELECT a FROM b"), sync()].concat())
        .answer([message(b'1', b""), ready()].concat());
    let first = talk.packets.len();
    for _ in 0..2 {
        talk.ask([bind("s1"), execute(), sync()].concat());
        talk.answer([message(b'2', b""), rows(1), done("SELECT 1"), ready()].concat());
    }
    let dissected = dissect(&talk.packets[first..]);
    check(
        &dissected,
        &["EXECUTE = SELECT 1 joined", "EXECUTE = SELECT 1 joined"],
    );
    assert_eq!(text(&dissected.calls[0], "postgresql_statement"), "s1");
    assert_eq!(text(&dissected.calls[0], "unresolved"), "postgresql_query");
}

#[test]
fn joined_before_an_answer() {
    let mut talk = started();
    for table in ["a", "b", "c"] {
        talk.ask(query(&format!("SELECT 1 FROM {table}")))
            .answer([rows(2), done("SELECT 2"), ready()].concat());
    }
    check(
        &dissect(&talk.packets[8..]),
        &[
            "- = SELECT 2 no_request response_gap joined",
            "SELECT b = SELECT 2 joined",
            "SELECT c = SELECT 2 joined",
        ],
    );
}

#[test]
fn a_lost_row_costs_nothing_and_a_lost_end_of_an_answer_its_own_call() {
    let mut talk = started();
    talk.mss = 32;
    talk.ask(query("SELECT 1 FROM a"))
        .answer([rows(9), done("SELECT 9"), ready()].concat());
    let second = talk.packets.len();
    talk.mss = 1460;
    talk.ask(query("SELECT 1 FROM b"))
        .answer([rows(1), done("SELECT 1"), ready()].concat())
        .close();
    talk.packets.remove(second - 1);
    check(
        &dissect(&talk.packets),
        &[
            "STARTUP shop =",
            "SELECT a =  9 response_gap",
            "SELECT b = SELECT 1 after_gap",
        ],
    );
}

/// Whether it has succeeded is not known of an answer whose end was not seen.
#[track_caller]
fn check_unknown(call: &Call) {
    assert_eq!(
        (call.outcome, text(call, "postgresql_success").as_str()),
        (Outcome::Unknown, "")
    );
}

#[test]
fn a_server_that_dies_in_the_middle_of_an_answer() {
    for (asked, answered) in [
        ("SELECT 1 FROM a", rows(3)),
        ("BEGIN; UPDATE a SET b = 1", done("BEGIN")),
    ] {
        for reset in [false, true] {
            let mut talk = started();
            talk.ask(query(asked)).answer(&answered);
            if reset {
                talk.reset(Who::Server);
            } else {
                talk.close();
            }
            let dissected = dissect(&talk.packets);
            assert_eq!(dissected.calls.len(), 2);
            assert!(dissected.calls[1].response.is_some());
            check_unknown(&dissected.calls[1]);
        }
    }
}

#[test]
fn a_lost_end_of_an_answer_may_have_been_an_error() {
    let mut talk = started();
    talk.ask(query("SELECT 1 FROM a")).answer(rows(9));
    let lost = talk.packets.len();
    talk.answer([error("ERROR", "57014"), ready()].concat());
    talk.ask(query("SELECT 1 FROM b"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    talk.packets.remove(lost);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "STARTUP shop =",
            "SELECT a =  9 response_gap",
            "SELECT b = SELECT 1 after_gap",
        ],
    );
    check_unknown(&dissected.calls[1]);
    assert_eq!(dissected.calls[2].outcome, Outcome::Ok);
}

#[test]
fn postgresql_on_port_80_and_http_on_5432() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    let mut other = Talk::new(
        "10.0.0.1:40001",
        "10.0.0.2:5432",
        1_700_000_000_000_000_000,
        (1, 2),
    );
    other
        .handshake()
        .ask("POST /k HTTP/1.1\r\nHost: h\r\n\r\n")
        .answer("HTTP/1.1 204 No\r\n\r\n");
    let mut packets = talk.packets;
    packets.extend(other.packets);
    let mut protocols: Vec<&str> = dissect(&packets).calls.iter().map(|call| call.protocol).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["http", "postgresql"]);
}

#[test]
fn two_observers_give_one_call() {
    let mut talk = started();
    talk.ask(query("SELECT 1 FROM a"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    talk.ask(at_once("SELECT 1 FROM b"));
    talk.answer(
        [
            message(b'1', b""),
            message(b'2', b""),
            rows(1),
            done("SELECT 1"),
            ready(),
        ]
        .concat(),
    )
    .close();
    let mut packets = [talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, 500)].concat();
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    check(
        &dissected,
        &["STARTUP shop =", "SELECT a = SELECT 1", "SELECT b = SELECT 1"],
    );
    assert!(
        dissected
            .calls
            .iter()
            .all(|call| call.client_side.is_some() && call.server_side.is_some())
    );
}

#[test]
fn more_questions_wait_than_are_kept() {
    let mut talk = started();
    talk.ask(query("SELECT 1").repeat(1025));
    let dissected = dissect(&talk.packets);
    assert_eq!(
        (dissected.calls.len(), dissected.counters.pending_dropped),
        (1026, 1)
    );
}

#[test]
fn more_statements_in_a_text_than_are_told_one_by_one() {
    let mut talk = started();
    talk.ask(query("SELECT 1"))
        .answer([done("SELECT 1").repeat(17), ready()].concat());
    let dissected = dissect(&talk.packets);
    assert_eq!(
        text(&dissected.calls[1], "postgresql_command")
            .matches("SELECT")
            .count(),
        16
    );
    assert_eq!(text(&dissected.calls[1], "postgresql_rows"), "17");
    assert_eq!(dissected.counters.texts_cut, 1);
}

#[test]
fn a_statement_longer_than_is_kept() {
    let mut talk = started();
    talk.ask(query(&format!("SELECT {} FROM a", "1, ".repeat(3000))));
    talk.answer([rows(1), done("SELECT 1"), ready()].concat());
    let dissected = dissect(&talk.packets);
    check(&dissected, &["STARTUP shop =", "SELECT = SELECT 1"]);
    assert_eq!(dissected.counters.texts_cut, 1);
    assert_eq!(text(&dissected.calls[1], "postgresql_query").len(), 2048);
}
