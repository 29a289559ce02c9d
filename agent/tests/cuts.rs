//! A cut has everything that had passed when it was asked for, also what was still on its way to the recorder. For
//! libpcap see `pcap.rs`, where nobody else makes noise on the loopback interface.

mod common;

use common::places::cgroup_id;
use common::scene::Scene;
use common::workload::{self, Workload};

#[test]
fn workload_process() {
    workload::main();
}

#[test]
fn what_was_sent_just_before_a_cut_is_in_it() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    for round in 1..=20 {
        Workload::start("datagrams 50 100", &scene.cgroup.path, None).finish();
        // Each is sent and received.
        assert_eq!(agent.recorded(&format!("cut-{round}")).len(), round * 100);
    }
    assert_eq!(agent.metric("wiretape_agent_cuts_late_total"), 0);
}

#[test]
fn a_cut_is_complete_while_packets_keep_coming() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    let (busy, shop) = (scene.cgroup.child("busy"), scene.cgroup.child("shop"));
    // 100,000 packets a second, until it is dropped. Not as many as can be: some machines fill the test's tape with them before
    // a cut has been fetched, and such a cut is let go.
    let crowd = Workload::start("numbered 1000000000 50000 100", &busy, None);
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
