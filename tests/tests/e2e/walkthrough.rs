//! The scripted assistant, through MCP alone, and the truth.

use std::collections::BTreeSet;

use wiretape_shop::story;
use wiretape_shop::truth::{Sent, Truth};
use wiretape_tests::assistant::{self, Findings};
use wiretape_tests::cluster::Cluster;
use wiretape_tests::workload::{self, Shop};

use crate::tools::{QUICK, possible, recording};

/// Longest time from the moment at which the gateway slows down to the first charge that shows it, and as much again
/// for the machine's own delays: of the story, in milliseconds.
const NOTICED_WITHIN: f64 = 10_000.0;

#[tokio::test]
async fn an_assistant_finds_the_incident_through_mcp_alone() -> anyhow::Result<()> {
    const NAME: &str = "an_assistant_finds_the_incident_through_mcp_alone";
    if !possible(NAME, &[]) {
        return Ok(());
    }
    let mut cluster = Cluster::start(workload::pods(), recording(NAME), None).await?;
    let shop = Shop::open(&mut cluster, QUICK)?;
    let began = shop.began;
    let truth = shop.close().await?;
    let (found, page) = assistant::converse(cluster.hub.address).await?;
    println!("{page}");

    assert_eq!(found.nodes, 3);
    // 2.3 %-like: exactly those that the shop knows of.
    assert_eq!(found.checkouts, count(&truth, is_checkout));
    let failed = |sent: &Sent| is_checkout(sent) && sent.status == Some(503);
    assert_eq!(found.checkouts_unavailable, count(&truth, failed));
    assert!(found.checkouts_unavailable > 0);
    // Each order that cart-service sent again, it sent three times more.
    let retried: BTreeSet<_> = all(&truth)
        .filter(|sent| sent.client == "cart-service" && sent.retry > 0)
        .filter_map(|sent| sent.idempotency_key.as_deref())
        .collect();
    assert_eq!(found.retry_bursts, retried.len() as u64);
    assert_eq!(found.database_connections, truth.database_connections);
    assert!(found.database_connections_a_minute > 100.0, "{found:?}");
    assert!(
        found.handshake_p50_us > 0.0 && found.handshake_p50_us <= found.handshake_p99_us,
        "{found:?}"
    );
    let without = count(&truth, |sent| !sent.correlated) as f64 / truth.calls.len() as f64;
    assert!(
        (found.without_correlation - without).abs() < 0.001,
        "{found:?}, but it is {without}"
    );
    assert_eq!(found.resets, truth.resets);
    the_pattern_is_the_timeout(&found, &truth);
    the_gateway_became_slow_when_it_did(&found, began);
    // The page has every step.
    for tool in [
        "get_data_boundaries",
        "create_snapshot",
        "get_api_stats",
        "get_timeline",
        "query_sql",
        "export_pcap",
    ] {
        assert!(page.contains(&format!("```json\n{tool}")), "{tool}");
    }
    Ok(())
}

/// Those that waited and those that were refused at once are all there are, and a timeout stands between good and bad.
fn the_pattern_is_the_timeout(found: &Findings, truth: &Truth) {
    let unavailable = count(truth, |sent| {
        sent.server == "payment-service" && sent.status == Some(503)
    });
    assert_eq!(found.waited + found.refused_at_once, unavailable, "{found:?}");
    assert!(found.waited > 0, "{found:?}");
    let timeout = story::PAYMENT_TIMEOUT.as_secs_f64() * 1e3 / QUICK.time_scale;
    assert!(
        found.waited_at_least_ms >= timeout,
        "{found:?}, but the timeout is {timeout} ms"
    );
    assert!(found.slowest_answer_ms < found.waited_at_least_ms, "{found:?}");
}

fn the_gateway_became_slow_when_it_did(found: &Findings, began: u64) {
    let at = (found.gateway_slow_at as f64 - began as f64) * QUICK.time_scale;
    let slows = story::GATEWAY_SLOWS.as_millis() as f64;
    // A charge that began just before may be the first that shows it.
    assert!(
        (slows - NOTICED_WITHIN / 2.0..slows + NOTICED_WITHIN).contains(&at),
        "{found:?}: {at}"
    );
    assert!(
        found.gateway_after_ms > 5.0 * found.gateway_before_ms,
        "{found:?}"
    );
}

fn is_checkout(sent: &Sent) -> bool {
    sent.server == "frontend" && sent.path == "/api/v1/checkout"
}

fn all(truth: &Truth) -> impl Iterator<Item = &Sent> {
    truth.calls.values().map(|call| &call.sent)
}

fn count(truth: &Truth, of: impl Fn(&Sent) -> bool) -> u64 {
    all(truth).filter(|sent| of(sent)).count() as u64
}
