//! One capture, dissected by us and by tshark in turn; and read by tcpdump, which is the limit.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use wiretape_figures::{Figure, Goal, median};

use super::capture::Capture;
use super::kind::Kind;
use super::{Options, ours, tshark};
use crate::scratch::Scratch;
use crate::usage::{self, Usage};

/// What tshark's count may differ from the client's, in one of so many: a client has questions of its own. Of traffic that
/// we make ourselves, every request and every status is known.
const UNEQUAL: u64 = 100;

/// All runs of one capture.
#[derive(Default)]
struct Runs {
    /// Ours by number of threads.
    ours: BTreeMap<usize, Vec<Usage>>,
    /// Seconds until two dissections on one thread each, begun at once, were both done.
    pairs: Vec<f64>,
    tshark: Vec<Usage>,
    tcpdump: Vec<Usage>,
    /// Calls that we found and that tshark found.
    found: (u64, u64),
    /// Bytes of the stored calls.
    stored: u64,
}

/// Runs both sides and returns the figures.
pub fn run(kind: Kind, capture: &Capture, options: &Options, scratch: &Scratch) -> Result<Vec<Figure>> {
    eprintln!(
        "{}: {:.1} MB, {} packets, {} calls",
        capture.path.display(),
        megabytes(capture.bytes),
        capture.truth.packets,
        capture.truth.calls
    );
    let mut runs = Runs {
        found: (0, theirs(kind, capture, scratch)?),
        ..Runs::default()
    };
    let limit = [
        "tcpdump",
        "-r",
        &capture.path.display().to_string(),
        "-w",
        "/dev/null",
    ]
    .map(String::from);
    for run in 1..=options.runs {
        for &threads in &options.threads {
            let usage = ours(kind, capture, threads, run, scratch, &mut runs)?;
            tell(&format!("run {run}, wiretape on {threads} thread(s)"), &usage);
            runs.ours.entry(threads).or_default().push(usage);
        }
        if [1, 2].iter().all(|threads| options.threads.contains(threads)) {
            let seconds = pair(capture, scratch)?;
            eprintln!("run {run}, two of wiretape on 1 thread at once: {seconds:.3} s");
            runs.pairs.push(seconds);
        }
        let usage = tshark::run(kind, &capture.path)?;
        tell(&format!("run {run}, tshark"), &usage);
        runs.tshark.push(usage);
        runs.tcpdump.push(usage::of("/dev/null".as_ref(), &limit)?);
    }
    Ok(figures(kind, capture, options, &runs))
}

/// What tshark finds; it must be what the capture has.
fn theirs(kind: Kind, capture: &Capture, scratch: &Scratch) -> Result<u64> {
    let found = tshark::find(kind, &capture.path, scratch.path())?;
    let truth = &capture.truth;
    let unequal = match kind {
        Kind::Http1 => 0,
        _ => truth.calls / UNEQUAL,
    };
    ensure!(
        found.requests.abs_diff(truth.calls) <= unequal,
        "tshark found {} requests, but there are {}",
        found.requests,
        truth.calls
    );
    for (kfl, calls) in &found.statuses {
        ensure!(
            kind != Kind::Http1 || truth.answers.get(kfl) == Some(calls),
            "tshark found {calls} of {kfl}, but there are {:?}",
            truth.answers.get(kfl)
        );
    }
    Ok(found.requests)
}

/// One run of ours; what is stored must answer what the capture has.
fn ours(
    kind: Kind,
    capture: &Capture,
    threads: usize,
    run: u64,
    scratch: &Scratch,
    runs: &mut Runs,
) -> Result<Usage> {
    let out = scratch.path().join(format!("{}-{run}-{threads}", kind.name()));
    let done = ours::run(&capture.path, &out, threads)?;
    let answers = ours::find(&out, &capture.truth)?;
    ensure!(
        answers == capture.truth.answers,
        "on {threads} threads we found {answers:?}, but the capture has {:?}; of {:?}",
        capture.truth.answers,
        done.summary.protocol_counts
    );
    ensure!(
        done.summary.packets == capture.truth.packets,
        "we read {} packets of {}",
        done.summary.packets,
        capture.truth.packets
    );
    (runs.found.0, runs.stored) = (capture.truth.calls, done.stored);
    std::fs::remove_dir_all(&out)?;
    Ok(done.usage)
}

