//! What clients of the contract ask before they begin, and what is refused because it is not there.

use serde_json::json;

use crate::agent::shop;
use crate::hub::TestHub;
use crate::tools::dissected;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_to_be_not_there() {
    let hub = TestHub::start(&[]).await;
    let ask = &hub.client;
    let live = ask.get("/mcp/dissection").await;
    assert_eq!(live["enabled"], false);
    assert!(
        live["explanation"]
            .as_str()
            .is_some_and(|told| told.contains("/mcp/dissection/enable"))
    );
    assert_eq!(
        ask.post("/api/mcp/dissection/disable", json!({})).await,
        json!({ "success": true, "enabled": false })
    );
    assert_eq!(ask.get("/whoami").await["role"], "admin");
    assert_eq!(ask.get("/license").await["required"], false);

    let status = ask.post("/mcp/tools/get_cloud_storage_status", json!({})).await;
    assert_eq!(status["enabled"], false);
    for (tool, arguments) in [
        ("upload_snapshot_to_cloud", json!({ "id": "a" })),
        ("download_snapshot_from_cloud", json!({ "id": "a" })),
        ("get_cloud_job_status", json!({ "job_id": "a" })),
    ] {
        let (status, answer) = ask
            .ask("POST", &format!("/mcp/tools/{tool}"), Some(arguments))
            .await;
        assert_eq!(status, 409, "{tool}: {answer}");
        assert!(
            answer["error"]
                .as_str()
                .is_some_and(|told| told.contains("/mcp/snapshots"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_told_and_the_one_switch_works() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    let settings = ask.get("/api/settings").await;
    assert_eq!(settings["agents"], json!([client.url, server.url]));
    assert_eq!(settings["dissection"]["enabled"], false);
    let on = ask
        .post("/settings/dissection", json!({ "enabled": "true" }))
        .await;
    assert_eq!(on, json!({ "success": true, "enabled": true }));
    assert_eq!(ask.get("/settings").await["dissection"]["enabled"], true);
    ask.post("/settings/dissection", json!({ "enabled": false }))
        .await;
    assert_eq!(ask.get("/mcp/dissection").await["enabled"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pods_are_targets() {
    let (hub, _client, _server) = dissected().await;
    let ask = &hub.client;
    let targets = ask.get("/pods/target?name=checkout").await;
    assert_eq!(
        targets["pods"],
        json!([{ "name": "checkout-xyz789", "namespace": "shop", "recorded": true }])
    );
    let (status, refused) = ask
        .ask(
            "POST",
            "/pods/target/regex",
            Some(json!({ "regex": "checkout.*" })),
        )
        .await;
    assert_eq!(status, 409);
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|told| told.contains("PUT /mcp/recording")),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_and_calls_are_told_apart() {
    let hub = TestHub::start(&[]).await;
    let raw = hub.client.get("/mcp/raw-capture").await;
    assert_eq!(raw["enabled"], false);
    assert!(raw["explanation"].is_string());

    let (client, server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let raw = hub.client.get("/mcp/raw-capture").await;
    assert_eq!(
        (&raw["enabled"], &raw["nodes"]),
        (&json!(true), &json!(["node-1", "node-2"]))
    );
    let none = hub.client.get("/mcp/l7-data-boundaries").await;
    assert_eq!(none["cluster"], json!({ "oldest_ts": null, "newest_ts": null }));
    assert_eq!(
        (&none["dissection_enabled"], &none["nodes"]),
        (&json!(false), &json!([]))
    );
    assert!(
        none["explanation"]
            .as_str()
            .is_some_and(|told| told.starts_with("nothing is dissected yet")),
        "{none}"
    );

    let (hub, _client, _server) = dissected().await;
    let calls = hub.client.get("/mcp/calls?db=incident/calls&fields=ts").await;
    let answer = hub.client.get("/api/mcp/l7-data-boundaries").await;
    let databases = hub.client.get("/mcp/databases").await;
    let (first, last) = (
        &databases["databases"][0]["first_ts"],
        &databases["databases"][0]["last_ts"],
    );
    assert_eq!(
        answer["cluster"],
        json!({ "oldest_ts": first, "newest_ts": last })
    );
    assert_eq!(
        answer["nodes"][1],
        json!({ "name": "node-2", "oldest_ts": first, "newest_ts": last })
    );
    assert_eq!(calls["total"], 50);
    let by_tool = hub
        .client
        .post("/mcp/tools/get_l7_data_boundaries", json!({}))
        .await;
    assert_eq!(by_tool["databases"], answer["databases"]);
}
