//! Connections joined late, seen with losses, by two observers, on other ports, and at the limits.

use wiretape_dissect::Marks;
use wiretape_dissect::testing::{Talk, Who, dissect};

use super::*;

#[test]
fn joined_before_a_command() {
    let mut talk = talk();
    talk.ask(SET)
        .answer("+OK\r\n")
        .ask(GET)
        .answer(HELLO)
        .ask(SET)
        .answer("+OK\r\n");
    check(
        &dissect(&talk.packets[5..]),
        &["GET k = bulk string joined", "SET k = simple string joined"],
    );
}

#[test]
fn joined_before_a_reply() {
    let mut talk = talk();
    talk.ask(GET)
        .answer(HELLO)
        .ask(SET)
        .answer("+OK\r\n")
        .ask(GET)
        .answer(HELLO);
    check(
        &dissect(&talk.packets[4..]),
        &[
            "- = bulk string no_request joined",
            "SET k = simple string joined",
            "GET k = bulk string joined",
        ],
    );
}

#[test]
fn joined_where_a_command_of_a_pipeline_was_missed() {
    let mut talk = talk();
    talk.ask(GET).ask(SET).answer([HELLO, "+OK\r\n"].concat());
    talk.ask(GET).answer(HELLO).ask(SET).answer("+OK\r\n");
    check(
        &dissect(&talk.packets[4..]),
        &[
            "SET k = ? no_response joined after_gap",
            "- = bulk string no_request joined after_gap",
            "- = simple string no_request joined after_gap",
            "GET k = bulk string joined after_gap",
            "SET k = simple string joined after_gap",
        ],
    );
}

#[test]
fn joined_by_a_subscriber_to_whom_only_messages_come() {
    let mut talk = talk();
    talk.ask(command("SUBSCRIBE news"))
        .answer("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    for _ in 0..2 {
        talk.answer("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n")
            .ack(Who::Client);
    }
    check(
        &dissect(&talk.packets[5..]),
        &[
            "- MESSAGE news = array no_request joined",
            "- MESSAGE news = array no_request joined",
        ],
    );
}

#[test]
fn a_lost_reply_costs_its_own_call_and_no_other() {
    let mut talk = talk();
    talk.ask(GET)
        .answer(HELLO)
        .ask(SET)
        .answer("+OK\r\n")
        .ask(GET)
        .answer(HELLO)
        .ask(SET)
        .answer("+OK\r\n")
        .close();
    talk.packets.remove(6);
    check(
        &dissect(&talk.packets),
        &[
            "GET k = bulk string",
            "SET k = ? no_response after_gap",
            "GET k = bulk string after_gap",
            "SET k = simple string after_gap",
        ],
    );
}

#[test]
fn a_lost_piece_of_a_value_costs_nothing_but_that() {
    let mut talk = talk();
    let value = "x".repeat(5000);
    talk.ask(GET)
        .answer(format!("$5000\r\n{value}\r\n"))
        .ask(SET)
        .answer("+OK\r\n");
    talk.packets.remove(5);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &["GET k = bulk string response_gap", "SET k = simple string"],
    );
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().missing, 1460);
}

