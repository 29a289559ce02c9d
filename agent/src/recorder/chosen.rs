//! What is recorded, by choice and by budget: changed between two rounds, and told to the tape, so that whoever reads a segment knows
//! what is not in it.

use std::fs;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use wiretape_tape::{Event, EventKind, TapeError};

use super::Recorder;
use crate::choice::Chooser;
use crate::choice::budget::{Keeper, Level, Used};
use crate::choice::desk::Orders;
use crate::clocks::{steady_clock, wall_clock};

/// What is recorded, who may change it, and what it may cost.
pub struct Chosen {
    /// What is recorded.
    pub chooser: Chooser,
    /// Changes that are asked for.
    pub orders: Orders,
    /// Keeps the budget.
    pub keeper: Keeper,
}

impl Recorder {
    /// Makes the changes that are asked for, and what the budget asks for, and tells the tape.
    pub(super) fn choose(&mut self) -> Result<(), TapeError> {
        let mut outcome = Ok(());
        while let Some(order) = self.chosen.orders.next() {
            let changed = self.chosen.chooser.change(order.to.clone(), &mut *self.capture);
            if changed.is_ok() {
                outcome = outcome.and(self.tell_recording("RecordingChanged"));
            }
            order.done(changed.map_err(|error| format!("{:#}", anyhow::Error::from(error))));
        }
        let now = steady_clock();
        if let Err(error) = self.chosen.chooser.spare(now, &mut *self.capture) {
            tracing::error!("bulk is recorded as before: {:#}", anyhow::Error::from(error));
        }
        if self.chosen.keeper.is_due(now)
            && let Some((level, limit)) = self.used().and_then(|used| self.chosen.keeper.look(used, now))
        {
            if let Err(error) = self.chosen.chooser.shed(level, &mut *self.capture) {
                tracing::error!("the budget cannot be kept: {:#}", anyhow::Error::from(error));
            }
            tracing::warn!(limit, "to keep the budget, {level}");
            self.shed_for = limit;
            outcome = outcome.and(self.tell_shedding(level));
        }
        let Chosen { chooser, keeper, .. } = &self.chosen;
        self.status.sheds(chooser.level(), keeper.shares());
        outcome
    }

    /// Tells the tape what is left out to keep the budget, or that nothing is any more.
    fn tell_shedding(&mut self, level: Level) -> Result<(), TapeError> {
        let reason = if level.is_shedding() {
            "Shedding"
        } else {
            "SheddingEnded"
        };
        self.shed_in = Some(self.tape.shelf().counters().sealed);
        self.tape.event(&Event {
            at: wall_clock(),
            kind: EventKind::Recorder,
            warning: level.is_shedding(),
            reason: reason.to_owned(),
            message: format!("to keep {}, {level}", self.shed_for),
            ..Event::default()
        })
    }

    /// Processor time, bytes written and memory, as the budget counts them.
    fn used(&mut self) -> Option<Used> {
        let own = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
        let own = Duration::from_nanos(u64::try_from(own.num_nanoseconds()).ok()?);
        Some(Used {
            cpu: own + self.capture.beside().ok()?,
            disk: self.tape.shelf().counters().written_bytes,
            memory: own_memory() + self.capture.memory(),
        })
    }

    /// Tells the tape what is recorded, so that whoever reads this segment knows.
    fn tell_recording(&mut self, reason: &str) -> Result<(), TapeError> {
        let recording = self.chosen.chooser.recording();
        let (message, now) = (format!("recorded is: {recording}"), wall_clock());
        if reason == "RecordingChanged" {
            tracing::info!("{message}");
        }
        self.status.records(recording.clone(), now);
        self.told_in = Some(self.tape.shelf().counters().sealed);
        self.tape.event(&Event {
            at: now,
            kind: EventKind::Recorder,
            reason: reason.to_owned(),
            message,
            ..Event::default()
        })
    }

    /// Tells it again in every segment, unless everything is recorded whole; and what is left out to keep the budget, while
    /// anything is.
    pub(super) fn retell_recording(&mut self) -> Result<(), TapeError> {
        let sealed = self.tape.shelf().counters().sealed;
        let level = self.chosen.chooser.level();
        if level.is_shedding() && self.shed_in != Some(sealed) {
            self.tell_shedding(level)?;
        }
        if self.chosen.chooser.recording().is_everything() {
            self.told_in.get_or_insert(sealed);
            return Ok(());
        }
        if self.told_in == Some(sealed) {
            return Ok(());
        }
        self.tell_recording("Recording")
    }
}

/// Bytes of memory that this process holds, files apart.
fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
