//! Redis as it comes out of packets, one situation each.

mod incomplete;

use wiretape_dissect::testing::{Dissected, Talk, dissect};
use wiretape_dissect::{Call, Outcome, Value};

const GET: &str = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
const SET: &str = "*3\r\n$3\r\nset\r\n$1\r\nk\r\n$5\r\nhello\r\n";
const HELLO: &str = "$5\r\nhello\r\n";

/// Method, path, outcome, kind of reply and marks of each call.
#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

fn tell(call: &Call) -> String {
    let mut told = match &call.request {
        Some(_) => format!("{} {}", call.method, call.path).trim_end().to_owned(),
        None => format!("- {} {}", text(call, "redis_type"), text(call, "redis_channel"))
            .trim_end()
            .to_owned(),
    };
    match &call.response {
        Some(_) => told.push_str(&format!(" = {}", text(call, "redis_reply"))),
        None => told.push_str(" = ?"),
    }
    let error = text(call, "error");
    if !error.is_empty() {
        told.push_str(&format!(" {error} {}", call.outcome.as_str()));
    }
    for mark in call.marks.names() {
        told.push_str(&format!(" {mark}"));
    }
    told
}

fn text(call: &Call, name: &str) -> String {
    let field = call.fields.iter().find(|(known, _)| *known == name);
    match field {
        Some((_, Value::Text(text))) => text.to_string(),
        Some((_, Value::Int(number))) => number.to_string(),
        Some((_, Value::Bool(truth))) => truth.to_string(),
        None => String::new(),
    }
}

fn talk() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake();
    talk
}

/// A command as clients send it.
fn command(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let strings: String = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{strings}", words.len())
}

#[test]
fn one_command_and_its_reply() {
    let mut talk = talk();
    talk.ask(GET).answer(HELLO).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET k = bulk string"]);
    let call = &dissected.calls[0];
    assert_eq!(
        (call.protocol, call.version, call.outcome),
        ("redis", "RESP2", Outcome::Ok)
    );
    assert_eq!(call.client.address.to_string(), "10.0.0.1:40000");
    assert_eq!(text(call, "redis_command"), "GET k");
    assert_eq!(text(call, "redis_key"), "k");
    assert_eq!(text(call, "redis_request_size"), GET.len().to_string());
    assert_eq!(text(call, "redis_response_size"), HELLO.len().to_string());
    assert_eq!(
        text(call, "redis_total_size"),
        (GET.len() + HELLO.len()).to_string()
    );
    assert_eq!(call.unknown_side.unwrap().elapsed(), Some(1000));
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let mut talk = talk();
    talk.ask([SET, GET, &command("DEL k")].concat());
    talk.answer(["+OK\r\n", HELLO, ":1\r\n"].concat());
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &["SET k = simple string", "GET k = bulk string", "DEL k = integer"],
    );
}

#[test]
fn a_value_over_many_segments_is_passed_over() {
    let mut talk = talk();
    let value = "x".repeat(1 << 20);
    talk.ask(format!(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n",
        value.len()
    ))
    .answer("+OK\r\n");
    talk.ask(GET).answer(format!("${}\r\n{value}\r\n", value.len()));
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "SET k = simple string packets_cut",
            "GET k = bulk string packets_cut",
        ],
    );
    assert_eq!(
        text(&dissected.calls[0], "redis_command").len(),
        "SET".len() + "k".len() + 2 + 508
    );
    assert_eq!(dissected.counters.texts_cut, 1);
}

#[test]
fn errors_by_name() {
    let mut talk = talk();
    for (error, _) in ERRORS {
        talk.ask(GET).answer(format!("-{error} in words\r\n"));
    }
    for (call, (error, outcome)) in dissect(&talk.packets).calls.iter().zip(ERRORS) {
        assert_eq!((text(call, "error").as_str(), call.outcome), (*error, *outcome));
        assert_eq!(text(call, "redis_error"), format!("{error} in words"));
    }
}

const ERRORS: &[(&str, Outcome)] = &[
    ("ERR", Outcome::ClientError),
    ("WRONGTYPE", Outcome::ClientError),
    ("MOVED", Outcome::ClientError),
    ("NOAUTH", Outcome::ClientError),
    ("OOM", Outcome::ServerError),
    ("LOADING", Outcome::ServerError),
    ("READONLY", Outcome::ServerError),
];

#[test]
fn a_transaction_and_an_error_inside_its_result() {
    let mut talk = talk();
    talk.ask(command("MULTI")).answer("+OK\r\n");
    talk.ask(SET).answer("+QUEUED\r\n");
    talk.ask(command("LPUSH k 1")).answer("+QUEUED\r\n");
    talk.ask(command("EXEC"))
        .answer("*2\r\n+OK\r\n-WRONGTYPE no list\r\n");
    talk.ask(command("EXEC")).answer("*-1\r\n");
    check(
        &dissect(&talk.packets),
        &[
            "MULTI = simple string",
            "SET k = simple string",
            "LPUSH k = simple string",
            "EXEC = array WRONGTYPE client_error",
            "EXEC = nil",
        ],
    );
}

