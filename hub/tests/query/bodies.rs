//! Bodies, read from the segments long after the dissection.

use std::fs;
use std::io::Write as _;

use serde_json::json;
use wiretape_dissect::testing::Talk;
use wiretape_hub::query::{self, Database, MAX_SEARCHED, PREVIEW, Scope, StatsQuery};

use crate::captures::{START, ask, dissect_packets};

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A call whose request has `body`, and whose response has `answer` (head and body).
fn talk(body: &[u8], answer: &[u8]) -> Talk {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", START, (1, 2));
    talk.handshake();
    talk.ask(
        [
            format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
            body,
        ]
        .concat(),
    );
    talk.answer(answer);
    talk.close();
    talk
}

#[tokio::test]
async fn bodies_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let text = "Grüße ".repeat(900);
    let packed = gzipped(&text);
    let (first, second) = packed.split_at(packed.len() / 2);
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for part in [first, second, b""] {
        answer.extend(format!("{:x}\r\n", part.len()).bytes());
        answer.extend(part);
        answer.extend(b"\r\n");
    }
    let db = dissect_packets(dir.path(), &talk(&[0, 159, 146, 150], &answer).packets);

    let call = &ask(&db, "").await.calls[0];
    assert_eq!(
        (&call["req_body"], &call["req_body_encoding"]),
        (&json!("AJ+Slg=="), &json!("base64"))
    );
    // The limit cuts an umlaut in two, which is then left out.
    let preview = call["resp_body"].as_str().unwrap();
    assert!(
        text.starts_with(preview) && (PREVIEW - 1..=PREVIEW).contains(&preview.len()),
        "{}",
        preview.len()
    );
    assert_eq!(
        (&call["resp_body_truncated"], call.get("resp_body_encoding")),
        (&json!(true), None)
    );

    let details = query::call_details(&db, call["id"].as_str().unwrap(), Some(1 << 20), false)
        .await
        .unwrap();
    assert_eq!(
        (&details["resp_body"], &details["truncated"]),
        (&json!(text), &json!(false))
    );
}

#[tokio::test]
async fn long_body_is_cut_and_read_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let body = "x".repeat(1 << 20);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let db = dissect_packets(dir.path(), &talk(b"", answer.as_bytes()).packets);
    let call = &ask(&db, "").await.calls[0];
    assert_eq!(call["resp_size"], 1 << 20);
    assert_eq!(call["marks"], json!(["packets_cut"]));
    assert_eq!(
        (&call["resp_body"], &call["resp_body_truncated"]),
        (&json!("x".repeat(PREVIEW)), &json!(true))
    );
    let details = query::call_details(&db, call["id"].as_str().unwrap(), Some(100_000), false)
        .await
        .unwrap();
    assert_eq!(
        (
            details["resp_body"].as_str().unwrap().len(),
            &details["truncated"]
        ),
        (100_000, &json!(true))
    );
}

#[tokio::test]
async fn snapshot_that_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("before");
    dissect_packets(
        &before,
        &talk(b"asked", b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswered").packets,
    );
    let after = dir.path().join("after");
    fs::rename(&before, &after).unwrap();
    let db = Database::open(&after.join("dissections").join("d")).unwrap();
    let call = &ask(&db, "").await.calls[0];
    assert_eq!(
        (&call["req_body"], &call["resp_body"]),
        (&json!("asked"), &json!("answered"))
    );
}

#[tokio::test]
async fn body_whose_segment_is_gone_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(
        dir.path(),
        &talk(b"asked", b"HTTP/1.1 204 No Content\r\n\r\n").packets,
    );
    fs::remove_dir_all(dir.path().join("segments")).unwrap();
    let call = &ask(&db, "").await.calls[0];
    assert_eq!((&call["req_body"], &call["resp_body"]), (&json!(""), &json!("")));
    let error = call["req_body_error"].as_str().unwrap();
    assert!(error.contains("cannot read its packets"), "{error}");
    assert!(call.get("resp_body_error").is_none(), "that one has none");
}

#[tokio::test]
async fn body_with_a_hole_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let body = "y".repeat(4000);
    let mut packets = talk(body.as_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").packets;
    // Of handshake (3) and request (3 packets), the one in the middle.
    packets.remove(4);
    let db = dissect_packets(dir.path(), &packets);
    let call = &ask(&db, "").await.calls[0];
    assert!(
        call["marks"].as_array().unwrap().contains(&json!("request_gap")),
        "{call}"
    );
    let error = call["req_body_error"].as_str().unwrap();
    assert!(error.contains("are not in the segments"), "{error}");
    assert!(body.starts_with(call["req_body"].as_str().unwrap()));
    assert_eq!(call["resp_body"], "ok");
}

#[tokio::test]
async fn body_of_grpc_is_shown_by_its_fields() {
    let dir = tempfile::tempdir().unwrap();
    // message M { string name = 1; } service S { rpc Get(M) returns (M); } in package p
    let set = b"\x0a,\x12\x01p\x22\x0f\x0a\x01M\x12\x0a\x0a\x04name\x18\x01(\x092\x16\x0a\x01S\x12\x11\x0a\x03Get\x12\x04.p.M\x1a\x04.p.M";
    let packed = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"\x0a\x02no").unwrap();
        encoder.finish().unwrap()
    };
    let answer = [&[1, 0, 0, 0, packed.len() as u8][..], &packed].concat();
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", START, (1, 2));
    talk.handshake();
    let head =
        "POST /p.S/Get HTTP/1.1\r\nContent-Type: application/grpc-web+proto\r\nContent-Length: 9\r\n\r\n";
    talk.ask([head.as_bytes(), b"\0\0\0\0\x04\x0a\x02hi"].concat());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\nGrpc-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    talk.answer([head.as_bytes(), &answer].concat());
    talk.close();
    let db = dissect_packets(dir.path(), &talk.packets);
    let call = &ask(&db, "").await.calls[0];
    assert_eq!(
        (&call["req_body"], &call["resp_body"]),
        (&json!("{\"1\":\"hi\"}"), &json!("{\"1\":\"no\"}"))
    );
    assert_eq!(call["req_body_raw"], json!("AAAAAAQKAmhp"));
    assert_eq!(
        call["resp_body_messages"],
        json!([{"bytes": packed.len(), "compressed": true, "inflated_bytes": 4}])
    );
    let mut descriptors = wiretape_dissect::protobuf::Descriptors::default();
    descriptors.add(set).unwrap();
    let call = &ask(&db.named_by(std::sync::Arc::new(descriptors)), "")
        .await
        .calls[0];
    assert_eq!(
        (&call["req_body"], &call["req_body_type"]),
        (&json!("{\"name\":\"hi\"}"), &json!("p.M"))
    );
}

