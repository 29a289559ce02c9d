//! The folder is the truth: a catalogue that is gone, damaged or behind is built again from it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::agent::shop;
use crate::hub::TestHub;

async fn lists(hub: &TestHub) -> (Value, Value) {
    (
        hub.client.get("/mcp/snapshots").await,
        hub.client.get("/mcp/dissections").await,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_is_gone_or_damaged_is_built_again() {
    let (client, _server) = shop(2, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    for name in ["a", "b"] {
        hub.client.snapshot(json!({ "name": name })).await;
        hub.client.dissect(name, "d").await;
    }
    let before = lists(&hub).await;
    let data = hub.stop().await;

    let hub = TestHub::open(data, vec![]).await;
    assert_eq!(lists(&hub).await, before);
    let data = hub.stop().await;

    fs::remove_dir_all(data.path().join("catalogue")).expect("the catalogue");
    let hub = TestHub::open(data, vec![]).await;
    assert_eq!(lists(&hub).await, before);
    let mut data = hub.stop().await;

    let damages: [fn(&Path); 2] = [overwrite, truncate];
    for damage in damages {
        each_file(&data.path().join("catalogue"), damage);
        let hub = TestHub::open(data, vec![]).await;
        assert_eq!(lists(&hub).await, before);
        assert_eq!(hub.client.get("/mcp/calls?db=b/d").await["total"], 2);
        data = hub.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_in_the_folder_is_followed() {
    let (client, _server) = shop(2, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    let a = hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.snapshot(json!({ "name": "b" })).await;
    let folder = hub.dir.path().join("snapshots");
    fs::remove_dir_all(folder.join(a["id"].as_str().expect("it has an id"))).expect("the snapshot");
    fs::create_dir(folder.join("not-a-snapshot")).expect("a new folder");
    fs::create_dir(folder.join("damaged")).expect("a new folder");
    fs::write(folder.join("damaged/manifest.json"), "{").expect("a new file");
    let left = hub.client.get("/mcp/snapshots").await;
    let names: Vec<&Value> = left["snapshots"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| &entry["name"])
        .collect();
    assert_eq!(names, [&json!("b")]);
    assert_eq!(hub.client.ask("GET", "/mcp/snapshots/a", None).await.0, 404);
}

fn each_file(folder: &Path, change: fn(&Path)) {
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            each_file(&path, change)
        } else {
            change(&path)
        }
    }
}

fn overwrite(file: &Path) {
    let length = fs::metadata(file).expect("its size").len();
    fs::write(file, vec![0xa5; usize::try_from(length).expect("it is small")]).expect("it is written");
}

fn truncate(file: &Path) {
    let bytes = fs::read(file).expect("it is read");
    fs::write(file, bytes.get(..bytes.len() / 2).unwrap_or_default()).expect("it is written");
}
