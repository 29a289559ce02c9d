//! What recorders have lost is told with every answer that it touches, and with no other.

use serde_json::{Value, json};
use wiretape_dissect::testing::{Talk, Who};
use wiretape_tape::{Loss, LossStage, Nanos};

use crate::agent::{Node, SECOND, checkouts};
use crate::hub::{TestHub, encoded};

/// As long as each call of [`checkouts`] is from the next.
const APART: Nanos = 10_000_000;

fn loses(node: &Node, stage: LossStage, (since, until): (Nanos, Nanos), packets: u64) {
    let mut tape = node.tape.lock().expect("no test panics with it");
    tape.lost_at(Loss {
        stage,
        since,
        until,
        packets,
    });
    tape.flush().expect("the tape is flushed");
}

/// Fifty calls in half a second, of whose first tenth the recorder lost some packets. It had lost others hours before.
async fn lossy() -> (TestHub, Node, Nanos) {
    let node = Node::start("node-1", 64 << 20).await;
    let end = wiretape_hub::now() - SECOND;
    let begin = end - 50 * APART;
    loses(
        &node,
        LossStage::DiskFull,
        (begin - 7200 * SECOND, begin - 7199 * SECOND),
        100,
    );
    for talk in checkouts(50, end, 100) {
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }
    loses(&node, LossStage::BufferFull, (begin, begin + 5 * APART), 7);
    (TestHub::start(&[&node]).await, node, begin)
}

/// The losses in a part of an answer, without their times.
fn told(answer: &Value) -> Vec<(&str, &str, u64)> {
    let losses = answer["losses"].as_array().into_iter().flatten();
    let one = |loss: &Value| {
        assert!(
            loss["start_ts"].as_u64() <= loss["end_ts"].as_u64() && loss["start_ts"].is_u64(),
            "{loss}"
        );
        loss["packets"].as_u64().expect("a number")
    };
    losses
        .map(|loss| {
            (
                loss["node"].as_str().unwrap_or_default(),
                loss["stage"].as_str().unwrap_or_default(),
                one(loss),
            )
        })
        .collect()
}