/// So many calls on one connection, whose answers are JSON with their number.
fn numbered(calls: usize) -> Talk {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", START, (1, 2));
    talk.handshake();
    for number in 0..calls {
        let path = if number % 2 == 0 { "even" } else { "odd" };
        talk.ask(format!("POST /{path} HTTP/1.1\r\nContent-Length: 5\r\n\r\nasked"));
        let body = format!("{{\"number\":{number},\"tags\":[\"a\",\"b{number}\"]}}");
        talk.answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    talk.close();
    talk
}

#[tokio::test]
async fn filters_on_what_bodies_say() {
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &numbered(10).packets);
    for (kfl, expected) in [
        ("response.body.json().number >= 7", 3),
        ("response.body.json().number >= 7 and path == \"/odd\"", 2),
        ("response.body.json().number >= 7 or path == \"/odd\"", 6),
        ("not (response.body contains \"b3\")", 9),
        ("response.body.json().tags.*  == \"b3\"", 1),
        (
            "request.body == \"asked\" and response.body matches \":[45],\"",
            2,
        ),
        ("request.body == \"\"", 0),
        ("size(response.body) > 1000", 0),
        ("redis and request.body == \"asked\"", 0),
    ] {
        let page = ask(&db, kfl).await;
        assert_eq!(
            (page.total, page.calls.len()),
            (expected, expected as usize),
            "{kfl}"
        );
        assert!(page.warnings.is_empty(), "{kfl}: {:?}", page.warnings);
    }
    let stats = StatsQuery {
        scope: Scope {
            kfl: Some("response.body.json().number < 4".to_owned()),
            ..Scope::default()
        },
        max_bytes: 60_000,
        ..StatsQuery::default()
    };
    assert_eq!(query::stats(&db, &stats).await.unwrap()["total"]["count"], 4);
}

#[tokio::test]
async fn filters_find_the_text_in_bodies_that_are_not_utf_8() {
    let dir = tempfile::tempdir().unwrap();
    // An error page in ISO-8859-1, and a request that is no text at all.
    let page = b"<p>Verf\xfcgbarer Speicher: java.lang.OutOfMemoryError</p>";
    let mut answer = format!("HTTP/1.1 500 E\r\nContent-Length: {}\r\n\r\n", page.len()).into_bytes();
    answer.extend(page);
    let picture = [0, 0, 0, 0, 0, 0, 0xff, 0xd8, 0xff];
    let db = dissect_packets(dir.path(), &talk(&picture, &answer).packets);
    for (kfl, expected) in [
        ("response.body contains \"OutOfMemory\"", 1),
        ("response.body matches \"Verf.gbarer Speicher\"", 1),
        ("response.body startsWith \"<p>Verf\u{fffd}gbarer\"", 1),
        ("response.body contains \"PHA+\"", 0),
        ("request.body contains \"AAAA\"", 0),
        ("request.body != \"\"", 1),
    ] {
        assert_eq!(ask(&db, kfl).await.total, expected, "{kfl}");
    }
    // An answer shows them as they are.
    let call = &ask(&db, "http").await.calls[0];
    assert_eq!(
        (&call["req_body"], &call["req_body_encoding"]),
        (&json!("AAAAAAAA/9j/"), &json!("base64"))
    );
    assert_eq!(call["resp_body_encoding"], "base64");
}

#[tokio::test]
async fn as_many_bodies_as_one_question_reads() {
    let dir = tempfile::tempdir().unwrap();
    let talk = numbered(MAX_SEARCHED + 1);
    let db = dissect_packets(dir.path(), &talk.packets);
    let first = format!("response.body.json().number >= 0 and index < {MAX_SEARCHED}");
    let page = ask(&db, &first).await;
    assert_eq!((page.total, page.warnings.len()), (MAX_SEARCHED as u64, 0));
    // The last one is not looked at, and the answer says so.
    let page = ask(&db, "response.body.json().number >= 0").await;
    assert_eq!(page.total, MAX_SEARCHED as u64);
    assert!(
        page.warnings[0].contains("in the first 2000 calls"),
        "{:?}",
        page.warnings
    );
    // Other conditions count first.
    let page = ask(&db, "path == \"/even\" and response.body.json().number == 2000").await;
    assert_eq!((page.total, page.warnings.len()), (1, 0));
}

#[tokio::test]
async fn filter_on_a_body_that_is_gone_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &numbered(3).packets);
    fs::remove_dir_all(dir.path().join("segments")).unwrap();
    let page = ask(&db, "response.body contains \"number\"").await;
    assert_eq!(page.total, 0);
    assert!(
        page.warnings
            .iter()
            .any(|warning| warning.contains("3 bodies are not whole")),
        "{:?}",
        page.warnings
    );
}
