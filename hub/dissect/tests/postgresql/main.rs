//! PostgreSQL as it comes out of packets, one situation each.

mod incomplete;

mod prepared;

use wiretape_dissect::testing::{Dissected, Talk, dissect};
use wiretape_dissect::{Call, Outcome, Value};

/// Method, path, command, rows, error and marks of each call.
#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

fn tell(call: &Call) -> String {
    let mut told = match &call.request {
        Some(_) => format!("{} {}", call.method, call.path).trim_end().to_owned(),
        None => "-".to_owned(),
    };
    match &call.response {
        Some(_) => {
            let command = text(call, "postgresql_command");
            told.push_str(&format!(" = {command} {}", text(call, "postgresql_rows")));
            told.truncate(told.trim_end().len());
        }
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

fn message(kind: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let len = (content.len() + 4) as u32;
    [&[kind][..], &len.to_be_bytes(), content].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0"))
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0"))
}

fn bind(statement: &str) -> Vec<u8> {
    message(b'B', format!("\0{statement}\0\0\0\0\0\0\0"))
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn done(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0"))
}

fn rows(count: usize) -> Vec<u8> {
    let columns = message(
        b'T',
        b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
    );
    let row = message(b'D', b"\0\x01\0\0\0\x03abc");
    [columns, row.repeat(count)].concat()
}

fn error(severity: &str, code: &str) -> Vec<u8> {
    message(
        b'E',
        format!("S{severity}\0V{severity}\0C{code}\0Mwhat went wrong\0\0"),
    )
}

/// Parse, Bind and Execute of a statement without a name, and what comes back.
fn at_once(statement: &str) -> Vec<u8> {
    [parse("", statement), bind(""), execute(), sync()].concat()
}

fn talk() -> Talk {
    let mut talk = Talk::new(
        "10.0.0.1:40000",
        "10.0.0.2:5432",
        1_700_000_000_000_000_000,
        (1000, 5000),
    );
    talk.handshake();
    talk
}

fn started() -> Talk {
    let mut talk = talk();
    let names = "user\0ann\0database\0shop\0\0";
    let startup = [
        &(names.len() as u32 + 8).to_be_bytes()[..],
        b"\0\x03\0\0",
        names.as_bytes(),
    ]
    .concat();
    talk.ask(startup)
        .answer(message(b'R', b"\0\0\0\x05abcd"))
        .ask(message(b'p', "md5secret\0"));
    let settings = [
        message(b'R', b"\0\0\0\0"),
        message(b'S', "a\0b\0"),
        message(b'K', b"\0\0\0\x01\0\0\0\x02"),
    ];
    talk.answer([settings.concat(), ready()].concat());
    talk
}

#[test]
fn a_connection_starts_and_asks_one_thing() {
    let mut talk = started();
    let ask = query("SELECT *\n  FROM orders");
    let answer = [rows(3), done("SELECT 3"), ready()].concat();
    talk.ask(&ask).answer(&answer).ask(message(b'X', b"")).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["STARTUP shop =", "SELECT orders = SELECT 3"]);
    let call = &dissected.calls[1];
    assert_eq!(
        (call.protocol, call.version, call.outcome),
        ("postgresql", "3.0", Outcome::Ok)
    );
    for (name, value) in [
        ("postgresql_query", "SELECT * FROM orders"),
        ("postgresql_user", "ann"),
        ("postgresql_database", "shop"),
        ("postgresql_success", "true"),
        ("postgresql_state", "idle"),
        ("postgresql_request_size", &ask.len().to_string()),
        ("postgresql_response_size", &answer.len().to_string()),
        ("postgresql_total_size", &(ask.len() + answer.len()).to_string()),
    ] {
        assert_eq!(text(call, name), value, "{name}");
    }
    assert_eq!(call.unknown_side.unwrap().elapsed(), Some(1000));
}

#[test]
fn several_statements_in_one_text_are_one_call() {
    let mut talk = started();
    talk.ask(query("BEGIN; UPDATE a SET b = 1; DELETE FROM c"));
    talk.answer(
        [
            done("BEGIN"),
            done("UPDATE 2"),
            done("DELETE 3"),
            message(b'Z', b"T"),
        ]
        .concat(),
    );
    let dissected = dissect(&talk.packets);
    check(&dissected, &["STARTUP shop =", "BEGIN = BEGIN, UPDATE, DELETE 5"]);
    assert_eq!(text(&dissected.calls[1], "postgresql_state"), "transaction");
}

#[test]
fn a_prepared_statement_is_run_by_its_name() {
    let mut talk = started();
    let describe = message(b'D', "Ss1\0");
    talk.ask([parse("s1", "SELECT a FROM b WHERE c = $1"), describe, sync()].concat());
    talk.answer(
        [
            message(b'1', b""),
            message(b't', b"\0\0"),
            message(b'n', b""),
            ready(),
        ]
        .concat(),
    );
    for count in 1..3 {
        talk.ask([bind("s1"), execute(), sync()].concat());
        talk.answer(
            [
                message(b'2', b""),
                rows(count),
                done(&format!("SELECT {count}")),
                ready(),
            ]
            .concat(),
        );
    }
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "STARTUP shop =",
            "PARSE b =",
            "SELECT b = SELECT 1",
            "SELECT b = SELECT 2",
        ],
    );
    assert_eq!(
        text(&dissected.calls[3], "postgresql_query"),
        "SELECT a FROM b WHERE c = $1"
    );
}

