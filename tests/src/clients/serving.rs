//! A hub of its own on a made capture, for clients to speak to.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::{binaries, offline};

/// What the snapshot is called.
const SNAPSHOT: &str = "capture";

/// A hub, ended when dropped.
#[derive(Debug)]
pub struct Serving {
    /// Where it answers.
    pub url: String,
    /// The capture that it answers about.
    pub capture: PathBuf,
    child: Child,
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
        let hub = binaries::find("wiretape-hub")?;
        let folder = tempfile::tempdir()?;
        let capture = folder.path().join("capture.pcapng");
        let data = folder.path().join("data");
        offline::write(&capture, times).with_context(|| format!("cannot write {}", capture.display()))?;
        let imported = Command::new(&hub)
            .args(["import", "--name", SNAPSHOT, "--data"])
            .arg(&data)
            .arg(&capture)
            .output()?;
        ensure!(
            imported.status.success(),
            "the hub does not import: {}",
            String::from_utf8_lossy(&imported.stderr)
        );
        let mut child = Command::new(&hub)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&data)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", hub.display()))?;
        let log = child.stderr.take().context("its stderr is piped")?;
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("hub answers on ")?.1.to_owned()));
        let url = address
            .as_deref()
            .and_then(|address| address.split_whitespace().next());
        let Some(url) = url.map(str::to_owned) else {
            // It has ended already, or is of no use.
            let _ = child.kill();
            let _ = child.wait();
            bail!("the hub ended before it answered");
        };
        // Read on, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let serving = Self {
            url,
            capture,
            child,
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

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
