//! Our side: from the capture to calls stored in Parquet, and the questions that show they can be asked for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use wiretape_hub::dissections::{self, Job, Progress, Source, Summary};
use wiretape_hub::query::{self, CallsQuery, Database};

use super::capture::Truth;
use crate::usage::{self, Usage};

/// The child's arguments.
#[derive(Args)]
pub struct RunOptions {
    /// The capture.
    file: PathBuf,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The dissection's folder.
    #[arg(long)]
    out: PathBuf,
}

/// One run.
pub struct Run {
    /// What it used.
    pub usage: Usage,
    /// What it says of itself.
    pub summary: Summary,
    /// Bytes of the stored calls.
    pub stored: u64,
}

/// Dissects `capture` in a process of its own, into `out`, which is not there yet.
pub fn run(capture: &Path, out: &Path, threads: usize) -> Result<Run> {
    let printed = out.with_extension("json");
    let command = [
        std::env::current_exe()?.display().to_string(),
        "run-dissect".to_owned(),
        capture.display().to_string(),
        format!("--threads={threads}"),
        format!("--out={}", out.display()),
    ];
    let usage = usage::of(&printed, &command)?;
    let summary =
        serde_json::from_slice(&fs::read(&printed)?).context("reading the summary of the dissection")?;
    Ok(Run {
        usage,
        summary,
        stored: bytes_of(&out.join("calls"))? + bytes_of(&out.join("connections"))?,
    })
}

/// The child: exactly what the hub runs for a job, and nothing else.
pub fn run_ours(options: &RunOptions) -> Result<()> {
    fs::create_dir_all(&options.out)?;
    let node = options
        .file
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let job = Job {
        sources: vec![Source {
            node,
            files: vec![options.file.clone()],
        }],
        out: options.out.clone(),
        threads: options.threads,
        ..Job::default()
    };
    let summary = dissections::run(&job, &Progress::default())?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

/// Asks the stored calls what the truth knows: how many there are for each of its filters.
pub fn find(out: &Path, truth: &Truth) -> Result<BTreeMap<String, u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let database = Database::open(out)?;
        let mut found = BTreeMap::new();
        for kfl in truth.answers.keys() {
            let question = CallsQuery {
                kfl: Some(kfl.clone()),
                limit: Some(1),
                ..CallsQuery::default()
            };
            let page = query::calls(&database, &question).await;
            let total = page.with_context(|| format!("asking for {kfl}"))?.total;
            found.insert(kfl.clone(), total);
        }
        Ok(found)
    })
}

/// Bytes of the files in a folder.
fn bytes_of(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
