//! What a process used: CPU time and peak memory.
//!
//! The kernel sums the use of waited-for children and keeps only the largest peak of them all. So each measured
//! command runs under a runner of its own (`wiretape-bench measure`), whose only child it is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::scratch;

/// CPU time of a process and of the children it waited for, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// In user space.
    pub user: f64,
    /// In the kernel on its behalf.
    pub system: f64,
}

impl Cpu {
    /// Of all children that this process has waited for so far.
    pub fn of_children() -> Result<Self> {
        Self::of(UsageWho::RUSAGE_CHILDREN)
    }

    /// Of this process, all threads, so far.
    pub fn of_this_process() -> Result<Self> {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    fn of(who: UsageWho) -> Result<Self> {
        let usage = getrusage(who)?;
        Ok(Self {
            user: seconds(usage.user_time()),
            system: seconds(usage.system_time()),
        })
    }

    /// Both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// What has come since.
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
        }
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// What one run of a command used.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Usage {
    /// Its CPU time, of all its threads.
    pub cpu: Cpu,
    /// Seconds from start to end.
    pub wall: f64,
    /// Largest resident memory, in MiB.
    pub peak: f64,
}

/// The runner's arguments.
#[derive(Args)]
pub struct Options {
    /// Where the command's stdout goes.
    #[arg(long, default_value = "/dev/null")]
    stdout: PathBuf,
    /// The command.
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

/// Runs `command` to its end with its stdout in `stdout` and says what it used. It must succeed.
pub fn of(stdout: &Path, command: &[String]) -> Result<Usage> {
    let out = scratch::bound(&std::env::current_exe()?)
        .args(["measure", "--stdout"])
        .arg(stdout)
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("starting the runner")?;
    let name = command.first().map(String::as_str).unwrap_or_default();
    ensure!(out.status.success(), "{name} did not succeed ({})", out.status);
    serde_json::from_slice(&out.stdout).context("reading what the runner says")
}

/// The runner: runs the command, prints [`Usage`] as JSON.
pub fn measure(options: &Options) -> Result<()> {
    let (program, arguments) = options.command.split_first().context("no command")?;
    let stdout =
        File::create(&options.stdout).with_context(|| format!("making {}", options.stdout.display()))?;
    let begun = Instant::now();
    let ended = scratch::bound(Path::new(program))
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?
        .wait_with_output()?;
    let wall = begun.elapsed().as_secs_f64();
    // Only then: tshark has remarks on every run.
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.success(),
        "{program} ended with {}: {said}",
        ended.status
    );
    // In KiB on Linux.
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() as f64 / 1024.0;
    println!(
        "{}",
        serde_json::to_string(&Usage {
            cpu: Cpu::of_children()?,
            wall,
            peak
        })?
    );
    Ok(())
}
