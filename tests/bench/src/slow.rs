//! A disk of a chosen rate: a file as a block device, whose writes the kernel holds back.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{major, minor};

/// Bytes a second that may be written to a device. The root of version 1's hierarchy limits what the page cache writes too,
/// which no process does; version 2 has no limit there.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

/// The disk, mounted. Gone when dropped.
pub struct SlowDisk {
    place: PathBuf,
}

impl SlowDisk {
    /// Where it is mounted, in the folder in which it is made.
    pub const PLACE: &str = "disk";

    /// Makes one in `dir`, of `bytes`, which takes `rate` bytes a second.
    ///
    /// # Errors
    /// Without root, loop devices, or version 1's hierarchy of block devices.
    pub fn new(dir: &Path, bytes: u64, rate: u64) -> Result<Self> {
        ensure!(
            Path::new(THROTTLE).exists(),
            "this needs {THROTTLE}: version 1 of the cgroup hierarchy, for block devices"
        );
        let file = dir.join("disk.img");
        File::create(&file)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file))?;
        let place = dir.join(Self::PLACE);
        fs::create_dir(&place)?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&place))?;
        let disk = Self { place };
        throttle(&disk.place, rate)?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Takes away the one that is mounted at `place`, if there is one; its file stays.
    pub fn release(place: &Path) {
        let device = |path: Option<&Path>| path.and_then(|path| fs::metadata(path).ok()).map(|it| it.dev());
        let here = device(Some(place));
        if here.is_some() && here != device(place.parent()) {
            // 0 is no limit: the device goes back to all.
            let _ = throttle(place, 0);
            let _ = run(Command::new("umount").arg("-l").arg(place));
        }
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        Self::release(&self.place);
    }
}

/// Sets the rate of the device that is mounted there.
fn throttle(place: &Path, rate: u64) -> Result<()> {
    let device = fs::metadata(place)?.dev();
    let limit = format!("{}:{} {rate}", major(device), minor(device));
    fs::write(THROTTLE, limit).context("the kernel does not hold writes back")
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    ensure!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
