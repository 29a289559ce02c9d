//! As many bytes as the disk takes nine tenths of: whether all of them come onto the tape.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use wiretape_figures::{Figure, Goal, median};

use super::Options;
use super::numbered::{Datagrams, Run, one};
use super::recorder::Who;
use super::scene::Scene;
use crate::scratch::Scratch;
use crate::slow::SlowDisk;

/// Bytes of payload: no more than what is recorded whole at any rate, with its headers.
const PAYLOAD: u64 = 3968;
/// IPv4 and UDP.
const HEADERS: u64 = 28;
/// What a disk must come to after a run, of what it came to before it, for the run to say something of the recorder: halfway
/// to what is sent.
const STEADY: f64 = 0.95;
/// So that such a datagram is one packet; and what it is otherwise.
const JUMBO: u32 = 9000;
const USUAL: u32 = 1500;

/// What `dd` writes at once, and how many of them to learn how many a run's time takes.
const BLOCK: u64 = 4 << 20;
const BLOCKS: u64 = 128;

/// Runs it, on the disk that there is or on one of the rate that is asked for.
pub fn measure(scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Vec<Figure>> {
    let Some(rate) = options.disk_rate else {
        return on(scratch, scene, options);
    };
    let rate = rate * 1_000_000;
    // What is sent in a run, `dd`'s file, and as much again for what a file system takes for itself.
    let bytes = 3 * (rate as f64 * options.seconds) as u64 + BLOCK * BLOCKS + (1 << 30);
    let slow = SlowDisk::new(scratch.path(), bytes, rate)?;
    on(&Scratch::new(slow.path())?, scene, options)
}

fn on(scratch: &Scratch, scene: &Scene, options: &Options) -> Result<Vec<Figure>> {
    let packet = (PAYLOAD + HEADERS) as f64;
    let blocks = (direct(scratch.path(), BLOCKS)? * options.seconds) as u64 / BLOCK + 1;
    scene.set_mtu(JUMBO)?;
    // A disk that others use too is faster at one time than at another: it is asked before each run, and after it.
    let mut before = direct(scratch.path(), blocks)?;
    let (mut runs, mut speeds, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=options.runs {
        let what = Datagrams {
            seconds: options.seconds,
            rate: (0.9 * before / packet) as u64,
            payload: PAYLOAD,
        };
        let folder = format!("disk-{number}");
        let run = one(Who::Wiretape, &folder, scene, scratch, what, &options.agent)?;
        let next = direct(scratch.path(), blocks)?;
        eprintln!(
            "disk-{number}: {:.2} % of bytes without their end; the disk writes {:.0} MB/s before and {:.0} after",
            without_end(&run, packet),
            before / 1e6,
            next / 1e6
        );
        runs.push(run);
        speeds.push(before);
        after.push(next);
        before = next;
    }
    scene.set_mtu(USUAL)?;
    let offered = median(
        runs.iter()
            .map(|run| run.sender.packets as f64 * packet / run.sender.seconds),
    );
    let speed = median(speeds.iter().copied());
    // What a run says of the recorder, where the disk went on as fast as it had been.
    let kept: Vec<f64> = (runs.iter().zip(&speeds).zip(&after))
        .filter(|((_, before), after)| **after >= STEADY * **before)
        .map(|((run, _), _)| without_end(run, packet))
        .collect();
    let worst = |value: &dyn Fn(&Run) -> f64| runs.iter().map(value).fold(0.0, f64::max);
    Ok(vec![
        Figure::new("disk: direct write rate (dd)", speed / 1e6, "MB/s"),
        Figure::new("disk: sent", offered / 1e6, "MB/s"),
        Figure::new("disk: the same of the direct rate", 100.0 * offered / speed, "%")
            .goal(Goal::AtLeast(89.0)),
        Figure::new(
            "disk: lost, worst run",
            worst(&|run| 100.0 * run.lost() as f64 / run.sender.packets.max(1) as f64),
            "%",
        )
        .goal(Goal::AtMost(0.0)),
        Figure::new(
            "disk: runs in which the disk stayed so fast",
            kept.len() as f64,
            "",
        )
        .goal(Goal::AtLeast(1.0)),
        Figure::new(
            "disk: without their end, the worst of those",
            kept.iter().copied().fold(0.0, f64::max),
            "% of bytes",
        )
        .goal(Goal::AtMost(0.1)),
        Figure::new(
            "disk: without their end, worst run",
            worst(&|run| without_end(run, packet)),
            "% of bytes",
        ),
        Figure::new(
            "disk: unaccounted for, worst run",
            worst(&|run| run.unaccounted().abs()),
            "packets",
        )
        .goal(Goal::AtMost(0.0)),
    ])
}

fn without_end(run: &Run, packet: f64) -> f64 {
    100.0 - 100.0 * run.tally.captured as f64 / packet / run.tally.packets.max(1) as f64
}

/// Bytes per second that go past the page cache, by `dd`.
fn direct(dir: &Path, blocks: u64) -> Result<f64> {
    let file = dir.join("dd");
    let begun = Instant::now();
    let out = Command::new("dd")
        .args(["if=/dev/zero", "oflag=direct"])
        .args([
            format!("bs={BLOCK}"),
            format!("count={blocks}"),
            format!("of={}", file.display()),
        ])
        .output()
        .context("starting dd")?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(
        out.status.success(),
        "dd cannot write: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    std::fs::remove_file(&file)?;
    Ok((BLOCK * blocks) as f64 / seconds)
}
