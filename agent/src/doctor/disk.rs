//! The tape's disk: whether it can be written, how fast, how much room there is, and how far the tape would reach.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::config::Config;

/// Written to measure the disk's speed: more than a disk's own cache takes at once, and over in a second on any disk
/// that is fast enough.
const PROBE_BYTES: usize = 64 << 20;

/// Written at a time, as the tape does.
const WRITE: usize = 256 << 10;

/// A disk that takes less a second cannot hold a busy node.
const LEAST_SPEED: f64 = 20e6;

/// How long the traffic is watched.
const WATCH: Duration = Duration::from_secs(1);

/// What the tape writes for a packet beside its bytes (docs/tape-format.md), and an ordinary packet's length: what the
/// interfaces' counters do not tell.
const OVERHEAD: f64 = 1.0 + 72.0 / 700.0;

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let dir = &config.tape;
    if let Err(error) = fs::create_dir_all(dir) {
        return vec![Finding::fails(
            "tape",
            format!("{} cannot be made: {error}", dir.display()),
            "give another folder by --tape",
        )];
    }
    vec![room(config), speed(dir), reach(config)]
}

fn room(config: &Config) -> Finding {
    let dir = &config.tape;
    let free = match statvfs(dir) {
        Ok(disk) => disk.blocks_available().saturating_mul(disk.fragment_size()),
        Err(error) => {
            return Finding::fails(
                "room",
                format!("{}: {error}", dir.display()),
                "give another --tape",
            );
        }
    };
    let there: u64 = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum();
    let (found, lacking) = (
        format!(
            "{} MiB free and {} MiB of tape in {}, for a tape of {} MiB",
            free >> 20,
            there >> 20,
            dir.display(),
            config.tape_size >> 20
        ),
        free.saturating_add(there) < config.tape_size,
    );
    if lacking {
        Finding::lacks(
            "room",
            found,
            "the tape will be shorter than asked for: give a smaller --tape-size, or room",
        )
    } else {
        Finding::works("room", found)
    }
}

fn speed(dir: &Path) -> Finding {
    match measure(dir) {
        Ok((speed, slowest)) => {
            let found = format!(
                "{:.0} MB/s to the disk itself, the slowest write of 256 KiB took {:.1} ms",
                speed / 1e6,
                slowest.as_secs_f64() * 1e3
            );
            if speed < LEAST_SPEED {
                Finding::lacks(
                    "disk",
                    found,
                    "a busy node writes more: put the tape on a faster disk",
                )
            } else {
                Finding::works("disk", found)
            }
        }
        Err(error) => Finding::fails(
            "disk",
            format!("{} cannot be written: {error}", dir.display()),
            "mount it writable, make room, or give another folder by --tape",
        ),
    }
}

/// Bytes a second until they are on the disk, and the longest that one write took.
fn measure(dir: &Path) -> io::Result<(f64, Duration)> {
    let probe = Probe(dir.join(format!(".doctor-{}", std::process::id())));
    let mut file = File::create(&probe.0)?;
    let data: Vec<u8> = (0..WRITE).map(|at| ((at * 31) >> 3) as u8).collect();
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..PROBE_BYTES / WRITE {
        let begun = Instant::now();
        file.write_all(&data)?;
        slowest = slowest.max(begun.elapsed());
    }
    file.sync_all()?;
    Ok((PROBE_BYTES as f64 / begun.elapsed().as_secs_f64(), slowest))
}

/// A file that goes when it has served.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn reach(config: &Config) -> Finding {
    let before = traffic();
    thread::sleep(WATCH);
    let (Some(before), Some(after)) = (before, traffic()) else {
        return Finding::lacks(
            "reach",
            "/proc/net/dev cannot be read",
            "the traffic is not known",
        );
    };
    let rate = after.saturating_sub(before) as f64 / WATCH.as_secs_f64() * OVERHEAD;
    if rate < 1.0 {
        return Finding::works(
            "reach",
            "no traffic now, so the tape reaches back as far as one likes",
        );
    }
    let seconds = config.tape_size as f64 / rate;
    let kept = config
        .keep
        .map_or(seconds, |keep| seconds.min(keep.as_secs_f64()));
    let found = format!(
        "at the present {:.0} kB/s of this namespace's interfaces, the tape reaches back {:.1} h",
        rate / 1e3,
        kept / 3600.0
    );
    if kept < config.shortest_tape.as_secs_f64() && config.compress {
        Finding::works(
            "reach",
            format!("{found} uncompressed: by how much more, /health counts as it records"),
        )
    } else if kept < config.shortest_tape.as_secs_f64() {
        Finding::lacks("reach", found, "give a larger --tape-size, or --compress")
    } else {
        Finding::works("reach", found)
    }
}

/// Bytes received and sent by all interfaces.
fn traffic() -> Option<u64> {
    Some(interface_bytes(&fs::read_to_string("/proc/net/dev").ok()?))
}

/// Of the lines `name: received-bytes … sent-bytes …` (proc_net(5)): the first and the ninth number.
fn interface_bytes(text: &str) -> u64 {
    let numbers = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(_, numbers)| {
            let mut numbers = numbers
                .split_whitespace()
                .filter_map(|number| number.parse::<u64>().ok());
            numbers.next().unwrap_or(0) + numbers.nth(7).unwrap_or(0)
        });
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_interfaces_are_added_up() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n  eth0:30 1 0 0 0 0 0 0 4 1 0 0 0 0 0 0\n";
        assert_eq!(interface_bytes(text), 334);
    }

    #[test]
    fn the_speed_is_measured_and_nothing_left() {
        let dir = tempfile::tempdir().unwrap();
        let (speed, slowest) = measure(dir.path()).unwrap();
        assert!(speed > 0.0 && slowest > Duration::ZERO);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(measure(&dir.path().join("not there")).is_err());
    }
}
