//! Where packets come from. One trait, and one file for each source.

pub mod ebpf;

mod clock;

mod ring;

pub mod interfaces;

pub mod pcap;

pub mod replay;

mod choosing;

mod wake;

pub use wake::Waker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use wiretape_agent_ebpf::choice::{Choice, Rule};
use wiretape_tape::{Nanos, Packet, Place, ReadError};

use crate::config::{Backend, Config, Interfaces};
use crate::kernel::pins::Pins;
use crate::own_cgroup::{CgroupError, CgroupId, SubTree};
use choosing::Choosing;
use interfaces::Notices;

/// A source of packets. Belongs to one thread, the recorder's.
pub trait Source: Send {
    /// Waits until it is worth while or it is woken, `timeout` at most, then hands every packet there is to
    /// `sink`, in batches of a bounded number.
    ///
    /// # Errors
    /// When the source has failed for good.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError>;

    /// Marks where the packets that have come by up to now end.
    ///
    /// # Errors
    /// When the source cannot say.
    fn mark(&mut self) -> Result<Mark, CaptureError>;

    /// Whether all packets up to `mark` have been handed over, or are counted as lost.
    ///
    /// # Errors
    /// When the source cannot say.
    fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError>;

    /// What has been counted since the start.
    ///
    /// # Errors
    /// When the counters cannot be read.
    fn counters(&mut self) -> Result<CaptureCounters, CaptureError>;

    /// Index and name of each interface that has come to be known since the last call. Asked for before every
    /// poll.
    fn new_interfaces(&mut self) -> Vec<(u32, String)>;

    /// What others have done to what records on interfaces.
    fn disturbed(&self) -> Disturbed {
        Disturbed::default()
    }

    /// Bytes of memory that it holds beside this process's own.
    fn memory(&self) -> u64 {
        0
    }

    /// Where its programs are pinned, if they are.
    fn pins(&self) -> Option<Arc<Pins>> {
        None
    }

    /// For whoever knows that processes have started, if that is asked for.
    fn notices(&self) -> Option<Notices> {
        None
    }

    /// Takes no more packets in, unless it is kept. Those that wait can still be had by `poll`.
    fn stop(&mut self);

    /// What an earlier agent has left, if there was one and it recorded anything.
    fn inherited(&self) -> Option<Inherited> {
        None
    }

    /// Leaves out so many packets that are on the tape already. Before the first poll.
    fn skip(&mut self, _packets: u64) {}

    /// Whether it goes on without the agent, so that [`keep`](Self::keep) is to be called.
    fn is_kept(&self) -> bool {
        false
    }

    /// Up to where packets were handed over.
    fn handed(&self) -> Handed {
        Handed::default()
    }

    /// Whether there is so much that was handed over and not kept that it should be kept now.
    fn is_crowded(&self) -> bool {
        false
    }

    /// All packets that had been handed over when it was `handed` are in the tape's files, up to `place`, or lost: the next
    /// agent need not have them; nor what was counted, if that is `told` there too.
    ///
    /// # Errors
    /// When that cannot be told to whoever comes.
    fn keep(&mut self, _handed: Handed, _place: Place, _told: bool, _now: Nanos) -> Result<(), CaptureError> {
        Ok(())
    }
}

/// Up to where a source has handed packets over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// In the ring that is read, in bytes.
    position: u64,
    /// Records, since the start.
    records: u64,
}

#[cfg(test)]
impl Handed {
    /// Up to a place in the ring.
    pub(crate) fn of(position: u64) -> Self {
        Self {
            position,
            ..Self::default()
        }
    }
}

/// What others have done to what records on interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disturbed {
    /// Times that programs were put back which someone had taken off, since the start.
    pub put_back: u64,
    /// Interfaces on which another's program comes before ours now.
    pub behind: u64,
}

/// What an earlier agent has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// When it was last known to be well.
    pub at: Nanos,
    /// Up to where it had recorded then. A packet or two of what the source holds may be behind that already.
    pub place: Place,
}

/// A source of which a part is recorded, by choice.
pub trait Capture: Source {
    /// Has something else recorded, of every packet that comes from now on.
    ///
    /// # Errors
    /// When the kernel refuses; then all stays as it is.
    fn choose(&mut self, choice: &Choice) -> Result<(), CaptureError>;

    /// Has a rule hold for a cgroup's packets while the choice asks for rules, or none.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn rule(&mut self, cgroup: u64, rule: Option<Rule>) -> Result<(), CaptureError>;

