//! Where it plays: two network namespaces with a veth between them, and a cgroup for each process. Whatever happens,
//! nothing of it stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::scratch::{PREFIX, bound, on_signal, stale};

/// The receiver's address and the sender's.
pub const RECEIVER: &str = "10.213.0.2";
const SENDER: &str = "10.213.0.1";
/// Hardware addresses are given, so that no ARP is among the packets.
const RECEIVER_MAC: &str = "02:00:00:00:00:02";
const SENDER_MAC: &str = "02:00:00:00:00:01";
/// Name of the veth, at both ends.
pub const INTERFACE: &str = "veth0";

/// Whether the kernel counts the run time of programs.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Which end a process is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In the sender's namespace.
    Sender,
    /// In the receiver's.
    Receiver,
}

impl End {
    /// Of its namespace and its cgroup.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        }
    }
}

/// The namespaces and cgroups, gone when dropped.
pub struct Scene {
    names: Names,
}

impl Scene {
    /// Sets it up. From here on Ctrl-C and SIGTERM tear it down too, before they end the process.
    pub fn new() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "recording needs root: run it with sudo"
        );
        let root = cgroup_root()?;
        sweep(&root);
        let mut names = Names::of(std::process::id(), &root);
        names.stats = fs::read_to_string(STATS).ok();
        let scene = Self { names };
        let names = scene.names.clone();
        on_signal(move || names.tear_down())?;
        scene.set_up()?;
        Ok(scene)
    }

    fn set_up(&self) -> Result<()> {
        for end in [End::Sender, End::Receiver] {
            fs::create_dir_all(self.cgroup(end.name()))?;
            ip(&["netns", "add", &self.names.namespace(end)])?;
        }
        fs::create_dir_all(self.cgroup("recorder"))?;
        let (sender, receiver) = (
            self.names.namespace(End::Sender),
            self.names.namespace(End::Receiver),
        );
        ip(&[
            "-n",
            &sender,
            "link",
            "add",
            INTERFACE,
            "address",
            SENDER_MAC,
            "type",
            "veth",
            "peer",
            "name",
            INTERFACE,
            "address",
            RECEIVER_MAC,
            "netns",
            &receiver,
        ])?;
        for (namespace, own, other, other_mac) in [
            (&sender, SENDER, RECEIVER, RECEIVER_MAC),
            (&receiver, RECEIVER, SENDER, SENDER_MAC),
        ] {
            // Without IPv6 there are no router solicitations among the packets.
            let quiet = [
                "netns",
                "exec",
                namespace,
                "sysctl",
                "-qw",
                "net.ipv6.conf.all.disable_ipv6=1",
            ];
            ip(&quiet)?;
            ip(&[
                "-n",
                namespace,
                "addr",
                "add",
                &format!("{own}/30"),
                "dev",
                INTERFACE,
            ])?;
            ip(&["-n", namespace, "link", "set", INTERFACE, "up"])?;
            ip(&[
                "-n", namespace, "neigh", "add", other, "lladdr", other_mac, "dev", INTERFACE,
            ])?;
        }
        Ok(())
    }

    /// A command in the network namespace of an end. Not `ip netns exec`: that hides the cgroups.
    pub fn command(&self, end: End, program: &Path) -> Command {
        let mut command = bound(Path::new("nsenter"));
        command
            .arg(format!("--net=/run/netns/{}", self.names.namespace(end)))
            .arg(program);
        command
    }

    /// A cgroup of this scene: `sender`, `receiver` or `recorder`.
    pub fn cgroup(&self, name: &str) -> PathBuf {
        self.names.cgroup.join(name)
    }

    /// The cgroup above them.
    pub fn root(&self) -> PathBuf {
        self.names.cgroup.clone()
    }

    /// Has the kernel count the run time of programs, or not: that costs some ten nanoseconds for each run.
    pub fn count_programs(&self, on: bool) -> Result<()> {
        fs::write(STATS, if on { "1" } else { "0" })
            .context("asking the kernel to count the time of programs")
    }

    /// Has the veth take packets of so many bytes.
    pub fn set_mtu(&self, bytes: u32) -> Result<()> {
        for end in [End::Sender, End::Receiver] {
            let namespace = self.names.namespace(end);
            ip(&[
                "-n",
                &namespace,
                "link",
                "set",
                INTERFACE,
                "mtu",
                &bytes.to_string(),
            ])?;
        }
        Ok(())
    }

    /// Moves a process into one.
    pub fn enter(&self, name: &str, process: u32) -> Result<()> {
        let file = self.cgroup(name).join("cgroup.procs");
        fs::write(&file, process.to_string())
            .with_context(|| format!("moving a process into {}", file.display()))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.names.tear_down();
    }
}

/// What a scene's things are called, so that they can be found again by anyone.
#[derive(Clone)]
struct Names {
    id: u32,
    cgroup: PathBuf,
    /// What [`STATS`] was before.
    stats: Option<String>,
}

impl Names {
    fn of(id: u32, root: &Path) -> Self {
        Self {
            id,
            cgroup: root.join(format!("{PREFIX}{id}")),
            stats: None,
        }
    }

    fn namespace(&self, end: End) -> String {
        format!("{PREFIX}{}-{}", self.id, end.name())
    }

    /// Ends what runs in the cgroups and removes all. What is not there (any more) is no error.
    fn tear_down(&self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        for name in ["sender", "receiver", "recorder", ""] {
            remove_cgroup(&self.cgroup.join(name));
        }
        for end in [End::Sender, End::Receiver] {
            let namespace = self.namespace(end);
            if Path::new("/run/netns").join(&namespace).exists() {
                let _ = ip(&["netns", "del", &namespace]);
            }
        }
        if let Some(stats) = &self.stats {
            let _ = fs::write(STATS, stats);
        }
    }
}

/// Removes an empty cgroup; killed processes take a moment to leave it.
fn remove_cgroup(cgroup: &Path) {
    for _ in 0..100 {
        match fs::remove_dir(cgroup) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EBUSY as i32) => {
                thread::sleep(Duration::from_millis(20));
            }
            _ => return,
        }
    }
    eprintln!("{} could not be removed", cgroup.display());
}

/// Removes what benchmarks have left that were killed without warning.
fn sweep(root: &Path) {
    for id in stale(root) {
        let mut left = Names::of(id, root);
        // Whatever it was before, it is off on a machine that nobody looks into.
        left.stats = Some("0".to_owned());
        left.tear_down();
    }
}

/// Where the cgroup v2 hierarchy is mounted.
fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at))
    });
    found.context("no cgroup v2 hierarchy is mounted; the eBPF capture needs one")
}

fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("starting ip (iproute2)")?;
    if !out.status.success() {
        bail!(
            "ip {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(())
}
