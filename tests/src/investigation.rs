//! The investigation of the page "MCP in Action", step by step, over HTTP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use wiretape_shop::Role;

use crate::api::Api;
use crate::call::Call;
use crate::packets::{self, Segment};
use crate::workload;

/// Name of the snapshot, as on the page.
pub const SNAPSHOT: &str = "frontend-analysis";
/// Name of the dissection, as on the page.
pub const DISSECTION: &str = "analysis-1";
/// Both, for queries.
pub const DB: &str = "frontend-analysis/analysis-1";

/// Prints the steps, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// To standard output.
    Aloud,
    /// To standard error, so that standard output holds the report alone.
    Aside,
    /// Not at all.
    Silent,
}

impl Voice {
    /// Prints a line.
    pub fn say(self, line: impl AsRef<str>) {
        match self {
            Self::Aloud => println!("{}", line.as_ref()),
            Self::Aside => eprintln!("{}", line.as_ref()),
            Self::Silent => {}
        }
    }

    fn step(self, title: &str, request: &str) {
        self.say(format!("\n{title}\n  {request}"));
    }

    fn answer(self, line: impl AsRef<str>) {
        self.say(format!("  -> {}", line.as_ref()));
    }
}

/// What the hub answered.
#[derive(Debug)]
pub struct Evidence {
    /// Nodes with recorded data.
    pub nodes: Vec<String>,
    /// Bytes in the snapshot.
    pub snapshot_bytes: u64,
    /// Packets that the recorders lost, as far as the hub says.
    pub lost_packets: u64,
    /// Every call.
    pub calls: Vec<Call>,
    /// Calls out of the frontend.
    pub outbound: Vec<Call>,
    /// Calls into the frontend.
    pub inbound: Vec<Call>,
    /// Checkouts that failed.
    pub failing: Vec<Call>,
    /// Payment-service's calls to the gateway.
    pub gateway: Vec<Call>,
    /// First packets of connections to the catalogue's database.
    pub database_opens: Vec<Segment>,
    /// Packets that reset a connection to the gateway.
    pub gateway_resets: Vec<Segment>,
    /// The failing calls' packets.
    pub capture: PathBuf,
}

/// Asks what the page asks, in its order, and keeps the answers. The capture of the failing calls goes to `capture`.
///
/// # Errors
/// An answer that is an error, or that the page would not go on from.
pub async fn investigate(api: &Api, voice: Voice, capture: &Path) -> anyhow::Result<Evidence> {
    let nodes = boundaries(api, voice).await?;
    let (snapshot_bytes, lost_packets) = snapshot(api, voice).await?;
    dissect(api, voice).await?;

    let outbound = query(
        api,
        voice,
        "6. Query outbound traffic",
        "src.pod contains \"frontend\"",
    )
    .await?;
    voice.answer(format!(
        "{} calls from frontend: {}",
        outbound.len(),
        targets(&outbound)
    ));
    let inbound = query(api, voice, "7. Query inbound traffic", "dst.svc==\"frontend\"").await?;
    voice.answer(format!("{} calls to frontend", inbound.len()));

    let filter = "request.path==\"/api/v1/checkout\" and response.status==503";
    let failing = query(api, voice, "8. Drill deeper: the failing checkouts", filter).await?;
    voice.answer(format!("{} failed requests", failing.len()));

    let filter = format!(
        "src.svc==\"payment-service\" and dst.ip==\"{}\"",
        workload::address(Role::Gateway)
    );
    let gateway = query(api, voice, "9. What does payment-service wait for?", &filter).await?;
    voice.answer(format!("{} calls to the external gateway", gateway.len()));

    let calls = query(api, voice, "10. Everything, for the statistics", "").await?;
    voice.answer(format!("{} calls", calls.len()));

    let database_opens = export(
        api,
        voice,
        "11. Connections to catalogue-db: it speaks no HTTP, but every packet is there",
        &format!(
            "dst host {} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
            workload::address(Role::CatalogueDb)
        ),
    )
    .await?;
    voice.answer(format!(
        "{} connections opened",
        packets::opened(&database_opens).len()
    ));
    let gateway_resets = export(
        api,
        voice,
        "12. Connections to the gateway that were reset",
        &format!(
            "dst host {} and tcp[tcpflags] & tcp-rst != 0",
            workload::address(Role::Gateway)
        ),
    )
    .await?;
    voice.answer(format!(
        "{} connections reset",
        packets::reset(&gateway_resets).len()
    ));

    pcap_of(api, voice, &failing, capture).await?;
    Ok(Evidence {
        nodes,
        snapshot_bytes,
        lost_packets,
        calls,
        outbound,
        inbound,
        failing,
        gateway,
        database_opens,
        gateway_resets,
        capture: capture.to_owned(),
    })
}

async fn boundaries(api: &Api, voice: Voice) -> anyhow::Result<Vec<String>> {
    voice.step("1. Check data availability", "GET /mcp/data-boundaries");
    let body = api.get("/mcp/data-boundaries", &[]).await?.ok()?;
    let nodes = body
        .get("nodes")
        .and_then(Value::as_array)
        .context("data-boundaries has no list of nodes")?;
    let mut names = Vec::new();
    for node in nodes {
        let name = node
            .get("name")
            .and_then(Value::as_str)
            .context("a node without a name")?;
        ensure!(
            node.get("error").is_none_or(Value::is_null),
            "node {name} does not answer: {node}"
        );
        names.push(name.to_owned());
    }
    let time = |name: &str| body.pointer(&format!("/cluster/{name}")).and_then(Value::as_i64);
    let (oldest, newest) = time("oldest_ts")
        .zip(time("newest_ts"))
        .with_context(|| format!("nothing is recorded: {body}"))?;
    voice.answer(format!(
        "{} nodes ({}) with recorded data from {} to {}",
        names.len(),
        names.join(", "),
        clock_time(oldest),
        clock_time(newest),
    ));
    Ok(names)
}

