//! The agent's counters, as Prometheus reads them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use wiretape_tape::{Boundaries, Nanos, Shelf, TapeCounters};

use crate::clocks::steady_clock;
use crate::drain::Drain;
use crate::health::{Condition, Health, Length};
use crate::status::Status;

/// Longer than a disk takes for a write; Prometheus waits ten seconds for an answer unless told otherwise.
const WRITE: Duration = Duration::from_secs(1);

/// How often the tape is looked at meanwhile.
const AGAIN: Duration = Duration::from_millis(1);

/// A registry of everything the agent counts. Read from where it is counted, at the time of the question.
pub fn registry(status: Arc<Status>, shelf: Shelf, drain: Drain, length: Length) -> Registry {
    let mut registry = Registry::with_prefix("wiretape_agent");
    let backend = vec![("name", status.backend.to_owned()), ("why", status.why.clone())];
    registry.register(
        "backend",
        "Where packets come from, and why from there",
        Info::new(backend),
    );
    let seen = Mutex::new((shelf.counters(), shelf.boundaries()));
    registry.register_collector(Box::new(Counted {
        status,
        shelf,
        seen,
        drain,
        length,
    }));
    registry
}

struct Counted {
    status: Arc<Status>,
    shelf: Shelf,
    /// What the tape was like when last looked at.
    seen: Mutex<(TapeCounters, Boundaries)>,
    drain: Drain,
    length: Length,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Packets first and the capture's counters after them would show packets that nobody has seen.
        let capture = self.status.capture();
        let (tape, boundaries) = self.tape();
        let out = &mut encoder;

        counter(out, "seen", "Packets that the capture saw", capture.seen)?;
        counter(
            out,
            "seen_bytes",
            "Bytes of the packets that the capture saw",
            capture.seen_bytes,
        )?;
        counter(out, "excluded", "Packets left out by intent", capture.excluded)?;
        counter(
            out,
            "truncated",
            "Packets whose end was cut off by the capture",
            capture.truncated,
        )?;
        counter(
            out,
            "shed",
            "Packets whose end was left out because the buffer between kernel and agent filled, or to keep the budget",
            capture.shed,
        )?;
        counter(
            out,
            "untold_drops",
            "Packets that the kernel dropped while the same processor told of another: some should be on the tape",
            capture.untold_drops,
        )?;
        self.choice(out)?;
        counter(
            out,
            "packets",
            "Packets that came to the agent",
            self.status.packets(),
        )?;
        counter(
            out,
            "bytes",
            "Bytes of the packets that came to the agent",
            self.status.bytes(),
        )?;
        counter(out, "tape_packets", "Packets put onto the tape", tape.packets)?;

        let mut lost = out.encode_descriptor("lost", "Packets lost, by stage", None, MetricType::Counter)?;
        for (stage, packets) in [
            ("buffer_full", capture.lost_buffer_full),
            ("unreadable", capture.lost_unreadable),
            ("disk_full", tape.lost_disk_full),
            ("write_error", tape.lost_write_error),
        ] {
            ConstCounter::new(packets).encode(lost.encode_family(&[("stage", stage)])?)?;
        }