    /// Processor time that packets have taken beside this process since the start, as far as is known.
    ///
    /// # Errors
    /// When the counters cannot be read.
    fn beside(&mut self) -> Result<Duration, CaptureError> {
        Ok(Duration::ZERO)
    }
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    /// So many packets were handed over; none if the time was up.
    Packets(usize),
    /// There will be no more.
    Ended,
}

/// A point in the order of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When it was made.
    at: Instant,
    /// No more packets than so many, from the start on, come before it.
    packets: u64,
}

#[cfg(test)]
impl Mark {
    /// Made now.
    pub(crate) fn of(packets: u64) -> Self {
        let at = Instant::now();
        Self { at, packets }
    }
}

/// The most packets that one poll hands over, so that the recorder comes to its other duties under any load.
const MAX_BATCH: usize = 16 * 1024;

/// The priority of the thread that polls, as `nice` counts. It takes little of a processor, but must have it
/// before the buffer is full: with ten busy processes on two cores, a tenth to a quarter of a bulk transfer's
/// packets were lost at 0, and none at -5.
const NICENESS: i32 = -5;

/// The priority of what can wait, as `nice` counts.
const LEAST: i32 = 19;

/// Has the calling thread come to its turn sooner than its share of the processor would ask for.
///
/// # Errors
/// When that is not allowed (`CAP_SYS_NICE`).
pub fn hurry() -> io::Result<()> {
    set_niceness(NICENESS)
}

/// Has the calling thread come to its turn when nobody else wants it.
///
/// # Errors
/// When the kernel refuses.
pub fn give_way() -> io::Result<()> {
    set_niceness(LEAST)
}

fn set_niceness(niceness: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; 0 is the calling thread.
    #[expect(unsafe_code, reason = "the crates used here have no safe form of this call")]
    let outcome = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a source counts. `seen = handed over + excluded + left out + lost`, once nothing waits any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureCounters {
    /// Packets that came by.
    pub seen: u64,
    /// Bytes of those packets; 0 where the source does not say.
    pub seen_bytes: u64,
    /// Packets left out by intent.
    pub excluded: u64,
    /// Packets lost because the buffer between the kernel and the agent was full.
    pub lost_buffer_full: u64,
    /// Packets lost because the kernel could not read their bytes.
    pub lost_unreadable: u64,
    /// Packets whose end was cut off. Not lost.
    pub truncated: u64,
    /// Of those, packets whose end was left out because the buffer filled, or to keep the budget.
    pub shed: u64,
    /// Packets left out by choice or budget.
    pub left_out: LeftOut,
    /// Times that the kernel dropped a packet without the source being told, because it came while the same processor told of
    /// another. Not among the seen: which of them should be on the tape, and are not on it already, nobody knows.
    pub untold_drops: u64,
}

/// Packets left out by choice or budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// By the filter.
    pub filter: u64,
    /// By the rule for their workload.
    pub rule: u64,
    /// Because their flow is not of the share that was asked for.
    pub sample: u64,
    /// To keep the budget.
    pub budget: u64,
}

impl LeftOut {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.filter + self.rule + self.sample + self.budget
    }
}

impl CaptureCounters {
    /// All packets lost before they reached the agent.
    pub fn lost(&self) -> u64 {
        self.lost_buffer_full + self.lost_unreadable
    }

    /// All packets that never come to the agent.
    pub fn not_handed_over(&self) -> u64 {
        self.excluded + self.left_out.total() + self.lost()
    }
}

