//! Packets that no socket sends or receives, on the interfaces of recorded namespaces.

#[path = "../common/mod.rs"]
mod common;

mod others;

use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Agent, patience};
use common::packets::{RST, Recorded, SYN};
use common::places::{BpfFs, Cgroup, Firewall, LEFT, Link, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload};
use others::Others;
use wiretape_tape::{Direction, DropReason};

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
    let Some(scene) = Scene::new() else { return };
    let link = Link::new();
    let agent = scene.agent(&[]);
    let pod = scene.cgroup.child("pod");
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

/// Each in a namespace of its own, whose number the kernel gives to the next one. It lives a third of a second: a look every two
/// seconds would find hardly any.
#[test]
fn a_pod_that_lives_for_a_moment_is_seen_whole() {
    if common::cannot_record() {
        return;
    }
    const PODS: usize = 8;
    let (dir, cgroup, outside) = (
        tempfile::tempdir().expect("a folder"),
        Cgroup::new(),
        Cgroup::new(),
    );
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()],
    );
    let mut pods = Vec::new();
    for number in 0..PODS {
        let (link, pod) = (Link::new(), cgroup.child(&format!("pod-{number}")));
        let mut server = Workload::start("serve 79", &pod, Some(&link.left));
        server.said("serving");
        // It takes a client this long to find a pod that is new; a busy machine takes as long to tell of it.
        std::thread::sleep(Duration::from_millis(200));
        let knock = format!("knock {LEFT}:{CLOSED}");
        Workload::start(&knock, &outside.path, Some(&link.right)).finish();
        server.finish();
        pods.push(cgroup_id(&pod));
    }
    agent.settle();
    let of_port = of_closed_port(&agent.recorded("all"));
    let seen: Vec<_> = pods
        .iter()
        .flat_map(|pod| [(Direction::In, SYN, *pod), (Direction::Out, RST, *pod)])
        .collect();
    assert_eq!(of_port, seen);
}

#[test]
fn what_others_do_to_programs_on_interfaces_is_told_and_mended_where_it_can_be() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
    let (bpf, others) = (BpfFs::new(dir.path()), Others::new(dir.path()));
    let Some(others) = others else { return };
    let pod = cgroup.child("pod");
    let mut pause = Workload::start("serve 79", &pod, Some(&link.left));
    pause.said("serving");
    let (path, pin) = (cgroup.path.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let tape = dir.path().join("tape");
    let agent = Agent::start(&tape, &["--backend", "ebpf", "--cgroup", &path, "--pin", &pin]);
    assert_eq!(agent.conditions(), Vec::<String>::new());
    let pin_of = |way: &str| {
        let mut pins = bpf.pins().into_iter();
        let name =
            |pin: &std::path::PathBuf| pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pins.find(|pin| name(pin).starts_with("interface-") && name(pin).ends_with(way))
            .expect("an interface is recorded on")
    };

    others.take_off(&pin_of("-in"));
    agent.wait_for_condition("interface_disturbed");
    let outside = Cgroup::new();
    let knock = format!("knock {LEFT}:{CLOSED}");
    Workload::start(&knock, &outside.path, Some(&link.right)).finish();
    agent.settle();
    let both = [
        (Direction::In, SYN, cgroup_id(&pod)),
        (Direction::Out, RST, cgroup_id(&pod)),
    ];
    assert_eq!(of_closed_port(&agent.recorded("mended")), both);

    // Restarted, it has nothing to tell of; then another's program comes before its own, and goes again.
    assert!(agent.stop().success());
    let agent = Agent::start(&tape, &["--backend", "ebpf", "--cgroup", &path, "--pin", &pin]);
    assert_eq!(agent.conditions(), Vec::<String>::new());
    let pin = pin_of("-in").to_string_lossy().into_owned();
    let ifindex = pin.rsplit('-').nth(1).expect("an index").to_owned();
    let dropper = others.come_before(&link.left, &ifindex);
    agent.wait_for_condition("interface_disturbed");
    agent.logged("dropper");
    drop(dropper);
    agent.wait_for("its end", |agent| agent.conditions().is_empty());
    pause.finish();
    assert!(agent.stop().success());
    bpf.cleanup();
}

/// The interface leaves to the socket what is for one, and netfilter lets it not come there: the kernel tells of it, whether there
/// is an agent or not. One that no socket is for is recorded before netfilter has it.
#[test]
fn what_netfilter_drops_is_recorded_once_and_as_dropped_where_a_socket_waits_for_it() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
    let Some(firewall) = Firewall::new(&link.left, "input", "tcp dport { 79, 81 }") else {
        return;
    };
    let bpf = BpfFs::new(dir.path());
    let pod = cgroup.child("pod");
    let mut server = Workload::start("serve 79", &pod, Some(&link.left));
    server.said("serving");
    let (path, pin) = (cgroup.path.to_string_lossy(), bpf.0.join("wiretape"));
    let pin = pin.to_string_lossy();
    let (tape, flags) = (
        dir.path().join("tape"),
        ["--backend", "ebpf", "--cgroup", &path, "--pin", &pin],
    );
    let agent = Agent::start(&tape, &flags);
    let outside = Cgroup::new();
    // Nobody answers, so each tries for as long as it lives.
    let tries: Vec<_> = [79, CLOSED]
        .map(|port| Workload::start(&format!("knock {LEFT}:{port}"), &outside.path, Some(&link.right)))
        .into();
    agent.wait_for("packets to be dropped of each", |_| firewall.dropped() >= 2);
    agent.kill();
    let begun = Instant::now();
    while firewall.dropped() < 4 {
        assert!(begun.elapsed() < patience(), "no more tries");
        thread::sleep(Duration::from_millis(10));
    }
    let agent = Agent::start(&tape, &flags);
    agent.wait_for("more of them", |_| firewall.dropped() >= 6);
    drop(tries);
    agent.settle();
    let recorded = agent.recorded("all");
    let to = |port: u16| {
        let segments = recorded
            .iter()
            .filter_map(|packet| Some((packet.segment()?, packet)));
        let found = segments.filter(|(segment, _)| segment.target == port);
        found
            .map(|(_, packet)| (packet.direction, packet.cgroup, packet.dropped))
            .collect::<Vec<_>>()
    };
    let (of_server, of_nobody) = (to(79), to(CLOSED));
    assert_eq!(of_server.len() + of_nobody.len(), firewall.dropped());
    let pod = cgroup_id(&pod);
    let by_netfilter = Some(DropReason::of("NETFILTER_DROP"));
    assert!(of_server.len() > 1 && of_nobody.len() > 1);
    assert!(
        of_server
            .iter()
            .all(|packet| *packet == (Direction::In, pod, by_netfilter)),
        "{of_server:?}"
    );
    assert!(
        of_nobody
            .iter()
            .all(|packet| *packet == (Direction::In, pod, None)),
        "{of_nobody:?}"
    );
    server.finish();
    assert!(agent.stop().success());
    bpf.cleanup();
}

#[test]
fn interfaces_are_left_alone_when_told_so() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
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
