//! `wiretape-bench record`: packets of a veth to disk, by us and by others in turn; what that costs the machine, and what
//! it costs whoever sent them.

mod accounts;
mod bulk;
mod cpu;
mod disk;
mod http;
mod idle;
mod numbered;
mod party;
mod recorder;
mod scene;
mod stenographer;
mod tally;
mod workload;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use wiretape_figures::Figure;

use self::recorder::Who;
use self::scene::Scene;
use crate::scratch::Scratch;

pub use workload::{ReceiveOptions, SendOptions, receive, send};

/// The command's arguments.
#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, any of them may be given"
)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// Instead of numbered datagrams: TCP in bulk, by iperf3.
    #[arg(long)]
    bulk: bool,
    /// Instead of numbered datagrams: HTTP at a fixed rate, by h2load and nginx.
    #[arg(long)]
    http: bool,
    /// Instead of numbered datagrams: no traffic at all.
    #[arg(long)]
    idle: bool,
    /// Instead of numbered datagrams of the usual kind: as many bytes as the disk takes nine tenths of.
    #[arg(long)]
    disk: bool,
    /// With --disk: on a disk of so many MB a second, made for it, instead of the one that `--dir` is on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    disk_rate: Option<u64>,
    /// All of these, one after the other.
    #[arg(long)]
    all: bool,
    /// For how many seconds there is traffic in each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Datagrams per second; 0 is as many as one sender can.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Bytes of UDP payload.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(16..=1472))]
    payload: u16,
    /// HTTP requests per second.
    #[arg(long, default_value_t = 4000)]
    requests: u64,
    /// Runs of each side, in turn; the median is told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Where all record to; what they wrote is removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// More arguments for our agent, e.g. `--agent=--buffer-size=8MiB`.
    #[arg(long, allow_hyphen_values = true)]
    agent: Vec<String>,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    type Load = fn(&Scene, &Scratch, &Options) -> Result<Vec<Figure>>;
    let scratch = Scratch::new(&options.dir)?;
    let scene = Scene::new()?;
    let special = options.bulk || options.http || options.idle || options.disk;
    let loads: [(bool, Load); 5] = [
        (!special, numbered::measure),
        (options.bulk, bulk::measure),
        (options.http, http::measure),
        (options.idle, idle::measure),
        (options.disk, disk::measure),
    ];
    let mut figures = Vec::new();
    for (asked, load) in loads {
        if asked || options.all {
            figures.extend(load(&scene, &scratch, options)?);
        }
    }
    wiretape_figures::print(&figures, options.json)
}

/// The others that are there; of those that are not, one line says so.
fn peers() -> Vec<Who> {
    let (there, missing): (Vec<Who>, Vec<Who>) = Who::PEERS.into_iter().partition(|who| who.is_there());
    for who in missing {
        eprintln!(
            "{} is not installed and is left out: cargo xtask setup",
            who.name()
        );
    }
    there
}

/// One figure of ours beside those of each other, in as many rows.
fn beside(figure: Figure, others: impl IntoIterator<Item = (Who, f64)>) -> Vec<Figure> {
    let mut rows: Vec<Figure> = others
        .into_iter()
        .map(|(who, value)| figure.clone().peer(who.name(), value))
        .collect();
    if rows.is_empty() {
        rows.push(figure);
    }
    rows
}
