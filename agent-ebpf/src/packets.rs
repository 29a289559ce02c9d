//! Packets, from the `cgroup_skb` hooks: every IP packet that a socket of the attached cgroup's sub-tree
//! sends or receives, whole, with the socket's cgroup.
//!
//! The hooks run in the way of the workload's packets, so they only copy: no packet is held, changed or
//! dropped.

#![allow(
    unsafe_code,
    reason = "helpers, the ring's memory and globals set by the loader are reached through pointers"
)]

use core::arch::asm;
use core::mem::offset_of;
use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::{
    bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id,
    bpf_skb_load_bytes,
};
use aya_ebpf::macros::{cgroup_skb, map};
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::programs::SkBuffContext;
use wiretape_agent_ebpf::{
    BULK_BYTES, Exclusion, HEAD_BYTES, Handover, KernelCounters, MAX_EXCLUSIONS, MAX_PACKET_BYTES,
    PacketRecord, SMALL_BYTES, kind,
};

use crate::interfaces;

/// One ring for all CPUs, so that records come out in the order in which they were made. The loader sets its
/// size.
#[map]
static PACKETS: RingBuf = RingBuf::with_byte_size(64 * 1024 * 1024, 0);

/// One entry: the counters of this CPU.
#[map]
static COUNTERS: PerCpuArray<KernelCounters> = PerCpuArray::with_max_entries(1, 0);

/// One entry, of agents only. It is made with the ring and lives as long.
#[map]
static HANDOVER: Array<Handover> = Array::with_max_entries(1, 0);

/// Set by the loader before the programs are verified, so that unused entries cost nothing.
#[unsafe(no_mangle)]
static EXCLUDED: [Exclusion; MAX_EXCLUSIONS] = [Exclusion {
    id: 0,
    level: 0,
    reserved: 0,
}; MAX_EXCLUSIONS];

/// The reader is woken whenever another `1 << WAKE_SHIFT` bytes wait in the ring. Between those it comes by
/// itself on a timer: a wake-up per packet would cost more than the packet. Set by the loader from the ring's
/// size.
#[unsafe(no_mangle)]
static WAKE_SHIFT: u32 = 20;

/// The verdict "let it pass": the only one there is here.
const PASS: i32 = 1;

/// Packets that sockets receive.
#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    if !interfaces::has_recorded(&ctx) {
        record(&ctx, kind::PACKET_IN);
    }
    PASS
}

/// Packets that sockets send.
#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    if !interfaces::will_record(&ctx) {
        record(&ctx, kind::PACKET_OUT);
    }
    PASS
}

/// Hands one packet of a socket over, or counts why not.
#[inline(always)]
fn record(ctx: &SkBuffContext, kind: u32) {
    // SAFETY: the helpers are given this program's own context.
    let owner = unsafe {
        Owner {
            cgroup: bpf_skb_cgroup_id(ctx.skb.skb),
            cookie: bpf_get_socket_cookie(ctx.skb.skb.cast()),
        }
    };
    let excluded = excluded(|level| {
        // SAFETY: as above.
        unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) }
    });
    take(ctx, kind, 0, owner, excluded);
}

/// Whose a packet is.
#[derive(Clone, Copy)]
pub struct Owner {
    /// See [`PacketRecord::cgroup`].
    pub cgroup: u64,
    /// See [`PacketRecord::cookie`].
    pub cookie: u64,
}