#[test]
fn statements_in_a_pipeline_each_have_their_own_answer() {
    let mut talk = started();
    let asks = [
        parse("", "INSERT INTO a VALUES (1)"),
        bind(""),
        execute(),
        bind(""),
        execute(),
        sync(),
    ]
    .concat();
    talk.ask(asks).ask(at_once("SELECT 1 FROM b"));
    let inserted = [message(b'2', b""), done("INSERT 0 1")].concat();
    talk.answer([message(b'1', b""), inserted.repeat(2), ready()].concat());
    talk.answer(
        [
            message(b'1', b""),
            message(b'2', b""),
            rows(1),
            done("SELECT 1"),
            ready(),
        ]
        .concat(),
    );
    check(
        &dissect(&talk.packets),
        &[
            "STARTUP shop =",
            "INSERT a = INSERT 1",
            "INSERT a = INSERT 1",
            "SELECT b = SELECT 1",
        ],
    );
}

#[test]
fn what_comes_after_an_error_in_a_pipeline_is_passed_over() {
    let mut talk = started();
    talk.ask(
        [
            parse("", "INSERT INTO a VALUES (1)"),
            bind(""),
            execute(),
            bind(""),
            execute(),
            sync(),
        ]
        .concat(),
    );
    talk.answer(
        [
            message(b'1', b""),
            message(b'2', b""),
            error("ERROR", "23505"),
            ready(),
        ]
        .concat(),
    );
    talk.ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "STARTUP shop =",
            "INSERT a = 23505 client_error",
            "INSERT a = ? no_response",
            "SELECT = SELECT 1",
        ],
    );
    assert_eq!(
        text(&dissected.calls[1], "postgresql_error_message"),
        "what went wrong"
    );
    assert_eq!(text(&dissected.calls[1], "postgresql_success"), "false");
    assert_eq!(text(&dissected.calls[2], "postgresql_skipped"), "true");
}

#[test]
fn a_statement_that_cannot_be_prepared() {
    let mut talk = started();
    talk.ask([parse("s1", "SELEC"), message(b'D', "Ss1\0"), sync()].concat());
    talk.answer([error("ERROR", "42601"), ready()].concat());
    talk.ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    check(
        &dissect(&talk.packets),
        &[
            "STARTUP shop =",
            "PARSE = 42601 client_error",
            "SELECT = SELECT 1",
        ],
    );
}

#[test]
fn a_statement_that_took_too_long() {
    let mut talk = started();
    talk.ask(query("SELECT pg_sleep(10)"))
        .answer([rows(0), error("ERROR", "57014"), ready()].concat());
    check(
        &dissect(&talk.packets),
        &["STARTUP shop =", "SELECT = 57014 timeout"],
    );
}

#[test]
fn an_error_at_the_end_of_a_transaction() {
    let mut talk = started();
    talk.ask(at_once("INSERT INTO a VALUES (1)"));
    talk.answer(
        [
            message(b'1', b""),
            message(b'2', b""),
            done("INSERT 0 1"),
            error("ERROR", "23503"),
            ready(),
        ]
        .concat(),
    );
    check(
        &dissect(&talk.packets),
        &[
            "STARTUP shop =",
            "INSERT a = INSERT 1",
            "SYNC = 23503 client_error",
        ],
    );
}

