//! cgroup id -> path -> processes, from the cgroup and proc file systems, and what the kernel tells of cgroups that are made.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use wiretape_tape::Nanos;

use super::place::{ByVersion1, Place};

/// Depth to which a recorded sub-tree is searched. Kubernetes uses five levels, systemd about as many.
const MAX_DEPTH: usize = 32;

/// Processes of a cgroup that are looked at for one that tells its name.
const MAX_PROCESSES: usize = 16;

/// Processes of a cgroup, the youngest, that are asked for their containers of version 1.
const MAX_ASKED: usize = 256;

/// Cgroups that are remembered. A node has a few hundred; each takes some 300 bytes.
const MAX_KNOWN: usize = 32 * 1024;

/// How long a cgroup that is gone is told of. What Kubernetes knows of it may come late.
pub const LINGER: Nanos = 60_000_000_000;

/// The recorded sub-tree of the cgroup hierarchy.
#[derive(Debug)]
pub struct Cgroups {
    /// Where the hierarchy is mounted.
    root: PathBuf,
    /// Where the recorded sub-tree begins.
    top: PathBuf,
    /// Processes may be in containers by hierarchies of version 1.
    version_1: bool,
    /// A cgroup's id is its directory's inode number, which is never used again.
    known: HashMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    dir: PathBuf,
    /// What its path says.
    place: Place,
    /// The last that was seen of its processes.
    process: String,
    /// What they said of it.
    by_version_1: ByVersion1,
    gone: Option<Nanos>,
}

/// A cgroup as it is now, or was last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its path below the recorded sub-tree; empty for the sub-tree itself.
    pub path: String,
    /// What its oldest process is or was called; empty when it never had one, or several containers share it.
    pub process: String,
    /// What its path says, or its processes' places in version 1.
    pub place: Place,
    /// When it was found to be gone.
    pub gone: Option<Nanos>,
}

impl Cgroups {
    /// Of the sub-tree at `top`, in the hierarchy mounted at `root`.
    pub fn new(root: PathBuf, top: PathBuf) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut cgroups = Self {
            root,
            top,
            version_1: own.lines().any(|line| !line.starts_with("0::")),
            known: HashMap::new(),
        };
        cgroups.walk();
        cgroups
    }

    /// Looks up those of `cgroups` that exist, or did a while ago. The sub-tree is walked only when one of them is not known.
    pub fn find(&mut self, cgroups: &[u64], now: Nanos) -> Vec<(u64, Found)> {
        if cgroups.iter().any(|id| !self.known.contains_key(id)) {
            self.walk();
        }
        cgroups
            .iter()
            .filter_map(|id| Some((*id, self.look(*id, now)?)))
            .collect()
    }

    /// What is known of a cgroup without looking.
    pub fn known(&self, id: u64) -> Option<&Place> {
        self.known.get(&id).map(Known::place)
    }

    /// The kernel has made a cgroup, at this path below the hierarchy's root. Gives what it is, if it is recorded.
    pub fn made(&mut self, id: u64, path: &str) -> Option<&Place> {
        let dir = self.root.join(path.trim_start_matches('/'));
        if !dir.starts_with(&self.top) {
            return None;
        }
        self.make_room();
        let known = self.known.entry(id).or_insert_with(|| Known::at(dir, &self.top));
        Some(known.place())
    }

    /// The kernel has started a process in a cgroup: the cgroup is called so if nobody looks in time.
    pub fn started(&mut self, id: u64, process: &str) {
        if let Some(known) = self.known.get_mut(&id)
            && known.process != process
        {
            process.clone_into(&mut known.process);
        }
    }

    fn look(&mut self, id: u64, now: Nanos) -> Option<Found> {
        let version_1 = self.version_1;
        let known = self.known.get_mut(&id)?;
        // Another cgroup may have been made in the place of one that is gone.
        let there =
            known.gone.is_none() && fs::metadata(&known.dir).is_ok_and(|metadata| metadata.ino() == id);
        if there {
            let processes = processes(&known.dir);
            if let Some(name) = process_name(&processes) {
                known.process = name;
            }
            if version_1 && !known.place.is_contained() && !processes.is_empty() {
                known.said_by_version_1(by_version_1(&processes));
            }
        } else if now.saturating_sub(*known.gone.get_or_insert(now)) > LINGER {
            self.known.remove(&id);
            return None;
        }
        Some(Found {
            path: known
                .dir
                .strip_prefix(&self.top)
                .ok()?
                .to_string_lossy()
                .into_owned(),
            process: known.process().to_owned(),
            place: known.place().clone(),
            gone: known.gone,
        })
    }

    fn walk(&mut self) {
        let mut found = Vec::new();
        walk(&self.top, 0, &mut found);
        self.make_room();
        for (id, dir) in found.into_iter().take(MAX_KNOWN) {
            self.known.entry(id).or_insert_with(|| Known::at(dir, &self.top));
        }
    }

    /// Forgets cgroups that nobody asked for and that are gone, when there are many.
    fn make_room(&mut self) {
        if self.known.len() >= MAX_KNOWN {
            self.known
                .retain(|id, known| fs::metadata(&known.dir).is_ok_and(|metadata| metadata.ino() == *id));
        }
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
    }
}

