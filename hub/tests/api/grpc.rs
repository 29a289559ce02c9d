//! gRPC on the port of all else. `cargo xtask conformance mcp` has a generic client ask all of it; here are the edges.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::hub::{Client, TestHub};

/// What curl gets over HTTP/2 without TLS: the head, then the body, then the trailers, as they come.
fn curl(ask: &Client, path: &str, more: &[&str], body: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sent = folder.path().join("body");
    std::fs::write(&sent, body).expect("it is written");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--max-time", "10", "--http2-prior-knowledge"])
        .args(more)
        .stderr(Stdio::inherit());
    if !body.is_empty() {
        curl.arg("--data-binary").arg(format!("@{}", sent.display()));
    }
    let said = curl
        .arg(format!("{}{path}", ask.url))
        .output()
        .expect("curl runs");
    // Not its status: of an answer that came before all was sent, and a stream that is reset then (RFC 9113 section 8.1),
    // it says that it failed.
    said.stdout
}

/// A message with the one field that is given, as the wire has it: not compressed, its length, the field.
fn message(field: u8, text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("it is short");
    let mut message = vec![0, 0, 0, 0, length + 2, field << 3 | 2, length];
    message.extend_from_slice(text.as_bytes());
    message
}

fn has(said: &[u8], text: &str) -> bool {
    said.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_speaks_json_and_grpc() {
    let hub = TestHub::start(&[]).await;
    let grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
    let path = "/delayed_dissection.DelayedDissection/GetStatus";
    let said = curl(&hub.client, path, &grpc, &[0, 0, 0, 0, 0]);
    assert!(has(&said, "HTTP/2 200") && has(&said, "none") && has(&said, "grpc-status: 0"));
    let said = curl(&hub.client, path, &grpc, &message(1, "nope"));
    assert!(has(&said, "grpc-status: 5") && has(&said, "nope"));
    let said = curl(&hub.client, "/no.such.Service/Method", &grpc, &[0, 0, 0, 0, 0]);
    assert!(has(&said, "grpc-status: 12"));

    // JSON over HTTP/2, and over HTTP/1 as ever.
    let said = curl(
        &hub.client,
        path,
        &["-H", "content-type: application/json"],
        b"{}",
    );
    assert!(has(&said, "HTTP/2 200") && has(&said, "\"status\":\"none\""));
    assert_eq!(hub.client.post(path, json!({})).await["status"], "none");
}

/// An answer that comes before all was sent is one that curl loses: the stream is reset behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_there_is_told_when_all_was_sent() {
    let hub = TestHub::start(&[]).await;
    let curl = format!(
        "(sleep 0.5; printf '\\0\\0\\0\\0\\0') | curl -sS -i --max-time 30 --http2-prior-knowledge -X POST -T - \
         -H 'content-type: application/grpc' -H 'te: trailers' {}/no.such.Service/Method",
        hub.client.url
    );
    let said = Command::new("sh").args(["-c", &curl]).output().expect("sh runs");
    assert!(said.status.success(), "{said:?}");
    assert!(has(&said.stdout, "grpc-status: 12"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_http_1_and_grpc_web_are_told_what_is_read() {
    let hub = TestHub::start(&[]).await;
    let path = "/delayed_dissection.DelayedDissection/GetStatus";
    for kind in ["application/grpc", "application/grpc-web"] {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", hub.client.url))
            .header("content-type", kind)
            .body(vec![0, 0, 0, 0, 0])
            .send()
            .await
            .expect("the hub answers");
        assert_eq!(answer.status(), 415, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_grpc_are_counted_as_such() {
    let hub = TestHub::start(&[]).await;
    let grpc = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
    let path = "/delayed_dissection.DelayedDissection/GetStatus";
    curl(&hub.client, path, &grpc, &message(1, "nope"));
    assert_eq!(hub.client.metric("requests_refused_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proto_is_published() {
    let hub = TestHub::start(&[]).await;
    let answer = hub
        .client
        .send("GET", "/api/delayed_dissection.proto", None)
        .await;
    let proto = answer.text().await.expect("it is text");
    assert_eq!(proto, include_str!("../../proto/delayed_dissection.proto"));
}
