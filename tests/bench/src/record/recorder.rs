//! The recorders that are compared, started and stopped the same way.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::scene::{End, INTERFACE, Scene};
use crate::scratch::bound;
use crate::usage::Cpu;

/// Memory for bursts, the same for both: the agent's default.
const BUFFER_MIB: u32 = 32;
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
}

/// A recorder that runs.
pub struct Recorder {
    who: Who,
    child: Child,
    dir: PathBuf,
    said: JoinHandle<String>,
}

/// What a recorder left, and what it cost.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The files with the packets, in order.
    pub files: Vec<PathBuf>,
    /// What it counted as lost itself, as far as it is not in the files.
    pub lost: u64,
    /// CPU of its process, from its start to its end.
    pub cpu: Cpu,
    /// CPU seconds of its programs in the kernel, run on the sender's time.
    pub program: f64,
}

impl Recorder {
    /// Starts one with its files in `dir`, and waits until it records. `None` for [`Who::Nobody`].
    pub fn start(who: Who, scene: &Scene, dir: &Path) -> Result<Option<Self>> {
        let started = match who {
            Who::Nobody => return Ok(None),
            Who::Wiretape => agent(scene, dir)?,
            Who::Tcpdump => tcpdump(scene, dir)?,
        };
        Ok(Some(started))
    }

    /// Stops it as its users do, and sums up.
    pub fn stop(mut self) -> Result<Outcome> {
        // Before it ends: its programs go with it.
        let program = program_seconds(self.child.id())?;
        let before = Cpu::of_children()?;
        let signal = if self.who == Who::Tcpdump {
            Signal::SIGINT
        } else {
            Signal::SIGTERM
        };
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        let status = self.child.wait()?;
        // The sender and the receiver have been waited for, so this is the recorder alone.
        let cpu = Cpu::of_children()?.since(before);
        let said = self.said.join().unwrap_or_default();
        ensure!(status.success(), "{:?} ended with {status}:\n{said}", self.who);
        let mut files: Vec<PathBuf> = fs::read_dir(&self.dir)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| {
            file.is_file()
                && file
                    .extension()
                    .is_some_and(|end| end == "pcapng" || end == "pcap")
        });
        files.sort();
        let lost = if self.who == Who::Tcpdump {
            dropped_by_kernel(&said)?
        } else {
            0
        };
        Ok(Outcome {
            files,
            lost,
            cpu,
            program,
        })
    }
}

/// The agent, as a node runs it.
fn agent(scene: &Scene, dir: &Path) -> Result<Recorder> {
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
    ]);
    command.arg(format!("--buffer-size={BUFFER_MIB}MiB"));
    command.arg(format!("--listen={listen}"));
    command.arg(format!("--tape={}", dir.display()));
    command.arg(format!("--cgroup={}", scene.cgroup("sender").display()));
    start(Who::Wiretape, command, scene, dir, |_| healthy(listen))
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
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&agent, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// What the kernel counts of the programs that a process holds: their run time, in seconds
/// (`kernel.bpf_stats_enabled`, shown in `/proc/PID/fdinfo`).
fn program_seconds(process: u32) -> Result<f64> {
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
fn dropped_by_kernel(said: &str) -> Result<u64> {
    said.lines()
        .find_map(|line| {
            line.trim()
                .strip_suffix(" dropped by kernel")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .with_context(|| format!("tcpdump does not say what was dropped:\n{said}"))
}
