//! What most tests begin with: a sub-tree of cgroups to record, and a folder for the tape.

use std::path::PathBuf;

use tempfile::TempDir;

use super::agent::Agent;
use super::places::Cgroup;
use super::workload::Workload;

/// A sub-tree and a folder, which go with the test.
pub struct Scene {
    pub dir: TempDir,
    pub cgroup: Cgroup,
}

impl Scene {
    /// `None` where nothing can be recorded, which is said.
    pub fn new() -> Option<Self> {
        (!super::cannot_record()).then(|| Self {
            dir: tempfile::tempdir().expect("a folder"),
            cgroup: Cgroup::new(),
        })
    }

    /// Where the tape is.
    pub fn tape(&self) -> PathBuf {
        self.dir.path().join("tape")
    }

    /// An agent that records the sub-tree by eBPF, with these flags beside.
    pub fn agent(&self, flags: &[&str]) -> Agent {
        let path = self.cgroup.path.to_string_lossy();
        Agent::start(
            &self.tape(),
            &[&["--backend", "ebpf", "--cgroup", &path], flags].concat(),
        )
    }

    /// A cgroup in the sub-tree, made at its first use.
    pub fn place(&self, cgroup: &str) -> PathBuf {
        let path = self.cgroup.path.join(cgroup);
        if path.exists() {
            path
        } else {
            self.cgroup.child(cgroup)
        }
    }

    /// Has the cgroup `shop` do something, to its end.
    pub fn run(&self, role: &str) {
        self.run_in(role, "shop");
    }

    /// Has a cgroup do something, to its end.
    pub fn run_in(&self, role: &str, cgroup: &str) {
        Workload::start(role, &self.place(cgroup), None).finish();
    }
}
