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
};
use aya_ebpf::macros::{cgroup_skb, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::SkBuffContext;
use wiretape_agent_ebpf::choice::{
    Carried, Choices, FLOW_SILENCE, Lately, LeftOut, MAX_CONNECTIONS, MAX_RULES, Packet, Rule, Span, Verdict,
    decide, shed,
};
use wiretape_agent_ebpf::filter::{Instruction, MAX_INSTRUCTIONS};
use wiretape_agent_ebpf::headers::{Bytes, Headers};
use wiretape_agent_ebpf::{
    Exclusion, Handover, KernelCounters, MAX_EXCLUSIONS, MAX_PACKET_BYTES, PacketRecord, kind, room_for,
};

use crate::bytes::{ETHERNET_BYTES, Given, Source};
use crate::{filtering, once};

/// One ring for all CPUs, so that records come out in the order in which they were made. The loader sets its
/// size.
#[map]
static PACKETS: RingBuf = RingBuf::with_byte_size(64 * 1024 * 1024, 0);

/// One entry: the counters of this CPU.
#[map]
static COUNTERS: PerCpuArray<KernelCounters> = PerCpuArray::with_max_entries(1, 0);

/// One entry: what is recorded. The agent changes it while the programs run.
#[map]
static CHOICES: Array<Choices> = Array::with_max_entries(1, 0);

/// Rules by cgroup.
#[map]
static RULES: HashMap<u64, Rule> = HashMap::with_max_entries(MAX_RULES, 0);

/// What connections have carried so far, by the socket's cookie or, without one and for all but TCP, by the flow.
#[map]
static CONNECTIONS: LruHashMap<u64, Carried> = LruHashMap::with_max_entries(MAX_CONNECTIONS, 0);

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

/// The longest burst of bulk that is recorded whole, in bytes. Set by the loader.
#[unsafe(no_mangle)]
static BULK_BURST: u64 = 0;

/// Of all processors. Two at once may spoil what they write: it is a rate, not an account.
static mut BULK: Lately = Lately {
    debt: 0,
    at: 0,
    spent: 0,
};

/// The verdict "let it pass": the only one there is here.
const PASS: i32 = 1;

/// Packets that sockets receive.
#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    if !once::has_recorded(&ctx) {
        record(&ctx, kind::PACKET_IN);
    }
    PASS
}

/// Packets that sockets send.
#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    if !once::will_record(&ctx) {
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
    take(&Given::of(ctx), kind, 0, owner, excluded);
}

/// Whose a packet is.
#[derive(Clone, Copy)]
pub struct Owner {
    /// See [`PacketRecord::cgroup`].
    pub cgroup: u64,
    /// See [`PacketRecord::cookie`].
    pub cookie: u64,
}

/// Hands a packet over from its byte `from` on, unless it is `excluded` or left out by choice, or counts why not.
#[inline(always)]
pub fn take<S: Source>(packet: &S, kind: u32, from: u32, owner: Owner, excluded: bool) {
    // A map of one entry always has entry 0; the verifier wants to see it checked.
    let Some(counters) = COUNTERS.get_ptr_mut(0) else {
        return;
    };
    let len = packet.len().saturating_sub(from);
    count(counters, offset_of!(KernelCounters, seen), 1);
    count(counters, offset_of!(KernelCounters, seen_bytes), u64::from(len));
    if excluded {
        return count(counters, offset_of!(KernelCounters, excluded), 1);
    }
    // SAFETY: the helper takes nothing.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let (wanted, shed) = match judge(packet, kind, from, len, owner, time) {
        Verdict::Record { wanted, shed } => (wanted, shed),
        Verdict::LeaveOut(why) => return count(counters, left_out_by(why), 1),
    };
    if shed {
        count(counters, offset_of!(KernelCounters, shed), 1);
    }
    let head = Head {
        kind,
        time,
        from,
        len,
        wanted,
        owner,
    };
    hand_over(packet, head, counters);
}

/// What of a packet is recorded, by the choice that holds now.
#[inline(always)]
fn judge<S: Source>(packet: &S, kind: u32, from: u32, len: u32, owner: Owner, time: u64) -> Verdict {
    let whole = Verdict::Record {
        wanted: len,
        shed: false,
    };
    let Some(choices) = CHOICES.get(0) else {
        return whole;
    };
    // SAFETY: a field of a live value; volatile, because the agent changes it.
    let current = unsafe { addr_of!(choices.current).read_volatile() };
    let choice = &choices.banks[(current & 1) as usize];
    // Interfaces hand over an Ethernet header before everything, sockets none.
    let framed = matches!(kind, kind::FRAME_IN | kind::FRAME_OUT);
    let span = Span {
        from,
        len,
        network: if framed { ETHERNET_BYTES } else { from },
        ethernet: framed || from != 0,
    };
    let inward = kind::is_inward(kind);
    let passing = Passing {
        packet,
        owner,
        inward,
        time,
    };
    decide(choice, &passing, span)
}

#[inline(always)]
fn left_out_by(why: LeftOut) -> usize {
    match why {
        LeftOut::Filter => offset_of!(KernelCounters, filtered_out),
        LeftOut::Rule => offset_of!(KernelCounters, ruled_out),
        LeftOut::Sample => offset_of!(KernelCounters, sampled_out),
        LeftOut::Budget => offset_of!(KernelCounters, shed_flows),
    }
}

/// A packet on its way.
struct Passing<'a, S> {
    packet: &'a S,
    owner: Owner,
    inward: bool,
    /// See [`PacketRecord::time`].
    time: u64,
}

impl<S: Source> Bytes for Passing<'_, S> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.packet.load(at)
    }
}