#[test]
fn a_refused_connection_and_a_server_that_shuts_down() {
    let mut refused = talk();
    refused
        .ask(b"\0\0\0\x12\0\x03\0\0user\0ann\0\0")
        .answer(error("FATAL", "28P01"))
        .close();
    check(&dissect(&refused.packets), &["STARTUP ann = 28P01 client_error"]);
    let mut talk = started();
    talk.answer(error("FATAL", "57P01")).close();
    check(
        &dissect(&talk.packets),
        &["STARTUP shop =", "- = 57P01 server_error no_request"],
    );
}

#[test]
fn a_table_is_copied_in_and_out() {
    let mut talk = started();
    talk.ask(query("COPY a FROM STDIN"))
        .answer(message(b'G', b"\0\0\x01\0\0"));
    for _ in 0..3 {
        talk.ask(message(b'd', "1\t2\n".repeat(1000)));
    }
    talk.ask(message(b'c', b""))
        .answer([done("COPY 3000"), ready()].concat());
    talk.ask(query("COPY a TO STDOUT"));
    let row = message(b'd', "1\t2\n");
    talk.answer(
        [
            message(b'H', b"\0\0\x01\0\0"),
            row.repeat(3000),
            message(b'c', b""),
            done("COPY 3000"),
            ready(),
        ]
        .concat(),
    );
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &["STARTUP shop =", "COPY a = COPY 3000", "COPY a = COPY 3000"],
    );
    let [_, copied_in, copied_out] = &dissected.calls[..] else {
        panic!()
    };
    assert!(copied_in.request.as_ref().unwrap().body_len > 12_000);
    assert_eq!(text(copied_out, "postgresql_copied_bytes"), "12000");
}

#[test]
fn a_table_is_copied_in_by_a_prepared_statement() {
    let mut talk = started();
    // The server does not answer a sync while it takes a table.
    talk.ask(at_once("COPY a FROM STDIN"))
        .answer([message(b'1', b""), message(b'2', b""), message(b'G', b"\0\0\0")].concat());
    talk.ask([message(b'd', "1\n"), message(b'c', b""), sync()].concat())
        .answer([done("COPY 1"), ready()].concat());
    talk.ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    check(
        &dissect(&talk.packets),
        &["STARTUP shop =", "COPY a = COPY 1", "SELECT = SELECT 1"],
    );
}

#[test]
fn a_function_is_called_by_its_number() {
    let mut talk = started();
    talk.ask(message(b'F', b"\0\0\x03\xe8\0\0\0\0\0\0"))
        .answer([message(b'V', b"\xff\xff\xff\xff"), ready()].concat());
    check(&dissect(&talk.packets), &["STARTUP shop =", "FUNCTION 1000 ="]);
}

#[test]
fn notices_belong_to_an_answer_and_notifications_to_none() {
    let mut talk = started();
    talk.ask(query("LISTEN jobs"))
        .answer([message(b'N', "SNOTICE\0\0"), done("LISTEN"), ready()].concat());
    talk.answer(message(b'A', b"\0\0\0\x01jobs\0now\0"));
    talk.ask(query("SELECT 1"))
        .answer([rows(1), done("SELECT 1"), ready()].concat());
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "STARTUP shop =",
            "LISTEN = LISTEN",
            "- = NOTIFY no_request",
            "SELECT = SELECT 1",
        ],
    );
    assert_eq!(text(&dissected.calls[1], "postgresql_notices"), "1");
    assert_eq!(text(&dissected.calls[2], "postgresql_channel"), "jobs");
}

#[test]
fn a_question_is_cancelled_from_another_connection() {
    let mut talk = talk();
    talk.ask(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02")
        .close();
    check(&dissect(&talk.packets), &["CANCEL = ? no_response"]);
}

const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

#[test]
fn a_server_that_does_not_encrypt() {
    let mut talk = talk();
    talk.ask(SSL)
        .answer("N")
        .ask(b"\0\0\0\x12\0\x03\0\0user\0ann\0\0")
        .answer([message(b'R', b"\0\0\0\0"), ready()].concat());
    check(&dissect(&talk.packets), &["STARTUP ann ="]);
}

#[test]
fn what_is_encrypted_is_recognised_anew() {
    let mut talk = talk();
    talk.ask(SSL)
        .answer("S")
        .ask("GET /inside HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 204 No\r\n\r\n");
    let dissected = dissect(&talk.packets);
    let told: Vec<_> = dissected
        .calls
        .iter()
        .map(|call| (call.protocol, call.path.as_str()))
        .collect();
    assert_eq!(told, [("http", "/inside")]);
}
