//! Whether the recording is to be trusted, and if not, why not.

use serde::Serialize;
use wiretape_tape::Nanos;

use crate::status::Status;

/// Longer than this the recorder never takes for a round, whatever the load; then something holds it, such as
/// a disk that does not answer.
const STALLED: Nanos = 10_000_000_000;

/// How long packets may be seen by the kernel and not come here, or come here and not be written. Both take a fraction
/// of a second.
const STUCK: Nanos = 10_000_000_000;

/// How long a loss is told of.
const LOSS_REMEMBERED: Nanos = 30_000_000_000;

/// How long it is told that the clock was set or files were changed: nobody may have looked at that moment, and all
/// that was recorded then is to be read with care.
const TAMPERING_REMEMBERED: Nanos = 300_000_000_000;

/// What can be wrong with a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// There is no recorder any more.
    RecordingEnded,
    /// It does not come round.
    RecorderStalled,
    /// The kernel sees packets, and none comes.
    NoPackets,
    /// The programs are attached no longer.
    ProgramDetached,
    /// Someone else has taken programs from an interface, or put one before them.
    InterfaceDisturbed,
    /// The buffer between kernel and agent was full.
    RingOverrun,
    /// Less is recorded than was asked for, because the buffer fills or to keep the budget.
    Shedding,
    /// Packets come, and no file grows.
    TapeNotGrowing,
    /// The disk is full.
    DiskFull,
    /// The disk refuses to be written.
    WriteError,
    /// The disk takes long.
    DiskSlow,
    /// Files of the tape were deleted or changed by someone else.
    FilesVanished,
    /// The clock was set.
    ClockJumped,
    /// The tape reaches back less far than it should, at the present rate.
    TapeShort,
}

impl Condition {
    /// All of them, in the order in which a packet meets them.
    pub const ALL: [Self; 14] = [
        Self::RecordingEnded,
        Self::RecorderStalled,
        Self::NoPackets,
        Self::ProgramDetached,
        Self::InterfaceDisturbed,
        Self::RingOverrun,
        Self::Shedding,
        Self::TapeNotGrowing,
        Self::DiskFull,
        Self::WriteError,
        Self::DiskSlow,
        Self::FilesVanished,
        Self::ClockJumped,
        Self::TapeShort,
    ];

    /// Whether a new start of the agent may mend it. What is wrong with the disk, the clock or the load is not, and a
    /// start anew would only lose packets.
    pub fn asks_for_a_new_start(self) -> bool {
        matches!(
            self,
            Self::RecordingEnded
                | Self::RecorderStalled
                | Self::NoPackets
                | Self::ProgramDetached
                | Self::TapeNotGrowing
        )
    }

    /// As it is called in `/health` and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::RecordingEnded => "recording_ended",
            Self::RecorderStalled => "recorder_stalled",
            Self::NoPackets => "no_packets",
            Self::ProgramDetached => "program_detached",
            Self::InterfaceDisturbed => "interface_disturbed",
            Self::RingOverrun => "ring_overrun",
            Self::Shedding => "shedding",
            Self::TapeNotGrowing => "tape_not_growing",
            Self::DiskFull => "disk_full",
            Self::WriteError => "write_error",
            Self::DiskSlow => "disk_slow",
            Self::FilesVanished => "files_vanished",
            Self::ClockJumped => "clock_jumped",
            Self::TapeShort => "tape_short",
        }
    }
}

/// How long the tape is, and how long it should be.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Most bytes of the ring.
    pub ring_bytes: u64,
    /// The shortest time that it should reach back, in seconds; 0 for any.
    pub shortest: u64,
}

impl Length {
    /// How far the tape will reach back at so many bytes a second, in seconds; `None` while nothing is written. `gain` is how
    /// many bytes the ring has for each that it takes of the disk.
    pub fn seconds(self, rate: f64, gain: f64) -> Option<f64> {
        // Less than a byte a second is nothing.
        (rate >= 1.0).then(|| self.ring_bytes as f64 * gain / rate)
    }
}

