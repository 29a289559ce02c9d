//! HTTP/1 as it comes out of packets, one situation each.

use wiretape_dissect::testing::{Dissected, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome};

const GET: &str = "GET /a?x=1 HTTP/1.1\r\nHost: shop\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Method, path, status and marks of each call.
#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

fn tell(call: &Call) -> String {
    let mut told = match &call.request {
        Some(_) => format!("{} {}", call.method, call.path),
        None => "-".to_owned(),
    };
    match call.status {
        Some(status) => told.push_str(&format!(" {status}")),
        None => told.push_str(" -"),
    }
    for mark in call.marks.names() {
        told.push(' ');
        told.push_str(mark);
    }
    told
}

#[test]
fn one_request_and_its_response() {
    let mut talk = Talk::usual();
    talk.handshake().ask(GET).answer(OK).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200"]);
    let call = &dissected.calls[0];
    assert_eq!((call.query.as_str(), call.authority.as_str()), ("x=1", "shop"));
    assert_eq!(
        (call.protocol, call.version, call.outcome),
        ("http", "HTTP/1.1", Outcome::Ok)
    );
    assert_eq!(call.client.address.to_string(), "10.0.0.1:40000");
    assert_eq!(call.server.address.to_string(), "10.0.0.2:80");
    let (request, response) = (call.request.as_ref().unwrap(), call.response.as_ref().unwrap());
    assert_eq!(
        (request.seq, request.head_len, request.body_len),
        (1001, GET.len() as u64, 0)
    );
    assert_eq!(
        (response.seq, response.body_len, response.wire_len),
        (5001, 5, OK.len() as u64)
    );
    assert_eq!((&*request.packets, &*response.packets), (&[3][..], &[4][..]));
    let seen = call.unknown_side.unwrap();
    assert_eq!(seen.elapsed(), Some(1000));
    assert_eq!(call.marks, Marks::default());
}

#[test]
fn requests_one_after_the_other() {
    let mut talk = Talk::usual();
    talk.handshake();
    for status in [200, 404, 503] {
        talk.ask(GET).answer(format!(
            "HTTP/1.1 {status} Because\r\nContent-Length: 2\r\n\r\nno"
        ));
    }
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200", "GET /a 404", "GET /a 503"]);
    let outcomes: Vec<Outcome> = dissected.calls.iter().map(|call| call.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::Ok, Outcome::ClientError, Outcome::ServerError]
    );
    let indexes: Vec<u32> = dissected.calls.iter().map(|call| call.index).collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert!(
        dissected
            .calls
            .iter()
            .all(|call| call.stream == dissected.calls[0].stream)
    );
}

#[test]
fn pipelined_requests_in_one_segment() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask(
        "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n",
    );
    talk.answer("HTTP/1.1 201 A\r\nContent-Length: 0\r\n\r\nHTTP/1.1 202 B\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 203 C\r\nContent-Length: 0\r\n\r\n");
    check(
        &dissect(&talk.packets),
        &["GET /1 201", "POST /2 202", "GET /3 203"],
    );
}

#[test]
fn request_split_over_three_segments() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("GE")
        .ask("T /a HTTP/1.1\r\nHo")
        .ask("st: shop\r\n\r\n")
        .answer(OK)
        .close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200"]);
    let request = dissected.calls[0].request.as_ref().unwrap();
    assert_eq!(*request.packets, [3, 4, 5]);
    assert_eq!(request.wire_len, 31);
    let seen = dissected.calls[0].unknown_side.unwrap().request.unwrap();
    assert_eq!(seen.1 - seen.0, 2000);
}