const LOST: [(&str, &str, u64); 1] = [("node-1", "buffer_full", 7)];

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_of_the_losses_that_they_rest_on() {
    let (hub, _node, begin) = lossy().await;
    let ask = &hub.client;
    let begin = begin / 1_000_000;

    // Of a tape there is all of it.
    let boundaries = ask.get("/mcp/data-boundaries").await;
    let tape = &boundaries["nodes"][0];
    assert_eq!(tape["lost_packets"], 107, "{tape}");
    assert_eq!(
        told(tape),
        [("", "disk_full", 100), ("", "buffer_full", 7)],
        "{tape}"
    );
    let health = ask.post("/mcp/tools/get_recording_health", json!({})).await;
    assert_eq!(health["status"], "degraded", "{health}");
    let problems = health["problems"].to_string();
    assert!(
        problems.contains("node-1 lost 100 packets from") && problems.contains("its disk was full"),
        "{problems}"
    );
    assert!(problems.contains("node-1 lost 7 packets at"), "{problems}");

    // Of a snapshot, what was lost in its window.
    let snapshot = ask
        .snapshot(json!({ "name": "incident", "duration": "1h" }))
        .await;
    assert_eq!(
        (&snapshot["lost_packets"], told(&snapshot)),
        (&json!(7), LOST.to_vec()),
        "{snapshot}"
    );
    assert_eq!(snapshot["nodes"][0]["lost_packets"], 7, "{snapshot}");
    let listed = ask.get("/mcp/snapshots").await;
    assert_eq!(told(&listed["snapshots"][0]), LOST, "{listed}");
    let dissection = ask.dissect("incident", "calls").await;
    assert_eq!(
        (&dissection["lost_packets"], told(&dissection)),
        (&json!(7), LOST.to_vec()),
        "{dissection}"
    );

    // Of a question, what was lost in the time that it is about.
    let (early, late) = (begin + 20, begin + 100);
    for route in ["calls", "stats", "timeline", "flows", "flows/summary", "events"] {
        let path = format!("/mcp/{route}?db=incident");
        for (time, touched) in [
            (String::new(), true),
            (format!("&end={early}"), true),
            (format!("&start={late}"), false),
        ] {
            let path = format!("{path}{time}");
            let answer = ask.get(&path).await;
            if touched {
                assert_eq!(
                    (&answer["lost_packets"], told(&answer)),
                    (&json!(7), LOST.to_vec()),
                    "{path}: {answer}"
                );
            } else {
                assert_eq!(
                    (&answer["lost_packets"], &answer["losses"]),
                    (&Value::Null, &Value::Null),
                    "{path}: {answer}"
                );
            }
        }
    }

    // Of a call, what was lost while it was under way.
    for (order, touched) in [(0, true), (49, false)] {
        let all = ask.get("/mcp/calls?db=incident").await;
        let id = all["calls"][order]["id"].as_str().expect("an id").to_owned();
        let call = ask.get(&format!("/mcp/calls/{}?db=incident", encoded(&id))).await;
        let details = ask
            .post(
                "/mcp/tools/get_api_call_details",
                json!({ "id": id, "db": "incident" }),
            )
            .await;
        for answer in [&call, &details] {
            let expected = if touched { LOST.to_vec() } else { Vec::new() };
            assert_eq!(told(answer), expected, "{answer}");
        }
    }

    // Tools that cannot be asked about a part of the time tell of all of it.
    let sql = ask
        .post(
            "/mcp/tools/query_sql",
            json!({ "sql": "SELECT 1 AS one FROM calls LIMIT 1" }),
        )
        .await;
    assert_eq!(
        (&sql["coverage"]["lost_packets"], told(&sql["coverage"])),
        (&json!(7), LOST.to_vec()),
        "{sql}"
    );
    let calls = ask.post("/mcp/tools/list_api_calls", json!({ "limit": 1 })).await;
    assert_eq!(
        (told(&calls), &calls["coverage"]["losses"]),
        (LOST.to_vec(), &Value::Null),
        "{calls}"
    );
    let overview = ask
        .post(
            "/mcp/tools/investigate",
            json!({ "db": "incident", "workload": "10.0.0.2" }),
        )
        .await;
    assert_eq!(told(&overview), LOST, "{overview}");
    assert!(
        overview["summary"]
            .as_str()
            .is_some_and(|told| told.contains("lost 7 packets")),
        "{overview}"
    );
}

/// A recorder that has too much to do leaves out bodies first.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_body_was_left_out_says_so() {
    const HEAD: usize = 300;
    let node = Node::start("node-1", 64 << 20).await;
    let mut talk = Talk::new(
        "10.0.0.1:40000",
        "10.0.0.2:8080",
        wiretape_hub::now() - 10 * SECOND,
        (1, 2),
    );
    talk.handshake();
    talk.ask("GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    ));
    talk.ask("GET /b HTTP/1.1\r\nHost: a\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    talk.close();
    let mut packets = talk.seen_by(Who::Client, 0, 0);
    for packet in &mut packets {
        packet.data.truncate(HEAD);
    }
    node.record(&packets);
    let hub = TestHub::start(&[&node]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "a", "duration": "1m" })).await;
    ask.dissect("a", "calls").await;

    let calls = ask.get("/mcp/calls?db=a").await;
    assert_eq!(calls["total"], 2, "{calls}");
    assert_eq!(calls["calls"][0]["marks"], json!(["response_gap"]), "{calls}");
    assert_eq!(calls["calls"][1]["marks"], Value::Null, "{calls}");
    // Nothing is lost of what packets there were.
    assert_eq!(
        (&calls["lost_packets"], told(&calls)),
        (&Value::Null, vec![("node-1", "cut_short", 1)]),
        "{calls}"
    );
    let details = ask
        .post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": calls["calls"][0]["id"], "db": "a" }),
        )
        .await;
    assert!(
        details["resp_body_error"]
            .as_str()
            .is_some_and(|told| told.contains("1 of its packets were recorded without their end")),
        "{details}"
    );
    assert_eq!(told(&details), [("node-1", "cut_short", 1)], "{details}");
}
