//! The programs as they are shipped: for each the root of an image, and a Debian package.
//!
//! Both are made of the same stripped program. The image's root holds the program, the libraries that it is linked with
//! and nothing else: no shell, no package manager. All bytes and times come from the source, so that building twice gives
//! the same twice, given the same compiler, libraries and path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::guided::{self, Guide};
use crate::{deb, programs};

/// What is to be made.
#[derive(Args)]
pub struct Wanted {
    /// Only this one: agent or hub
    #[arg(value_parser = ["agent", "hub"])]
    program: Option<String>,
    /// How to build; release is quicker, and what the tests run
    #[arg(long, default_value = "release-lto")]
    profile: String,
    /// Build the hub by what it counts while it dissects these captures, of traffic like yours: it mostly takes an eighth less time
    /// for a dissection, and twice as long to build
    #[arg(long, value_name = "CAPTURES")]
    guided_by: Option<PathBuf>,
    /// A folder of programs that are built already
    #[arg(long, value_name = "DIR", conflicts_with = "guided_by")]
    binaries: Option<PathBuf>,
    /// Where to put it all; `dist` beside what cargo builds when not given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// A program that is shipped.
pub struct Shipped {
    /// As in `deploy/debian`: agent or hub.
    pub short: &'static str,
    /// The program's and the package's name.
    pub name: &'static str,
    /// In Debian's control file.
    pub summary: &'static str,
    /// Folders of an image's root that are mounted over, or written to by whoever runs the program.
    pub folders: &'static [&'static str],
    /// How it dissects a capture, if that is what it spends its time with: arguments for a capture, and a folder to use.
    pub dissect: Option<guided::Dissect>,
}

const SHIPPED: &[Shipped] = &[
    Shipped {
        short: "agent",
        name: "wiretape-agent",
        summary: "records a node's network traffic onto a tape",
        folders: &["proc", "sys", "tmp", "var/lib/wiretape/tape"],
        dissect: None,
    },
    Shipped {
        short: "hub",
        name: "wiretape-hub",
        summary: "cuts windows out of recorded traffic and answers questions about them",
        folders: &["proc", "sys", "tmp", "var/lib/wiretape"],
        dissect: Some(|capture, _| {
            vec![
                "dissect".into(),
                "--threads=1".into(),
                "--format=ndjson".into(),
                capture.into(),
            ]
        }),
    },
];

/// Who the hub runs as in its image, with a name for whoever looks.
const USERS: &str = "root:x:0:0:root:/:/sbin/nologin\nwiretape:x:65532:65532:wiretape:/:/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\nwiretape:x:65532:\n";
/// So that a name in /etc/hosts is found without asking.
const NAME_SERVICES: &str = "hosts: files dns\n";

/// Builds, and makes roots and packages.
pub fn run(wanted: &Wanted) -> Result<()> {
    let shipped: Vec<&Shipped> = SHIPPED
        .iter()
        .filter(|program| wanted.program.as_deref().is_none_or(|only| only == program.short))
        .collect();
    let guide = wanted.guided_by.as_deref().map(Guide::find).transpose()?;
    if guide.is_some() && shipped.iter().all(|program| program.dissect.is_none()) {
        bail!("--guided-by is for the hub: the agent does not dissect");
    }
    let plain = |program: &&&Shipped| guide.is_none() || program.dissect.is_none();
    let built = match &wanted.binaries {
        Some(folder) => folder.clone(),
        None => build(shipped.iter().filter(plain), &wanted.profile)?,
    };
    let out = wanted
        .out
        .clone()
        .unwrap_or_else(|| programs::target_dir().join("dist"));
    let time = source_time()?;
    for program in shipped {
        let built = match (&guide, program.dissect) {
            (Some(guide), Some(dissect)) => &guide.build(&guided::Wanted {
                package: program.name,
                profile: &wanted.profile,
                dissect,
            })?,
            _ => &built,
        };
        let binary = strip(&built.join(program.name), &out)?;
        let root = out.join(program.short);
        make_root(program, &binary, &root)?;
        set_times(&root, time)?;
        println!("{} {}", size(&root)?, root.display());
        let package = deb::make(program, &binary, &out, time)?;
        println!("{} {}", fs::metadata(&package)?.len(), package.display());
        fs::remove_file(&binary)?;
    }
    Ok(())
}