        self.conditions(out)?;
        counter(
            out,
            "written_bytes",
            "Bytes written into segments",
            tape.written_bytes,
        )?;
        counter(
            out,
            "direct_bytes",
            "Of those, bytes that were written past the page cache",
            tape.direct_bytes,
        )?;
        counter(
            out,
            "cut_short",
            "Packets longer than the tape takes, of which the head was put onto it",
            tape.cut_short,
        )?;
        counter(
            out,
            "vanished_files",
            "Files of the tape that someone else deleted or changed",
            tape.vanished,
        )?;
        counter(
            out,
            "vanished_packets",
            "Packets that were on the tape and went with those files",
            tape.vanished_packets,
        )?;
        counter(out, "write_errors", "Writes that failed", tape.write_errors)?;
        counter(
            out,
            "flushes",
            "Times that packets went from memory to a file",
            tape.flushes,
        )?;
        counter(out, "segments_sealed", "Segments sealed", tape.sealed)?;
        counter(
            out,
            "segments_recovered",
            "Segments that a killed run had left open",
            tape.recovered,
        )?;
        counter(
            out,
            "segments_dropped",
            "Segments dropped because the ring was full",
            tape.dropped,
        )?;
        counter(
            out,
            "segments_dropped_disk_full",
            "Segments dropped because the disk was full",
            tape.dropped_disk_full,
        )?;
        counter(
            out,
            "segments_dropped_old",
            "Segments dropped because they were older than is kept",
            tape.dropped_old,
        )?;
        counter(
            out,
            "segments_unreadable",
            "Files of the tape that could not be read when it was opened",
            tape.unreadable,
        )?;
        counter(out, "events", "Events put onto the tape", tape.events)?;
        counter(
            out,
            "events_lost",
            "Events that could not be put onto the tape",
            tape.events_lost,
        )?;
        counter(
            out,
            "names_refused",
            "Names for which the tape had no room",
            tape.names_refused,
        )?;
        counter(
            out,
            "cuts_expired",
            "Cuts that nobody released in time, or before they held too much",
            tape.cuts_expired,
        )?;

        counter(
            out,
            "cuts_late",
            "Cuts that were made though not all that had been seen was on the tape",
            self.drain.late(),
        )?;

        self.events(out)?;
        self.kubernetes(out)?;
        gauge(out, "segments", "Segments on the ring", boundaries.segments)?;
        gauge(
            out,
            "ring_bytes",
            "Bytes on the ring, as a cut gives them out",
            boundaries.bytes,
        )?;
        gauge(
            out,
            "ring_stored_bytes",
            "Bytes of the ring on disk, compressed or not",
            tape.stored_bytes,
        )?;
        gauge(
            out,
            "ring_limit_bytes",
            "Most bytes on disk, cuts included",
            self.length.ring_bytes,
        )?;
        self.reach(out)?;
        gauge(out, "ring_packets", "Packets on the ring", boundaries.packets)?;
        gauge(out, "cuts", "Cuts held", tape.cuts)?;
        gauge(
            out,
            "cut_bytes",
            "Bytes on disk that only cuts hold",
            tape.held_bytes,
        )?;
        seconds(
            out,
            "oldest_timestamp_seconds",
            "Time of the oldest packet on the ring",
            boundaries.oldest,
        )?;
        seconds(
            out,
            "newest_timestamp_seconds",
            "Time of the newest packet on the ring",
            boundaries.newest,
        )
    }
}

