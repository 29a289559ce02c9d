//! Without root: a user namespace, where an ordinary user is root of what is made in it.

use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;

/// What becomes root.
const ENTER: &str = include_str!("rootless.sh");

/// Begins this program anew, with the same arguments, as root of a user namespace.
///
/// # Errors
/// What the machine refuses; nothing has happened then.
pub fn begin_anew() -> anyhow::Result<Infallible> {
    may_enter()?;
    let this = std::env::current_exe().context("this program does not know where it is")?;
    let error = enter().arg(this).args(std::env::args_os().skip(1)).exec();
    Err(error).context("cannot run sh")
}

/// Whether this process is root of a user namespace only, and not of the machine: the kernel then takes no programs
/// from it, and no cgroups.
pub fn is_inside() -> bool {
    // The machine's own namespace maps every user to itself (user_namespaces(7)).
    fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}

/// Tries what a run needs root for; a network namespace goes with the mounts that it stands in.
fn may_enter() -> anyhow::Result<()> {
    let output = enter()
        .args([
            "sh",
            "-c",
            "touch /run/probe && unshare --net=/run/probe ip link set lo up",
        ])
        .output()
        .context("cannot run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}", said.trim().replace('\n', "; "));
    Ok(())
}

fn enter() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", ENTER, "rootless"]);
    command
}
