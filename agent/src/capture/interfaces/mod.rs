//! Which interfaces there are: those of the network namespaces of the recorded processes, as they come and go.
//! Knows nothing of what is attached to them.

mod devices;

mod notices;

mod survey;

mod tap;

pub use notices::Notices;
pub use tap::{NamespaceId, Place, Standing, Tap};

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::epoll::EpollFlags;
use wiretape_agent_ebpf::{InterfaceKey, MAX_INTERFACES};

use super::wake::Wait;
use super::{CaptureError, Disturbed};
use devices::{ethernet_address, ifindex, names, namespace_cookie};
use notices::Links;
use survey::{Found, namespace_of, survey};

/// How often it is looked which namespaces and interfaces there are, though nothing was heard of any. Every process of the
/// recorded sub-tree is asked for its namespace, which takes a microsecond or two.
const LOOK: Duration = Duration::from_secs(2);

/// The least time between two looks, however much is heard.
const SPACING: Duration = Duration::from_millis(20);

/// How often a namespace is entered though no name in it has changed: an interface may have come in the place of
/// another, and somebody else may have taken a program from one.
const ENTER: Duration = Duration::from_secs(10);

/// How long a namespace without recorded processes is kept: the next one may be about to start.
const EMPTY: Duration = Duration::from_secs(60);

/// The thread that follows interfaces. Ends, and takes all from them, when dropped.
pub struct Follower {
    notices: Notices,
    disturbances: Arc<Disturbances>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What others have done to what records on interfaces.
#[derive(Default)]
struct Disturbances {
    put_back: AtomicU64,
    behind: AtomicU64,
}

impl Follower {
    /// Starts, for the processes of the sub-tree `recorded`; returns once all interfaces that there are now have
    /// been seen to. `home` says whether the interfaces of the agent's own namespace are among them.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(recorded: PathBuf, home: bool, tap: impl Tap) -> io::Result<Self> {
        let own = File::open("/proc/thread-self/ns/net")?;
        let (begun, first) = sync_channel::<()>(0);
        let (notices, stop) = (Notices::new()?, Arc::<AtomicBool>::default());
        let wait = Wait::for_wakes(notices.waker())?;
        let links = match Links::open() {
            Ok(links) => {
                wait.add(&links, EpollFlags::EPOLLIN)?;
                Some(links)
            }
            Err(error) => {
                tracing::info!("interfaces are looked for, not told of: {error}");
                None
            }
        };
        let disturbances = Arc::<Disturbances>::default();
        let interfaces = Interfaces {
            recorded,
            left_out: (!home).then(|| own.metadata().map(|own| own.ino())).transpose()?,
            own,
            tap,
            namespaces: HashMap::new(),
            notices: notices.clone(),
            links,
            wait,
            disturbances: Arc::clone(&disturbances),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("interfaces".to_owned())
            .spawn(move || interfaces.follow(begun))?;
        // Also when it panics, and then the log says so.
        let _ = first.recv();
        Ok(Self {
            notices,
            disturbances,
            stop,
            thread: Some(thread),
        })
    }

    /// For those who know that something has changed.
    pub fn notices(&self) -> Notices {
        self.notices.clone()
    }

