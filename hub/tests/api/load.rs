//! MCP under load and abuse: what one client does costs the others nothing, and leaves nothing behind.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hub::HubProcess;
use crate::session::Session;
use crate::tools::dissected;

const VERSION: &str = "2025-11-25";
/// Sessions at the same time.
const CROWD: usize = 100;
/// Calls that each of them makes.
const CALLS: usize = 5;
/// What the hub may have more, when all is over, than at its start: what it remembers of answers, and what its allocator
/// cannot give back, since something on the same page is in use.
const KEPT_KIB: u64 = 64 << 10;
/// Longest wait for memory to be given back: threads that have nothing to do end after ten seconds.
const GIVES_BACK: Duration = Duration::from_secs(120);
/// Longest answer to a client that others are not to disturb: one that is never answered fails, and a busy machine does
/// not. It takes some milliseconds alone.
const DISTURBED: Duration = Duration::from_secs(60);
/// Longest wait for jobs that were begun to end.
const ENDED: Duration = Duration::from_secs(600);

/// A hub of its own process, with a dissection.
async fn hub() -> (HubProcess, TempDir) {
    let (hub, _client, _server) = dissected().await;
    let dir = hub.stop().await;
    (HubProcess::start(dir.path(), &[]), dir)
}

/// What the hub has in use before it is loaded: when one client has asked everything once.
async fn at_start(hub: &HubProcess) -> u64 {
    let session = session(hub).await;
    asks_as_ever(&session).await;
    for tool in ["get_api_stats", "get_timeline", "list_l4_flows", "list_snapshots"] {
        session.call(tool, json!({})).await;
    }
    session.ask("tools/list", json!({})).await;
    session.end().await;
    hub.memory()
}