impl Known {
    fn at(dir: PathBuf, top: &Path) -> Self {
        let below = dir.strip_prefix(top).unwrap_or(&dir).to_string_lossy();
        Self {
            place: Place::of_path(&below),
            dir,
            process: String::new(),
            by_version_1: ByVersion1::Nothing,
            gone: None,
        }
    }

    fn said_by_version_1(&mut self, said: ByVersion1) {
        if said == ByVersion1::Shared && self.by_version_1 != ByVersion1::Shared {
            let dir = self.dir.display();
            tracing::warn!(
                "containers of cgroup version 1 share {dir}: their packets are told by addresses alone"
            );
        }
        self.by_version_1 = said;
    }

    fn place(&self) -> &Place {
        const NOBODYS: &Place = &Place {
            pod: String::new(),
            container: String::new(),
            unit: String::new(),
        };
        match &self.by_version_1 {
            ByVersion1::Nothing => &self.place,
            ByVersion1::One(place) => place,
            ByVersion1::Shared => NOBODYS,
        }
    }

    /// None where containers share it: their packets are not those of the oldest process.
    fn process(&self) -> &str {
        match self.by_version_1 {
            ByVersion1::Shared => "",
            ByVersion1::Nothing | ByVersion1::One(_) => &self.process,
        }
    }
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<(u64, PathBuf)>) {
    // A cgroup that goes away in the middle of this is as one that was not there.
    let Ok(metadata) = fs::metadata(dir) else { return };
    found.push((metadata.ino(), dir.to_owned()));
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth + 1, found);
        }
    }
}

/// Those of a cgroup, in order.
fn processes(dir: &Path) -> Vec<u32> {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut ids: Vec<u32> = procs.lines().filter_map(|line| line.parse().ok()).collect();
    ids.sort_unstable();
    ids
}

/// The name of the one with the lowest id, which usually started the others.
fn process_name(processes: &[u32]) -> Option<String> {
    let names = processes
        .iter()
        .take(MAX_PROCESSES)
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok());
    names
        .map(|name| name.trim_end().to_owned())
        .find(|name| !name.is_empty())
}

fn by_version_1(processes: &[u32]) -> ByVersion1 {
    let asked = processes.iter().rev().take(MAX_ASKED);
    // One that ends meanwhile says nothing.
    ByVersion1::of_processes(asked.filter_map(|id| fs::read_to_string(format!("/proc/{id}/cgroup")).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(dir: &Path) -> u64 {
        fs::metadata(dir).expect("the folder is there").ino()
    }

    fn at(top: &Path) -> Cgroups {
        Cgroups::new(top.to_owned(), top.to_owned())
    }

    #[test]
    fn a_cgroup_is_found_by_its_id_below_the_sub_tree() {
        let top = tempfile::tempdir().expect("a folder");
        let pod = top.path().join("kubepods/frontend");
        fs::create_dir_all(&pod).expect("two folders");
        fs::write(pod.join("cgroup.procs"), format!("{}\n", std::process::id())).expect("a file");
        let comm = fs::read_to_string("/proc/self/comm").expect("a name");
        let found = at(top.path()).find(&[id(&pod), id(top.path()), 1], 5);
        let expected = Found {
            path: "kubepods/frontend".to_owned(),
            process: comm.trim_end().to_owned(),
            ..Found::default()
        };
        assert_eq!(found, [(id(&pod), expected), (id(top.path()), Found::default())]);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_told_of_for_a_while() {
        let top = tempfile::tempdir().expect("a folder");
        let job = top.path().join("job");
        fs::create_dir(&job).expect("a folder");
        let (id, mut cgroups) = (id(&job), at(top.path()));
        cgroups.started(id, "true");
        fs::remove_dir(&job).expect("removed");
        let found = cgroups.find(&[id], 7);
        assert_eq!((found[0].1.process.as_str(), found[0].1.gone), ("true", Some(7)));
        assert_eq!(cgroups.find(&[id], 7 + LINGER)[0].1.gone, Some(7));
        assert_eq!(cgroups.find(&[id], 8 + LINGER), []);
    }

    #[test]
    fn a_cgroup_gone_before_anybody_looked_is_known_by_its_making() {
        let top = tempfile::tempdir().expect("a folder");
        let mut cgroups = Cgroups::new(top.path().to_owned(), top.path().join("node-1"));
        assert_eq!(cgroups.made(8, "/node-2/job"), None);
        assert_eq!(
            cgroups.made(9, "/node-1/nginx.service").expect("recorded").unit,
            "nginx.service"
        );
        cgroups.started(9, "nginx");
        let found = cgroups.find(&[8, 9], 5);
        let expected = Found {
            path: "nginx.service".to_owned(),
            process: "nginx".to_owned(),
            place: Place::of_path("nginx.service"),
            gone: Some(5),
        };
        assert_eq!(found, [(9, expected)]);
    }

    #[test]
    fn cgroups_beyond_the_limit_push_out_those_that_are_gone() {
        let top = tempfile::tempdir().expect("a folder");
        let mut cgroups = at(top.path());
        for made in 1..=MAX_KNOWN as u64 + 1 {
            cgroups.made(made, &format!("gone-{made}"));
        }
        assert!(cgroups.known.len() <= MAX_KNOWN, "{}", cgroups.known.len());
    }
}
