//! What lies in HTTP's bodies: GraphQL, and streams of events.

mod wire;

use wire::{Wire, begun, data, int, text};
use wiretape_dissect::testing::{Dissected, Talk, dissect};
use wiretape_dissect::{Call, Marks, Outcome};

const ASKED: &str = "{\"variables\":{\"query\":\"{no}\",\"n\":[1,{\"a\":\"}\\\"\"}]},\"operationName\":\"Cart\",\
                     \"query\":\"query Shop { shop }\\n query Cart($id: ID!) {\\n  cart(id: $id) { total }\\n}\"}";
const FAILED: &str = "{\"data\":null,\"errors\":[{\"message\":\"no such cart\",\"path\":[\"cart\"],\
                      \"extensions\":{\"code\":\"BAD_USER_INPUT\"}},{\"message\":\"second\"}]}";

/// One exchange of JSON over HTTP/1.
fn exchanged(target: &str, asked: &str, answered: &str, mss: usize) -> Dissected {
    let mut talk = Talk::usual();
    talk.mss = mss;
    let method = if asked.is_empty() { "GET" } else { "POST" };
    talk.handshake()
        .ask(format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{asked}",
            asked.len()
        ))
        .answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/graphql-response+json\r\nContent-Length: {}\r\n\r\n{answered}",
            answered.len()
        ))
        .close();
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.calls.len(), 1);
    dissected
}

/// The call that it makes.
fn exchange(target: &str, asked: &str, answered: &str, mss: usize) -> Call {
    exchanged(target, asked, answered, mss).calls.remove(0)
}

/// Nearly all JSON is something else, and is looked at no further than its first key.
#[test]
fn a_request_with_a_key_that_graphql_has_not() {
    let asked = "{\"page\":1,\"query\":\"query Cart { cart }\"}";
    assert_eq!(exchange("/search", asked, FAILED, 1460).protocol, "http");
    let asked = "[{\"id\":\"a\",\"query\":\"query Cart { cart }\"}]";
    assert_eq!(exchange("/search", asked, FAILED, 1460).protocol, "gqlv1");
}

#[test]
fn an_operation_and_its_errors_however_they_are_cut() {
    for mss in [1460, 50, 7, 1] {
        let call = exchange("/graphql", ASKED, FAILED, mss);
        assert_eq!((call.protocol, call.status), ("gqlv1", Some(200)));
        assert_eq!(text(&call, "gql_type"), Some("query"));
        assert_eq!(text(&call, "gql_operation"), Some("Cart"));
        assert_eq!(
            text(&call, "gql_query"),
            Some("query Shop { shop } query Cart($id: ID!) { cart(id: $id) { total } }")
        );
        assert_eq!(int(&call, "gql_errors"), Some(2));
        assert_eq!(text(&call, "gql_error"), Some("no such cart"));
        assert_eq!(text(&call, "error"), Some("BAD_USER_INPUT"));
        assert_eq!(call.outcome, Outcome::ClientError);
    }
}

#[test]
fn without_errors_in_a_batch_and_in_the_path() {
    let fine = exchange(
        "/graphql",
        "{\"query\":\"mutation { pay }\"}",
        "{\"data\":{\"errors\":[{}]}}",
        1460,
    );
    assert_eq!(
        (
            fine.protocol,
            text(&fine, "gql_type"),
            text(&fine, "gql_operation"),
            int(&fine, "gql_errors")
        ),
        ("gqlv1", Some("mutation"), None, Some(0))
    );
    assert_eq!(fine.outcome, Outcome::Ok);
    let batch = exchange(
        "/graphql",
        "[{\"query\":\"query A{a}\"},{\"query\":\"query B{b}\"}]",
        "[{\"data\":{}},{\"errors\":[{\"message\":\"bad\"}]}]",
        1460,
    );
    assert_eq!(text(&batch, "gql_operation"), Some("A"));
    assert_eq!(
        (int(&batch, "gql_errors"), text(&batch, "gql_error")),
        (Some(1), Some("bad"))
    );
    let path = exchange(
        "/graphql?query=query%20Me+%7Bme%7D",
        "",
        "{\"errors\":[{\"message\":\"\\u00e9t\\u00e9\"}]}",
        1460,
    );
    assert_eq!(
        (path.protocol, text(&path, "gql_operation")),
        ("gqlv1", Some("Me"))
    );
    assert_eq!(text(&path, "gql_error"), Some("été"));
    let known = exchange(
        "/graphql",
        "{\"operationName\":\"Me\",\"extensions\":{\"persistedQuery\":{\"version\":1}}}",
        "{\"data\":{}}",
        1460,
    );
    assert_eq!(
        (known.protocol, text(&known, "gql_operation")),
        ("gqlv1", Some("Me"))
    );
}

