//! cgroup id -> path -> process, from the cgroup and proc file systems.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Depth to which a recorded sub-tree is searched. Kubernetes uses five levels, systemd about as many.
const MAX_DEPTH: usize = 32;

/// Processes of a cgroup that are looked at for one that tells its name.
const MAX_PROCESSES: usize = 16;

/// The recorded sub-tree of the cgroup hierarchy.
#[derive(Debug)]
pub struct Cgroups {
    top: PathBuf,
    /// A cgroup's id is its directory's inode number, which is never used again.
    paths: HashMap<u64, PathBuf>,
}

/// A cgroup as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its path below the recorded sub-tree; empty for the sub-tree itself.
    pub path: String,
    /// What its oldest process is called; empty when it has none.
    pub process: String,
}

impl Cgroups {
    /// Of the sub-tree at `top`.
    pub fn new(top: PathBuf) -> Self {
        Self {
            top,
            paths: HashMap::new(),
        }
    }

    /// Looks up those of `cgroups` that exist. The sub-tree is walked only when one of them is not known yet.
    pub fn find(&mut self, cgroups: &[u64]) -> Vec<(u64, Found)> {
        if cgroups.iter().any(|id| !self.paths.contains_key(id)) {
            self.paths.clear();
            walk(&self.top, 0, &mut self.paths);
        }
        cgroups
            .iter()
            .filter_map(|id| Some((*id, self.look(*id)?)))
            .collect()
    }

    fn look(&self, id: u64) -> Option<Found> {
        let dir = self.paths.get(&id)?;
        // Another cgroup may have been made in the place of one that is gone.
        let still_there = fs::metadata(dir).is_ok_and(|metadata| metadata.ino() == id);
        let path = dir.strip_prefix(&self.top).ok().filter(|_| still_there)?;
        Some(Found {
            path: path.to_string_lossy().into_owned(),
            process: process(dir),
        })
    }
}

fn walk(dir: &Path, depth: usize, paths: &mut HashMap<u64, PathBuf>) {
    // A cgroup that goes away in the middle of this is as one that was not there.
    let Ok(metadata) = fs::metadata(dir) else { return };
    paths.insert(metadata.ino(), dir.to_owned());
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth + 1, paths);
        }
    }
}

/// The name of the cgroup's process: of the one with the lowest id, which usually started the others.
fn process(dir: &Path) -> String {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut ids: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    ids.sort_unstable();
    let names = ids
        .iter()
        .take(MAX_PROCESSES)
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok());
    names
        .map(|name| name.trim_end().to_owned())
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(dir: &Path) -> u64 {
        fs::metadata(dir).expect("the folder is there").ino()
    }

    #[test]
    fn a_cgroup_is_found_by_its_id_below_the_sub_tree() {
        let top = tempfile::tempdir().expect("a folder");
        let pod = top.path().join("kubepods/frontend");
        fs::create_dir_all(&pod).expect("two folders");
        fs::write(pod.join("cgroup.procs"), format!("{}\n", std::process::id())).expect("a file");
        let comm = fs::read_to_string("/proc/self/comm").expect("a name");
        let mut cgroups = Cgroups::new(top.path().to_owned());
        let found = cgroups.find(&[id(&pod), id(top.path()), 1]);
        let expected = Found {
            path: "kubepods/frontend".to_owned(),
            process: comm.trim_end().to_owned(),
        };
        assert_eq!(found, [(id(&pod), expected), (id(top.path()), Found::default())]);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_not_found() {
        let top = tempfile::tempdir().expect("a folder");
        let job = top.path().join("job");
        fs::create_dir(&job).expect("a folder");
        let (id, mut cgroups) = (id(&job), Cgroups::new(top.path().to_owned()));
        assert_eq!(cgroups.find(&[id]).len(), 1);
        fs::remove_dir(&job).expect("removed");
        assert_eq!(cgroups.find(&[id]), []);
    }
}
