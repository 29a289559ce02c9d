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
    assert_eq!(
        (request.packets.as_slice(), response.packets.as_slice()),
        (&[3][..], &[4][..])
    );
    let seen = call.unknown_side.unwrap();
    assert_eq!(seen.elapsed(), Some(1000));
    assert_eq!(call.marks, Marks::default());
}
