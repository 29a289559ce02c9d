//! Whether the recorder notices that a cut is made: packets go onto the tape as they come, with cuts and without in turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use wiretape_figures::{Figure, Goal, median};
use wiretape_tape::{Nanos, Tape};

use super::{START, record};
use crate::usage::Cpu;

/// Stretches of each kind, in turn, and how long one is.
const STRETCHES: usize = 5;
const STRETCH: Duration = Duration::from_millis(500);
/// Packets come in runs of so many, as from the ring, with a pause after each.
const RUN: u64 = 100;
const PAUSE: Duration = Duration::from_millis(1);
/// A cut of the whole tape each time; ten a second are more than any hub asks for.
const BETWEEN_CUTS: Duration = Duration::from_millis(100);

/// Records on from `now`.
pub fn measure(tape: &mut Tape, now: Nanos) -> Result<Vec<Figure>> {
    let mut now = now;
    let (mut alone, mut cut) = (Vec::new(), Vec::new());
    for _ in 0..STRETCHES {
        alone.push(stretch(tape, &mut now, false)?);
        cut.push(stretch(tape, &mut now, true)?);
    }
    let waits = |stretches: &[Stretch]| median(stretches.iter().map(|stretch| stretch.longest));
    let costs = |stretches: &[Stretch]| median(stretches.iter().map(|stretch| stretch.cost));
    // A run of packets is one of the ring's in a thousand: there is room for the others meanwhile.
    Ok(vec![
        Figure::new(
            "longest wait of a run of packets, ten cuts a second",
            waits(&cut),
            "ms",
        )
        .goal(Goal::Below(100.0))
        .peer("without", waits(&alone)),
        Figure::new("CPU per packet, ten cuts a second", costs(&cut), "ns").peer("without", costs(&alone)),
    ])
}

struct Stretch {
    /// Milliseconds that a run of packets took, the longest.
    longest: f64,
    /// CPU of the process for each packet, in ns.
    cost: f64,
}

fn stretch(tape: &mut Tape, now: &mut Nanos, with_cuts: bool) -> Result<Stretch> {
    let (shelf, over) = (tape.shelf(), AtomicBool::new(false));
    let until = *now + 1;
    thread::scope(|scope| {
        let cutter = scope.spawn(|| -> Result<()> {
            while with_cuts && !over.load(Ordering::Relaxed) {
                shelf.cut("disturbing", START, until, until)?;
                shelf.release("disturbing")?;
                thread::sleep(BETWEEN_CUTS);
            }
            Ok(())
        });
        let (begun, before) = (Instant::now(), Cpu::of_this_process()?);
        let (mut longest, mut packets) = (0.0_f64, 0);
        while begun.elapsed() < STRETCH {
            let run = Instant::now();
            *now = record(tape, *now, RUN)?;
            longest = longest.max(run.elapsed().as_secs_f64() * 1e3);
            packets += RUN;
            thread::sleep(PAUSE);
        }
        let cpu = Cpu::of_this_process()?.since(before).total();
        over.store(true, Ordering::Relaxed);
        cutter
            .join()
            .map_err(|_| anyhow!("the cutting thread panicked"))??;
        Ok(Stretch {
            longest,
            cost: cpu * 1e9 / packets as f64,
        })
    })
}
