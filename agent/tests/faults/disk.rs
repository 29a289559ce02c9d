//! Disks that are full, slow, read-only or broken, and files that someone else deletes or truncates.

use std::fs::{self, OpenOptions};
use std::thread;
use std::time::{Duration, Instant};

use wiretape_tape::LossStage;

use crate::common::agent::Agent;
use crate::common::packets::segments;
use crate::common::places::{Cgroup, Disk};
use crate::common::scene::Scene;
use crate::common::workload::Workload;
use crate::common::{self};
use crate::double::Double;
use crate::long;

const EIO: i32 = 5;
const EROFS: i32 = 30;

/// Sent and received.
fn send(cgroup: &Cgroup, name: &str, datagrams: usize) {
    Workload::start(&format!("datagrams {datagrams} 400"), &cgroup.child(name), None).finish();
}

#[test]
fn a_disk_that_fails_and_comes_back_costs_what_was_sent_meanwhile_and_no_more() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let double = Double::new(dir.path());
    let path = cgroup.path.to_string_lossy();
    let agent = double.start(
        &dir.path().join("tape"),
        &["--backend", "ebpf", "--cgroup", &path],
    );
    send(&cgroup, "before", 100);
    agent.wait_for("a flush", |agent| agent.boundaries().packets == 200);
    for (round, errno) in [EIO, EROFS].into_iter().enumerate() {
        double.fail(errno);
        send(&cgroup, &format!("during-{round}"), 50);
        agent.wait_for_condition("write_error");
        agent.wait_for("the loss", |agent| {
            agent.metric("wiretape_agent_lost_total{stage=\"write_error\"}") == 100 * (round as u64 + 1)
        });
        double.fail(0);
        // Writing is tried again with the next flush.
        thread::sleep(Duration::from_millis(500));
        send(&cgroup, &format!("after-{round}"), 30);
        agent.wait_for("newer packets", |agent| {
            agent.boundaries().packets == 200 + 60 * (round as u64 + 1)
        });
    }
    let (seen, lost) = agent.accounts();
    assert_eq!((seen, lost), (520, 200));
    agent.wait_for("the losses on the tape", |agent| agent.boundaries().lost == 200);
    let losses = agent.boundaries().losses;
    assert!(
        losses.iter().all(|loss| loss.stage == LossStage::WriteError),
        "{losses:?}"
    );
    assert_eq!(agent.recorded("all").len(), 320);
}

#[test]
fn a_slow_disk_is_told_of_and_slows_nobody() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let double = Double::new(dir.path());
    let path = cgroup.path.to_string_lossy();
    let agent = double.start(
        &dir.path().join("tape"),
        &["--backend", "ebpf", "--cgroup", &path],
    );
    // So long that the recorder hangs, in full.
    double.delay(if long() {
        Duration::from_secs(12)
    } else {
        Duration::from_secs(4)
    });
    let begun = Instant::now();
    send(&cgroup, "shop", 100);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "the workload waited: {:?}",
        begun.elapsed()
    );
    // Whoever watches the agent must not hang with the disk.
    for _ in 0..3 {
        let begun = Instant::now();
        agent.metric("wiretape_agent_tape_packets_total");
        assert!(
            begun.elapsed() < Duration::from_millis(2500),
            "metrics came after {:?}",
            begun.elapsed()
        );
        thread::sleep(Duration::from_millis(100));
    }
    if long() {
        agent.wait_for_condition("recorder_stalled");
    }
    agent.wait_for_condition("disk_slow");
    double.delay(Duration::ZERO);
    assert_eq!(agent.accounts(), (200, 0));
}

#[test]
fn a_full_disk_is_told_of() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let disk = Disk::new(dir.path(), "3m");
    let path = cgroup.path.to_string_lossy();
    let sizes = ["--tape-size", "64MiB", "--segment-size", "1MiB"];
    let agent = Agent::start(
        &disk.0,
        &[&["--backend", "ebpf", "--cgroup", &path][..], &sizes].concat(),
    );
    send(&cgroup, "shop", 6000);
    agent.wait_for_condition("disk_full");
    agent.accounts();
}

#[test]
fn packets_that_the_disk_refuses_from_the_start_are_told_of_as_a_tape_that_does_not_grow() {
    if common::cannot_record() || !long() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let double = Double::new(dir.path());
    let path = cgroup.path.to_string_lossy();
    let agent = double.start(
        &dir.path().join("tape"),
        &["--backend", "ebpf", "--cgroup", &path],
    );
    double.fail(EIO);
    let crowd = Workload::start("datagrams 1000000000 100", &cgroup.child("crowd"), None);
    agent.wait_for_condition("tape_not_growing");
    assert_eq!(agent.get("/alive").status, 200, "a new start does not help");
    drop(crowd);
}

#[test]
fn files_deleted_and_truncated_under_the_agent_are_told_as_lost_and_recording_goes_on() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let path = cgroup.path.to_string_lossy();
    let agent = Agent::start(dir.path(), &["--backend", "ebpf", "--cgroup", &path]);
    send(&cgroup, "before", 100);
    agent.wait_for("a flush", |agent| agent.boundaries().packets == 200);
    fs::remove_file(&segments(dir.path())[0]).expect("the open segment");
    agent.wait_for_condition("files_vanished");
    assert_eq!(agent.get("/alive").status, 200, "a new start does not help");
    assert_eq!(agent.metric("wiretape_agent_vanished_packets_total"), 200);
    agent.wait_for("the loss on the tape", |agent| agent.boundaries().lost == 200);
    assert_eq!(agent.boundaries().losses[0].stage, LossStage::Vanished);

    send(&cgroup, "between", 100);
    agent.wait_for("newer packets", |agent| agent.boundaries().packets == 200);
    let open = segments(dir.path()).pop().expect("the next segment");
    let file = OpenOptions::new().write(true).open(&open).expect("opened");
    file.set_len(file.metadata().expect("known").len() / 2)
        .expect("cut back");
    agent.wait_for("the change", |agent| {
        agent.metric("wiretape_agent_vanished_files_total") == 2
    });
    send(&cgroup, "after", 50);
    agent.accounts();
    agent.wait_for("all that is left", |agent| {
        let boundaries = agent.boundaries();
        boundaries.packets + boundaries.lost == 500
    });
    assert_eq!(agent.recorded("all").len() as u64, agent.boundaries().packets);
    assert!(agent.stop().success());
}
