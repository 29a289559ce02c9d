//! What happens on the node beside the packets: processes that start and end, connections that fail, memory that runs out.
//!
//! In the order of an event: [`programs`] takes it out of the kernel's ring, which [`layout`] told where to look and [`reasons`] for
//! what, [`record`] reads it, [`ended`] knows whether it came before, [`limit`] holds back what would fill the tape; [`pressure`] is asked, not told.

pub mod layout;

pub mod programs;

pub mod reasons;

pub mod record;

pub mod ended;

pub mod limit;

pub mod pressure;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wiretape_tape::{Event, EventKind, Nanos};

use crate::attribution::Teller;
use crate::capture::Source;
use crate::capture::interfaces::Notices;
use crate::clocks::{since_boot, wall_clock};
use crate::own_cgroup::CgroupId;
use ended::Ended;
use limit::Limit;
use pressure::Pressure;
use programs::Programs;
use record::Happened;

/// How long the thread waits at most when nothing happens: then it counts.
const POLL: Duration = Duration::from_millis(500);

/// What is counted of events, for health and metrics.
#[derive(Debug, Default)]
pub struct Events {
    seen: AtomicU64,
    ring_full: AtomicU64,
    limited: AtomicU64,
    held_back: AtomicU64,
    untold: AtomicU64,
    teller: Option<Teller>,
    /// Why there are none.
    missing: Option<String>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounters {
    /// Events that the kernel programs saw.
    pub seen: u64,
    /// Lost because their ring was full.
    pub lost_ring_full: u64,
    /// Left out because there were too many in one second.
    pub lost_limited: u64,
    /// Lost because the attribution or the recorder was behind.
    pub lost_behind: u64,
    /// Never seen: times that the kernel left a program out, because it was at work on the same processor. Some of them were
    /// no events.
    pub untold: u64,
}

impl Events {
    /// None are recorded, and this is why.
    pub fn none(why: String) -> Self {
        Self {
            missing: Some(why),
            ..Self::default()
        }
    }

    /// Starts to watch the recorded sub-tree, at `dir` with the id `top`, on a thread of its own, beside the `source` of
    /// packets.
    ///
    /// # Errors
    /// When the kernel refuses the programs, or says not enough of itself for them.
    pub fn start(
        dir: PathBuf,
        top: CgroupId,
        excluded: &[CgroupId],
        teller: Teller,
        source: &dyn Source,
    ) -> Result<Arc<Self>> {
        let programs = Programs::load(top, excluded, source.pins().as_deref())?;
        let events = Arc::new(Self {
            teller: Some(teller.clone()),
            ..Self::default()
        });
        let watch = Watch {
            programs,
            pressure: Pressure::of(dir),
            ended: Ended::default(),
            limit: Limit::default(),
            teller,
            notices: source.notices(),
            events: Arc::clone(&events),
        };
        thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || watch.run())
            .context("the thread for events cannot be started")?;
        Ok(events)
    }

    /// Why there are none; `None` where there are.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// What was counted so far.
    pub fn counters(&self) -> EventCounters {
        EventCounters {
            seen: self.seen.load(Ordering::Relaxed),
            lost_ring_full: self.ring_full.load(Ordering::Relaxed),
            lost_limited: self.limited.load(Ordering::Relaxed) + self.held_back.load(Ordering::Relaxed),
            lost_behind: self.teller.as_ref().map_or(0, Teller::lost),
            untold: self.untold.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}

/// The thread.
struct Watch {
    programs: Programs,
    pressure: Pressure,
    ended: Ended,
    limit: Limit,
    teller: Teller,
    notices: Option<Notices>,
    events: Arc<Events>,
}

impl Watch {
    fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            if let Err(error) = self.round() {
                tracing::error!("events are not recorded any more: {error:#}");
                return;
            }
            if looked.elapsed() >= pressure::PERIOD {
                looked = Instant::now();
                let untold = self.programs.left_out();
                self.events.untold.store(untold, Ordering::Relaxed);
                for event in self.pressure.look(wall_clock()) {
                    self.keep(event);
                }
            }
        }
    }

    /// Takes out what there is.
    fn round(&mut self) -> Result<()> {
        self.programs.wait(POLL)?;
        let since_boot = since_boot()?;
        let offset = wall_clock().saturating_sub(since_boot);
        while let Some(happened) = self.programs.next(|record| record::parse(record, offset)) {
            match happened {
                Some(Happened::Made { cgroup, path, at }) => self.teller.made(cgroup, path, at),
                Some(Happened::Event(event)) => self.keep(event),
                // Of a kind that this agent does not know.
                None => {}
            }
        }
        let [seen, lost, held_back] = self.programs.counters()?;
        self.events.seen.store(seen + held_back, Ordering::Relaxed);
        self.events.ring_full.store(lost, Ordering::Relaxed);
        self.events.held_back.store(held_back, Ordering::Relaxed);
        Ok(())
    }

    fn keep(&mut self, mut event: Event) {
        if self.ended.again(&event) {
            return;
        }
        if event.process.is_empty() && event.pid != 0 {
            event.process = comm(event.pid);
        }
        if let (Some(notices), EventKind::ProcessStart) = (&self.notices, event.kind) {
            notices.started(event.pid);
        }
        if event.cgroup != 0 && event.kind == EventKind::ProcessStart {
            self.teller.started(event.cgroup, event.process.clone());
        }
        if self.limit.admits(&event) {
            self.teller.happened(event);
        } else {
            self.events.limited.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Of a process that is still there.
fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Nanoseconds as a time on the tape.
pub(crate) fn wall(since_boot: u64, offset: Nanos) -> Nanos {
    since_boot.saturating_add(offset)
}
