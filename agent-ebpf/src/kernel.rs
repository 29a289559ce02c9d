//! The kernel's structures, read at the places that the loader has found, and the ring into which events go.

#![allow(
    unsafe_code,
    reason = "the kernel's memory, the ring's memory and globals set by the loader are reached through pointers"
)]

use core::arch::asm;
use core::ptr::addr_of;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use wiretape_agent_ebpf::counted::{COUNTERS, LOST, SEEN};
use wiretape_agent_ebpf::{EventRecord, MAX_EXCLUSIONS, layout};

pub use crate::skb::{Address, read};
use crate::speaker::speaks;

/// One ring for all CPUs, so that events come out in the order in which they happened. Room for some 11,000 of them.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// One entry: the counters of this CPU.
#[map]
static EVENT_COUNTERS: PerCpuArray<[u64; COUNTERS]> = PerCpuArray::with_max_entries(1, 0);

/// One entry: the number of the agent whose programs tell.
#[map]
static TELLING: Array<u64> = Array::with_max_entries(1, 0);

/// Where the kernel keeps what is read here. Set by the loader.
#[unsafe(no_mangle)]
static LAYOUT: [u32; layout::FIELDS] = [0; layout::FIELDS];

/// The recorded sub-tree's top (id and level), then those that are left out; an id of 0 ends the list. Set by the loader.
#[unsafe(no_mangle)]
static TREES: [[u64; 2]; 1 + MAX_EXCLUSIONS] = [[0; 2]; 1 + MAX_EXCLUSIONS];

/// Whether these programs are those that tell.
#[inline(always)]
pub fn is_telling() -> bool {
    speaks(&TELLING)
}

/// What stands in a structure at one of the places of [`layout`]. Reading memory that is not there gives `None`.
#[inline(always)]
pub fn field<T>(of: Address, place: usize) -> Option<T> {
    read(of + offset(place))
}

/// The address of that place.
#[inline(always)]
pub fn offset(place: usize) -> u64 {
    // SAFETY: in bounds, `place` is one of the constants of `layout`; volatile, because the loader changes the global.
    u64::from(unsafe { addr_of!(LAYOUT).cast::<u32>().add(place).read_volatile() })
}

/// The id of a cgroup of the recorded sub-tree; `None` for one outside, or left out.
#[inline(always)]
pub fn recorded(cgroup: Address) -> Option<u64> {
    let level: i32 = field(cgroup, layout::CGROUP_LEVEL)?;
    for at in 0..=MAX_EXCLUSIONS {
        // SAFETY: in bounds; volatile, because the loader changes the global after compilation.
        let [id, top] = unsafe { addr_of!(TREES).cast::<[u64; 2]>().add(at).read_volatile() };
        if id == 0 {
            break;
        }
        let below = level as u64 >= top && ancestor(cgroup, top)? == id;
        // The first is to be above it, the others are not.
        if below != (at == 0) {
            return None;
        }
    }
    id_of(cgroup)
}

/// Whether the recorded sub-tree is the whole hierarchy.
#[inline(always)]
pub fn records_all() -> bool {
    // SAFETY: in bounds; volatile, because the loader changes the global after compilation.
    let [_, top] = unsafe { addr_of!(TREES).cast::<[u64; 2]>().read_volatile() };
    top == 0
}

/// The id of the cgroup above this one at a level that it has.
#[inline(always)]
fn ancestor(cgroup: Address, level: u64) -> Option<u64> {
    let entry: u64 = read(cgroup + offset(layout::CGROUP_ANCESTORS) + level * 8)?;
    if offset(layout::ANCESTORS_ARE_IDS) == 1 {
        Some(entry)
    } else {
        id_of(entry)
    }
}

#[inline(always)]
fn id_of(cgroup: Address) -> Option<u64> {
    field(field(cgroup, layout::CGROUP_NODE)?, layout::NODE_ID)
}

/// The cgroup (v2) of a task.
#[inline(always)]
pub fn cgroup_of(task: Address) -> Option<Address> {
    field(field(task, layout::TASK_CGROUPS)?, layout::SET_CGROUP)
}

/// Hands an event over, or counts it as lost.
#[inline(always)]
pub fn tell(mut record: EventRecord) {
    // SAFETY: the helper takes nothing.
    record.time = unsafe { bpf_ktime_get_boot_ns() };
    let Some(mut entry) = reserve::<EventRecord>() else {
        return;
    };
    entry.write(record);
    entry.submit(0);
}

/// Room for one record, counted as seen; where there is none, it is counted as lost. None where others tell.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<aya_ebpf::maps::ring_buf::RingBufEntry<T>> {
    if !is_telling() {
        return None;
    }
    count(SEEN);
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(LOST);
    }
    entry
}

/// Adds one. Atomic, because an interrupt may bring an event in the middle of another on the same CPU.
#[inline(always)]
pub fn count(which: usize) {
    let Some(counters) = EVENT_COUNTERS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the map's value is live and aligned, and `which` is one of its fields. In assembly, because `core` has no
    // atomic addition for this target.
    unsafe {
        let counter = counters.cast::<u64>().add(which);
        asm!("lock *(u64 *)({} + 0) += {}", in(reg) counter, in(reg) 1_u64, options(nostack));
    }
}
