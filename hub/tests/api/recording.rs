//! What is recorded is asked for and changed through the hub, and answers say that it was not everything.

use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::TestHub;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_is_changed_on_all_nodes_or_on_one() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    let before = ask.get("/mcp/recording").await;
    assert_eq!(
        before["nodes"]
            .as_array()
            .expect("nodes")
            .iter()
            .map(|node| (&node["name"], &node["capture"]))
            .collect::<Vec<_>>(),
        [
            (&json!("node-1"), &json!("whole")),
            (&json!("node-2"), &json!("whole"))
        ]
    );
    assert!(
        ask.get("/mcp/data-boundaries").await["nodes"][0]
            .get("recorded")
            .is_none()
    );

    let payments = json!([{ "match": { "namespace": "payments" }, "record": "none" }]);
    let (status, all) = ask
        .ask("PUT", "/mcp/recording", Some(json!({ "rules": payments })))
        .await;
    assert_eq!(
        (status, &all["changed"]),
        (200, &json!(["node-1", "node-2"])),
        "{all}"
    );
    let one = json!({ "capture": "first:4KiB", "nodes": ["node-2"] });
    let changed = ask.post("/mcp/tools/set_recording", one).await;
    assert_eq!(
        (&changed["success"], &changed["changed"]),
        (&json!(true), &json!(["node-2"]))
    );
    let after = ask.get("/mcp/recording?nodes=node-2").await;
    let node = &after["nodes"][0];
    assert_eq!(
        (
            &node["capture"],
            &node["rules"],
            after["nodes"].as_array().map(Vec::len)
        ),
        (&json!("first:4096"), &payments, Some(1)),
        "what is not named stays as it is"
    );
    let health = ask.post("/mcp/tools/get_recording_health", json!({})).await;
    let told = "node-2 does not record everything, by choice: first:4096; but none of namespace payments";
    let problems = health["problems"].as_array().expect("problems");
    assert!(problems.contains(&json!(told)), "{health}");

    for (body, wanted) in [
        (json!({}), "say what is to be changed"),
        (json!({ "capture": "some" }), "none of whole, headers"),
        (
            json!({ "rules": [{ "match": { "pods": "x" }, "record": "none" }] }),
            "`rules` must be",
        ),
        (json!({ "filter": "nonsense" }), "cannot be compiled"),
    ] {
        let (status, answer) = ask.ask("PUT", "/mcp/recording", Some(body)).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(wanted), "{status} {answer}");
    }
    let nobody = json!({ "capture": "whole", "nodes": ["node-3"] });
    let (status, answer) = ask.ask("PUT", "/mcp/recording", Some(nobody)).await;
    assert_eq!(status, 404, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_what_was_not_recorded_in_full_say_so() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    let headers = json!({ "capture": "headers", "nodes": ["node-1"] });
    ask.ask("PUT", "/mcp/recording", Some(headers)).await;
    let snapshot = ask.snapshot(json!({ "name": "less", "duration": "10m" })).await;
    let id = snapshot["id"].as_str().expect("an id");
    ask.dissect(id, "calls").await;
    for path in ["/mcp/calls", "/mcp/stats", "/mcp/timeline", "/mcp/flows"] {
        let answer = ask.get(&format!("{path}?db=less/calls")).await;
        let warnings = answer["warnings"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let told = |warning: &Value| {
            let text = warning.as_str().unwrap_or_default();
            text.starts_with("node-1 said at ") && text.ends_with("recorded is: headers")
        };
        assert!(warnings.iter().any(told), "{path}: {answer}");
    }
    let answer = ask
        .post("/mcp/tools/list_api_calls", json!({ "db": "less/calls" }))
        .await;
    assert_eq!(
        answer["coverage"]["recorded"][0]["said"], "recorded is: headers",
        "{answer}"
    );
}
