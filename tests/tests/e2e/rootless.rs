//! Less than root on a machine that takes eBPF: the demo says in one line what is missing, and goes on with the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;
use wiretape_tests::run::MARK;
use wiretape_tests::{binaries, rootless};

use crate::tools::{aloud, possible, possible_with_ebpf};

const PATIENCE: Duration = Duration::from_secs(60);

/// A user and group that own nothing (Debian's nobody and nogroup).
const NOBODY: &str = "65534";

/// Refuses, as a kernel that is set so, any further user namespace; the process stays an ordinary user. It takes a
/// user namespace to say so for nobody else.
const REFUSES: &str = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";

/// An agent to which the kernel refuses eBPF, though its user is root.
const WITHOUT_BPF: &str = "#!/bin/sh\n\
    exec setpriv --bounding-set=-bpf,-sys_admin --inh-caps=-bpf,-sys_admin \"$0.real\" \"$@\"\n";

#[test]
fn an_ordinary_user_gets_the_whole_demo_by_libpcap() -> anyhow::Result<()> {
    if !possible_as_another_user("an_ordinary_user_gets_the_whole_demo_by_libpcap") {
        return Ok(());
    }
    let stage = stage()?;
    let output = demo(as_nobody(&[]), stage.path())?;
    let (said, report) = told(&output)?;
    assert!(
        said.lines()
            .any(|line| line.contains("Not root") && line.contains("libpcap")),
        "{said}"
    );
    assert_eq!(report["agrees"], true, "{report}");
    Ok(())
}

#[test]
fn a_user_without_namespaces_is_shown_what_can_be_done_with_files() -> anyhow::Result<()> {
    if !possible_as_another_user("a_user_without_namespaces_is_shown_what_can_be_done_with_files") {
        return Ok(());
    }
    let stage = stage()?;
    let refusing = [
        "unshare",
        "--user",
        "--map-user=1000",
        "--keep-caps",
        "sh",
        "-c",
        REFUSES,
        "sh",
    ];
    let output = demo(as_nobody(&refusing), stage.path())?;
    let (said, report) = told(&output)?;
    assert_eq!(
        said.lines()
            .filter(|line| line.contains("Nothing can be recorded"))
            .count(),
        1,
        "{said}"
    );
    assert!(said.contains("/api/v1/checkout  503"), "{said}");
    assert_eq!(report["recorded"], false, "{report}");
    Ok(())
}

#[test]
fn nothing_is_left_of_a_users_demo_that_is_killed() -> anyhow::Result<()> {
    if !possible_as_another_user("nothing_is_left_of_a_users_demo_that_is_killed") {
        return Ok(());
    }
    let stage = stage()?;
    let mut killed = command(as_nobody(&[]), stage.path(), &["--time-scale", "1"])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // It becomes what it runs, so the run is of the same process.
    let name = format!("wiretape-{}-", killed.id());
    let folder = || -> anyhow::Result<Option<PathBuf>> {
        for entry in fs::read_dir(std::env::temp_dir())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&name) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    };
    // Up to its last part: the users, who come from outside.
    until("the shop's users", || {
        Ok(folder()?.is_some_and(|folder| folder.join("users.log").exists()))
    })?;
    assert!(!processes_of(&name)?.is_empty());
    killed.kill()?;
    killed.wait()?;
    until("the end of all of it", || {
        Ok(folder()?.is_none() && processes_of(&name)?.is_empty())
    })
}

#[test]
fn root_without_ebpf_gets_the_whole_demo_by_libpcap() -> anyhow::Result<()> {
    if !possible_with_ebpf("root_without_ebpf_gets_the_whole_demo_by_libpcap", &["setpriv"]) {
        return Ok(());
    }
    let stage = stage()?;
    let agent = stage.path().join("wiretape-agent");
    fs::rename(&agent, stage.path().join("wiretape-agent.real"))?;
    fs::write(&agent, WITHOUT_BPF)?;
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
    let output = demo(Vec::new(), stage.path())?;
    let (said, report) = told(&output)?;
    assert!(
        said.lines()
            .any(|line| line.contains("eBPF cannot run here") && line.contains("libpcap")),
        "{said}"
    );
    assert_eq!(report["agrees"], true, "{report}");
    Ok(())
}

/// Only the machine's root can become another user.
fn possible_as_another_user(test: &str) -> bool {
    if rootless::is_inside() {
        aloud(&format!(
            "{test} is left out: it needs the machine's root, to become another user"
        ));
        return false;
    }
    possible(test, &["setpriv", "unshare"])
}

/// A folder that anybody may use, with the programs in it: those of the build may be out of a user's reach.
fn stage() -> anyhow::Result<TempDir> {
    let stage = tempfile::tempdir()?;
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o777))?;
    for program in ["wiretape-demo", "wiretape-agent", "wiretape-hub", "wiretape-shop"] {
        fs::copy(binaries::find(program)?, stage.path().join(program))?;
    }
    Ok(stage)
}

/// What makes an ordinary user of the words that follow it, and then those.
fn as_nobody(then: &[&str]) -> Vec<String> {
    let nobody = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    nobody.iter().chain(then).map(|word| (*word).to_owned()).collect()
}

/// The processes of runs that are called so.
fn processes_of(run: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mark = format!("{MARK}={run}");
    let mut found = Vec::new();
    for process in fs::read_dir("/proc")? {
        let process = process?.path();
        // What is no process has none, and one that has ended meanwhile has none any more.
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable.starts_with(mark.as_bytes()))
        {
            found.push(process);
        }
    }
    Ok(found)
}

fn until(what: &str, is_so: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a quick demo, with its programs and files in `folder`.
fn demo(words: Vec<String>, folder: &Path) -> anyhow::Result<Output> {
    Ok(command(words, folder, &["--json", "--time-scale", "30"])?.output()?)
}

fn command(mut words: Vec<String>, folder: &Path, flags: &[&str]) -> anyhow::Result<Command> {
    words.push(folder.join("wiretape-demo").display().to_string());
    let pcap = folder.join("failing.pcap").display().to_string();
    let always = ["--listen", "127.0.0.1:0", "--pcap", &pcap];
    words.extend(always.iter().chain(flags).map(|word| (*word).to_owned()));
    let (program, arguments) = words.split_first().context("the demo at least")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    Ok(command)
}

/// What a demo said, and its report.
fn told(output: &Output) -> anyhow::Result<(String, Value)> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok((said, serde_json::from_slice(&output.stdout)?))
}