impl<S: Source> Packet for Passing<'_, S> {
    #[inline(always)]
    fn passes(&self, filter: &[Instruction; MAX_INSTRUCTIONS], span: Span, length: u32) -> bool {
        filtering::passes(self.packet, filter, span, length)
    }

    #[inline(always)]
    fn rule(&self) -> Option<Rule> {
        // SAFETY: the value is copied at once.
        unsafe { RULES.get(self.owner.cgroup).copied() }
    }

    /// Counts by a plain addition, which two CPUs that carry one connection the same way at once may spoil: then a
    /// packet more is recorded.
    #[inline(always)]
    fn carried(&self, headers: &Headers, payload: u32) -> u64 {
        let key = if headers.tcp && self.owner.cookie != 0 {
            self.owner.cookie
        } else {
            headers.flow
        };
        let now = self.time;
        if let Some(known) = CONNECTIONS.get_ptr_mut(key) {
            // SAFETY: the kernel lends the value for as long as the program runs.
            let known = unsafe { &mut *known };
            let silent = !headers.tcp && now.wrapping_sub(known.last) > FLOW_SILENCE;
            known.last = now;
            if silent {
                known.bytes = [0; 2];
            }
            let way = if self.inward {
                &mut known.bytes[0]
            } else {
                &mut known.bytes[1]
            };
            let before = if headers.opens { 0 } else { *way };
            *way = before + u64::from(payload);
            return before;
        }
        let payload = u64::from(payload);
        let bytes = if self.inward { [payload, 0] } else { [0, payload] };
        // Should it be refused, the next packet is taken for the first.
        let _ = CONNECTIONS.insert(key, Carried { bytes, last: now }, 0);
        0
    }

    /// Bodies of bulk transfers go when half of the ring is full, all bodies when three quarters are. Packets are lost
    /// only when it is full of heads.
    #[inline(always)]
    fn pressure(&self) -> u32 {
        // A sixty-fourth of the ring.
        // SAFETY: a plain global; volatile, because the loader changes it after compilation.
        let part = 1_u64 << (unsafe { addr_of!(WAKE_SHIFT).read_volatile() } & 31);
        match PACKETS.query(u64::from(BPF_RB_AVAIL_DATA)) {
            waiting if waiting > 48 * part => shed::BODIES,
            waiting if waiting > 32 * part => shed::BULK,
            _ => shed::NOTHING,
        }
    }

    /// While bulk is spent, nothing is written, so that processors need not wait for each other's memory.
    #[inline(always)]
    fn bulk_is_spent(&self, bytes: u32, rate: u32) -> bool {
        // SAFETY: plain globals, of which the loader changes one after compilation, and the other is this program's.
        unsafe {
            let burst = addr_of!(BULK_BURST).read_volatile();
            match addr_of!(BULK).read_volatile().with(bytes, self.time, rate, burst) {
                Some(lately) => addr_of_mut!(BULK).write_volatile(lately),
                None => return true,
            }
        }
        false
    }
}

/// What is known of a packet before its bytes are.
#[derive(Clone, Copy)]
struct Head {
    kind: u32,
    /// See [`PacketRecord::time`].
    time: u64,
    /// Where it begins in the context's bytes.
    from: u32,
    /// Its length from there on.
    len: u32,
    /// How much of it is recorded, if there are records so long.
    wanted: u32,
    owner: Owner,
}

/// Writes the record into the ring, with room for the bytes that are wanted.
#[inline(always)]
fn hand_over<S: Source>(packet: &S, head: Head, counters: *mut KernelCounters) {
    let Head {
        kind,
        time,
        from,
        len,
        wanted,
        owner,
    } = head;
    // From here on the verifier knows nothing of how this came about, so it looks at the rest once for each size, and not
    // again for every way that leads here.
    let wanted = (unforeseen(u64::from(wanted) ^ time) ^ time) as u32;
    let wanted = wanted.min(packet.readable());
    let room = room_for(wanted) as usize;
    let Some(mut entry) = PACKETS.reserve_bytes(size_of::<PacketRecord>() + room, 0) else {
        return count(counters, offset_of!(KernelCounters, ring_full), 1);
    };
    let record = entry.as_mut_ptr();
    let captured = wanted.min(MAX_PACKET_BYTES as u32);
    // The verifier wants to see that it is not 0 and fits; the compiler knows, and would leave the check out.
    let last = unforeseen(u64::from(captured).wrapping_sub(1));
    let fits = last < room as u64;
    // SAFETY: `record` is the ring's memory, reserved for this record alone until it is submitted or discarded. The bytes
    // copied fit: `captured <= room`.
    let loaded = unsafe {
        record.cast::<PacketRecord>().write(PacketRecord {
            kind,
            captured,
            time,
            cgroup: owner.cgroup,
            cookie: owner.cookie,
            orig_len: len,
            ifindex: packet.ifindex(),
        });
        let data = record.add(size_of::<PacketRecord>());
        fits && packet.copy(from, data, (last + 1) as u32)
    };
    if !loaded {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(counters, offset_of!(KernelCounters, load_failed), 1);
        return report_load_failure(len, counters);
    }
    if len > captured {
        count(counters, offset_of!(KernelCounters, truncated), 1);
    }
    entry.submit(wake_up((size_of::<PacketRecord>() + room) as u64));
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
fn report_load_failure(len: u32, counters: *mut KernelCounters) {
    // SAFETY: as in `count`.
    let failed = unsafe { addr_of!((*counters).load_failed).read_volatile() };
    if failed & failed.wrapping_sub(1) == 0 {
        aya_log_ebpf::warn!(
            // The macro asks for a context, and does not use it.
            (),
            "the bytes of a packet of {} bytes could not be read, {} so far",
            len,
            failed
        );
    }
}
