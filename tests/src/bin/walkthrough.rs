//! `wiretape-walkthrough`: plays the shop's incident on a cluster, lets the scripted assistant find it through MCP, and
//! writes the conversation down.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Parser;
use wiretape_shop::story;
use wiretape_tests::assistant;
use wiretape_tests::cluster::{Cluster, Recording};
use wiretape_tests::workload::{self, Play, Shop};

/// Plays the shop's incident in the time that it takes, and writes the assistant's conversation about it to a page.
/// Needs root, as the demo does.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where the page is put
    #[arg(long, value_name = "FILE", default_value = "docs/walkthrough.md")]
    page: PathBuf,
    /// How many times as fast as the wall's clock the story of five minutes is played
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Makes the users' requests repeatable
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Record by libpcap, where eBPF cannot run
    #[arg(long)]
    libpcap: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let recording = if cli.libpcap {
        Recording::Libpcap
    } else {
        Recording::Ebpf
    };
    let mut cluster = Cluster::start(workload::pods(), recording, None).await?;
    let play = Play {
        time_scale: cli.time_scale,
        seed: cli.seed,
        rate: story::JOURNEYS_PER_SECOND,
    };
    let seconds = story::LENGTH.as_secs_f64() / cli.time_scale;
    eprintln!("the shop opens, for {seconds:.0} s");
    let shop = Shop::open(&mut cluster, play)?;
    let truth = shop.close().await?;
    let (_, conversation) = assistant::converse(cluster.hub.address).await?;

    let mut page = String::from("# A walkthrough\n");
    write!(
        page,
        "\nWhat an assistant does with Wiretape, from the question to the packets: every step here is a call of MCP, and every\n\
         figure comes out of its answer. The assistant is a script without a model (`tests/src/assistant`); the traffic is that of\n\
         the demo's shop, whose payment gateway becomes slow. The shop wrote down {} calls of its own; a test holds what the\n\
         assistant finds against them (`tests/tests/e2e/walkthrough.rs`).\n\
         \n\
         Written by `cargo xtask walkthrough`; the story took {seconds:.0} s. Answers are cut to what matters.\n",
        truth.calls.len(),
    )?;
    page.push_str(&conversation);
    std::fs::write(&cli.page, page)?;
    eprintln!("written to {}", cli.page.display());
    Ok(())
}
