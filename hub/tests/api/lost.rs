//! An assistant that gets lost: each answer says what to do next.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::{Client, TestHub};
use crate::tools::dissected;

/// What a tool says when it does not do what it was asked: an error, or why there is nothing, and what is next.
async fn told(ask: &Client, tool: &str, arguments: Value) -> String {
    let path = format!("/mcp/tools/{tool}");
    let (_, answer) = ask.ask("POST", &path, Some(arguments.clone())).await;
    let said: Vec<&str> = ["error", "explanation", "next"]
        .iter()
        .filter_map(|member| answer[*member].as_str())
        .collect();
    assert!(!said.is_empty(), "{tool} {arguments}: {answer}");
    said.join("; ")
}

async fn helps(ask: &Client, tool: &str, arguments: Value, with: &[&str]) {
    let said = told(ask, tool, arguments.clone()).await;
    for with in with {
        assert!(
            said.contains(with),
            "{tool} {arguments}: no \"{with}\" in: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_windows_are_told_the_right_ones() {
    let (hub, _client, _server) = dissected().await;
    let ask = &hub.client;
    for (tool, arguments, with) in [
        (
            "investigate",
            json!({ "db": "incident", "workload": "frontned" }),
            &["did you mean `frontend`", "checkout"][..],
        ),
        ("list_api_callz", json!({}), &["list_api_calls"]),
        ("get_snapshot", json!({}), &["`id` is required"]),
        (
            "get_snapshot",
            json!({ "id": "incidnet" }),
            &["there are: incident"],
        ),
        (
            "start_snapshot_dissection",
            json!({ "snapshot_id": "nope" }),
            &["there are: incident"],
        ),
        (
            "list_api_calls",
            json!({ "db": "incident/cals" }),
            &["incident/calls"],
        ),
        (
            "list_api_calls",
            json!({ "kfl": "src.pod contians \"frontend\"" }),
            &["did you mean `contains`"],
        ),
        (
            "list_api_calls",
            json!({ "kfl": "respone.status == 503" }),
            &["did you mean `response.status`"],
        ),
        (
            "list_api_calls",
            json!({ "kfl": "redis" }),
            &["matched none of the 50 calls"],
        ),
        ("list_api_calls", json!({ "start": "yesterday" }), &["RFC 3339"]),
        (
            "list_api_calls",
            json!({ "start": 1, "end": 2 }),
            &["no call began in that window", "calls began from"],
        ),
        (
            "list_api_calls",
            json!({ "start": 2, "end": 1 }),
            &["must be before end"],
        ),
        ("get_api_call", json!({ "id": "seven" }), &["they look like"]),
        (
            "get_timeline",
            json!({ "start": 1, "end": 2 }),
            &["no call began in that window"],
        ),
        (
            "query_sql",
            json!({ "sql": "SELECT stauts FROM calls" }),
            &["did you mean \"status\"", "describe_schema"],
        ),
        (
            "query_sql",
            json!({ "sql": "SELECT 1 FROM call" }),
            &["there are: calls"],
        ),
        ("get_api_stats", json!({ "group_by": "endpont" }), &["endpoint"]),
        (
            "list_workloads",
            json!({ "name": "frontned" }),
            &["ask with less"],
        ),
        ("export_pcap", json!({ "kfl": "redis" }), &["no call matches"]),
        (
            "create_snapshot",
            json!({ "name": "incident" }),
            &["choose another name"],
        ),
        (
            "create_snapshot",
            json!({ "name": "x", "start_time": 1, "end_time": 2 }),
            &["tape"],
        ),
    ] {
        helps(ask, tool, arguments, with).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ready_says_when_it_will_be() {
    let (client, server) = shop(600, 10_000, 1 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    // Nothing at all is there.
    helps(
        ask,
        "list_api_calls",
        json!({}),
        &["nothing is dissected yet", "/mcp/dissection/enable"],
    )
    .await;
    helps(ask, "list_snapshots", json!({}), &["create_snapshot"]).await;
    // One that is still being cut.
    client.faults.stall.store(true, Ordering::Relaxed);
    ask.post("/mcp/snapshots", json!({ "name": "a" })).await;
    client.faults.streaming(1).await;
    for tool in ["list_api_calls", "get_api_stats", "list_l4_flows", "get_timeline"] {
        helps(
            ask,
            tool,
            json!({ "db": "a" }),
            &["the snapshot `a` is in_progress", "get_snapshot"],
        )
        .await;
    }
    helps(
        ask,
        "export_snapshot_pcap",
        json!({ "id": "a" }),
        &["in_progress"],
    )
    .await;
    client.faults.stall.store(false, Ordering::Relaxed);
    ask.until_not("/mcp/snapshots/a", &["in_progress"]).await;
    // Cut, and not dissected.
    helps(
        ask,
        "list_api_calls",
        json!({ "db": "a" }),
        &["not dissected yet", "start_snapshot_dissection"],
    )
    .await;
    // Two dissections: which one is meant?
    ask.dissect("a", "one").await;
    ask.dissect("a", "two").await;
    helps(
        ask,
        "list_api_calls",
        json!({ "db": "a" }),
        &["several", "a/one", "a/two"],
    )
    .await;
    helps(ask, "list_api_calls", json!({}), &["a/one", "a/two"]).await;
    assert_eq!(ask.get("/mcp/calls?db=a/two&limit=1").await["total"], 600);
}
