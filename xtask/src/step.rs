//! One step of work that takes a while: a command with its progress on the terminal and its whole output in a log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs a command as a step called `title`: a spinner with its latest line where there is a terminal, else a line at
/// its beginning and at its end. The whole output is kept in a log, which an error names.
pub fn run(title: &str, command: &mut Command) -> Result<()> {
    let log_path = log_path(title)?;
    let began = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let spinner = ProgressBar::new_spinner()
            .with_style(style)
            .with_prefix(title.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    });
    if spinner.is_none() {
        eprintln!("· {title} …");
    }

    let mut log = File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let stderr = log.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(stderr))
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            writeln!(log, "{line}")?;
            if let Some(spinner) = &spinner {
                spinner.set_message(line);
            }
        }
    }
    let status = child.wait()?;
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    if !status.success() {
        bail!(
            "{title} failed ({status}); its last lines:\n{}\nall of it: {}",
            tail(&log_path),
            log_path.display()
        );
    }
    eprintln!("✓ {title} ({} s)", began.elapsed().as_secs());
    Ok(())
}

/// Where a step's output is kept: beside what cargo builds.
fn log_path(title: &str) -> Result<PathBuf> {
    let folder = crate::programs::target_dir().join("xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let name: String = title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Ok(folder.join(format!("{name}.log")))
}

fn tail(path: &PathBuf) -> String {
    const LINES: usize = 15;
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .skip(lines.len().saturating_sub(LINES))
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