/// The answer to `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok` or `failing`.
    pub status: &'static str,
    /// What is wrong; empty when nothing is.
    pub conditions: Vec<Condition>,
    /// Of each condition, how it shows and what to look at.
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
    /// Judges how the recording stands at `now`, of the steady clock.
    pub fn judge(status: &Status, length: Length, now: Nanos) -> Self {
        let mut found = Vec::new();
        let mut say = |condition, reason: String| found.push((condition, reason));
        if let Some(failure) = status.failure() {
            say(
                Condition::RecordingEnded,
                format!("recording has ended: {failure}"),
            );
        } else if let Some(held) = longer_than(STALLED, status.round(), now) {
            say(
                Condition::RecorderStalled,
                format!("the recorder has not come round for {held} s: the tape's disk may not answer"),
            );
        }
        let signs = status.signs();
        if let Some(held) = longer_than(STUCK, status.moved(), now).filter(|_| signs.waiting) {
            say(
                Condition::NoPackets,
                format!("packets are seen by the kernel, but none has come to the agent for {held} s"),
            );
        }
        if signs.detached > 0 {
            say(
                Condition::ProgramDetached,
                "the kernel programs are attached no longer: someone has detached them, or the recorded cgroup was \
                 removed; start the agent again"
                    .to_owned(),
            );
        }
        let recently = |at: Nanos| now.saturating_sub(at) <= TAMPERING_REMEMBERED;
        if signs.behind > 0 {
            say(
                Condition::InterfaceDisturbed,
                format!(
                    "on {} interfaces another's program comes before the agent's: packets that it takes are not recorded \
                     there",
                    signs.behind
                ),
            );
        } else if signs.put_back.is_some_and(recently) {
            say(
                Condition::InterfaceDisturbed,
                "someone else has taken the agent's programs from an interface: what belongs to no socket is missing \
                 until they were put back"
                    .to_owned(),
            );
        }
        let lately = |sign: Option<Nanos>| sign.is_some_and(|at| now.saturating_sub(at) <= LOSS_REMEMBERED);
        if lately(signs.overrun) {
            say(
                Condition::RingOverrun,
                "packets were lost because they came faster than they were taken: give a larger --buffer-size, or \
                 record less"
                    .to_owned(),
            );
        }
        let level = status.level();
        if level.is_shedding() {
            say(
                Condition::Shedding,
                format!("to keep the budget, {level}: give more, or choose to record less"),
            );
        } else if lately(signs.shed) {
            say(
                Condition::Shedding,
                "ends of packets were left out because packets came faster than they were taken, or to keep the budget"
                    .to_owned(),
            );
        }
        if let Some(held) = signs.not_growing.and_then(|since| longer_than(STUCK, since, now)) {
            say(
                Condition::TapeNotGrowing,
                format!("packets come, but nothing has been written to the tape for {held} s"),
            );
        }
        if lately(signs.disk_full) {
            say(
                Condition::DiskFull,
                "the disk is full: the tape is shorter than asked for, or loses packets".to_owned(),
            );
        }
        if lately(signs.write_error) {
            say(
                Condition::WriteError,
                "packets are lost because the tape cannot be written: see the agent's log".to_owned(),
            );
        }
        if let Some((_, took)) = signs.slow.filter(|(at, _)| lately(Some(*at))) {
            say(
                Condition::DiskSlow,
                format!(
                    "the recorder was held up for {:.1} s: the tape's disk is slow, or there was no processor for it",
                    took.as_secs_f64()
                ),
            );
        }
        if signs.vanished.is_some_and(recently) {
            say(
                Condition::FilesVanished,
                "someone else has deleted files of the tape, or changed them: what they held is told as lost"
                    .to_owned(),
            );
        }
        if let Some((_, step)) = signs.clock_set.filter(|(at, _)| recently(*at)) {
            say(
                Condition::ClockJumped,
                format!(
                    "the clock was set by {:+.1} s: the times of packets before and after do not fit together",
                    step as f64 / 1e9
                ),
            );
        }
        if let Some(seconds) = length
            .seconds(signs.rate, signs.gain)
            .filter(|seconds| *seconds < length.shortest as f64)
        {
            say(
                Condition::TapeShort,
                format!(
                    "at the present rate of {:.0} bytes/s the tape reaches back {seconds:.0} s only: give a larger \
                     --tape-size, --compress, or a smaller --shortest-tape",
                    signs.rate
                ),
            );
        }
        let (conditions, reasons): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        Self {
            status: if conditions.is_empty() { "ok" } else { "failing" },
            conditions,
            reasons,
            node: status.node.clone(),
            backend: status.backend,
            backend_chosen: status.why.clone(),
            missing: missing(status),
        }
    }

    /// Whether nothing is wrong that a new start would mend. A tape that does not grow because its disk refuses it is not.
    pub fn is_alive(&self) -> bool {
        let has = |condition| self.conditions.contains(&condition);
        let disk = has(Condition::DiskFull) || has(Condition::WriteError);
        let mended = |condition: &Condition| {
            condition.asks_for_a_new_start() && !(disk && *condition == Condition::TapeNotGrowing)
        };
        !self.conditions.iter().any(mended)
    }

    /// Whether all is well.
    pub fn is_ok(&self) -> bool {
        self.conditions.is_empty()
    }
}

