//! How the recording goes: written by the recorder, read by health and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wiretape_tape::Nanos;

use crate::attribution::kubernetes::Kubernetes;
use crate::capture::CaptureCounters;
use crate::events::Events;

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
    packets: AtomicU64,
    bytes: AtomicU64,
    capture: Mutex<CaptureCounters>,
    round: AtomicU64,
    moved: AtomicU64,
    stuck: AtomicBool,
    lost_by_tape: AtomicU64,
    failure: Mutex<Option<String>>,
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
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            capture: Mutex::default(),
            round: AtomicU64::new(now),
            moved: AtomicU64::new(now),
            stuck: AtomicBool::new(false),
            lost_by_tape: AtomicU64::new(0),
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
        *self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the recorder last came round.
    pub fn round(&self) -> Nanos {
        self.round.load(Ordering::Relaxed)
    }

    /// Since when packets have been seen by the capture and not come to the recorder, if that is so.
    pub fn stuck_since(&self) -> Option<Nanos> {
        self.stuck
            .load(Ordering::Relaxed)
            .then(|| self.moved.load(Ordering::Relaxed))
    }

    /// When the tape last lost a packet because it could not be written; 0 if never.
    pub fn lost_by_tape(&self) -> Nanos {
        self.lost_by_tape.load(Ordering::Relaxed)
    }

    /// Why recording has ended, if it has.
    pub fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A round is over, in which so much came.
    pub(crate) fn came_round(&self, packets: u64, bytes: u64, now: Nanos) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.round.store(now, Ordering::Relaxed);
        if packets > 0 {
            self.moved.store(now, Ordering::Relaxed);
            self.stuck.store(false, Ordering::Relaxed);
        }
    }

    /// The capture's counters were read, in a round in which nothing is left waiting.
    pub(crate) fn counted(&self, counters: CaptureCounters, now: Nanos) {
        let waiting = counters
            .seen
            .saturating_sub(counters.excluded + counters.lost() + self.packets());
        if waiting == 0 {
            self.moved.store(now, Ordering::Relaxed);
        }
        self.stuck.store(waiting > 0, Ordering::Relaxed);
        *self.capture.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// The tape has lost packets.
    pub(crate) fn tape_lost(&self, now: Nanos) {
        self.lost_by_tape.store(now, Ordering::Relaxed);
    }

    /// Recording has ended, and this is why. The first reason stands.
    pub(crate) fn failed(&self, reason: String) {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
    }
}
