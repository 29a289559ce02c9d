//! Hubs of their own, for clients to speak to: on a made capture, and on nodes that play made captures.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::binaries;
use crate::offline::{self, Side};

/// What the snapshot is called.
const SNAPSHOT: &str = "capture";
/// How long ago the packets came by that nodes play: live dissection looks back two minutes.
const AGO: Duration = Duration::from_secs(20);
/// Exchanges that they play, three calls each.
const PLAYED: usize = 4;
/// The snapshot that takes its time to dissect, and its exchanges.
const LONG: (&str, usize) = ("long", 10_000);

/// A program that serves, ended when dropped.
#[derive(Debug)]
struct Program {
    /// What it said of where it answers.
    address: String,
    child: Child,
}

impl Program {
    /// Starts it; `says` is what stands in its log before the address.
    fn start(command: &mut Command, says: &str) -> anyhow::Result<Self> {
        let name = command.get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let log = child.stderr.take().context("its stderr is piped")?;
        let mut program = Self {
            address: String::new(),
            child,
        };
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let mut last = String::new();
        let address = lines.find_map(|line| {
            let address = line.split_once(says).map(|(_, address)| address.to_owned());
            last = line;
            address
        });
        let address = address.with_context(|| format!("{name} ended before it answered: {last}"))?;
        program.address = address.split_whitespace().next().unwrap_or_default().to_owned();
        // Read on, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(program)
    }

    /// A hub on this folder.
    fn hub(hub: &Path, data: &Path, nodes: &[Self]) -> anyhow::Result<Self> {
        let mut command = Command::new(hub);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data);
        for node in nodes {
            command.args(["--node", &format!("http://{}", node.address)]);
        }
        Self::start(&mut command, "hub answers on ")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub, ended when dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it answers.
    pub url: String,
    /// The capture that it answers about.
    pub capture: PathBuf,
    _hub: Program,
    /// Its data and the capture, removed when dropped.
    _folder: tempfile::TempDir,
}

impl Serving {
    /// Makes a capture of three calls, so many times, imports it, and serves it on a free port. Its dissection is under way
    /// then.
    ///
    /// # Errors
    /// The hub does not do one of these.
    pub fn start(times: usize) -> anyhow::Result<Self> {
        let program = binaries::find("wiretape-hub")?;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        let capture = import(&program, &data, folder.path(), (SNAPSHOT, times))?;
        let hub = Program::hub(&program, &data, &[])?;
        let serving = Self {
            url: hub.address.clone(),
            capture,
            _hub: hub,
            _folder: folder,
        };
        serving.dissect()?;
        Ok(serving)
    }

    /// Where it speaks MCP.
    pub fn mcp(&self) -> String {
        format!("{}/mcp", self.url)
    }

    /// Begins the dissection that clients ask; they wait for its end themselves.
    fn dissect(&self) -> anyhow::Result<()> {
        let started = Command::new("curl")
            .args(["-sf", "-d"])
            .arg(format!(r#"{{"snapshot": "{SNAPSHOT}", "name": "calls"}}"#))
            .arg(format!("{}/mcp/dissections", self.url))
            .output()
            .context("cannot run curl")?;
        ensure!(started.status.success(), "the dissection does not start");
        Ok(())
    }
}

/// A hub with two nodes, all ended when dropped. The nodes' agents play what the two ends of one connection have seen some
/// seconds ago, so nothing of it needs root. There is a snapshot of another capture, `long`, too.
#[derive(Debug)]
pub(super) struct Recorded {
    /// Where the hub answers.
    pub(super) url: String,
    _programs: Vec<Program>,
    _folder: tempfile::TempDir,
}

impl Recorded {
    /// Starts them.
    ///
    /// # Errors
    /// What an agent or the hub says.
    pub(super) fn start() -> anyhow::Result<Self> {
        let (hub, agent) = (binaries::find("wiretape-hub")?, binaries::find("wiretape-agent")?);
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("data");
        import(&hub, &data, folder.path(), LONG)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? - AGO;
        let began = u64::try_from(since.as_nanos())?;
        let mut programs = Vec::new();
        for (node, pod, service, address, side) in [
            (
                "worker-1",
                "frontend-abc123",
                "frontend",
                offline::CLIENT,
                Side::Client,
            ),
            (
                "worker-2",
                "checkout-xyz789",
                "checkout",
                offline::SERVER,
                Side::Server,
            ),
        ] {
            let [capture, workloads, tape] =
                ["pcapng", "yaml", "tape"].map(|end| folder.path().join(format!("{node}.{end}")));
            offline::write(&capture, began, PLAYED, Some(side))?;
            let told = json!([{ "match": { "cgroup": pod }, "pod": pod, "namespace": "shop", "service": service,
                "labels": { "app": service }, "addresses": [Ipv4Addr::from(address)] }]);
            // JSON is YAML.
            std::fs::write(&workloads, told.to_string())?;
            let mut command = Command::new(&agent);
            command.args([
                "--backend",
                "replay",
                "--listen",
                "127.0.0.1:0",
                "--node-name",
                node,
            ]);
            for (flag, path) in [
                ("--replay", &capture),
                ("--workloads", &workloads),
                ("--tape", &tape),
            ] {
                command.arg(flag).arg(path);
            }
            programs.push(Program::start(&mut command, "serving on ")?);
        }
        programs.push(Program::hub(&hub, &data, &programs)?);
        let url = programs.last().map(|hub| hub.address.clone()).unwrap_or_default();
        Ok(Self {
            url,
            _programs: programs,
            _folder: folder,
        })
    }
}

/// Makes a capture of three calls, so many times, and has the hub's program import it under a name.
fn import(hub: &Path, data: &Path, folder: &Path, (name, times): (&str, usize)) -> anyhow::Result<PathBuf> {
    let capture = folder.join(format!("{name}.pcapng"));
    offline::write(&capture, offline::BEGAN, times, None)
        .with_context(|| format!("cannot write {}", capture.display()))?;
    let imported = Command::new(hub)
        .args(["import", "--name", name, "--data"])
        .arg(data)
        .arg(&capture)
        .output()?;
    ensure!(
        imported.status.success(),
        "the hub does not import: {}",
        String::from_utf8_lossy(&imported.stderr)
    );
    Ok(capture)
}
