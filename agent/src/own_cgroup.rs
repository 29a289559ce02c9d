//! The cgroup hierarchy as the agent finds it, and the agent's own place in it, which is not recorded: a
//! recorder that records its own talk with the hub would fill the tape with copies of the tape.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Config;

/// Why the agent's place in the hierarchy cannot be found or made.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The mounted hierarchy does not hold this process: it is a container's own, or another machine's.
    #[error("this process is in no cgroup below {}: mount the whole hierarchy of the machine", .root.display())]
    Absent {
        /// Where the hierarchy is mounted.
        root: PathBuf,
    },
    /// No cgroup v2 file system is mounted.
    #[error("no cgroup v2 hierarchy is mounted: mount one (type cgroup2), or record with --backend pcap")]
    NotMounted,
    /// `/proc/self/cgroup` has no line for v2.
    #[error("this process has no place in the cgroup v2 hierarchy (no line 0:: in /proc/self/cgroup)")]
    NoPlace,
    /// A path that is not a cgroup of this hierarchy.
    #[error("{} is not below the cgroup v2 hierarchy at {}", .path.display(), .root.display())]
    Outside {
        /// The path as given.
        path: PathBuf,
        /// Where the hierarchy is mounted.
        root: PathBuf,
    },
    /// A cgroup could not be read, made or entered.
    #[error("{action} {} failed", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The mounted cgroup v2 hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    root: PathBuf,
}

/// A cgroup as the kernel programs know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupId {
    /// The inode number of its directory, which is its id.
    pub id: u64,
    /// How far below the root it is.
    pub level: u32,
}

impl Hierarchy {
    /// Finds the hierarchy among the mounts.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`] when there is none, as on a machine with cgroup v1 only.
    pub fn find() -> Result<Self, CgroupError> {
        let mounts = read(Path::new("/proc/self/mounts"))?;
        let root = cgroup2_mount(&mounts).ok_or(CgroupError::NotMounted)?;
        Ok(Self { root })
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks a cgroup up, by the path of its directory or by its path below the root.
    ///
    /// # Errors
    /// When there is no such cgroup in this hierarchy.
    pub fn resolve(&self, path: &Path) -> Result<(PathBuf, CgroupId), CgroupError> {
        let given = if path.is_absolute() && path.starts_with(&self.root) {
            path.to_owned()
        } else {
            self.root.join(path.strip_prefix("/").unwrap_or(path))
        };
        let dir = fs::canonicalize(&given).map_err(io_error("finding the cgroup", &given))?;
        let outside = || CgroupError::Outside {
            path: path.to_owned(),
            root: self.root.clone(),
        };
        let below = dir.strip_prefix(&self.root).map_err(|_| outside())?;
        let level = u32::try_from(below.components().count()).map_err(|_| outside())?;
        let metadata = fs::metadata(&dir).map_err(io_error("reading the cgroup", &dir))?;
        Ok((
            dir,
            CgroupId {
                id: metadata.ino(),
                level,
            },
        ))
    }
}

/// What is recorded: a sub-tree of the hierarchy, without parts of it.
#[derive(Clone, Debug)]
pub struct SubTree {
    /// Where the hierarchy is mounted.
    pub root: PathBuf,
    /// The directory of its top.
    pub dir: PathBuf,
    /// Its top.
    pub top: CgroupId,
    /// The tops of what is left out.
    pub excluded: Vec<CgroupId>,
}

impl SubTree {
    /// As configured; `own` is the agent's cgroup, which is left out.
    ///
    /// # Errors
    /// When there is no hierarchy, or no such cgroup.
    pub fn of(config: &Config, own: Option<CgroupId>) -> Result<Self, CgroupError> {
        let hierarchy = Hierarchy::find()?;
        let (dir, top) = hierarchy.resolve(config.cgroup.as_deref().unwrap_or(Path::new("/")))?;
        let mut excluded: Vec<CgroupId> = own.into_iter().collect();
        for path in &config.exclude_cgroup {
            excluded.push(hierarchy.resolve(path)?.1);
        }
        Ok(Self {
            root: hierarchy.root,
            dir,
            top,
            excluded,
        })
    }
}

/// The agent's cgroup for as long as it runs.
#[derive(Debug)]
pub struct OwnCgroup {
    /// The cgroup that holds the agent and nothing else.
    pub id: CgroupId,
    /// Made by the agent: where, and where the agent came from.
    made: Option<(PathBuf, PathBuf)>,
}

/// How deep the hierarchy is searched. Kubernetes uses five levels, systemd about as many.
const MAX_DEPTH: usize = 32;

/// The names of cgroups made here begin so; the process id follows.
const PREFIX: &str = "wiretape-agent-";

impl OwnCgroup {
    /// Makes sure that the agent is alone in its cgroup, by moving it into one of its own if it is not. To be
    /// called before a socket is opened: a socket stays in the cgroup in which it was made.
    ///
    /// # Errors
    /// When the agent shares its cgroup and may not make another.
    pub fn enter(hierarchy: &Hierarchy) -> Result<Self, CgroupError> {
        let text = read(Path::new("/proc/self/cgroup"))?;
        let place = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or(CgroupError::NoPlace)?;
        let told = hierarchy.root().join(place.trim_start_matches('/'));
        let (home, id) = hierarchy.resolve(&find(hierarchy.root(), &told)?)?;
        if id.level > 0 && alone(&home)? {
            return Ok(Self { id, made: None });
        }
        sweep(hierarchy.root());
        let dir = hierarchy.root().join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).map_err(io_error("making the cgroup", &dir))?;
        let own = Self {
            id: hierarchy.resolve(&dir)?.1,
            made: Some((dir.clone(), home)),
        };
        move_to(&dir)?;
        Ok(own)
    }
}

