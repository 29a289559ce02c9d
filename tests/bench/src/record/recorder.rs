//! The recorders that are compared, started and stopped the same way.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::accounts;
use super::scene::{End, INTERFACE, Scene};
use crate::scratch::bound;

/// Memory for bursts, the same for all: the agent's default.
const BUFFER_MIB: u32 = 64;
/// Longer than any run's packets, so that the ring takes none of them.
const TAPE_SIZE: &str = "16GiB";
/// How often a recorder is asked whether it is ready, 50 ms apart.
const ASKED: u32 = 200;

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Nobody: what the traffic costs by itself.
    Nobody,
    /// The agent, by eBPF, at the sender's cgroup: each packet once, where it leaves its socket.
    Wiretape,
    /// `tcpdump -w` on the sender's end of the veth.
    Tcpdump,
    /// `dumpcap`, which records for Wireshark, there too.
    Dumpcap,
    /// `stenotype`, which records for Stenographer, there too.
    Stenographer,
}

impl Who {
    /// The others.
    pub const PEERS: [Self; 3] = [Self::Tcpdump, Self::Dumpcap, Self::Stenographer];

    /// What it is called in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Wiretape => "wiretape",
            Self::Tcpdump => "tcpdump -w",
            Self::Dumpcap => "dumpcap",
            Self::Stenographer => "stenographer",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Nobody => "true",
            Self::Wiretape => "wiretape-agent",
            Self::Tcpdump => "tcpdump",
            Self::Dumpcap => "dumpcap",
            Self::Stenographer => "stenotype",
        }
    }

    /// Whether it is installed.
    pub fn is_there(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(self.program()).is_file())
    }
}

/// What a recorder records, and where to.
pub struct Tape<'a> {
    /// Its files.
    pub dir: &'a Path,
    /// Our agent's sub-tree of cgroups.
    pub cgroup: PathBuf,
    /// More arguments for our agent.
    pub agent: &'a [String],
}

/// A recorder that runs.
pub struct Recorder {
    who: Who,
    child: Child,
    dir: PathBuf,
    said: JoinHandle<String>,
    /// Where our agent answers.
    listen: Option<SocketAddr>,
}

/// What a recorder left.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The files with the packets, in order.
    pub files: Vec<PathBuf>,
    /// What it counted as lost itself, as far as it is not in the files.
    pub lost: u64,
}

impl Recorder {
    /// Starts one, and waits until it records. `None` for [`Who::Nobody`].
    pub fn start(who: Who, scene: &Scene, tape: &Tape<'_>) -> Result<Option<Self>> {
        let started = match who {
            Who::Nobody => return Ok(None),
            Who::Wiretape => agent(scene, tape)?,
            Who::Tcpdump => tcpdump(scene, tape.dir)?,
            Who::Dumpcap => dumpcap(scene, tape.dir)?,
            Who::Stenographer => stenotype(scene, tape.dir)?,
        };
        Ok(Some(started))
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where our agent answers.
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Stops it as its users do, and sums up.
    pub fn stop(mut self) -> Result<Outcome> {
        let signal = if self.who == Who::Wiretape {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        };
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        if self.who == Who::Stenographer {
            self.end_stenotype()?;
        } else {
            let status = self.child.wait()?;
            ensure!(status.success(), "{:?} ended with {status}", self.who);
        }
        let said = self.said.join().unwrap_or_default();
        let lost = match self.who {
            Who::Nobody | Who::Wiretape => 0,
            Who::Tcpdump => before_words(&said, " dropped by kernel")?,
            Who::Dumpcap => dropped_by_dumpcap(&said)?,
            Who::Stenographer => dropped_by_stenotype(&said),
        };
        let mut files = Vec::new();
        for folder in [self.dir.clone(), self.dir.join(STENOTYPE_PACKETS)] {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry?.path();
                let end = path.extension().and_then(|end| end.to_str());
                let is_stenotypes = path.parent().is_some_and(|parent| parent != self.dir);
                if path.is_file() && (is_stenotypes || matches!(end, Some("pcapng" | "pcap"))) {
                    files.push(path);
                }
            }
        }
        files.sort();
        Ok(Outcome { files, lost })
    }

