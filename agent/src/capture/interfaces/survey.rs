//! Which network namespaces the recorded processes are in.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Depth to which the recorded sub-tree is searched, as for its names.
const MAX_DEPTH: usize = 32;

/// A namespace as the processes show it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A process that is in it.
    pub process: u32,
    /// The cgroup that all of its processes have in common, but for those at the top of the sub-tree: it is from there
    /// that a container's first process comes, or somebody who looks into its namespace. `None` where there are no others.
    pub owner: Option<PathBuf>,
}

/// Asks every process of the sub-tree for its network namespace.
pub(super) fn survey(dir: &Path, depth: usize, found: &mut HashMap<u64, Found>) {
    // What goes away in the middle of this is as what was not there.
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for process in procs.lines().filter_map(|line| line.parse().ok()) {
        let Some(inode) = namespace_of(process) else {
            continue;
        };
        let found = found.entry(inode).or_insert(Found { process, owner: None });
        if depth > 0 {
            found.owner = Some(match &found.owner {
                Some(owner) => common(owner, dir),
                None => dir.to_owned(),
            });
        }
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if depth < MAX_DEPTH {
            survey(&entry.path(), depth + 1, found);
        }
    }
}

/// The inode number in `net:[4026531840]`.
pub(super) fn namespace_of(process: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn common(one: &Path, other: &Path) -> PathBuf {
    let parts = one.components().zip(other.components());
    parts
        .take_while(|(one, other)| one == other)
        .map(|(part, _)| part)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn containers_of_a_pod_have_the_pod_in_common() {
        let owner = common(Path::new("/cgroup/pods/a/one"), Path::new("/cgroup/pods/a/two"));
        assert_eq!(owner, Path::new("/cgroup/pods/a"));
        assert_eq!(common(&owner, Path::new("/cgroup/pods/a")), owner);
    }

    #[test]
    fn a_process_at_the_top_is_not_whose_the_namespace_is() {
        let top = tempfile::tempdir().expect("a folder");
        let own = std::process::id();
        fs::write(top.path().join("cgroup.procs"), format!("{own}\n")).expect("a file");
        let owner = || {
            let mut found = HashMap::new();
            survey(top.path(), 0, &mut found);
            found.into_values().next().expect("a namespace").owner
        };
        assert_eq!(owner(), None);
        let pod = top.path().join("pod");
        fs::create_dir(&pod).expect("a folder");
        fs::write(pod.join("cgroup.procs"), format!("{own}\n")).expect("a file");
        assert_eq!(owner(), Some(pod));
    }

    #[test]
    fn the_namespace_of_a_process_is_found_by_its_cgroup() {
        let top = tempfile::tempdir().expect("a folder");
        let pod = top.path().join("pod");
        fs::create_dir(&pod).expect("a folder");
        let own = std::process::id();
        fs::write(pod.join("cgroup.procs"), format!("{own}\n4294967295\n")).expect("a file");
        let mut found = HashMap::new();
        survey(top.path(), 0, &mut found);
        let inode = fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found.get(&inode),
            Some(&Found {
                process: own,
                owner: Some(pod)
            })
        );
    }
}
