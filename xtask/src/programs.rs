//! Builds the project's programs and hands over to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};

use crate::guided::{Guide, Wanted};
use crate::{again, check, rootless, setup};

/// Crates whose tests also run unoptimised: they read what anybody may send, and only there does arithmetic that
/// overflows panic.
const CORES: &[&str] = &["wiretape-tape", "wiretape-dissect", "wiretape-kfl"];

/// Sets up, builds and runs the demo.
pub fn demo(args: &[String]) -> Result<()> {
    setup::run()?;
    build()?;
    hand_over("wiretape-demo", args)
}

/// Sets up, builds and runs all tests.
pub fn test(args: &[String]) -> Result<()> {
    setup::run()?;
    check::run(false)?;
    build()?;
    let cores = || {
        let mut cores = cargo(&["test"]);
        for core in CORES {
            cores.args(["--package", core]);
        }
        cores
    };
    again::run(cores, args, |command| command)?;
    test_all(args)?;
    // They are no tests with names: one that is looked for by name is not among them.
    if args.is_empty() {
        finish(&mut Command::new(target_dir().join("release/wiretape-clients")))?;
    }
    Ok(())
}

/// Runs the tests of all packages, in a user namespace where that is needed.
fn test_all(args: &[String]) -> Result<()> {
    let all = || cargo(&["test", "--release"]);
    if setup::is_root() {
        return again::run(all, args, |command| command);
    }
    match rootless::refusal() {
        None => {
            eprintln!(
                "not root: the tests run in a user namespace, and those of eBPF and cgroups say so and are left out"
            );
            again::run(all, args, |command| rootless::inside(&command))
        }
        Some(why) => {
            eprintln!("not root, and no user namespace ({why}): tests that record say so and are left out");
            again::run(all, args, |command| command)
        }
    }
}

/// Sets up, builds and runs a benchmark.
pub fn bench(args: &[String]) -> Result<()> {
    setup::run()?;
    build()?;
    hand_over("wiretape-bench", args)
}

/// The same, of a program that is built by what it does with captures; which, of benchmarks, only dissections are.
pub fn guided_bench(captures: &Path, args: &[String]) -> Result<()> {
    if !args
        .first()
        .is_some_and(|which| which == "dissect" || which == "hostile")
    {
        bail!("--guided-by is for `dissect` and `hostile`: no other benchmark dissects");
    }
    let guide = Guide::find(captures)?;
    setup::run()?;
    let program = "wiretape-bench";
    let programs = guide.build(&Wanted {
        package: program,
        profile: "release",
        dissect: |capture, out| {
            let out = format!("--out={}", out.join("dissection").display());
            vec![
                "run-dissect".into(),
                capture.into(),
                "--threads=1".into(),
                out.into(),
            ]
        },
    })?;
    become_program(&programs.join(program), args)
}

/// Builds and runs the comparison with others.
pub fn conformance(args: &[String]) -> Result<()> {
    alone("wiretape-conformance", "release", args)
}

/// Sets up, builds, and has the assistant's conversation written down.
pub fn walkthrough(args: &[String]) -> Result<()> {
    setup::run()?;
    build()?;
    hand_over("wiretape-walkthrough", args)
}

/// Builds the hub and lets clients that others wrote speak MCP to it.
pub fn clients(args: &[String]) -> Result<()> {
    build()?;
    hand_over("wiretape-clients", args)
}

/// Builds and runs the fuzzer.
pub fn fuzz(args: &[String]) -> Result<()> {
    alone("wiretape-fuzz", "fuzz", args)
}

/// Builds and runs a program that needs nothing of what the rest is set up for, the hub least of all.
fn alone(program: &str, profile: &str, args: &[String]) -> Result<()> {
    finish(&mut cargo(&["build", "--profile", profile, "--package", program]))?;
    become_program(&target_dir().join(profile).join(program), args)
}

/// Everything in release: what tests and the demo start as processes.
fn build() -> Result<()> {
    finish(&mut cargo(&["build", "--release"]))
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The top of the checkout that cargo runs this from: with a build folder that several share, the program may have been
/// built from another.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let mut dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        dir.pop();
        dir
    });
    &ROOT
}

/// A cargo command in the checkout.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    // What cargo has told this program of itself is not the next one's: dependencies whose build looks at it (ring's does)
    // would be built anew whenever cargo is called now from here and now by hand, and with them the hub.
    for (name, _) in std::env::vars_os() {
        let told = |prefix| name.to_string_lossy().starts_with(prefix);
        if told("CARGO_PKG_") || told("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end, with its output as ours.
pub fn finish(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        let args = command.get_args().map(|arg| arg.to_string_lossy());
        // A whole script among them tells nobody anything.
        let args: Vec<_> = args.filter(|arg| !arg.contains('\n')).collect();
        bail!(
            "`{} {}` failed: {status}",
            command.get_program().to_string_lossy(),
            args.join(" ")
        );
    }
    Ok(())
}

/// Becomes one of the project's programs, so that signals and exit status are its own.
fn hand_over(program: &str, args: &[String]) -> Result<()> {
    become_program(&target_dir().join("release").join(program), args)
}

fn become_program(path: &Path, args: &[String]) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = Command::new(path).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", path.display()))
}
