//! The programs for interfaces.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use aya::maps::{HashMap, MapData, MapError};
use aya::programs::links::FdLink;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{Link, LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, Pod};
use wiretape_agent_ebpf::InterfaceKey;

use super::loading::{attach_error, pinned, take_map};
use crate::capture::CaptureError;
use crate::capture::interfaces::{NamespaceId, Place, Standing, Tap};
use crate::kernel::pins::{self, Pins};

/// What these pins' names begin with.
const PINNED: &str = "interface-";

/// Where the kernel has no links to interfaces (before Linux 6.6), programs are filters of a qdisc. Others may have theirs
/// there: ours are told by this handle, whose second half is the recorded cgroup's. Early, so that nobody takes packets
/// away before.
const PRIORITY: u16 = 7;
const HANDLE: u16 = 0x5754;

const TAPS: [(&str, &str, TcAttachType); 2] = [
    ("frame_in", "in", TcAttachType::Ingress),
    ("frame_out", "out", TcAttachType::Egress),
];

/// The programs, loaded, and what they are told.
pub struct InterfaceTap {
    owners: HashMap<MapData, Interface, u64>,
    covered: HashMap<MapData, u64, u8>,
    pub ebpf: Ebpf,
    pins: Option<Arc<Pins>>,
    /// Whether the programs know a namespace by its inode, not by its cookie.
    by_inode: bool,
    /// The handle of filters; `None` where there are links.
    filters: Option<TcHandle>,
    /// Pins that an earlier agent has left, and that no interface was found for yet.
    unclaimed: HashSet<String>,
}

impl InterfaceTap {
    /// Loads the programs. `by_inode` says how these were told to know a namespace; `cgroup` is the recorded one.
    pub fn new(
        mut ebpf: Ebpf,
        pins: Option<Arc<Pins>>,
        by_inode: bool,
        cgroup: u64,
    ) -> Result<Self, CaptureError> {
        for (name, _, _) in TAPS {
            classifier(&mut ebpf, name)?.load().map_err(attach_error(name))?;
        }
        let owners = HashMap::try_from(take_map(&mut ebpf, "OWNERS")?)?;
        let covered = HashMap::try_from(take_map(&mut ebpf, "COVERED")?)?;
        let left = pins.iter().flat_map(|pins| pins.names(PINNED));
        Ok(Self {
            owners,
            covered,
            ebpf,
            unclaimed: left.collect(),
            pins,
            by_inode,
            filters: KernelVersion::current()
                .is_ok_and(|running| running < KernelVersion::new(6, 6, 0))
                .then(|| TcHandle::new(HANDLE, u16::try_from(cgroup & 0xffff).unwrap_or(0))),
        })
    }