#[test]
fn chunked_both_ways_with_extensions_and_trailers() {
    let mut talk = Talk::usual();
    talk.mss = 7;
    talk.handshake();
    talk.ask("POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    talk.ask(GET).answer(OK);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["POST /up 200", "GET /a 200"]);
    let call = &dissected.calls[0];
    let (request, response) = (call.request.as_ref().unwrap(), call.response.as_ref().unwrap());
    assert_eq!((request.body_len, response.body_len), (7, 5));
    assert_eq!(request.headers.get("x-sum"), Some("7"));
    assert_eq!(request.head_len + request.body_len, request.wire_len);
}

#[test]
fn a_100_continue_is_not_the_response() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("PUT /f HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    talk.answer("HTTP/1.1 100 Continue\r\n\r\n")
        .ask("data")
        .answer("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    talk.ask(GET)
        .answer("HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        .answer(OK);
    check(&dissect(&talk.packets), &["PUT /f 201", "GET /a 200"]);
}

#[test]
fn answered_before_the_request_was_whole() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("PUT /f HTTP/1.1\r\nContent-Length: 4\r\n\r\n");
    talk.answer("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        .ask("data");
    talk.ask(GET).answer(OK);
    check(&dissect(&talk.packets), &["PUT /f 413", "GET /a 200"]);
}

#[test]
fn responses_without_a_body() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("HEAD /h HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n");
    talk.ask("GET /n HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 204 No Content\r\n\r\n");
    talk.ask("GET /m HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
    talk.ask(GET).answer(OK);
    check(
        &dissect(&talk.packets),
        &["HEAD /h 200", "GET /n 204", "GET /m 304", "GET /a 200"],
    );
}

#[test]
fn a_response_until_close() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("GET /old HTTP/1.0\r\n\r\n")
        .answer("HTTP/1.0 200 OK\r\n\r\n")
        .answer(vec![b'x'; 5000])
        .close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /old 200"]);
    let call = &dissected.calls[0];
    assert_eq!(
        (call.version, call.response.as_ref().unwrap().body_len),
        ("HTTP/1.0", 5000)
    );
}

#[test]
fn an_upgrade_hands_over() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("GET /chat HTTP/1.1\r\nUpgrade: example/1\r\nConnection: Upgrade\r\n\r\n");
    talk.answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: example/1\r\n\r\n\x01\x02binary");
    talk.ask("GET /not-http HTTP/1.1\r\n\r\n").answer(OK).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /chat 101"]);
    assert_eq!(dissected.counters.passed_over, 1);
}

#[test]
fn a_refused_upgrade_stays_http() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .answer(OK)
        .ask(GET)
        .answer(OK);
    check(&dissect(&talk.packets), &["GET /chat 200", "GET /a 200"]);
}

#[test]
fn what_goes_through_a_tunnel_is_recognised() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("CONNECT db:80 HTTP/1.1\r\nHost: db:80\r\n\r\n")
        .answer("HTTP/1.1 200 Fine\r\n\r\n");
    talk.ask(GET).answer(OK).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["CONNECT  200", "GET /a 200"]);
    assert_eq!(dissected.calls[0].authority, "db:80");
}

#[test]
fn a_request_that_was_never_answered() {
    let mut talk = Talk::usual();
    talk.handshake().ask(GET).close();
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - no_response"]);
    assert_eq!(dissected.calls[0].outcome, Outcome::NoResponse);

    let mut talk = Talk::usual();
    talk.handshake().ask(GET).reset(Who::Server);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - no_response reset"]);
    assert_eq!(dissected.calls[0].outcome, Outcome::NoResponse);

    // The recording ends first.
    let mut talk = Talk::usual();
    talk.handshake().ask(GET);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a - no_response"]);
    assert_eq!(dissected.calls[0].outcome, Outcome::Unknown);
}

#[test]
fn a_response_that_was_broken_off() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask(GET)
        .answer(&OK[..OK.len() - 2])
        .reset(Who::Client);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200 reset"]);
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().body_len, 3);
}

