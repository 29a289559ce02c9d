//! The machine: its kernel, and what this process may do there.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::events::reasons::TOLD;
use crate::kernel::btf::{self, Types};
use crate::kernel::thrown::Thrown;
use crate::own_cgroup::Hierarchy;

/// The ring buffer's first kernel; before 5.8 there is libpcap only.
const LEAST_KERNEL: (u32, u32) = (5, 8);

/// Capabilities by their bit (capabilities(7), linux/capability.h), and what each is for.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (39, "CAP_BPF", "eBPF: loading programs"),
    (12, "CAP_NET_ADMIN", "eBPF: attaching programs to cgroups"),
    (13, "CAP_NET_RAW", "libpcap"),
    (23, "CAP_SYS_NICE", "fewer losses on a busy machine"),
];

/// Includes all of the above that concern eBPF (Linux before 5.8, and as a fallback ever since).
const CAP_SYS_ADMIN: u32 = 21;

pub(super) fn examine() -> Vec<Finding> {
    vec![kernel(), btf(), drops(), capabilities(), cgroups(), bpffs()]
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        Some(version) if version >= LEAST_KERNEL => Finding::works("kernel", format!("Linux {release}")),
        _ => Finding::lacks(
            "kernel",
            format!("Linux {release}: eBPF needs 5.8"),
            "libpcap records here: pods are told by their addresses, and processes not at all",
        ),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn btf() -> Finding {
    let path = btf::KERNEL;
    match fs::metadata(path) {
        Ok(file) => Finding::works("btf", format!("{path}, {} KiB", file.len() / 1024)),
        Err(error) => Finding::lacks(
            "btf",
            format!("{path}: {error}"),
            "programs that read kernel structures cannot be used; those that see packets need none",
        ),
    }
}

fn drops() -> Finding {
    let thrown = btf::of_kernel().and_then(|btf| Thrown::find(&Types::parse(&btf)?, &TOLD));
    match thrown {
        Ok(thrown) => {
            let reasons = thrown.reasons.iter().filter(|reason| **reason != 0).count();
            Finding::works(
                "drops",
                format!("the kernel says why it drops packets: {reasons} reasons are told"),
            )
        }
        Err(error) => Finding::lacks(
            "drops",
            format!("{error:#}"),
            "what a firewall or a full queue throws away is seen as sent, and nobody says why it is not answered",
        ),
    }
}

fn capabilities() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(effective) = effective(&status) else {
        return Finding::lacks(
            "capabilities",
            "/proc/self/status does not tell them",
            "run as root",
        );
    };
    let has = |bit: u32| effective >> bit & 1 == 1;
    let covered = |bit: u32, what: &str| has(bit) || what.starts_with("eBPF") && has(CAP_SYS_ADMIN);
    let missing = CAPABILITIES.iter().filter(|(bit, _, what)| !covered(*bit, what));
    let missing: Vec<String> = missing
        .map(|(_, name, what)| format!("{name} ({what})"))
        .collect();
    if missing.is_empty() {
        let names: Vec<&str> = CAPABILITIES.iter().map(|(_, name, _)| *name).collect();
        Finding::works("capabilities", names.join(", "))
    } else {
        Finding::lacks(
            "capabilities",
            format!("without {}", missing.join(", ")),
            "run as root, or with these capabilities",
        )
    }
}

/// The bits of `CapEff` (proc(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn cgroups() -> Finding {
    match Hierarchy::find() {
        Ok(hierarchy) => {
            let version_1 = Path::new("/proc/self/cgroup");
            let hybrid = fs::read_to_string(version_1)
                .is_ok_and(|lines| lines.lines().any(|line| !line.starts_with("0::")));
            let mode = if hybrid { "hybrid, v2" } else { "unified, v2" };
            Finding::works("cgroups", format!("{mode} at {}", hierarchy.root().display()))
        }
        Err(error) => Finding::lacks(
            "cgroups",
            error.to_string(),
            "eBPF cannot record here; boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn bpffs() -> Finding {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "bpf").then(|| place.to_owned())
    });
    match mounted {
        Some(place) => Finding::works("bpffs", format!("at {place}")),
        None => Finding::lacks(
            "bpffs",
            "not mounted",
            "programs cannot be pinned, so they end with the agent: mount -t bpf bpf /sys/fs/bpf",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_every_kind_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert!(version("5.10.0-28-amd64") > Some(LEAST_KERNEL));
        assert!(version("5.4.0") < Some(LEAST_KERNEL));
        assert_eq!(version(""), None);
    }

    #[test]
    fn capabilities_are_read_by_their_bits() {
        assert_eq!(
            effective("Name:\tx\nCapEff:\t0000000000003000\n"),
            Some(1 << 12 | 1 << 13)
        );
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
