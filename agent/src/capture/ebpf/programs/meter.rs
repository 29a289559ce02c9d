//! What the programs cost this node.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use wiretape_agent_ebpf::choice::{Carried, MAX_CONNECTIONS, MAX_RULES, Rule};

/// The memory of the programs' tables, with what the kernel adds to each entry.
pub(super) const TABLES: u64 = MAX_CONNECTIONS as u64 * (ENTRY + size_of::<Carried>() as u64)
    + MAX_RULES as u64 * (ENTRY + size_of::<Rule>() as u64);

/// The kernel's own part of an entry of a hash table, its key and its place in the table.
const ENTRY: u64 = 64;

/// Processor time that the programs take. The kernel measures it when asked to, which costs some ten nanoseconds each
/// time that a program runs: so it is asked for a moment now and then, and the packets' number tells the rest.
pub(super) struct Meter {
    /// The programs' ids.
    programs: Vec<u32>,
    /// While the kernel measures: the leave to, since when, and what was counted then.
    measuring: Option<(OwnedFd, Instant, Duration, u64)>,
    per_packet: Duration,
    /// What has been told.
    taken: Duration,
    seen: u64,
}

/// How long the kernel measures at a time.
const MEASURE: Duration = Duration::from_millis(50);

/// Least packets of a measurement that says something.
const TELLING: u64 = 20;

/// What a packet takes before it is measured, or where that is not allowed (`CAP_SYS_ADMIN`).
const ASSUMED: Duration = Duration::from_nanos(500);

impl Meter {
    pub(super) fn of(ebpf: &Ebpf) -> Self {
        let ids = ebpf
            .programs()
            .filter_map(|(_, program)| Some(program.info().ok()?.id()));
        Self {
            programs: ids.collect(),
            measuring: None,
            per_packet: ASSUMED,
            taken: Duration::ZERO,
            seen: 0,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.measuring
            .as_ref()
            .is_some_and(|(_, since, ..)| since.elapsed() >= MEASURE)
    }

    /// Ends a measurement.
    pub(super) fn read(&mut self, seen: u64) {
        let Some((_leave, _, before, first)) = self.measuring.take() else {
            return;
        };
        let packets = seen.saturating_sub(first);
        if let Some(took) = self.run_time().filter(|_| packets >= TELLING) {
            self.per_packet = took.saturating_sub(before) / u32::try_from(packets).unwrap_or(u32::MAX);
        }
    }

    /// What has been taken for so many packets. Begins the next measurement.
    pub(super) fn taken(&mut self, seen: u64) -> Duration {
        let packets = seen.saturating_sub(self.seen);
        self.taken += self
            .per_packet
            .saturating_mul(u32::try_from(packets).unwrap_or(u32::MAX));
        self.seen = seen;
        if self.measuring.is_none() && packets >= TELLING {
            self.measuring = enable_stats(Stats::RunTime)
                .ok()
                .zip(self.run_time())
                .map(|(leave, before)| (leave, Instant::now(), before, seen));
        }
        self.taken
    }

    fn run_time(&self) -> Option<Duration> {
        let ours = loaded_programs()
            .filter_map(Result::ok)
            .filter(|info| self.programs.contains(&info.id()));
        let times: Vec<Duration> = ours.map(|info| info.run_time()).collect();
        (!times.is_empty()).then(|| times.into_iter().sum())
    }
}
