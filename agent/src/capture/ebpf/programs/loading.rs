//! Brings the programs into the kernel.

use std::fs::File;

use aya::maps::{HashMap, MapData, MapError};
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader, Pod, include_bytes_aligned};
use wiretape_agent_ebpf::{Exclusion, MAX_EXCLUSIONS};

use super::shared::Excluded;
use super::tap::InterfaceTap;
use crate::capture::interfaces::Follower;
use crate::capture::{CaptureError, Scope};

/// The programs, as `build.rs` built them.
static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/wiretape-agent-ebpf"));

/// The agent is woken early when this part of the ring has filled, as a shift: a sixty-fourth. Else it
/// comes by its own timer. On a busy machine it waits for its turn while the rest of the ring fills.
const WAKE_PART: u32 = 6;

/// Holds what is in the kernel.
pub(super) enum Programs {
    Sockets { _ebpf: Ebpf },
    Interfaces { _follower: Follower },
}

/// Loaded, and attached to nothing yet.
pub(super) enum Loaded {
    SocketsOnly(Ebpf),
    WithInterfaces(InterfaceTap),
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

/// Brings the programs into memory; those for interfaces have `mark`, which is 0 where they are not used.
pub(super) fn load(scope: &Scope, mark: u32) -> Result<Ebpf, CaptureError> {
    let mut exclusions = [Excluded(Exclusion::default()); MAX_EXCLUSIONS];
    for (entry, cgroup) in exclusions.iter_mut().zip(&scope.excluded) {
        entry.0 = Exclusion {
            id: cgroup.id,
            level: cgroup.level,
            reserved: 0,
        };
    }
    let wake_shift = scope.ring_bytes.ilog2() - WAKE_PART;
    // 256ths of a nanosecond for a byte; a burst is what half of the ring holds.
    let bulk_cost = ((256_000_000_000 / scope.bulk_rate.max(1)).max(1)).min(u64::from(u32::MAX));
    let bulk_burst = (u64::from(scope.ring_bytes / 2) * bulk_cost) >> 8;
    let ebpf = EbpfLoader::new()
        .override_global("BULK_BURST", &bulk_burst, true)
        .override_global("BULK_COST", &bulk_cost, true)
        .override_global("EXCLUDED", &exclusions[..], true)
        .override_global("MARK", &mark, true)
        .override_global("WAKE_SHIFT", &wake_shift, true)
        .map_max_entries("PACKETS", scope.ring_bytes)
        .load(PROGRAMS)?;
    Ok(ebpf)
}

pub(super) fn attach_error(name: &'static str) -> impl Fn(ProgramError) -> CaptureError {
    move |refusal| CaptureError::Attach {
        name,
        source: refusal.into(),
    }
}

/// Enters a value, or removes what there is.
pub(super) fn set<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    key: &K,
    value: Option<&V>,
) -> Result<(), CaptureError> {
    let outcome = match value {
        Some(value) => map.insert(key, value, 0),
        None => map.remove(key),
    };
    match outcome {
        // It was never said whose it is.
        Err(MapError::KeyNotFound) => Ok(()),
        outcome => Ok(outcome?),
    }
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, CaptureError> {
    ebpf.take_map(name).ok_or(CaptureError::Missing(name))
}

pub(super) fn attach(
    ebpf: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    hook: CgroupSkbAttachType,
) -> Result<CgroupSkbLink, CaptureError> {
    let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
    let attached = (|| {
        let program: &mut CgroupSkb = program.try_into()?;
        program.load()?;
        // A link leaves room for other people's programs on the same cgroup, and takes no other mode.
        let link = program.attach(cgroup, hook, CgroupAttachMode::Single)?;
        program.take_link(link)
    })();
    attached.map_err(|refusal: ProgramError| CaptureError::Attach {
        name,
        source: refusal.into(),
    })
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
