//! No traffic at all: what the agent costs a node that is idle.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use wiretape_figures::{Figure, Goal, median};

use super::Options;
use super::accounts::resident;
use super::cpu::Spent;
use super::recorder::{Recorder, Tape, Who};
use super::scene::Scene;
use crate::scratch::Scratch;

/// By then the start is over.
const STARTED: Duration = Duration::from_secs(3);

/// Runs it.
pub fn measure(scene: &Scene, scratch: &Scratch, options: &Options) -> Result<Vec<Figure>> {
    let (mut shares, mut sizes) = (Vec::new(), Vec::new());
    for number in 1..=options.runs {
        let dir = scratch.folder(&format!("idle-{number}"))?;
        let tape = Tape {
            dir: &dir,
            cgroup: scene.root(),
            agent: &options.agent,
        };
        let recorder = Recorder::start(Who::Wiretape, scene, &tape)?.context("it was asked for")?;
        thread::sleep(STARTED);
        let before = Spent::now(scene, Some(recorder.id()))?;
        thread::sleep(Duration::from_secs_f64(2.0 * options.seconds));
        let spent = Spent::now(scene, Some(recorder.id()))?.since(before);
        shares.push(100.0 * spent.recorder / (2.0 * options.seconds));
        sizes.push(resident(recorder.id())?);
        recorder.stop()?;
    }
    Ok(vec![
        Figure::new("idle: CPU", median(shares), "% of a core").goal(Goal::Below(0.2)),
        Figure::new("idle: resident memory beyond the ring", median(sizes), "MiB").goal(Goal::Below(128.0)),
    ])
}
