//! Nodes that hang, refuse, break off and die.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use wiretape_dissect::testing::Who;

use crate::agent::{Node, SECOND, checkouts, shop};
use crate::hub::TestHub;

fn node<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let nodes = snapshot["nodes"].as_array().expect("a list");
    nodes
        .iter()
        .find(|node| node["name"] == name)
        .expect("the node is listed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_named_and_not_fatal() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    server.faults.hang.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let boundaries = hub.client.get("/mcp/data-boundaries").await;
    assert_eq!(boundaries["nodes"][0]["name"], "node-1");
    assert_eq!(
        boundaries["nodes"][1]["error"],
        format!("{} does not answer in time", server.url)
    );
    server.faults.hang.store(false, Ordering::Relaxed);
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["problems"]),
        (&json!("completed"), &json!([]))
    );
}

/// A cut that holds more than it may gives up its oldest segments one by one.
#[tokio::test(flavor = "multi_thread")]
async fn segments_behind_those_that_are_gone_are_brought() {
    let (client, _) = shop(600, 10_000, 1 << 20).await;
    client.faults.gone.store(2, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    let part = node(&snapshot, "node-1");
    let here = part["segments"].as_u64().expect("a number");
    assert_eq!(
        (&part["status"], here > 2),
        (&json!("partial"), true),
        "{snapshot}"
    );
    let told = format!("({here} of {} segments are here)", here + 2);
    let error = part["error"].as_str().expect("why");
    assert!(
        error.contains("there is no such segment") && error.contains(&told),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_refuses_is_named_and_not_fatal() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    server.faults.refuse.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(snapshot["status"], "completed");
    assert_eq!(
        (
            &node(&snapshot, "node-1")["status"],
            &node(&snapshot, "node-2")["status"]
        ),
        (&json!("completed"), &json!("failed"))
    );
    let problem = format!(
        "node-2: {} refuses with 503: the tape is being serviced; its packets are missing",
        server.url
    );
    assert_eq!(snapshot["problems"], json!([problem]));
    assert_eq!(hub.client.dissect("a", "d").await["stats"]["entries_created"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_failing_is_a_failed_snapshot_with_reasons() {
    let (client, _server) = shop(3, 10, 64 << 20).await;
    client.faults.refuse.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(snapshot["status"], "failed");
    assert!(
        snapshot["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("the tape is being serviced")),
        "{snapshot}"
    );
    let (status, answer) = hub
        .client
        .ask("POST", "/mcp/dissections", Some(json!({ "snapshot": "a" })))
        .await;
    assert_eq!(status, 409, "{answer}");
    // One snapshot's failure is no other's.
    client.faults.refuse.store(false, Ordering::Relaxed);
    assert_eq!(
        hub.client.snapshot(json!({ "name": "b" })).await["status"],
        "completed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_taken_up_where_it_broke() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.breaks.store(3, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["problems"]),
        (&json!("completed"), &json!([])),
        "{snapshot}"
    );
    assert!(
        client.faults.ranges.load(Ordering::Relaxed) > 0,
        "it asked for the rest only"
    );
    assert_eq!(
        hub.client.dissect("a", "d").await["stats"]["entries_created"],
        300
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_mid_stream_leaves_its_whole_segments() {
    let (client, server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let created = hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    // Its first segment has come, and half of the second.
    client.faults.streaming(2).await;
    client.kill();
    client.faults.stall.store(false, Ordering::Relaxed);
    let snapshot = hub.client.until_not("/mcp/snapshots/a", &["in_progress"]).await;
    assert_eq!(snapshot["status"], "completed", "{snapshot}");
    assert_eq!(node(&snapshot, "node-2")["status"], "completed");
    let part = node(&snapshot, "node-1");
    assert_eq!(
        (&part["status"], &part["segments"]),
        (&json!("partial"), &json!(1)),
        "{part}"
    );
    assert!(
        part["error"]
            .as_str()
            .is_some_and(|error| error.contains("(1 of ")),
        "{part}"
    );
    // What is listed is whole, and nothing else is there.
    let folder = hub
        .dir
        .path()
        .join("snapshots")
        .join(created["id"].as_str().expect("it has an id"))
        .join("segments/node-1");
    let bytes: u64 = std::fs::read_dir(folder)
        .expect("its folder")
        .map(|file| file.expect("a file").metadata().expect("its size").len())
        .sum();
    assert_eq!(part["size_bytes"], bytes);
    assert_eq!(
        hub.client.dissect("a", "d").await["stats"]["entries_created"],
        300
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_way_can_be_deleted() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    let created = hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    let id = created["id"].as_str().expect("it has an id");
    let (status, answer) = hub.client.ask("GET", "/mcp/snapshots/a/pcap", None).await;
    assert_eq!(
        (status, &answer["error"]),
        (
            409,
            &json!("the snapshot `a` is in_progress; ask GET /mcp/snapshots/a until it is completed")
        )
    );
    let (status, _) = hub.client.ask("DELETE", "/mcp/snapshots/a", None).await;
    assert_eq!(status, 200);
    assert_eq!(
        std::fs::read_dir(hub.dir.path().join("snapshots"))
            .expect("the folder")
            .count(),
        0
    );
    assert!(client.shelf.cut_manifest(id).is_err(), "the cut is released");
    // The name is free again.
    client.faults.stall.store(false, Ordering::Relaxed);
    assert_eq!(
        hub.client.snapshot(json!({ "name": "a" })).await["status"],
        "completed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_that_are_being_made_are_released_with_their_snapshot() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    server.faults.late.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    client.faults.holding(1).await;
    server.faults.holding(1).await;
    assert_eq!(hub.client.ask("DELETE", "/mcp/snapshots/a", None).await.0, 200);
    client.faults.holding(0).await;
    server.faults.holding(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_for_a_caller_that_has_gone_away_is_done() {
    let (client, _server) = shop(300, 1000, 128 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client]).await;
    hub.client.post("/mcp/snapshots", json!({ "name": "a" })).await;
    client.faults.streaming(2).await;
    // The deletion waits for the node to release its cut.
    client.faults.hang.store(true, Ordering::Relaxed);
    let asked = hub.client.send("DELETE", "/mcp/snapshots/a", None);
    let answer = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert!(answer.is_err(), "it goes away before the answer");
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.faults.hang.store(false, Ordering::Relaxed);
    let gone = async {
        while hub.client.ask("GET", "/mcp/snapshots/a", None).await.0 != 404 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("the snapshot is deleted");
    let left = std::fs::read_dir(hub.dir.path().join("snapshots")).expect("the folder");
    assert_eq!(left.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_calls_tell_which_nodes_are_missing() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    server.faults.refuse.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let overview = hub
        .client
        .post("/mcp/tools/investigate", json!({ "window": "10m" }))
        .await;
    let tells = |told: &Value| {
        told[0]
            .as_str()
            .is_some_and(|told| told.starts_with("node-2: ") && told.contains("its packets are missing"))
    };
    assert!(tells(&overview["warnings"]), "{overview}");
    assert!(tells(&overview["coverage"]["problems"]), "{overview}");
    assert!(
        overview["summary"]
            .as_str()
            .is_some_and(|told| told.starts_with("3 calls")
                && told.ends_with("; packets of node-2 are missing (`warnings`)")),
        "{overview}"
    );
    let calls = hub
        .client
        .post("/mcp/tools/list_api_calls", json!({ "db": overview["db"] }))
        .await;
    assert!(tells(&calls["coverage"]["problems"]), "{calls}");
    let path = format!("/mcp/dissections/{}", overview["db"].as_str().expect("a name"));
    assert!(tells(&hub.client.get(&path).await["problems"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_fails_the_snapshot_with_what_to_do() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("no small disk can be mounted (not root?): skipped");
        return;
    };
    let (client, _server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::open(
        tempfile::TempDir::new_in(&disk.folder).expect("a folder on it"),
        vec![client.url.clone()],
    )
    .await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(snapshot["status"], "failed");
    let reason = snapshot["reason"].as_str().expect("it has a reason");
    assert!(
        reason.starts_with("not enough room on the hub's disk: ") && reason.contains("delete snapshots"),
        "{reason}"
    );
    let (status, health) = hub.client.ask("GET", "/healthz", None).await;
    assert_eq!((status, &health["status"]), (503, &json!("failing")));
    assert_eq!(hub.client.ask("DELETE", "/mcp/snapshots/a", None).await.0, 200);
    drop(hub.stop().await);
}

/// A file system of 16 MiB, gone when dropped.
struct SmallDisk {
    folder: std::path::PathBuf,
    _parent: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let parent = tempfile::TempDir::new().expect("a temporary folder");
        let folder = parent.path().join("disk");
        std::fs::create_dir(&folder).expect("a new folder");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(&folder)
            .output();
        mounted.is_ok_and(|done| done.status.success()).then_some(Self {
            folder,
            _parent: parent,
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.folder)
            .status();
        assert!(
            done.is_ok_and(|done| done.success()),
            "the small disk is taken away"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_name_and_of_strange_names_do_not_meet() {
    let now = wiretape_hub::now();
    let mut nodes = Vec::new();
    for name in ["same", "same", "../../etc"] {
        let node = Node::start(name, 64 << 20).await;
        for talk in checkouts(1, now - SECOND, 10) {
            node.record(&talk.seen_by(Who::Client, 0, 0));
        }
        nodes.push(node);
    }
    let hub = TestHub::start(&nodes.iter().collect::<Vec<_>>()).await;
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    assert_eq!(
        (&snapshot["status"], &snapshot["packet_count"]),
        (&json!("completed"), &json!(24)),
        "{snapshot}"
    );
    let id = snapshot["id"].as_str().expect("it has an id");
    let segments = hub.dir.path().join("snapshots").join(id).join("segments");
    let mut folders: Vec<_> = std::fs::read_dir(segments)
        .expect("its folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    folders.sort();
    assert_eq!(folders, ["_.._.._etc", "same", "same-2"]);
}
