//! How much of bulk is recorded whole: so much as the machine has to spare.
//!
//! To record a byte of a transfer costs more than to send it does, so a rate that nobody notices on a machine with idle
//! processors is much of what a transfer gets of a busy one.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use wiretape_agent_ebpf::choice::{ALL_BULK, BULK_TICK};
use wiretape_tape::Nanos;

/// Bytes in a second for each processor, of which that takes some two hundredths, kernel and disk included.
const OF_PROCESSOR: u64 = 24 << 20;

/// However many there are: one connection is sent by one of them, and is to notice little too.
const MOST: u64 = 192 << 20;

/// From this part of idle processors on, recording takes nothing from anybody.
const ENOUGH: f64 = 0.5;

/// At most so often is the rate halved: below that, bulk costs less than its headers do.
const HALVINGS: u32 = 4;

/// How often the processors are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// The rate that holds.
#[derive(Clone, Debug)]
pub struct BulkRate {
    /// Bytes in a second.
    most: u64,
    /// Whether it is less where processors are busy: not if somebody asked for it.
    yields: bool,
    halvings: u32,
    /// When the processors were last looked at, and how long they had been idle, all together.
    looked: Option<(Nanos, Duration)>,
}

impl BulkRate {
    /// What is asked for, or what the machine has to spare.
    pub fn new(asked: Option<u64>) -> Self {
        Self {
            most: asked.unwrap_or_else(|| (OF_PROCESSOR * processors()).min(MOST)),
            yields: asked.is_none(),
            halvings: 0,
            looked: None,
        }
    }

    /// Bytes in a second.
    pub fn now(&self) -> u64 {
        self.most >> self.halvings
    }

    /// As the programs take it.
    pub fn of_tick(&self) -> u32 {
        let bytes = (u128::from(self.now()) << BULK_TICK) / 1_000_000_000;
        u32::try_from(bytes).unwrap_or(ALL_BULK)
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: Nanos) -> bool {
        let since = |(looked, _): (Nanos, Duration)| now.saturating_sub(looked) >= LOOK.as_nanos() as Nanos;
        self.yields && self.looked.is_none_or(since)
    }

    /// Looks at how long all processors together have been idle by `now`, of the steady clock. Whether another rate holds
    /// from now on.
    ///
    /// It goes down at once, and up step by step.
    pub fn look(&mut self, idle: Duration, now: Nanos) -> bool {
        let Some((then, before)) = self.looked.replace((now, idle)) else {
            return false;
        };
        let passed = Duration::from_nanos(now.saturating_sub(then)).as_secs_f64() * processors() as f64;
        if passed <= 0.0 {
            return false;
        }
        let spare = idle.saturating_sub(before).as_secs_f64() / passed;
        let wanted = (0..HALVINGS)
            .find(|halvings| spare >= ENOUGH / f64::from(1_u32 << halvings))
            .unwrap_or(HALVINGS);
        let was = self.halvings;
        self.halvings = wanted.max(was.saturating_sub(1));
        self.halvings != was
    }
}

impl Default for BulkRate {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Those of the machine.
fn processors() -> u64 {
    let known = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    known
        .and_then(|known| u64::try_from(known).ok())
        .unwrap_or(1)
        .max(1)
}

/// How long all processors together have been idle: the second number of `/proc/uptime`, which costs little to ask.
pub fn idle() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    let seconds = text.split_whitespace().nth(1)?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks twice a second while such a share of the processors is idle.
    fn follow(rate: &mut BulkRate, from: u64, looks: u64, share: f64) -> Vec<u64> {
        let mut rates = Vec::new();
        let (_, mut idle) = rate.looked.unwrap_or_default();
        for look in from..from + looks {
            idle += LOOK.mul_f64(share * processors() as f64);
            rate.look(idle, look * LOOK.as_nanos() as Nanos);
            rates.push(rate.now());
        }
        rates
    }

    #[test]
    fn on_busy_processors_it_is_a_sixteenth_and_comes_back_step_by_step() {
        let mut rate = BulkRate::default();
        let most = rate.now();
        assert!((OF_PROCESSOR..=MOST).contains(&most));
        assert_eq!(follow(&mut rate, 1, 4, 0.9), [most; 4]);
        assert_eq!(follow(&mut rate, 5, 2, 0.01), [most / 16; 2]);
        assert_eq!(
            follow(&mut rate, 7, 5, 0.8),
            [most / 8, most / 4, most / 2, most, most]
        );
        assert_eq!(follow(&mut rate, 12, 1, 0.3), [most / 2]);
    }

    #[test]
    fn a_rate_that_is_asked_for_holds() {
        let rate = BulkRate::new(Some(1 << 20));
        assert!(!rate.is_due(0) && !rate.is_due(u64::MAX));
        assert_eq!((rate.now(), rate.of_tick()), (1 << 20, 1099));
        assert_eq!(BulkRate::new(Some(1 << 50)).of_tick(), ALL_BULK);
    }

    #[test]
    fn the_machine_tells() {
        assert!(BulkRate::default().is_due(0));
        assert!(idle().is_some());
    }
}
