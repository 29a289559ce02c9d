//! A cut has everything that had passed when it was asked for, also what was still on its way to the recorder. For
//! libpcap see `pcap.rs`, where nobody else makes noise on the loopback interface.

mod common;

use common::agent::Agent;
use common::places::{Cgroup, cgroup_id};
use common::workload::{self, Workload};

#[test]
fn workload_process() {
    workload::main();
}

#[test]
fn what_was_sent_just_before_a_cut_is_in_it() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()],
    );
    for round in 1..=20 {
        Workload::start("datagrams 50 100", &cgroup.path, None).finish();
        // Each is sent and received.
        assert_eq!(agent.recorded(&format!("cut-{round}")).len(), round * 100);
    }
    assert_eq!(agent.metric("wiretape_agent_cuts_late_total"), 0);
}

#[test]
fn a_cut_is_complete_while_packets_keep_coming() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = Agent::start(
        dir.path(),
        &["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()],
    );
    let (busy, shop) = (cgroup.child("busy"), cgroup.child("shop"));
    // Until it is dropped.
    let crowd = Workload::start("datagrams 1000000000 100", &busy, None);
    agent.wait_for("the crowd", |agent| agent.boundaries().packets > 1000);
    let of_shop = cgroup_id(&shop);
    for round in 1..=10 {
        Workload::start("datagrams 50 100", &shop, None).finish();
        let recorded = agent.recorded(&format!("cut-{round}"));
        let of_shop = recorded.iter().filter(|packet| packet.cgroup == of_shop);
        assert_eq!(of_shop.count(), round * 100);
    }
    drop(crowd);
    assert_eq!(agent.metric("wiretape_agent_cuts_late_total"), 0);
}
