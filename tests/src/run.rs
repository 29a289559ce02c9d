//! One run: everything that it makes on this machine bears its name, and is taken away when it ends, however it ends.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail, ensure};

use crate::network::NAMESPACES;

/// What takes a run away.
const CLEANUP: &str = include_str!("cleanup.sh");
/// What every run's name begins with.
const PREFIX: &str = "wiretape";

/// The variable in the environment of a run's processes that names the run: where there are no cgroups, it tells which
/// they are.
pub const MARK: &str = "WIRETAPE_RUN";

/// One run. Dropping it ends every process of it and removes its cgroups, namespaces and files; if this process is
/// killed instead, a shell that waits beside it does the same.
#[derive(Debug)]
pub struct Run {
    name: String,
    /// Its cgroup, or why it has none.
    cgroup: Result<PathBuf, String>,
    folder: PathBuf,
    cleaner: Child,
}

impl Run {
    /// Begins a run, after taking away what is left of runs whose process is gone.
    ///
    /// # Errors
    /// Not root, or no folder can be made: the error says what is missing. No cgroups is no error: nothing but eBPF
    /// needs them.
    pub fn begin() -> anyhow::Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        ensure!(is_root(), "making network namespaces needs root");
        let hierarchy = cgroup_hierarchy();
        sweep(hierarchy.as_deref().ok());
        let pid = std::process::id();
        let born = born(pid).context("/proc does not tell when this process began")?;
        let ordinal = RUNS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{pid}-{born}-{ordinal}");
        let cgroup = hierarchy.map(|hierarchy| hierarchy.join(&name));
        let folder = std::env::temp_dir().join(&name);
        // The cleaner comes first, so that nothing is ever made that nobody would take away.
        let cleaner = cleanup(&name, cgroup.as_deref().ok(), &folder, Stdio::piped())?;
        let run = Self {
            name,
            cgroup: cgroup.and_then(make_cgroup).map_err(|error| format!("{error:#}")),
            folder,
            cleaner,
        };
        fs::create_dir_all(&run.folder).with_context(|| format!("cannot make {}", run.folder.display()))?;
        Ok(run)
    }

    /// Its name, which the names of all its things begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder, for tapes, logs and data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A cgroup below the run's own; `None` where there are none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn cgroup(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        let Ok(cgroup) = &self.cgroup else {
            return Ok(None);
        };
        let cgroup = cgroup.join(path);
        fs::create_dir_all(&cgroup).with_context(|| format!("cannot make cgroup {}", cgroup.display()))?;
        Ok(Some(cgroup))
    }

    /// Why there are no cgroups, where there are none.
    pub fn lacks_cgroups(&self) -> Option<&str> {
        self.cgroup.as_ref().err().map(String::as_str)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Waiting closes the cleaner's input first, which is its order to begin.
        if let Err(error) = self.cleaner.wait() {
            eprintln!("cleaning {} up: {error}", self.name);
        }
    }
}

/// Whether this process may do what needs root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Where the cgroup v2 hierarchy is mounted.
fn cgroup_hierarchy() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(1);
        if let (Some(path), Some("cgroup2")) = (fields.next(), fields.next()) {
            return Ok(PathBuf::from(path));
        }
    }
    bail!("no cgroup v2 hierarchy is mounted");
}

fn make_cgroup(path: PathBuf) -> anyhow::Result<PathBuf> {
    fs::create_dir(&path).with_context(|| format!("cannot make cgroup {}", path.display()))?;
    Ok(path)
}

/// Takes away what is left of runs whose process is gone.
fn sweep(hierarchy: Option<&Path>) {
    let (files, namespaces) = (std::env::temp_dir(), Path::new(NAMESPACES));
    for folder in hierarchy.into_iter().chain([files.as_path(), namespaces]) {
        // Without their folder there are no namespaces to take away.
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let file_name = entry.file_name();
            let Some(name) = run_name(&file_name.to_string_lossy()) else {
                continue;
            };
            let swept = cleanup(
                &name,
                hierarchy.map(|hierarchy| hierarchy.join(&name)).as_deref(),
                &files.join(&name),
                Stdio::null(),
            );
            if let Err(error) = swept.and_then(|mut cleaner| cleaner.wait()) {
                eprintln!("cleaning {name} up: {error}");
            }
        }
    }
}

/// The name of the run that something of this name belongs to, if it is a run's and the run's process is gone.
fn run_name(thing: &str) -> Option<String> {
    let mut parts = thing.strip_prefix(PREFIX)?.strip_prefix('-')?.splitn(4, '-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let when: u64 = parts.next()?.parse().ok()?;
    let ordinal: u32 = parts.next()?.parse().ok()?;
    // A process id is given again; the time of birth tells the two apart.
    (born(pid) != Some(when)).then(|| format!("{PREFIX}-{pid}-{when}-{ordinal}"))
}

/// When a process began, in the kernel's ticks since boot; `None` when there is none of that id.
fn born(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything. After it come the state (field 3) and 18 others (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

fn cleanup(name: &str, cgroup: Option<&Path>, folder: &Path, stdin: Stdio) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", CLEANUP, "cleanup", &format!("{MARK}={name}"), name])
        .arg(cgroup.unwrap_or(Path::new("")))
        .arg(folder)
        .stdin(stdin)
        .stdout(Stdio::null())
        // Out of reach of a Ctrl-C that is meant for the run.
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_living_runs_and_of_others_are_left_alone() {
        let pid = std::process::id();
        let born = born(pid).unwrap();
        assert_eq!(run_name(&format!("wiretape-{pid}-{born}-0")), None);
        assert_eq!(run_name("wiretape-agent-17"), None);
        assert_eq!(run_name("wiretape"), None);
        assert_eq!(
            run_name(&format!("wiretape-{pid}-{}-3-node-1", born + 1)),
            Some(format!("wiretape-{pid}-{}-3", born + 1))
        );
    }
}
