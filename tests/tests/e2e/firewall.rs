//! A firewall that nobody thinks of at night.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use wiretape_tests::cluster::{Cluster, Pod, Recording};
use wiretape_tests::process::{Process, Talk};

use crate::nginx::start_nginx;
use crate::tools::{all_calls, possible_with_ebpf};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 21);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 51);
const PATIENCE: Duration = Duration::from_secs(60);

/// Of what it keeps a client from sending there is no packet anywhere: the kernel's word is the only evidence, and it stands
/// beside the calls that came through before.
#[tokio::test]
async fn a_firewall_that_drops_a_clients_requests_is_named() -> anyhow::Result<()> {
    if !possible_with_ebpf("a_firewall_that_drops", &["nginx", "curl", "nft"]) {
        return Ok(());
    }
    let pods = vec![vec![Pod::new("web", WEB)], vec![Pod::new("client", CLIENT)]];
    let cluster = Cluster::start(pods, Recording::Ebpf, None).await?;
    let mut nginx = start_nginx(&cluster)?;
    let place = cluster.place("client")?;
    let run = |name: &str, program: &str, arguments: &[&str]| -> anyhow::Result<()> {
        let program = Path::new(program);
        Process::start(name, &place, cluster.folder(), program, arguments, Talk::No)?.wait(PATIENCE)
    };
    let curl = [
        "-s",
        "-o",
        "/dev/null",
        "--max-time",
        "3",
        "http://10.77.1.21/small.txt",
    ];
    run("curl-before", "/usr/bin/curl", &curl)?;
    let rules = "add table inet t; add chain inet t c { type filter hook output priority 0; }; \
                 add rule inet t c tcp dport 80 drop";
    run("nft", "/usr/sbin/nft", &[rules])?;
    let tried = run("curl-after", "/usr/bin/curl", &curl);
    ensure!(tried.is_err(), "the firewall let it through");
    nginx.stop()?;

    let api = cluster.api();
    let calls = all_calls(&api, "night").await?;
    let of_client = calls.iter().filter(|call| call.path == "/small.txt");
    ensure!(of_client.count() >= 1, "{calls:?}");
    let night = ("db", "night/all");
    let events = api
        .get("/mcp/events", &[night, ("kind", "packet_dropped")])
        .await?
        .ok()?;
    let events = events["events"].as_array().context("no list")?;
    let dropped = events.first().context("nothing was dropped")?;
    let words = ["reason", "svc", "node", "remote_svc", "local_ip", "remote_ip"].map(|word| &dropped[word]);
    assert_eq!(
        words,
        [
            "NETFILTER_DROP",
            "client",
            "node-2",
            "web",
            "10.77.2.51",
            "10.77.1.21"
        ],
        "{dropped:#}"
    );
    assert_eq!(dropped["remote_port"], 80);
    let message = dropped["message"].as_str().context("no message")?;
    assert!(
        message.ends_with("to 10.77.1.21:80 dropped by a rule of netfilter (iptables, nftables)"),
        "{message}"
    );
    // One for all the tries of those three seconds.
    assert_eq!(events.len(), 1, "{events:#?}");

    let overview = json!({ "snapshot_id": "night", "workload": "web" });
    let overview: Value = api.post("/mcp/tools/investigate", &overview).await?.ok()?;
    let beside = overview["happened"]["events"].as_array().context("no events")?;
    assert!(beside.contains(dropped), "{overview:#}");
    Ok(())
}
