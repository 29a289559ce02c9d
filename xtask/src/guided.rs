//! Programs that are built twice: the first ones count how often each of their branches is taken while they dissect captures,
//! and the compiler lays the second ones out by that (PGO).
//!
//! Only the workspace's own crates are: that is where the time goes, and all others are built once. Counts are kept by the
//! names that the compiler makes of functions, into which cargo puts what it knows of a build's flags: so flags for these crates
//! alone must be none that cargo knows of. Cargo runs a copy of this very program in place of the compiler for them, which adds
//! the flags; and since cargo does not see that they have changed, what was built with others is removed before.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::programs::{cargo, finish, target_dir};

/// What this program adds when it stands for the compiler. Set for cargo only.
const FLAGS: &str = "WIRETAPE_GUIDED_FLAGS";

/// What the names of our crates begin with.
const OURS: &str = "wiretape_";

/// Files of counts at most: programs that run one after the other add to them.
const COUNTS: &str = "counts-%2m.profraw";

/// What the first program is to dissect.
pub struct Guide {
    captures: Vec<PathBuf>,
    /// The tool that adds counts up.
    merge: PathBuf,
}

/// What is built, and how it dissects.
pub struct Wanted<'a> {
    /// The package, and its program.
    pub package: &'a str,
    /// Cargo's profile.
    pub profile: &'a str,
    /// How it dissects.
    pub dissect: Dissect,
}

/// Arguments for a capture, and a folder that is there to be written to.
pub type Dissect = fn(&Path, &Path) -> Vec<OsString>;

impl Guide {
    /// Finds the captures at or below a path, and what else is needed.
    pub fn find(path: &Path) -> Result<Self> {
        let captures = captures(path)?;
        ensure!(
            !captures.is_empty(),
            "no capture (.pcap, .pcapng, .cap, gzipped or not) at or below {}",
            path.display()
        );
        Ok(Self {
            captures,
            merge: profdata()?,
        })
    }

    /// Builds a program twice, in a build folder of its own; gives the folder in which it is.
    pub fn build(&self, wanted: &Wanted<'_>) -> Result<PathBuf> {
        let target = target_dir().join("guided");
        let counts = target.join("counts");
        if counts.exists() {
            fs::remove_dir_all(&counts).with_context(|| format!("cannot empty {}", counts.display()))?;
        }
        fs::create_dir_all(&counts)?;
        let programs = target.join(wanted.profile);
        // A copy, since this program may be built anew meanwhile; at a place of its own, since its path is among what names
        // are made of.
        let compiler = target.join("compiler");
        fs::copy("/proc/self/exe", &compiler)
            .with_context(|| format!("cannot write {}", compiler.display()))?;
        let build = |flags: &str| -> Result<()> {
            let mut clean = cargo(&["clean", "--workspace", "--profile", wanted.profile]);
            finish(clean.env("CARGO_TARGET_DIR", &target))?;
            let mut build = cargo(&["build", "--locked", "--profile", wanted.profile]);
            build
                .args(["--package", wanted.package])
                .env("CARGO_TARGET_DIR", &target)
                .env("RUSTC_WORKSPACE_WRAPPER", &compiler)
                // One that keeps what the compiler made (sccache) would not see the flags either.
                .env("RUSTC_WRAPPER", "")
                .env(FLAGS, flags);
            finish(&mut build)
        };

        eprintln!("first, {} that counts", wanted.package);
        build(&format!("-Cprofile-generate={}", counts.display()))?;
        let dissected = self.dissect(wanted, &programs, &counts)?;
        eprintln!("{dissected} of {} captures dissected", self.captures.len());
        ensure!(dissected > 0, "none of the captures can be dissected");
        let merged = counts.join("merged.profdata");
        let raw = fs::read_dir(&counts)?.flatten().map(|entry| entry.path());
        finish(
            Command::new(&self.merge)
                .args(["merge", "-o"])
                .arg(&merged)
                .args(raw.filter(|path| path.extension().is_some_and(|extension| extension == "profraw"))),
        )?;
        eprintln!("then, {} by what was counted", wanted.package);
        build(&format!("-Cprofile-use={}", merged.display()))?;
        Ok(programs)
    }

