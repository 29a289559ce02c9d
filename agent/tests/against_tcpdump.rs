//! What the agent records, held against what tcpdump sees on the same wire, packet by packet.
//!
//! The table in `docs/recording.md` says which packets the hooks cannot see. This test holds every difference
//! against it: one that is not in the table fails, and so does a row of the table that does not come true.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Agent, PATIENCE};
use common::packets::{self, ACK, FIN, RST, Recorded, SYN};
use common::places::{Cgroup, LEFT, Link, RIGHT, cgroup_id};
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
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup, link) = (tempfile::tempdir().expect("a folder"), Cgroup::new(), Link::new());
    let (left, right) = (cgroup.child("left"), cgroup.child("right"));
    let (left_tape, node_tape) = (dir.path().join("left"), dir.path().join("node"));
    let of_left = Agent::start(
        &left_tape,
        &["--backend", "ebpf", "--cgroup", &left.to_string_lossy()],
    );
    let of_node = Agent::start(&node_tape, &["--backend", "ebpf"]);
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
    let rows: Vec<&str> = differences
        .keys()
        .copied()
        .filter(|row| !AT_TIMES.contains(row))
        .collect();
    assert_eq!(rows, ALWAYS);
    assert!(wire.len() > 100, "only {} packets on the wire", wire.len());

    // An agent of the whole node also has what the kernel itself sends, under the root cgroup.
    let sent_by_kernel: Vec<_> = packets::read_tape(&node_tape)
        .into_iter()
        .filter(|packet| packet.is_from(LEFT) && packet.direction == Direction::Out)
        .filter(|packet| packet.cgroup != cgroup_id(&left))
        .collect();
    let resets = sent_by_kernel
        .iter()
        .filter_map(Recorded::segment)
        .filter(|segment| segment.source == CLOSED);
    assert_eq!(resets.count(), 1, "the reset for the closed port");
    assert_eq!(
        sent_by_kernel
            .iter()
            .filter(|packet| packet.protocol() == Some(1))
            .count(),
        1,
        "the ICMP error"
    );
}

const NOT_IP: &str = "not IP (ARP)";
const KERNELS_IPV6: &str = "IPv6 housekeeping of the kernel";
const FRAGMENT: &str = "fragment, recorded as one packet";
const CLOSED_PORT: &str = "to a closed port";
const CLOSED_PORT_RESET: &str = "reset from a closed port";
const ICMP_ERROR: &str = "ICMP error";
const TIME_WAIT: &str = "to or from a connection in TIME_WAIT";

const AFTER_RESET: &str = "of a connection that was reset before";

/// What the workload brings about, in order of the alphabet.
const ALWAYS: [&str; 6] = [
    ICMP_ERROR,
    FRAGMENT,
    NOT_IP,
    CLOSED_PORT_RESET,
    CLOSED_PORT,
    TIME_WAIT,
];

/// What depends on the moment: when the kernel announces its addresses, and what was on its way when a reset
/// was sent.
const AT_TIMES: [&str; 2] = [KERNELS_IPV6, AFTER_RESET];

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
            let why = explain(packet, wire).unwrap_or_else(|| panic!("not on the tape: {packet:02x?}"));
            *differences.entry(why).or_default() += 1;
            continue;
        };
        let direction = if packet.is_from(LEFT) {
            Direction::Out
        } else {
            Direction::In
        };
        assert_eq!(
            (recorded.direction, recorded.cgroup),
            (direction, cgroup),
            "{packet:02x?}"
        );
    }
    let only_on_tape: Vec<_> = unpaired.values().flatten().collect();
    assert!(
        only_on_tape.len() == 1 && only_on_tape.iter().all(|packet| packet.data.len() == 5028),
        "only the datagram that was to be fragmented is not on the wire as it is: {only_on_tape:02x?}"
    );
    differences
}

fn explain(packet: &Recorded, wire: &[Recorded]) -> Option<&'static str> {
    let Some(protocol) = packet.protocol() else {
        return Some(if packet.data[0] >> 4 == 6 {
            KERNELS_IPV6
        } else {
            NOT_IP
        });
    };
    if packet.is_fragment() {
        return Some(FRAGMENT);
    }
    let inbound = packet.is_from(RIGHT);
    match (protocol, packet.segment()) {
        (1, _) => Some(ICMP_ERROR),
        (17, _) if inbound && packet.data[22..24] == CLOSED.to_be_bytes() => Some(CLOSED_PORT),
        (6, Some(segment)) if inbound && segment.target == CLOSED && segment.flags == SYN => {
            Some(CLOSED_PORT)
        }
        (6, Some(segment)) if !inbound && segment.source == CLOSED && segment.flags == RST | ACK => {
            Some(CLOSED_PORT_RESET)
        }
        (6, Some(segment)) => {
            // Only the connection that the client left before the server: no byte, FIN by FIN.
            let client = if inbound { segment.target } else { segment.source };
            let of_connection = || {
                wire.iter()
                    .filter_map(Recorded::segment)
                    .filter(|other| other.source == client || other.target == client)
            };
            if of_connection().any(|other| other.source == client && other.flags & RST != 0) {
                return Some(AFTER_RESET);
            }
            let silent = of_connection().all(|other| other.payload.is_empty());
            let last = if inbound {
                segment.flags == FIN | ACK
            } else {
                segment.flags == ACK
            };
            (silent && last).then_some(TIME_WAIT)
        }
        _ => None,
    }
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
        let deadline = Instant::now() + PATIENCE;
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
