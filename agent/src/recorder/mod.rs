//! Captured packets -> tape: one thread, which does nothing else and waits for nobody.

mod chosen;
mod unkept;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wiretape_tape::{Loss, LossStage, Name, Nanos, Tape, TapeError};

use crate::attribution::{Attributed, ledger};
use crate::capture::{self, Capture, CaptureError, Mark, Polled};
use crate::clocks::{steady_clock, wall_clock};
use crate::drain::Drain;
use crate::status::Status;
pub use chosen::Chosen;
use unkept::Unkept;

/// How long a packet may wait in the capture's buffer.
pub const POLL: Duration = Duration::from_millis(100);

/// The same on a quiet node, which is woken for nothing else: a third of [`COUNT`]. Part of the second after which a packet can
/// be in a snapshot.
pub const QUIET_POLL: Duration = Duration::from_millis(334);

/// Time for each packet of a quiet node, at least: it has 80 in a second at most.
const QUIET: Duration = Duration::from_micros(12_500);

/// How often the recorder comes round while a cut waits for it.
const HASTE: Duration = Duration::from_millis(5);

/// How often the counters are read.
const COUNT: Duration = Duration::from_secs(1);

/// The most time for taking out what still waits when the recording stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Cgroups that are remembered as told to the attribution. The set begins anew when it is full: telling twice
/// does no harm.
const MAX_TOLD: usize = ledger::MAX_CGROUPS;

/// A recorder that runs.
pub struct Recording {
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Recording {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        capture: Box<dyn Capture>,
        tape: Tape,
        attributed: Attributed,
        chosen: Chosen,
        status: Arc<Status>,
        drain: Drain,
        quiet_poll: Duration,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = channel();
        status.records(chosen.chooser.recording().clone(), wall_clock());
        let recorder = Recorder {
            // What was lost since an earlier agent has counted.
            counted_at: capture
                .inherited()
                .map_or_else(wall_clock, |inherited| inherited.at),
            capture,
            tape,
            attributed,
            chosen,
            told_in: None,
            shed_for: "",
            shed_in: None,
            status: Arc::clone(&status),
            drain: drain.clone(),
            quiet_poll,
            draining: None,
            told: HashSet::new(),
            unkept: Unkept::default(),
            counted: None,
            lost_buffer_full: 0,
            lost_unreadable: 0,
            tape_lost: 0,
            dropped_disk_full: 0,
            tape_failed: false,
        };
        let stopping = Arc::clone(&stop);
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                // Dropped last, also by a panic: whoever waits learns of the end.
                let _end = end;
                let _alarm = Alarm { status, drain };
                recorder.run(&stopping);
            })
            .context("the recorder's thread cannot be started")?;
        Ok(Self { stop, ended })
    }

    /// Stops recording, seals the tape, and waits for that, `timeout` at most; `false` if that was not
    /// enough.
    pub fn stop(&self, timeout: Duration) -> bool {
        self.stop.store(true, Ordering::Relaxed);
        self.ended.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Releases those who wait for a recorder that has ended, and reports one that panics.
struct Alarm {
    status: Arc<Status>,
    drain: Drain,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.drain.end();
        if thread::panicking() {
            self.status
                .failed("the recorder's thread panicked: see the agent's log".to_owned());
        }
    }
}

struct Recorder {
    capture: Box<dyn Capture>,
    tape: Tape,
    attributed: Attributed,
    chosen: Chosen,
    /// Segments that had been sealed when the tape was last told what is recorded.
    told_in: Option<u64>,
    /// The limit for which something is left out, and the same of telling that.
    shed_for: &'static str,
    shed_in: Option<u64>,
    status: Arc<Status>,
    drain: Drain,
    /// See [`QUIET_POLL`].
    quiet_poll: Duration,
    /// Whom the recorder serves, and up to where.
    draining: Option<(u64, Mark)>,
    /// Cgroups that the attribution knows of.
    told: HashSet<u64>,
    unkept: Unkept,
    counted: Option<Instant>,
    /// Lost before the recorder, by stage, as told to the tape, and when that was.
    lost_buffer_full: u64,
    lost_unreadable: u64,
    counted_at: Nanos,
    /// Lost by the tape, as told to the status.
    tape_lost: u64,
    /// Segments that gave way because the disk was full, as logged.
    dropped_disk_full: u64,
    /// The tape refused packets in the last round.
    tape_failed: bool,
}

impl Recorder {
    fn run(mut self, stop: &AtomicBool) {
        if let Err(error) = capture::hurry() {
            tracing::info!(
                "a busy machine will lose more packets: the recorder's priority stays as it is: {error}"
            );
        }
        if let Err(error) = self.record(stop) {
            let error = anyhow::Error::from(error);
            tracing::error!("recording has ended: {error:#}");
            self.status.failed(format!("{error:#}"));
        }
        let status = Arc::clone(&self.status);
        if let Err(error) = self.tape.seal() {
            tracing::error!("the tape is not sealed, the next start will do it: {error}");
        }
        let capture = status.capture();
        tracing::info!(
            packets = status.packets(),
            seen = capture.seen,
            excluded = capture.excluded,
            lost = capture.lost(),
            "recording has ended"
        );
    }