/// What the kernel said. Boxed, so that only the eBPF source knows the library that loads programs.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Why there are no packets.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The agent was built without the kernel programs.
    #[error("this agent was built without the kernel programs: run `cargo xtask setup`, then build again")]
    NotBuilt,
    /// More sub-trees are to be left out than the kernel programs check.
    #[error("{given} cgroups are to be left out, at most {max} can be: exclude a cgroup above them instead")]
    TooManyExclusions {
        /// How many were given, the agent's own counted.
        given: usize,
        /// How many there can be.
        max: usize,
    },
    /// The cgroup to record cannot be found.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The kernel refuses the programs.
    #[error(
        "the kernel does not take the programs (root, or CAP_BPF and CAP_NET_ADMIN, and Linux 5.8 are needed)"
    )]
    Load(#[source] Refusal),
    /// The kernel refuses one program.
    #[error("the program {name} cannot be attached (root, or CAP_BPF and CAP_NET_ADMIN, are needed)")]
    Attach {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        source: Refusal,
    },
    /// A program or map is missing from what was built.
    #[error("the kernel programs lack {0}: agent and programs are of different versions, build again")]
    Missing(&'static str),
    /// A map of the kernel programs cannot be read.
    #[error("a map of the kernel programs cannot be read")]
    Map(#[source] Refusal),
    /// libpcap refuses the interface.
    #[error("libpcap cannot record on {interface}")]
    Pcap {
        /// The interface.
        interface: String,
        /// What libpcap said.
        source: ::pcap::Error,
    },
    /// Neither backend that `auto` may choose can be used.
    #[error("neither eBPF nor libpcap can be used: {ebpf}; {pcap}")]
    Neither {
        /// What is in the way of eBPF.
        ebpf: String,
        /// What is in the way of libpcap.
        pcap: String,
    },
    /// The file to replay cannot be read.
    #[error("{path} cannot be replayed", path = .path.display())]
    Replay {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ReadError,
    },
    /// Waiting for packets failed.
    #[error("waiting for packets failed")]
    Wait(#[from] io::Error),
}

/// A source that is open, which it is, and why it was chosen.
pub struct Opened {
    /// The source.
    pub capture: Box<dyn Capture>,
    /// `ebpf`, `pcap` or `replay`.
    pub backend: &'static str,
    /// Why this one, for people.
    pub why: String,
}

/// Opens the source that the configuration asks for, to record what is chosen; `own` is the agent's own cgroup, and
/// `waker` ends a poll.
///
/// # Errors
/// When the source asked for cannot be opened, or none of those that `auto` may choose.
pub fn open(
    config: &Config,
    own: Option<CgroupId>,
    choice: &Choice,
    waker: &Waker,
) -> Result<Opened, CaptureError> {
    match config.backend {
        Backend::Ebpf => Ok(opened(
            open_ebpf(config, own, choice, waker)?,
            "ebpf",
            "asked for".to_owned(),
        )),
        Backend::Pcap => Ok(opened(
            Choosing::new(pcap::PcapCapture::open(config, waker)?, choice),
            "pcap",
            "asked for".to_owned(),
        )),
        Backend::Replay => Ok(opened(
            Choosing::new(replay::Replay::open(config)?, choice),
            "replay",
            "asked for".to_owned(),
        )),
        Backend::Auto => open_any(config, own, choice, waker),
    }
}

fn open_any(
    config: &Config,
    own: Option<CgroupId>,
    choice: &Choice,
    waker: &Waker,
) -> Result<Opened, CaptureError> {
    let ebpf = match open_ebpf(config, own, choice, waker) {
        Ok(capture) => {
            return Ok(opened(
                capture,
                "ebpf",
                "the kernel takes the programs".to_owned(),
            ));
        }
        // A cgroup that is not there is a mistake in the configuration, and no reason to record something else.
        Err(error @ CaptureError::Cgroup(CgroupError::Outside { .. } | CgroupError::Io { .. })) => {
            return Err(error);
        }
        Err(error) => causes(&error),
    };
    match pcap::PcapCapture::open(config, waker) {
        Ok(capture) => Ok(opened(
            Choosing::new(capture, choice),
            "pcap",
            format!("eBPF cannot be used: {ebpf}"),
        )),
        Err(error) => Err(CaptureError::Neither {
            ebpf,
            pcap: causes(&error),
        }),
    }
}

/// What the kernel programs are to record.
pub struct Scope {
    /// The sub-tree of cgroups, by its directory.
    pub recorded: PathBuf,
    /// Id of its top.
    pub top: u64,
    /// What of it is left out.
    pub excluded: Vec<CgroupId>,
    /// On which interfaces packets are recorded that belong to no socket.
    pub interfaces: Interfaces,
    /// Size of the ring, a power of two.
    pub ring_bytes: u32,
    /// What is recorded from the first packet on.
    pub choice: Choice,
    /// Where to pin what outlives the agent, if anything is to.
    pub pin: Option<PathBuf>,
}

fn open_ebpf(
    config: &Config,
    own: Option<CgroupId>,
    choice: &Choice,
    waker: &Waker,
) -> Result<ebpf::EbpfCapture, CaptureError> {
    let tree = SubTree::of(config, own)?;
    let scope = Scope {
        recorded: tree.dir,
        top: tree.top.id,
        excluded: tree.excluded,
        interfaces: config.interfaces,
        ring_bytes: config.ring_bytes(),
        choice: *choice,
        pin: config.pin(),
    };
    ebpf::EbpfCapture::open(scope, waker)
}

fn opened(capture: impl Capture + 'static, backend: &'static str, why: String) -> Opened {
    Opened {
        capture: Box::new(capture),
        backend,
        why,
    }
}

/// An error and all that it came from, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
