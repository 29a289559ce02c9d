//! How the recording goes: written by the recorder, read by health and metrics.
//!
//! All times here are of the steady clock, unless they are said to be the wall's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wiretape_tape::{Nanos, Recorded, Recording, TapeCounters};

use crate::attribution::kubernetes::Kubernetes;
use crate::capture::{CaptureCounters, Disturbed};
use crate::choice::budget::{Level, Shares};
use crate::events::Events;
use crate::kernel::attached::Links;

/// A clock that gains or loses more than this between two counts was set: slewing makes half a millisecond of it.
const JUMP: i64 = 1_000_000_000;

/// A round of the recorder that takes longer, waiting apart, is slow: it takes milliseconds.
pub const SLOW: Duration = Duration::from_secs(1);

/// Over how long the rate is taken. A burst of some seconds does not make the tape short.
const RATE_OVER: f64 = 300.0;

/// Shared between the recorder and whoever wants to know.
#[derive(Debug)]
pub struct Status {
    /// The node.
    pub node: String,
    /// `ebpf`, `pcap` or `replay`.
    pub backend: &'static str,
    /// Why that one.
    pub why: String,
    /// Who tells of pods, if anybody does.
    pub kubernetes: Option<Kubernetes>,
    /// What happens beside the packets.
    pub events: Arc<Events>,
    recorded: Mutex<Told>,
    packets: AtomicU64,
    bytes: AtomicU64,
    round: AtomicU64,
    moved: AtomicU64,
    state: Mutex<State>,
    failure: Mutex<Option<String>>,
}

/// What is recorded, as the recorder tells.
#[derive(Clone, Debug, Default)]
struct Told {
    recording: Recording,
    since: Nanos,
    level: Level,
    shares: Shares,
}

/// What is looked at once a second.
#[derive(Clone, Debug, Default)]
struct State {
    capture: CaptureCounters,
    tape: TapeCounters,
    disturbed: Disturbed,
    packets: u64,
    counted: Nanos,
    /// The wall's clock minus the steady one.
    offset: i64,
    links: Links,
    signs: Signs,
}

/// Signs of trouble. A time is when one was last seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signs {
    /// The capture has seen packets that have not come to the recorder; since when is in `moved`.
    pub waiting: bool,
    /// Packets came, and nothing was written: since when.
    pub not_growing: Option<Nanos>,
    /// The buffer between kernel and agent was full.
    pub overrun: Option<Nanos>,
    /// The disk was full: packets were lost, or segments gave way.
    pub disk_full: Option<Nanos>,
    /// Packets were lost because writing failed.
    pub write_error: Option<Nanos>,
    /// A round was slow, and how long it took.
    pub slow: Option<(Nanos, Duration)>,
    /// The wall's clock was set, and by how much.
    pub clock_set: Option<(Nanos, i64)>,
    /// Someone else deleted or changed files of the tape.
    pub vanished: Option<Nanos>,
    /// Ends of packets, or flows, were left out because the buffer filled or to keep the budget.
    pub shed: Option<Nanos>,
    /// Programs that are no longer attached, though the agent has not let go of them.
    pub detached: usize,
    /// Programs on interfaces that someone else had taken off were put back.
    pub put_back: Option<Nanos>,
    /// Interfaces on which another's program comes before ours.
    pub behind: u64,
    /// Bytes written per second.
    pub rate: f64,
    /// Bytes on the ring for each that it takes of the disk: more than 1 where sealed segments are compressed.
    pub gain: f64,
}

