//! What a benchmark puts on the machine for a while is gone when it ends, however it ends: by itself, by an error, by
//! Ctrl-C or SIGTERM; after SIGKILL the next benchmark removes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::slow::SlowDisk;

/// Names of folders, namespaces and cgroups begin with this, then comes the process id of the benchmark.
pub const PREFIX: &str = "wiretape-bench-";

/// A folder for files of one run of a benchmark.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes it in `dir`.
    pub fn new(dir: &Path) -> Result<Self> {
        for id in stale(dir) {
            remove(&dir.join(format!("{PREFIX}{id}")));
        }
        let path = dir.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        let scratch = Self { path: path.clone() };
        on_signal(move || remove(&path))?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder in it.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// A command that is told to end when this process does, however it does: nothing that was started outlives it.
pub fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

fn remove(path: &Path) {
    SlowDisk::release(&path.join(SlowDisk::PLACE));
    if let Err(error) = fs::remove_dir_all(path) {
        eprintln!("{} could not be removed: {error}", path.display());
    }
}

/// Ids of benchmarks that left something in a folder and run no more.
pub fn stale(dir: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok())
        .filter(|id: &u32| !Path::new("/proc").join(id.to_string()).exists())
        .collect()
}

type Last = Box<dyn FnOnce() + Send>;

/// What is still to be done when a signal comes.
static LAST: Mutex<Vec<Last>> = Mutex::new(Vec::new());

/// Has `last` done on Ctrl-C or SIGTERM, before what was asked for earlier; then the process ends.
///
/// By handlers, not by a blocked mask, which the measured processes would inherit.
pub fn on_signal(last: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut waiting = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.push(Box::new(last));
    if waiting.len() > 1 {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let mut waiting = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(last) = waiting.pop() {
            last();
        }
        std::process::exit(130);
    });
    Ok(())
}