/// How long two dissections take that know nothing of each other: what the machine itself leaves of two processors.
fn pair(capture: &Capture, scratch: &Scratch) -> Result<f64> {
    let one = |name: &str| -> Result<f64> {
        let out = scratch.path().join(name);
        let wall = ours::run(&capture.path, &out, 1)?.usage.wall;
        std::fs::remove_dir_all(&out)?;
        Ok(wall)
    };
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| one("second"));
        (one("first"), second.join())
    });
    let second = second.map_err(|_| anyhow!("the thread that waits for the second dissection failed"))?;
    Ok(first?.max(second?))
}

fn figures(kind: Kind, capture: &Capture, options: &Options, runs: &Runs) -> Vec<Figure> {
    let title = kind.title();
    let named = |name: &str, value: f64, unit| Figure::new(format!("{title}{name}"), value, unit);
    let megabytes_read = megabytes(capture.bytes);
    let calls = capture.truth.calls as f64;
    let first = options
        .threads
        .first()
        .and_then(|threads| runs.ours.get(threads))
        .map(Vec::as_slice)
        .unwrap_or_default();
    let (our_cpu, their_cpu, limit) = (cpu(first), cpu(&runs.tshark), cpu(&runs.tcpdump));
    let speed = named("capture per CPU time", megabytes_read / our_cpu, "MB/CPU-s");
    let mut figures = vec![
        named("calls found", runs.found.0 as f64, "calls")
            .goal(Goal::AtLeast(calls))
            .peer("tshark", runs.found.1 as f64),
        named("CPU time", our_cpu, "s").peer("tshark", their_cpu),
        match kind {
            // Issue 2's.
            Kind::Http1 => speed.goal(Goal::AtLeast(350.0)),
            _ => speed,
        }
        .peer("tshark", megabytes_read / their_cpu),
        named(
            "the limit: touching every packet",
            megabytes_read / our_cpu,
            "MB/CPU-s",
        )
        .peer("tcpdump -r -w", megabytes_read / limit),
        named("calls per CPU time", calls / our_cpu, "calls/CPU-s").peer("tshark", calls / their_cpu),
        named("times tshark per CPU time", their_cpu / our_cpu, "x").goal(Goal::AtLeast(kind.times_tshark())),
    ];
    if let (Some(one), Some(two)) = (runs.ours.get(&1), runs.ours.get(&2)) {
        figures.push(named("wall time, 1 thread", wall(one), "s").peer("tshark", wall(&runs.tshark)));
        figures.push(named("wall time, 2 threads", wall(two), "s").peer("tshark", wall(&runs.tshark)));
        figures.push(
            named("speed-up, 2 threads against 1", wall(one) / wall(two), "x").goal(Goal::AtLeast(1.9)),
        );
        let both = median(runs.pairs.iter().copied());
        figures.push(named(
            "the machine's own: two at once against one",
            2.0 * wall(one) / both,
            "x",
        ));
    }
    figures.push(
        named("peak memory", peak(runs.ours.values().flatten()), "MiB")
            .goal(Goal::Below(256.0))
            .peer("tshark", peak(&runs.tshark)),
    );
    figures.push(named("stored calls", megabytes(runs.stored), "MB"));
    figures
}

fn cpu(runs: &[Usage]) -> f64 {
    median(runs.iter().map(|usage| usage.cpu.total()))
}

fn wall(runs: &[Usage]) -> f64 {
    median(runs.iter().map(|usage| usage.wall))
}

fn peak<'u>(runs: impl IntoIterator<Item = &'u Usage>) -> f64 {
    runs.into_iter().map(|usage| usage.peak).fold(0.0, f64::max)
}

/// Bytes as megabytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Says what a run used.
pub fn tell(what: &str, usage: &Usage) {
    eprintln!(
        "{what}: {:.3} CPU-s ({:.3} user, {:.3} system), {:.3} s, {:.0} MiB",
        usage.cpu.total(),
        usage.cpu.user,
        usage.cpu.system,
        usage.wall,
        usage.peak
    );
}
