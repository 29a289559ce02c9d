//! What the tests share: the agent as a process, cgroups and network namespaces that vanish with their test,
//! and workloads that run in them.
//!
//! A workload is this test binary run again with [`ROLE`] in its environment, so that it is a process of its
//! own, which can be put into a cgroup and a namespace before it opens a socket.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::Write;
use std::path::Path;
use std::process::Command;

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
    missing.is_some_and(skipped)
}

/// Says why a test cannot run on a kernel older than this, if this one is.
pub fn is_older_than(major: u32, minor: u32, why: &str) -> bool {
    let system = nix::sys::utsname::uname().expect("the kernel says what it is");
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version < (major, minor) && skipped(&format!("Linux {major}.{minor}, {why}"))
}

/// Builds a program or library in C. Rust needs a linker, so that there is a compiler wherever tests are built; where they are
/// only run, there need not be.
pub fn compile(source: &str, flags: &[&str], to: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let mut compiler = Command::new("cc");
    match compiler
        .args(["-O1", "-o"])
        .arg(to)
        .arg(&source)
        .args(flags)
        .status()
    {
        Ok(status) => assert!(status.success(), "{} is built", source.display()),
        Err(_) => return !skipped("cc"),
    }
    true
}

/// Past the test harness, which holds back what a passing test prints. Without a standard error there is nobody to hear it.
fn skipped(missing: &str) -> bool {
    let line = format!("SKIPPED: this test needs {missing}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    true
}
