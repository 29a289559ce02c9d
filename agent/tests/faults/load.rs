//! More than can be held: sent = recorded + counted as lost, and the losses stand where and when they came about.

use std::time::{Duration, Instant};

use wiretape_tape::{LossStage, Nanos};

use crate::common::agent::Agent;
use crate::common::compile;
use crate::common::places::{Cgroup, Link, RIGHT, ip};
use crate::common::scene::Scene;
use crate::common::workload::Workload;
use crate::double::Double;
use crate::{all_numbers, long};

const SECOND: Nanos = 1_000_000_000;

/// A datagram, and what the tape takes for it as sent and as received.
const BYTES: usize = 1000;
const ON_TAPE: f64 = 2.0 * 1100.0;

/// A disk that takes a write of 256 KiB each 100 ms.
const DELAY: Duration = Duration::from_millis(100);
const CAPACITY: f64 = 262_144.0 / 0.1;

#[test]
fn at_half_to_thirty_times_what_it_can_hold_every_datagram_is_on_the_tape_or_told_as_lost() {
    for times in [0.5, 1.0, 2.0, 3.0, 30.0] {
        let Some(Scene { dir, cgroup }) = Scene::new() else {
            return;
        };
        let double = Double::new(dir.path());
        let path = cgroup.path.to_string_lossy();
        // Room for the bursts of a sender that a busy machine has held up, and much less than three times too much.
        // Each flush takes as long as a write.
        let flags = [
            &["--backend", "ebpf", "--cgroup", &path][..],
            &["--buffer-size", "2MiB", "--flush", "1s"],
        ]
        .concat();
        let agent = double.start(&dir.path().join("tape"), &flags);
        double.delay(DELAY);
        let rate = (CAPACITY / ON_TAPE * times) as usize;
        let count = rate * if long() { 20 } else { 3 };
        Workload::start(
            &format!("numbered {count} {rate} {BYTES}"),
            &cgroup.child("shop"),
            None,
        )
        .finish();
        double.delay(Duration::ZERO);
        let (seen, lost) = agent.accounts();
        assert_eq!(seen, 2 * count as u64, "each is sent and received");
        agent.wait_for("the losses on the tape", |agent| agent.boundaries().lost == lost);

        let kept = all_numbers(&agent, "all");
        let boundaries = agent.boundaries();
        assert_eq!(boundaries.packets + boundaries.lost, seen);
        let shed = agent.metric("wiretape_agent_shed_total");
        eprintln!(
            "{times} times what it can hold: {count} sent, of {seen} packets {shed} without their end, {lost} lost"
        );
        let told: u64 = boundaries.losses.iter().map(|loss| loss.packets).sum();
        assert_eq!(
            told, lost,
            "each loss with its stage and time: {:?}",
            boundaries.losses
        );
        assert!(
            boundaries
                .losses
                .iter()
                .all(|loss| loss.stage == LossStage::BufferFull)
        );
        // Where numbers are missing, there is a loss of that time.
        for pair in kept.windows(2) {
            let [(before, number), (after, next)] = pair else {
                continue;
            };
            if next - number > 1 {
                let covered = boundaries
                    .losses
                    .iter()
                    .any(|loss| loss.since <= after + 2 * SECOND && loss.until + 2 * SECOND >= *before);
                assert!(
                    covered,
                    "{number} to {next} are missing, and no loss is told of that time"
                );
            }
        }
        match times {
            0.5 => assert_eq!((shed, lost), (0, 0), "half of what it can hold is held"),
            3.0 => assert!(
                shed > 0,
                "three times what it can hold is too much: bodies go first"
            ),
            30.0 => {
                assert!(
                    lost > 0 && !kept.is_empty(),
                    "not even the heads of thirty times as much can be held"
                );
                agent.wait_for_condition("ring_overrun");
            }
            _ => {}
        }
    }
}

/// What bulk may have recorded whole in a second; a burst of it is half of the ring.
const BULK_RATE: u64 = 1 << 20;
const RING: u64 = 2 << 20;

#[test]
fn bulk_at_half_to_three_times_its_rate_is_on_the_tape_whole_or_in_heads_and_never_lost() {
    const LENGTH: u64 = 5028;
    let seconds = if long() { 30 } else { 6 };
    for times in [0.5, 1.0, 2.0, 3.0] {
        let Some(Scene { dir, cgroup }) = Scene::new() else {
            return;
        };
        let (path, ring, bulk) = (
            cgroup.path.to_string_lossy(),
            RING.to_string(),
            BULK_RATE.to_string(),
        );
        let flags = [
            &["--backend", "ebpf", "--cgroup", &path][..],
            &["--buffer-size", &ring, "--bulk-rate", &bulk],
        ]
        .concat();
        let agent = Agent::start(dir.path(), &flags);
        // Sent and received.
        let rate = (BULK_RATE as f64 * times / 2.0 / LENGTH as f64) as u64;
        let count = rate * seconds;
        let begun = Instant::now();
        Workload::start(
            &format!("numbered {count} {rate} {}", LENGTH - 28),
            &cgroup.child("shop"),
            None,
        )
        .finish();
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(agent.accounts(), (2 * count, 0), "each is sent and received");
        let recorded = agent.recorded("all");
        assert_eq!(recorded.len() as u64, 2 * count);
        let whole = recorded
            .iter()
            .filter(|packet| packet.data.len() as u64 == LENGTH)
            .count() as u64;
        let heads = recorded.iter().filter(|packet| packet.data.len() == 128).count() as u64;
        eprintln!("{times} times the rate of bulk: {whole} of {} whole", 2 * count);
        assert_eq!(whole + heads, 2 * count);
        assert_eq!(agent.metric("wiretape_agent_shed_total"), heads);
        let most = RING as f64 / 2.0 + BULK_RATE as f64 * took + LENGTH as f64;
        assert!(
            (whole * LENGTH) as f64 <= most,
            "{whole} packets are more than the rate"
        );
        if times <= 0.5 {
            assert_eq!(heads, 0, "half of the rate is recorded whole");
        }
        if times >= 3.0 {
            assert!(heads > 0, "three times the rate is too much");
        }
    }
}

