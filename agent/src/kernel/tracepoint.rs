//! A program at a raw tracepoint, in place of an earlier agent's: both run for a moment, and one word says which of them speaks.
//!
//! So nothing is told twice, and nothing is missed: the next program is attached under another name, the word is changed, and
//! only then the earlier one is let go.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::RawTracePoint;
use aya::programs::links::FdLink;
use aya::programs::raw_trace_point::RawTracePointLink;

use super::attached;
use super::pins::Pins;
use crate::clocks::since_boot;

/// The number of an agent, for the word: no two have started at the same nanosecond.
///
/// # Errors
/// When the clock cannot be read.
pub fn agent_number() -> Result<u64> {
    since_boot().context("the clock cannot be read")
}

/// Lets the programs speak that were loaded for this agent; those of an earlier one fall silent. `word` is the map that has it.
///
/// # Errors
/// When there is no such map, or the kernel refuses.
pub fn speak(ebpf: &mut Ebpf, word: &str, agent: u64) -> Result<()> {
    let map = ebpf.take_map(word).with_context(|| format!("no map {word}"))?;
    let mut word: Array<_, u64> = Array::try_from(map)?;
    word.set(0, agent, 0)
        .context("the kernel programs cannot be told to begin")
}

/// A program that is attached: for as long as this lives, or until its pin is removed.
pub struct Attached {
    pin: String,
    program: OwnedFd,
    /// `None` if it is pinned.
    _link: Option<RawTracePointLink>,
}

impl Attached {
    /// Loads a program and attaches it to its tracepoint. With `pins` it outlives the agent: under the name of the next one's
    /// `pin`, until it is [settled](Self::settle).
    ///
    /// # Errors
    /// When there is no such program, or the kernel refuses.
    pub fn attach(
        ebpf: &mut Ebpf,
        program: &str,
        tracepoint: &str,
        pin: &str,
        pins: Option<&Pins>,
    ) -> Result<Self> {
        let attached = || format!("the program {program} cannot be attached to {tracepoint}");
        let found = ebpf
            .program_mut(program)
            .with_context(|| format!("no program {program}"))?;
        let raw: &mut RawTracePoint = found.try_into()?;
        raw.load()
            .with_context(|| format!("the kernel refuses the program {program}"))?;
        let loaded = raw.fd().with_context(attached)?;
        let loaded = loaded.as_fd().try_clone_to_owned().with_context(attached)?;
        let link = raw.attach(tracepoint).with_context(attached)?;
        let link = raw.take_link(link).with_context(attached)?;
        let link = match pins {
            None => Some(link),
            Some(pins) => {
                // Of an agent that ended in the middle of this.
                pins.remove(&next(pin));
                let next = pins.path(&next(pin));
                FdLink::from(link).pin(next).with_context(attached)?;
                None
            }
        };
        Ok(Self {
            pin: pin.to_owned(),
            program: loaded,
            _link: link,
        })
    }

    /// How often the kernel has left the program out, because it came by while the program was at work on the same processor:
    /// what an interrupt does meanwhile. 0 before Linux 5.12, which does not count it.
    pub fn left_out(&self) -> u64 {
        attached::runs_left_out(&self.program)
    }

    /// To be called once it speaks: lets the earlier agent's program go.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn settle(&self, pins: &Pins) -> Result<()> {
        let pin = &self.pin;
        pins.rename(&next(pin), pin)
            .with_context(|| format!("the program {pin} has no name to be found by"))
    }
}

/// Lets go what earlier agents have left by this name: it would go on, for nobody.
pub fn let_go(pins: &Pins, pin: &str) {
    pins.remove(&next(pin));
    pins.remove(pin);
}

/// The pin of a program that does not speak yet.
fn next(pin: &str) -> String {
    format!("next-{pin}")
}