    /// What others have done to what records on interfaces.
    pub fn disturbed(&self) -> Disturbed {
        let Disturbances { put_back, behind } = &*self.disturbances;
        Disturbed {
            put_back: put_back.load(Ordering::Relaxed),
            behind: behind.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.notices.waker().wake();
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
    notices: Notices,
    links: Option<Links>,
    wait: Wait,
    disturbances: Arc<Disturbances>,
    stop: Arc<AtomicBool>,
}

/// A namespace whose interfaces are recorded.
struct Namespace<H> {
    id: NamespaceId,
    /// By which the kernel tells of it.
    number: Option<i32>,
    /// By index. `None` where nothing can be attached.
    interfaces: HashMap<u32, Option<Held<H>>>,
    /// What they were called when the namespace was entered last.
    names: Vec<String>,
    /// Whether it is known whose it is: only processes at the top of the sub-tree have been seen in it otherwise.
    has_owner: bool,
    entered: Instant,
    /// When a recorded process was last in it.
    inhabited: Instant,
}

/// An interface that is recorded on.
struct Held<H> {
    key: InterfaceKey,
    /// Whose it was said to be.
    owner: u64,
    /// Somebody else's program comes before it.
    behind: bool,
    hold: H,
}

impl<T: Tap> Interfaces<T> {
    fn follow(mut self, begun: SyncSender<()>) {
        // Without, it is later on a busy machine; the recorder says so.
        let _ = super::hurry();
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
            self.rest();
            if self.stop.load(Ordering::Relaxed) {
                return self.end();
            }
        }
    }

    /// Waits until there is something new to see, or it is time to look, or to end.
    fn rest(&mut self) {
        let begun = Instant::now();
        let mut changed = false;
        while !self.stop.load(Ordering::Relaxed) {
            let due = if changed { SPACING } else { LOOK };
            let left = due.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            if let Err(error) = self.wait.wait(left) {
                tracing::warn!("changes of interfaces cannot be waited for: {error}");
                thread::sleep(left);
            }
            changed |= self.is_news();
        }
    }

    /// Whether something was told that is worth a look.
    fn is_news(&mut self) -> bool {
        let heard = self.links.as_ref().map(Links::heard).unwrap_or_default();
        // Before their inodes are another's.
        for (_, namespace) in self.namespaces.extract_if(|_, namespace| {
            namespace
                .number
                .is_some_and(|number| heard.gone.contains(&number))
        }) {
            forget(&mut self.tap, namespace);
        }
        if heard.missed {
            // Any may be gone, and its inode another's.
            self.namespaces
                .values_mut()
                .for_each(|namespace| namespace.names.clear());
        }
        let (left_out, namespaces) = (self.left_out, &self.namespaces);
        let is_new = |process| {
            namespace_of(process).is_some_and(|inode| {
                let known = namespaces.get(&inode);
                left_out != Some(inode) && !known.is_some_and(|known| known.has_owner)
            })
        };
        heard.changed | heard.missed | self.notices.take_started().into_iter().any(is_new)
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
            let outcome = self.inside(inode, &found, |this, _| {
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
            forget(tap, namespace);
        }
        let held = self
            .namespaces
            .values()
            .flat_map(|namespace| namespace.interfaces.values());
        let behind = held.flatten().filter(|held| held.behind).count();
        self.disturbances.behind.store(behind as u64, Ordering::Relaxed);
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
        self.inside(inode, found, |this, there| this.attach_to_new(inode, there))
    }

    /// Does something in the namespace, if it is still there.
    ///
    /// # Errors
    /// When there is no way back.
    fn inside(
        &mut self,
        inode: u64,
        found: &Found,
        what: impl FnOnce(&mut Self, &File) -> io::Result<()>,
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
        let outcome = what(self, &there);
        setns(&self.own, CloneFlags::CLONE_NEWNET)?;
        if let Err(error) = outcome {
            tracing::warn!("the interfaces of a network namespace cannot be read: {error}");
        }
        Ok(())
    }

    fn attach_to_new(&mut self, inode: u64, there: &File) -> io::Result<()> {
        let asked = UnixDatagram::unbound()?;
        let cookie = namespace_cookie(&asked).unwrap_or(inode);
        let (id, now) = (NamespaceId { cookie, inode }, Instant::now());
        let namespace = match self.namespaces.entry(inode) {
            Entry::Occupied(entry) if entry.get().id == id => entry.into_mut(),
            entry => entry
                .insert_entry(Namespace {
                    id,
                    // Before its interfaces are looked at: of what comes later it is told.
                    number: self.links.as_ref().and_then(|links| links.number(there)),
                    interfaces: HashMap::new(),
                    names: Vec::new(),
                    has_owner: false,
                    entered: now,
                    inhabited: now,
                })
                .into_mut(),
        };
        namespace.names = names("/proc/thread-self/net/dev");
        namespace.entered = now;
        let mut interfaces = HashMap::new();
        for name in &namespace.names {
            // One that goes away in the middle of this is as one that was not there.
            let Ok(ifindex) = ifindex(&asked, name) else {
                continue;
            };
            let held = match namespace.interfaces.remove(&ifindex) {
                Some(Some(held)) => examine(&mut self.tap, name, held, &self.disturbances),
                Some(None) => {
                    interfaces.insert(ifindex, None);
                    continue;
                }
                None => None,
            };
            let held = held.or_else(|| {
                let address = ethernet_address(&asked, name).ok().flatten()?;
                let place = Place {
                    interface: name,
                    ifindex,
                    namespace: id,
                };
                attach(&mut self.tap, &place, address)
            });
            interfaces.insert(ifindex, held);
        }
        let gone = std::mem::replace(&mut namespace.interfaces, interfaces);
        let_go(&mut self.tap, gone);
        Ok(())
    }

    /// Tells whose the interfaces of a namespace are, where that is new.
    fn give(&mut self, inode: u64, found: &Found) {
        let owner = found.owner.as_ref().unwrap_or(&self.recorded);
        let owner = fs::metadata(owner).map_or(0, |owner| owner.ino());
        let Some(namespace) = self.namespaces.get_mut(&inode) else {
            return;
        };
        namespace.has_owner = found.owner.is_some();
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

fn forget<T: Tap>(tap: &mut T, namespace: Namespace<T::Hold>) {
    tell(tap.cover(namespace.id, false));
    let_go(tap, namespace.interfaces);
}

fn let_go<T: Tap>(tap: &mut T, interfaces: HashMap<u32, Option<Held<T::Hold>>>) {
    for held in interfaces.into_values().flatten() {
        tell(tap.own(held.key, None));
        tap.release(held.hold);
    }
}

/// Looks how it stands on an interface; `None` when it is to be attached anew.
fn examine<T: Tap>(
    tap: &mut T,
    interface: &str,
    mut held: Held<T::Hold>,
    disturbances: &Disturbances,
) -> Option<Held<T::Hold>> {
    let standing = tap.standing(interface, &held.hold);
    if standing == Standing::TakenOff {
        tracing::error!(
            interface,
            "someone else has taken the agent's programs off: they are put back"
        );
        disturbances.put_back.fetch_add(1, Ordering::Relaxed);
        tell(tap.own(held.key, None));
        tap.release(held.hold);
        return None;
    }
    let was_behind = held.behind;
    held.behind = standing != Standing::Well;
    if let (Standing::Behind(program), false) = (standing, was_behind) {
        tracing::warn!(
            interface,
            program,
            "packets that this program takes are not recorded"
        );
    }
    Some(held)
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
        behind: false,
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
