//! Packets given out again as capture files.

use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use wiretape_tape::{Chunk, open};

use crate::agent::shop;
use crate::hub::{TestHub, encoded};

/// Times and lengths of the packets of a capture.
fn packets(bytes: &[u8]) -> Vec<(u64, u32)> {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("capture");
    std::fs::write(&file, bytes).expect("a file");
    let mut reader = open(&file).expect("it is a capture");
    let (mut all, mut chunk) = (Vec::new(), Chunk::default());
    while reader.next_chunk(&mut chunk).expect("it can be read") {
        all.extend(chunk.packets.iter().map(|packet| (packet.ts, packet.orig_len)));
    }
    assert_eq!(reader.counters().unread_bytes, 0);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_merged_cut_and_filtered() {
    let (client, server) = shop(20, 100, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let get = async |query: &str| {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap{query}"), None)
            .await;
        assert_eq!(answer.status().as_u16(), 200, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/vnd.tcpdump.pcap");
        let name = if query.contains("pcapng") {
            "a.pcapng"
        } else {
            "a.pcap"
        };
        assert_eq!(
            answer.headers()["content-disposition"],
            format!("attachment; filename=\"{name}\"")
        );
        packets(&answer.bytes().await.expect("it arrives whole"))
    };
    let all = get("").await;
    assert_eq!(all.len(), 2 * 20 * 8);
    assert!(
        all.is_sorted_by_key(|(ts, _)| *ts),
        "merged by time over the nodes"
    );
    assert_eq!(get("?nodes=node-1").await.len(), 20 * 8);
    let mut whole = get("?format=pcapng").await;
    whole.sort_unstable();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(whole, sorted);

    // Start inclusive, end exclusive, both in ms.
    let middle = all[all.len() / 2].0 / 1_000_000;
    let early = get(&format!("?end_time={middle}")).await;
    let late = get(&format!("?start_time={middle}&format=pcapng")).await;
    assert_eq!(early.len() + late.len(), all.len());
    assert!(
        early.iter().all(|(ts, _)| *ts < middle * 1_000_000)
            && late.iter().all(|(ts, _)| *ts >= middle * 1_000_000)
    );

    let one = get(&format!(
        "?bpf_filter={}",
        encoded("tcp port 20003 and host 10.0.0.1")
    ))
    .await;
    assert_eq!(one.len(), 2 * 8);
    let syns = get(&format!(
        "?bpf_filter={}&nodes=node-2",
        encoded("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
    ))
    .await;
    assert_eq!(syns.len(), 20);
    assert_eq!(get(&format!("?bpf_filter={}", encoded("udp"))).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tshark_reads_what_is_exported() {
    if Command::new("tshark")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("tshark is not installed: skipped");
        return;
    }
    let (client, server) = shop(20, 100, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let folder = TempDir::new().expect("a temporary folder");
    for (query, file) in [
        ("", "a.pcap"),
        ("?format=pcapng", "a.pcapng"),
        ("?format=pcapng&bpf_filter=tcp", "b.pcapng"),
    ] {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap{query}"), None)
            .await;
        let path = folder.path().join(file);
        std::fs::write(&path, answer.bytes().await.expect("it arrives whole")).expect("a file");
        let read = Command::new("tshark")
            .arg("-r")
            .arg(&path)
            .args(["-Y", "http.response.code == 503"])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&read.stderr);
        assert!(
            read.status.success() && !told.contains("cut short"),
            "{query}: {told}"
        );
        // Both nodes have recorded both; tshark takes the second sight of a packet for a retransmission.
        assert_eq!(
            String::from_utf8_lossy(&read.stdout).lines().count(),
            2,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_export() {
    let (client, _server) = shop(600, 10_000, 1 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    // More exports than may run at once, each given up after its first bytes.
    for _ in 0..30 {
        let mut answer = hub.client.send("GET", "/mcp/snapshots/a/pcap", None).await;
        if answer.status().as_u16() == 429 {
            // The last ones have not noticed yet.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        }
        assert_eq!(answer.status().as_u16(), 200);
        answer.chunk().await.expect("it begins");
    }
    let ended = async {
        loop {
            let answer = hub.client.send("GET", "/mcp/snapshots/a/pcap", None).await;
            if answer.status().as_u16() == 200 {
                return packets(&answer.bytes().await.expect("it arrives whole")).len();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let count = tokio::time::timeout(std::time::Duration::from_secs(30), ended)
        .await
        .expect("the others have ended");
    assert!(count > 600 * 8);
}
