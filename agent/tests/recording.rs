//! The agent records what sockets send and receive: all of it, whole, and whose it was.

mod common;

use std::collections::BTreeSet;

use common::agent::Agent;
use common::packets::{FIN, SYN, Segment, stream};
use common::places::{Link, RIGHT, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload, bytes};
use nix::sys::signal::Signal;
use wiretape_tape::Direction;

#[test]
fn workload_process() {
    workload::main();
}

#[test]
fn every_packet_of_a_connection_is_recorded() {
    const LEN: usize = 200_000;
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    let mut workload = Workload::start(&format!("exchange {LEN}"), &scene.cgroup.child("shop"), None);
    let ports = workload.said("client=");
    let (client, server) = ports.split_once(" server=").expect("two ports");
    let (client, server) = (client.parse().expect("a port"), server.parse().expect("a port"));
    workload.finish();
    let seen = agent.settle();

    let recorded = agent.recorded("all");
    assert_eq!(recorded.len() as u64, seen);
    let shop = cgroup_id(&scene.cgroup.path.join("shop"));
    assert!(
        recorded.iter().all(|packet| packet.cgroup == shop),
        "a packet of another cgroup"
    );
    for packet in &recorded {
        assert_eq!(
            packet.orig_len as usize,
            packet.data.len(),
            "a packet is not whole"
        );
    }

    // Both ends are in the cgroup: what one sent (out), the other received (in).
    for direction in [Direction::Out, Direction::In] {
        let segments: Vec<Segment> = recorded
            .iter()
            .filter(|packet| packet.direction == direction)
            .filter_map(|packet| packet.segment())
            .collect();
        assert!(
            stream(&segments, client, server) == bytes(1, LEN),
            "what the client sent differs, {direction:?}"
        );
        assert!(
            stream(&segments, server, client) == bytes(2, LEN),
            "what the server sent differs, {direction:?}"
        );
        let flagged = |flag: u8| {
            segments
                .iter()
                .filter(|segment| segment.flags & flag != 0)
                .count()
        };
        assert_eq!(
            (flagged(SYN), flagged(FIN)),
            (2, 2),
            "SYN and FIN of both sides, {direction:?}"
        );
    }
    // The listener's own, before the connection has a socket, and one for each end.
    let cookies: BTreeSet<u64> = recorded.iter().map(|packet| packet.cookie).collect();
    assert!(cookies.len() >= 2 && !cookies.contains(&0), "{cookies:?}");
}

#[test]
fn gso_packets_are_whole() {
    const LEN: usize = 10_000_000;
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let link = Link::new();
    let path = cgroup.path.to_string_lossy();
    let flags = ["--backend", "ebpf", "--cgroup", &path, "--bulk-rate", "1TiB"];
    let agent = Agent::start(dir.path(), &flags);
    let mut server = Workload::start("serve 80", &cgroup.child("server"), Some(&link.right));
    server.said("serving");
    let client = cgroup.child("client");
    Workload::start(&format!("visit {RIGHT}:80 {LEN} 1"), &client, Some(&link.left)).finish();
    server.finish();
    agent.settle();
    assert_eq!(agent.boundaries().lost, 0);

    let recorded = agent.recorded("all");
    for packet in &recorded {
        assert_eq!(
            packet.orig_len as usize,
            packet.data.len(),
            "a packet is not whole"
        );
    }
    let longest = recorded.iter().map(|packet| packet.data.len()).max().unwrap_or(0);
    assert!(
        longest > 32_000,
        "the veth has an MTU of 1500, the longest packet {longest}: no GSO here"
    );

    let client = cgroup_id(&client);
    for direction in [Direction::Out, Direction::In] {
        let segments: Vec<Segment> = recorded
            .iter()
            .filter(|packet| packet.cgroup == client && packet.direction == direction)
            .filter_map(|packet| packet.segment())
            .collect();
        let (source, target) = segments
            .first()
            .map(|segment| (segment.source, segment.target))
            .expect("a segment");
        let sent = stream(&segments, source, target);
        match direction {
            Direction::Out => {
                assert_eq!(sent.len(), LEN + 8);
                assert!(
                    sent.get(8..) == Some(bytes(1, LEN).as_slice()),
                    "what the client sent differs"
                );
            }
            _ => assert!(sent == bytes(2, LEN), "what the client received differs"),
        }
    }
}

#[test]
fn own_traffic_is_not_recorded() {
    if common::cannot_record() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    // The whole hierarchy, with this test in it: the hub's side of the talk is recorded, the agent's is not.
    let agent = Agent::start(dir.path(), &["--backend", "ebpf"]);
    for _ in 0..20 {
        assert_eq!(agent.get("/boundaries").status, 200);
    }
    let port = agent.address.port();
    agent.wait_for("packets left out", |agent| {
        agent.metric("wiretape_agent_excluded_total") > 100
    });
    let recorded = agent.recorded("all");
    let segments = recorded
        .iter()
        .filter_map(|packet| Some((packet.direction, packet.segment()?)));
    let (mut hub, mut own) = (0, 0);
    for (direction, segment) in segments {
        match (direction, segment) {
            (Direction::Out, segment) if segment.target == port => hub += 1,
            (Direction::In, segment) if segment.source == port => hub += 1,
            (_, segment) if segment.source == port || segment.target == port => own += 1,
            _ => {}
        }
    }
    assert!(hub > 100, "only {hub} packets of this test's own side");
    assert_eq!(own, 0, "packets of the agent's side");
}

