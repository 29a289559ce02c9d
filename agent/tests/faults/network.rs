//! Cgroups, interfaces and namespaces that come and go, and packets of unusual shape.

use std::collections::BTreeSet;
use std::fs;

use crate::common::agent::Agent;
use crate::common::packets::read_tape;
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

#[test]
fn jumbo_frames_ipv6_fragments_and_vxlan_are_on_the_tape_as_they_were_on_the_wire() {
    if common::cannot_record() {
        return;
    }
    let (dir, link) = (tempfile::tempdir().expect("a folder"), Link::new());
    let (left, right) = (link.left.as_str(), link.right.as_str());
    for (namespace, own, peer, inner) in [(left, "1", "2", "1"), (right, "2", "1", "2")] {
        ip(&["-n", namespace, "link", "set", "wire", "mtu", "9000"]);
        ip(&[
            "-n",
            namespace,
            "address",
            "add",
            &format!("fd99::{own}/64"),
            "dev",
            "wire",
            "nodad",
        ]);
        let remote = format!("10.99.0.{peer}");
        ip(&[
            "-n", namespace, "link", "add", "vx", "type", "vxlan", "id", "7", "remote", &remote, "dstport",
            "4789", "dev", "wire",
        ]);
        ip(&[
            "-n",
            namespace,
            "address",
            "add",
            &format!("10.98.0.{inner}/24"),
            "dev",
            "vx",
        ]);
        ip(&["-n", namespace, "link", "set", "vx", "up"]);
    }
    let agent = Agent::start_in(left, dir.path(), &["--backend", "pcap", "--interface", "wire"]);
    // What goes over the wire: 8000 bytes in one frame, 20000 in three fragments, IPv6, and all that in VXLAN.
    let sends = [
        (RIGHT, "8000", 1),
        (RIGHT, "20000", 3),
        ("fd99::2", "1000", 1),
        ("10.98.0.2", "1000", 1),
    ];
    let cgroup = Cgroup::new();
    for (target, bytes, _) in sends {
        let ping = format!("run ping -q -c 5 -i 0.05 -W 5 -s {bytes} {target}");
        Workload::start(
            &ping,
            &cgroup.child(&format!("{}-{bytes}", target.replace([':', '.'], "-"))),
            Some(left),
        )
        .finish();
    }
    // By itself it takes out all that is under way.
    assert!(agent.stop().success());
    let recorded = read_tape(dir.path());
    assert!(
        recorded
            .iter()
            .all(|packet| packet.data.len() == packet.orig_len as usize),
        "one is not whole"
    );
    let count = |is: &dyn Fn(&[u8]) -> bool| recorded.iter().filter(|packet| is(&packet.data)).count();
    let icmp_of = |data: &[u8], length: usize| {
        data.first() == Some(&0x45) && data.get(9) == Some(&1) && data.len() == length
    };
    // Five requests and five answers each.
    assert_eq!(count(&|data| icmp_of(data, 8000 + 28)), 10, "jumbo frames");
    let fragment = |data: &[u8]| {
        data.first() == Some(&0x45)
            && data
                .get(6..8)
                .is_some_and(|flags| u16::from_be_bytes([flags[0], flags[1]]) & 0x3fff != 0)
    };
    assert_eq!(count(&fragment), 30, "fragments");
    let six = |data: &[u8]| {
        data.first().is_some_and(|byte| byte >> 4 == 6) && matches!(data.get(40), Some(128 | 129))
    };
    assert_eq!(count(&six), 10, "ICMPv6 echoes");
    // The inner packet behind IP, UDP, VXLAN and Ethernet (RFC 7348, section 5).
    let vxlan = |data: &[u8]| {
        data.get(9) == Some(&17)
            && data.get(22..24) == Some(&4789u16.to_be_bytes())
            && data.get(50 + 9) == Some(&1)
    };
    assert_eq!(count(&vxlan), 10, "echoes in VXLAN");
}
