//! Which interfaces there are: those of the network namespaces of the recorded processes, as they come and go.
//! Knows nothing of what is attached to them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use wiretape_agent_ebpf::{InterfaceKey, MAX_INTERFACES};

use super::CaptureError;

/// What records on an interface.
pub trait Tap: Send + 'static {
    /// Keeps it there. Whether it is gone when this is dropped is the tap's to say.
    type Hold: Send;

    /// Puts it onto an interface of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// When the kernel refuses, as when the interface has gone meanwhile.
    fn attach(&mut self, place: &Place<'_>) -> Result<Self::Hold, CaptureError>;

    /// Takes it from an interface for good. The calling thread may be in any namespace.
    fn release(&mut self, hold: Self::Hold);

    /// Whether it stays on interfaces when the agent ends, though it should not.
    fn stays(&self) -> bool;

    /// Takes it from an interface of the network namespace that the calling thread is in.
    fn take_off(&mut self, interface: &str);

    /// All interfaces that there were when the agent started have been attached to.
    fn seen_to(&mut self);

    /// Says whose the packets without a socket are on an interface; nobody's, when it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn own(&mut self, interface: InterfaceKey, cgroup: Option<u64>) -> Result<(), CaptureError>;

    /// Says whether what the kernel itself sends in a namespace is recorded on its interfaces.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn cover(&mut self, namespace: NamespaceId, covered: bool) -> Result<(), CaptureError>;
}

/// Where an interface is.
pub struct Place<'a> {
    /// Its name.
    pub interface: &'a str,
    /// Its index.
    pub ifindex: u32,
    /// Its network namespace.
    pub namespace: NamespaceId,
}

/// A network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId {
    /// Never used again; the inode where the kernel does not tell (before Linux 5.14).
    pub cookie: u64,
    /// Inode number, which a later namespace may have again.
    pub inode: u64,
}

/// How often it is looked which namespaces and interfaces there are. Every process of the recorded sub-tree is
/// asked for its namespace, which takes a microsecond or two.
const LOOK: Duration = Duration::from_secs(2);

/// How often a namespace is entered though no name in it has changed: an interface may have come in the place of
/// another.
const ENTER: Duration = Duration::from_secs(30);

/// How long a namespace without recorded processes is kept: the next one may be about to start.
const EMPTY: Duration = Duration::from_secs(60);

/// Depth to which the recorded sub-tree is searched, as for its names.
const MAX_DEPTH: usize = 32;

/// The thread that follows interfaces. Ends, and takes all from them, when dropped.
pub struct Follower {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts, for the processes of the sub-tree `recorded`; returns once all interfaces that there are now have
    /// been seen to. `home` says whether the interfaces of the agent's own namespace are among them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(recorded: PathBuf, home: bool, tap: impl Tap) -> io::Result<Self> {
        let own = File::open("/proc/thread-self/ns/net")?;
        let (stop, stopped) = sync_channel(0);
        let (begun, first) = sync_channel::<()>(0);
        let interfaces = Interfaces {
            recorded,
            left_out: (!home).then(|| own.metadata().map(|own| own.ino())).transpose()?,
            own,
            tap,
            namespaces: HashMap::new(),
        };
        let thread = thread::Builder::new()
            .name("interfaces".to_owned())
            .spawn(move || interfaces.follow(begun, &stopped))?;
        // Also when it panics, and then the log says so.
        let _ = first.recv();
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows interfaces panicked: see the agent's log");
        }
    }
}

struct Interfaces<T: Tap> {
    recorded: PathBuf,
    /// The agent's own namespace, to which the thread returns.
    own: File,
    /// Inode number of the namespace whose interfaces are not recorded.
    left_out: Option<u64>,
    tap: T,
    /// By inode number.
    namespaces: HashMap<u64, Namespace<T::Hold>>,
}

