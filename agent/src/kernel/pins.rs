//! What stays in the kernel when the agent goes: names below a folder of the BPF file system, which hold programs, maps
//! and links for the next agent. Knows nothing of what they are.
//!
//! `DIR/cgroup-ID/layout-VERSION/…`: a folder for each recorded cgroup, locked by the agent that records it, and in it one
//! for each layout of records that agents have had.

#![allow(
    unsafe_code,
    reason = "the library that loads programs opens no pinned link, and replaces no program of a cgroup's"
)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use wiretape_agent_ebpf::LAYOUT_VERSION;

use super::attached;

/// The folders of recorded cgroups.
const OF_CGROUP: &str = "cgroup-";

/// Commands of `bpf(2)`, as the kernel numbers them.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_LINK_UPDATE: libc::c_int = 29;

/// The pins of one recorded cgroup, which nobody else uses meanwhile.
pub struct Pins {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Pins {
    /// Takes those of the cgroup with this id below `base`, which must be on a BPF file system. What agents of other
    /// layouts have left there goes when [`settle`](Self::settle) is called.
    ///
    /// # Errors
    /// When another agent has them, or they cannot be made.
    pub fn take(base: &Path, cgroup: u64) -> io::Result<Self> {
        make(base)?;
        if !is_bpf_file_system(base) {
            return Err(io::Error::other(format!(
                "{} is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf",
                base.display()
            )));
        }
        let of_cgroup = base.join(format!("{OF_CGROUP}{cgroup}"));
        make(&of_cgroup)?;
        let lock = lock(&of_cgroup)?;
        let dir = of_cgroup.join(format!("layout-{LAYOUT_VERSION}"));
        make(&dir)?;
        let pins = Self { dir, _lock: lock };
        for layout in pins.other_layouts() {
            pins.adopt(&layout);
        }
        Ok(pins)
    }

    /// Folders of agents of other layouts.
    fn other_layouts(&self) -> Vec<PathBuf> {
        let layouts = self
            .dir
            .parent()
            .map(fs::read_dir)
            .into_iter()
            .flatten()
            .flatten();
        let layouts = layouts.flatten().map(|layout| layout.path());
        layouts.filter(|layout| *layout != self.dir).collect()
    }

    /// Links mean the same in every layout, so that their programs can be replaced.
    fn adopt(&self, layout: &Path) {
        for pinned in fs::read_dir(layout).into_iter().flatten().flatten() {
            let is_link = get(&pinned.path()).is_ok_and(attached::is_link);
            let own = self.dir.join(pinned.file_name());
            if is_link && !own.exists() {
                // One that stays behind is let go with its folder.
                let _ = fs::rename(pinned.path(), own);
            }
        }
    }

    /// Where something of this name is pinned.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A descriptor of what is pinned by this name; `None` when nothing is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn get(&self, name: &str) -> io::Result<Option<OwnedFd>> {
        match get(&self.path(name)) {
            Ok(pinned) => Ok(Some(pinned)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets go what is pinned by this name, if anything is.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(name, "a pin stays behind: {error}");
        }
    }

    /// Calls what is pinned otherwise, in place of what had that name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.remove(to);
        fs::rename(self.path(from), self.path(to))
    }

    /// What is pinned by names that begin so.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// To be called once this agent's programs run in place of those of agents of other layouts: lets these go.
    pub fn settle(&self) {
        for layout in self.other_layouts() {
            tracing::info!(dir = %layout.display(), "what another version of the agent has left is let go");
            empty(&layout);
        }
    }
}

/// Whether this is a folder in which something can be pinned.
pub fn is_bpf_file_system(dir: &Path) -> bool {
    statfs(dir).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Lets go what no agent uses. With `all`, also what waits for the next agent of a cgroup that is still there. Says how
/// many cgroups' pins that were.
pub fn sweep(base: &Path, all: bool) -> usize {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let cgroups = entries.filter(|entry| entry.file_name().as_bytes().starts_with(OF_CGROUP.as_bytes()));
    cgroups
        .filter(|entry| {
            let dir = entry.path();
            // Held as long as it is taken apart, so that no agent takes it over meanwhile.
            let Ok(_lock) = lock(&dir) else { return false };
            let unused = all || !has_cgroup(&dir);
            unused && empty(&dir)
        })
        .count()
}

/// Whether there is a link to a cgroup in any layout of a folder that is still attached.
fn has_cgroup(dir: &Path) -> bool {
    let layouts = fs::read_dir(dir).into_iter().flatten().flatten();
    let pinned = layouts.flat_map(|layout| fs::read_dir(layout.path()).into_iter().flatten().flatten());
    pinned
        .filter_map(|pinned| get(&pinned.path()).ok())
        .any(|pinned| attached::is_to_cgroup(&pinned))
}

/// Removes a folder and all in it; whether nothing is left.
fn empty(dir: &Path) -> bool {
    let removed = fs::remove_dir_all(dir);
    if let Err(error) = &removed {
        tracing::warn!(dir = %dir.display(), "pins stay behind: {error}");
    }
    removed.is_ok()
}

fn make(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lock(dir: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(dir)?, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => io::Error::other("another agent records this cgroup"),
        error => error.into(),
    })
}

/// Opens what is pinned at a path.
fn get(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    // SAFETY: the structure is the head of what the kernel takes, whose length it is told, and the path lives on.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut get) }?;
    // SAFETY: the kernel has just made it for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a program in the place of the one that a link has, with no packet between the two.
///
/// # Errors
/// When the kernel refuses, as when what the link was to has gone.
pub fn replace(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    #[repr(C)]
    struct Update {
        link: i32,
        program: i32,
        flags: u32,
        old_program: u32,
    }
    let mut update = Update {
        link: link.as_fd().as_raw_fd(),
        program: program.as_fd().as_raw_fd(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the structure is the head of what the kernel takes, whose length it is told.
    unsafe { bpf(BPF_LINK_UPDATE, &mut update) }.map(drop)
}

/// # Safety
/// `attributes` must be what the command takes, and all that it points to must be live.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: see above.
    let outcome = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        libc::c_int::try_from(outcome).map_err(io::Error::other)
    }
}
