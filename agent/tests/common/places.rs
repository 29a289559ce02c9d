//! Cgroups and network namespaces.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use wiretape_agent::own_cgroup::Hierarchy;

/// Different in every test of every process.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether cgroups can be made. Root of a user namespace makes none.
pub fn may_make_cgroups() -> bool {
    let root = Hierarchy::find().expect("a hierarchy").root().to_owned();
    let path = root.join(format!("wiretape-test-{}", unique()));
    fs::create_dir(&path).and_then(|()| fs::remove_dir(&path)).is_ok()
}

/// A cgroup, removed with all its processes when dropped.
pub struct Cgroup {
    pub path: PathBuf,
}

impl Cgroup {
    pub fn new() -> Self {
        let root = Hierarchy::find().expect("a hierarchy").root().to_owned();
        let path = root.join(format!("wiretape-test-{}", unique()));
        fs::create_dir(&path).expect("a cgroup");
        Self { path }
    }

    /// A cgroup in it, which goes with it.
    pub fn child(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).expect("a cgroup");
        path
    }

    /// The one at this path in it, and all above that.
    pub fn make(&self, path: &str) -> PathBuf {
        make(&self.path, path)
    }
}

pub fn cgroup_id(path: &Path) -> u64 {
    fs::metadata(path).expect("the cgroup is there").ino()
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn make(top: &Path, path: &str) -> PathBuf {
    let path = top.join(path);
    fs::create_dir_all(&path).expect("cgroups");
    path
}

/// Takes a cgroup away with all below it, once their processes have ended.
pub fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // Absent before Linux 5.14; then the processes must have ended by themselves.
    let _ = fs::write(path.join("cgroup.kill"), "1");
    for _ in 0..100 {
        if fs::remove_dir(path).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    eprintln!("{} stays behind", path.display());
}

/// A hierarchy of cgroup version 1 without a controller, such as systemd has, unmounted when dropped.
pub struct Version1 {
    name: String,
    place: PathBuf,
}

impl Version1 {
    pub fn mount(dir: &Path) -> Self {
        let (name, place) = (format!("name=wiretape-{}", unique()), dir.join("version-1"));
        fs::create_dir(&place).expect("a folder");
        let version_1 = Self { name, place };
        assert!(version_1.mounted(), "a hierarchy of version 1 is mounted");
        version_1
    }

    /// The cgroup at this path, and all above it.
    pub fn make(&self, path: &str) -> PathBuf {
        make(&self.place, path)
    }

    fn mounted(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-t", "cgroup", "-o", &format!("none,{}", self.name), "cgroup"]);
        mount
            .arg(&self.place)
            .status()
            .expect("mount is installed")
            .success()
    }

    fn is_there(&self) -> bool {
        fs::read_to_string("/proc/self/cgroup").is_ok_and(|lines| lines.contains(&self.name))
    }
}

impl Drop for Version1 {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.place).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        // The kernel gives a hierarchy up when it is unmounted with no cgroup in it, and takes a while to let go of those that
        // were removed.
        for _ in 0..20 {
            let _ = Command::new("umount").arg(&self.place).status();
            for _ in 0..20 {
                if !self.is_there() {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            self.mounted();
        }
        eprintln!("the hierarchy {} stays behind", self.name);
    }
}

/// A small file system in memory, unmounted when dropped.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn new(dir: &Path, size: &str) -> Self {
        let disk = dir.join("disk");
        fs::create_dir(&disk).expect("a folder");
        let mut mount = Command::new("mount");
        let mounted = mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&disk)
            .status();
        assert!(
            mounted.expect("mount is installed").success(),
            "a tmpfs is mounted"
        );
        Self(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A BPF file system of its own, unmounted when dropped: what is pinned goes with it.
pub struct BpfFs(pub PathBuf);

impl BpfFs {
    pub fn new(dir: &Path) -> Self {
        let place = dir.join("bpf");
        fs::create_dir(&place).expect("a folder");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "bpf", "bpf"]).arg(&place).status();
        assert!(
            mounted.expect("mount is installed").success(),
            "a BPF file system is mounted"
        );
        Self(place)
    }

    /// All that agents have pinned below `wiretape` in it.
    pub fn pins(&self) -> Vec<PathBuf> {
        fn files(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    files(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        files(&self.0.join("wiretape"), &mut found);
        found
    }

    /// Has the agent take away what nobody uses.
    pub fn cleanup(&self) {
        let cleaned = Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
            .args(["cleanup", "--pin"])
            .arg(self.0.join("wiretape"))
            .status();
        assert!(cleaned.expect("the agent starts").success());
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Two network namespaces, `left` 10.99.0.1 and `right` 10.99.0.2, joined by a veth pair whose ends are both
/// called `wire`.
pub struct Link {
    pub left: String,
    pub right: String,
}

pub const LEFT: &str = "10.99.0.1";
pub const RIGHT: &str = "10.99.0.2";

impl Link {
    pub fn new() -> Self {
        let unique = unique();
        let link = Self {
            left: format!("wtl-{unique}"),
            right: format!("wtr-{unique}"),
        };
        let (left, right) = (link.left.as_str(), link.right.as_str());
        ip(&["netns", "add", left]);
        ip(&["netns", "add", right]);
        ip(&[
            "-n", left, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", right,
        ]);
        for (namespace, address) in [(left, LEFT), (right, RIGHT)] {
            ip(&[
                "-n",
                namespace,
                "address",
                "add",
                &format!("{address}/24"),
                "dev",
                "wire",
            ]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "link", "set", "wire", "up"]);
        }
        link
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.left, &self.right] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

pub fn ip(args: &[&str]) {
    let output = Command::new("ip")
        .args(args)
        .output()
        .expect("ip of iproute2 is installed");
    assert!(
        output.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Rules of netfilter in a network namespace, gone with it.
pub struct Firewall<'a> {
    namespace: &'a str,
}

impl<'a> Firewall<'a> {
    /// Drops and counts what `rule` of nft's language means at a hook. `None`, and says so, where there is no nft or no kernel for
    /// it, or one that does not tell of it (before Linux 5.18).
    pub fn new(namespace: &'a str, hook: &str, rule: &str) -> Option<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("is there");
        let mut numbers = release
            .split(['.', '-'])
            .map_while(|number| number.parse::<u32>().ok());
        if (numbers.next(), numbers.next()) < (Some(5), Some(18)) {
            eprintln!("SKIPPED: Linux {release} does not say what its firewall drops");
            return None;
        }
        let firewall = Self { namespace };
        // What an interface receives, whoever it is for, has a family of its own.
        let (family, at) = match hook {
            "ingress" => ("netdev", "ingress device wire"),
            hook => ("inet", hook),
        };
        let rules = format!(
            "add table {family} t; add chain {family} t c {{ type filter hook {at} priority 0; }}; add rule {family} t c {rule} counter drop"
        );
        if firewall.nft(&rules).is_none() {
            eprintln!("SKIPPED: this test needs nft, and a kernel with nf_tables");
            return None;
        }
        Some(firewall)
    }

    /// Packets that were dropped.
    pub fn dropped(&self) -> usize {
        let listed = self.nft("list ruleset").expect("nft runs");
        let of_rule = |(_, rest): (&str, &str)| rest.split(' ').next()?.parse().ok();
        listed
            .split_once("counter packets ")
            .and_then(of_rule)
            .expect("a counter")
    }

    fn nft(&self, command: &str) -> Option<String> {
        let mut ip = Command::new("ip");
        let ran = ip
            .args(["netns", "exec", self.namespace, "nft", command])
            .output()
            .ok()?;
        ran.status
            .success()
            .then(|| String::from_utf8_lossy(&ran.stdout).into_owned())
    }
}
