//! The same workload through libpcap.

mod common;

use common::agent::Agent;
use common::packets::{self, Recorded, Segment, stream};
use common::places::{Link, RIGHT};
use common::scene::Scene;
use common::workload::{self, Workload, bytes};
use wiretape_tape::Direction;

#[test]
fn workload_process() {
    workload::main();
}

/// Records a connection on one interface of a namespace, or on all, and compares it with what was sent.
fn a_connection_is_recorded_on(interface: &str) {
    const LEN: usize = 300_000;
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
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
    // At once: an agent that is stopped first takes out what the kernel still holds.
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
fn what_was_sent_just_before_a_cut_is_in_it() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let agent = Agent::start(dir.path(), &["--backend", "pcap", "--interface", "lo"]);
    // Others talk over the loopback interface too: these are told by their length, with the headers of IP and UDP.
    const LEN: usize = 777;
    let ours = |packet: &&Recorded| packet.protocol() == Some(17) && packet.data.len() == LEN + 28;
    for round in 1..=5 {
        Workload::start(&format!("datagrams 50 {LEN}"), &cgroup.path, None).finish();
        let recorded = agent.recorded(&format!("cut-{round}"));
        // libpcap shows one end of what passes over the loopback interface.
        assert_eq!(recorded.iter().filter(ours).count(), round * 50);
    }
    assert_eq!(agent.metric("wiretape_agent_cuts_late_total"), 0);
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
