//! Crashes in the middle of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use wiretape_shop::truth::{Sent, Truth};
use wiretape_tests::cluster::Cluster;
use wiretape_tests::held::Held;
use wiretape_tests::workload::{self, Shop};

use crate::tools::{QUICK, all_calls, dissect, now_ms, possible, recording, settled, snapshot};

/// What a killed agent may lose (`--flush`), with room for the flush itself.
const LAST_SECOND: u64 = 1500;
/// An agent that says it is well records; what it says crosses two processes first.
const AFTER_START: u64 = 100;

#[tokio::test]
async fn agent_killed_in_the_middle() -> anyhow::Result<()> {
    if !possible("agent_killed_in_the_middle", &[]) {
        return Ok(());
    }
    let mut cluster = Cluster::start(workload::pods(), recording("agent_killed_in_the_middle"), None).await?;
    let shop = Shop::open(&mut cluster, QUICK)?;
    tokio::time::sleep(shop.remaining() / 2).await;
    // The frontend's node, where most of what passes is on no other tape.
    let killed = now_ms();
    cluster.nodes[0]
        .agent
        .process
        .as_mut()
        .context("no agent")?
        .kill()?;
    cluster.start_agent(0).await?;
    let back = now_ms();
    let truth = shop.close().await?;

    let calls = all_calls(&cluster.api(), "after").await?;
    let held = Held::new(&calls, &truth);
    let in_the_gap = |sent: &Sent| {
        let start = sent.at / 1_000_000;
        let end = start + sent.took_us.div_ceil(1000);
        end + LAST_SECOND >= killed && start <= back + AFTER_START
    };
    // One that the gap cut in two may be there as two halves.
    let lost: Vec<_> = held
        .missing
        .iter()
        .chain(&held.wrong)
        .chain(&held.twice)
        .collect();
    let unexplained: Vec<_> = lost
        .iter()
        .filter(|id| {
            truth
                .calls
                .get(id.as_str())
                .is_none_or(|call| !in_the_gap(&call.sent))
        })
        .collect();
    assert!(
        unexplained.is_empty(),
        "{} lost outside of the gap: {unexplained:?}\n{held}",
        unexplained.len()
    );
    // What passed between other nodes is all there, gap or not.
    let elsewhere = |id: &&&String| {
        truth.calls.get(id.as_str()).is_some_and(|call| {
            let ends = [call.sent.client.as_str(), call.sent.server.as_str()];
            ends.contains(&"payment-service") || ends.contains(&"checkout") || ends.contains(&"catalogue")
        })
    };
    assert_eq!(lost.iter().filter(elsewhere).count(), 0, "{held}");
    Ok(())
}

#[tokio::test]
async fn hub_restarted_in_the_middle() -> anyhow::Result<()> {
    if !possible("hub_restarted_in_the_middle", &[]) {
        return Ok(());
    }
    let mut cluster =
        Cluster::start(workload::pods(), recording("hub_restarted_in_the_middle"), None).await?;
    let truth = Shop::open(&mut cluster, QUICK)?.close().await?;
    let api = cluster.api();
    let before = snapshot(&api, "before").await?;
    assert_eq!(before["status"], "completed", "{before}");
    dissect(&api, "before", "all").await?;

    // In the middle of a snapshot.
    api.post("/mcp/snapshots", &json!({ "name": "during" }))
        .await?
        .ok()?;
    kill_and_start(&mut cluster).await?;
    let during = settled(&api, "/mcp/snapshots/during").await?;
    assert!(done_or_explained(&during), "{during}");

    // In the middle of a dissection.
    api.post(
        "/mcp/dissections",
        &json!({ "snapshot": "before", "name": "again" }),
    )
    .await?
    .ok()?;
    kill_and_start(&mut cluster).await?;
    let again = settled(&api, "/mcp/dissections/before/again").await?;
    assert!(done_or_explained(&again), "{again}");

    // What was confirmed before is there, and right.
    let listed = api.get("/mcp/snapshots", &[]).await?.ok()?;
    let names: BTreeSet<_> = listed["snapshots"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|snapshot| snapshot["name"].as_str())
        .collect();
    assert!(names.contains("before"), "{listed}");
    let held = Held::new(&api.calls("before/all", "").await?, &truth);
    assert!(held.agrees(), "{held}");
    let held = Held::new(&all_calls(&api, "afterwards").await?, &truth);
    assert!(held.agrees(), "{held}");
    Ok(())
}

#[tokio::test]
async fn one_node_down_is_named() -> anyhow::Result<()> {
    if !possible("one_node_down_is_named", &[]) {
        return Ok(());
    }
    let mut cluster = Cluster::start(workload::pods(), recording("one_node_down_is_named"), None).await?;
    let truth = Shop::open(&mut cluster, QUICK)?.close().await?;
    let api = cluster.api();
    // Once, so that the hub has met all of them.
    api.get("/mcp/data-boundaries", &[]).await?.ok()?;
    let down = cluster.nodes[2].agent.address.to_string();
    cluster.nodes[2]
        .agent
        .process
        .as_mut()
        .context("no agent")?
        .kill()?;

    let boundaries = api.get("/mcp/data-boundaries", &[]).await?.ok()?;
    let named = |value: &Value| value.to_string().contains("node-3") || value.to_string().contains(&down);
    let failing: Vec<_> = boundaries["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node["error"].is_string())
        .collect();
    assert!(
        matches!(failing.as_slice(), [node] if named(node)),
        "{boundaries}"
    );

    let taken = snapshot(&api, "two-of-three").await?;
    assert_eq!(taken["status"], "completed", "{taken}");
    assert!(named(&taken["problems"]), "{taken}");
    let dissected = dissect(&api, "two-of-three", "all").await?;
    assert_eq!(dissected["status"], "completed", "{dissected}");
    let held = Held::new(&api.calls("two-of-three/all", "").await?, &truth);
    assert_eq!(held.twice.len() + held.wrong.len(), 0, "{held}");
    // Only what no other node saw is missing.
    let missing: BTreeSet<_> = held.missing.iter().map(String::as_str).collect();
    assert_eq!(missing, only_on_node_3(&truth), "{held}");
    Ok(())
}

fn only_on_node_3(truth: &Truth) -> BTreeSet<&str> {
    let calls = truth.calls.values().filter(|call| call.sent.server == "gateway");
    calls.map(|call| call.sent.id.as_str()).collect()
}

async fn kill_and_start(cluster: &mut Cluster) -> anyhow::Result<()> {
    // Time for what was asked for to be under way.
    tokio::time::sleep(Duration::from_millis(20)).await;
    cluster.hub.process.as_mut().context("no hub")?.kill()?;
    cluster.start_hub().await
}

/// What was under way when the hub was killed is finished, or has failed and says why.
fn done_or_explained(body: &Value) -> bool {
    match body["status"].as_str() {
        Some("completed") => true,
        Some("failed" | "cancelled") => {
            let said = |name: &str| body[name].as_str().is_some_and(|why| !why.is_empty());
            said("reason")
                || said("error")
                || body["errors"].as_array().is_some_and(|errors| !errors.is_empty())
        }
        _ => false,
    }
}
