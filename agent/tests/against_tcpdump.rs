//! What the agent records, held against what tcpdump sees on the same wire, packet by packet.
//!
//! Every packet of the wire is on the tape, once, with the cgroup of the namespace that the wire ends in. The one
//! exception is in the table of `docs/recording.md`; any other difference fails, and so does the exception if it
//! does not come true.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Agent, patience};
use common::packets::{self, RST, Recorded};
use common::places::{LEFT, Link, RIGHT, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wiretape_tape::Direction;

/// Nobody listens here.
const CLOSED: u16 = 81;

#[test]
fn workload_process() {
    workload::main();
}

#[test]
fn held_against_tcpdump() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
    let (left, right) = (cgroup.child("left"), cgroup.child("right"));
    // What holds a pod's namespace while its containers come and go.
    let mut pause = Workload::start("serve 79", &left, Some(&link.left));
    pause.said("serving");
    let (left_tape, node_tape) = (dir.path().join("left"), dir.path().join("node"));
    let path = left.to_string_lossy();
    let whole = ["--backend", "ebpf", "--bulk-rate", "1TiB"];
    let of_left = Agent::start(&left_tape, &[&whole[..], &["--cgroup", &path]].concat());
    let of_node = Agent::start(&node_tape, &whole);
    let Some(dump) = Dump::start(&link.left, &dir.path().join("wire.pcap")) else {
        return eprintln!("SKIPPED: tcpdump is not installed");
    };

    let mut server = Workload::start("serve 80", &right, Some(&link.right));
    server.said("serving");
    for role in [
        format!("visit {RIGHT}:80 100000 3"),
        format!("leave {RIGHT}:80"),
        format!("hang-up {RIGHT}:80"),
        format!("knock {RIGHT}:{CLOSED}"),
        format!("datagram {RIGHT}:{CLOSED} 5000"),
    ] {
        Workload::start(&role, &left, Some(&link.left)).finish();
    }
    for role in [
        format!("knock {LEFT}:{CLOSED}"),
        format!("datagram {LEFT}:{CLOSED} 100"),
    ] {
        Workload::start(&role, &right, Some(&link.right)).finish();
    }
    server.finish();
    pause.finish();
    // Both agents take out what waits when they stop; tcpdump does too.
    let wire = dump.stop();
    assert!(
        of_left.stop().success() && of_node.stop().success(),
        "an agent failed"
    );

    let differences = compare(&wire, &packets::read_tape(&left_tape), cgroup_id(&left));
    println!(
        "{} packets on the wire; not on the tape, and why: {differences:#?}",
        wire.len()
    );
    assert_eq!(
        differences.keys().copied().collect::<Vec<_>>(),
        [FRAGMENT],
        "what the workload brings about"
    );
    for (what, seen) in [
        (
            "a packet that is not IPv4",
            wire.iter().any(|packet| packet.protocol().is_none()),
        ),
        (
            "a packet to or from a closed port",
            wire.iter()
                .filter_map(Recorded::segment)
                .any(|segment| segment.target == CLOSED),
        ),
        ("ICMP", wire.iter().any(|packet| packet.protocol() == Some(1))),
    ] {
        assert!(
            seen,
            "{what} is not on the wire, so this test shows nothing of it"
        );
    }
    assert!(wire.len() > 100, "only {} packets on the wire", wire.len());

    // In an agent of the whole node, too, what the kernel itself sends is that of the namespace, and there once.
    let sent: Vec<_> = packets::read_tape(&node_tape)
        .into_iter()
        .filter(|packet| packet.is_from(LEFT) && packet.direction == Direction::Out)
        .collect();
    let resets: Vec<u64> = sent
        .iter()
        .filter(|packet| {
            packet
                .segment()
                .is_some_and(|segment| segment.source == CLOSED && segment.flags & RST != 0)
        })
        .map(|packet| packet.cgroup)
        .collect();
    assert_eq!(resets, [cgroup_id(&left)], "the reset for the closed port");
    let errors: Vec<u64> = sent
        .iter()
        .filter(|packet| packet.protocol() == Some(1))
        .map(|packet| packet.cgroup)
        .collect();
    assert_eq!(errors, [cgroup_id(&left)], "the ICMP error");
}

