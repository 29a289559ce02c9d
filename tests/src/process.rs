//! Processes of a run: each in a cgroup, most in a network namespace, with a log.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::network::Namespace;
use crate::run::{MARK, Run};

/// How long a process may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an end is looked for.
const GLANCE: Duration = Duration::from_millis(20);
/// How much of a log an error quotes, in bytes.
const LOG_TAIL: usize = 2000;

/// Moves itself into the cgroup, then into the namespace (`-` for none of either), then becomes the program.
const ENTER: &str = r#"[ "$1" = - ] || echo $$ > "$1/cgroup.procs" || exit
namespace=$2
shift 2
[ "$namespace" = - ] && exec "$@"
exec nsenter --net="$namespace" "$@""#;

/// Where a process lives.
#[derive(Clone, Debug)]
pub struct Place {
    run: String,
    /// `None` where there are no cgroups.
    cgroup: Option<PathBuf>,
    namespace: Option<Namespace>,
}

impl Place {
    /// In a cgroup below the run's, which is made if it is not there, and in a network namespace; in the machine's own
    /// for `None`.
    ///
    /// # Errors
    /// The cgroup cannot be made.
    pub fn new(run: &Run, cgroup: &str, namespace: Option<Namespace>) -> anyhow::Result<Self> {
        Ok(Self {
            run: run.name().to_owned(),
            cgroup: run.cgroup(cgroup)?,
            namespace,
        })
    }
}

impl Place {
    /// Its cgroup; `None` where there are no cgroups.
    pub fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }
}

/// A process of the run. It ends with the run.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program. What it prints goes to `LOG_FOLDER/NAME.log`, except for standard output when that is asked for.
    ///
    /// # Errors
    /// It cannot be started. (That the program itself is missing shows in its log and its end.)
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        place: &Place,
        log_folder: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        talk: Talk,
    ) -> anyhow::Result<Self> {
        let log = log_folder.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("sh");
        command
            .args(["-c", ENTER, "enter"])
            .arg(place.cgroup.as_deref().unwrap_or(Path::new("-")))
            .arg(
                place
                    .namespace
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), Namespace::path),
            )
            .arg(program)
            .args(arguments)
            .env(MARK, &place.run)
            .stderr(file.try_clone()?)
            // A Ctrl-C is for the run, which ends its processes in order.
            .process_group(0);
        match talk {
            Talk::No => command.stdin(Stdio::null()).stdout(file),
            Talk::Yes => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
            Talk::Told => command.stdin(Stdio::piped()).stdout(file),
        };
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for one line on standard output.
    ///
    /// # Errors
    /// It ends instead.
    pub fn hear(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.is_empty() {
            bail!("{} ended before it was ready{}", self.name, self.log_tail());
        }
        Ok(line.trim().to_owned())
    }

    /// Writes one line to standard input.
    ///
    /// # Errors
    /// It has ended.
    pub fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let stdin = self
            .child
            .stdin
            .as_mut()
            .with_context(|| format!("{} is not listening", self.name))?;
        writeln!(stdin, "{line}").with_context(|| format!("{} has ended{}", self.name, self.log_tail()))
    }

    /// Ends standard input.
    pub fn hush(&mut self) {
        self.child.stdin = None;
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end in time, or ends with a failure.
    pub fn wait(&mut self, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} failed ({status}){}", self.name, self.log_tail()),
                None if Instant::now() > until => {
                    bail!("{} did not end within {patience:?}{}", self.name, self.log_tail())
                }
                None => thread::sleep(GLANCE),
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// It does not, or ends with a failure.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.wait(PATIENCE)
    }

    /// Kills it (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if let Some(status) = self.ended()? {
            bail!("{} has ended already ({status}){}", self.name, self.log_tail());
        }
        let pid = i32::try_from(self.child.id()).context("a process id that is none")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// The end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL)..).unwrap_or_default();
        match String::from_utf8_lossy(tail).trim() {
            "" => ", its log is empty".to_owned(),
            tail => format!(", its log ends:\n{tail}"),
        }
    }
}

/// Whether standard input and output are talked over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Input is empty, output goes to the log.
    No,
    /// See [`Process::hear`] and [`Process::tell`].
    Yes,
    /// Input is talked over ([`Process::tell`]), output goes to the log.
    Told,
}