#[test]
fn tiny_packets_as_fast_as_the_machine_makes_them_are_all_accounted_for() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    let seconds = if long() { 30 } else { 2 };
    let mut workload = Workload::start(&format!("flood {seconds}"), &scene.cgroup.child("shop"), None);
    let sent: u64 = workload.said("sent=").parse().expect("a number");
    workload.finish();
    let (seen, lost) = agent.accounts();
    eprintln!("{} packets a second, {lost} of {seen} lost", seen / seconds);
    assert_eq!(seen, 2 * sent);
    assert_eq!(agent.metric("wiretape_agent_truncated_total"), 0);
}

#[test]
fn connections_as_fast_as_the_machine_makes_them_are_all_accounted_for() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    let seconds = if long() { 30 } else { 2 };
    let mut workload = Workload::start(&format!("connect {seconds}"), &scene.cgroup.child("shop"), None);
    let made: u64 = workload.said("made=").parse().expect("a number");
    workload.finish();
    let (seen, lost) = agent.accounts();
    eprintln!(
        "{} connections a second, {lost} of {seen} packets lost",
        made / seconds
    );
    // SYN, SYN-ACK, ACK and what closes it, as sent and as received.
    assert!(seen >= 8 * made, "{made} connections, {seen} packets");
}

/// A pod whose interface is made to receive frames by `frames.c`, faster than any sender could send them.
struct Flooded {
    scene: Scene,
    link: Link,
    agent: Agent,
}

impl Flooded {
    fn new(flags: &[&str]) -> Option<Self> {
        let (scene, link) = (Scene::new()?, Link::new());
        let built = compile("faults/frames.c", &[], &scene.dir.path().join("frames"));
        assert!(built, "cc is installed");
        let agent = scene.agent(flags);
        // Where the ends of handshakes are that nobody has begun.
        ip(&["-n", &link.left, "route", "add", "10.97.0.0/16", "via", RIGHT]);
        Some(Self { scene, link, agent })
    }

    /// A process in the pod, once it is recorded.
    fn pod(&self, role: &str, says: &str) -> Workload {
        let mut pod = Workload::start(role, &self.scene.place("pod"), Some(&self.link.left));
        pod.said(says);
        self.agent.logged("recording on an interface");
        pod
    }

    /// Has the pod receive so many frames, and says how many it saw and lost of all that came of them.
    fn flood(&self, kind: &str, count: u64) -> (u64, u64) {
        let outside = Cgroup::new();
        let read = |what: &str| format!("$(cat /sys/class/net/wire/{what})");
        let program = self.scene.dir.path().join("frames");
        let flood = format!(
            "run {} {} {count} {kind} {}",
            program.display(),
            read("ifindex"),
            read("address")
        );
        let mut flood = Workload::start(&flood, &outside.path, Some(&self.link.left));
        let micros: u64 = flood
            .said(&format!("frames={count} us="))
            .parse()
            .expect("a number");
        flood.finish();
        let (seen, lost) = self.agent.accounts();
        let (memory, _) = self.agent.usage();
        eprintln!(
            "{} of {kind} a second; {lost} of {seen} packets lost; {} MiB of memory",
            count * 1_000_000 / micros.max(1),
            memory >> 10
        );
        assert!(memory < 128 << 10, "{memory} KiB of memory");
        (seen, lost)
    }
}

#[test]
fn tiny_packets_beyond_what_any_sender_makes_are_all_accounted_for() {
    let Some(flooded) = Flooded::new(&[]) else { return };
    let pod = flooded.pod("bind 79", "bound");
    let count = if long() { 30_000_000 } else { 1_000_000 };
    let (seen, _) = flooded.flood("datagram", count);
    // Beside them a few of neighbour discovery.
    assert!(
        (count..count + 1000).contains(&seen),
        "{seen} of {count} were seen"
    );
    pod.finish();
}

/// Each from another client: what is known of connections is bounded, and those that are known make way.
#[test]
fn handshakes_beyond_what_any_client_makes_are_all_accounted_for() {
    let Some(flooded) = Flooded::new(&["--capture", "first:1000"]) else {
        return;
    };
    let pod = flooded.pod("serve 79", "serving");
    let count = if long() { 6_000_000 } else { 300_000 };
    let (seen, _) = flooded.flood("handshake", count);
    // SYN and SYN-ACK, of which some are sent once more.
    assert!(
        (2 * count..2 * count + count / 10).contains(&seen),
        "{seen} of {count}"
    );
    pod.finish();
}
