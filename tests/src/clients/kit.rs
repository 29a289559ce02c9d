//! The clients themselves: packages of npm and PyPI, fetched once into a cache folder outside the checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;

/// npm's packages, held so that a run tells the same tomorrow. The inspector and the suite want Node 22, which Debian 12
/// has not; npm has it as a package.
const NPM: [&str; 4] = [
    "node@22.23.3",
    "@modelcontextprotocol/client@2.4.0",
    "@modelcontextprotocol/inspector@2.12.0",
    "@modelcontextprotocol/conformance@0.1.16",
];
/// PyPI's.
const PYPI: [&str; 3] = ["mcp==2.3.0", "grpcio==1.85.1", "grpcio-reflection==1.85.1"];

/// Our scripts that use the SDKs.
pub const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// Whose packages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// npm's.
    Node,
    /// PyPI's.
    Python,
}

/// What could be fetched; where it could not, why.
#[derive(Debug)]
pub struct Kit {
    folder: PathBuf,
    npm: Result<(), String>,
    pypi: Result<(), String>,
}

impl Kit {
    /// Fetches what is not there yet, and says so.
    ///
    /// # Errors
    /// There is no place for it. What cannot be fetched is no error here: it is said, and told to who asks for it.
    pub fn fetch() -> anyhow::Result<Self> {
        let folder = cache()?.join("wiretape/mcp-clients");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let npm = once(&folder, "npm", &NPM, || {
            // Without a package.json of its own, npm would look for one in the folders above.
            fs::write(folder.join("package.json"), r#"{"private": true}"#)?;
            fetch(
                Command::new("npm")
                    .args([
                        "install",
                        "--no-audit",
                        "--no-fund",
                        "--loglevel=error",
                        "--prefix",
                    ])
                    .arg(&folder)
                    .args(NPM),
            )
        });
        let pypi = once(&folder, "pypi", &PYPI, || {
            let venv = folder.join("venv");
            fetch(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            fetch(
                Command::new(venv.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet"])
                    .args(PYPI),
            )
        });
        Ok(Self { folder, npm, pypi })
    }

    /// Our script for an SDK.
    pub(super) fn script(&self, part: Part) -> Result<Command, String> {
        let scripts = Path::new(SCRIPTS);
        match part {
            Part::Node => {
                let mut node = self.node()?;
                node.arg(scripts.join("mcp_sdk.mjs")).arg(&self.folder);
                Ok(node)
            }
            Part::Python => {
                let mut python = self.python()?;
                python.arg(scripts.join("mcp_sdk.py"));
                Ok(python)
            }
        }
    }

    /// A Python that has the SDK.
    ///
    /// # Errors
    /// Why it has not.
    pub fn python(&self) -> Result<Command, String> {
        self.pypi.clone()?;
        Ok(Command::new(self.folder.join("venv/bin/python")))
    }

    /// A program that came with npm's packages.
    pub(super) fn program(&self, name: &str) -> Result<Command, String> {
        let mut node = self.node()?;
        node.arg(self.folder.join("node_modules/.bin").join(name));
        Ok(node)
    }

    fn node(&self) -> Result<Command, String> {
        self.npm.clone()?;
        Ok(Command::new(self.folder.join("node_modules/node/bin/node")))
    }
}

/// Where this user's programs keep what can be fetched again.
fn cache() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").filter(|given| !given.is_empty());
    given
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME tells where to put the clients")
}

/// Has packages fetched that a note beside them does not say are there. In words why not, if they cannot be.
fn once(
    folder: &Path,
    whose: &str,
    packages: &[&str],
    fetch: impl FnOnce() -> anyhow::Result<()>,
) -> Result<(), String> {
    let note = folder.join(format!("{whose}.fetched"));
    let all = packages.join("\n");
    if fs::read_to_string(&note).is_ok_and(|there| there == all) {
        return Ok(());
    }
    eprintln!("· fetching {} into {} …", packages.join(", "), folder.display());
    let begun = Instant::now();
    let fetched = fetch().and_then(|()| fs::write(&note, all).context("cannot leave a note"));
    match fetched {
        Ok(()) => {
            eprintln!("✓ {whose} ({} s)", begun.elapsed().as_secs());
            Ok(())
        }
        Err(error) => {
            let why = format!("{whose} cannot be had: {error:#}");
            eprintln!("SKIPPED: {why}");
            Err(why)
        }
    }
}

/// Runs a command that fetches; with what it says, if it fails.
fn fetch(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    anyhow::ensure!(
        output.status.success(),
        "{program} failed ({}): {last}",
        output.status
    );
    Ok(())
}
