//! A dissection that is asked while it is under way.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{Node, shop};
use crate::hub::{Client, HubProcess};
use crate::session::Session;

/// Enough that some stand in closed row groups long before the end.
const CALLS: u32 = 30_000;

/// A hub that dissects on so many threads that each of them soon closes a row group.
fn start(data: &TempDir, nodes: &[&Node]) -> HubProcess {
    let mut flags = vec!["--threads", "16"];
    flags.extend(nodes.iter().flat_map(|node| ["--node", &node.url]));
    HubProcess::start_with(data.path(), &flags)
}

/// How many calls an answer tells, and whether it may be more the next time.
fn told(answer: &Value, count: &Value) -> (u64, bool) {
    let partial = answer["partial"] == true;
    let progress = &answer["dissected"];
    assert_eq!(partial, progress["progress"].is_u64(), "{answer}");
    let count = count.as_u64().expect("a number");
    if partial {
        // Of one answer all is of the same moment.
        assert_eq!(progress["calls"], count, "{answer}");
    }
    (count, partial)
}

/// One question in each language; how many calls they tell, as they grow, and whether there may be more.
async fn ask(client: &Client, before: u64) -> Option<(u64, bool)> {
    let (status, answer) = client.ask("GET", "/mcp/calls?db=a/d&limit=1", None).await;
    if status == 409 {
        // Not begun yet.
        assert!(answer.to_string().contains("pending"), "{answer}");
        return None;
    }
    assert_eq!(status, 200, "{answer}");
    let (listed, _) = told(&answer, &answer["total"]);
    let stats = client.get("/mcp/stats?db=a/d").await;
    let (counted, _) = told(&stats, &stats["total"]["count"]);
    let sql = json!({ "db": "a/d", "sql": "SELECT count(*) FROM calls" });
    let sql = client.post("/mcp/sql", sql).await;
    let (selected, partial) = told(&sql, &sql["rows"][0][0]);
    assert!(
        before <= listed && listed <= counted && counted <= selected,
        "{before}, {listed}, {counted}, {selected}"
    );
    Some((selected, partial))
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_while_it_runs_also_by_the_hub_that_comes_after_a_killed_one() {
    let (node, _) = shop(CALLS, 10, 64 << 20).await;
    let data = TempDir::new().expect("a temporary folder");
    let hub = start(&data, &[&node]);
    hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client
        .post("/mcp/dissections", json!({ "snapshot": "a", "name": "d" }))
        .await;
    let asked = ask(&hub.client, 0).await;
    hub.kill();
    if let Some((calls, _)) = asked {
        assert!(calls <= u64::from(CALLS));
    }

    let hub = start(&data, &[&node]);
    let session = Session::at(&format!("{}/mcp", hub.client.url), "2025-11-25")
        .await
        .0;
    let mut before = 0;
    loop {
        let answer = session
            .call("get_api_stats", json!({ "db": "a/d", "group_by": ["status"] }))
            .await;
        let said = answer["content"][0]["text"].as_str().unwrap_or_default();
        let partial = answer["structuredContent"]["partial"] == true;
        assert_eq!(partial, said.contains("of a dissection that is at"), "{said}");
        match ask(&hub.client, before).await {
            Some((calls, false)) => {
                assert_eq!(calls, u64::from(CALLS));
                break;
            }
            Some((calls, true)) => before = calls,
            None => {}
        }
    }
    let listed = hub.client.get("/mcp/dissections/a/d").await;
    assert_eq!(listed["stats"]["entries_created"], CALLS);
    assert!(hub.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_it_is_asked_it_leaves_nothing() {
    let (node, _) = shop(CALLS, 10, 64 << 20).await;
    let data = TempDir::new().expect("a temporary folder");
    let hub = start(&data, &[&node]);
    let snapshot = hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client
        .post("/mcp/dissections", json!({ "snapshot": "a", "name": "d" }))
        .await;
    ask(&hub.client, 0).await;
    let (status, stopped) = hub.client.ask("POST", "/mcp/dissections/a/d/stop", None).await;
    // On a fast machine it was done before.
    if status != 409 {
        assert_eq!(stopped["status"], "cancelled", "{stopped}");
        let (status, answer) = hub.client.ask("GET", "/mcp/calls?db=a/d", None).await;
        assert_eq!(status, 409, "{answer}");
        let id = snapshot["id"].as_str().expect("it has an id");
        let folder = data.path().join("snapshots").join(id).join("dissections/d");
        let left: Vec<_> = std::fs::read_dir(folder).expect("its folder").flatten().collect();
        assert!(
            left.len() == 1 && left[0].file_name() == "dissection.json",
            "{left:?}"
        );
    }
}
