//! Where CPU time went: to the load, to the recorder, to the kernel's own threads, to everyone else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::scene::{End, Scene};

/// CPU seconds, by who used them. The kernel charges what it does in an interrupt (the receiving half of a veth, tcpdump's
/// copy of a packet) to whom it interrupts, most often the load, or to `ksoftirqd`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Sender and receiver, with our programs in the kernel, which run on their time.
    pub load: f64,
    /// The recorder's process.
    pub recorder: f64,
    /// The kernel's threads: `ksoftirqd`, and those that bring pages to the disk.
    pub kernel: f64,
    /// All that the machine did.
    pub machine: f64,
}

impl Spent {
    /// Up to now, since each of them began.
    pub fn now(scene: &Scene, recorder: Option<u32>) -> Result<Self> {
        Ok(Self {
            load: of_cgroup(&scene.cgroup(End::Sender.name()))?
                + of_cgroup(&scene.cgroup(End::Receiver.name()))?,
            recorder: recorder.map(of_process).transpose()?.unwrap_or_default(),
            kernel: of_kernel_threads()?,
            machine: of_machine()?,
        })
    }

    /// What has come since.
    pub fn since(self, before: Self) -> Self {
        Self {
            load: self.load - before.load,
            recorder: self.recorder - before.recorder,
            kernel: self.kernel - before.kernel,
            machine: self.machine - before.machine,
        }
    }

    /// All that load and recording have caused.
    pub fn caused(self) -> f64 {
        self.load + self.recorder + self.kernel
    }

    /// What others did on the machine meanwhile: none of it, when figures are to be trusted.
    pub fn elsewhere(self) -> f64 {
        (self.machine - self.caused()).max(0.0)
    }
}

fn of_cgroup(cgroup: &Path) -> Result<f64> {
    let text = fs::read_to_string(cgroup.join("cpu.stat"))?;
    let micros = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec ")?.parse::<f64>().ok());
    Ok(micros.context("the kernel does not say what a cgroup used")? / 1e6)
}

/// Of all threads of a process, to the nanosecond.
fn of_process(process: u32) -> Result<f64> {
    let mut nanos = 0.0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        nanos += on_cpu(&task?.path());
    }
    Ok(nanos / 1e9)
}

fn of_kernel_threads() -> Result<f64> {
    /// `PF_KTHREAD` of the kernel's `sched.h`.
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let mut nanos = 0.0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        // It may be gone by now, and its name may hold anything up to the last parenthesis.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else {
            continue;
        };
        let flags = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u64>().ok());
        if flags.is_some_and(|flags| flags & KERNEL_THREAD != 0) {
            nanos += on_cpu(&path);
        }
    }
    Ok(nanos / 1e9)
}

/// Nanoseconds that a thread was on a processor: the first number of its `schedstat`. 0 of one that is gone.
fn on_cpu(thread: &Path) -> f64 {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or_default()
}

/// All of `/proc/stat` but idling and waiting for disks, in hundredths of a second.
fn of_machine() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal.
    let busy = [0, 1, 2, 5, 6, 7];
    Ok(busy.iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / 100.0)
}
