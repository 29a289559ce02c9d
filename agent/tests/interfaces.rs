//! Packets that no socket sends or receives, on the interfaces of recorded namespaces.

mod common;

use common::agent::Agent;
use common::packets::{RST, Recorded, SYN};
use common::places::{Cgroup, LEFT, Link, cgroup_id};
use common::workload::{self, Workload};
use wiretape_tape::Direction;

/// Nobody listens here.
const CLOSED: u16 = 81;

#[test]
fn workload_process() {
    workload::main();
}

/// Direction, flags and cgroup of what was recorded of the closed port.
fn of_closed_port(recorded: &[Recorded]) -> Vec<(Direction, u8, u64)> {
    let segments = recorded
        .iter()
        .filter_map(|packet| Some((packet, packet.segment()?)));
    segments
        .filter(|(_, segment)| segment.source == CLOSED || segment.target == CLOSED)
        .map(|(packet, segment)| (packet.direction, segment.flags & (SYN | RST), packet.cgroup))
        .collect()
}

#[test]
fn a_namespace_that_comes_later_is_followed() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup, link) = (tempfile::tempdir().expect("a folder"), Cgroup::new(), Link::new());
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()],
    );
    let pod = cgroup.child("pod");
    let mut pause = Workload::start("serve 79", &pod, Some(&link.left));
    pause.said("serving");
    agent.logged("recording on an interface");
    agent.wait_for("an owner", |agent| {
        // From outside the recorded sub-tree.
        let outside = Cgroup::new();
        Workload::start(
            &format!("knock {LEFT}:{CLOSED}"),
            &outside.path,
            Some(&link.right),
        )
        .finish();
        let recorded = agent.recorded("some");
        let of_port = of_closed_port(&recorded);
        of_port.ends_with(&[
            (Direction::In, SYN, cgroup_id(&pod)),
            (Direction::Out, RST, cgroup_id(&pod)),
        ])
    });
    pause.finish();
}

#[test]
fn interfaces_are_left_alone_when_told_so() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup, link) = (tempfile::tempdir().expect("a folder"), Cgroup::new(), Link::new());
    let pod = cgroup.child("pod");
    let mut pause = Workload::start("serve 79", &pod, Some(&link.left));
    pause.said("serving");
    let of_pod = cgroup.path.to_string_lossy();
    let flags = ["--backend", "ebpf", "--cgroup", &of_pod, "--interfaces", "none"];
    let agent = Agent::start(dir.path(), &flags);
    Workload::start(
        &format!("knock {LEFT}:{CLOSED}"),
        &cgroup.child("client"),
        Some(&link.right),
    )
    .finish();
    pause.finish();
    agent.settle();
    // The client's end only: its sockets are recorded, the closed port has none.
    let client = cgroup_id(&cgroup.path.join("client"));
    assert_eq!(
        of_closed_port(&agent.recorded("all")),
        [(Direction::Out, SYN, client), (Direction::In, RST, client)]
    );
}
