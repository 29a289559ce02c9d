//! Builds the kernel programs for the agent to embed.
//!
//! The programs need a compiler with `core` for `bpfel-unknown-none`, and `bpf-linker`. `cargo xtask setup`
//! installs both. Two kinds of compiler will do, whichever is found first:
//! 1. one that brings a ready-made `core` for the target (Debian's package `libstd-rust-web-dev-bpf`);
//! 2. rustup's nightly with the component `rust-src`, which builds `core` itself.
//!
//! Without them the agent is built all the same, without the eBPF backend, and a warning says so.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const TARGET: &str = "bpfel-unknown-none";
/// Those of packets, the same with the filter, and those of events.
const PROGRAMS: [&str; 3] = [
    "wiretape-agent-ebpf",
    "wiretape-agent-ebpf-filtered",
    "wiretape-agent-ebpf-events",
];

/// Where Debian's compiler is; rustup's comes before it on most paths.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Set by Cargo for this script, and not meant for the build that it starts.
const NOT_INHERITED: &[&str] = &[
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(ebpf_programs)");
    for path in [
        "build.rs",
        "../agent-ebpf/Cargo.toml",
        "../agent-ebpf/src",
        SYSTEM_RUSTC,
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    let linker = cargo_home()?.join("bin/bpf-linker");
    // While it is missing, Cargo runs this script again at every build, and so notices when it comes.
    println!("cargo::rerun-if-changed={}", linker.display());

    let Some(linker) = Some(linker)
        .filter(|path| path.exists())
        .or_else(|| find_on_path("bpf-linker"))
    else {
        return without_programs("bpf-linker is not installed");
    };
    let Some(compiler) = Compiler::find() else {
        return without_programs("there is no Rust compiler for the kernel's target");
    };
    build_programs(&compiler, &linker)?;
    println!("cargo::rustc-cfg=ebpf_programs");
    Ok(())
}

/// The agent can still record through libpcap.
fn without_programs(reason: &str) -> Result<()> {
    println!("cargo::warning=building without the eBPF backend, because {reason}: run `cargo xtask setup`");
    Ok(())
}

/// A compiler that can build for the kernel's target.
enum Compiler {
    /// Has `core` for the target.
    ReadyMade(PathBuf),
    /// rustup's nightly, which builds `core`.
    Nightly,
}

impl Compiler {
    fn find() -> Option<Self> {
        let configured = env::var_os("RUSTC").map(PathBuf::from);
        let ready_made = [Some(PathBuf::from(SYSTEM_RUSTC)), configured]
            .into_iter()
            .flatten()
            .find(|rustc| {
                sysroot(Command::new(rustc))
                    .is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir())
            });
        if let Some(rustc) = ready_made {
            return Some(Self::ReadyMade(rustc));
        }
        let mut nightly = Command::new("rustup");
        nightly.args(["run", "nightly", "rustc"]);
        sysroot(nightly)?
            .join("lib/rustlib/src/rust/library")
            .is_dir()
            .then_some(Self::Nightly)
    }

    /// `cargo build` by this compiler. Both need leave to use unstable features: there is no stable eBPF
    /// target.
    fn cargo_build(&self) -> Command {
        match self {
            Self::ReadyMade(rustc) => {
                let mut command =
                    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
                command.arg("build");
                clean(&mut command);
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "build", "-Z", "build-std=core"]);
                clean(&mut command);
                command.env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        }
    }
}

fn build_programs(compiler: &Compiler, linker: &Path) -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set: run this through cargo")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("CARGO_CFG_TARGET_ARCH is not set")?;
    if env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() != Ok("little") {
        bail!("the kernel programs are built for little-endian machines only");
    }
    let target_dir = out.join("programs");
    // Debug information becomes BTF, by which the kernel's messages name functions and lines.
    let flags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
    ];
    let output = compiler
        .cargo_build()
        .args(["--manifest-path", "../agent-ebpf/Cargo.toml", "--bins"])
        .args(["--locked", "--release", "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .output()
        .context("cargo could not be started for the kernel programs")?;
    if !output.status.success() {
        bail!(
            "the kernel programs do not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for programs in PROGRAMS {
        let built = target_dir.join(TARGET).join("release").join(programs);
        std::fs::copy(&built, out.join(programs))
            .with_context(|| format!("{} was not built", built.display()))?;
    }
    Ok(())
}

fn clean(command: &mut Command) {
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
}

/// Where the compiler keeps its libraries; `None` if it does not run.
fn sysroot(mut rustc: Command) -> Option<PathBuf> {
    let output = rustc
        .args(["--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn cargo_home() -> Result<PathBuf> {
    match env::var_os("CARGO_HOME") {
        Some(home) => Ok(PathBuf::from(home)),
        None => Ok(
            PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"),
        ),
    }
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}
