//! Brings the programs into the kernel, in the place of an earlier agent's where it has left some.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use aya::maps::{Array, MapData, MapError};
use aya::pin::PinError;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader, include_bytes_aligned};
use wiretape_agent_ebpf::choice::{Choice, asks};
use wiretape_agent_ebpf::{Exclusion, Handover, MAX_EXCLUSIONS};

use super::drops::Told;
use super::shared::{Excluded, Word};
use super::tap::InterfaceTap;
use crate::capture::interfaces::Follower;
use crate::capture::ring::Ring;
use crate::capture::{CaptureError, Refusal, Scope, causes};
use crate::kernel::btf::{self, Types};
use crate::kernel::pins::{self, Pins};

/// The programs, as `build.rs` built them.
static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf"));

/// The same, with the filter run in the kernel.
static FILTERED: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf-filtered"));

/// The agent is woken early when this part of the ring has filled, as a shift: a sixty-fourth. Else it
/// comes by its own timer. On a busy machine it waits for its turn while the rest of the ring fills.
const WAKE_PART: u32 = 6;

/// Maps that outlive the agent, by their names in the programs and among the pins.
const KEPT: [&str; 6] = [RING, "COUNTERS", "HANDOVER", "OWNERS", "COVERED", "DROPS_OF"];

pub(super) const RING: &str = "PACKETS";

/// A ring of another size that an earlier agent had.
pub(super) const OLD_RING: &str = "PACKETS-old";

/// The place where nothing is left over, if pins are wanted and can be had.
pub(super) fn take_pins(scope: &Scope) -> Option<Arc<Pins>> {
    let base = scope.pin.as_ref()?;
    match Pins::take(base, scope.top) {
        Ok(pins) => {
            let swept = pins::sweep(base, false);
            if swept > 0 {
                tracing::info!(swept, "programs of cgroups that are gone are let go");
            }
            Some(Arc::new(pins))
        }
        Err(error) => {
            tracing::warn!(
                "what passes between two agents is not recorded, as nothing can be pinned: {error}"
            );
            None
        }
    }
}

/// What an earlier agent has left.
pub(super) fn inherited(pins: Option<&Arc<Pins>>) -> Option<Handover> {
    let map = MapData::from_pin(pins?.path("HANDOVER")).ok()?;
    let handover: Array<_, Word> = Array::try_from(aya::maps::Map::Array(map)).ok()?;
    handover.get(&0, 0).ok().map(|Word(handover)| handover)
}

/// The ring of an earlier agent, if it is of another size than this agent's is to be: unpinned, so that one is made.
pub(super) fn put_old_ring_aside(pins: &Pins, wanted: u32) -> Result<Option<Ring>, CaptureError> {
    let size = |name| match pins.get(name)? {
        Some(_) => Ok::<_, CaptureError>(Some(open_ring(&MapData::from_pin(pins.path(name))?)?)),
        None => Ok(None),
    };
    match size(RING)? {
        // While there is one before it, it stays as it is.
        Some(ring) if ring.size() != u64::from(wanted) && pins.get(OLD_RING)?.is_none() => {
            pins.rename(RING, OLD_RING)?;
            Ok(Some(ring))
        }
        // An agent may have ended before it came to the end of the one before.
        _ => size(OLD_RING),
    }
}

pub(super) fn ring_map(map: aya::maps::Map) -> Result<MapData, CaptureError> {
    match map {
        aya::maps::Map::RingBuf(map) => Ok(map),
        _ => Err(CaptureError::Missing("the ring")),
    }
}

pub(super) fn open_ring(map: &MapData) -> Result<Ring, CaptureError> {
    let bytes = map.info()?.max_entries();
    Ok(Ring::new(map.fd().as_fd().try_clone_to_owned()?, bytes)?)
}

