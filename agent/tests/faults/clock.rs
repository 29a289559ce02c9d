//! A clock that is set, forward and back, under the agent.

use std::thread;
use std::time::Duration;

use crate::common::scene::Scene;
use crate::common::workload::Workload;
use crate::double::Double;

#[test]
fn a_clock_set_forward_and_back_is_told_of_and_loses_nothing() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let double = Double::new(dir.path());
    let path = cgroup.path.to_string_lossy();
    // Kept for ten minutes: a clock that goes on by a day must not make all older than that.
    let flags = ["--backend", "ebpf", "--cgroup", &path, "--keep", "10m"];
    let agent = double.start(&dir.path().join("tape"), &flags);
    let mut sent = 0;
    for (round, off) in [0, 86_400, -86_400, 0].into_iter().enumerate() {
        double.clock(off);
        if off != 0 {
            agent.wait_for_condition("clock_jumped");
        }
        // The offset by which packets get their time is measured each second.
        thread::sleep(Duration::from_millis(2500));
        Workload::start("datagrams 50 100", &cgroup.child(&format!("round-{round}")), None).finish();
        sent += 100;
        agent.wait_for("a flush", |agent| agent.boundaries().packets == sent);
    }
    assert_eq!(agent.accounts(), (sent, 0));
    // A window is asked for by time, and each packet stands at the time that the clock told then.
    let boundaries = agent.boundaries();
    let (oldest, newest) = (
        boundaries.oldest.expect("packets"),
        boundaries.newest.expect("packets"),
    );
    assert!(newest - oldest > 2 * 86_000 * 1_000_000_000, "{boundaries:?}");
    assert_eq!(agent.recorded("all").len() as u64, sent);
    assert!(agent.stop().success());
}
