//! The whole beginning in one call.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::{Client, TestHub};

async fn investigate(ask: &Client, arguments: Value) -> Value {
    ask.post("/mcp/tools/investigate", arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_gives_an_overview_of_a_workload() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let told = investigate(&hub.client, json!({ "workload": "checkout", "window": "10m" })).await;
    assert_eq!(told["status"], "completed", "{told}");
    assert_eq!(
        (
            &told["totals"]["calls"],
            &told["totals"]["errors"],
            &told["totals"]["error_rate"]
        ),
        (&json!(50), &json!(5), &json!(0.1)),
        "{told}"
    );
    assert_eq!(told["statuses"], json!({ "200": 45, "503": 5 }));
    assert_eq!(told["outcomes"], json!({ "ok": 45, "server_error": 5 }));
    let endpoint = &told["endpoints"][0];
    assert_eq!(
        (&endpoint["calls"], &endpoint["errors"]),
        (&json!(50), &json!(5)),
        "{told}"
    );
    assert!(
        endpoint["endpoint"]
            .as_str()
            .is_some_and(|name| name.contains("/api/v1/checkout")),
        "{endpoint}"
    );
    assert_eq!(told["callers"][0]["src"], "frontend");
    assert_eq!(told["callees"], json!([]));
    assert_eq!(told["slowest"].as_array().map(Vec::len), Some(5));
    let failing = told["failing"].as_array().expect("a list");
    assert!(failing.len() == 5 && failing.iter().all(|call| call["status"] == 503));
    assert_eq!(told["coverage"]["nodes"], json!(["node-1", "node-2"]));
    assert!(
        told["summary"]
            .as_str()
            .is_some_and(|told| told.starts_with("50 calls to and from checkout, 5 failed (10.0 %)"))
    );
    let finding = &told["findings"][0];
    assert_eq!(
        finding["text"], "10.0 % of POST /api/v1/checkout at checkout fail with 503: 5 of 50",
        "{told}"
    );
    let proof = json!({ "db": told["db"], "kfl": finding["kfl"] });
    let proof = hub.client.post("/mcp/tools/list_api_calls", proof).await;
    assert_eq!(proof["total"], 5, "{proof}");
    assert!(
        told["next"]
            .as_str()
            .is_some_and(|next| next.contains("list_api_calls"))
    );

    // Asked again, nothing is made anew; from the other side the same calls are asked of others.
    let other = investigate(&hub.client, json!({ "workload": "frontend", "window": "10m" })).await;
    assert_eq!(
        (&other["snapshot"]["reused"], &other["db"]),
        (&json!(true), &told["db"]),
        "{other}"
    );
    assert_eq!(
        (&other["callees"][0]["dst"], &other["callers"]),
        (&json!("checkout"), &json!([]))
    );
    let snapshots = hub.client.get("/mcp/snapshots").await;
    assert_eq!(snapshots["snapshots"].as_array().map(Vec::len), Some(1));
    let nobody = investigate(&hub.client, json!({ "workload": "nobody", "db": told["db"] })).await;
    assert_eq!(
        (&nobody["totals"]["calls"], &nobody["summary"]),
        (&json!(0), &json!("no calls to and from nobody"))
    );
    assert!(nobody["explanation"].is_string(), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_snapshots_time_is_asked_about() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let all = investigate(&hub.client, json!({})).await;
    let middle = all["slowest"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|call| call["ts"].as_u64())
        .min();
    let asked = json!({ "db": all["db"], "start_time": middle, "end_time": middle.map(|ts| ts + 60_000) });
    let part = investigate(&hub.client, asked).await;
    let calls = part["totals"]["calls"].as_u64().expect("a number");
    assert!((1..=50).contains(&calls), "{part}");
    assert_eq!(part["window"]["start_ts"].as_u64(), middle);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_agents_the_newest_snapshot_is_asked() {
    let (client, server) = shop(20, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "kept" })).await;
    let folder = hub.stop().await;
    let hub = TestHub::open(folder, Vec::new()).await;
    let told = investigate(&hub.client, json!({ "window": "1m" })).await;
    assert_eq!(
        (&told["totals"]["calls"], &told["snapshot"]["name"]),
        (&json!(20), &json!("kept")),
        "{told}"
    );
    assert!(
        told["note"]
            .as_str()
            .is_some_and(|note| note.contains("nothing records here"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_less_than_everything_is_not_taken_for_it() {
    let (client, server) = shop(20, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let refuse = |yes| server.faults.refuse.store(yes, Ordering::Relaxed);
    let window = "10m";
    for less in [
        json!({ "name": "of-nobody", "duration": window, "workload_filter": { "namespaces": ["nobody"] } }),
        json!({ "name": "of-one-node", "duration": window, "nodes": ["node-2"] }),
        json!({ "name": "without-a-node", "duration": window }),
    ] {
        refuse(less["name"] == "without-a-node");
        let made = hub.client.snapshot(less).await;
        assert_eq!(made["status"], "completed", "{made}");
    }
    refuse(false);
    let told = investigate(&hub.client, json!({ "window": window })).await;
    assert_eq!(
        (&told["snapshot"]["reused"], &told["totals"]["calls"]),
        (&json!(false), &json!(20)),
        "{told}"
    );
    // That one is.
    let again = investigate(&hub.client, json!({ "window": window })).await;
    assert_eq!(
        (&again["snapshot"]["reused"], &again["db"]),
        (&json!(true), &told["db"]),
        "{again}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_in_time_is_asked_for_again() {
    let (client, server) = shop(600, 10_000, 1 << 20).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let first = tokio::time::timeout(Duration::from_secs(29), investigate(&hub.client, json!({}))).await;
    let first = first.expect("clients wait no longer");
    // The node that stalls is given up after its own time; what came of it is asked.
    assert!(
        ["in_progress", "completed"]
            .iter()
            .any(|status| first["status"] == *status),
        "{first}"
    );
    client.faults.stall.store(false, Ordering::Relaxed);
    let mut told = first;
    while told["status"] == "in_progress" {
        assert!(
            told["next"]
                .as_str()
                .is_some_and(|next| next.contains("snapshot_id")),
            "{told}"
        );
        told = investigate(&hub.client, json!({ "snapshot_id": told["snapshot"]["id"] })).await;
    }
    assert_eq!(told["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_a_name_and_no_filter() {
    let hub = TestHub::start(&[]).await;
    for (arguments, error) in [
        (
            json!({ "workload": "x\" or true or \"" }),
            "`workload` must be a name or an address",
        ),
        (json!({ "window": "soon" }), "`window`: `soon` is not a duration"),
        (json!({}), "the hub knows no agents"),
    ] {
        let (status, told) = hub
            .client
            .ask("POST", "/mcp/tools/investigate", Some(arguments))
            .await;
        assert!((400..=503).contains(&status), "{told}");
        assert!(
            told["error"].as_str().is_some_and(|told| told.starts_with(error)),
            "{told}"
        );
    }
}
