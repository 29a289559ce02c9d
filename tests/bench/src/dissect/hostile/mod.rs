//! `wiretape-bench hostile`: captures of shapes that somebody chose to do harm, beside usual ones of the same protocol.

mod film;
mod flows;
mod http1;
mod http2;
mod others;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use wiretape_figures::{Figure, Goal};
use wiretape_hub::dissections::Summary;

use self::film::Film;
use super::compare::{megabytes, tell};
use super::kind::Kind;
use super::{capture, ours};
use crate::scratch::Scratch;
use crate::usage::Usage;

/// Bytes of frames of most shapes: enough for a time that can be told.
const ENOUGH: u64 = 40_000_000;
/// Runs of a usual capture; the quickest one counts, and with it what a shape may take.
const USUAL_RUNS: u32 = 3;

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// Only shapes with this in their names.
    #[arg(long, default_value = "")]
    only: String,
    /// Flows, where many are the point.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    flows: u64,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    threads: u64,
    /// Where captures are kept (the usual ones) or put for a while.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("wiretape-bench"))]
    dir: PathBuf,
}

/// How much of a shape there is, where it is not [`ENOUGH`].
#[derive(Clone, Copy)]
struct Scale {
    flows: u64,
    /// Bytes of messages that each cost a thousand times their length.
    bombs: u64,
}

/// A shape.
struct Shape {
    name: &'static str,
    /// The protocol whose usual capture it is held against.
    kind: Kind,
    make: fn(&mut Film, Scale) -> Result<()>,
}

const fn shape(name: &'static str, kind: Kind, make: fn(&mut Film, Scale) -> Result<()>) -> Shape {
    Shape { name, kind, make }
}

const SHAPES: &[Shape] = &[
    shape("a million SYNs", Kind::Http1, flows::only_syns),
    shape(
        "a million flows of one request",
        Kind::Http1,
        flows::one_request_each,
    ),
    shape("one giant flow", Kind::Http1, flows::one_giant_flow),
    shape("all frames backwards", Kind::Http1, flows::backwards),
    shape("windows backwards", Kind::Http1, flows::windows_backwards),
    shape("a thousand overlapping copies", Kind::Http1, flows::copies),
    shape("the same behind a hole", Kind::Http1, flows::copies_behind_a_hole),
    shape("heads of thousands of fields", Kind::Http1, http1::many_fields),
    shape("heads of one long field", Kind::Http1, http1::long_field),
    shape("heads without an end", Kind::Http1, http1::endless_head),
    shape("heads byte by byte", Kind::Http1, http1::byte_by_byte),
    shape("gzip bombs", Kind::Http1, http1::gzip_bombs),
    shape("WebSocket's bombs", Kind::Http1, http1::websocket_bombs),
    shape("CONTINUATION flood", Kind::Http2, http2::continuation_flood),
    shape("empty CONTINUATIONs", Kind::Http2, http2::empty_continuations),
    shape("header bomb", Kind::Http2, http2::header_bomb),
    shape("table churn", Kind::Http2, http2::table_churn),
    shape("table size updates", Kind::Http2, http2::size_updates),
    shape("Huffman codes", Kind::Http2, http2::huffman),
    shape("half-open streams", Kind::Http2, http2::half_open_streams),
    shape("rapid reset", Kind::Http2, http2::rapid_reset),
    shape("DATA of one byte", Kind::Http2, http2::tiny_data),
    shape("arrays in arrays", Kind::Redis, others::nested_arrays),
    shape("wide arrays", Kind::Redis, others::wide_arrays),
    shape("bushy arrays", Kind::Redis, others::bushy_arrays),
    shape(
        "commands without answers",
        Kind::Redis,
        others::unanswered_commands,
    ),
    shape(
        "statements never run",
        Kind::Postgresql,
        others::prepared_statements,
    ),
    shape("rows of nothing", Kind::Postgresql, others::tiny_rows),
    shape("pointer loops", Kind::Dns, others::pointer_loops),
    shape("pointer chains", Kind::Dns, others::pointer_chains),
];

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    let shapes: Vec<_> = SHAPES
        .iter()
        .filter(|shape| shape.name.contains(&options.only))
        .collect();
    ensure!(!shapes.is_empty(), "no shape is called {:?}", options.only);
    let threads = usize::try_from(options.threads)?;
    let scale = Scale {
        flows: options.flows,
        bombs: 10_000_000,
    };

    let mut usual = BTreeMap::new();
    for shape in &shapes {
        if let Entry::Vacant(unknown) = usual.entry(shape.kind) {
            unknown.insert(usual_cost(shape.kind, threads, &options.dir)?);
        }
    }
    let scratch = Scratch::new(&options.dir)?;
    let mut figures = Vec::new();
    for shape in shapes {
        let path = scratch.path().join("shape.pcapng");
        let mut film = Film::new(&path)?;
        (shape.make)(&mut film, scale).with_context(|| format!("making {}", shape.name))?;
        film.finish()?;
        let bytes = fs::metadata(&path)?.len();
        let done = once(&path, threads, &scratch)?;
        let usage = done.usage;
        tell(&format!("{}, {:.1} MB", shape.name, megabytes(bytes)), &usage);
        // What became of it, so that a shape which misses its point is seen.
        eprintln!("  {}", outcome(&done.summary));
        let cost = cost(&usage, bytes);
        let usual = usual.get(&shape.kind).copied().unwrap_or_default();
        figures.push(
            Figure::new(format!("{}: time", shape.name), cost, "ns/byte").peer(shape.kind.name(), usual),
        );
        figures.push(
            Figure::new(format!("{}: times usual", shape.name), cost / usual, "x").goal(Goal::AtMost(10.0)),
        );
        figures.push(
            Figure::new(format!("{}: peak memory", shape.name), usage.peak, "MiB").goal(Goal::Below(256.0)),
        );
    }
    wiretape_figures::print(&figures, options.json)
}

/// What a byte of the usual capture costs.
fn usual_cost(kind: Kind, threads: usize, dir: &Path) -> Result<f64> {
    let capture = capture::prepare(dir, kind, kind.megabytes())?;
    let scratch = Scratch::new(dir)?;
    let mut least = f64::INFINITY;
    for _ in 0..USUAL_RUNS {
        let usage = once(&capture.path, threads, &scratch)?.usage;
        tell(
            &format!("usual {}, {:.1} MB", kind.name(), megabytes(capture.bytes)),
            &usage,
        );
        least = least.min(cost(&usage, capture.bytes));
    }
    Ok(least)
}

/// One run; what it stores is thrown away.
fn once(path: &Path, threads: usize, scratch: &Scratch) -> Result<ours::Run> {
    let out = scratch.path().join("dissection");
    let done = ours::run(path, &out, threads)?;
    fs::remove_dir_all(&out)?;
    Ok(done)
}

/// Calls by protocol, and all counters that count something.
fn outcome(summary: &Summary) -> String {
    let calls = summary
        .protocol_counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"));
    let counted = summary.counters.iter().filter(|(_, count)| **count > 0);
    let counted = counted.map(|(name, count)| format!("{name} {count}"));
    format!(
        "calls: {}; {}",
        calls.collect::<Vec<_>>().join(", "),
        counted.collect::<Vec<_>>().join(", ")
    )
}

/// Nanoseconds of CPU time for a byte of the file.
fn cost(usage: &Usage, bytes: u64) -> f64 {
    usage.cpu.total() * 1e9 / bytes as f64
}