#[test]
fn json_that_is_none() {
    for asked in [
        "{\"query\":\"SELECT 1\"}",
        "{\"query\":{\"match\":{}}}",
        "{\"operationName\":\"x\"}",
        "\"query\"",
        "[[[[{\"query\":\"{a}\"}]]]]",
    ] {
        let call = exchange("/search", asked, FAILED, 1460);
        assert_eq!((call.protocol, call.outcome), ("http", Outcome::Ok), "{asked}");
        assert!(call.fields.is_empty());
    }
}

#[test]
fn only_so_much_of_a_body_is_looked_at() {
    // 64 KiB in all.
    for (filler, errors) in [(65_536 - 38, Some(1)), (65_536 - 37, None)] {
        let answered = format!(
            "{{\"data\":\"{}\",\"errors\":[{{\"message\":\"x\"}}]}}",
            "y".repeat(filler)
        );
        let dissected = exchanged("/graphql", ASKED, &answered, 1460);
        let call = &dissected.calls[0];
        assert_eq!(int(call, "gql_errors"), errors, "{}", answered.len());
        assert_eq!(call.protocol, "gqlv1");
        assert_eq!(dissected.counters.graphql_beyond, u64::from(errors.is_none()));
    }
}

#[test]
fn only_so_much_of_a_statement_is_kept() {
    // 2048 bytes, in a body and in a path.
    for (len, cut) in [(2048, 0), (2049, 1)] {
        let field = "x".repeat(len - "{}".len());
        let asked = format!("{{\"query\":\"{{{field}}}\"}}");
        for (target, asked) in [
            ("/graphql".to_owned(), asked.as_str()),
            (format!("/graphql?query=%7B{field}%7D"), ""),
        ] {
            let dissected = exchanged(&target, asked, "{\"data\":1}", 1460);
            let kept = text(&dissected.calls[0], "gql_query").map(str::len);
            assert_eq!(kept, Some(2048), "{len} {asked}");
            assert_eq!(dissected.counters.graphql_texts_cut, cut, "{len} {asked}");
        }
    }
}

#[test]
fn only_so_much_of_a_line_of_events_is_kept() {
    // 256 bytes, the field's name among them.
    for (len, cut) in [(256 - 4, 0), (256 - 3, 1)] {
        let events = format!("id: {}\ndata: {}\n\n", "7".repeat(len), "d".repeat(1000));
        let mut talk = Talk::usual();
        talk.handshake()
            .ask("GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
            .answer(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{events}",
                events.len()
            ));
        let dissected = dissect(&talk.packets);
        let kept = text(&dissected.calls[0], "sse_last_id").map(str::len);
        assert_eq!(kept, Some(252), "{len}");
        assert_eq!(dissected.counters.event_texts_cut, cut, "{len}");
    }
}

#[test]
fn a_lost_segment_of_a_body_gives_no_wrong_field() {
    let mut talk = Talk::usual();
    talk.mss = 30;
    talk.handshake()
        .ask(format!(
            "POST /graphql HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ASKED}",
            ASKED.len()
        ))
        .answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{FAILED}",
            FAILED.len()
        ))
        .close();
    for lost in 0..talk.packets.len() {
        let mut packets = talk.packets.clone();
        packets.remove(lost);
        for call in dissect(&packets).calls {
            assert!(
                matches!(text(&call, "gql_operation"), None | Some("Cart")),
                "{lost}"
            );
            assert!(matches!(int(&call, "gql_errors"), None | Some(2)), "{lost}");
            assert!(
                matches!(text(&call, "error"), None | Some("BAD_USER_INPUT")),
                "{lost}"
            );
            assert!(
                matches!(text(&call, "gql_error"), None | Some("no such cart")),
                "{lost}"
            );
        }
    }
}

