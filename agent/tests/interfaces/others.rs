//! Other software on the machine, that has programs on interfaces too.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::compile;

/// What it can do is in `others.c`.
pub struct Others(PathBuf);

impl Others {
    /// Builds it into `dir`, if it can be built.
    pub fn new(dir: &Path) -> Option<Self> {
        let program = dir.join("others");
        compile("interfaces/others.c", &[], &program).then_some(Self(program))
    }

    /// Takes the program off whose link is pinned there.
    pub fn take_off(&self, pin: &Path) {
        let taken = Command::new(&self.0).arg("take-off").arg(pin).status();
        assert!(taken.expect("it starts").success(), "{pin:?} is taken off");
    }

    /// Drops what this interface of a namespace receives, before all other programs, until that is dropped.
    pub fn come_before(&self, namespace: &str, ifindex: &str) -> Dropper {
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .arg(&self.0)
            .args(["come-before", ifindex])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip of iproute2 is installed");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "there");
        Dropper(child)
    }
}

/// A program before all others.
pub struct Dropper(Child);

impl Drop for Dropper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
