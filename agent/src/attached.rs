//! Whether the kernel programs are still attached: anyone with the right may detach them, and they go with their
//! cgroup. The kernel says so in the link's `fdinfo` (Linux 5.8).

use std::fs;

/// The links of this process to cgroups from which the kernel, or someone else, has taken the cgroup.
pub fn detached_links() -> usize {
    let files = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    // A file that was closed meanwhile is none.
    let infos = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    infos.filter(|info| is_detached(info)).count()
}

/// By the lines of `bpf_cgroup_link_show_fdinfo`: a link without a cgroup has its id 0.
fn is_detached(info: &str) -> bool {
    let field = |name: &str| {
        let mut lines = info.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    field("link_type") == Some("cgroup") && field("cgroup_id") == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_without_a_cgroup_is_detached() {
        let link = |cgroup: &str| {
            format!(
                "pos:\t0\nflags:\t02000002\nlink_type:\tcgroup\nlink_id:\t7\nprog_id:\t9\ncgroup_id:\t{cgroup}\nattach_type:\t0\n"
            )
        };
        assert!(is_detached(&link("0")));
        assert!(!is_detached(&link("10")));
        assert!(!is_detached("pos:\t0\nflags:\t02\ncgroup_id:\t0\n"));
        assert_eq!(detached_links(), 0);
    }
}