    /// Runs the program that counts over each capture; says how many it could dissect.
    fn dissect(&self, wanted: &Wanted<'_>, programs: &Path, counts: &Path) -> Result<u64> {
        let room = counts.join("dissected");
        let style =
            ProgressStyle::with_template("{spinner} dissecting [{elapsed}] {bar:30} {pos}/{len} {wide_msg}")?;
        let bar = ProgressBar::new(self.captures.len() as u64).with_style(style);
        let mut dissected = 0;
        for capture in &self.captures {
            bar.set_message(capture.display().to_string());
            fs::create_dir_all(&room)?;
            let done = Command::new(programs.join(wanted.package))
                .args((wanted.dissect)(capture, &room))
                .env("LLVM_PROFILE_FILE", counts.join(COUNTS))
                .stdout(Stdio::null())
                .output()
                .with_context(|| format!("cannot start {}", wanted.package))?;
            fs::remove_dir_all(&room)?;
            if done.status.success() {
                dissected += 1;
            } else {
                let said = String::from_utf8_lossy(&done.stderr);
                let said = said.lines().next().unwrap_or_default();
                bar.suspend(|| eprintln!("left out: {} ({said})", capture.display()));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(dissected)
    }
}

/// Becomes the compiler, if cargo has called this in place of it: with the compiler and its arguments. Comes back only if
/// that cannot be done.
pub fn as_compiler() -> Option<anyhow::Error> {
    let flags = std::env::var_os(FLAGS)?;
    let mut args = std::env::args_os().skip(1);
    let compiler = args.next()?;
    let args: Vec<OsString> = args.collect();
    let mut command = Command::new(compiler);
    if is_ours(&args) {
        command.arg(flags);
    }
    Some(command.args(args).exec().into())
}

/// Whether a crate of ours is compiled for what is built: not a build script, nor what the compiler itself loads.
fn is_ours(args: &[OsString]) -> bool {
    let after = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.to_str()
    };
    let named = after("--crate-name").is_some_and(|name| name.starts_with(OURS));
    named && after("--crate-type") != Some("proc-macro")
}

/// The capture files at a path, or below it.
fn captures(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::metadata(&path).with_context(|| format!("no captures at {}", path.display()))?;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        } else if is_capture(&path) {
            found.push(fs::canonicalize(path)?);
        }
    }
    found.sort();
    Ok(found)
}

/// By its name: what the hub imports.
fn is_capture(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".pcap", ".pcapng", ".cap"].iter().any(|end| name.ends_with(end))
}

/// The tool that adds counts up: of the compiler's own LLVM, for others write counts otherwise.
fn profdata() -> Result<PathBuf> {
    let told = |args: &[&str]| -> Result<String> {
        let told = Command::new("rustc").args(args).output()?;
        Ok(String::from_utf8_lossy(&told.stdout).into_owned())
    };
    let sysroot = PathBuf::from(told(&["--print", "sysroot"])?.trim());
    let version = told(&["-vV"])?;
    let field = |name| version.lines().find_map(|line| line.strip_prefix(name));
    let (host, llvm) = (field("host: "), field("LLVM version: "));
    let host = host.context("rustc does not say what it runs on")?;
    let llvm = llvm.and_then(|llvm| llvm.split('.').next());
    let llvm = llvm.context("rustc does not say which LLVM it has")?;
    let own = sysroot.join("lib/rustlib").join(host).join("bin/llvm-profdata");
    let debian = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin/llvm-profdata"));
    match [own, debian].into_iter().find(|tool| tool.exists()) {
        Some(tool) => Ok(tool),
        None => {
            bail!("no llvm-profdata: `rustup component add llvm-tools`, or `apt-get install llvm-{llvm}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_crates_are_compiled_otherwise() {
        let args = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(is_ours(&args(
            "--crate-name wiretape_hub --crate-type lib src/lib.rs"
        )));
        assert!(is_ours(&args(
            "--crate-name wiretape_hub --crate-type bin src/main.rs"
        )));
        assert!(!is_ours(&args(
            "--crate-name build_script_build --crate-type bin build.rs"
        )));
        assert!(!is_ours(&args("--crate-name serde --crate-type lib src/lib.rs")));
        assert!(!is_ours(&args("-vV")));
    }

    #[test]
    fn captures_are_found_in_folders_and_nothing_else_is() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("in"))?;
        for name in ["a.pcap", "in/b.pcapng.gz", "in/c.txt", "in/d.cap"] {
            fs::write(dir.path().join(name), "")?;
        }
        let found = captures(dir.path())?;
        let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["a.pcap", "b.pcapng.gz", "d.cap"]);
        assert!(captures(&dir.path().join("nothing")).is_err());
        let none = Guide::find(&dir.path().join("in/c.txt"));
        assert!(none.is_err_and(|error| error.to_string().contains("no capture")));
        Ok(())
    }
}
