//! Where the kernel that runs keeps what the programs of events read.

use anyhow::{Context, Result};
use wiretape_agent_ebpf::layout as place;

use crate::kernel::btf::Types;

/// The places of all that is in `wiretape_agent_ebpf::layout`.
///
/// # Errors
/// When the kernel lacks something that the programs need.
pub fn read(types: &Types<'_>) -> Result<[u32; place::FIELDS]> {
    let mut places = types.places(&FIELDS)?;
    let mut set = |at: usize, value| {
        if let Some(place) = places.get_mut(at) {
            *place = value;
        }
    };
    let (ancestors, are_ids) = match types.offset("cgroup", "ancestors") {
        Some(pointers) => (pointers, 0),
        // Before Linux 6.1.
        None => (
            types
                .offset("cgroup", "ancestor_ids")
                .context("this kernel's cgroups do not know those above them")?,
            1,
        ),
    };
    set(place::CGROUP_ANCESTORS, ancestors);
    set(place::ANCESTORS_ARE_IDS, are_ids);
    // Without IPv6 they are not there.
    for (at, field) in [
        (place::SOCK_LOCAL_6, "skc_v6_rcv_saddr"),
        (place::SOCK_REMOTE_6, "skc_v6_daddr"),
    ] {
        set(at, types.offset("sock_common", field).unwrap_or(0));
    }
    Ok(places)
}

/// What every kernel that the programs run on has.
const FIELDS: [(usize, &str, &str); 23] = [
    (place::TASK_TGID, "task_struct", "tgid"),
    (place::TASK_LEADER, "task_struct", "group_leader"),
    (place::TASK_SIGNAL, "task_struct", "signal"),
    (place::TASK_EXIT_CODE, "task_struct", "exit_code"),
    (place::TASK_COMM, "task_struct", "comm"),
    (place::TASK_CGROUPS, "task_struct", "cgroups"),
    (place::SET_CGROUP, "css_set", "dfl_cgrp"),
    (place::SIGNAL_LIVE, "signal_struct", "live"),
    (place::SIGNAL_FLAGS, "signal_struct", "flags"),
    (place::SIGNAL_EXIT_CODE, "signal_struct", "group_exit_code"),
    (place::CGROUP_NODE, "cgroup", "kn"),
    (place::CGROUP_LEVEL, "cgroup", "level"),
    (place::CGROUP_ROOT, "cgroup", "root"),
    (place::ROOT_HIERARCHY, "cgroup_root", "hierarchy_id"),
    (place::NODE_ID, "kernfs_node", "id"),
    (place::SOCK_CGROUP, "sock", "sk_cgrp_data"),
    (place::SOCK_ERROR, "sock", "sk_err"),
    (place::SOCK_PROTOCOL, "sock", "sk_protocol"),
    (place::SOCK_FAMILY, "sock_common", "skc_family"),
    (place::SOCK_LOCAL_PORT, "inet_sock", "inet_sport"),
    (place::SOCK_REMOTE_PORT, "sock_common", "skc_dport"),
    (place::SOCK_LOCAL, "sock_common", "skc_rcv_saddr"),
    (place::SOCK_REMOTE, "sock_common", "skc_daddr"),
];
