//! Debian packages for hosts without Kubernetes: the program, its unit, its settings.
//!
//! What goes in is in `deploy/debian/<program>`; Debian's own tools find the dependencies and write the archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dist::{self, Shipped};
use crate::programs;

/// Who answers for the package.
const MAINTAINER: &str = "Wiretape <wiretape@localhost>";

/// Beside the libraries: the postinst makes a user, and the unit is systemd's.
const DEPENDS: &str = "adduser, systemd";

/// What runs when, in the package and in `deploy/debian/<program>`.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Makes `<name>_<version>_<architecture>.deb` in `out`.
pub fn make(program: &Shipped, binary: &Path, out: &Path, time: u64) -> Result<PathBuf> {
    let source = programs::root().join("deploy/debian").join(program.short);
    let tree = out.join(format!("{}.deb-tree", program.name));
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    let settings = format!("etc/default/{}", program.name);
    dist::put(binary, &tree.join("usr/bin").join(program.name), 0o755)?;
    let unit = format!("{}.service", program.name);
    dist::put(
        &source.join(&unit),
        &tree.join("lib/systemd/system").join(&unit),
        0o644,
    )?;
    dist::put(&source.join("default"), &tree.join(&settings), 0o644)?;
    let documents = tree.join("usr/share/doc").join(program.name);
    dist::put(
        &programs::root().join("deploy/debian/copyright"),
        &documents.join("copyright"),
        0o644,
    )?;

    let control = tree.join("DEBIAN");
    for script in SCRIPTS {
        dist::put(&source.join(script), &control.join(script), 0o755)?;
    }
    dist::write(&control.join("conffiles"), &format!("/{settings}\n"), 0o644)?;
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "Package: {}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\nInstalled-Size: {}\n\
         Depends: {}, {DEPENDS}\nSection: net\nPriority: optional\nDescription: {}\n \
         Wiretape is an always-on tape recorder for the network of a cluster.\n",
        program.name,
        (dist::size(&tree)? / 1024).max(1),
        libraries(binary)?,
        program.summary,
    );
    dist::write(&control.join("control"), &text, 0o644)?;
    dist::set_times(&tree, time)?;

    let package = out.join(format!("{}_{version}_{architecture}.deb", program.name));
    let built = Command::new("dpkg-deb")
        // Who has the C library that is asked for can read zstd; xz takes ten times as long.
        .args(["--root-owner-group", "-Zzstd", "-z9", "--build"])
        .arg(&tree)
        .arg(&package)
        .env("SOURCE_DATE_EPOCH", time.to_string())
        .output()
        .context("cannot start dpkg-deb")?;
    if !built.status.success() {
        bail!("dpkg-deb: {}", String::from_utf8_lossy(&built.stderr));
    }
    fs::remove_dir_all(&tree)?;
    Ok(package)
}

/// The packages of the libraries that the program is linked with, with the versions that it needs.
fn libraries(binary: &Path) -> Result<String> {
    // It looks for a file of the source package, and reads only that it is there.
    let folder = binary.with_extension("shlibs");
    dist::write(&folder.join("debian/control"), "", 0o644)?;
    let binary = fs::canonicalize(binary)?;
    let depends = output(
        Command::new("dpkg-shlibdeps")
            .arg("-O")
            .arg("--ignore-missing-info")
            .arg("-e")
            .arg(binary)
            .current_dir(&folder),
    );
    fs::remove_dir_all(&folder)?;
    let depends = depends?;
    let (_, depends) = depends
        .split_once("shlibs:Depends=")
        .with_context(|| format!("dpkg-shlibdeps names no packages: {depends}"))?;
    Ok(depends.trim().to_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!(
            "{:?}: {}",
            command.get_program(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