/// Builds those that there are, together.
fn build<'a>(shipped: impl Iterator<Item = &'a &'a Shipped>, profile: &str) -> Result<PathBuf> {
    let packages: Vec<&str> = shipped.flat_map(|program| ["--package", program.name]).collect();
    if !packages.is_empty() {
        let mut build = programs::cargo(&["build", "--locked", "--profile", profile]);
        programs::finish(build.args(packages))?;
    }
    Ok(programs::target_dir().join(profile))
}

/// A copy without what only a debugger reads. Names of functions stay: a panic's backtrace is read by people.
fn strip(binary: &Path, out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let name = binary.file_name().context("a program has a name")?;
    let stripped = out.join(name).with_extension("stripped");
    programs::finish(
        Command::new("strip")
            .args(["--strip-debug", "--enable-deterministic-archives", "-o"])
            .arg(&stripped)
            .arg(binary),
    )?;
    Ok(stripped)
}

/// The image's files.
fn make_root(program: &Shipped, binary: &Path, root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot empty {}", root.display()))?;
    }
    for folder in program.folders {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("cannot make {folder}"))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    put(binary, &root.join("usr/bin").join(program.name), 0o755)?;
    for library in libraries(binary)? {
        let inside = library.strip_prefix("/").unwrap_or(&library);
        put(&library, &root.join(inside), 0o755)?;
    }
    for (name, text) in [
        ("etc/passwd", USERS),
        ("etc/group", GROUPS),
        ("etc/nsswitch.conf", NAME_SERVICES),
    ] {
        write(&root.join(name), text, 0o644)?;
    }
    Ok(())
}

/// What the program is linked with, loader included, by the names that it looks for.
fn libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(binary)
        .output()
        .context("cannot start ldd")?;
    if !output.status.success() {
        bail!(
            "ldd cannot read {}: {}",
            binary.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    parse_ldd(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `name => /path (address)` and `/path (address)`; the kernel's own has no path.
fn parse_ldd(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.contains("not found") {
            bail!("a library is missing on this machine: {line}");
        }
        let path = line.rsplit_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// Copies a program to a path below `root`, stripped, and what it is linked with.
pub fn put_with_libraries(program: &Path, root: &Path, path: &Path) -> Result<()> {
    let inside = root.join(path.strip_prefix("/").unwrap_or(path));
    put(program, &inside, 0o755)?;
    programs::finish(Command::new("strip").arg("--strip-debug").arg(&inside))?;
    // One that is linked with nothing is none that `ldd` reads.
    for library in libraries(program).unwrap_or_default() {
        let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
        if !inside.exists() {
            put(&library, &inside, 0o755)?;
        }
    }
    Ok(())
}

/// Copies a file, with the folders above it.
pub fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

/// Writes a file, with the folders above it.
pub fn write(to: &Path, text: &str, mode: u32) -> Result<()> {
    make_parent(to)?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}

fn make_parent(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// When the source was made, in seconds since 1970: what the environment says, else the last commit.
fn source_time() -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let output = Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(programs::root())
                .output()
                .context("cannot start git; set SOURCE_DATE_EPOCH")?;
            String::from_utf8(output.stdout)?
        }
    };
    text.trim()
        .parse()
        .context("neither SOURCE_DATE_EPOCH nor the last commit tells a time")
}

/// Gives everything in a folder, and the folder, one time.
pub fn set_times(folder: &Path, time: u64) -> Result<()> {
    let stamp = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            set_times(&path, time)?;
        } else {
            fs::File::open(&path)?.set_modified(stamp)?;
        }
    }
    fs::File::open(folder)?.set_modified(stamp)?;
    Ok(())
}

/// Bytes of all files.
pub fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            size(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_with_the_loader_and_without_the_kernels_own() {
        let text = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = parse_ldd(text).expect("all are there");
        assert_eq!(
            found,
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn a_library_that_is_missing_stops_the_build() {
        assert!(parse_ldd("\tlibpcap.so.0.8 => not found\n").is_err());
    }
}