/// Waits until the hub has given back what it needed.
async fn is_back_at(start: u64, hub: &HubProcess) {
    let deadline = Instant::now() + GIVES_BACK;
    loop {
        let now = hub.memory();
        if now <= start + KEPT_KIB {
            eprintln!("{start} KiB at its start, {now} KiB at its end");
            return;
        }
        assert!(Instant::now() < deadline, "{start} KiB became {now} KiB");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn url(hub: &HubProcess) -> String {
    format!("{}/mcp", hub.client.url)
}

async fn session(hub: &HubProcess) -> Session {
    Session::at(&url(hub), VERSION).await.0
}

/// A client that behaves, and is to be answered whatever the others do.
async fn asks_as_ever(session: &Session) {
    let begun = Instant::now();
    let answer = session
        .call(
            "list_api_calls",
            json!({ "db": "incident/calls", "kfl": "error" }),
        )
        .await;
    assert_eq!(answer["structuredContent"]["total"], 5, "{answer}");
    assert!(
        begun.elapsed() < DISTURBED,
        "answered after {:?}",
        begun.elapsed()
    );
}

/// A hundred sessions at once, with as many calls each, that end as they should.
async fn crowd(hub: &HubProcess) {
    let all = (0..CROWD).map(|_| async {
        let session = session(hub).await;
        for _ in 0..CALLS {
            asks_as_ever(&session).await;
        }
        let tools = session.ask("tools/list", json!({})).await;
        assert!(tools["tools"].as_array().is_some_and(|tools| tools.len() > 20));
        session.end().await;
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sessions_at_once_leave_no_memory_behind() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    for _ in 0..3 {
        crowd(&hub).await;
    }
    is_back_at(start, &hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_read_nothing_disturb_nobody() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    let calm = session(&hub).await;
    for _ in 0..4 {
        read_nothing(&hub, &calm).await;
    }
    is_back_at(start, &hub).await;
}

/// Twenty connections ask for long answers as often as they can, and read none. Meanwhile another client is answered.
async fn read_nothing(hub: &HubProcess, calm: &Session) {
    let slow = session(hub).await;
    let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "list_api_calls", "arguments": { "format": "raw", "max_bytes": 262_144 } } })
    .to_string();
    let address = hub.client.url.trim_start_matches("http://").to_owned();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: application/json, \
         text/event-stream\r\nmcp-session-id: {}\r\ncontent-length: {}\r\n\r\n{asked}",
        slow.id,
        asked.len()
    );
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut reader = TcpStream::connect(&address).await.expect("it listens");
        // As many as the sockets take: answers that nobody reads are waited for, and the next request is not read.
        for _ in 0..50 {
            let sent = tokio::time::timeout(Duration::from_millis(20), reader.write_all(request.as_bytes()));
            if sent.await.is_err() {
                break;
            }
        }
        readers.push(reader);
    }
    for _ in 0..20 {
        asks_as_ever(calm).await;
    }
    // One of them reads after all, and is answered.
    let reader = readers.first_mut().expect("there are some");
    let mut begin = vec![0; 15];
    reader.read_exact(&mut begin).await.expect("an answer");
    assert_eq!(begin, b"HTTP/1.1 200 OK");
    drop(readers);
    slow.end().await;
    asks_as_ever(calm).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_gone_in_mid_stream_leave_nothing_stuck() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    let calm = session(&hub).await;
    let gone = (0..CROWD).map(|number| {
        let hub = &hub;
        async move {
            let session = session(hub).await;
            // With a name of its own, so that none is found to be there already.
            let params = json!({ "name": "start_snapshot_dissection", "_meta": { "progressToken": 1 },
                "arguments": { "snapshot_id": "incident", "name": format!("gone-{number}") } });
            let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
            let answer = session.message(&message).send().await.expect("it answers");
            let mut stream = answer.bytes_stream();
            // It goes when the first bytes have come: no end is told, and the stream is not read on.
            assert!(stream.next().await.is_some_and(|bytes| bytes.is_ok()));
        }
    });
    join_all(gone).await;
    asks_as_ever(&calm).await;
    let deadline = Instant::now() + ENDED;
    let listed = loop {
        let listed = hub.client.get("/mcp/dissections").await;
        let active = |row: &Value| row["status"] == "pending" || row["status"] == "running";
        let busy = listed["dissections"]
            .as_array()
            .is_some_and(|rows| rows.iter().any(active));
        if !busy || Instant::now() > deadline {
            break listed;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // Each has come to an end, its own or that of being called off; and there is room for another.
    let ended = |row: &Value| row["status"] == "completed" || row["status"] == "cancelled";
    let rows = listed["dissections"].as_array().expect("a list");
    assert!(rows.len() > 1 && rows.iter().all(ended), "{listed}");
    let again = hub.client.dissect("incident", "again").await;
    assert_eq!(again["status"], "completed", "{again}");
    is_back_at(start, &hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_called_off_over_and_over_end_all_the_same() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    let session = session(&hub).await;
    let calm = self::session(&hub).await;
    for round in 0..100_u64 {
        // Called off before it is asked, while it is asked, and when it is over; by ids that are used again.
        let id = round % 3 + 10;
        let off = || {
            session.tell(
                "notifications/cancelled",
                json!({ "requestId": id, "reason": "round and round" }),
            )
        };
        off().await;
        let params = json!({ "name": "get_timeline", "arguments": { "db": "incident/calls" } });
        let asked =
            session.message(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }));
        let answer = async {
            // Called off in time it has no answer, and then its stream ends.
            let answer = tokio::time::timeout(DISTURBED, async { asked.send().await?.text().await });
            answer.await.expect("its stream ends").expect("it is whole")
        };
        futures::join!(answer, off());
        off().await;
        session
            .tell(
                "notifications/cancelled",
                json!({ "requestId": "no such request" }),
            )
            .await;
    }
    asks_as_ever(&session).await;
    asks_as_ever(&calm).await;
    is_back_at(start, &hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_size_come_back_as_they_were() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    let session = session(&hub).await;
    let long = "9".repeat(100_000);
    for id in [
        json!(i64::MAX),
        json!(0),
        json!(-1),
        json!(""),
        json!("\u{0}\u{202e}"),
        json!(long),
    ] {
        let asked = session.message(&json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }));
        let answer = asked
            .send()
            .await
            .expect("it answers")
            .text()
            .await
            .expect("text");
        let answer = answer
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter(|data| !data.trim().is_empty());
        let answers: Vec<Value> = answer
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect();
        let shown = id.to_string().chars().take(30).collect::<String>();
        assert!(answers.iter().any(|answer| answer["id"] == id), "{shown}");
    }
    // What is no id is refused, and the session goes on.
    for id in [json!(1.5), json!([1]), json!({ "id": 1 }), json!(true)] {
        let asked = session.message(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" }));
        let answer = asked.send().await.expect("it answers");
        assert!(answer.status().is_client_error(), "{id}: {}", answer.status());
    }
    asks_as_ever(&session).await;
    is_back_at(start, &hub).await;
}

/// What is no JSON-RPC at all, over and over: each is refused, and nothing of it stays.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_none_leave_nothing_behind() {
    let (hub, _dir) = hub().await;
    let start = at_start(&hub).await;
    let session = session(&hub).await;
    let deep = "[".repeat(100_000);
    let long = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}",
        "x".repeat(500_000)
    );
    for _ in 0..50 {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"x\"}",
            &deep,
            &long,
        ] {
            let asked = session.message(&Value::Null).body(body.to_owned());
            let answer = asked.send().await.expect("it answers");
            assert!(answer.status().is_client_error(), "{}", answer.status());
        }
    }
    asks_as_ever(&session).await;
    is_back_at(start, &hub).await;
}