#[test]
fn a_lost_segment_in_the_middle_of_a_name_or_a_key() {
    for (command, cut, expected) in [
        // What was asked is not known, so neither is what the answer is to.
        (
            "*2\r\n$6\r\nGETDEL\r\n$6\r\nuser:1\r\n",
            11,
            vec![
                "- = bulk string no_request after_gap",
                "SET k = simple string after_gap",
            ],
        ),
        (
            "*1\r\n$6\r\nDBSIZE\r\n",
            10,
            vec![
                "- = bulk string no_request after_gap",
                "SET k = simple string after_gap",
            ],
        ),
        (
            "*2\r\n$3\r\nGET\r\n$10\r\nuser:12345\r\n",
            24,
            vec!["GET = bulk string request_gap", "SET k = simple string"],
        ),
        // Only the end of its line is missing.
        (
            "*2\r\n$3\r\nGET\r\n$10\r\nuser:12345\r\n",
            28,
            vec![
                "GET user:12345 = bulk string request_gap",
                "SET k = simple string",
            ],
        ),
    ] {
        let mut talk = talk();
        talk.ask(SET).answer("+OK\r\n").ask(&command[..cut]);
        let lost = talk.packets.len();
        talk.ask(&command[cut..]).answer(HELLO);
        talk.ask(SET).answer("+OK\r\n");
        talk.packets.remove(lost);
        let dissected = dissect(&talk.packets);
        let told: Vec<String> = dissected.calls.iter().skip(1).map(tell).collect();
        assert_eq!(told, expected, "{:#?}", dissected.calls);
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_key() {
    let mut talk = talk();
    talk.ask(SET).answer("+OK\r\n");
    talk.ask("*2\r\n$3\r\nGET\r\n$10\r\nuser:1").reset(Who::Client);
    let dissected = dissect(&talk.packets);
    assert_eq!((dissected.calls.len(), &*dissected.calls[1].path), (2, ""));
}

#[test]
fn a_lost_segment_in_the_middle_of_a_channel() {
    let mut talk = talk();
    talk.ask(command("HELLO 3")).answer("%1\r\n+a\r\n+b\r\n");
    let push = ">3\r\n$7\r\nmessage\r\n$10\r\nnews:12345\r\n$2\r\nhi\r\n";
    for cut in [12, 28] {
        let mut talk = talk.clone();
        let lost = talk.packets.len() + 1;
        talk.answer(&push[..cut])
            .answer(&push[cut..37])
            .answer(&push[37..]);
        talk.packets.remove(lost);
        let dissected = dissect(&talk.packets);
        let [_, message] = &dissected.calls[..] else {
            panic!("{:#?}", dissected.calls)
        };
        let told = (text(message, "redis_type"), text(message, "redis_channel"));
        let kind = if cut == 12 { "" } else { "MESSAGE" };
        assert_eq!(told, (kind.to_owned(), String::new()), "{cut}");
    }
}

#[test]
fn redis_on_port_80_and_http_on_6379() {
    let mut talk = talk();
    talk.ask(GET).answer(HELLO);
    let mut other = Talk::new(
        "10.0.0.1:40001",
        "10.0.0.2:6379",
        1_700_000_000_000_000_000,
        (1, 2),
    );
    other
        .handshake()
        .ask("GET /k HTTP/1.1\r\nHost: h\r\n\r\n")
        .answer("HTTP/1.1 204 No\r\n\r\n");
    let mut packets = talk.packets;
    packets.extend(other.packets);
    let mut protocols: Vec<&str> = dissect(&packets).calls.iter().map(|call| call.protocol).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["http", "redis"]);
}

#[test]
fn a_nats_client_is_not_taken_for_one_of_redis() {
    let mut talk = talk();
    talk.answer("INFO {\"verbose\":true}\r\n")
        .ask("CONNECT {\"verbose\":true}\r\n")
        .answer("+OK\r\n");
    talk.ask("PING\r\n")
        .answer("PONG\r\n")
        .ask("SUB a 1\r\n")
        .answer("+OK\r\n")
        .ask("PING\r\n")
        .answer("PONG\r\n");
    check(&dissect(&talk.packets), &[]);
}

#[test]
fn two_observers_give_one_call_with_the_fields_of_both() {
    let mut talk = talk();
    talk.ask(GET).answer(HELLO).ask(SET).answer("+OK\r\n").close();
    let mut client = talk.seen_by(Who::Client, 0, 0);
    let server = talk.seen_by(Who::Server, 1, 500);
    // The client's node has lost the first reply, which says what the call came to.
    client.remove(4);
    let mut packets = [client, server].concat();
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    assert_eq!(dissected.calls.len(), 2, "{:#?}", dissected.calls);
    let call = &dissected.calls[0];
    assert_eq!(
        (&*call.method, text(call, "redis_reply").as_str()),
        ("GET", "bulk string")
    );
    assert_eq!(
        text(call, "redis_total_size"),
        (GET.len() + HELLO.len()).to_string()
    );
    assert!(!call.marks.has(Marks::NO_RESPONSE));
}

#[test]
fn two_observers_of_which_each_has_lost_one_half() {
    let mut talk = talk();
    talk.ask(SET)
        .answer("+OK\r\n")
        .ask(GET)
        .answer(HELLO)
        .ask(SET)
        .answer("+OK\r\n")
        .close();
    let (mut client, mut server) = (talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, 500));
    client.remove(6);
    server.remove(5);
    let mut packets = [client, server].concat();
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    check(
        &dissected,
        &[
            "SET k = simple string",
            "GET k = bulk string after_gap",
            "SET k = simple string after_gap",
        ],
    );
    let call = &dissected.calls[1];
    assert_eq!(
        text(call, "redis_total_size"),
        (GET.len() + HELLO.len()).to_string()
    );
    assert_eq!(text(call, "redis_command"), "GET k");
}

#[test]
fn more_commands_wait_than_are_kept() {
    let mut talk = talk();
    talk.ask(command("PING").repeat(1025));
    let dissected = dissect(&talk.packets);
    assert_eq!(
        (dissected.calls.len(), dissected.counters.pending_dropped),
        (1025, 1)
    );
}

#[test]
fn an_error_longer_than_is_kept() {
    let mut talk = talk();
    talk.ask(GET).answer(format!("-ERR {}\r\n", "x".repeat(1000)));
    let dissected = dissect(&talk.packets);
    assert_eq!(text(&dissected.calls[0], "redis_error").len(), 256);
    assert_eq!(dissected.counters.texts_cut, 1);
}

#[test]
fn joined_before_a_client_that_always_has_commands_under_way() {
    let value = |n: usize| format!("${n}\r\n{}\r\n", "x".repeat(n));
    let mut talk = talk();
    talk.ask(command("GET 10"));
    for n in 11..111 {
        talk.ask(command(&format!("GET {n}"))).answer(value(n - 1));
    }
    // There is no place at which everything is answered, but 64 pairs without a contradiction.
    let dissected = dissect(&talk.packets[3..]);
    assert_eq!(dissected.calls.len(), 101);
    for call in dissected.calls.iter().filter(|call| call.response.is_some()) {
        let size = value(call.path.parse().unwrap()).len();
        assert_eq!(text(call, "redis_response_size"), size.to_string());
    }
    assert_eq!(
        dissected
            .calls
            .iter()
            .filter(|call| call.response.is_none())
            .count(),
        1
    );
}

#[test]
fn a_line_without_an_end() {
    let mut talk = talk();
    talk.ask(GET).answer(format!("+{}", "x".repeat(20_000)));
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET k = ? no_response after_gap"]);
    assert_eq!(dissected.counters.heads_too_long, 1);
}