#[test]
fn an_answer_to_no_request() {
    let mut talk = Talk::usual();
    talk.handshake()
        .answer("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        .close();
    check(&dissect(&talk.packets), &["- 408 no_request"]);
}

#[test]
fn only_responses_were_recorded() {
    let mut talk = Talk::usual();
    talk.handshake();
    for _ in 0..3 {
        talk.ask(GET).answer(OK);
    }
    let responses = talk
        .packets
        .iter()
        .filter(|packet| packet.data[12..16] == [10, 0, 0, 2]);
    check(&dissect(responses), &["- 200 no_request after_gap"; 3]);
    let requests = talk
        .packets
        .iter()
        .filter(|packet| packet.data[12..16] == [10, 0, 0, 1]);
    check(&dissect(requests), &["GET /a - no_response after_gap"; 3]);
}

#[test]
fn joined_in_the_middle_of_a_head_and_of_a_body() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("GET /lost HTTP/1.1\r\nX: y")
        .ask("GET /never HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
        .answer(vec![b'x'; 100])
        .answer(vec![b'y'; 100]);
    talk.ask(GET).answer(OK).ask("GET /b HTTP/1.1\r\n\r\n").answer(OK);
    // From the second half of the response on.
    check(
        &dissect(&talk.packets[6..]),
        &["GET /a 200 joined", "GET /b 200 joined"],
    );
    // A single exchange is enough.
    check(&dissect(&talk.packets[8..10]), &["GET /a 200 joined"]);
    // From its answer on.
    check(
        &dissect(&talk.packets[9..]),
        &["- 200 no_request joined", "GET /b 200 joined"],
    );
}

#[test]
fn targets_of_all_forms() {
    let mut talk = Talk::usual();
    talk.handshake();
    let targets = [
        "/",
        "/p?",
        "/p?a?b",
        "*",
        "http://h:8/x?y",
        "http://h",
        "http://h?q",
        "/a://b",
        "/%20;x/%C3%A4",
    ];
    for target in targets {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        talk.ask(format!("{method} {target} HTTP/1.1\r\nHost: v\r\n\r\n"))
            .answer(OK);
    }
    let told: Vec<String> = dissect(&talk.packets)
        .calls
        .iter()
        .map(|call| format!("{} {} {}", call.authority, call.path, call.query))
        .collect();
    let expected = [
        "v / ",
        "v /p ",
        "v /p a?b",
        "v * ",
        "h:8 /x y",
        "h / ",
        "h / q",
        "v /a://b ",
        "v /%20;x/%C3%A4 ",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_allowed_but_rare() {
    let mut talk = Talk::usual();
    talk.handshake();
    // Line ends before a request, LF alone, an own method, a folded field, the same length twice.
    talk.ask("\r\n\r\nGET /1 HTTP/1.1\nHost: x\n\n")
        .answer("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n");
    talk.ask("frobnicate /2 HTTP/1.1\r\nX: a\r\n b\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 0, 0\r\n\r\n");
    // The chunks decide, not the length.
    talk.ask("POST /3 HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        .answer(OK);
    talk.ask("POST /4 HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab")
        .answer(OK);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &["GET /1 200", "frobnicate /2 200", "POST /3 200", "POST /4 200"],
    );
    let folded = dissected.calls[1]
        .request
        .as_ref()
        .unwrap()
        .headers
        .get("x")
        .unwrap();
    assert_eq!(folded.split_whitespace().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn contradicting_lengths_are_not_believed() {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask("POST /1 HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc");
    talk.answer("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n");
    talk.ask(GET).answer(OK).ask(GET).answer(OK);
    let dissected = dissect(&talk.packets);
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert!(
        told.contains(&"- 400 no_request after_gap".to_owned()),
        "{told:?}"
    );
    assert!(
        told.ends_with(&[
            "GET /a 200 after_gap".to_owned(),
            "GET /a 200 after_gap".to_owned()
        ]),
        "{told:?}"
    );
}

#[test]
fn more_headers_than_are_kept() {
    let mut request = String::from("GET /a HTTP/1.1\r\n");
    for n in 0..300 {
        request.push_str(&format!("x-{n}: {n}\r\n"));
    }
    request.push_str("content-length: 3\r\n\r\nabc");
    let mut talk = Talk::usual();
    talk.handshake().ask(request).answer(OK).ask(GET).answer(OK);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["GET /a 200 headers_cut", "GET /a 200"]);
    assert_eq!(dissected.calls[0].request.as_ref().unwrap().headers.len(), 256);
    assert_eq!(dissected.counters.headers_cut, 1);
}

#[test]
fn a_head_longer_than_the_limit() {
    let mut talk = Talk::usual();
    talk.handshake();
    let mut head = b"GET /long HTTP/1.1\r\nX: y\r\nZ: ".to_vec();
    head.resize(70 << 10, b'z');
    talk.ask(head)
        .ask("\r\n\r\n")
        .answer(OK)
        .ask(GET)
        .answer(OK)
        .ask(GET)
        .answer(OK);
    let dissected = dissect(&talk.packets);
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert_eq!(told[0], "GET /long 200 request_gap", "{told:?}");
    assert_eq!(dissected.counters.heads_too_long, 1);
    assert_eq!(told.len(), 3);
}

#[test]
fn a_head_byte_by_byte() {
    let mut talk = Talk::usual();
    talk.mss = 1;
    let head = format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(30_000));
    talk.handshake().ask(head).answer(OK);
    check(&dissect(&talk.packets), &["GET /a 200 packets_cut"]);
}

#[test]
fn http_on_another_port_and_nothing_on_port_80() {
    let mut talk = Talk::new("[fd00::1]:40000", "[fd00::2]:5432", 1, (1, 2));
    talk.handshake().ask(GET).answer(OK);
    check(&dissect(&talk.packets), &["GET /a 200"]);

    let mut talk = Talk::usual();
    talk.handshake();
    for _ in 0..20 {
        talk.ask("\x16\x03\x01 not http").answer("\x16\x03\x01 neither");
    }
    let dissected = dissect(&talk.packets);
    check(&dissected, &[]);
    assert_eq!(
        (dissected.counters.recognised, dissected.counters.unrecognised),
        (0, 1)
    );
}

#[test]
fn http2_is_not_http1() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .answer(b"\0\0\0\x04\0\0\0\0\0")
        .close();
    check(&dissect(&talk.packets), &[]);
}
