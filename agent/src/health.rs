//! Whether the recording is to be trusted, and if not, why not.

use serde::Serialize;
use wiretape_tape::Nanos;

use crate::status::Status;

/// Longer than this the recorder never takes for a round, whatever the load; then something holds it, such as
/// a disk that does not answer.
const STALLED: Nanos = 10_000_000_000;

/// How long packets may be seen by the kernel and not come here. They come after a fraction of a second.
const STUCK: Nanos = 10_000_000_000;

/// How long a loss at the tape is told of.
const LOSS_REMEMBERED: Nanos = 30_000_000_000;

/// The answer to `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// Why it fails; empty when it does not.
    pub reasons: Vec<String>,
    /// The node.
    pub node: String,
    /// Where packets come from.
    pub backend: &'static str,
    /// Why from there.
    pub backend_chosen: String,
    /// What is not known beside the packets, and why. Recording does not fail by it.
    pub missing: Vec<String>,
}

impl Health {
    /// Judges how the recording stands at `now`.
    pub fn judge(status: &Status, now: Nanos) -> Self {
        let mut reasons = Vec::new();
        if let Some(failure) = status.failure() {
            reasons.push(format!("recording has ended: {failure}"));
        } else if let Some(held) = longer_than(STALLED, status.round(), now) {
            reasons.push(format!(
                "the recorder has not come round for {held} s: the tape's disk may not answer"
            ));
        }
        if let Some(held) = status
            .stuck_since()
            .and_then(|since| longer_than(STUCK, since, now))
        {
            reasons.push(format!(
                "packets are seen by the kernel, but none has come to the agent for {held} s"
            ));
        }
        if status.lost_by_tape() > 0 && longer_than(LOSS_REMEMBERED, status.lost_by_tape(), now).is_none() {
            reasons
                .push("packets are lost because the tape cannot be written: see the agent's log".to_owned());
        }
        Self {
            status: if reasons.is_empty() { "ok" } else { "failing" },
            reasons,
            node: status.node.clone(),
            backend: status.backend,
            backend_chosen: status.why.clone(),
            missing: missing(status, now),
        }
    }

    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// Names that pods would have, and events.
fn missing(status: &Status, now: Nanos) -> Vec<String> {
    let pods = status
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.missing(now));
    let events = status
        .events
        .missing()
        .map(|why| format!("events are not recorded: {why}"));
    pods.into_iter().chain(events).collect()
}

/// The whole seconds since `since`, if they are more than `limit`.
fn longer_than(limit: Nanos, since: Nanos, now: Nanos) -> Option<u64> {
    let passed = now.saturating_sub(since);
    (passed > limit).then_some(passed / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::CaptureCounters;

    const SECOND: Nanos = 1_000_000_000;

    fn status() -> Status {
        Status::new("node-1".to_owned(), "ebpf", "asked for".to_owned(), 100 * SECOND)
    }

    #[test]
    fn a_recorder_that_comes_round_is_healthy() {
        let status = status();
        status.came_round(10, 1000, 105 * SECOND);
        status.counted(
            CaptureCounters {
                seen: 12,
                excluded: 1,
                lost_buffer_full: 1,
                ..Default::default()
            },
            105 * SECOND,
        );
        assert!(Health::judge(&status, 110 * SECOND).is_ok());
    }

    #[test]
    fn a_recorder_that_hangs_or_has_ended_is_not() {
        let status = status();
        assert_eq!(Health::judge(&status, 111 * SECOND).reasons.len(), 1);
        status.failed("the thread panicked".to_owned());
        let reasons = Health::judge(&status, 111 * SECOND).reasons;
        assert_eq!(reasons, ["recording has ended: the thread panicked"]);
    }

    #[test]
    fn packets_that_do_not_arrive_are_told_of() {
        let status = status();
        let counters = CaptureCounters {
            seen: 5,
            ..Default::default()
        };
        for second in 101..=111 {
            status.came_round(0, 0, second * SECOND);
            status.counted(counters, second * SECOND);
        }
        assert!(!Health::judge(&status, 111 * SECOND).is_ok());
        status.came_round(5, 500, 112 * SECOND);
        status.counted(counters, 112 * SECOND);
        assert!(Health::judge(&status, 112 * SECOND).is_ok());
    }

    #[test]
    fn a_loss_at_the_tape_is_told_of_for_a_while() {
        let status = status();
        status.came_round(1, 1, 109 * SECOND);
        status.tape_lost(105 * SECOND);
        assert!(!Health::judge(&status, 110 * SECOND).is_ok());
        status.came_round(1, 1, 140 * SECOND);
        assert!(Health::judge(&status, 140 * SECOND).is_ok());
    }
}
