//! The investigation of the page, step by step, and what surrounds it.

use serde_json::json;

use crate::agent::shop;
use crate::hub::{TestHub, encoded};

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_steps_end_to_end() {
    let (client, server) = shop(50, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;

    let boundaries = ask.get("/api/mcp/data-boundaries").await;
    let names: Vec<&str> = boundaries["nodes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|n| n["name"].as_str())
        .collect();
    assert_eq!(names, ["node-1", "node-2"]);
    let oldest = boundaries["cluster"]["oldest_ts"]
        .as_u64()
        .expect("there is tape");
    let newest = boundaries["cluster"]["newest_ts"]
        .as_u64()
        .expect("there is tape");
    assert!(newest - oldest < 60_000, "{boundaries}");
    assert_eq!(boundaries["nodes"][0]["packets"], 50 * 8);

    let created = ask
        .post(
            "/mcp/snapshots",
            json!({ "name": "frontend-analysis", "duration": "1h" }),
        )
        .await;
    assert_eq!(created["success"], true);
    assert_eq!(created["status"], "in_progress");
    assert_eq!(created["duration"], "1h");
    let snapshot = ask
        .until_not("/mcp/snapshots/frontend-analysis", &["in_progress"])
        .await;
    assert_eq!(snapshot["status"], "completed", "{snapshot}");
    assert_eq!(
        (&snapshot["node_count"], &snapshot["packet_count"]),
        (&json!(2), &json!(2 * 50 * 8))
    );
    assert_eq!(snapshot["problems"], json!([]));
    // The cuts are held no longer than needed.
    assert!(
        client
            .shelf
            .cut_manifest(created["id"].as_str().expect("it has an id"))
            .is_err()
    );

    let started = ask
        .post(
            "/delayed_dissection.DelayedDissection/Start",
            json!({ "snapshot_name": "frontend-analysis", "dissection_name": "analysis-1" }),
        )
        .await;
    assert_eq!(
        (&started["snapshot"], &started["name"]),
        (&json!("frontend-analysis"), &json!("analysis-1"))
    );
    let path = "/delayed_dissection.DelayedDissection/GetStatus";
    let status = ask.until_not(path, &["pending", "running"]).await;
    assert_eq!(
        (&status["status"], &status["progress"]),
        (&json!("completed"), &json!(100)),
        "{status}"
    );
    assert_eq!(
        (&status["entry_count"], &status["active"]),
        (&json!(50), &json!(false))
    );
    assert_eq!(status["stats"]["protocol_counts"], json!({ "http": 50 }));

    let db = "db=frontend-analysis/analysis-1";
    let calls = async |kfl: &str| {
        ask.get(&format!(
            "/mcp/calls?{db}&kfl={}&limit=1000&format=full",
            encoded(kfl)
        ))
        .await
    };
    let outbound = calls("src.pod contains \"frontend\"").await;
    assert_eq!(outbound["total"], 50, "{outbound}");
    let inbound = calls("dst.svc==\"checkout\"").await;
    assert_eq!(inbound["total"], 50);
    let failing = calls("request.path==\"/api/v1/checkout\" and response.status==503").await;
    assert_eq!(
        (&failing["total"], &failing["truncated"]),
        (&json!(5), &json!(false))
    );
    let first = &failing["calls"][0];
    assert_eq!(
        (&first["status"], &first["src"]["pod"]),
        (&json!(503), &json!("frontend-abc123"))
    );
    assert_eq!(first["dst"]["svc"], "checkout");
    assert_eq!(first["resp_body"], "ok");

    let id = first["id"].as_str().expect("a call has an id");
    let one = ask.get(&format!("/mcp/calls/{id}?{db}")).await;
    assert_eq!(one["id"], id);
    let details = ask
        .post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": id, "db": "frontend-analysis/analysis-1" }),
        )
        .await;
    assert_eq!(
        (&details["entry"]["id"], &details["req_body"]),
        (&json!(id), &json!("x".repeat(100)))
    );

    let databases = ask.get("/mcp/databases").await;
    assert_eq!(databases["databases"][0]["db"], "frontend-analysis/analysis-1");
    assert_eq!(databases["databases"][0]["entry_count"], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_by_name_id_and_start_of_id() {
    let (client, _server) = shop(2, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub
        .client
        .snapshot(json!({ "name": "incident-001", "nodes": "node-1" }))
        .await;
    let id = snapshot["id"].as_str().expect("it has an id");
    let start: String = id.chars().take(8).collect();
    for key in ["incident-001", id, start.as_str()] {
        assert_eq!(hub.client.get(&format!("/mcp/snapshots/{key}")).await["id"], id);
    }
    let dissection = hub.client.dissect(&start, "d").await;
    let db = format!("{start}/{}", dissection["id"].as_str().expect("it has an id"));
    assert_eq!(hub.client.get(&format!("/mcp/calls?db={db}")).await["total"], 2);
    // The snapshot alone means its only dissection.
    assert_eq!(hub.client.get("/mcp/calls?db=incident-001").await["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_in_all_spellings() {
    let (client, _server) = shop(4, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let tape = hub.client.get("/mcp/data-boundaries").await;
    let (oldest, newest) = (&tape["cluster"]["oldest_ts"], &tape["cluster"]["newest_ts"]);
    for (number, (start, end)) in [
        ("start_time", "end_time"),
        ("start", "end"),
        ("start_ts", "end_ts"),
        ("startTime", "endTime"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("w{number}");
        let snapshot = hub
            .client
            .snapshot(json!({ "name": name, start: oldest, end: newest.to_string() }))
            .await;
        assert_eq!(snapshot["status"], "completed", "{start}: {snapshot}");
        assert_eq!((&snapshot["start_ts"], &snapshot["end_ts"]), (oldest, newest));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_parameters_are_refused() {
    let (client, _server) = shop(2, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    for (method, path, body, error) in [
        (
            "GET",
            "/mcp/calls?db=a/d&groupby=node",
            None,
            "`groupby` is not a parameter of GET /mcp/calls; did you mean `group_by`?",
        ),
        (
            "POST",
            "/mcp/snapshots",
            Some(json!({ "name": "b", "labels": {} })),
            "`labels` is not a parameter of POST /mcp/snapshots; it takes name, ",
        ),
    ] {
        let (status, answer) = hub.client.ask(method, path, body).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && told.starts_with(error),
            "{path}: {status} {answer}"
        );
    }
    let (status, _) = hub.client.ask("GET", "/mcp/snapshots/b", None).await;
    assert_eq!(status, 404, "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn dissections_are_stopped_deleted_and_listed() {
    let (client, _server) = shop(2, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "a" })).await;
    for name in ["d1", "d2"] {
        assert_eq!(ask.dissect("a", name).await["status"], "completed");
    }
    let all = ask.get("/mcp/dissections?snapshot=a").await;
    assert_eq!(all["dissections"].as_array().map(Vec::len), Some(2));
    assert_eq!(all["dissections"][0]["name"], "d2", "newest first");
    let (status, told) = ask.ask("POST", "/mcp/dissections/a/d1/stop", None).await;
    assert_eq!(
        (status, &told["error"]),
        (
            409,
            &json!("the dissection `d1` is completed already, there is nothing to stop")
        )
    );
    let deleted = ask.ask("DELETE", "/mcp/dissections/a/d1", None).await;
    assert_eq!(
        deleted,
        (200, json!({ "success": true, "snapshot": "a", "name": "d1" }))
    );
    assert_eq!(ask.ask("GET", "/mcp/calls?db=a/d1", None).await.0, 404);
    let listed = ask
        .post(
            "/delayed_dissection.DelayedDissection/List",
            json!({ "snapshotId": "a" }),
        )
        .await;
    assert_eq!(listed["dissections"][0]["dissection_name"], "d2");
    let deleted = ask
        .post(
            "/delayed_dissection.DelayedDissection/Delete",
            json!({ "snapshot_name": "a", "dissectionName": "d2" }),
        )
        .await;
    assert_eq!(deleted["success"], true);
    let gone = ask.ask("DELETE", "/mcp/snapshots/a", None).await;
    assert_eq!(
        (gone.0, &gone.1["success"], &gone.1["name"]),
        (200, &json!(true), &json!("a"))
    );
    let none = ask.get("/mcp/snapshots").await;
    assert_eq!(none["snapshots"], json!([]));
    assert!(
        none["explanation"]
            .as_str()
            .is_some_and(|told| told.contains("no snapshots yet")),
        "{none}"
    );
    assert_eq!(
        std::fs::read_dir(hub.dir.path().join("snapshots"))
            .expect("the folder")
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_discovery_answers_with_and_without_api() {
    let hub = TestHub::start(&[]).await;
    let discovery = hub.client.get("/mcp").await;
    let endpoints = discovery["endpoints"].as_array().expect("a list");
    assert!(endpoints.len() > 20 && discovery["name"] != "");
    for endpoint in endpoints {
        let method = endpoint["method"].as_str().expect("a method");
        let path = endpoint["path"].as_str().expect("a path").replace(':', "");
        for prefix in ["", "/api"] {
            let answer = hub.client.send(method, &format!("{prefix}{path}"), None).await;
            let status = answer.status().as_u16();
            let body = answer.text().await.expect("a body");
            assert!(
                status != 405 && !body.contains("there is no route"),
                "{method} {prefix}{path}: {status} {body}"
            );
        }
    }
    assert!(hub.client.metric("requests_refused_total").await > 0);
    assert_eq!(hub.client.get("/healthz").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let creates = (0..6).map(|number| hub.client.snapshot(json!({ "name": format!("s{number}") })));
    for snapshot in futures::future::join_all(creates).await {
        assert_eq!(snapshot["status"], "completed", "{snapshot}");
    }
    let dissections = (0..6).map(|number| {
        let ask = &hub.client;
        async move { ask.dissect(&format!("s{number}"), "d").await }
    });
    for dissection in futures::future::join_all(dissections).await {
        assert_eq!(
            (&dissection["status"], &dissection["stats"]["entries_created"]),
            (&json!("completed"), &json!(20))
        );
    }
    let pages = (0..60).map(|number| {
        let ask = &hub.client;
        async move {
            ask.get(&format!("/mcp/calls?db=s{}/d&limit=1000", number % 6))
                .await
        }
    });
    for page in futures::future::join_all(pages).await {
        assert_eq!(page["total"], 20);
    }
}