const FRAGMENT: &str = "fragment of what a socket sends, recorded as one packet";

/// Pairs each packet of the wire with one of the tape, byte by byte, and explains those that are left over.
/// Panics at one that cannot be explained.
fn compare(wire: &[Recorded], tape: &[Recorded], cgroup: u64) -> BTreeMap<&'static str, usize> {
    let mut unpaired: HashMap<&[u8], Vec<&Recorded>> = HashMap::new();
    for packet in tape {
        unpaired.entry(&packet.data).or_default().push(packet);
    }
    let mut differences = BTreeMap::new();
    for packet in wire {
        let Some(recorded) = unpaired.get_mut(packet.data.as_slice()).and_then(Vec::pop) else {
            let why = explain(packet).unwrap_or_else(|| panic!("not on the tape: {packet:02x?}"));
            *differences.entry(why).or_default() += 1;
            continue;
        };
        // A frame to all that hear it is nobody's; which of ARP and IPv6 are, the wire does not say here.
        let nobodys = packet.protocol().is_none() && recorded.direction == Direction::In;
        assert!(
            recorded.cgroup == cgroup || nobodys && recorded.cgroup == 0,
            "of {}: {packet:02x?}",
            recorded.cgroup
        );
        // Of what is not IPv4 the wire does not say.
        if packet.protocol().is_some() {
            let direction = if packet.is_from(LEFT) {
                Direction::Out
            } else {
                Direction::In
            };
            assert_eq!(recorded.direction, direction, "{packet:02x?}");
        }
    }
    // Before tcpdump began there was only what the kernels say to each other: ARP and IPv6.
    let left_over = unpaired.values().flatten();
    let only_on_tape: Vec<_> = left_over.filter(|packet| packet.protocol().is_some()).collect();
    assert!(
        only_on_tape.len() == 1 && only_on_tape.iter().all(|packet| packet.data.len() == 5028),
        "only the datagram that was to be fragmented is not on the wire as it is: {only_on_tape:02x?}"
    );
    differences
}

/// The hook on sockets sees a datagram before it is cut into fragments.
fn explain(packet: &Recorded) -> Option<&'static str> {
    (packet.protocol().is_some() && packet.is_fragment() && packet.is_from(LEFT)).then_some(FRAGMENT)
}

/// A tcpdump that writes to a file.
struct Dump {
    child: Child,
    file: std::path::PathBuf,
}

impl Dump {
    fn start(namespace: &str, file: &Path) -> Option<Self> {
        let there = Command::new("tcpdump")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        there.ok()?;
        let child = Command::new("ip")
            .args([
                "netns", "exec", namespace, "tcpdump", "-i", "wire", "-U", "-B", "16384", "-Z", "root", "-w",
            ])
            .arg(file)
            .stderr(Stdio::null())
            .spawn()
            .expect("tcpdump starts");
        let dump = Self {
            child,
            file: file.to_owned(),
        };
        // It writes the file's head once it listens.
        let deadline = Instant::now() + patience();
        while !std::fs::metadata(&dump.file).is_ok_and(|file| file.len() >= 24) {
            assert!(Instant::now() < deadline, "tcpdump does not begin");
            thread::sleep(Duration::from_millis(20));
        }
        Some(dump)
    }

    fn stop(mut self) -> Vec<Recorded> {
        // What came last lies in the kernel's block for up to a second.
        thread::sleep(Duration::from_millis(1500));
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).expect("tcpdump runs");
        self.child.wait().expect("tcpdump ends");
        packets::read(&self.file)
    }
}