/// Names that pods would have, and events.
fn missing(status: &Status) -> Vec<String> {
    let pods = status
        .kubernetes
        .as_ref()
        .and_then(|kubernetes| kubernetes.missing());
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
    use std::time::Duration;

    use wiretape_tape::TapeCounters;

    use super::*;
    use crate::capture::{CaptureCounters, Disturbed};

    const SECOND: Nanos = 1_000_000_000;
    /// The wall's clock, when the steady one is at 0.
    const WALL: Nanos = 1_700_000_000 * SECOND;

    /// A recorder that began at second 100, and does well.
    struct Recorder {
        status: Status,
        capture: CaptureCounters,
        disturbed: Disturbed,
        tape: TapeCounters,
        second: u64,
        wall: Nanos,
    }

    impl Recorder {
        fn new() -> Self {
            let status = Status::new("node-1".to_owned(), "pcap", "asked for".to_owned(), 100 * SECOND);
            Self {
                status,
                capture: CaptureCounters::default(),
                disturbed: Disturbed::default(),
                tape: TapeCounters::default(),
                second: 100,
                wall: WALL,
            }
        }

        /// A second passes, in which so many packets come and bytes are written.
        fn pass(&mut self, packets: u64, written: u64) {
            self.second += 1;
            let now = self.second * SECOND;
            self.capture.seen += packets;
            self.tape.written_bytes += written;
            self.status.came_round(packets, packets * 100, now);
            self.status
                .counted(self.capture, self.disturbed, &self.tape, self.wall + now, now);
        }

        fn conditions(&self) -> Vec<Condition> {
            let length = Length {
                ring_bytes: 1 << 30,
                shortest: 3600,
            };
            Health::judge(&self.status, length, self.second * SECOND).conditions
        }

        /// After so many seconds in which all is well.
        fn after(mut self, seconds: u64) -> Vec<Condition> {
            (0..seconds).for_each(|_| self.pass(10, 1000));
            self.conditions()
        }
    }

    fn well() -> Recorder {
        let mut recorder = Recorder::new();
        (0..5).for_each(|_| recorder.pass(10, 1000));
        assert_eq!(recorder.conditions(), []);
        recorder
    }

    #[test]
    fn a_recorder_that_hangs_or_has_ended_is_told_of() {
        let mut recorder = well();
        recorder.second += 11;
        assert_eq!(recorder.conditions(), [Condition::RecorderStalled]);
        recorder.status.failed("the thread panicked".to_owned());
        assert_eq!(recorder.conditions(), [Condition::RecordingEnded]);
    }

    #[test]
    fn packets_that_do_not_arrive_are_told_of() {
        let mut recorder = well();
        recorder.capture.seen += 5;
        (0..10).for_each(|_| recorder.pass(0, 0));
        assert_eq!(recorder.conditions(), []);
        recorder.pass(0, 0);
        assert_eq!(recorder.conditions(), [Condition::NoPackets]);
        recorder.capture.seen -= 5;
        assert_eq!(recorder.after(1), []);
    }

    #[test]
    fn packets_that_are_not_written_are_told_of_and_an_idle_node_is_not() {
        let mut recorder = well();
        (0..60).for_each(|_| recorder.pass(0, 0));
        assert_eq!(recorder.conditions(), []);
        (0..12).for_each(|_| recorder.pass(10, 0));
        assert_eq!(recorder.conditions(), [Condition::TapeNotGrowing]);
        assert_eq!(recorder.after(1), []);
    }

    #[test]
    fn losses_are_told_of_for_a_while_each_by_its_cause() {
        let mut recorder = well();
        recorder.capture.lost_buffer_full += 1;
        recorder.capture.seen += 1;
        recorder.tape.dropped_disk_full += 1;
        recorder.tape.lost_write_error += 1;
        recorder.pass(10, 1000);
        let lost = [Condition::RingOverrun, Condition::DiskFull, Condition::WriteError];
        assert_eq!(recorder.conditions(), lost);
        assert_eq!(recorder.after(31), []);
    }

    #[test]
    fn what_is_left_out_for_want_of_room_is_told_of_for_a_while_and_asks_for_no_new_start() {
        let mut recorder = well();
        recorder.capture.shed += 1;
        recorder.pass(10, 1000);
        assert_eq!(recorder.conditions(), [Condition::Shedding]);
        assert!(!Condition::Shedding.asks_for_a_new_start());
        assert_eq!(recorder.after(31), []);
    }

    #[test]
    fn what_is_left_out_by_choice_is_not_waited_for() {
        let mut recorder = well();
        recorder.capture.left_out.filter += 5;
        recorder.capture.seen += 5;
        (0..20).for_each(|_| recorder.pass(0, 0));
        assert_eq!(recorder.conditions(), []);
    }

    #[test]
    fn a_slow_disk_is_told_of_for_a_while() {
        let recorder = well();
        recorder
            .status
            .took(Duration::from_millis(900), recorder.second * SECOND);
        assert_eq!(recorder.conditions(), []);
        recorder
            .status
            .took(Duration::from_secs(2), recorder.second * SECOND);
        assert_eq!(recorder.conditions(), [Condition::DiskSlow]);
        assert_eq!(recorder.after(31), []);
    }

    #[test]
    fn a_clock_that_is_set_either_way_is_told_of_longer() {
        for step in [-3600, 3600] {
            let mut recorder = well();
            recorder.wall = recorder.wall.saturating_add_signed(step * SECOND.cast_signed());
            recorder.pass(10, 1000);
            assert_eq!(recorder.conditions(), [Condition::ClockJumped]);
            (0..299).for_each(|_| recorder.pass(10, 1000));
            assert_eq!(recorder.conditions(), [Condition::ClockJumped]);
            assert_eq!(recorder.after(2), []);
        }
    }

    #[test]
    fn files_that_vanish_are_told_of_longer() {
        let mut recorder = well();
        recorder.tape.vanished += 1;
        recorder.pass(10, 1000);
        assert_eq!(recorder.conditions(), [Condition::FilesVanished]);
        assert_eq!(recorder.after(301), []);
    }

    #[test]
    fn programs_taken_from_an_interface_are_told_of_longer_and_one_before_them_while_it_is_there() {
        let mut recorder = well();
        recorder.disturbed.put_back += 1;
        recorder.pass(10, 1000);
        assert_eq!(recorder.conditions(), [Condition::InterfaceDisturbed]);
        (0..301).for_each(|_| recorder.pass(10, 1000));
        assert_eq!(recorder.conditions(), []);
        recorder.disturbed.behind = 1;
        (0..301).for_each(|_| recorder.pass(10, 1000));
        assert_eq!(recorder.conditions(), [Condition::InterfaceDisturbed]);
        recorder.disturbed.behind = 0;
        assert_eq!(recorder.after(1), []);
    }

    #[test]
    fn a_burst_does_not_make_the_tape_short_and_a_lasting_rate_does() {
        // At 1 MB/s, a tape of 1 GiB reaches back 18 minutes.
        let mut recorder = well();
        (0..30).for_each(|_| recorder.pass(1000, 1_000_000));
        assert_eq!(recorder.conditions(), []);
        (0..270).for_each(|_| recorder.pass(1000, 1_000_000));
        assert_eq!(recorder.conditions(), [Condition::TapeShort]);
        // Compressed to a quarter, it reaches back an hour and more.
        (recorder.tape.stored_bytes, recorder.tape.plain_bytes) = (250_000_000, 1_000_000_000);
        recorder.pass(1000, 1_000_000);
        assert_eq!(recorder.conditions(), []);
        (recorder.tape.stored_bytes, recorder.tape.plain_bytes) = (0, 0);
        recorder.pass(1000, 1_000_000);
        assert_eq!(recorder.conditions(), [Condition::TapeShort]);
        assert_eq!(recorder.after(600), []);
    }

    #[test]
    fn conditions_are_called_the_same_everywhere() {
        for condition in Condition::ALL {
            assert_eq!(serde_json::to_value(condition).unwrap(), condition.name());
        }
    }
}
