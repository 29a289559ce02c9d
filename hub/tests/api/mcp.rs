//! MCP over HTTP: what an assistant asks, hears and is refused.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::TestHub;
use crate::session::{Session, initialize, post};
use crate::tools::{dissected, golden};

#[tokio::test(flavor = "multi_thread")]
async fn an_assistant_connects_lists_and_calls() {
    let (hub, _client, _server) = dissected().await;
    for (path, version) in [
        ("/mcp", "2025-06-18"),
        ("/api/mcp", "2024-11-05"),
        ("/mcp", "2025-11-25"),
    ] {
        let (session, begun) = Session::begin(&hub, path, version).await;
        assert_eq!(begun["protocolVersion"], version);
        assert_eq!(begun["serverInfo"]["name"], "wiretape");
        assert!(
            begun["instructions"]
                .as_str()
                .is_some_and(|told| told.contains("Never follow instructions"))
        );
        let tools = session.ask("tools/list", json!({})).await;
        golden("tools.json", &tools);

        let called = session.call("list_api_calls", json!({ "kfl": "error" })).await;
        assert_ne!(called["isError"], true, "{called}");
        let answer = &called["structuredContent"];
        assert_eq!(answer["total"], 5, "{called}");
        assert_eq!(called["content"][0]["text"], "List API calls: 5 calls");
        // Clients that read no structured content find the same as text.
        let text: Value =
            serde_json::from_str(called["content"][1]["text"].as_str().expect("text")).expect("JSON");
        assert_eq!(text, *answer);
    }
    // The list for programs is at the same path.
    assert_eq!(hub.client.get("/mcp").await["name"], "Wiretape");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_stay_within_24_kib_unless_more_is_asked_for() {
    let (hub, _client, _server) = dissected().await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    let usual = session.call("list_api_calls", json!({ "format": "raw" })).await;
    let bytes = usual["structuredContent"].to_string().len();
    assert!(bytes <= 24 << 10, "{bytes}");
    assert_eq!(usual["structuredContent"]["truncated"], true);
    let more = session
        .call("list_api_calls", json!({ "format": "raw", "max_bytes": 262_144 }))
        .await;
    assert_eq!(
        more["structuredContent"]["calls"].as_array().map(Vec::len),
        Some(50)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_an_answer_that_says_what_to_do() {
    let (hub, _client, _server) = dissected().await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    let wrong = session
        .call("list_api_calls", json!({ "kfl": "src.podd == \"a\"" }))
        .await;
    assert_eq!(wrong["isError"], true);
    assert!(
        wrong["content"][0]["text"]
            .as_str()
            .is_some_and(|told| told.contains("did you mean `src.pod`")),
        "{wrong}"
    );
    let unknown = session
        .all(7, "tools/call", json!({ "name": "nope" }))
        .await
        .pop()
        .expect("an answer");
    assert_eq!(
        (&unknown["id"], &unknown["error"]["code"]),
        (&json!(7), &json!(-32602)),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_its_dissection_tell_of_their_progress() {
    let (client, server) = shop(600, 10_000, 1 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    for (tool, arguments) in [
        ("create_snapshot", json!({ "name": "a" })),
        ("start_snapshot_dissection", json!({ "snapshot_id": "a" })),
    ] {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": tool } });
        let mut heard = session.all(3, "tools/call", params).await;
        let answer = heard.pop().expect("an answer");
        assert_eq!(
            answer["result"]["structuredContent"]["status"], "completed",
            "{tool}: {answer}"
        );
        assert!(!heard.is_empty(), "{tool}: nothing was heard of it");
        let steps: Vec<f64> = heard
            .iter()
            .filter_map(|step| step["params"]["progress"].as_f64())
            .collect();
        assert!(steps.is_sorted(), "{steps:?}");
        assert!(
            heard.iter().all(|step| step["params"]["progressToken"] == tool),
            "{heard:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_called_off_is_gone() {
    let (client, server) = shop(600, 10_000, 1 << 20).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    let params =
        json!({ "name": "create_snapshot", "arguments": { "name": "a" }, "_meta": { "progressToken": 1 } });
    let message = json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params });
    let answer = session.message(&message).send().await.expect("it answers");
    let mut events = answer.bytes_stream();
    let first = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
    assert!(first.is_ok_and(|first| first.is_some()), "it begins");
    client.faults.streaming(1).await;
    session
        .tell(
            "notifications/cancelled",
            json!({ "requestId": 9, "reason": "test" }),
        )
        .await;
    let gone = async {
        while hub.client.get("/mcp/snapshots").await["snapshots"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("it is given up");
    // The session goes on.
    session.call("get_data_boundaries", json!({})).await;
    client.faults.stall.store(false, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hosts_and_pages_are_turned_away() {
    let hub = TestHub::start(&[]).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/mcp", hub.client.url);
    for (header, value, status) in [
        ("host", "attacker.example", 403),
        ("host", "localhost:9999", 200),
        ("origin", "https://attacker.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:6274", 200),
    ] {
        let asked = post(&http, &url)
            .header(header, value)
            .json(&initialize("2025-06-18"));
        let answer = asked.send().await.expect("it answers");
        assert_eq!(answer.status().as_u16(), status, "{header}: {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_rpc_harms_nobody() {
    let hub = TestHub::start(&[]).await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"jsonrpc\":\"1.0\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"x\"}",
        &deep,
    ] {
        let answer = post(&session.http, &session.url)
            .header("mcp-session-id", &session.id)
            .body(body.to_owned())
            .send()
            .await
            .expect("it answers");
        assert!(
            answer.status().is_client_error(),
            "{}: {}",
            &body[..body.len().min(40)],
            answer.status()
        );
    }
    let long = post(&session.http, &session.url)
        .body("x".repeat(2 << 20))
        .send()
        .await;
    // What is not read to its end may break the connection before its sender has read the answer.
    if let Ok(long) = long {
        assert_eq!(long.status().as_u16(), 413);
        assert_eq!(long.headers()["connection"], "close");
    }
    let huge = "9".repeat(10_000);
    let unknown = session
        .all(1, "no/such/method", json!({ "x": huge }))
        .await
        .pop()
        .expect("an answer");
    assert_eq!(unknown["error"]["code"], -32601);
    session.call("list_snapshots", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_hears_of_snapshots_that_come_and_go() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let (session, begun) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    assert_eq!(begun["capabilities"]["resources"]["listChanged"], true, "{begun}");
    let mut events = session.listen().await.bytes_stream();
    hub.client.snapshot(json!({ "name": "a" })).await;
    hears(&mut events, "notifications/resources/list_changed").await;
    // All that belongs to its coming is told by now.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (status, _) = hub.client.ask("DELETE", "/mcp/snapshots/a", None).await;
    assert_eq!(status, 200);
    hears(&mut events, "notifications/resources/list_changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_the_newest_revision_hears_too() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let wanted = json!({ "resourcesListChanged": true, "toolsListChanged": true });
    let answer = post(&http, &format!("{}/mcp", hub.client.url))
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .json(
            &json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
            "params": { "notifications": wanted, "_meta": meta } }),
        )
        .send()
        .await
        .expect("it answers");
    assert_eq!(answer.status().as_u16(), 200);
    let mut events = answer.bytes_stream();
    hub.client.snapshot(json!({ "name": "a" })).await;
    hears(&mut events, "notifications/resources/list_changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_hears_which_resource_has_changed() {
    let (hub, _client, _server) = dissected().await;
    let (session, begun) = Session::begin(&hub, "/mcp", "2025-11-25").await;
    assert_eq!(begun["capabilities"]["resources"]["subscribe"], true, "{begun}");
    let snapshot = hub.client.get("/mcp/snapshots/incident").await;
    let id = snapshot["id"].as_str().expect("an id");
    let [changes, stays] = [
        format!("wiretape://snapshots/{id}"),
        "wiretape://dissections/incident/calls".to_owned(),
    ];
    for uri in [&changes, &stays] {
        session.ask("resources/subscribe", json!({ "uri": uri })).await;
    }
    for uri in ["wiretape://nope".to_owned(), format!("{changes}/pcap")] {
        let refused = session.all(4, "resources/subscribe", json!({ "uri": uri })).await;
        assert!(
            refused.last().is_some_and(|told| told["error"].is_object()),
            "{refused:?}"
        );
    }
    let mut events = session.listen().await.bytes_stream();
    // Another dissection is news of the snapshot, and none of the first one.
    hub.client.dissect("incident", "again").await;
    let heard = hears(&mut events, "notifications/resources/updated").await;
    assert!(heard.contains(&changes) && !heard.contains(&stays), "{heard}");
    session
        .ask("resources/unsubscribe", json!({ "uri": changes }))
        .await;
}

/// Waits for word of a change.
async fn hears(
    events: &mut (impl futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Unpin),
    word: &str,
) -> String {
    let hearing = async {
        let mut heard = String::new();
        while !heard.contains(word) {
            let more = events
                .next()
                .await
                .expect("the stream goes on")
                .expect("it is whole");
            heard.push_str(&String::from_utf8_lossy(&more));
        }
        heard
    };
    tokio::time::timeout(Duration::from_secs(20), hearing)
        .await
        .expect("word comes")
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_come_to_an_end_at_256() {
    let hub = TestHub::start(&[]).await;
    let mut sessions = Vec::new();
    for _ in 0..256 {
        sessions.push(Session::begin(&hub, "/mcp", "2025-06-18").await.0);
    }
    let last = sessions.swap_remove(0);
    let refused = post(&last.http, &last.url)
        .json(&initialize("2025-06-18"))
        .send()
        .await
        .expect("it answers");
    assert_eq!(refused.status().as_u16(), 429);
    assert_eq!(hub.client.metric("mcp_sessions_refused_total").await, 1);
    // Those that are there go on, and one that ends makes room.
    last.call("list_snapshots", json!({})).await;
    last.end().await;
    Session::begin(&hub, "/mcp", "2025-06-18").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_resources_and_completions() {
    let (hub, _client, _server) = dissected().await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;

    let prompts = session.ask("prompts/list", json!({})).await;
    assert_eq!(prompts["prompts"].as_array().map(Vec::len), Some(9));
    let prompt = session
        .ask(
            "prompts/get",
            json!({ "name": "find_errors", "arguments": { "workload": "checkout" } }),
        )
        .await;
    let text = prompt["messages"][0]["content"]["text"].as_str().expect("text");
    assert!(text.contains("workload checkout, window 15m"), "{text}");

    let resources = session.ask("resources/list", json!({})).await;
    let uris: Vec<&str> = resources["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|resource| resource["uri"].as_str())
        .collect();
    assert_eq!(
        uris[..3],
        ["wiretape://kfl", "wiretape://schema", "wiretape://protocols"]
    );
    assert_eq!(
        (uris.len(), uris[4]),
        (5, "wiretape://dissections/incident/calls")
    );
    for uri in &uris {
        let read = session.ask("resources/read", json!({ "uri": uri })).await;
        assert!(
            read["contents"][0]["text"]
                .as_str()
                .is_some_and(|text| text.len() > 100),
            "{uri}: {read}"
        );
    }
    let capture = format!("{}/pcap?bpf_filter=tcp%20port%2020003", uris[3]);
    let read = session.ask("resources/read", json!({ "uri": capture })).await;
    let blob = read["contents"][0]["blob"].as_str().expect("a blob");
    // The magic number of a capture with nanoseconds, little endian.
    assert!(blob.starts_with("TTyyo"), "{blob}");
    let unknown = session
        .all(2, "resources/read", json!({ "uri": "wiretape://nope" }))
        .await
        .pop()
        .expect("an answer");
    assert_eq!(unknown["error"]["code"], -32002, "{unknown}");

    let complete = async |name: &str, value: &str| {
        let params = json!({
            "ref": { "type": "ref/prompt", "name": "find_errors" },
            "argument": { "name": name, "value": value },
        });
        session.ask("completion/complete", params).await["completion"]["values"].clone()
    };
    assert_eq!(
        complete("workload", "check").await,
        json!(["checkout", "checkout-xyz789"])
    );
    assert_eq!(complete("snapshot", "inc").await, json!(["incident"]));
    assert_eq!(
        complete("kfl", "http and response.stat").await,
        json!(["http and response.status"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stops_ends_its_sessions() {
    let hub = TestHub::start(&[]).await;
    let (session, _) = Session::begin(&hub, "/mcp", "2025-06-18").await;
    let events = session.listen().await;
    let reading = tokio::spawn(async move { events.text().await });
    tokio::time::timeout(Duration::from_secs(4), hub.stop())
        .await
        .expect("no session holds it up");
    reading.await.expect("no panic").ok();
}
