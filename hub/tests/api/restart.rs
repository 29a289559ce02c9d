//! The hub's program, killed and stopped in the middle of things.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use wiretape_hub::snapshots::{Import, import};

use crate::agent::shop;
use crate::hub::{HubProcess, TestHub};

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_collects_it_goes_on_at_the_next_start() {
    let (client, server) = shop(300, 1000, 128 << 10).await;
    let data = TempDir::new().expect("a temporary folder");
    let hub = HubProcess::start(data.path(), &[&client, &server]);
    hub.client.snapshot(json!({ "name": "before" })).await;
    hub.client.dissect("before", "d").await;
    let begun = client.faults.streams.load(Ordering::Relaxed);
    client.faults.stall.store(true, Ordering::Relaxed);
    let created = hub
        .client
        .post("/mcp/snapshots", json!({ "name": "during" }))
        .await;
    client.faults.streaming(begun + 2).await;
    hub.kill();
    client.faults.stall.store(false, Ordering::Relaxed);

    let hub = HubProcess::start(data.path(), &[&client, &server]);
    let during = hub
        .client
        .until_not("/mcp/snapshots/during", &["in_progress"])
        .await;
    assert_eq!(
        (&during["status"], &during["id"]),
        (&json!("completed"), &created["id"]),
        "{during}"
    );
    assert_eq!(
        (&during["problems"], &during["node_count"]),
        (&json!([]), &json!(2))
    );
    assert_eq!(
        hub.client.get("/mcp/snapshots/before").await["status"],
        "completed"
    );
    assert_eq!(hub.client.get("/mcp/calls?db=before/d").await["total"], 300);
    assert_eq!(
        hub.client.dissect("during", "d").await["stats"]["entries_created"],
        300
    );
    assert!(hub.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_was_let_go_meanwhile_is_told_and_keeps_what_had_come() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let data = TempDir::new().expect("a temporary folder");
    let hub = HubProcess::start(data.path(), &[&client]);
    let created = hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    // The first segment has come, and half of the second.
    client.faults.streaming(2).await;
    hub.kill();
    client.faults.stall.store(false, Ordering::Relaxed);
    client
        .shelf
        .release(created["id"].as_str().expect("it has an id"))
        .expect("the cut is held");

    let hub = HubProcess::start(data.path(), &[&client]);
    let snapshot = hub.client.until_not("/mcp/snapshots/a", &["in_progress"]).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["nodes"][0]["status"]),
        (&json!("completed"), &json!("partial"))
    );
    assert_eq!(snapshot["nodes"][0]["segments"], 1);
    let problem = snapshot["problems"][0].as_str().expect("it has a problem");
    assert!(
        problem.contains("no longer holds the cut that was made before the hub ended (1 of "),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_releases_cuts_it_has_published_already() {
    let (client, server) = shop(300, 1000, 128 << 10).await;
    let data = TempDir::new().expect("a temporary folder");
    for (name, asked) in [
        ("all", json!({ "name": "all" })),
        (
            "some",
            json!({ "name": "some", "workload_filter": { "namespaces": ["shop"] } }),
        ),
    ] {
        let hub = HubProcess::start(data.path(), &[&client, &server]);
        let begun = server.faults.streams.load(Ordering::Relaxed);
        server.faults.stall.store(true, Ordering::Relaxed);
        hub.client.post("/mcp/snapshots", asked).await;
        server.faults.streaming(begun + 2).await;
        // All of it comes, and then one of the nodes says nothing any more.
        server.faults.hang.store(true, Ordering::Relaxed);
        server.faults.stall.store(false, Ordering::Relaxed);
        client.faults.holding(0).await;
        hub.kill();
        server.faults.hang.store(false, Ordering::Relaxed);

        let hub = HubProcess::start(data.path(), &[&client, &server]);
        let path = format!("/mcp/snapshots/{name}");
        let snapshot = hub.client.until_not(&path, &["in_progress"]).await;
        assert_eq!(
            (
                &snapshot["status"],
                &snapshot["problems"],
                &snapshot["packet_count"]
            ),
            (&json!("completed"), &json!([]), &json!(2 * 300 * 8)),
            "{snapshot}"
        );
        assert_eq!(
            hub.client.dissect(name, "d").await["stats"]["entries_created"],
            300
        );
        hub.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_keeps_its_cuts_and_is_published_by_the_next_start() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    let asked = json!({ "name": "a", "workload_filter": { "namespaces": ["shop"] } });
    let created = hub.client.post("/mcp/snapshots", asked).await;
    client.faults.streaming(2).await;
    let id = created["id"].as_str().expect("it has an id");
    let root = hub.dir.path().join("snapshots");
    let in_its_place = root.join(id);
    std::fs::create_dir_all(in_its_place.join("something")).expect("a new folder");
    client.faults.stall.store(false, Ordering::Relaxed);
    let manifest = root.join(format!(".incoming-{id}/manifest.json"));
    while !std::fs::read_to_string(&manifest)
        .expect("the manifest")
        .contains("\"status\": \"completed\"")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(client.faults.held.load(Ordering::Relaxed), 1);
    let data = hub.stop().await;

    std::fs::remove_dir_all(&in_its_place).expect("the folder in its place");
    let hub = TestHub::open(data, vec![client.url.clone()]).await;
    let snapshot = hub.client.get("/mcp/snapshots/a").await;
    assert_eq!(
        (
            &snapshot["status"],
            &snapshot["problems"],
            &snapshot["packet_count"]
        ),
        (&json!("completed"), &json!([]), &json!(300 * 8)),
        "{snapshot}"
    );
    // Of what was left out, nothing stays.
    let folders: Vec<_> = std::fs::read_dir(in_its_place.join("segments"))
        .expect("its folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(folders, ["node-1-kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_had_come_whole_needs_its_cut_no_more() {
    let (client, server) = shop(300, 1000, 128 << 10).await;
    server.faults.stall.store(true, Ordering::Relaxed);
    let data = TempDir::new().expect("a temporary folder");
    let hub = HubProcess::start(data.path(), &[&client, &server]);
    let created = hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    server.faults.streaming(2).await;
    let id = created["id"].as_str().expect("it has an id");
    let cut = client.shelf.cut_manifest(id).expect("the cut is held");
    let folder = data
        .path()
        .join(format!("snapshots/.incoming-{id}/segments/node-1"));
    let is_here = |name: &str, bytes: u64| {
        std::fs::metadata(folder.join(name)).is_ok_and(|metadata| metadata.len() == bytes)
    };
    while !cut
        .segments
        .iter()
        .all(|segment| is_here(&segment.name, segment.bytes))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hub.kill();
    server.faults.stall.store(false, Ordering::Relaxed);
    client.shelf.release(id).expect("the cut is held");

    let hub = HubProcess::start(data.path(), &[&client, &server]);
    let snapshot = hub.client.until_not("/mcp/snapshots/a", &["in_progress"]).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["problems"]),
        (&json!("completed"), &json!([])),
        "{snapshot}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_a_little_after_the_hubs_start_is_waited_for() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let data = TempDir::new().expect("a temporary folder");
    let hub = HubProcess::start(data.path(), &[&client]);
    hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    client.faults.streaming(2).await;
    hub.kill();
    client.faults.stall.store(false, Ordering::Relaxed);

    client.faults.hang.store(true, Ordering::Relaxed);
    let hub = TestHub::open(data, vec![client.url.clone()]).await;
    // Longer than this hub waits for one answer.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    client.faults.hang.store(false, Ordering::Relaxed);
    let snapshot = hub.client.until_not("/mcp/snapshots/a", &["in_progress"]).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["problems"]),
        (&json!("completed"), &json!([])),
        "{snapshot}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_dissection_that_was_being_deleted_is_none() {
    let (client, _server) = shop(5, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    let data = hub.stop().await;
    // As a kill leaves it: hidden, its tables gone, its record still there.
    let id = snapshot["id"].as_str().expect("it has an id");
    let folder = data.path().join("snapshots").join(id).join("dissections");
    let hidden = folder.join(".deleted-d");
    std::fs::rename(folder.join("d"), &hidden).expect("the dissection");
    std::fs::remove_dir_all(hidden.join("calls")).expect("its tables");

    let hub = TestHub::open(data, vec![]).await;
    assert_eq!(hub.client.get("/mcp/dissections").await["dissections"], json!([]));
    assert!(!hidden.exists(), "what is left of it is removed");
    hub.client.dissect("a", "d").await;
    // A removal that the disk has refused half-way, while this hub runs.
    std::fs::create_dir_all(hidden.join("calls")).expect("a new folder");
    std::fs::copy(folder.join("d/dissection.json"), hidden.join("dissection.json")).expect("a new file");
    let listed = hub.client.get("/mcp/dissections").await;
    assert_eq!(
        listed["dissections"].as_array().map(Vec::len),
        Some(1),
        "{listed}"
    );
    let (status, answer) = hub.client.ask("DELETE", "/mcp/dissections/a/d", None).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        std::fs::read_dir(&folder).expect("the folder").count(),
        0,
        "nothing is left over"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dissection_that_was_under_way_is_begun_again() {
    let (client, _server) = shop(5, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    let data = hub.stop().await;
    // As a kill leaves it: tables half written, the record still running.
    let id = snapshot["id"].as_str().expect("it has an id");
    let folder = data.path().join("snapshots").join(id).join("dissections/d");
    std::fs::remove_dir_all(folder.join("calls")).expect("the tables");
    std::fs::create_dir(folder.join(".calls.incoming")).expect("a new folder");
    let record = folder.join("dissection.json");
    let mut text: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&record).expect("the record")).expect("JSON");
    text["status"] = json!("running");
    text["summary"] = json!(null);
    text["finished_at"] = json!(null);
    std::fs::write(&record, text.to_string()).expect("the record");

    let hub = TestHub::open(data, vec![]).await;
    let dissection = hub
        .client
        .until_not("/mcp/dissections/a/d", &["pending", "running"])
        .await;
    assert_eq!(
        (&dissection["status"], &dissection["stats"]["entries_created"]),
        (&json!("completed"), &json!(5))
    );
    assert_eq!(hub.client.get("/mcp/calls?db=a/d").await["total"], 5);
    let data = hub.stop().await;

    // One that the hub never survives is not begun for ever.
    text["attempts"] = json!(3);
    std::fs::remove_dir_all(folder.join("calls")).expect("the tables");
    std::fs::write(&record, text.to_string()).expect("the record");
    let hub = TestHub::open(data, vec![]).await;
    let dissection = hub.client.get("/mcp/dissections/a/d").await;
    assert_eq!(dissection["status"], "failed");
    assert_eq!(
        dissection["errors"],
        json!(["the hub ended 3 times while it ran; it is not begun again"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_do_not_share_a_data_folder() {
    let data = TempDir::new().expect("a temporary folder");
    let _first = HubProcess::start(data.path(), &[]);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_wiretape-hub"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .expect("the hub runs");
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && told.contains("another hub runs on the data folder"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_imports_is_found() {
    let (client, server) = shop(5, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let capture = hub
        .client
        .send("GET", "/mcp/snapshots/a/pcap", None)
        .await
        .bytes()
        .await
        .expect("a capture");
    let files = TempDir::new().expect("a temporary folder");
    let file = files.path().join("capture.pcap");
    std::fs::write(&file, &capture).expect("a file");

    let data = hub.dir.path().to_owned();
    let wanted = Import {
        data: data.clone(),
        name: "b".to_owned(),
        files: vec![file.clone()],
    };
    let manifest = import(&wanted, wiretape_hub::now()).expect("it is brought in");
    assert_eq!((manifest.packets(), manifest.problems.len()), (2 * 5 * 8, 0));
    let shown = hub.client.get("/mcp/snapshots/b").await;
    assert_eq!(
        (&shown["origin"], &shown["status"]),
        (&json!("import"), &json!("completed"))
    );
    assert_eq!(
        hub.client.get("/mcp/snapshots").await["snapshots"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    assert_eq!(hub.client.dissect("b", "d").await["stats"]["entries_created"], 5);

    let taken = import(&wanted, wiretape_hub::now()).map_err(|error| error.to_string());
    assert_eq!(
        taken.err().as_deref(),
        Some("there is already a snapshot named `b` in the data folder; choose another --name")
    );
    std::fs::write(&file, "not a capture").expect("a file");
    let wanted = Import {
        name: "c".to_owned(),
        ..wanted
    };
    let refused = import(&wanted, wiretape_hub::now()).map_err(|error| error.to_string());
    assert!(refused.is_err_and(|error| error.contains("not a capture")));
    assert_eq!(hub.client.ask("GET", "/mcp/snapshots/c", None).await.0, 404);
    let left = std::fs::read_dir(data.join("snapshots")).expect("the folder");
    assert!(
        left.flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('.')),
        "nothing is left over"
    );
}
