//! What the tests share: the agent as a process, cgroups and network namespaces that vanish with their test,
//! and workloads that run in them.
//!
//! A workload is this test binary run again with [`ROLE`] in its environment, so that it is a process of its
//! own, which can be put into a cgroup and a namespace before it opens a socket.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::Write;

pub mod agent;
pub mod packets;
pub mod places;
pub mod scene;
pub mod workload;

/// Says why a test cannot run here. Prints one line, for whoever reads the log.
pub fn cannot_record() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("root")
    } else if !cfg!(target_os = "linux") || wiretape_agent::own_cgroup::Hierarchy::find().is_err() {
        Some("a cgroup v2 hierarchy")
    } else if !places::may_make_cgroups() {
        Some("the machine's root, who may make cgroups")
    } else if !agent::has_programs() {
        Some("an agent with the kernel programs (cargo xtask setup), or a kernel that takes them")
    } else {
        None
    };
    if let Some(missing) = missing {
        // Past the test harness, which holds back what a passing test prints. Without a standard error there is
        // nobody to hear it.
        let line = format!("SKIPPED: this test needs {missing}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    missing.is_some()
}
