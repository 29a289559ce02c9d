//! Our side: the hub's own answers, in a process of its own, without HTTP.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};
use wiretape_hub::query::{self, CallsQuery, Database, GroupKey, Order, Scope, StatsOrder, StatsQuery};

use super::calls::stream_in_the_middle;
use super::questions::{Asked, QUESTIONS, Question};
use super::{Answered, Options};
use crate::scratch::Scratch;
use crate::usage;

/// The child's arguments.
#[derive(Args)]
pub struct RunOptions {
    /// The dissection's folder.
    database: PathBuf,
    /// The question's name.
    #[arg(long)]
    question: String,
    /// How many calls the dissection has.
    #[arg(long)]
    calls: u64,
    /// How often it is asked.
    #[arg(long)]
    times: u64,
}

/// What a child of either side says.
#[derive(Serialize, Deserialize)]
pub(super) struct Said {
    /// Each time, in ms. The first has opened the dissection.
    pub times: Vec<f64>,
    pub found: u64,
}

/// Asks the question, of new processes and of one that has answered before.
pub(super) fn ask(
    question: &Question,
    database: &Path,
    scratch: &Scratch,
    options: &Options,
) -> Result<Answered> {
    let program = std::env::current_exe()?.display().to_string();
    answered(database, scratch, options, |times| {
        vec![
            program.clone(),
            "run-query".to_owned(),
            database.display().to_string(),
            format!("--question={}", question.name),
            format!("--calls={}", options.calls),
            format!("--times={times}"),
        ]
    })
}

/// Runs either side's command for so many times in one process: cold ones first, then a warm one.
pub(super) fn answered(
    database: &Path,
    scratch: &Scratch,
    options: &Options,
    command: impl Fn(u64) -> Vec<String>,
) -> Result<Answered> {
    let printed = scratch.path().join("said.json");
    let run = |times| -> Result<(Said, f64)> {
        let usage = usage::of(&printed, &command(times))?;
        let said: Said =
            serde_json::from_slice(&fs::read(&printed)?).context("reading what the process says")?;
        ensure!(
            said.times.len() as u64 == times,
            "asked {} times, not {times}",
            said.times.len()
        );
        Ok((said, usage.peak))
    };
    let mut cold = Vec::new();
    for _ in 0..options.cold {
        forget(database)?;
        cold.extend(run(1)?.0.times);
    }
    // The first of a process is not told as warm.
    let (mut said, peak) = run(options.warm + 1)?;
    Ok(Answered {
        warm: said.times.split_off(1),
        cold,
        found: said.found,
        peak,
    })
}

/// Has the kernel drop the files of a folder from memory.
fn forget(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder.join("calls"))? {
        let file = File::open(entry?.path())?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// The child.
pub fn run_ours(options: &RunOptions) -> Result<()> {
    let question = QUESTIONS
        .iter()
        .find(|question| question.name == options.question);
    let question = question.with_context(|| format!("there is no question {:?}", options.question))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let said = runtime.block_on(async {
        let mut said = Said {
            times: Vec::new(),
            found: 0,
        };
        let mut opened = None;
        for _ in 0..options.times {
            let begun = Instant::now();
            let database = match &opened {
                Some(database) => database,
                None => opened.insert(Database::open(&options.database)?),
            };
            said.found = found(database, question.asked, options.calls).await?;
            said.times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        anyhow::Ok(said)
    })?;
    println!("{}", serde_json::to_string(&said)?);
    Ok(())
}

async fn found(database: &Database, asked: Asked, calls: u64) -> Result<u64> {
    Ok(match asked {
        Asked::Page(kfl) => {
            let query = CallsQuery {
                kfl: Some(kfl.to_owned()),
                ..CallsQuery::default()
            };
            query::calls(database, &query).await?.total
        }
        Asked::Slowest => {
            let query = CallsQuery {
                order: Order::Latency,
                limit: Some(20),
                ..CallsQuery::default()
            };
            query::calls(database, &query).await?.total
        }
        Asked::ByService => {
            let query = StatsQuery {
                scope: Scope::default(),
                group_by: vec![GroupKey::named("service")?],
                order: StatsOrder::Count,
                max_bytes: 1 << 20,
                ..StatsQuery::default()
            };
            let stats = query::stats(database, &query).await?;
            stats["total"]["count"]
                .as_u64()
                .context("stats without a count")?
        }
        Asked::ById => {
            let id = format!("/{:x}/7", stream_in_the_middle(calls));
            let details = query::call_details(database, &id, None, false).await?;
            u64::from(details["entry"].is_object())
        }
    })
}
