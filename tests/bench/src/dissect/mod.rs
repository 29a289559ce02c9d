//! `wiretape-bench dissect`: captures of the protocols, each dissected by us and by tshark in turn.

mod capture;
mod compare;
mod hostile;
mod kind;
mod live;
mod messages;
mod ours;
mod pcapng;
mod repeat;
mod traffic;
mod tshark;
mod wire;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use self::kind::Kind;
use crate::scratch::Scratch;

pub use hostile::{Options as HostileOptions, run as run_hostile};
pub use ours::{RunOptions, run_ours};

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// What traffic; several separated by commas, or `all`. All but HTTP/1 need root.
    #[arg(long, value_delimiter = ',', default_value = "http1", value_parser = one_or_all)]
    capture: Vec<Kinds>,
    /// About how large each capture is to be: 150 of HTTP/1, 60 of the others, which are recorded.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    megabytes: Option<u64>,
    /// Worker threads of ours to try; the first is compared with tshark, which has one.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Runs of each side, in turn; the median is told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Also dissect each capture many times over in one file, of 150 MB and then of ten times as much each time, to see
    /// that memory does not grow with it: up to this size.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = repeat::BIG, value_parser = repeat::size)]
    big: Option<u64>,
    /// Where captures are kept and calls are stored.
    #[arg(long, default_value_os_t = std::env::temp_dir().join("wiretape-bench"))]
    dir: PathBuf,
}

/// What one word of `--capture` asks for.
type Kinds = Vec<Kind>;

fn one_or_all(word: &str) -> Result<Kinds, String> {
    match word {
        "all" => Ok(Kind::value_variants().to_vec()),
        _ => Kind::from_str(word, false).map(|kind| vec![kind]),
    }
}

/// A capture of HTTP/1, made once.
pub fn http1_capture(dir: &Path, megabytes: u64) -> Result<PathBuf> {
    Ok(capture::prepare(dir, Kind::Http1, megabytes)?.path)
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        !options.threads.is_empty() && !options.threads.contains(&0),
        "--threads must be numbers above 0"
    );
    let tshark_version = tshark::version()?;
    eprintln!("beside {tshark_version}");
    let mut captures = Vec::new();
    for kind in options.capture.iter().flatten().copied() {
        let megabytes = options.megabytes.unwrap_or(kind.megabytes());
        captures.push((kind, capture::prepare(&options.dir, kind, megabytes)?));
    }
    let scratch = Scratch::new(&options.dir)?;
    let mut figures = Vec::new();
    for (kind, capture) in &captures {
        figures.extend(compare::run(*kind, capture, options, &scratch)?);
        if let Some(most) = options.big {
            figures.extend(repeat::run(*kind, capture, most, options, &scratch)?);
        }
    }
    wiretape_figures::print(&figures, options.json)
}
