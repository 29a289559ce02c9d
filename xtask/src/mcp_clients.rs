//! MCP by clients that we did not write: the official Python SDK, over stdio and over HTTP, about a real capture.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::programs::{cargo, finish, root, target_dir};

/// The SDK, held so that a run tells the same tomorrow.
const SDK: &str = "mcp==2.3.0";
/// Captures of HTTP and Redis with something that fails in them.
const CAPTURES: [&str; 2] = ["http/client-ip.pcap", "redis/redis-error.pcap"];

/// Builds the hub, fetches the SDK, and lets it speak to both.
pub fn run() -> Result<()> {
    finish(&mut cargo(&["build", "--release", "--package", "wiretape-hub"]))?;
    let python = sdk()?;
    let hub = target_dir().join("release/wiretape-hub");
    let script = root().join("tests/clients/mcp_sdk.py");
    let corpora = root().join("../shared/corpora/deepflow");
    let captures: Vec<PathBuf> = CAPTURES.iter().map(|name| corpora.join(name)).collect();
    ensure!(
        captures.iter().all(|file| file.is_file()),
        "{} lacks {CAPTURES:?}",
        corpora.display()
    );

    eprintln!("over stdio");
    let mut stdio = Command::new(&python);
    finish(stdio.arg(&script).arg("--").arg(&hub).arg("mcp").args(&captures))?;

    eprintln!("over HTTP");
    let data = target_dir().join("mcp-clients/data");
    if data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot empty {}", data.display()))?;
    }
    let mut import = Command::new(&hub);
    finish(
        import
            .args(["import", "--name", "capture", "--data"])
            .arg(&data)
            .args(&captures),
    )?;
    let serving = Serving::start(&hub, &data)?;
    let started = Command::new("curl")
        .args(["-sf", "-d", r#"{"snapshot": "capture", "name": "calls"}"#])
        .arg(format!("{}/mcp/dissections", serving.url))
        .stdout(Stdio::null())
        .status()
        .context("cannot run curl")?;
    ensure!(started.success(), "the dissection does not start");
    finish(
        Command::new(&python)
            .arg(&script)
            .arg(format!("{}/mcp", serving.url)),
    )
}

/// A Python that has the SDK, in the target folder.
fn sdk() -> Result<PathBuf> {
    let folder = target_dir().join("mcp-clients");
    let python = folder.join("bin/python");
    if !python.is_file() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    finish(Command::new(&python).args(["-m", "pip", "install", "--quiet", SDK]))?;
    Ok(python)
}

/// A hub, ended when dropped.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(hub: &Path, data: &Path) -> Result<Self> {
        let mut child = Command::new(hub)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", hub.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("its stderr is piped")?).lines();
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, address)) = line.split_once("hub answers on ") {
                let url = address.split_whitespace().next().unwrap_or_default().to_owned();
                // Read on, so that it never waits for a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, url });
            }
        }
        // It has ended already, or is of no use.
        let _ = child.kill();
        let _ = child.wait();
        bail!("the hub ended before it answered")
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