    /// It waits for a last packet that may never come; by then all others are on the disk.
    fn end_stenotype(&mut self) -> Result<()> {
        for _ in 0..20 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// The agent, as a node runs it.
fn agent(scene: &Scene, tape: &Tape<'_>) -> Result<Recorder> {
    let program = std::env::current_exe()?.with_file_name("wiretape-agent");
    ensure!(
        program.exists(),
        "{} is not built: run cargo build --release",
        program.display()
    );
    let listen = free_address()?;
    // It moves to a cgroup of its own, so its end does not come with the scene's.
    let mut command = bound(&program);
    command.args([
        "--backend",
        "ebpf",
        "--node-name",
        "bench",
        "--tape-size",
        TAPE_SIZE,
        // Pinned, its programs would go on while others record.
        "--pin",
        "none",
    ]);
    if !tape
        .agent
        .iter()
        .any(|argument| argument.starts_with("--buffer-size"))
    {
        command.arg(format!("--buffer-size={BUFFER_MIB}MiB"));
    }
    command.arg(format!("--listen={listen}"));
    command.arg(format!("--tape={}", tape.dir.display()));
    command.arg(format!("--cgroup={}", tape.cgroup.display()));
    command.args(tape.agent);
    let mut recorder = start(Who::Wiretape, command, scene, tape.dir, |_| healthy(listen))?;
    recorder.listen = Some(listen);
    Ok(recorder)
}

/// `tcpdump` with a buffer as large as the agent's, and nothing else that differs from its defaults.
fn tcpdump(scene: &Scene, dir: &Path) -> Result<Recorder> {
    let mut command = scene.command(End::Sender, Path::new("tcpdump"));
    // It stays root, or it could not write into the folder. Its buffer is in KiB.
    command.args([
        "-n",
        "-Z",
        "root",
        "-i",
        INTERFACE,
        "-B",
        &(BUFFER_MIB * 1024).to_string(),
        "-w",
    ]);
    command.arg(dir.join("tcpdump.pcap"));
    start(Who::Tcpdump, command, scene, dir, |said| {
        said.contains("listening on")
    })
}

/// `dumpcap` with such a buffer, into pcapng.
fn dumpcap(scene: &Scene, dir: &Path) -> Result<Recorder> {
    let mut command = scene.command(End::Sender, Path::new("dumpcap"));
    command.args(["-q", "-i", INTERFACE, "-B", &BUFFER_MIB.to_string(), "-w"]);
    command.arg(dir.join("dumpcap.pcapng"));
    start(Who::Dumpcap, command, scene, dir, |said| said.contains("File:"))
}

/// Where `stenotype` puts packets, and where its index of them.
const STENOTYPE_PACKETS: &str = "PKT0";
const STENOTYPE_INDEX: &str = "IDX0";

/// `stenotype` with such a buffer and one thread, its index with it.
fn stenotype(scene: &Scene, dir: &Path) -> Result<Recorder> {
    for folder in [STENOTYPE_PACKETS, STENOTYPE_INDEX] {
        fs::create_dir(dir.join(folder))?;
    }
    let mut command = scene.command(End::Sender, Path::new("stenotype"));
    command.args(["-v", "--threads=1", "--blockage_sec=1", "--stats_sec=1"]);
    command.args(["--seccomp=none", "--uid=root", "--gid=root", "--no_promisc"]);
    command.arg(format!("--iface={INTERFACE}"));
    command.arg(format!("--dir={}", dir.display()));
    command.arg(format!("--blocks={BUFFER_MIB}"));
    command.arg(format!("--aiops={}", BUFFER_MIB / 2));
    start(Who::Stenographer, command, scene, dir, |said| {
        said.contains("starting to process packets")
    })
}

fn start(
    who: Who,
    mut command: Command,
    scene: &Scene,
    dir: &Path,
    ready: impl Fn(&str) -> bool,
) -> Result<Recorder> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {who:?}"))?;
    scene.enter("recorder", child.id())?;
    let stderr = child.stderr.take().context("no stderr")?;
    let (line_out, line_in) = mpsc::channel();
    let said = thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            all.push_str(&line);
            all.push('\n');
            // Nobody listens any more once the recorder is ready.
            let _ = line_out.send(line);
        }
        all
    });
    let mut heard = String::new();
    for _ in 0..ASKED {
        heard.extend(line_in.try_iter());
        if ready(&heard) {
            return Ok(Recorder {
                who,
                child,
                dir: dir.to_owned(),
                said,
                listen: None,
            });
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "{who:?} ended at once with {status}: {}",
                said.join().unwrap_or_default()
            );
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    bail!(
        "{who:?} was not ready in time: {}",
        said.join().unwrap_or_default()
    )
}

/// An address that nobody listens at.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Whether the agent answers that it is well.
fn healthy(agent: SocketAddr) -> bool {
    accounts::get(agent, "/health").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What the kernel counts of the programs that a process holds: their run time, in seconds
/// (`kernel.bpf_stats_enabled`, shown in `/proc/PID/fdinfo`).
pub fn program_seconds(process: u32) -> Result<f64> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo"))? {
        // A file may be closed between its listing and its reading.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        if let (Some(id), Some(nanos)) = (field("prog_id"), field("run_time_ns")) {
            times.insert(id, nanos);
        }
    }
    Ok(times.values().sum::<u64>() as f64 / 1e9)
}

/// tcpdump's last words: "1234 packets dropped by kernel".
fn before_words(said: &str, words: &str) -> Result<u64> {
    said.lines()
        .find_map(|line| line.trim().strip_suffix(words)?.split(' ').next()?.parse().ok())
        .with_context(|| format!("tcpdump does not say what was dropped:\n{said}"))
}

/// dumpcap's: "Packets received/dropped on interface 'veth0': 1234/5 (…".
fn dropped_by_dumpcap(said: &str) -> Result<u64> {
    said.lines()
        .find_map(|line| {
            let (_, counts) = line
                .strip_prefix("Packets received/dropped on interface")?
                .split_once(": ")?;
            counts.split(['/', ' ']).nth(1)?.parse().ok()
        })
        .with_context(|| format!("dumpcap does not say what was dropped:\n{said}"))
}

/// stenotype's, each second while there are packets, counted from the beginning: "… drops=5 …". It may miss the last.
fn dropped_by_stenotype(said: &str) -> u64 {
    said.lines()
        .filter_map(|line| line.split_once("drops=")?.1.split(' ').next()?.parse().ok())
        .next_back()
        .unwrap_or_default()
}
