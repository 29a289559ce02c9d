//! HTTP/1 where bytes are missing, and what looks like a message behind them.

use wiretape_dissect::Marks;
use wiretape_dissect::testing::{Talk, dissect};

/// Bytes that wait until they tell whether a message begins with them.
const PLACE_BYTES: usize = 8 << 10;

/// A body quotes a request where a segment begins. Its own head was lost, and so was the response before it, so that
/// nothing says whose turn it is.
#[test]
fn a_quoted_request_behind_two_gaps_is_none() {
    let quoted = "GET /fake HTTP/1.1\r\nHost: fake\r\n\r\n";
    for end in ["", "and so on", "GET /fake HTTP/1.1\r\nHost: "] {
        let mut talk = Talk::usual();
        talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
        let lost = talk.packets.len();
        talk.answer("HTTP/1.1 204 No Content\r\n\r\n");
        let body = format!("{quoted}and {end}");
        talk.ask(format!(
            "POST /1 HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        talk.packets.truncate(lost);
        talk.ask(quoted)
            .ask("and ")
            .ask(end)
            .answer("HTTP/1.1 204 No Content\r\n\r\n");
        talk.ask("GET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
            .answer("HTTP/1.1 204 No Content\r\n\r\n");
        talk.ask("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
            .answer("HTTP/1.1 204 No Content\r\n\r\n")
            .close();
        let dissected = dissect(&talk.packets);
        let paths: Vec<&str> = dissected.calls.iter().map(|call| call.path.as_str()).collect();
        assert!(
            !paths.contains(&"/fake") && paths.contains(&"/3"),
            "{paths:?} with {end:?}"
        );
        assert_eq!(dissected.counters.places_refuted, 1);
    }
}

/// The quoted head goes on in the request that follows the body.
#[test]
fn a_quoted_head_that_is_not_whole_is_none() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    let lost = talk.packets.len();
    talk.answer("HTTP/1.1 204 No Content\r\n\r\n");
    talk.ask("POST /1 HTTP/1.1\r\nContent-Length: 26\r\n\r\n");
    talk.packets.truncate(lost);
    talk.ask("GET /fake HTTP/1.1\r\nHost: ")
        .answer("HTTP/1.1 204 No Content\r\n\r\n");
    for path in ["/2", "/3"] {
        talk.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .answer("HTTP/1.1 204 No Content\r\n\r\n");
    }
    let dissected = dissect(&talk.packets);
    let paths: Vec<&str> = dissected.calls.iter().map(|call| call.path.as_str()).collect();
    assert!(!paths.contains(&"/fake") && paths.contains(&"/3"), "{paths:?}");
    assert_eq!(dissected.counters.places_refuted, 1);
}

/// The recorder was away between two exchanges: the request behind is none the less told.
#[test]
fn a_request_behind_two_gaps_that_is_answered_is_one() {
    let mut talk = Talk::usual();
    talk.handshake()
        .ask("GET /0 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 204 No Content\r\n\r\n");
    let away = talk.packets.len();
    talk.ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer("HTTP/1.1 204 No Content\r\n\r\n");
    talk.packets.truncate(away);
    for path in ["/2", "/3"] {
        talk.ask(format!("GET {path} HTTP/1.1\r\n\r\n"))
            .answer("HTTP/1.1 204 No Content\r\n\r\n");
    }
    let dissected = dissect(&talk.packets);
    let paths: Vec<&str> = dissected.calls.iter().map(|call| call.path.as_str()).collect();
    assert_eq!(paths, ["/0", "/2", "/3"]);
    assert_eq!(dissected.counters.places_refuted, 0);
}

/// The first segments behind a late join are too short to tell a message by.
#[test]
fn joined_where_a_head_comes_byte_by_byte() {
    let mut talk = Talk::usual();
    talk.mss = 1;
    for path in ["/1", "/2"] {
        talk.ask(format!("REPORT {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .answer("HTTP/1.1 204 No Content\r\n\r\n");
    }
    let calls = dissect(&talk.packets).calls;
    let told: Vec<_> = calls
        .iter()
        .map(|call| (call.path.as_str(), call.status))
        .collect();
    assert_eq!(told, [("/1", Some(204)), ("/2", Some(204))]);
}

/// The target is one that servers rarely see, and is not ended: so long, it is not waited for any more.
#[test]
fn a_place_is_given_up_when_too_many_bytes_do_not_tell() {
    for (more, given_up) in [(0, 0), (1, 1)] {
        let mut talk = Talk::usual();
        talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
        let lost = talk.packets.len();
        talk.answer("HTTP/1.1 204 No Content\r\n\r\n")
            .ask("GET /1 HTTP/1.1\r\n\r\n");
        talk.packets.drain(lost + 1..);
        talk.answer("HTTP/1.1 204 No Content\r\n\r\n");
        let begin = "OPTIONS ";
        talk.ask(begin)
            .ask("*".repeat(PLACE_BYTES - begin.len() - 1 + more));
        let dissected = dissect(&talk.packets);
        assert_eq!(dissected.counters.places_given_up, given_up, "{more} more");
    }
}

/// Of a request, method and target are enough to be told; half a target is not.
#[test]
fn a_capture_that_cuts_packets_within_the_first_line() {
    let line = "GET /a?b HTTP/1.1";
    for len in 5..=line.len() {
        let mut talk = Talk::usual();
        talk.handshake().ask(format!("{line}\r\nHost: h\r\n\r\n"));
        talk.answer("HTTP/1.1 204 No Content\r\n\r\n").close();
        talk.packets[3].data.truncate(40 + len);
        let calls = dissect(&talk.packets).calls;
        let request = calls.iter().find(|call| call.request.is_some());
        let told = request.map(|call| (&*call.method, call.path.as_str(), call.query.as_str()));
        let expected = (len >= "GET /a?b ".len()).then_some(("GET", "/a", "b"));
        assert_eq!(told, expected, "{len}");
        assert!(request.is_none_or(|call| call.marks.has(Marks::REQUEST_GAP) && call.authority.is_empty()));
    }
}

/// A server answers an upload before it has it all, on a connection that was joined late. Counting must not begin while
/// that answer is under way, or each later one would be a request too late.
#[test]
fn joined_before_an_answer_that_begins_early() {
    let mut talk = Talk::usual();
    talk.ask("GET /0 HTTP/1.1\r\nHost: h\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    talk.ask("POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf")
        .answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo ")
        .ask("rest")
        .answer("much");
    for (path, status) in [("/2", "202 Accepted"), ("/3", "404 Not Found"), ("/4", "200 OK")] {
        talk.ask(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .answer(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
    }
    talk.close();
    let calls = dissect(&talk.packets).calls;
    let told = calls.iter().map(|call| (call.path.as_str(), call.status));
    let answered = [("/0", 200), ("/1", 413), ("/2", 202), ("/3", 404), ("/4", 200)];
    let answered = answered.map(|(path, status)| (path, Some(status)));
    assert_eq!(told.collect::<Vec<_>>(), answered);
}