/// Keeps a program on a cgroup.
pub(super) enum Hook {
    /// For as long as this lives.
    Attached(#[expect(dead_code, reason = "dropped, it is gone")] CgroupSkbLink),
    /// Until it is unpinned, whoever lives. The descriptor shows whether it is still attached.
    Pinned(#[expect(dead_code, reason = "looked at in /proc")] OwnedFd),
}

/// Holds what is in the kernel.
pub(super) enum Programs {
    Sockets { _ebpf: Ebpf },
    Interfaces { follower: Follower },
}

/// Loaded, and attached to nothing yet.
pub(super) enum Loaded {
    SocketsOnly(Ebpf),
    WithInterfaces(Box<InterfaceTap>),
}

impl Loaded {
    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        match self {
            Self::SocketsOnly(ebpf) => ebpf,
            Self::WithInterfaces(tap) => &mut tap.ebpf,
        }
    }
}

/// Bits of `tc_index`: agents on one machine do not hold each other's marks for their own, unless their
/// process ids are alike.
pub(super) const MARKS: u32 = 16;

/// Loads the programs for interfaces, in the form that this kernel takes: it tells a namespace's cookie (Linux 6.15), or
/// describes its types, by which the namespace's number is found.
pub(super) fn tap_interfaces(
    scope: &Scope,
    mark: u32,
    told: &Told,
    pins: Option<&Arc<Pins>>,
) -> Option<InterfaceTap> {
    let tap = |at, by_inode| {
        load(scope, mark, at, told, pins)
            .and_then(|ebpf| InterfaceTap::new(ebpf, pins.cloned(), by_inode, scope.top))
    };
    let refusal = match tap([0; 2], false) {
        Ok(tap) => return Some(tap),
        Err(refusal) => causes(&refusal),
    };
    let refusal = match namespace_at().map(|at| tap(at, true)) {
        Some(Ok(tap)) => return Some(tap),
        Some(Err(refusal)) => causes(&refusal),
        None => refusal,
    };
    tracing::warn!(
        "packets that no socket sends or receives are not recorded: {}",
        refusal.lines().next().unwrap_or_default()
    );
    tracing::debug!("{refusal}");
    None
}

/// Where this kernel keeps a socket's namespace, and the number in it.
fn namespace_at() -> Option<[u32; 2]> {
    let btf = btf::of_kernel().ok()?;
    let types = Types::parse(&btf).ok()?;
    let number = types.offset("net", "ns")? + types.offset("ns_common", "inum")?;
    Some([types.offset("sock_common", "skc_net")?, number])
}

/// Whether the programs run the filter: by a loop that the kernel has since Linux 5.17. It makes four times the work for
/// the verifier, so an agent that starts without a filter has programs without it, and filters by itself what it is
/// asked to later.
pub(super) fn filters_in_kernel(choice: &Choice) -> bool {
    choice.asks & asks::FILTER != 0
        && KernelVersion::current().is_ok_and(|running| running >= KernelVersion::new(5, 17, 0))
}

/// Brings the programs into memory; those for interfaces have `mark`, which is 0 where they are not used.
pub(super) fn load(
    scope: &Scope,
    mark: u32,
    namespace_at: [u32; 2],
    told: &Told,
    pins: Option<&Arc<Pins>>,
) -> Result<Ebpf, CaptureError> {
    let mut exclusions = [Excluded(Exclusion::default()); MAX_EXCLUSIONS];
    for (entry, cgroup) in exclusions.iter_mut().zip(&scope.excluded) {
        entry.0 = Exclusion {
            id: cgroup.id,
            level: cgroup.level,
            reserved: 0,
        };
    }
    let wake_shift = scope.ring_bytes.ilog2() - WAKE_PART;
    let bulk_burst = u64::from(scope.ring_bytes / 2);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("BULK_BURST", &bulk_burst, true)
        .override_global("AGENT", &told.agent, true)
        .override_global("EXCLUDED", &exclusions[..], true)
        .override_global("MARK", &mark, true)
        .override_global("NAMESPACE_AT", &namespace_at[..], true)
        .override_global("PACKET_LAYOUT", &told.packets.layout[..], true)
        .override_global("REASONS", &told.packets.reasons[..], true)
        .override_global("WAKE_SHIFT", &wake_shift, true)
        .map_max_entries(RING, scope.ring_bytes);
    for name in KEPT {
        if let Some(pins) = pins {
            loader.map_pin_path(name, pins.path(name));
        }
    }
    let programs = if filters_in_kernel(&scope.choice) {
        FILTERED
    } else {
        PROGRAMS
    };
    Ok(loader.load(programs)?)
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
    ebpf.take_map(name).ok_or(CaptureError::Missing(name))
}

/// Attaches a program, in the place of an earlier agent's where there is one.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    hook: CgroupSkbAttachType,
    pins: Option<&Arc<Pins>>,
) -> Result<Hook, CaptureError> {
    let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
    let program: &mut CgroupSkb = program.try_into().map_err(attach_error(name))?;
    program.load().map_err(attach_error(name))?;
    if let Some(pins) = pins
        && let Some(link) = pins.get(name)?
    {
        match pins::replace(&link, program.fd().map_err(attach_error(name))?) {
            Ok(()) => return Ok(Hook::Pinned(link)),
            Err(error) => tracing::warn!(name, "an earlier agent's program was detached: {error}"),
        }
        pins.remove(name);
    }
    // A link leaves room for other people's programs on the same cgroup, and takes no other mode.
    let link = program
        .attach(cgroup, hook, CgroupAttachMode::Single)
        .and_then(|link| program.take_link(link))
        .map_err(attach_error(name))?;
    let Some(pins) = pins else {
        return Ok(Hook::Attached(link));
    };
    let link = FdLink::try_from(link).map_err(attach_error(name))?;
    Ok(Hook::Pinned(pinned(link, pins, name)?))
}

/// Pins a link, and gives a descriptor of it.
pub(super) fn pinned(link: FdLink, pins: &Pins, name: &str) -> Result<OwnedFd, CaptureError> {
    link.pin(pins.path(name))?;
    pins.get(name)?.ok_or(CaptureError::Missing("a pin"))
}

pub(super) fn attach_error<E: Into<Refusal>>(name: &'static str) -> impl Fn(E) -> CaptureError {
    move |refusal| CaptureError::Attach {
        name,
        source: refusal.into(),
    }
}

impl From<PinError> for CaptureError {
    fn from(refusal: PinError) -> Self {
        Self::Map(refusal.into())
    }
}

impl From<EbpfError> for CaptureError {
    fn from(refusal: EbpfError) -> Self {
        Self::Load(refusal.into())
    }
}

impl From<MapError> for CaptureError {
    fn from(refusal: MapError) -> Self {
        Self::Map(refusal.into())
    }
}
