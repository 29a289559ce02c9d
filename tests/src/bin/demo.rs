//! `wiretape-demo`: the main job, for real. Three nodes record a shop in which something goes wrong; then the hub is
//! asked what happened.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use wiretape_shop::story;
use wiretape_tests::cluster::{AgentNotWell, Cluster, Recording};
use wiretape_tests::held::Held;
use wiretape_tests::investigation::{self, DB, Evidence, SNAPSHOT, Voice};
use wiretape_tests::offline;
use wiretape_tests::report::Report;
use wiretape_tests::rootless;
use wiretape_tests::run::is_root;
use wiretape_tests::workload::{self, Play, Shop};

/// Runs the whole path on real traffic: three nodes (network namespaces, each with its own agent), a hub, and a shop
/// with an incident in it. Then investigates the incident over the hub's API, and compares the answers with what the
/// shop knows it did.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Leave the nodes and the hub running afterwards, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// How many times as fast as the wall's clock the story of four minutes is played
    #[arg(long, default_value_t = 10.0)]
    time_scale: f64,
    /// Makes the users' requests repeatable
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Journeys that users begin in a second of the story
    #[arg(long, default_value_t = story::JOURNEYS_PER_SECOND)]
    rate: f64,
    /// Where the hub listens
    #[arg(long, default_value = "127.0.0.1:8898")]
    listen: SocketAddr,
    /// Where to save the packets of the failing requests
    #[arg(long, value_name = "FILE", default_value = "failing-checkouts.pcap")]
    pcap: PathBuf,
    /// Print the report as one JSON object on standard output, and everything else on standard error
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let voice = if cli.json { Voice::Aside } else { Voice::Aloud };
    if !is_root() {
        let Err(refusal) = rootless::begin_anew();
        return without_namespaces(&cli, voice, &refusal);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        // Whichever way the demo ends, the cluster is dropped with it, and everything of it goes.
        tokio::select! {
            ended = demo(&cli, voice) => ended,
            _ = interrupted.recv() => {
                eprintln!("\nstopped; taking everything down");
                Ok(ExitCode::from(130))
            }
            _ = terminated.recv() => Ok(ExitCode::from(143)),
        }
    })
}

/// Neither root nor a user namespace: nothing can be recorded.
fn without_namespaces(cli: &Cli, voice: Voice, refusal: &anyhow::Error) -> anyhow::Result<ExitCode> {
    voice.say(format!(
        "Nothing can be recorded: the demo's nodes need root, or a user namespace ({refusal:#}). What runs without is \
         `wiretape-hub dissect` on any capture, here on one that is made up."
    ));
    let folder = tempfile::tempdir()?;
    offline::show(&folder.path().join("made-up.pcapng"), voice)?;
    if cli.json {
        println!("{}", json!({ "recorded": false, "why": format!("{refusal:#}") }));
    }
    Ok(ExitCode::SUCCESS)
}