/// Hands a packet over from its byte `from` on, unless it is `excluded`, or counts why not.
#[inline(always)]
pub fn take(ctx: &SkBuffContext, kind: u32, from: u32, owner: Owner, excluded: bool) {
    // A map of one entry always has entry 0; the verifier wants to see it checked.
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        return;
    };
    let len = ctx.len().saturating_sub(from);
    count(counters, offset_of!(KernelCounters, seen), 1);
    count(counters, offset_of!(KernelCounters, seen_bytes), u64::from(len));
    if excluded {
        return count(counters, offset_of!(KernelCounters, excluded), 1);
    }
    let wanted = if is_shed(len) { HEAD_BYTES } else { len };
    if wanted < len {
        count(counters, offset_of!(KernelCounters, shed), 1);
    }
    let head = Head {
        kind,
        from,
        len,
        wanted,
        owner,
    };
    // The kernel wants the size of a reservation to be a constant, so there are tiers, each about a quarter
    // to a half above the one before: a record wastes at most that much of the ring, and nothing on the
    // tape, which takes the packet's own length.
    match wanted {
        0..=56 => hand_over::<56>(ctx, head, counters),
        57..=88 => hand_over::<88>(ctx, head, counters),
        89..=152 => hand_over::<152>(ctx, head, counters),
        153..=256 => hand_over::<256>(ctx, head, counters),
        257..=400 => hand_over::<400>(ctx, head, counters),
        401..=640 => hand_over::<640>(ctx, head, counters),
        641..=1024 => hand_over::<1024>(ctx, head, counters),
        // An Ethernet frame's 1500.
        1025..=1504 => hand_over::<1504>(ctx, head, counters),
        1505..=2304 => hand_over::<2304>(ctx, head, counters),
        2305..=3072 => hand_over::<3072>(ctx, head, counters),
        3073..=4608 => hand_over::<4608>(ctx, head, counters),
        4609..=6144 => hand_over::<6144>(ctx, head, counters),
        // A jumbo frame's 9000.
        6145..=9216 => hand_over::<9216>(ctx, head, counters),
        9217..=12288 => hand_over::<12288>(ctx, head, counters),
        12289..=18432 => hand_over::<18432>(ctx, head, counters),
        18433..=24576 => hand_over::<24576>(ctx, head, counters),
        24577..=36864 => hand_over::<36864>(ctx, head, counters),
        36865..=49152 => hand_over::<49152>(ctx, head, counters),
        // What GSO makes at most, unless it is told to make more.
        49153..=66048 => hand_over::<66048>(ctx, head, counters),
        66049..=98304 => hand_over::<98304>(ctx, head, counters),
        98305..=131072 => hand_over::<131072>(ctx, head, counters),
        131073..=196608 => hand_over::<196608>(ctx, head, counters),
        _ => hand_over::<MAX_PACKET_BYTES>(ctx, head, counters),
    }
}

/// Whether only the head of a packet so long is recorded, because the reader is behind: bodies of bulk transfers go
/// when half of the ring is full, all bodies when three quarters are. Packets are lost only when it is full of heads.
#[inline(always)]
fn is_shed(len: u32) -> bool {
    if len <= SMALL_BYTES {
        return false;
    }
    // A sixty-fourth of the ring.
    // SAFETY: a plain global; volatile, because the loader changes it after compilation.
    let part = 1_u64 << (unsafe { addr_of!(WAKE_SHIFT).read_volatile() } & 31);
    let waiting = PACKETS.query(u64::from(BPF_RB_AVAIL_DATA));
    waiting > 48 * part || (waiting > 32 * part && len > BULK_BYTES)
}

/// What is known of a packet before its bytes are.
#[derive(Clone, Copy)]
struct Head {
    kind: u32,
    /// Where it begins in the context's bytes.
    from: u32,
    /// Its length from there on.
    len: u32,
    /// How much of it is recorded, if there are records so long.
    wanted: u32,
    owner: Owner,
}

/// A record with room for `N` bytes of packet.
#[repr(C)]
struct Tier<const N: usize> {
    record: PacketRecord,
    data: [u8; N],
}