    fn record(&mut self, stop: &AtomicBool) -> Result<(), CaptureError> {
        let mut poll = POLL;
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let polled = self.round(poll)?;
            let took = begun.elapsed();
            poll = match polled {
                // Of a round that was cut short, nothing can be said.
                Polled::Packets(_) if took < POLL / 2 => poll,
                Polled::Packets(handed) if QUIET.saturating_mul(handed as u32) <= took => self.quiet_poll,
                _ => POLL,
            };
        }
        if self.capture.is_kept() {
            // What waits, and what is still to come, is the next agent's.
            self.round(Duration::ZERO)?;
            self.count(wall_clock())?;
            self.capture.stop();
            // Write errors are counted by the tape, and told.
            let _ = self.tape.flush();
            self.unkept.tell_anyway();
            return self.keep(wall_clock());
        }
        let begun = Instant::now();
        // What libpcap has not handed over before it stops is gone.
        let mark = self.capture.mark()?;
        while !self.capture.is_past(&mark)? && begun.elapsed() < DRAIN {
            self.round(HASTE)?;
        }
        self.capture.stop();
        while self.round(Duration::ZERO)? != Polled::Packets(0) && begun.elapsed() < DRAIN {}
        self.count(wall_clock())
    }

    /// Takes what there is, and does what is due.
    fn round(&mut self, timeout: Duration) -> Result<Polled, CaptureError> {
        for (ifindex, name) in self.capture.new_interfaces() {
            self.tape.interface_name(ifindex, &name);
        }
        let timeout = self.hasten(timeout)?;
        let begun = Instant::now();
        let chosen = self.choose();
        let Self {
            capture,
            tape,
            attributed,
            told,
            ..
        } = self;
        let (mut packets, mut bytes, mut last_cgroup) = (0, 0, 0);
        let mut outcome = Ok(());
        let polled = capture.poll(timeout, &mut |packet| {
            // Packets come in runs, so the last cgroup spares most look-ups.
            if packet.cgroup != last_cgroup {
                last_cgroup = packet.cgroup;
                if packet.cgroup != 0 && !told.contains(&packet.cgroup) {
                    if told.len() >= MAX_TOLD {
                        told.clear();
                    }
                    if attributed.seen(packet.cgroup, packet.ts) {
                        told.insert(packet.cgroup);
                    }
                }
            }
            packets += 1;
            bytes += packet.data.len() as u64;
            // The tape counts what it cannot take.
            if let Err(error) = tape.append(packet) {
                outcome = Err(error);
            }
        })?;
        let now = wall_clock();
        self.status.came_round(packets, bytes, steady_clock());
        outcome = outcome.and(chosen);
        let names: Vec<Name> = self.attributed.names().collect();
        for name in &names {
            outcome = outcome.and(self.tape.name(name));
        }
        if let Err(error) = self.chosen.chooser.learn(&names, &mut *self.capture) {
            tracing::error!("not every cgroup has its rule: {:#}", anyhow::Error::from(error));
        }
        for event in self.attributed.events() {
            outcome = outcome.and(self.tape.event(&event));
        }
        // Not before: a cut has the names and events, too.
        if let Some((number, mark)) = self.draining
            && self.capture.is_past(&mark)?
        {
            self.drain.served(number);
            self.draining = None;
        }
        if self.counted.is_none_or(|at| at.elapsed() >= COUNT) {
            self.count(now)?;
            outcome = outcome.and(self.retell_recording());
        }
        outcome = outcome.and(self.tape.tick(now));
        if self.capture.is_kept() {
            self.keep(now)?;
        }
        self.status
            .took(begun.elapsed().saturating_sub(timeout), steady_clock());
        self.report(outcome);
        Ok(if polled == Polled::Ended && packets == 0 {
            Polled::Packets(0)
        } else {
            polled
        })
    }

    /// Tells the source what is in the files by now, so that it need not have that any longer.
    fn keep(&mut self, now: Nanos) -> Result<(), CaptureError> {
        if self.capture.is_crowded() {
            // As above.
            let _ = self.tape.flush();
        }
        let progress = self.tape.progress();
        match self.unkept.settle(self.capture.handed(), &progress) {
            Some((handed, place)) => self.capture.keep(handed, place, progress.losses_told, now),
            None => Ok(()),
        }
    }

    /// How long the next poll may wait, when cuts may be waiting, and counters are to be read.
    fn hasten(&mut self, timeout: Duration) -> Result<Duration, CaptureError> {
        if self.draining.is_some() {
            return Ok(timeout.min(HASTE));
        }
        let Some(number) = self.drain.asked() else {
            let counted = self.counted.map_or(COUNT, |at| at.elapsed());
            return Ok(timeout.min(COUNT.saturating_sub(counted)));
        };
        self.draining = Some((number, self.capture.mark()?));
        Ok(Duration::ZERO)
    }

    /// Reads the counters, and tells the tape of what was lost on the way to it.
    fn count(&mut self, now: Nanos) -> Result<(), CaptureError> {
        self.counted = Some(Instant::now());
        let counters = self.capture.counters()?;
        for (stage, lost, told) in [
            (
                LossStage::BufferFull,
                counters.lost_buffer_full,
                &mut self.lost_buffer_full,
            ),
            (
                LossStage::Unreadable,
                counters.lost_unreadable,
                &mut self.lost_unreadable,
            ),
        ] {
            let packets = lost.saturating_sub(*told);
            if packets > 0 {
                tracing::warn!(packets, ?stage, "packets lost before they came to the agent");
                let (since, until) = (self.counted_at.min(now), now);
                self.tape.lost_at(Loss {
                    stage,
                    since,
                    until,
                    packets,
                });
                *told = lost;
            }
        }
        self.counted_at = now;
        let tape = self.tape.shelf().counters();
        let disturbed = self.capture.disturbed();
        self.status
            .counted(counters, disturbed, &tape, now, steady_clock());
        let tape_lost = tape.lost_disk_full + tape.lost_write_error;
        if tape_lost > self.tape_lost {
            tracing::error!(
                packets = tape_lost - self.tape_lost,
                "packets lost because the tape cannot be written"
            );
            self.tape_lost = tape_lost;
        }
        if tape.dropped_disk_full > self.dropped_disk_full {
            let segments = tape.dropped_disk_full - self.dropped_disk_full;
            tracing::warn!(segments, "the disk is full, the tape is shorter than asked for");
            self.dropped_disk_full = tape.dropped_disk_full;
        }
        Ok(())
    }

    /// Logs when the tape begins to fail and when it recovers, not each packet that it refuses.
    fn report(&mut self, outcome: Result<(), TapeError>) {
        match (outcome, self.tape_failed) {
            (Err(error), false) => {
                tracing::error!("the tape cannot be written, going on and counting: {error}");
                self.tape_failed = true;
            }
            (Ok(()), true) => {
                tracing::info!("the tape can be written again");
                self.tape_failed = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use wiretape_agent_ebpf::choice::{Choice, Rule};
    use wiretape_tape::{Event, Packet, TapeOptions};

    use super::*;
    use crate::capture::{CaptureCounters, Source, Waker};
    use crate::choice::Chooser;
    use crate::choice::budget::Budget;
    use crate::choice::budget::Keeper;
    use crate::choice::desk::Desk;

    /// Names that one round finds: writing them takes longer than a thread to wake.
    const NAMES: u64 = 20_000;

    /// Longer than any test waits for what does come.
    const LONG: Duration = Duration::from_secs(30);

    /// No packet comes by.
    struct Quiet;

    impl Source for Quiet {
        fn poll(&mut self, _: Duration, _: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
            thread::sleep(HASTE);
            Ok(Polled::Packets(0))
        }

        fn mark(&mut self) -> Result<Mark, CaptureError> {
            Ok(Mark::of(0))
        }

        fn is_past(&mut self, _: &Mark) -> Result<bool, CaptureError> {
            Ok(true)
        }

        fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
            Ok(CaptureCounters::default())
        }

        fn new_interfaces(&mut self) -> Vec<(u32, String)> {
            Vec::new()
        }

        fn stop(&mut self) {}
    }

    impl Capture for Quiet {
        fn choose(&mut self, _: &Choice) -> Result<(), CaptureError> {
            Ok(())
        }

        fn rule(&mut self, _: u64, _: Option<Rule>) -> Result<(), CaptureError> {
            Ok(())
        }
    }

    #[test]
    fn a_cut_has_the_names_and_events_that_were_found_when_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let tape = Tape::open(TapeOptions::new(dir.path(), "node-1", "wiretape-agent"), 1).unwrap();
        let shelf = tape.shelf();
        let drain = Drain::new(Waker::new().unwrap());
        let names = (1..=NAMES).map(|cgroup| Name {
            since: 1,
            cgroup,
            ..Name::default()
        });
        let event = Event {
            at: 2,
            ..Event::default()
        };
        let (chooser, keeper) = (Chooser::default(), Keeper::new(Budget::default()));
        let (_desk, orders) = Desk::new(chooser.recording().clone(), Waker::new().unwrap());
        let asking = drain.clone();
        let asked = thread::spawn(move || {
            let served = asking.wait(LONG);
            (served, shelf.names().len() as u64, shelf.counters().events)
        });
        while drain.asked().is_none() {
            thread::yield_now();
        }
        let recording = Recording::start(
            Box::new(Quiet),
            tape,
            Attributed::of(names, [event]),
            Chosen {
                chooser,
                orders,
                keeper,
            },
            Arc::new(Status::new("node-1".to_owned(), "none", String::new(), 1)),
            drain,
            QUIET_POLL,
        )
        .unwrap();
        assert_eq!(asked.join().unwrap(), (true, NAMES, 1));
        assert!(recording.stop(LONG));
    }
}
