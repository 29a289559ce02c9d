//! What the follower needs of whatever records on interfaces.

use wiretape_agent_ebpf::InterfaceKey;

use crate::capture::CaptureError;

/// What records on an interface.
pub trait Tap: Send + 'static {
    /// Keeps it there. Whether it is gone when this is dropped is the tap's to say.
    type Hold: Send;

    /// Puts it onto an interface of the network namespace that the calling thread is in.
    ///
    /// # Errors
    /// When the kernel refuses, as when the interface has gone meanwhile.
    fn attach(&mut self, place: &Place<'_>) -> Result<Self::Hold, CaptureError>;

    /// How it stands on an interface of the network namespace that the calling thread is in.
    fn standing(&mut self, interface: &str, hold: &Self::Hold) -> Standing;

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

/// How that which records stands on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It sees whatever comes; or that cannot be told.
    Well,
    /// Somebody else's program comes before it, which may take packets away: its name.
    Behind(String),
    /// Somebody else has taken it off.
    TakenOff,
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