/// A namespace whose interfaces are recorded.
struct Namespace<H> {
    id: NamespaceId,
    /// By index. `None` where nothing can be attached.
    interfaces: HashMap<u32, Option<Held<H>>>,
    /// What they were called when the namespace was entered last.
    names: Vec<String>,
    entered: Instant,
    /// When a recorded process was last in it.
    inhabited: Instant,
}

/// An interface that is recorded on.
struct Held<H> {
    key: InterfaceKey,
    /// Whose it was said to be.
    owner: u64,
    hold: H,
}

/// A namespace as the processes show it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// A process that is in it.
    process: u32,
    /// The cgroup that all of its processes have in common.
    owner: PathBuf,
}

impl<T: Tap> Interfaces<T> {
    fn follow(mut self, begun: SyncSender<()>, stopped: &Receiver<()>) {
        let mut begun = Some(begun);
        loop {
            if let Err(error) = self.look() {
                // The thread may be in another's namespace: it must not go on.
                tracing::error!(
                    "interfaces are no longer followed, packets without a socket are missing: {error}"
                );
                return;
            }
            if let Some(begun) = begun.take() {
                self.tap.seen_to();
                // This is what whoever waits hears.
                drop(begun);
            }
            if stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return self.end();
            }
        }
    }

    /// Leaves nothing behind that is not to stay.
    fn end(mut self) {
        if !self.tap.stays() {
            return;
        }
        let mut found = HashMap::new();
        survey(&self.recorded, 0, &mut found);
        found.retain(|inode, _| self.namespaces.contains_key(inode));
        for (inode, found) in found {
            let outcome = self.inside(inode, &found, |this| {
                for name in names("/proc/thread-self/net/dev") {
                    this.tap.take_off(&name);
                }
                Ok(())
            });
            if let Err(error) = outcome {
                return tracing::warn!("programs stay behind on interfaces: {error}");
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut found = HashMap::new();
        survey(&self.recorded, 0, &mut found);
        for (inode, found) in found {
            if self.left_out == Some(inode) {
                continue;
            }
            let names = names(&format!("/proc/{}/net/dev", found.process));
            let known = self.namespaces.get_mut(&inode);
            let stale = known
                .as_ref()
                .is_none_or(|known| known.names != names || now.duration_since(known.entered) >= ENTER);
            if let Some(known) = known {
                known.inhabited = now;
            }
            if stale && (self.namespaces.contains_key(&inode) || self.held() < MAX_INTERFACES as usize) {
                self.enter(inode, &found)?;
            }
            self.give(inode, &found);
        }
        let tap = &mut self.tap;
        let left = self
            .namespaces
            .extract_if(|_, namespace| now.duration_since(namespace.inhabited) >= EMPTY);
        for (_, namespace) in left {
            tell(tap.cover(namespace.id, false));
            let_go(tap, namespace.interfaces);
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.namespaces
            .values()
            .map(|namespace| namespace.interfaces.len())
            .sum()
    }

    /// Goes into the namespace, attaches to what is new there, and returns.
    ///
    /// # Errors
    /// When there is no way back.
    fn enter(&mut self, inode: u64, found: &Found) -> io::Result<()> {
        self.inside(inode, found, |this| this.attach_to_new(inode))
    }

    /// Does something in the namespace, if it is still there.
    ///
    /// # Errors
    /// When there is no way back.
    fn inside(
        &mut self,
        inode: u64,
        found: &Found,
        what: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        // The process may have ended meanwhile, or be in another namespace now.
        let Some(there) = File::open(format!("/proc/{}/ns/net", found.process))
            .ok()
            .filter(|there| there.metadata().is_ok_and(|there| there.ino() == inode))
        else {
            return Ok(());
        };
        if let Err(error) = setns(&there, CloneFlags::CLONE_NEWNET) {
            tracing::warn!("a network namespace cannot be entered: {error}");
            return Ok(());
        }
        let outcome = what(self);
        setns(&self.own, CloneFlags::CLONE_NEWNET)?;
        if let Err(error) = outcome {
            tracing::warn!("the interfaces of a network namespace cannot be read: {error}");
        }
        Ok(())
    }

    fn attach_to_new(&mut self, inode: u64) -> io::Result<()> {
        let asked = UnixDatagram::unbound()?;
        let cookie = namespace_cookie(&asked).unwrap_or(inode);
        let (id, now) = (NamespaceId { cookie, inode }, Instant::now());
        let namespace = match self.namespaces.entry(inode) {
            Entry::Occupied(entry) if entry.get().id == id => entry.into_mut(),
            entry => entry
                .insert_entry(Namespace {
                    id,
                    interfaces: HashMap::new(),
                    names: Vec::new(),
                    entered: now,
                    inhabited: now,
                })
                .into_mut(),
        };
        namespace.names = names("/proc/thread-self/net/dev");
        namespace.entered = now;
        let mut there = HashMap::new();
        for name in &namespace.names {
            // One that goes away in the middle of this is as one that was not there.
            let Ok(ifindex) = ifindex(&asked, name) else {
                continue;
            };
            let held = match namespace.interfaces.remove(&ifindex) {
                Some(held) => held,
                None => match ethernet_address(&asked, name) {
                    Ok(Some(address)) => {
                        let place = Place {
                            interface: name,
                            ifindex,
                            namespace: id,
                        };
                        attach(&mut self.tap, &place, address)
                    }
                    Ok(None) | Err(_) => None,
                },
            };
            there.insert(ifindex, held);
        }
        let gone = std::mem::replace(&mut namespace.interfaces, there);
        let_go(&mut self.tap, gone);
        Ok(())
    }

    /// Tells whose the interfaces of a namespace are, where that is new.
    fn give(&mut self, inode: u64, found: &Found) {
        let owner = fs::metadata(&found.owner).map_or(0, |owner| owner.ino());
        let Some(namespace) = self.namespaces.get_mut(&inode) else {
            return;
        };
        let mut first = false;
        for held in namespace.interfaces.values_mut().flatten() {
            if owner != 0 && held.owner != owner {
                first |= held.owner == 0;
                held.owner = owner;
                tell(self.tap.own(held.key, Some(owner)));
            }
        }
        if first {
            tell(self.tap.cover(namespace.id, true));
        }
    }
}

fn let_go<T: Tap>(tap: &mut T, interfaces: HashMap<u32, Option<Held<T::Hold>>>) {
    for held in interfaces.into_values().flatten() {
        tell(tap.own(held.key, None));
        tap.release(held.hold);
    }
}

fn attach<T: Tap>(tap: &mut T, place: &Place<'_>, address: [u8; 6]) -> Option<Held<T::Hold>> {
    let Place {
        interface: name,
        ifindex,
        ..
    } = *place;
    let hold = match tap.attach(place) {
        Ok(hold) => hold,
        Err(error) => {
            tracing::warn!(interface = name, "not recorded on: {}", super::causes(&error));
            return None;
        }
    };
    tracing::info!(interface = name, ifindex, "recording on an interface");
    let [a, b, c, d, e, f] = address;
    Some(Held {
        key: InterfaceKey {
            address: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
            ifindex: u64::from(ifindex),
        },
        owner: 0,
        hold,
    })
}

fn tell(outcome: Result<(), CaptureError>) {
    if let Err(error) = outcome {
        tracing::warn!(
            "packets without a socket have no owner: {}",
            super::causes(&error)
        );
    }
}

/// Asks every process of the sub-tree for its network namespace.
fn survey(dir: &Path, depth: usize, found: &mut HashMap<u64, Found>) {
    // What goes away in the middle of this is as what was not there.
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    for process in procs.lines().filter_map(|line| line.parse().ok()) {
        let Some(inode) = namespace_of(process) else {
            continue;
        };
        found
            .entry(inode)
            .and_modify(|found| found.owner = common(&found.owner, dir))
            .or_insert_with(|| Found {
                process,
                owner: dir.to_owned(),
            });
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if depth < MAX_DEPTH {
            survey(&entry.path(), depth + 1, found);
        }
    }
}

/// The inode number in `net:[4026531840]`.
fn namespace_of(process: u32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/net")).ok()?;
    link.to_str()?
        .strip_prefix("net:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn common(one: &Path, other: &Path) -> PathBuf {
    let parts = one.components().zip(other.components());
    parts
        .take_while(|(one, other)| one == other)
        .map(|(part, _)| part)
        .collect()
}

/// The interfaces that a `/proc/.../net/dev` names: two lines of heads, then a line for each.
fn names(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines.map(|(name, _)| name.trim().to_owned()).collect()
}

/// The cookie of the namespace that a socket was made in.
fn namespace_cookie(socket: &UnixDatagram) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the descriptor is open, and both pointers are of live variables of the sizes told.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe {
        let cookie = (&raw mut cookie).cast();
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            cookie,
            &raw mut len,
        )
    };
    if outcome == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn ifindex(socket: &UnixDatagram, name: &str) -> io::Result<u32> {
    let request = ask(socket, name, libc::SIOCGIFINDEX)?;
    // SAFETY: the call has filled in this member.
    #[expect(unsafe_code, reason = "the kernel answers by a union")]
    let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(ifindex).map_err(io::Error::other)
}

/// Its address, if it is an Ethernet interface.
fn ethernet_address(socket: &UnixDatagram, name: &str) -> io::Result<Option<[u8; 6]>> {
    let request = ask(socket, name, libc::SIOCGIFHWADDR)?;
    // SAFETY: the call has filled in this member.
    #[expect(unsafe_code, reason = "the kernel answers by a union")]
    let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
    let [a, b, c, d, e, f, ..] = hardware.sa_data;
    let address = [a, b, c, d, e, f].map(|byte| byte.to_ne_bytes()[0]);
    Ok((hardware.sa_family == libc::ARPHRD_ETHER).then_some(address))
}

/// Asks about an interface of the namespace that the socket was made in.
fn ask(socket: &UnixDatagram, name: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    // SAFETY: all of it is numbers.
    #[expect(unsafe_code, reason = "the kernel's structure has a union in it")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the descriptor is open, and the request is what both of the calls used here take.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if outcome == 0 {
        Ok(request)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_a_pod_have_the_pod_in_common() {
        let owner = common(Path::new("/cgroup/pods/a/one"), Path::new("/cgroup/pods/a/two"));
        assert_eq!(owner, Path::new("/cgroup/pods/a"));
        assert_eq!(common(&owner, Path::new("/cgroup/pods/a")), owner);
    }

    #[test]
    fn the_namespace_of_a_process_is_found_by_its_cgroup() {
        let top = tempfile::tempdir().expect("a folder");
        let pod = top.path().join("pod");
        fs::create_dir(&pod).expect("a folder");
        let own = std::process::id();
        fs::write(pod.join("cgroup.procs"), format!("{own}\n4294967295\n")).expect("a file");
        let mut found = HashMap::new();
        survey(top.path(), 0, &mut found);
        let inode = fs::metadata("/proc/self/ns/net").expect("a namespace").ino();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found.get(&inode),
            Some(&Found {
                process: own,
                owner: pod
            })
        );
    }

    #[test]
    fn every_namespace_has_a_loopback_interface_that_is_not_ethernet() {
        let names = names("/proc/thread-self/net/dev");
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        let asked = UnixDatagram::unbound().expect("a socket");
        assert_eq!(ifindex(&asked, "lo").expect("an index"), 1);
        assert_eq!(ethernet_address(&asked, "lo").expect("a kind"), None);
        assert!(ifindex(&asked, "no-such-link").is_err());
    }
}
