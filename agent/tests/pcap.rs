//! The same workload through libpcap.

mod common;

use common::agent::Agent;
use common::packets::{self, Segment, stream};
use common::places::{Cgroup, Link, RIGHT};
use common::workload::{self, Workload, bytes};
use wiretape_tape::Direction;

#[test]
fn workload_process() {
    workload::main();
}

/// Records a connection on one interface of a namespace, or on all, and compares it with what was sent.
fn a_connection_is_recorded_on(interface: &str) {
    if common::cannot_record() {
        return;
    }
    const LEN: usize = 300_000;
    let (dir, cgroup, link) = (tempfile::tempdir().expect("a folder"), Cgroup::new(), Link::new());
    let agent = Agent::start_in(
        &link.left,
        dir.path(),
        &["--backend", "pcap", "--interface", interface],
    );
    let mut server = Workload::start("serve 80", &cgroup.path, Some(&link.right));
    server.said("serving");
    Workload::start(
        &format!("visit {RIGHT}:80 {LEN} 1"),
        &cgroup.path,
        Some(&link.left),
    )
    .finish();
    server.finish();
    // The kernel hands blocks over every 100 ms.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(agent.stop().success());

    let recorded = packets::read_tape(dir.path());
    let segments = |direction: Direction| -> Vec<Segment> {
        let packets = recorded.iter().filter(|packet| packet.direction == direction);
        packets.filter_map(|packet| packet.segment()).collect()
    };
    let (sent, received) = (segments(Direction::Out), segments(Direction::In));
    let client = sent.first().expect("a segment").source;
    assert!(
        stream(&sent, client, 80).get(8..) == Some(bytes(1, LEN).as_slice()),
        "what the client sent differs"
    );
    assert!(
        stream(&received, 80, client) == bytes(2, LEN),
        "what the client received differs"
    );
    assert!(
        recorded
            .iter()
            .all(|packet| packet.cgroup == 0 && packet.cookie == 0),
        "libpcap knows no sockets"
    );
}

#[test]
fn a_connection_is_recorded_on_one_interface() {
    a_connection_is_recorded_on("wire");
}

#[test]
fn a_connection_is_recorded_on_all_interfaces() {
    a_connection_is_recorded_on("any");
}

#[test]
fn an_interface_that_is_not_there_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
        .args([
            "--backend",
            "pcap",
            "--interface",
            "nowhere0",
            "--listen",
            "127.0.0.1:0",
            "--tape",
        ])
        .arg(dir.path())
        .output()
        .expect("the agent starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("nowhere0"), "{said}");
}
