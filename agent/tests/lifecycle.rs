//! An agent that is stopped, killed, started again.

mod common;

use common::agent::Agent;
use common::packets;
use common::places::{Disk, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload};
use nix::sys::signal::Signal;

#[test]
fn workload_process() {
    workload::main();
}

#[test]
fn sigterm_seals_the_tape() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&[]);
    Workload::start("datagrams 50 100", &scene.cgroup.child("shop"), None).finish();
    // At once: what still waits in the ring is taken out.
    assert!(agent.stop().success());
    let segments = packets::segments(&scene.tape());
    let [segment] = segments.as_slice() else {
        panic!("one segment: {segments:?}")
    };
    let index = wiretape_tape::index(segment)
        .expect("is read")
        .expect("has an index");
    assert_eq!((index.info.packets, index.info.sealed), (100, true));
}

#[test]
fn an_agent_killed_in_the_middle_loses_nothing_that_was_flushed() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let flags = ["--backend", "ebpf", "--cgroup", &cgroup.path.to_string_lossy()];
    let shop = cgroup.child("shop");
    let agent = Agent::start(dir.path(), &flags);
    Workload::start("datagrams 50 100", &shop, None).finish();
    agent.wait_for("the packets in the file", |agent| {
        agent.boundaries().packets == 100
    });
    let before = agent.boundaries();
    // In the middle of traffic.
    let traffic = Workload::start("datagrams 20000 100", &shop, None);
    agent.wait_for("more packets", |agent| agent.boundaries().packets > 1000);
    agent.kill();
    drop(traffic);

    let agent = Agent::start(dir.path(), &flags);
    let after = agent.boundaries();
    assert_eq!(after.oldest, before.oldest);
    assert!(after.packets > 1000 && after.newest > before.newest, "{after:?}");
    assert_eq!(agent.metric("wiretape_agent_segments_recovered_total"), 1);
    Workload::start("datagrams 50 100", &shop, None).finish();
    agent.wait_for("new packets", |agent| {
        agent.boundaries().packets == after.packets + 100
    });
    let fetched = tempfile::tempdir().expect("a folder");
    let recorded = agent
        .collect("all", fetched.path())
        .iter()
        .map(|path| packets::read(path).len() as u64)
        .sum::<u64>();
    assert_eq!(recorded, after.packets + 100);
}

#[test]
fn workloads_are_named_and_named_anew_on_sighup() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let file = dir.path().join("workloads.yaml");
    let entry = |pod: &str| {
        let known = "service: frontend\n  addresses: [10.77.1.10]\n";
        format!("- match: {{ cgroup: 'frontend*' }}\n  pod: {pod}\n  {known}")
    };
    std::fs::write(&file, entry("frontend-1")).expect("written");
    let (path, file_path) = (cgroup.path.to_string_lossy(), file.to_string_lossy());
    let tape = dir.path().join("tape");
    let agent = Agent::start(
        &tape,
        &["--backend", "ebpf", "--cgroup", &path, "--workloads", &file_path],
    );
    let frontend = cgroup.child("frontend-abc");
    let mut workload = Workload::start("serve 0", &frontend, None);
    workload.said("serving");
    Workload::start("datagrams 5 100", &frontend, None).finish();
    let id = cgroup_id(&frontend);
    let names = |agent: &Agent| -> Vec<wiretape_tape::Name> {
        serde_json::from_slice(&agent.get("/names").body).expect("names")
    };
    agent.wait_for("its name", |agent| {
        names(agent).iter().any(|name| name.cgroup == id)
    });
    let known = names(&agent);
    let name = known.iter().find(|name| name.cgroup == id).expect("just seen");
    assert_eq!(
        (name.pod.as_str(), name.cgroup_path.as_str(), name.until),
        ("frontend-1", "frontend-abc", None)
    );
    // Events come before the first packet.
    let first = agent.recorded("first").iter().map(|packet| packet.ts).min();
    assert!(!name.process.is_empty() && Some(name.since) == first, "{name:?}");
    assert!(
        known
            .iter()
            .any(|name| name.cgroup == 0 && name.addresses.len() == 1),
        "{known:?}"
    );

    std::fs::write(&file, "- broken").expect("written");
    agent.signal(Signal::SIGHUP);
    agent.logged("workloads not read again");
    std::fs::write(&file, entry("frontend-2")).expect("written");
    agent.signal(Signal::SIGHUP);
    agent.wait_for("its new name", |agent| {
        names(agent)
            .iter()
            .any(|name| name.pod == "frontend-2" && name.cgroup == id)
    });
    let of_frontend = |name: &&wiretape_tape::Name| name.cgroup == id;
    let known = names(&agent);
    let ended = known
        .iter()
        .filter(of_frontend)
        .find(|name| name.pod == "frontend-1")
        .expect("the old name");
    let begun = known
        .iter()
        .filter(of_frontend)
        .find(|name| name.pod == "frontend-2")
        .expect("the new name");
    assert_eq!((ended.until, begun.until), (Some(begun.since), None));

    // The names go with a cut, so that a snapshot carries them.
    let order = serde_json::json!({ "id": "named", "start": 0, "end": u64::MAX });
    let cut = agent
        .request("POST", "/cuts", "", order.to_string().as_bytes())
        .json();
    assert!(cut["names"].to_string().contains("frontend-2"), "{cut}");
    workload.finish();
}

#[test]
fn a_full_disk_shortens_the_tape_and_is_told_of() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let disk = Disk::new(dir.path(), "6m");
    let path = cgroup.path.to_string_lossy();
    // A tape that is longer than its disk.
    let sizes = ["--tape-size", "64MiB", "--segment-size", "1MiB"];
    let flags = [&["--backend", "ebpf", "--cgroup", &path][..], &sizes].concat();
    let agent = Agent::start(&disk.0, &flags);
    Workload::start("datagrams 15000 400", &cgroup.child("shop"), None).finish();
    let dropped = "wiretape_agent_segments_dropped_disk_full_total";
    agent.wait_for("segments to give way", |agent| agent.metric(dropped) > 0);
    agent.logged("the disk is full");
    agent.settle();
    let boundaries = agent.boundaries();
    let newest = boundaries.newest;
    assert!(
        boundaries.bytes < 6 << 20 && boundaries.packets > 1000,
        "{boundaries:?}"
    );
    Workload::start("datagrams 10 100", &cgroup.child("later"), None).finish();
    agent.wait_for("newer packets", |agent| agent.boundaries().newest > newest);
    assert!(agent.stop().success());
}

#[test]
fn a_workloads_file_with_a_mistake_stops_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("workloads.yaml");
    std::fs::write(&file, "- match: { cgroup: a }\n  pot: b\n").expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
        .args(["--backend", "pcap", "--listen", "127.0.0.1:0", "--tape"])
        .arg(dir.path().join("tape"))
        .arg("--workloads")
        .arg(&file)
        .output()
        .expect("the agent starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("unknown field `pot`") && said.contains("line 2"),
        "{said}"
    );
}
