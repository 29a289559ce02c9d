//! Servers and clients that are not ours, on two recorded nodes. What a client has counted itself is the truth that the
//! calls are held against: every one found, none twice.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use wiretape_tests::binaries;
use wiretape_tests::call::Call;
use wiretape_tests::cluster::{Cluster, Pod, Recording};
use wiretape_tests::network::Namespace;
use wiretape_tests::process::{Process, Talk};

use crate::tools::{all_calls, aloud, possible, recording};

mod http2;

mod h2;

mod grpc;

mod websocket;

mod redis;

mod postgres;

mod dns;

mod tls;

mod icmp;

mod late;

/// Where the server's pod is, on `node-1`.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 31);
/// Where the client's pod is, on `node-2`.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 31);

/// Peers by the h2 and tonic crates (`tests/peers`), below the build's folder.
const RUST: &str = "peers/release/wiretape-peers";
/// A Python that has grpcio and websockets, there too.
const PYTHON: &str = "peers/python/bin/python";

/// How long a client may take, and a server until it listens.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a server is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Two pods on two nodes, each recorded: one for servers, one for their clients.
struct Stage {
    cluster: Cluster,
}

impl Stage {
    /// Sets it up; `None`, and says why, where the test cannot run.
    async fn set(test: &str, programs: &[&str]) -> anyhow::Result<Option<Self>> {
        if !all_there(test, programs) {
            return Ok(None);
        }
        Self::recorded_by(recording(test)).await.map(Some)
    }

    /// The same, for what must be recorded in one way.
    async fn recorded_by(recording: Recording) -> anyhow::Result<Self> {
        let pods = vec![vec![Pod::new("server", SERVER)], vec![Pod::new("client", CLIENT)]];
        let cluster = Cluster::start(pods, recording, None).await?;
        Ok(Self { cluster })
    }

    /// A file for the programs to read.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let file = self.cluster.folder().join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Starts a server and waits until it listens on this port.
    fn serve<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
        port: u16,
    ) -> anyhow::Result<Process> {
        let mut server = self.start("server", program.as_ref(), arguments, Talk::No)?;
        let listening = until("it does not listen", || match server.ended()? {
            Some(status) => bail!("it has ended ({status})"),
            None => self.listens(port),
        });
        listening.with_context(|| format!("{}{}", server.name(), server.log_tail()))?;
        Ok(server)
    }

    /// Runs a client to its end and gives what it printed. That it fails is an error.
    fn ask<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        let arguments: Vec<A> = arguments.into_iter().collect();
        let mut client = self.start("client", program.as_ref(), &arguments, Talk::No)?;
        client.wait(PATIENCE).with_context(|| {
            let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
            format!("asked by {arguments:?}")
        })?;
        self.said(&client)
    }

    /// The same of a client that is to fail.
    fn ask_in_vain<A: AsRef<OsStr>>(
        &self,
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = A>,
    ) -> anyhow::Result<String> {
        let mut client = self.start("client", program.as_ref(), arguments, Talk::No)?;
        let failed = client.wait(PATIENCE).is_err() && client.ended()?.is_some();
        ensure!(failed, "{} did not fail{}", client.name(), client.log_tail());
        self.said(&client)
    }

    /// Starts a program in one of the pods. Each has a log of its own, whatever their number.
    fn start<A: AsRef<OsStr>>(
        &self,
        pod: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        talk: Talk,
    ) -> anyhow::Result<Process> {
        let folder = self.cluster.folder();
        let stem = program.file_name().unwrap_or_default().to_string_lossy();
        let number = fs::read_dir(folder)?.count();
        let name = format!("{stem}-{number}");
        Process::start(&name, &self.cluster.place(pod)?, folder, program, arguments, talk)
    }

    /// What a process has printed.
    fn said(&self, process: &Process) -> anyhow::Result<String> {
        let log = self.cluster.folder().join(format!("{}.log", process.name()));
        let said = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Whether anybody in the server's machine listens on a port, asked so that no packet tells of it.
    fn listens(&self, port: u16) -> anyhow::Result<bool> {
        let machine = self.cluster.nodes.first().context("there is no node")?;
        let output = in_namespace(&machine.namespace)
            .args(["ss", "-Hlntu", &format!("sport = :{port}")])
            .output()
            .context("cannot run `ss` (package iproute2)")?;
        ensure!(
            output.status.success(),
            "ss: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(!output.stdout.is_empty())
    }

    /// Waits until there is a tape: what has just passed is there within a second, and before, there is
    /// nothing that a window could be of.
    async fn recorded(&self) -> anyhow::Result<()> {
        let any = |body: &Value| !body["cluster"]["newest_ts"].is_null();
        self.cluster.api().poll("/mcp/data-boundaries", &[], any).await?;
        Ok(())
    }

    /// All calls that were recorded, which all must be the client's to the server.
    async fn calls(&self) -> anyhow::Result<Vec<Call>> {
        self.recorded().await?;
        let calls = all_calls(&self.cluster.api(), "live").await?;
        eprintln!("{} calls were found", calls.len());
        for call in &calls {
            assert_eq!(
                (call.src.ip, call.dst.ip),
                (CLIENT.into(), SERVER.into()),
                "{call:?}"
            );
            assert_eq!(call.src.svc, "client", "{call:?}");
        }
        Ok(calls)
    }
}

/// Whether there is all that a test needs: programs of the machine, and what `cargo xtask setup` has put below the
/// build's folder. Says what is missing.
fn all_there(test: &str, programs: &[&str]) -> bool {
    let (ours, machines): (Vec<&str>, Vec<&str>) = programs.iter().partition(|program| program.contains('/'));
    let missing = ours.iter().find(|program| binaries::find(program).is_err());
    if let Some(missing) = missing {
        aloud(&format!(
            "{test} is left out: there is no {missing}, run `cargo xtask setup`"
        ));
        return false;
    }
    possible(test, &machines)
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !so()? {
        ensure!(Instant::now() < until, "{what} within {PATIENCE:?}");
        thread::sleep(GLANCE);
    }
    Ok(())
}

/// What a client has printed, line by line.
fn lines(said: &str) -> Vec<String> {
    said.lines().map(str::to_owned).collect()
}

fn in_namespace(namespace: &Namespace) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.path()));
    command
}

/// How many there are of each kind.
fn tally<K: Ord>(kinds: impl IntoIterator<Item = K>) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    for kind in kinds {
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

/// The number that stands before a word in what a client has printed: 3000 in `3000 succeeded`.
fn number_before(said: &str, word: &str) -> anyhow::Result<usize> {
    let words: Vec<&str> = said
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .collect();
    let found = words.windows(2).find_map(|pair| match pair {
        [number, next] if *next == word => number.parse().ok(),
        _ => None,
    });
    found.with_context(|| format!("no number stands before {word:?} in {said}"))
}
