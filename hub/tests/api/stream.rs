//! Live calls over WebSockets, read by a client that others wrote.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use wiretape_dissect::testing::Who;
use wiretape_hub::live::Pace;

use crate::agent::{Node, SECOND, checkouts, shop};
use crate::hub::TestHub;
use crate::live::quick;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest wait for something that is told.
const TOLD: Duration = Duration::from_secs(30);

fn url(hub: &TestHub, path: &str) -> String {
    hub.client.url.replace("http:", "ws:") + path
}

/// A reader that has sent its filter.
async fn reader(hub: &TestHub, path: &str, kfl: &str) -> Socket {
    let (mut socket, _) = connect_async(url(hub, path)).await.expect("it is a WebSocket");
    socket
        .send(Message::text(kfl))
        .await
        .expect("the filter is taken");
    socket
}

/// Waits until so many readers are connected.
async fn connected(hub: &TestHub, readers: u64) {
    let waiting = async {
        while hub.client.metric("stream_readers").await != readers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TOLD, waiting)
        .await
        .expect("it comes to that");
}

/// The status of what a page of that origin is answered.
async fn handshake(hub: &TestHub, origin: &str) -> u16 {
    let mut request = url(hub, "/ws").into_client_request().expect("a request");
    let origin = origin.parse().expect("a header");
    request.headers_mut().insert("origin", origin);
    match connect_async(request).await {
        Ok((_, answer)) => answer.status().as_u16(),
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

/// The next entry.
async fn entry(socket: &mut Socket) -> Value {
    let message = tokio::time::timeout(TOLD, socket.next()).await.expect("in time");
    match message {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("JSON"),
        other => panic!("no entry: {other:?}"),
    }
}

/// How a stream ends, after all that was told before.
async fn end(socket: &mut Socket) -> (Vec<Value>, CloseFrame) {
    let mut told = Vec::new();
    loop {
        let message = tokio::time::timeout(TOLD, socket.next()).await.expect("in time");
        match message {
            Some(Ok(Message::Text(text))) => told.push(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(Message::Close(Some(close)))) => return (told, close),
            other => panic!("not closed with a reason: {other:?}"),
        }
    }
}

/// Calls that end at a time, recorded at both ends.
fn record(client: &Node, server: &Node, count: u32, from: usize, end: u64) {
    for talk in checkouts(count, end, 20).into_iter().skip(from) {
        client.record(&talk.seen_by(Who::Client, 0, 0));
        server.record(&talk.seen_by(Who::Server, 1, 50_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_told_once_as_it_ends() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    let mut all = reader(&hub, "/ws", "").await;
    let mut failed = reader(&hub, "/api/wsFull", "response.status == 503").await;

    let first = entry(&mut all).await;
    let listed = hub.client.get("/mcp/calls?limit=1").await;
    assert_eq!(first, listed["calls"][0]);
    for _ in 1..20 {
        entry(&mut all).await;
    }
    // Ten more, which are settled two seconds after their end, and no round tells anything twice.
    record(&client, &server, 30, 20, wiretape_hub::now() - SECOND);
    let mut told = Vec::new();
    for _ in 20..30 {
        told.push(entry(&mut all).await["src"]["port"].clone());
    }
    told.sort_by_key(Value::as_u64);
    assert_eq!(told, (20_020..20_030).map(|port| json!(port)).collect::<Vec<_>>());
    let more = tokio::time::timeout(Duration::from_secs(1), all.next()).await;
    assert!(more.is_err(), "told again: {more:?}");

    // Two of the first twenty fail, and one of those that came later.
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(entry(&mut failed).await);
    }
    let one = &seen[0];
    assert_eq!(one["node"]["name"], "node-1");
    assert_eq!(one["src"]["port"], "20009");
    assert_eq!(one["dst"]["service"]["metadata"]["name"], "checkout");
    assert_eq!(
        (&one["protocol"]["name"], &one["protocol"]["abbr"]),
        (&json!("http"), &json!("HTTP"))
    );
    assert_eq!(
        (&one["request"]["method"], &one["response"]["status"]),
        (&json!("POST"), &json!(503))
    );
    assert_eq!(one["request"]["body"], "x".repeat(10));
    assert_eq!(
        (&one["outgoing"], &one["failed"], &one["passed"]),
        (&json!(true), &json!(true), &json!(false))
    );
    assert_eq!(seen[2]["src"]["port"], "20029");
    assert_eq!(hub.client.metric("stream_readers").await, 2);
    assert_eq!(hub.client.metric("stream_calls_told_total").await, 33);

    // A reader that leaves is let go; the others hear when it is switched off.
    all.close(None).await.expect("it closes");
    connected(&hub, 1).await;
    hub.client.post("/mcp/dissection/disable", json!({})).await;
    let (told, close) = end(&mut failed).await;
    assert!(
        told[0]["error"]
            .as_str()
            .is_some_and(|told| told.contains("/mcp/dissection/enable")),
        "{told:?}"
    );
    assert_eq!(u16::from(close.code), 1008);
    assert_eq!(hub.client.metric("stream_readers_dropped_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_says_why() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    // It is off.
    let (told, _) = end(&mut reader(&hub, "/ws", "").await).await;
    assert!(
        told[0]["error"]
            .as_str()
            .is_some_and(|told| told.contains("live dissection is off")),
        "{told:?}"
    );
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    // No filter, and two of them.
    let (told, close) = end(&mut reader(&hub, "/ws", "src.podd == 1").await).await;
    assert!(
        told[0]["error"]
            .as_str()
            .is_some_and(|told| told.contains("did you mean")),
        "{told:?}"
    );
    assert!(close.reason.len() <= 123);
    let mut twice = reader(&hub, "/ws", "redis").await;
    twice.send(Message::text("http")).await.expect("it is sent");
    let (told, _) = end(&mut twice).await;
    assert_eq!(
        told,
        [json!({ "error": "a connection has one filter; open another one" })]
    );
    // There is room for 32 readers, who may be silent, and for one more when one has gone.
    connected(&hub, 0).await;
    let mut readers = Vec::new();
    for _ in 0..32 {
        readers.push(reader(&hub, "/ws", "redis").await);
    }
    assert_eq!(handshake(&hub, "http://localhost").await, 429);
    readers.pop();
    connected(&hub, 31).await;
    // Who is no WebSocket is told so.
    let (status, answer) = hub.client.ask("GET", "/ws", None).await;
    assert_eq!(status, 400);
    assert!(
        answer["error"]
            .as_str()
            .is_some_and(|told| told.contains("GET /mcp/calls")),
        "{answer}"
    );
    // Pages of strangers read nothing.
    assert_eq!(handshake(&hub, "https://attacker.example").await, 403);
    assert_eq!(handshake(&hub, "http://localhost:3000").await, 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_let_go_and_a_hub_that_stops_says_so() {
    let (client, server) = shop(3000, 4000, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    // More than the sockets between them hold.
    let slow = reader(&hub, "/wsFull", "").await;
    let mut calm = reader(&hub, "/ws", "limit(1)").await;
    assert_eq!(entry(&mut calm).await["method"], "POST");
    let let_go = async {
        while hub.client.metric("stream_readers_dropped_total").await == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(TOLD, let_go).await.expect("it is let go");
    drop(slow);
    let stopping = tokio::spawn(hub.stop());
    let (_, close) = end(&mut calm).await;
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1001, "the hub is stopping")
    );
    drop(calm);
    stopping.await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_gone_without_a_word_is_noticed() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let pace = Pace {
        ping: Duration::from_secs(3),
        ..quick()
    };
    let hub = TestHub::paced(&[&client, &server], pace).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    // Its connection stays open, and nothing of it is heard any more: nobody reads it, so no ping is answered.
    let gone = reader(&hub, "/ws", "redis").await;
    let mut calm = reader(&hub, "/ws", "redis").await;
    connected(&hub, 2).await;
    // A client answers pings while it reads.
    let reads_on = tokio::spawn(async move {
        loop {
            match calm.next().await {
                Some(Ok(Message::Ping(_))) => {}
                other => break other,
            }
        }
    });
    connected(&hub, 1).await;
    assert_eq!(hub.client.metric("stream_readers_dropped_total").await, 1);
    tokio::time::sleep(3 * pace.ping).await;
    assert!(!reads_on.is_finished(), "one that answers is let go");
    assert_eq!(hub.client.metric("stream_readers").await, 1);
    reads_on.abort();
    drop(gone);
}