impl Counted {
    /// What the tape is like; what it was like before, where a write hangs: its conditions are to be told then above all.
    fn tape(&self) -> (TapeCounters, Boundaries) {
        let begun = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(now) = self.shelf.glance() {
                *seen = now;
            } else if begun.elapsed() < WRITE {
                thread::sleep(AGAIN);
                continue;
            }
            return seen.clone();
        }
    }

    /// What is left out by choice, and to keep the budget.
    fn choice(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let left_out = self.status.capture().left_out;
        let help = "Packets left out by choice or budget";
        let mut family = out.encode_descriptor("left_out", help, None, MetricType::Counter)?;
        for (by, packets) in [
            ("filter", left_out.filter),
            ("rule", left_out.rule),
            ("sample", left_out.sample),
            ("budget", left_out.budget),
        ] {
            ConstCounter::new(packets).encode(family.encode_family(&[("by", by)])?)?;
        }
        let help = "What is left out to keep the budget: 1 bodies of bulk packets, 2 all bodies, then half of the flows each";
        gauge(out, "shed_level", help, u64::from(self.status.level().number()))?;
        let shares = self.status.shares();
        let help = "What is used of the budget, where there is one";
        let mut family = out.encode_descriptor("budget_used_ratio", help, None, MetricType::Gauge)?;
        for (of, share) in [
            ("cpu", shares.cpu),
            ("disk", shares.disk),
            ("memory", shares.memory),
        ] {
            if let Some(share) = share {
                ConstGauge::new(share).encode(family.encode_family(&[("of", of)])?)?;
            }
        }
        Ok(())
    }

    /// What happened beside the packets, before it came to the tape.
    fn events(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let events = self.status.events.counters();
        let help = "Events that the kernel programs saw";
        counter(out, "events_seen", help, events.seen)?;
        let help = "Events that did not come to the tape, by stage";
        let mut left_out = out.encode_descriptor("events_left_out", help, None, MetricType::Counter)?;
        for (stage, count) in [
            ("buffer_full", events.lost_ring_full),
            ("too_many", events.lost_limited),
            ("behind", events.lost_behind),
            ("interrupted", events.untold),
        ] {
            ConstCounter::new(count).encode(left_out.encode_family(&[("stage", stage)])?)?;
        }
        Ok(())
    }

    /// Left out where there is no Kubernetes.
    fn kubernetes(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(kubernetes) = &self.status.kubernetes else {
            return Ok(());
        };
        let counters = kubernetes.counters();
        for (name, help, count) in [
            (
                "kubernetes_lists",
                "Times that the node's pods were listed",
                counters.lists,
            ),
            (
                "kubernetes_changes",
                "Changes of pods that the API server told of",
                counters.changes,
            ),
            (
                "kubernetes_errors",
                "Requests to the API server that failed",
                counters.errors,
            ),
            (
                "kubernetes_pods_beyond",
                "Pods for which there was no room",
                counters.pods_beyond,
            ),
        ] {
            counter(out, name, help, count)?;
        }
        gauge(out, "kubernetes_pods", "Pods that are known", counters.pods)
    }

    /// 1 for each condition that `/health` fails with, 0 for the others.
    fn conditions(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let health = Health::judge(&self.status, self.length, steady_clock());
        let mut family = out.encode_descriptor(
            "condition",
            "What is wrong with the recording",
            None,
            MetricType::Gauge,
        )?;
        for condition in Condition::ALL {
            let holds = i64::from(health.conditions.contains(&condition));
            ConstGauge::new(holds).encode(family.encode_family(&[("condition", condition.name())])?)?;
        }
        Ok(())
    }

    /// The rate, and what it means for how far the tape will reach back.
    fn reach(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let signs = self.status.signs();
        let rate = signs.rate;
        encode(
            ConstGauge::new(rate),
            out.encode_descriptor(
                "written_bytes_per_second",
                "Bytes written into segments each second, over some five minutes",
                None,
                MetricType::Gauge,
            )?,
        )?;
        let Some(seconds) = self.length.seconds(rate, signs.gain) else {
            return Ok(());
        };
        encode(
            ConstGauge::new(seconds),
            out.encode_descriptor(
                "expected_reach_seconds",
                "How far the tape will reach back at the present rate, compressed as it is now",
                None,
                MetricType::Gauge,
            )?,
        )
    }
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encode(
        ConstCounter::new(value),
        out.encode_descriptor(name, help, None, ConstCounter::<u64>::TYPE)?,
    )
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encode(
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)),
        out.encode_descriptor(name, help, None, MetricType::Gauge)?,
    )
}

/// Left out while there is no packet.
fn seconds(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, time: Option<Nanos>) -> fmt::Result {
    let Some(time) = time else { return Ok(()) };
    encode(
        ConstGauge::new(time as f64 / 1e9),
        out.encode_descriptor(name, help, None, MetricType::Gauge)?,
    )
}

fn encode(metric: impl EncodeMetric, encoder: MetricEncoder<'_>) -> fmt::Result {
    metric.encode(encoder)
}
