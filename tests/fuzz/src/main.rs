//! Exchanges of the captures in `../shared/corpora`, and some of our own, mutated, cut into other segments, with gaps,
//! through the dissector.
//!
//! A case is a pure function of the captures, the seed and its number, so one that fails is run again by these. What
//! crashes, takes more than a second of CPU time or more memory than its limit is written to a file as a capture, and fails.

mod case;
mod exchange;
mod own;
mod random;
mod traits;
mod watch;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use wiretape_dissect::testing::{Recorded, dissect};

use crate::exchange::Exchange;
use crate::random::Random;
use crate::traits::Traits;
use crate::watch::Watch;

/// Feed the dissector with mutated exchanges.
#[derive(Parser)]
#[command(name = "cargo xtask fuzz", bin_name = "cargo xtask fuzz")]
struct Options {
    /// How long, in CPU time
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Only exchanges with calls of this protocol, as calls name it, or http2; without it, all, those without any too
    #[arg(long)]
    protocol: Option<String>,
    /// Other seeds give other cases
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this case only, and write its packets whatever becomes of it
    #[arg(long)]
    case: Option<u64>,
    /// Where to write what fails
    #[arg(long, default_value = "target/fuzz")]
    out: PathBuf,
}

/// Most CPU time that a case of [`case::BYTES`] may take: thousands of times what it takes when all is well.
const HANG: Duration = Duration::from_secs(1);
/// Memory that a case may take beyond what was taken before the first: all its bytes held by streams, waiting and calls,
/// a dozen times over.
const GROWTH: u64 = 64 << 20;

fn main() -> Result<()> {
    let options = Options::parse();
    let Some(corpora) = wiretape_captures::corpora() else {
        return Ok(());
    };
    let mut exchanges = exchange::read(&corpora)?;
    if let Some(protocol) = &options.protocol {
        exchanges.retain(|exchange| exchange.protocols.contains(protocol.as_str()));
    }
    ensure!(
        !exchanges.is_empty(),
        "no exchange in the captures is of that protocol"
    );
    watch::forget().context("cannot reset the peak of memory")?;
    std::fs::create_dir_all(&options.out)?;
    let run = Run {
        under_way: File::create(options.out.join("under-way"))?,
        watch: Watch::begin(HANG, options.out.clone()),
        baseline: watch::memory(),
        exchanges,
        options,
    };
    run.all()
}

/// What all cases share.
struct Run {
    options: Options,
    exchanges: Vec<Exchange>,
    watch: Watch,
    /// Says which case it is: one that overflows the stack ends the program before it can say so itself.
    under_way: File,
    /// Peak memory before the first case.
    baseline: u64,
}

/// What is told at the end.
#[derive(Default)]
struct Told {
    cases: u64,
    bytes: u64,
    calls: u64,
    slowest: (Duration, u64),
    traits: Traits,
}

impl Run {
    fn all(&self) -> Result<()> {
        let begin = watch::spent();
        let end = begin + Duration::from_secs_f64(60.0 * self.options.minutes);
        let mut told = Told::default();
        let mut failed = 0;
        let numbers = match self.options.case {
            Some(case) => case..case + 1,
            None => 0..u64::MAX,
        };
        for number in numbers {
            if watch::spent() >= end {
                break;
            }
            failed += u64::from(!self.one(number, &mut told)?);
        }
        let (slowest, which) = told.slowest;
        println!(
            "{:.1} minutes, {} cases from {} exchanges, {} MB, {} calls; {}; slowest {} ms (case {which}); \
             memory grew by {} KiB; {failed} failed",
            (watch::spent() - begin).as_secs_f64() / 60.0,
            told.cases,
            self.exchanges.len(),
            told.bytes / 1_000_000,
            told.calls,
            told.traits,
            slowest.as_millis(),
            watch::memory().saturating_sub(self.baseline) >> 10,
        );
        if failed > 0 {
            bail!(
                "{failed} cases failed; they are in {}",
                self.options.out.display()
            );
        }
        Ok(())
    }

    /// Runs a case; whether it went well.
    fn one(&self, number: u64, told: &mut Told) -> Result<bool> {
        let mut random = Random::new(self.options.seed, number);
        let packets = case::make(&self.exchanges, &mut random);
        let name = format!("seed-{}-case-{number}", self.options.seed);
        self.under_way
            .write_all_at(format!("{name:<32}\n").as_bytes(), 0)?;
        if self.options.case.is_some() {
            keep(&self.options.out, &name, &packets)?;
        }
        self.watch.start(&name, &packets);
        let begin = watch::spent();
        let dissected = std::panic::catch_unwind(|| dissect(&packets));
        let took = watch::spent() - begin;
        self.watch.stop();
        told.cases += 1;
        told.bytes += packets.iter().map(|packet| packet.data.len() as u64).sum::<u64>();
        if took > told.slowest.0 {
            told.slowest = (took, number);
        }
        let grown = watch::memory().saturating_sub(self.baseline);
        let what = match dissected {
            Err(_) => "it panicked".to_owned(),
            Ok(_) if took > HANG => format!("it took {} ms", took.as_millis()),
            Ok(_) if grown > GROWTH => format!("memory grew by {} KiB", grown >> 10),
            Ok(dissected) => {
                told.calls += dissected.calls.len() as u64;
                told.traits.add(&dissected, number);
                return Ok(true);
            }
        };
        // So that the peak of this one is not held against the next ones.
        watch::forget()?;
        let file = keep(&self.options.out, &name, &packets)?;
        eprintln!("case {number}: {what}; its packets are in {}", file.display());
        Ok(false)
    }
}

/// Writes packets as a capture, in the format that every tool reads: all of a case have the link Raw.
fn keep(folder: &Path, name: &str, packets: &[Recorded]) -> Result<PathBuf> {
    const LINKTYPE_RAW: u32 = 101;
    std::fs::create_dir_all(folder)?;
    let mut bytes = Vec::new();
    // Magic of nanoseconds, version 2.4, no zone, no accuracy, snapshot length.
    let words = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 0x0004_0000, LINKTYPE_RAW];
    words
        .iter()
        .for_each(|word: &u32| bytes.extend(word.to_le_bytes()));
    for packet in packets {
        let (seconds, nanos) = (packet.ts / 1_000_000_000, packet.ts % 1_000_000_000);
        let words = [
            seconds as u32,
            nanos as u32,
            packet.data.len() as u32,
            packet.orig_len,
        ];
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes.extend(&packet.data);
    }
    let file = folder.join(format!("{name}.pcap"));
    std::fs::write(&file, bytes)?;
    Ok(file)
}