#[test]
fn an_excluded_cgroup_and_all_below_it_are_not_recorded() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let hub = cgroup.child("hub");
    let (path, hub_path) = (cgroup.path.to_string_lossy(), hub.to_string_lossy());
    let agent = Agent::start(
        dir.path(),
        &[
            "--backend",
            "ebpf",
            "--cgroup",
            &path,
            "--exclude-cgroup",
            &hub_path,
        ],
    );
    let below = cgroup.child("hub/worker");
    Workload::start("datagrams 10 100", &below, None).finish();
    Workload::start("datagrams 3 100", &cgroup.child("shop"), None).finish();
    agent.settle();
    assert_eq!(agent.metric("wiretape_agent_excluded_total"), 20);
    assert_eq!(agent.boundaries().packets, 6);
}

#[test]
fn losses_are_counted() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let path = cgroup.path.to_string_lossy();
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &path, "--buffer-size", "128KiB"],
    );
    // Nobody empties the ring meanwhile.
    agent.signal(Signal::SIGSTOP);
    Workload::start("datagrams 1000 1000", &cgroup.child("shop"), None).finish();
    agent.signal(Signal::SIGCONT);
    let seen = agent.settle();
    assert_eq!(seen, 2000, "each datagram is sent and received");
    let lost = agent.metric("wiretape_agent_lost_total{stage=\"buffer_full\"}");
    let boundaries = agent.boundaries();
    assert_eq!((boundaries.lost, boundaries.packets + lost), (lost, seen));
    assert!(
        lost > 1500 && boundaries.packets > 50,
        "lost {lost}, kept {}",
        boundaries.packets
    );
    // Over, and the next packets are recorded again.
    Workload::start("datagrams 5 100", &cgroup.child("later"), None).finish();
    assert_eq!(agent.settle(), 2010);
    assert_eq!(agent.boundaries().packets, boundaries.packets + 10);
}

#[test]
fn bodies_are_left_out_before_packets_are_lost() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let path = cgroup.path.to_string_lossy();
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &path, "--buffer-size", "128KiB"],
    );
    // Nobody empties the ring meanwhile, which has room for twenty of these packets.
    agent.signal(Signal::SIGSTOP);
    Workload::start("datagrams 100 5000", &cgroup.child("shop"), None).finish();
    agent.signal(Signal::SIGCONT);
    assert_eq!(agent.settle(), 200, "each datagram is sent and received");
    assert_eq!(agent.boundaries().lost, 0);
    let recorded = agent.recorded("all");
    let (whole, heads): (Vec<_>, Vec<_>) = recorded.iter().partition(|packet| packet.data.len() == 5028);
    assert!(whole.len() >= 8, "only {} are whole", whole.len());
    assert!(
        heads
            .iter()
            .all(|packet| packet.data.len() == 128 && packet.orig_len == 5028)
    );
    assert_eq!(whole.len() + heads.len(), 200);
    assert_eq!(agent.metric("wiretape_agent_shed_total"), heads.len() as u64);
    assert_eq!(agent.metric("wiretape_agent_truncated_total"), heads.len() as u64);
}

#[test]
fn bulk_that_lasts_is_recorded_in_heads_and_a_burst_whole() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let path = cgroup.path.to_string_lossy();
    // A burst is half of the ring, some four hundred of these packets; then the rate allows for 26 in a second.
    let flags = ["--buffer-size", "4MiB", "--bulk-rate", "128KiB"];
    let agent = Agent::start(
        dir.path(),
        &[&["--backend", "ebpf", "--cgroup", &path], &flags[..]].concat(),
    );
    Workload::start("datagrams 60 4200", &cgroup.child("burst"), None).finish();
    assert_eq!(agent.settle(), 120, "each datagram is sent and received");
    assert_eq!(agent.metric("wiretape_agent_shed_total"), 0, "a burst is whole");
    Workload::start("datagrams 1000 5000", &cgroup.child("bulk"), None).finish();
    assert_eq!(agent.settle(), 2120);
    Workload::start("datagrams 100 4000", &cgroup.child("shop"), None).finish();
    assert_eq!(agent.settle(), 2320);
    assert_eq!(agent.boundaries().lost, 0);
    let recorded = agent.recorded("all");
    let of = |len: u32| recorded.iter().filter(move |packet| packet.orig_len == len);
    let heads = of(5028).filter(|packet| packet.data.len() == 128).count();
    assert!(heads > 1000, "only {heads} of 2000 are heads");
    assert!(of(5028).all(|packet| matches!(packet.data.len(), 128 | 5028)));
    assert!(
        of(4028).all(|packet| packet.data.len() == 4028),
        "what is no bulk does not pay for it"
    );
    assert_eq!(agent.metric("wiretape_agent_shed_total"), heads as u64);
}