#[test]
fn commands_typed_by_hand() {
    let mut talk = talk();
    talk.ask("PING\r\n").answer("+PONG\r\n");
    talk.ask("\r\nget  k\n").answer("$-1\r\n");
    check(&dissect(&talk.packets), &["PING = simple string", "GET k = nil"]);
}

#[test]
fn a_subscription_to_several_channels_is_one_call_and_messages_answer_nothing() {
    let mut talk = talk();
    let confirm = |kind: &str, channel: &str, n: u8| {
        format!(
            "*3\r\n${}\r\n{kind}\r\n${}\r\n{channel}\r\n:{n}\r\n",
            kind.len(),
            channel.len()
        )
    };
    talk.ask(command("SUBSCRIBE news jobs"));
    talk.answer(confirm("subscribe", "news", 1))
        .answer(confirm("subscribe", "jobs", 2));
    talk.answer("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    talk.ask(command("PING")).answer("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    talk.ask(command("UNSUBSCRIBE"));
    talk.answer(confirm("unsubscribe", "news", 1))
        .answer(confirm("unsubscribe", "jobs", 0));
    talk.ask(GET).answer(HELLO);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "SUBSCRIBE news = array",
            "- MESSAGE news = array no_request",
            "PING = array",
            "UNSUBSCRIBE = array",
            "- UNSUBSCRIBE jobs = array no_request",
            "GET k = bulk string",
        ],
    );
    assert_eq!(dissected.calls[0].unknown_side.unwrap().elapsed(), Some(2000));
}

#[test]
fn a_push_of_version_3_between_a_command_and_its_reply() {
    let mut talk = talk();
    talk.ask(command("HELLO 3"))
        .answer("%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n");
    talk.ask(GET);
    talk.answer(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    talk.answer("|1\r\n+ttl\r\n:60\r\n$5\r\nhello\r\n");
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "HELLO = map",
            "GET k = bulk string",
            "- INVALIDATE = push no_request",
        ],
    );
    let versions: Vec<&str> = dissected.calls.iter().map(|call| call.version).collect();
    assert_eq!(versions, ["RESP2", "RESP3", "RESP3"]);
}

#[test]
fn a_list_that_begins_with_the_word_message_is_an_answer() {
    let mut talk = talk();
    talk.ask(command("LRANGE l 0 -1"))
        .answer("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n");
    check(&dissect(&talk.packets), &["LRANGE l = array"]);
}

#[test]
fn what_monitor_tells_is_no_call() {
    let mut talk = talk();
    talk.ask(command("MONITOR")).answer("+OK\r\n");
    talk.answer("+1700000000.123456 [0 10.0.0.9:5000] \"GET\" \"k\"\r\n");
    let dissected = dissect(&talk.packets);
    check(&dissected, &["MONITOR = simple string"]);
    assert_eq!(dissected.counters.monitored, 1);
}

#[test]
fn replies_that_were_switched_off() {
    let mut talk = talk();
    talk.ask(
        [
            &command("CLIENT REPLY OFF"),
            SET,
            GET,
            &command("CLIENT REPLY ON"),
        ]
        .concat(),
    )
    .answer("+OK\r\n");
    talk.ask([&command("CLIENT REPLY SKIP"), SET, GET].concat())
        .answer(HELLO);
    check(
        &dissect(&talk.packets),
        &[
            "CLIENT REPLY = ? no_response",
            "SET k = ? no_response",
            "GET k = ? no_response",
            "CLIENT REPLY = simple string",
            "CLIENT REPLY = ? no_response",
            "SET k = ? no_response",
            "GET k = bulk string",
        ],
    );
}

#[test]
fn replication_is_handed_over() {
    let mut talk = talk();
    talk.ask(command("PSYNC ? -1"))
        .answer("+FULLRESYNC 8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb 0\r\n");
    talk.answer("$EOF:0123456789012345678901234567890123456789\r\nREDIS0011")
        .answer(SET);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["PSYNC = simple string"]);
    assert_eq!(dissected.counters.passed_over, 1);
}

#[test]
fn a_command_without_a_reply_when_the_server_hangs_up() {
    let mut talk = talk();
    talk.ask(SET).answer("+OK\r\n").ask(GET).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["SET k = simple string", "GET k = ? no_response"]);
    assert_eq!(dissected.calls[1].outcome, Outcome::NoResponse);
}
