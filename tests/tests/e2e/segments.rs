//! What the agents recorded, opened by tshark.

use std::fs;

use serde_json::json;
use wiretape_shop::Role;
use wiretape_shop::truth::Truth;
use wiretape_tests::api::Api;
use wiretape_tests::cluster::{Cluster, Node, Recording};
use wiretape_tests::workload::{self, Shop};

use crate::tools::{Http, QUICK, possible, possible_with_ebpf, tshark};

#[tokio::test]
async fn segments_open_in_tshark() -> anyhow::Result<()> {
    if !possible_with_ebpf("segments_open_in_tshark", &["tshark"]) {
        return Ok(());
    }
    recorded_as_made(Recording::Ebpf).await
}

#[tokio::test]
async fn segments_of_libpcap_hold_the_same() -> anyhow::Result<()> {
    if !possible("segments_of_libpcap_hold_the_same", &["tshark"]) {
        return Ok(());
    }
    recorded_as_made(Recording::Libpcap).await
}

/// Each node's tape holds each request that one of its pods sent or received.
async fn recorded_as_made(recording: Recording) -> anyhow::Result<()> {
    let mut cluster = Cluster::without_hub(workload::pods(), recording, None).await?;
    let shop = Shop::open(&mut cluster, QUICK)?;
    let truth = shop.close().await?;
    for node in &cluster.nodes {
        let api = Api::new(node.agent.address);
        let cut = json!({ "id": "all", "start": 0, "end": i64::MAX });
        let cut = api.post("/cuts", &cut).await?.ok()?;
        let mut capture = Vec::new();
        for segment in cut["segments"].as_array().into_iter().flatten() {
            let name = segment["name"].as_str().unwrap_or_default();
            let bytes = api.bytes(&format!("/cuts/all/segments/{name}"), &[]).await?;
            assert_eq!(Some(bytes.len() as u64), segment["bytes"].as_u64(), "{name}");
            capture.extend(bytes);
        }
        // Sections after one another are one pcapng file.
        let file = cluster.folder().join(format!("{}.pcapng", node.name));
        fs::write(&file, capture)?;
        assert_eq!(tshark(&file)?, expected(node, &truth), "{}", node.name);
    }
    Ok(())
}

/// What the truth says of a node's pods. A call between two of them is on the tape twice, packet by packet, and tshark
/// takes the second for a retransmission.
fn expected(node: &Node, truth: &Truth) -> Http {
    let here = |name: &str| {
        Role::ALL
            .into_iter()
            .filter(|role| role.name() == name)
            .any(|role| node.pods.iter().any(|pod| pod.address == workload::address(role)))
    };
    let mut http = Http::default();
    for call in truth.calls.values() {
        if !here(&call.sent.client) && !here(&call.sent.server) {
            continue;
        }
        http.requests += 1;
        if let Some(status) = call.sent.status {
            *http.responses.entry(status).or_default() += 1;
        }
    }
    http
}
