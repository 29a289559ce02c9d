//! `wiretape-bench query`: a dissection of many calls, asked by us and by DuckDB in turn, over the same files.

mod calls;
mod questions;

mod ours;

mod duckdb;

mod sharkd;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use wiretape_figures::{Figure, Goal};

use self::duckdb::DuckDb;
use self::questions::QUESTIONS;
use crate::scratch::Scratch;

pub use ours::{RunOptions, run_ours};

/// Most resident memory of the process that asks, in MiB.
const MEMORY: f64 = 512.0;

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// How many calls there are to ask about.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    calls: u64,
    /// How often each question is asked of a process that has answered it before.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(3..))]
    warm: u64,
    /// How often it is asked of a new process, over files that the kernel has not in memory.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    cold: u64,
    /// Where calls are stored, and DuckDB's Python package is kept.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("wiretape-bench"))]
    dir: PathBuf,
}

/// How long one question took, each time, in ms; how many calls match; and the peak memory of who answered.
struct Answered {
    warm: Vec<f64>,
    cold: Vec<f64>,
    found: u64,
    /// In MiB.
    peak: f64,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    let duckdb = DuckDb::install(&options.dir)?;
    eprintln!("beside DuckDB {}", duckdb.version);
    let scratch = Scratch::new(&options.dir)?;
    let database = scratch.folder("database")?;
    let stored = calls::store(&database, options.calls)?;
    eprintln!(
        "stored {} calls in {:.1} s, {:.0} MiB",
        options.calls,
        stored.seconds,
        stored.bytes as f64 / f64::from(1 << 20)
    );
    // What is told of a page: issue 4 asks for these two sizes.
    let page = if options.calls <= 1_000_000 { 50.0 } else { 300.0 };
    let mut figures = Vec::new();
    let mut peak: f64 = 0.0;
    for question in QUESTIONS {
        eprintln!("asking for {}", question.name);
        let ours = ours::ask(question, &database, &scratch, options)?;
        let theirs = duckdb.ask(question, &database, &scratch, options)?;
        ensure!(
            ours.found == theirs.found,
            "{}: we find {} calls, DuckDB {}",
            question.name,
            ours.found,
            theirs.found
        );
        peak = peak.max(ours.peak);
        for (temperature, ours, theirs) in [
            ("warm", &ours.warm, &theirs.warm),
            ("cold", &ours.cold, &theirs.cold),
        ] {
            for rank in [50, 99] {
                let name = format!("{}, {temperature}, p{rank}", question.name);
                let mut figure =
                    Figure::new(name, percentile(ours, rank), "ms").peer("DuckDB", percentile(theirs, rank));
                if question.is_page() && temperature == "warm" && rank == 99 {
                    figure = figure.goal(Goal::Below(page));
                }
                figures.push(figure);
            }
        }
    }
    figures.push(Figure::new("peak memory", peak, "MiB").goal(Goal::Below(MEMORY)));
    figures.extend(sharkd::compare(options, &scratch)?);
    wiretape_figures::print(&figures, options.json)
}

/// The smallest time that so many of a hundred do not exceed.
fn percentile(times: &[f64], rank: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * rank).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_times_are_among_them() {
        let times = [4.0, 1.0, 3.0, 2.0];
        assert_eq!((percentile(&times, 50), percentile(&times, 99)), (2.0, 4.0));
        assert_eq!(percentile(&[7.0], 99), 7.0);
    }
}
