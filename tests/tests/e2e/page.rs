//! The page "MCP in Action", and the truth.

use std::collections::BTreeSet;

use wiretape_shop::truth::{Sent, Truth};
use wiretape_tests::call::Call;
use wiretape_tests::cluster::{Cluster, Recording};
use wiretape_tests::held::Held;
use wiretape_tests::investigation::{DB, Voice, investigate};
use wiretape_tests::report::Report;
use wiretape_tests::workload::{self, Shop};

use crate::tools::{QUICK, possible, possible_with_ebpf, tshark};

#[tokio::test]
async fn the_page_runs_step_by_step() -> anyhow::Result<()> {
    if !possible_with_ebpf("the_page_runs_step_by_step", &["tshark"]) {
        return Ok(());
    }
    play(Recording::Ebpf).await
}

#[tokio::test]
async fn the_page_runs_on_libpcap_too() -> anyhow::Result<()> {
    if !possible("the_page_runs_on_libpcap_too", &["tshark"]) {
        return Ok(());
    }
    play(Recording::Libpcap).await
}

async fn play(recording: Recording) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(workload::pods(), recording, None).await?;
    let shop = Shop::open(&mut cluster, QUICK)?;
    let began = shop.began;
    let truth = shop.close().await?;
    let capture = cluster.folder().join("failing.pcap");
    let evidence = investigate(&cluster.api(), Voice::Silent, &capture).await?;

    assert_eq!(evidence.lost_packets, 0);
    // No stream lacks a byte: nobody is taken for an observer of a connection who sees only one side of it.
    let dissection = cluster
        .api()
        .get(&format!("/mcp/dissections/{DB}"), &[])
        .await?
        .ok()?;
    assert_eq!(dissection["counters"]["dissect.gap_bytes"], 0, "{dissection}");
    // Every call is found, none twice, none with another's answer.
    let held = Held::new(&evidence.calls, &truth);
    assert!(held.agrees(), "{held}");
    assert_eq!(evidence.nodes, ["node-1", "node-2", "node-3"]);
    // Each filter finds what it says.
    assert_eq!(
        ids(&evidence.outbound),
        made(&truth, |sent| sent.client == "frontend")
    );
    assert_eq!(
        ids(&evidence.inbound),
        made(&truth, |sent| sent.server == "frontend")
    );
    let failed = made(&truth, |sent| {
        sent.path == "/api/v1/checkout" && sent.status == Some(503)
    });
    assert!(!failed.is_empty());
    assert_eq!(ids(&evidence.failing), failed);
    assert_eq!(
        ids(&evidence.gateway),
        made(&truth, |sent| sent.server == "gateway")
    );
    assert!(tshark(&capture)?.responses.contains_key(&503));

    // And the findings are the story's.
    let report = Report::new(&evidence, began, QUICK.time_scale);
    assert_eq!(report.database_connections as u64, truth.database_connections);
    assert_eq!(report.resets as u64, truth.resets);
    assert_eq!(report.checkouts.1, failed.len());
    assert_eq!(report.journey, "login -> catalogue -> cart -> checkout");
    assert!(
        (0.11..0.13).contains(&report.without_correlation),
        "{}",
        report.without_correlation
    );
    let moments: Vec<_> = report
        .timeline
        .iter()
        .map(|moment| moment.what.as_str())
        .collect();
    assert!(
        moments
            .first()
            .is_some_and(|what| what.starts_with("gateway latency")),
        "{moments:?}"
    );
    assert!(
        moments
            .iter()
            .any(|what| what.starts_with("first 503 from payment-service")),
        "{moments:?}"
    );
    Ok(())
}

fn ids(calls: &[Call]) -> BTreeSet<&str> {
    calls
        .iter()
        .filter_map(|call| call.req_headers.get("x-request-id"))
        .map(String::as_str)
        .collect()
}

fn made(truth: &Truth, of: impl Fn(&Sent) -> bool) -> BTreeSet<&str> {
    truth
        .calls
        .values()
        .filter(|call| of(&call.sent))
        .map(|call| call.sent.id.as_str())
        .collect()
}