async fn snapshot(api: &Api, voice: Voice) -> anyhow::Result<(u64, u64)> {
    let wanted = json!({ "name": SNAPSHOT, "duration": "1h" });
    voice.step(
        "2. Create a snapshot from recorded traffic",
        &format!("POST /mcp/snapshots {wanted}"),
    );
    let body = api.post("/mcp/snapshots", &wanted).await?.ok()?;
    voice.answer(format!("snapshot {}", text(&body, "status")));

    let path = format!("/mcp/snapshots/{SNAPSHOT}");
    voice.step("3. Wait for the snapshot", &format!("GET {path}"));
    let body = api
        .poll(&path, &[], |body| {
            !matches!(text(body, "status"), "pending" | "in_progress")
        })
        .await?;
    ensure!(
        text(&body, "status") == "completed",
        "the snapshot is {}: {body}",
        text(&body, "status")
    );
    let bytes = number(&body, "size_bytes");
    voice.answer(format!(
        "completed: {:.1} MB and {} packets isolated across {} nodes",
        bytes as f64 / 1e6,
        number(&body, "packet_count"),
        number(&body, "node_count"),
    ));
    let lost = body.get("nodes").and_then(Value::as_array).map_or(0, |nodes| {
        nodes.iter().map(|node| number(node, "lost_packets")).sum()
    });
    Ok((bytes, lost))
}

async fn dissect(api: &Api, voice: Voice) -> anyhow::Result<()> {
    let path = "/delayed_dissection.DelayedDissection/Start";
    let wanted = json!({ "snapshot_name": SNAPSHOT, "dissection_name": DISSECTION });
    voice.step("4. Start L7 dissection", &format!("POST {path} {wanted}"));
    let body = api.post(path, &wanted).await?.ok()?;
    voice.answer(format!("dissection {}", text(&body, "status")));

    let path = "/delayed_dissection.DelayedDissection/GetStatus";
    voice.step("5. Wait for the dissection", &format!("GET {path}"));
    let body = api
        .poll(path, &[], |body| {
            matches!(text(body, "status"), "completed" | "failed" | "cancelled")
        })
        .await?;
    ensure!(
        text(&body, "status") == "completed",
        "the dissection is {}: {body}",
        text(&body, "status")
    );
    voice.answer(format!(
        "completed: {} API calls dissected",
        number(&body, "entry_count")
    ));
    Ok(())
}

async fn query(api: &Api, voice: Voice, title: &str, kfl: &str) -> anyhow::Result<Vec<Call>> {
    voice.step(
        title,
        &format!("GET /mcp/calls?db={DB}&kfl={kfl}&limit=1000&format=full"),
    );
    api.calls(DB, kfl).await
}

async fn export(api: &Api, voice: Voice, title: &str, bpf: &str) -> anyhow::Result<Vec<Segment>> {
    let path = format!("/mcp/snapshots/{SNAPSHOT}/pcap");
    voice.step(title, &format!("GET {path}?bpf_filter={bpf}"));
    packets::segments(&api.bytes(&path, &[("bpf_filter", bpf)]).await?)
}

/// Saves what was on the wire between the hosts of the failing calls while they failed.
async fn pcap_of(api: &Api, voice: Voice, failing: &[Call], file: &Path) -> anyhow::Result<()> {
    let mut hosts: BTreeSet<IpAddr> = failing
        .iter()
        .flat_map(|call| [call.src.ip, call.dst.ip])
        .collect();
    hosts.extend([Role::Checkout, Role::PaymentService, Role::Gateway].map(workload::address));
    let hosts: Vec<_> = hosts.iter().map(|host| format!("host {host}")).collect();
    let bpf = format!("tcp and ({})", hosts.join(" or "));
    let start = failing.iter().map(|call| call.ts).min();
    let end = failing.iter().map(|call| call.end().ceil() as i64 + 1).max();
    let (start, end) = start.zip(end).context("no checkout failed")?;
    let path = format!("/mcp/snapshots/{SNAPSHOT}/pcap");
    voice.step(
        "13. A PCAP of the failing requests",
        &format!("GET {path}?start_time={start}&end_time={end}&bpf_filter={bpf}"),
    );
    let query = [
        ("start_time", start.to_string()),
        ("end_time", end.to_string()),
        ("bpf_filter", bpf),
    ];
    let query: Vec<_> = query
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let bytes = api.bytes(&path, &query).await?;
    let packets = packets::segments(&bytes)?.len();
    std::fs::write(file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    voice.answer(format!(
        "{packets} packets, saved to {0}; open it by `wireshark {0}` or `tshark -r {0} -Y http`",
        file.display()
    ));
    Ok(())
}

/// Services (or addresses) that calls went to, the most called first.
fn targets(calls: &[Call]) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for call in calls {
        let to = if call.dst.svc.is_empty() {
            call.dst.ip.to_string()
        } else {
            call.dst.svc.clone()
        };
        *counts.entry(to).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    let counts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count} to {name}"))
        .collect();
    counts.join(", ")
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(body: &Value, name: &str) -> u64 {
    body.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A time of day (UTC) for milliseconds since 1970.
fn clock_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| format!("{ms} ms"),
        |time| format!("{} UTC", time.strftime("%H:%M:%S")),
    )
}
