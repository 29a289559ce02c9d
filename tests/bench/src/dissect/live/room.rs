//! Where clients and servers talk while tcpdump listens: a network namespace with nothing in it but a loopback.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scratch::{PREFIX, bound, on_signal, stale};

/// How long a server may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(20);

/// Of a packet as Ethernet has it. The loopback's own 65,536 bytes would make one packet of what a cluster's network
/// carries in forty.
const MTU: &str = "1500";

/// Namespaces and folders, gone when dropped.
pub struct Room {
    namespace: String,
    /// For the servers' files and for what the clients print.
    dir: PathBuf,
}

impl Room {
    /// Makes one, with its files in `dir`. From here on Ctrl-C and SIGTERM tear it down, too.
    pub fn new(dir: PathBuf) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "recording real clients and servers needs root: run it with sudo"
        );
        for id in stale(Path::new("/run/netns")) {
            tear_down(&name(id));
        }
        let room = Self {
            namespace: name(std::process::id()),
            dir,
        };
        let namespace = room.namespace.clone();
        on_signal(move || tear_down(&namespace))?;
        ip(&["netns", "add", &room.namespace])?;
        // Segments leave as they would leave a machine: TCP's own size, not what the loopback could take at a time.
        let loopback = ["mtu", MTU, "gso_max_segs", "1", "up"];
        ip(&[&["-n", &room.namespace, "link", "set", "lo"], &loopback[..]].concat())?;
        Ok(room)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file that a server or a client reads.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A command in the namespace, with its files in the room's folder.
    pub fn command(&self, program: &str) -> Command {
        let mut command = bound(Path::new("nsenter"));
        command
            .arg(format!("--net=/run/netns/{}", self.namespace))
            .arg(program)
            .current_dir(&self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Runs a client to its end and returns what it says.
    pub fn ask(&self, command: &mut Command) -> Result<String> {
        let name = shown(command);
        let out = command.output().with_context(|| format!("starting {name}"))?;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        ensure!(
            out.status.success(),
            "{name} ended with {}: {said}{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(said)
    }

    /// Starts a server; `log` is where it tells of itself.
    pub fn serve(&self, command: &mut Command, log: &str) -> Result<Running> {
        let said = File::create(self.dir.join(log))?;
        let name = shown(command);
        let child = command
            .stdout(said.try_clone()?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Running { child, name })
    }

    /// Starts one and waits until it listens on `port`.
    pub fn serve_on(&self, command: &mut Command, log: &str, port: u16) -> Result<Running> {
        let mut server = self.serve(command, log)?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let listening = self.ask(self.command("ss").args(["-lntuH", &format!("sport = :{port}")]))?;
            if !listening.is_empty() {
                return Ok(server);
            }
            if server.child.try_wait()?.is_some() {
                break;
            }
            thread::sleep(GLANCE);
        }
        let said = fs::read_to_string(self.dir.join(log)).unwrap_or_default();
        bail!("{} does not listen on port {port}: {said}", server.name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        tear_down(&self.namespace);
    }
}

/// A process that runs until it is dropped.
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Tells it to end by `signal` and waits until it has.
    pub fn end(&mut self, signal: Signal) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                self.child.kill()?;
                self.child.wait()?;
                bail!("{} did not end by itself", self.name);
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end(Signal::SIGTERM) {
            eprintln!("{error:#}");
        }
    }
}

/// The program and what it is told, without how it gets into the namespace.
fn shown(command: &Command) -> String {
    let words: Vec<_> = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned())
        .skip_while(|word| !word.starts_with("--net="))
        .skip(1)
        .collect();
    words.join(" ")
}

fn name(id: u32) -> String {
    format!("{PREFIX}{id}")
}

/// What is not there (any more) is no error.
fn tear_down(namespace: &str) {
    if Path::new("/run/netns").join(namespace).exists() {
        let _ = ip(&["netns", "del", namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("starting ip (iproute2)")?;
    ensure!(
        out.status.success(),
        "ip {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}