#[test]
fn over_http2() {
    let mut talk = begun();
    let request = Wire::post("/graphql").field("content-type", "application/json");
    talk.ask([request.on(1), data(1, ASKED.as_bytes(), true)].concat());
    let answer = Wire::status(200).field("content-type", "application/json");
    talk.answer([answer.on(1), data(1, FAILED.as_bytes(), true)].concat());
    let call = &dissect(&talk.packets).calls[0];
    assert_eq!(
        (call.protocol, text(call, "gql_operation")),
        ("gqlv2", Some("Cart"))
    );
    assert_eq!(
        (int(call, "gql_errors"), call.outcome),
        (Some(2), Outcome::ClientError)
    );
}

const EVENTS: &str =
    "retry: 10\n\nevent: price\nid: 7\ndata: {\"a\":1}\n\nid: 8\ndata: x\n\nevent: price\ndata: y\nid: 9\n\n";

#[test]
fn events_over_http1_and_http2() {
    let mut talk = Talk::usual();
    talk.mss = 11;
    talk.handshake().ask("GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
    talk.answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{EVENTS}\r\n0\r\n\r\n",
        EVENTS.len()
    ));
    talk.close();
    let over_http1 = dissect(&talk.packets).calls.remove(0);
    let mut talk = begun();
    talk.ask(Wire::get("/events").end(1));
    let answer = Wire::status(200).field("content-type", "text/event-stream;charset=utf-8");
    talk.answer(answer.on(1));
    for byte in EVENTS.bytes() {
        talk.answer(data(1, &[byte], false));
    }
    let over_http2 = dissect(&talk.packets).calls.remove(0);
    for call in [over_http1, over_http2] {
        assert_eq!((call.protocol, int(&call, "sse_events")), ("http", Some(3)));
        assert_eq!(
            (text(&call, "sse_last_id"), text(&call, "sse_last_event")),
            (Some("9"), Some("price"))
        );
    }
}

/// Nobody knows how many events came behind a head of which the end was not recorded, or behind a broken chunk.
#[test]
fn events_behind_what_cannot_be_read_are_not_counted() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let cut = [&format!("{head}Cache-Control: no-cache\r\n\r\n")[..], EVENTS];
    let chunk = format!("{:x}\r\n{EVENTS}\r\n", EVENTS.len());
    let broken = [
        &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}")[..],
        "no chunk\r\n",
    ];
    for (answer, recorded) in [(cut, head.len() + 5), (broken, usize::MAX)] {
        let mut talk = Talk::usual();
        talk.handshake().ask("GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
        talk.answer(answer[0]);
        talk.packets[4].data.truncate(recorded.saturating_add(40));
        talk.answer(answer[1]).close();
        let call = &dissect(&talk.packets).calls[0];
        assert!(call.marks.has(Marks::RESPONSE_GAP));
        assert_eq!((call.status, int(call, "sse_events")), (Some(200), None));
    }
    let mut talk = begun();
    talk.ask(Wire::get("/events").end(1));
    let answer = Wire::status(200).field("content-type", "text/event-stream");
    let known = answer.block.len();
    talk.answer(
        [
            answer.field("server", "sse").on(1),
            data(1, EVENTS.as_bytes(), false),
        ]
        .concat(),
    );
    let recorded = talk.packets.last_mut().expect("the answer");
    recorded.data.truncate(40 + 9 + known + 3);
    talk.answer([data(1, EVENTS.as_bytes(), false), data(1, b"", true)].concat());
    let call = &dissect(&talk.packets).calls[0];
    assert_eq!((call.status, int(call, "sse_events")), (Some(200), None));
}

/// Other languages have braces, too: those of Loki and Prometheus select by labels.
#[test]
fn queries_of_other_languages_in_the_path() {
    let others = [
        "/loki/api/v1/query_range?query={app=%22shop%22}&limit=5",
        "/loki/api/v1/query?query=%7Bapp%20%21%3D%20%22shop%22%7D%20%7C%3D%20%22error%22",
        "/api/v1/query?query={__name__=~%22up.*%22}",
        "/api/v1/query?query=query{job=%22shop%22}",
        "/api/v1/query?query={%22http.requests%22}",
        "/find?query={}",
    ];
    for target in others {
        assert_eq!(exchange(target, "", "{}", 1460).protocol, "http", "{target}");
    }
    for target in [
        "/g?query={shop{name}}",
        "/g?query={a:shop{name}}",
        "/g?query=%7B...F%7D",
    ] {
        assert_eq!(exchange(target, "", "{}", 1460).protocol, "gqlv1", "{target}");
    }
}
