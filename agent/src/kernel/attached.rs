//! What the kernel says of links and programs in their `fdinfo` (Linux 5.8): whether a program is still attached, for anyone
//! with the right may detach it, and it goes with its cgroup; and how often it was left out.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// How the kernel names a link among a process' files (`bpf_link_new_fd`: `anon_inode:bpf_link`).
const LINK: &str = "bpf_link";

/// Asks between two looks for the links there are: they are made when the agent starts, and a look goes through all files of
/// the process, of which there are some for each interface that is recorded on.
const ASKS: u32 = 10;

/// The links of this process to cgroups.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Their files' numbers.
    files: Vec<OsString>,
    asked: u32,
}

impl Links {
    /// From how many the kernel, or someone else, has taken the cgroup.
    pub fn detached(&mut self) -> usize {
        if self.asked.is_multiple_of(ASKS) {
            self.files = links_to_cgroups();
        }
        self.asked = self.asked.wrapping_add(1);
        // The number of one that was closed meanwhile is free, or another file's, which is no link to a cgroup.
        self.files
            .iter()
            .filter(|file| is_detached(&told_of(file)))
            .count()
    }
}

fn links_to_cgroups() -> Vec<OsString> {
    let files = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // What is no link is not opened. One that was closed meanwhile is none.
    let links = files.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|to| to.as_os_str().to_string_lossy().contains(LINK))
    });
    links
        .map(|link| link.file_name())
        .filter(|file| field(&told_of(file), "link_type") == Some("cgroup"))
        .collect()
}

/// What the kernel says of a file; one that cannot be asked for says nothing.
fn told_of(file: &OsStr) -> String {
    fs::read_to_string(Path::new("/proc/self/fdinfo").join(file)).unwrap_or_default()
}

/// Whether this is a link to a cgroup that is there.
pub fn is_to_cgroup(link: impl AsFd) -> bool {
    let info = info(link);
    field(&info, "link_type") == Some("cgroup") && !is_detached(&info)
}

/// Whether this is a link at all.
pub fn is_link(pinned: impl AsFd) -> bool {
    field(&info(pinned), "link_type").is_some()
}

/// How often the kernel has left a program out that was at work already (Linux 5.12; 0 before).
pub fn runs_left_out(program: impl AsFd) -> u64 {
    left_out_by(&info(program))
}

/// By the lines of `bpf_prog_show_fdinfo`.
fn left_out_by(info: &str) -> u64 {
    let count = field(info, "recursion_misses").map(str::parse);
    count.and_then(Result::ok).unwrap_or_default()
}

fn info(link: impl AsFd) -> String {
    told_of(link.as_fd().as_raw_fd().to_string().as_ref())
}

/// By the lines of `bpf_cgroup_link_show_fdinfo`: a link without a cgroup has its id 0.
fn is_detached(info: &str) -> bool {
    field(info, "link_type") == Some("cgroup") && field(info, "cgroup_id") == Some("0")
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_program_that_were_left_out() {
        assert_eq!(
            left_out_by("prog_type:\t17\nprog_jited:\t1\nrecursion_misses:\t12\n"),
            12
        );
        assert_eq!(left_out_by("prog_type:\t17\nprog_jited:\t1\n"), 0);
    }

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
        assert_eq!(Links::default().detached(), 0);
    }
}
