//! `wiretape-bench dissect`: one HTTP/1 capture, dissected by us and by tshark in turn.

mod capture;
mod messages;
mod ours;
mod pcapng;
mod random;
mod traffic;
mod tshark;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use wiretape_figures::{Figure, Goal, median};

use self::capture::Capture;
use crate::scratch::Scratch;
use crate::usage::Usage;

pub use ours::{RunOptions, run_ours};

/// The file is this much bigger with `--big`.
const BIG: u64 = 10;

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// About how large the capture is to be.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..))]
    megabytes: u64,
    /// Worker threads of ours to try; the first is compared with tshark, which has one.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Runs of each side, in turn; the median is told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Also dissect a capture ten times as large once, to see that memory does not grow with it.
    #[arg(long)]
    big: bool,
    /// Where the capture is kept and calls are stored.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("wiretape-bench"))]
    dir: PathBuf,
}

/// What one side found in the capture; compared with the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    requests: u64,
    /// Responses by status.
    statuses: BTreeMap<u16, u64>,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        !options.threads.is_empty() && !options.threads.contains(&0),
        "--threads must be numbers above 0"
    );
    let tshark_version = tshark::version()?;
    let capture = capture::prepare(&options.dir, options.megabytes)?;
    let truth = Found {
        requests: capture.truth.calls,
        statuses: capture.truth.statuses.clone(),
    };
    eprintln!(
        "{}: {:.1} MB, {} packets, {} connections, {} calls",
        capture.path.display(),
        megabytes(capture.bytes),
        capture.truth.packets,
        capture.truth.connections,
        capture.truth.calls
    );

    let scratch = Scratch::new(&options.dir)?;
    // Also brings the file into the page cache for both sides.
    eprintln!("asking {tshark_version} what it finds");
    let theirs = tshark::find(&capture.path, scratch.path())?;
    ensure!(
        theirs == truth,
        "tshark found {theirs:?}, but the capture has {truth:?}"
    );

    let mut ours: BTreeMap<usize, Vec<Usage>> = BTreeMap::new();
    let mut peers = Vec::new();
    let (mut found, mut stored) = (0, 0);
    for run in 1..=options.runs {
        for &threads in &options.threads {
            let out = scratch.path().join(format!("dissection-{run}-{threads}"));
            let done = ours::run(&capture.path, &out, threads)?;
            let answers = ours::find(&out, &capture.truth)?;
            ensure!(
                answers == truth,
                "on {threads} threads we found {answers:?}, but the capture has {truth:?}"
            );
            ensure!(
                done.summary.packets == capture.truth.packets,
                "we read {} packets",
                done.summary.packets
            );
            (found, stored) = (answers.requests, done.stored);
            tell(
                &format!("run {run}, wiretape on {threads} thread(s)"),
                &done.usage,
            );
            ours.entry(threads).or_default().push(done.usage);
        }
        let usage = tshark::run(&capture.path)?;
        tell(&format!("run {run}, tshark"), &usage);
        peers.push(usage);
    }

    let mut figures = figures(&capture, options, &ours, &peers);
    let all = Goal::AtLeast(truth.requests as f64);
    let calls = Figure::new("calls found", found as f64, "calls")
        .goal(all)
        .peer("tshark", theirs.requests as f64);
    figures.insert(0, calls);
    figures.push(Figure::new("stored calls", megabytes(stored), "MB"));
    if options.big {
        figures.push(big(options, &scratch)?);
    }
    wiretape_figures::print(&figures, options.json)
}

/// One run over a much larger capture, on as many threads as were asked for at most.
fn big(options: &Options, scratch: &Scratch) -> Result<Figure> {
    let capture = capture::prepare(&options.dir, options.megabytes * BIG)?;
    let threads = options.threads.iter().copied().max().unwrap_or(1);
    let done = ours::run(&capture.path, &scratch.path().join("big"), threads)?;
    tell(
        &format!(
            "{:.0} MB, wiretape on {threads} thread(s)",
            megabytes(capture.bytes)
        ),
        &done.usage,
    );
    ensure!(
        done.summary.calls == capture.truth.calls,
        "we found {} calls",
        done.summary.calls
    );
    Ok(Figure::new("peak memory, ten times the file", done.usage.peak, "MiB").goal(Goal::Below(256.0)))
}

fn figures(
    capture: &Capture,
    options: &Options,
    ours: &BTreeMap<usize, Vec<Usage>>,
    peers: &[Usage],
) -> Vec<Figure> {
    let megabytes = megabytes(capture.bytes);
    let calls = capture.truth.calls as f64;
    let first = options
        .threads
        .first()
        .and_then(|threads| ours.get(threads))
        .map(Vec::as_slice)
        .unwrap_or_default();
    let (our_cpu, their_cpu) = (cpu(first), cpu(peers));
    let mut figures = vec![
        Figure::new("CPU time", our_cpu, "s").peer("tshark", their_cpu),
        Figure::new("capture per CPU time", megabytes / our_cpu, "MB/CPU-s")
            .peer("tshark", megabytes / their_cpu),
        Figure::new("calls per CPU time", calls / our_cpu, "calls/CPU-s").peer("tshark", calls / their_cpu),
        Figure::new("times tshark per CPU time", their_cpu / our_cpu, "x").goal(Goal::AtLeast(25.0)),
    ];
    if let (Some(one), Some(two)) = (ours.get(&1), ours.get(&2)) {
        let speedup = wall(one) / wall(two);
        figures.push(Figure::new("wall time, 1 thread", wall(one), "s").peer("tshark", wall(peers)));
        figures.push(Figure::new("wall time, 2 threads", wall(two), "s").peer("tshark", wall(peers)));
        figures.push(Figure::new("speed-up, 2 threads against 1", speedup, "x").goal(Goal::AtLeast(1.8)));
    }
    let peak = ours
        .values()
        .flatten()
        .map(|usage| usage.peak)
        .fold(0.0, f64::max);
    figures.push(
        Figure::new("peak memory", peak, "MiB")
            .goal(Goal::Below(256.0))
            .peer("tshark", peers.iter().map(|usage| usage.peak).fold(0.0, f64::max)),
    );
    figures
}

fn cpu(runs: &[Usage]) -> f64 {
    median(runs.iter().map(|usage| usage.cpu.total()))
}

fn wall(runs: &[Usage]) -> f64 {
    median(runs.iter().map(|usage| usage.wall))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn tell(what: &str, usage: &Usage) {
    eprintln!(
        "{what}: {:.3} CPU-s ({:.3} user, {:.3} system), {:.3} s, {:.0} MiB",
        usage.cpu.total(),
        usage.cpu.user,
        usage.cpu.system,
        usage.wall,
        usage.peak
    );
}