async fn demo(cli: &Cli, voice: Voice) -> anyhow::Result<ExitCode> {
    voice.say("Starting three nodes with an agent each, and a hub");
    let recording = if rootless::is_inside() {
        voice.say(
            "Not root, so the nodes are in a user namespace: without eBPF and cgroups, which need root; libpcap records",
        );
        Recording::Libpcap
    } else {
        Recording::Ebpf
    };
    let mut cluster = match Cluster::start(workload::pods(), recording, Some(cli.listen)).await {
        Err(error) if recording == Recording::Ebpf && error.is::<AgentNotWell>() => {
            // The end of the agent's log says why.
            let told = format!("{error:#}");
            let last = told.lines().last().unwrap_or_default();
            // Without the time and the level.
            let why = last
                .split_once("ERROR wiretape_agent: ")
                .map_or(last, |(_, why)| why);
            voice.say(format!(
                "eBPF cannot run here, so libpcap records instead ({why})"
            ));
            Cluster::start(workload::pods(), Recording::Libpcap, Some(cli.listen)).await?
        }
        started => started?,
    };
    for node in &cluster.nodes {
        let pods: Vec<_> = node
            .pods
            .iter()
            .map(|pod| format!("{} ({})", pod.name(), pod.address))
            .collect();
        voice.say(format!("  {}  {}", node.name, pods.join(", ")));
    }
    voice.say(format!("  hub     http://{}", cluster.hub.address));

    let play = Play {
        time_scale: cli.time_scale,
        seed: cli.seed,
        rate: cli.rate,
    };
    let mut shop = Shop::open(&mut cluster, play)?;
    let began = shop.began;
    voice.say(format!(
        "\nThe shop opens: {} s of its story in {:.0} s",
        story::LENGTH.as_secs(),
        story::LENGTH.as_secs_f64() / cli.time_scale
    ));
    watch(&mut shop).await?;
    let truth = shop.close().await?;
    voice.say(format!(
        "The shop is closed: {} calls made, and written down by both ends.",
        truth.calls.len()
    ));

    let evidence = investigation::investigate(&cluster.api(), voice, &cli.pcap).await?;
    let report = Report::new(&evidence, began, cli.time_scale);
    voice.say(format!("\n{}\n{report}", "-".repeat(100)));
    let held = Held::new(&evidence.calls, &truth);
    let agrees = held.agrees() && same_connections(&report, &truth, voice);
    voice.say(format!("Held against the shop's own records: {held}"));
    voice.say(if agrees {
        "They agree."
    } else {
        "THEY DO NOT AGREE."
    });
    if cli.json {
        println!("{}", json!({ "report": report, "held": held, "agrees": agrees }));
    }
    if cli.keep {
        keep(cli, &evidence, voice).await;
    }
    Ok(if agrees {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the packets say of connections, beside what the shop does.
fn same_connections(report: &Report, truth: &wiretape_shop::truth::Truth, voice: Voice) -> bool {
    let pairs = [
        (
            "connections to catalogue-db",
            report.database_connections as u64,
            truth.database_connections,
        ),
        (
            "connections reset by payment-service",
            report.resets as u64,
            truth.resets,
        ),
    ];
    let mut same = true;
    for (what, recorded, made) in pairs {
        if recorded != made {
            voice.say(format!("{what}: {recorded} recorded, but {made} made"));
            same = false;
        }
    }
    same
}

/// Shows the story's progress until it is over.
async fn watch(shop: &mut Shop) -> anyhow::Result<()> {
    let mut stderr = std::io::stderr();
    let terminal = stderr.is_terminal();
    let mut chapters = [
        (Duration::ZERO, "all is well"),
        (
            story::GATEWAY_SLOWS,
            "the payment gateway slows down: 200 ms -> 4.2 to 4.8 s",
        ),
        (
            story::SOME_TOO_SLOW,
            "some payments take longer than payment-service waits",
        ),
        (
            story::GATEWAY_STALLS,
            "the gateway does not answer; connections pile up",
        ),
        (story::GATEWAY_RECOVERS, "the gateway recovers"),
    ]
    .into_iter()
    .peekable();
    while !shop.over()? {
        let told = shop.told();
        if let Some((at, chapter)) = chapters.next_if(|(at, _)| told >= *at) {
            let erase = if terminal { "\r\x1b[K" } else { "" };
            writeln!(stderr, "{erase}  {:3} s  {chapter}", at.as_secs())?;
        }
        if terminal {
            let done = told.as_secs_f64() / story::LENGTH.as_secs_f64();
            write!(
                stderr,
                "\r  {:3} s  [{:<40}]",
                told.as_secs(),
                "=".repeat((done * 40.0) as usize)
            )?;
            stderr.flush()?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if terminal {
        write!(stderr, "\r\x1b[K")?;
    }
    Ok(())
}

/// Leaves the cluster running.
async fn keep(cli: &Cli, evidence: &Evidence, voice: Voice) {
    let hub = format!("http://{}", cli.listen);
    voice.say(format!(
        "\nThe nodes and the hub are still running; Ctrl-C takes them down. To try next:\n  \
         curl -s {hub}/mcp/data-boundaries\n  \
         curl -sG {hub}/mcp/calls -d db={DB} --data-urlencode 'kfl=dst.svc == \"payment-service\" and status >= 500' -d limit=3\n  \
         curl -sG {hub}/mcp/calls -d db={DB} --data-urlencode 'kfl=response.latency > 400' -d format=full -d limit=1\n  \
         curl -sG {hub}/mcp/snapshots/{SNAPSHOT}/pcap -d nodes={} --data-urlencode 'bpf_filter=tcp port 7432' -o db.pcap",
        evidence.nodes.last().map_or("node-3", String::as_str),
    ));
    std::future::pending::<()>().await;
}
