//! Cgroups, interfaces and namespaces that come and go, and packets of unusual shape.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::agent::Agent;
use wiretape_tape::Direction;

use crate::common::packets::{Recorded, read_tape};
use crate::common::places::{Cgroup, Link, RIGHT, cgroup_id, ip};
use crate::common::scene::Scene;
use crate::common::workload::Workload;
use crate::common::{self};
use crate::long;

#[test]
fn a_recorded_cgroup_that_is_removed_is_told_of() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let recorded = cgroup.child("recorded");
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &recorded.to_string_lossy()],
    );
    Workload::start("datagrams 10 100", &recorded, None).finish();
    assert_eq!(agent.accounts(), (20, 0));
    assert_eq!(agent.conditions(), Vec::<String>::new());
    // Its processes have ended.
    fs::remove_dir(&recorded).expect("removed");
    agent.wait_for_condition("program_detached");
    assert_eq!(agent.get("/alive").status, 503, "a new start helps");
    agent.logged("detached");
    // What was recorded can still be had.
    assert_eq!(agent.recorded("all").len(), 20);
    assert!(agent.stop().success());
}

#[test]
fn cgroups_interfaces_and_namespaces_that_come_and_go_lose_nothing() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    let rounds = if long() { 100 } else { 8 };
    let mut cgroups = BTreeSet::new();
    for round in 0..rounds {
        let link = Link::new();
        let pod = scene.cgroup.child(&format!("pod-{round}"));
        cgroups.insert(cgroup_id(&pod));
        let mut server = Workload::start("serve 80", &pod, Some(&link.right));
        server.said("serving");
        Workload::start(&format!("visit {RIGHT}:80 1000 3"), &pod, Some(&link.left)).finish();
        server.finish();
    }
    let (seen, lost) = agent.accounts();
    assert_eq!(lost, 0);
    let recorded = agent.recorded("all");
    assert_eq!(recorded.len() as u64, seen);
    let of: BTreeSet<u64> = recorded.iter().map(|packet| packet.cgroup).collect();
    assert!(cgroups.is_subset(&of), "a round is missing");
    assert_eq!(agent.conditions(), Vec::<String>::new());
}

/// Two namespaces with frames of 9000 bytes and a VXLAN between them, 10.98.0.1 and 10.98.0.2.
fn wide_link() -> Link {
    let link = Link::new();
    for (namespace, own, peer) in [(&link.left, "1", "2"), (&link.right, "2", "1")] {
        let on = |args: &[&str]| ip(&[&["-n", namespace], args].concat());
        let (six, inner, remote) = (
            format!("fd99::{own}/64"),
            format!("10.98.0.{own}/24"),
            format!("10.99.0.{peer}"),
        );
        on(&["link", "set", "wire", "mtu", "9000"]);
        on(&["address", "add", &six, "dev", "wire", "nodad"]);
        on(&[
            "link", "add", "vx", "type", "vxlan", "id", "7", "remote", &remote, "dstport", "4789", "dev",
            "wire",
        ]);
        on(&["address", "add", &inner, "dev", "vx"]);
        on(&["link", "set", "vx", "up"]);
    }
    link
}

/// Has a process of each kind of packet send five: 8000 bytes in one frame, 20000 in three fragments, IPv6, and VXLAN.
fn send_all_kinds(cgroup: &Path, namespace: &str) {
    for (number, (bytes, target)) in [
        (8000, RIGHT),
        (20000, RIGHT),
        (1000, "fd99::2"),
        (1000, "10.98.0.2"),
    ]
    .into_iter()
    .enumerate()
    {
        let own = cgroup.join(format!("ping-{number}"));
        fs::create_dir(&own).expect("a cgroup");
        let ping = format!("run ping -q -c 5 -i 0.05 -W 5 -s {bytes} {target}");
        Workload::start(&ping, &own, Some(namespace)).finish();
    }
}

/// An ICMP echo over IPv4 of so many bytes behind its header, in one piece.
fn is_echo(packet: &Recorded, bytes: usize) -> bool {
    packet.protocol() == Some(1) && packet.data.len() == bytes + 28 && !packet.is_fragment()
}