/// A socket that waits for more to send, before a client that waits before it acknowledges, makes at least 40 ms of
/// every answer that is sent in two parts.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_wait_for_more_to_send() {
    let (hub, _dir) = hub().await;
    let session = session(&hub).await;
    let begun = Instant::now();
    let mut fastest = Duration::MAX;
    // One answer that comes sooner shows it, and on a busy machine it is not among the first.
    while fastest >= Duration::from_millis(35) {
        assert!(begun.elapsed() < DISTURBED, "{fastest:?}");
        let asked = Instant::now();
        session.ask("ping", json!({})).await;
        fastest = fastest.min(asked.elapsed());
    }
}

/// As a team's assistants ask within a minute: five hundred different questions, each ten times, in twenty sessions; and
/// all of it again. Each is answered rightly; how fast is printed, since machines that run tests are busy.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tool_calls_a_minute() {
    let (hub, _dir) = hub().await;
    let (start, cpu, begun) = (at_start(&hub).await, hub.cpu(), Instant::now());
    storm(&hub).await;
    storm(&hub).await;
    let took = begun.elapsed();
    let a_minute = 10_000.0 * 60.0 / took.as_secs_f64();
    eprintln!(
        "{a_minute:.0} calls a minute, {:?} of its processor time",
        hub.cpu() - cpu
    );
    is_back_at(start, &hub).await;
}

/// Half of ten thousand calls.
async fn storm(hub: &HubProcess) {
    const QUESTIONS: usize = 500;
    const TIMES: usize = 10;
    const SESSIONS: usize = 20;
    let sessions = join_all((0..SESSIONS).map(|_| session(hub))).await;
    let all = sessions.iter().enumerate().map(|(first, session)| async move {
        for number in (first..QUESTIONS * TIMES).step_by(SESSIONS) {
            let question = number % QUESTIONS;
            let kfl = format!("src.port == {}", 20_000 + question % 50);
            let (tool, arguments) = match question % 5 {
                0 | 1 => (
                    "list_api_calls",
                    json!({ "kfl": kfl, "limit": 1 + question / 50 }),
                ),
                2 => ("get_api_stats", json!({ "kfl": kfl, "limit": 1 + question / 50 })),
                3 => ("list_snapshots", json!({})),
                _ => ("explain_kfl", json!({ "kfl": kfl })),
            };
            let answer = session.call(tool, arguments).await;
            let told = &answer["structuredContent"];
            match question % 5 {
                0 | 1 => assert_eq!(told["total"], 1, "{answer}"),
                2 => assert_eq!(told["total"]["count"], 1, "{answer}"),
                3 => assert_eq!(told["snapshots"][0]["name"], "incident", "{answer}"),
                _ => assert_ne!(answer["isError"], true, "{answer}"),
            }
        }
    });
    join_all(all).await;
    for session in sessions {
        session.end().await;
    }
}