/// Writes the record into the ring, with room for `N` bytes.
#[inline(always)]
fn hand_over<const N: usize>(ctx: &SkBuffContext, head: Head, counters: *mut KernelCounters) {
    let Head {
        kind,
        from,
        len,
        wanted,
        owner,
    } = head;
    let Some(mut entry) = PACKETS.reserve::<Tier<N>>(0) else {
        return count(counters, offset_of!(KernelCounters, ring_full), 1);
    };
    let tier = entry.as_mut_ptr();
    let captured = if wanted as usize > N { N as u32 } else { wanted };
    // The verifier wants to see that it is not 0 and fits; the compiler knows, and would leave the check out.
    let last = unforeseen(u64::from(captured).wrapping_sub(1));
    let fits = last < N as u64;
    // SAFETY: `tier` is the ring's memory, reserved for this record alone until it is submitted or discarded,
    // and the helpers are given this program's own context. The bytes loaded fit: `captured <= N`.
    let loaded = unsafe {
        addr_of_mut!((*tier).record).write(PacketRecord {
            kind,
            captured,
            time: bpf_ktime_get_boot_ns(),
            cgroup: owner.cgroup,
            cookie: owner.cookie,
            orig_len: len,
            ifindex: (*ctx.skb.skb).ifindex,
        });
        let data = addr_of_mut!((*tier).data);
        fits && bpf_skb_load_bytes(ctx.skb.skb.cast(), from, data.cast(), (last + 1) as u32) == 0
    };
    if !loaded {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(counters, offset_of!(KernelCounters, load_failed), 1);
        return report_load_failure(ctx, len, counters);
    }
    if len > captured {
        count(counters, offset_of!(KernelCounters, truncated), 1);
    }
    entry.submit(wake_up(size_of::<Tier<N>>() as u64));
}

/// The same value, of which the compiler knows nothing.
#[inline(always)]
fn unforeseen(value: u64) -> u64 {
    let same;
    // SAFETY: a move from one register to another.
    unsafe { asm!("{} = {}", out(reg) same, in(reg) value, options(pure, nomem, nostack)) };
    same
}

/// Whether a cgroup lies in an excluded sub-tree; `ancestor` gives the id of what lies above it at a level.
#[inline(always)]
pub fn excluded(ancestor: impl Fn(i32) -> u64) -> bool {
    for i in 0..MAX_EXCLUSIONS {
        // SAFETY: in bounds; volatile, because the loader changes the global after compilation.
        let exclusion = unsafe { addr_of!(EXCLUDED).cast::<Exclusion>().add(i).read_volatile() };
        if exclusion.id == 0 {
            return false;
        }
        if ancestor(exclusion.level as i32) == exclusion.id {
            return true;
        }
    }
    false
}

/// Whether the record just made, of `bytes`, is the one for which the reader is to be woken.
#[inline(always)]
fn wake_up(bytes: u64) -> u64 {
    // SAFETY: a plain global; volatile, because the loader changes it after compilation.
    let shift = unsafe { addr_of!(WAKE_SHIFT).read_volatile() } & 31;
    let waiting = PACKETS.query(u64::from(BPF_RB_AVAIL_DATA));
    let before = waiting.saturating_sub(bytes);
    let flag = if waiting >> shift == before >> shift {
        BPF_RB_NO_WAKEUP
    } else {
        BPF_RB_FORCE_WAKEUP
    };
    u64::from(flag)
}

/// Adds to the counter at `offset`. Atomic, because a packet that arrives in an interrupt is counted on the
/// same CPU in the middle of one that is being sent.
#[inline(always)]
fn count(counters: *mut KernelCounters, offset: usize, by: u64) {
    // SAFETY: the map's value is live and aligned, and every field of `KernelCounters` is a `u64`. In
    // assembly, because `core` has no atomic addition for this target.
    unsafe {
        let counter = counters.byte_add(offset);
        asm!("lock *(u64 *)({} + 0) += {}", in(reg) counter, in(reg) by, options(nostack));
    }
}

/// Logs a failed load: the first on each CPU, then at every power of two.
#[inline(always)]
fn report_load_failure(ctx: &SkBuffContext, len: u32, counters: *mut KernelCounters) {
    // SAFETY: as in `count`.
    let failed = unsafe { addr_of!((*counters).load_failed).read_volatile() };
    if failed & failed.wrapping_sub(1) == 0 {
        aya_log_ebpf::warn!(
            ctx,
            "the bytes of a packet of {} bytes could not be read, {} so far",
            len,
            failed
        );
    }
}
