//! A process of the load, in the namespace of its end and in a cgroup by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::scene::Scene;

/// One that runs, and whose stdin and stdout are ours.
pub struct Party {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Party {
    /// Starts one that waits for a line on its stdin, and lets it begin once it is in its cgroup.
    pub fn start(command: Command, cgroup: &str, scene: &Scene) -> Result<Self> {
        let mut party = Self::spawn(command, cgroup, scene)?;
        let stdin = party.child.stdin.as_mut().context("no stdin")?;
        stdin.write_all(b"begin\n")?;
        Ok(party)
    }

    /// Starts somebody else's program, through a shell that moves to the cgroup first.
    pub fn start_foreign(command: &Command, cgroup: &str, scene: &Scene) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "read -r begin && exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        Self::start(shell, cgroup, scene)
    }

    fn spawn(mut command: Command, cgroup: &str, scene: &Scene) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        scene.enter(cgroup, child.id())?;
        let out = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, out })
    }

    /// Its next line must be this word.
    pub fn wait_for(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        ensure!(line.trim() == word, "it said {line:?} and not {word:?}");
        Ok(())
    }

    /// Ends its stdin and takes what it says until its end.
    pub fn last_words(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(
            status.success(),
            "a process of the load ended with {status}: {text}"
        );
        Ok(text)
    }

    /// Ends one that would not end by itself.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}
