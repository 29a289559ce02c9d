//! A disk and a clock that do as a test says, by a library that is preloaded into the agent: this machine's kernel has
//! no device mapper, and its clock belongs to everyone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::compile;

/// The library and its control file.
pub struct Double {
    library: PathBuf,
    control: PathBuf,
    file: File,
}

impl Double {
    /// Builds it into `dir`.
    pub fn new(dir: &Path) -> Self {
        let (library, control) = (dir.join("double.so"), dir.join("double.control"));
        let built = compile("faults/double.c", &["-shared", "-fPIC", "-ldl"], &library);
        assert!(built, "cc is installed");
        std::fs::write(&control, [0; 24]).expect("written");
        let file = OpenOptions::new().write(true).open(&control).expect("just made");
        Self {
            library,
            control,
            file,
        }
    }

    /// An agent whose disk and clock these are.
    pub fn start(&self, tape: &Path, flags: &[&str]) -> Agent {
        let environment = [
            ("LD_PRELOAD", self.library.as_path()),
            ("WIRETAPE_TEST_DOUBLE", self.control.as_path()),
        ];
        Agent::start_with(tape, flags, &environment)
    }

    /// Sets the wall's clock off by so many seconds.
    pub fn clock(&self, seconds: i64) {
        self.set(0, seconds * 1_000_000_000);
    }

    /// Each write into a segment takes so long.
    pub fn delay(&self, time: Duration) {
        self.set(8, i64::try_from(time.as_micros()).expect("not for ever"));
    }

    /// Each write into a segment fails so; 0 for not at all.
    pub fn fail(&self, errno: i32) {
        self.set(16, i64::from(errno));
    }

    fn set(&self, at: u64, value: i64) {
        self.file.write_all_at(&value.to_ne_bytes(), at).expect("written");
    }
}
