//! Sees a case that does not end, which nothing else could report, and how much time and memory are taken.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::time::ClockId;
use wiretape_dissect::testing::Recorded;

/// What runs now.
struct Running {
    name: String,
    packets: Vec<Recorded>,
    /// See [`spent`].
    since: Duration,
}

/// Watches over the case that runs.
pub struct Watch(Arc<Mutex<Option<Running>>>);

/// How many times longer than is allowed a case runs before it is given up: most that are too slow do end.
const PATIENCE: u32 = 30;

impl Watch {
    /// Begins to watch. A case that does not end is kept in a folder, and ends the program.
    pub fn begin(longest: Duration, folder: PathBuf) -> Self {
        let running: Arc<Mutex<Option<Running>>> = Arc::default();
        let watched = Arc::clone(&running);
        thread::spawn(move || {
            loop {
                thread::sleep(longest);
                let running = lock(&watched);
                let Some(running) = running
                    .as_ref()
                    .filter(|running| spent().saturating_sub(running.since) > longest * PATIENCE)
                else {
                    continue;
                };
                eprintln!("{} does not end", running.name);
                match crate::keep(&folder, &running.name, &running.packets) {
                    Ok(file) => eprintln!("its packets are in {}", file.display()),
                    Err(error) => eprintln!("its packets could not be written: {error:#}"),
                }
                std::process::exit(1);
            }
        });
        Self(running)
    }

    /// A case begins.
    pub fn start(&self, name: &str, packets: &[Recorded]) {
        *lock(&self.0) = Some(Running {
            name: name.to_owned(),
            packets: packets.to_vec(),
            since: spent(),
        });
    }

    /// It has ended.
    pub fn stop(&self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CPU time that this process has taken: all but nothing of it is the cases', for the watch sleeps. What else the machine
/// does is not in it, so a case that waits for its turn does not look like one that hangs.
pub fn spent() -> Duration {
    // There is such a clock on every Linux.
    let spent = nix::time::clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    spent.map_or(Duration::ZERO, Duration::from)
}

/// Forgets how much memory was taken before: reading the captures took more than any case.
pub fn forget() -> std::io::Result<()> {
    // See proc(5): 5 resets the peak.
    std::fs::write("/proc/self/clear_refs", "5")
}

/// Most memory that this process had since then, in bytes; 0 where the kernel does not tell.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or_default() << 10
}