/// Goes back and removes the cgroup, if the agent made one.
impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let Some((dir, home)) = &self.made else { return };
        if let Err(error) =
            move_to(home).and_then(|()| fs::remove_dir(dir).map_err(io_error("removing", dir)))
        {
            tracing::warn!(cgroup = %dir.display(), %error, "the agent's own cgroup stays behind");
        }
    }
}

/// The cgroup that this process is in: the one `told` by the kernel, or, in a container, one that is found by who is in
/// it. A container has a cgroup namespace, in which its own cgroup is called `/`, whatever it is in the node's hierarchy.
fn find(root: &Path, told: &Path) -> Result<PathBuf, CgroupError> {
    if lists_this_process(told)? {
        return Ok(told.to_owned());
    }
    search(root, 0).ok_or_else(|| CgroupError::Absent {
        root: root.to_owned(),
    })
}

fn search(dir: &Path, depth: usize) -> Option<PathBuf> {
    // One that goes away meanwhile is not ours, nor is one whose processes cannot be listed.
    if lists_this_process(dir).unwrap_or_default() {
        return Some(dir.to_owned());
    }
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries
        .filter(|entry| depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| search(&entry.path(), depth + 1))
}

/// Processes of other PID namespaces are listed as 0, so that a number is never another's.
fn lists_this_process(dir: &Path) -> Result<bool, CgroupError> {
    let own = std::process::id().to_string();
    Ok(read(&dir.join("cgroup.procs"))?.lines().any(|pid| pid == own))
}

/// Whether this process is the only one in the cgroup, which has none below it.
fn alone(dir: &Path) -> Result<bool, CgroupError> {
    let procs = read(&dir.join("cgroup.procs"))?;
    let own = std::process::id().to_string();
    Ok(procs.lines().all(|pid| pid == own))
}

fn move_to(dir: &Path) -> Result<(), CgroupError> {
    let procs = dir.join("cgroup.procs");
    // "0" is the process that writes, whatever its id is called in this PID namespace.
    fs::write(&procs, "0").map_err(io_error("entering the cgroup by writing", &procs))
}

/// Removes what agents that were killed have left. The kernel refuses to remove a cgroup in which there is a
/// process.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
    {
        if fs::remove_dir(entry.path()).is_ok() {
            tracing::info!(cgroup = %entry.path().display(), "removed what a killed agent had left");
        }
    }
}

fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (path, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path.replace("\\040", " ")))
    })
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(io_error("reading", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_version_1() {
        let mounts = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            cgroup2_mount(mounts),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(
            cgroup2_mount("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"),
            None
        );
    }

    #[test]
    fn in_a_container_the_own_cgroup_is_found_by_who_is_in_it() {
        let root = tempfile::tempdir().expect("a folder");
        let pod = root.path().join("kubepods/pod/container");
        fs::create_dir_all(&pod).expect("folders");
        let list = |dir: &Path, text: &str| fs::write(dir.join("cgroup.procs"), text).expect("a file");
        // A process of another PID namespace is listed as 0.
        list(root.path(), "0\n0\n");
        list(&pod, "0\n");
        assert!(matches!(
            find(root.path(), root.path()),
            Err(CgroupError::Absent { .. })
        ));
        list(&pod, &format!("0\n{}\n", std::process::id()));
        assert_eq!(find(root.path(), root.path()).expect("found"), pod);
        list(root.path(), &format!("{}\n", std::process::id()));
        assert_eq!(find(root.path(), root.path()).expect("found"), root.path());
    }

    #[test]
    fn a_path_outside_the_hierarchy_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let hierarchy = Hierarchy {
            root: root.path().to_owned(),
        };
        fs::create_dir_all(root.path().join("a/b")).expect("two folders");
        assert_eq!(hierarchy.resolve(Path::new("a/b")).expect("resolves").1.level, 2);
        assert_eq!(hierarchy.resolve(Path::new("/a")).expect("resolves").1.level, 1);
        assert!(hierarchy.resolve(Path::new("../../etc")).is_err());
        assert!(matches!(
            hierarchy.resolve(Path::new("missing")),
            Err(CgroupError::Io { .. })
        ));
    }
}
