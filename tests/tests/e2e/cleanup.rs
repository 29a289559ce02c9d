//! Nothing of a run is left, however it ends.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wiretape_tests::binaries;

use crate::tools::possible;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn nothing_is_left_of_a_demo_that_is_killed() -> anyhow::Result<()> {
    left_of_a_demo(Signal::SIGKILL)
}

#[test]
fn nothing_is_left_of_a_demo_that_is_interrupted() -> anyhow::Result<()> {
    left_of_a_demo(Signal::SIGINT)
}

fn left_of_a_demo(signal: Signal) -> anyhow::Result<()> {
    if !possible("nothing_is_left_of_a_demo", &[]) {
        return Ok(());
    }
    let mut demo = Command::new(binaries::find("wiretape-demo")?)
        .args(["--listen", "127.0.0.1:0", "--time-scale", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mark = format!("wiretape-{}-", demo.id());
    // Up to its last part: the users, who come from outside.
    until(
        || namespaces(&mark).iter().any(|name| name.ends_with("-users")),
        &mut demo,
    )?;
    kill(Pid::from_raw(i32::try_from(demo.id())?), signal)?;
    demo.wait()?;
    let left = || {
        let mut left = namespaces(&mark);
        left.extend(named(Path::new("/sys/fs/cgroup"), &mark));
        left.extend(named(Path::new("/sys/fs/cgroup/unified"), &mark));
        left.extend(named(&std::env::temp_dir(), &mark));
        left
    };
    let until = Instant::now() + PATIENCE;
    while !left().is_empty() {
        if Instant::now() > until {
            bail!("left after {signal}: {:?}", left());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn namespaces(mark: &str) -> Vec<String> {
    named(Path::new("/run/netns"), mark)
}

fn named(folder: &Path, mark: &str) -> Vec<String> {
    // A folder that is not there holds nothing.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(mark)).collect()
}

fn until(there: impl Fn() -> bool, demo: &mut Child) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !there() {
        if let Some(status) = demo.try_wait()? {
            bail!("the demo ended ({status})");
        }
        if Instant::now() > until {
            demo.kill().context("and it cannot be killed")?;
            bail!("the demo does not come up");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