fn is_echo_over_ipv6(packet: &Recorded) -> bool {
    packet.data.first().is_some_and(|byte| byte >> 4 == 6) && matches!(packet.data.get(40), Some(128 | 129))
}

/// An ICMP packet behind IP, UDP, VXLAN and Ethernet (RFC 7348, section 5).
fn is_echo_in_vxlan(packet: &Recorded) -> bool {
    let data = &packet.data;
    packet.protocol() == Some(17)
        && data.get(22..24) == Some(&4789u16.to_be_bytes())
        && data.get(50 + 9) == Some(&1)
}

#[test]
fn jumbo_frames_ipv6_fragments_and_vxlan_are_on_the_tape_as_they_were_on_the_wire() {
    if common::cannot_record() {
        return;
    }
    let (dir, link, cgroup) = (tempfile::tempdir().expect("a folder"), wide_link(), Cgroup::new());
    let agent = Agent::start_in(
        &link.left,
        dir.path(),
        &["--backend", "pcap", "--interface", "wire"],
    );
    send_all_kinds(&cgroup.path, &link.left);
    // By itself it takes out all that is under way.
    assert!(agent.stop().success());
    let recorded = read_tape(dir.path());
    assert!(recorded.iter().all(Recorded::is_whole), "one is not whole");
    let count = |is: fn(&Recorded) -> bool| recorded.iter().filter(|packet| is(packet)).count();
    // Five requests and five answers each.
    assert_eq!(count(|packet| is_echo(packet, 8000)), 10, "jumbo frames");
    assert_eq!(count(Recorded::is_fragment), 30, "fragments");
    assert_eq!(count(is_echo_over_ipv6), 10, "ICMPv6 echoes");
    assert_eq!(count(is_echo_in_vxlan), 10, "echoes in VXLAN");
}

/// As sockets and interfaces have the same packets: what is sent, before it is cut; what comes in, as it was on the wire. Of a
/// tunnel that ends here there is what is inside: the kernel's own socket takes what it is wrapped in before any hook.
#[test]
fn jumbo_frames_ipv6_fragments_and_vxlan_are_recorded_by_ebpf_with_their_owner() {
    if common::cannot_record() {
        return;
    }
    let (dir, link, cgroup) = (tempfile::tempdir().expect("a folder"), wide_link(), Cgroup::new());
    let path = cgroup.path.to_string_lossy();
    let agent = Agent::start(dir.path(), &["--backend", "ebpf", "--cgroup", &path]);
    let mut pause = Workload::start("serve 79", &cgroup.child("pause"), Some(&link.left));
    pause.said("serving");
    for _ in ["wire", "vx"] {
        agent.logged("recording on an interface");
    }
    send_all_kinds(&cgroup.path, &link.left);
    agent.settle();
    let recorded = agent.recorded("all");
    pause.finish();
    assert!(recorded.iter().all(Recorded::is_whole), "one is not whole");
    type Is = fn(&Recorded) -> bool;
    let kinds: [(&str, Is, (usize, usize)); 6] = [
        ("jumbo frames", |packet| is_echo(packet, 8000), (5, 5)),
        (
            "what is cut into fragments",
            |packet| is_echo(packet, 20000),
            (5, 0),
        ),
        ("fragments", Recorded::is_fragment, (0, 15)),
        ("ICMPv6 echoes", is_echo_over_ipv6, (5, 5)),
        ("echoes of a tunnel", |packet| is_echo(packet, 1000), (5, 5)),
        ("echoes in VXLAN", is_echo_in_vxlan, (0, 0)),
    ];
    for (kind, is, expected) in kinds {
        let count = |direction: Direction| {
            let of = recorded
                .iter()
                .filter(|packet| packet.direction == direction && is(packet));
            of.inspect(|packet| assert_ne!(packet.cgroup, 0, "nobody's"))
                .count()
        };
        assert_eq!((count(Direction::Out), count(Direction::In)), expected, "{kind}");
    }
}