    /// Attaches one program, in the place of an earlier agent's where there is one.
    fn attach_one(
        &mut self,
        place: &Place<'_>,
        (name, way, hook): (&'static str, &str, TcAttachType),
    ) -> Result<Hold, CaptureError> {
        let pin = format!("{PINNED}{}-{}-{way}", place.namespace.cookie, place.ifindex);
        let program = classifier(&mut self.ebpf, name)?;
        if let Some(handle) = self.filters {
            filter(program, place.interface, hook, handle).map_err(attach_error(name))?;
            return Ok(Hold::Filter);
        }
        if let Some(pins) = &self.pins
            && let Some(link) = pins.get(&pin)?
        {
            let program = program.fd().map_err(attach_error(name))?;
            if pins::replace(&link, program).is_ok() {
                self.unclaimed.remove(&pin);
                return Ok(Hold::Pinned(pin, link));
            }
            // Of an interface that is gone, or from which someone has detached it.
            pins.remove(&pin);
        }
        // On the way in before all others, which may take packets away.
        let order = match hook {
            TcAttachType::Ingress => LinkOrder::first(),
            _ => LinkOrder::last(),
        };
        let options = TcAttachOptions::TcxOrder(order);
        let link = program
            .attach_with_options(place.interface, hook, options)
            .and_then(|link| program.take_link(link))
            .map_err(attach_error(name))?;
        let Some(pins) = &self.pins else {
            return Ok(Hold::Attached(link));
        };
        let link = FdLink::try_from(link).map_err(attach_error(name))?;
        let link = pinned(link, pins, &pin)?;
        self.unclaimed.remove(&pin);
        Ok(Hold::Pinned(pin, link))
    }
}

/// Makes a program a filter, in the place of one that an earlier agent has left.
fn filter(
    program: &mut SchedClassifier,
    interface: &str,
    hook: TcAttachType,
    handle: TcHandle,
) -> Result<(), ProgramError> {
    // There already, most often.
    let _ = tc::qdisc_add_clsact(interface);
    let options = NlOptions {
        priority: PRIORITY,
        handle,
        classid: None,
    };
    let made = program
        .attach_with_options(interface, hook, TcAttachOptions::Netlink(options))
        .or_else(|_| {
            let left = SchedClassifierLink::attached(interface, hook, PRIORITY, handle, None);
            program.attach_to_link(left.map_err(tc::TcError::IoError)?)
        })?;
    // Dropped, it would take a filter from whatever interface has this index in the namespace of that moment.
    std::mem::forget(program.take_link(made)?);
    Ok(())
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, CaptureError> {
    let program = ebpf.program_mut(name).ok_or(CaptureError::Missing(name))?;
    program.try_into().map_err(attach_error(name))
}

/// Keeps a program on an interface.
pub enum Hold {
    /// For as long as this lives.
    Attached(#[expect(dead_code, reason = "dropped, it is gone")] SchedClassifierLink),
    /// Until it is unpinned, whoever lives. The descriptor shows whether it is still attached.
    Pinned(
        String,
        #[expect(dead_code, reason = "looked at in /proc")] OwnedFd,
    ),
    /// Until it is taken off, whoever lives.
    Filter,
}

impl Tap for InterfaceTap {
    type Hold = [Hold; 2];

    fn attach(&mut self, place: &Place<'_>) -> Result<Self::Hold, CaptureError> {
        let [received, sent] = TAPS;
        Ok([self.attach_one(place, received)?, self.attach_one(place, sent)?])
    }

    fn standing(&mut self, interface: &str, _: &Self::Hold) -> Standing {
        if self.filters.is_some() {
            return Standing::Well;
        }
        for (name, _, hook) in TAPS {
            // Without the right to ask (`CAP_SYS_ADMIN`), nothing is known.
            let (Ok((_, programs)), Ok(own)) = (
                SchedClassifier::query_tcx(interface, hook),
                classifier(&mut self.ebpf, name).and_then(|own| own.info().map_err(attach_error(name))),
            ) else {
                return Standing::Well;
            };
            let Some(place) = programs.iter().position(|program| program.id() == own.id()) else {
                return Standing::TakenOff;
            };
            // Those of other agents take nothing away.
            let before = programs.iter().take(place);
            let mut others = before.filter(|program| program.name_as_str() != Some(name));
            if hook == TcAttachType::Ingress
                && let Some(other) = others.next()
            {
                return Standing::Behind(other.name_as_str().unwrap_or("without a name").to_owned());
            }
        }
        Standing::Well
    }

    fn release(&mut self, hold: Self::Hold) {
        for hold in hold {
            if let (Hold::Pinned(pin, _), Some(pins)) = (&hold, &self.pins) {
                pins.remove(pin);
            }
        }
    }

    fn stays(&self) -> bool {
        // Nobody could find them again once the agent is gone for good.
        self.filters.is_some()
    }

    fn take_off(&mut self, interface: &str) {
        let Some(handle) = self.filters else { return };
        for (_, _, hook) in TAPS {
            // Where there is none, that is as it should be.
            let _ = SchedClassifierLink::attached(interface, hook, PRIORITY, handle, None)
                .map(|link| link.detach());
        }
    }

    fn seen_to(&mut self) {
        for pin in self.unclaimed.drain() {
            if let Some(pins) = &self.pins {
                pins.remove(&pin);
            }
        }
    }

    fn own(&mut self, interface: InterfaceKey, cgroup: Option<u64>) -> Result<(), CaptureError> {
        set(&mut self.owners, &Interface(interface), cgroup.as_ref())
    }

    fn cover(&mut self, namespace: NamespaceId, covered: bool) -> Result<(), CaptureError> {
        let number = if self.by_inode {
            namespace.inode
        } else {
            namespace.cookie
        };
        set(&mut self.covered, &number, covered.then_some(&1))
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

/// [`InterfaceKey`] as aya may write it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Interface(InterfaceKey);

// SAFETY: two `u64`, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for Interface {}
