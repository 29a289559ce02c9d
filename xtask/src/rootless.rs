//! Runs commands without root as root of a user namespace, as the demo does.

use std::process::Command;

/// What becomes root, shared with the demo.
const ENTER: &str = include_str!("../../tests/src/rootless.sh");

/// What tests need it for: a network namespace, left where it goes with the mounts.
const PROBE: &str = "touch /run/probe && unshare --net=/run/probe ip link set lo up";

/// Why the machine refuses, if it does.
pub fn refusal() -> Option<String> {
    let mut probe = Command::new("sh");
    match inside(probe.args(["-c", PROBE])).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")),
        Err(error) => Some(error.to_string()),
    }
}

/// The same command inside.
pub fn inside(command: &Command) -> Command {
    let mut inside = Command::new("sh");
    inside
        .args(["-c", ENTER, "rootless"])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        inside.current_dir(folder);
    }
    inside
}