impl Status {
    /// Of a recorder that starts at `now`.
    pub fn new(node: String, backend: &'static str, why: String, now: Nanos) -> Self {
        Self {
            node,
            backend,
            why,
            kubernetes: None,
            events: Arc::default(),
            recorded: Mutex::default(),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            round: AtomicU64::new(now),
            moved: AtomicU64::new(now),
            state: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Packets handed to the tape.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes of those packets.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What the capture has counted, as of at most a second ago.
    pub fn capture(&self) -> CaptureCounters {
        self.state().capture
    }

    /// When the recorder last came round.
    pub fn round(&self) -> Nanos {
        self.round.load(Ordering::Relaxed)
    }

    /// When a packet last came, or none was waiting.
    pub fn moved(&self) -> Nanos {
        self.moved.load(Ordering::Relaxed)
    }

    /// What has been seen of trouble.
    pub fn signs(&self) -> Signs {
        self.state().signs.clone()
    }

    /// Why recording has ended, if it has.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is recorded, and what is left out of it.
    pub fn recorded(&self) -> Recorded {
        let capture = self.capture();
        let told = self.told();
        Recorded {
            recording: told.recording.clone(),
            since: told.since,
            shedding: if told.level.is_shedding() {
                told.level.to_string()
            } else {
                String::new()
            },
            left_out: capture.left_out.total(),
            shortened: capture.truncated,
        }
    }

    /// What the budget leaves out.
    pub fn level(&self) -> Level {
        self.told().level
    }

    /// What is used of it.
    pub fn shares(&self) -> Shares {
        self.told().shares
    }

    /// Something else is recorded, since this time of the wall's clock.
    pub(crate) fn records(&self, recording: Recording, since: Nanos) {
        let mut told = self.told();
        if told.recording != recording || told.since == 0 {
            (told.recording, told.since) = (recording, since);
        }
    }

    /// So much is left out to keep the budget.
    pub(crate) fn sheds(&self, level: Level, shares: Shares) {
        let mut told = self.told();
        (told.level, told.shares) = (level, shares);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A round is over, in which so much came.
    pub(crate) fn came_round(&self, packets: u64, bytes: u64, now: Nanos) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.round.store(now, Ordering::Relaxed);
        if packets > 0 {
            self.moved.store(now, Ordering::Relaxed);
            self.state().signs.waiting = false;
        }
    }

    /// So long a round took, waiting apart.
    pub(crate) fn took(&self, time: Duration, now: Nanos) {
        if time >= SLOW {
            tracing::warn!(
                ?time,
                "the recorder was held up: the disk is slow, or there was no processor for it"
            );
            self.state().signs.slow = Some((now, time));
        }
    }

    /// The counters were read, in a round in which nothing is left waiting.
    pub(crate) fn counted(
        &self,
        capture: CaptureCounters,
        disturbed: Disturbed,
        tape: &TapeCounters,
        wall: Nanos,
        now: Nanos,
    ) {
        let packets = self.packets();
        let waiting = capture.seen.saturating_sub(capture.not_handed_over() + packets) > 0;
        if !waiting {
            self.moved.store(now, Ordering::Relaxed);
        }
        let mut state = self.state();
        state.signs.waiting = waiting;
        if self.backend == "ebpf" {
            let detached = state.links.detached();
            if detached > state.signs.detached {
                tracing::error!(
                    detached,
                    "someone else has detached the agent's programs, or removed their cgroup"
                );
            }
            state.signs.detached = detached;
        }
        if disturbed.put_back > state.disturbed.put_back {
            state.signs.put_back = Some(now);
        }
        state.signs.behind = disturbed.behind;
        state.disturbed = disturbed;
        state.look(capture, tape, packets, wall, now);
    }

    /// Recording has ended, and this is why. The first reason stands.
    pub(crate) fn failed(&self, reason: String) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Compares what is counted now with what was counted before.
    fn look(&mut self, capture: CaptureCounters, tape: &TapeCounters, packets: u64, wall: Nanos, now: Nanos) {
        let offset = wall.cast_signed().wrapping_sub(now.cast_signed());
        let (was, signs) = (&self.tape, &mut self.signs);
        if self.counted > 0 {
            let step = offset.wrapping_sub(self.offset);
            if step.abs() > JUMP {
                tracing::warn!(seconds = step / 1_000_000_000, "the clock was set");
                signs.clock_set = Some((now, step));
            }
            let passed = now.saturating_sub(self.counted) as f64 / 1e9;
            if passed > 0.0 {
                let rate = tape.written_bytes.saturating_sub(was.written_bytes) as f64 / passed;
                // Forgets by the time that has passed, and begins at nothing: so a start is no burst.
                signs.rate += (rate - signs.rate) * (1.0 - (-passed / RATE_OVER).exp());
            }
        }
        signs.gain = (tape.plain_bytes as f64 / tape.stored_bytes.max(1) as f64).max(1.0);
        let mark = |sign: &mut Option<Nanos>, grown: bool| {
            if grown {
                *sign = Some(now);
            }
        };
        mark(
            &mut signs.overrun,
            capture.lost_buffer_full > self.capture.lost_buffer_full,
        );
        let shed = |counters: &CaptureCounters| counters.shed + counters.left_out.budget;
        mark(&mut signs.shed, shed(&capture) > shed(&self.capture));
        mark(
            &mut signs.disk_full,
            tape.lost_disk_full > was.lost_disk_full || tape.dropped_disk_full > was.dropped_disk_full,
        );
        mark(
            &mut signs.write_error,
            tape.lost_write_error > was.lost_write_error,
        );
        mark(&mut signs.vanished, tape.vanished > was.vanished);
        if tape.written_bytes > was.written_bytes || packets == self.packets && signs.not_growing.is_none() {
            signs.not_growing = None;
        } else {
            signs.not_growing.get_or_insert(now);
        }
        self.capture = capture;
        self.tape = tape.clone();
        self.packets = packets;
        self.counted = now;
        self.offset = offset;
    }
}
