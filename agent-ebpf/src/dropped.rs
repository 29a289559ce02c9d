//! Packets that the kernel throws away anywhere on the node, with its reason: a firewall's rule between two pods, a queue that
//! is full, a server that does not accept fast enough. Told, not recorded: that one was sent is on the tape already, and this
//! is why nobody answers it.

#![allow(unsafe_code, reason = "maps' values are reached through pointers")]

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::headers::Bytes;
use wiretape_agent_ebpf::{DROPS_TOLD_EVERY, EventRecord, RECEIVED, kind, layout, packet_layout as place};

use crate::kernel::{self, is_telling, recorded, records_all, tell};
use crate::skb::{Address, Dropped, field, thrown_away};

/// Who was told to whom, and how often since it was told last. The oldest make room.
#[map]
static DROPS: LruHashMap<Drop, Count> = LruHashMap::with_max_entries(4096, 0);

/// Packets of one sender to one port that are dropped for one reason. The sender's port is not looked at: each try has
/// another.
#[repr(C)]
#[derive(Clone, Copy)]
struct Drop {
    source: [u8; 16],
    target: [u8; 16],
    port: u16,
    protocol: u8,
    why: u8,
    /// Whether it came in by an interface, or was sent from here.
    inward: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Count {
    /// `CLOCK_BOOTTIME` in nanoseconds when it was told.
    told: u64,
    /// Not told yet.
    since: u64,
}

/// Whatever the kernel throws away.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn packet_thrown_away(ctx: RawTracePointContext) -> i32 {
    if let Some((skb, why)) = thrown_away(&ctx)
        && is_telling()
    {
        let _ = note(skb, why);
    }
    0
}

#[inline(always)]
fn note(skb: Address, why: u8) -> Option<()> {
    let cgroup = owner(skb)?;
    let packet = Dropped::at(skb)?;
    let received_by: u32 = field(skb, place::RECEIVED_BY)?;
    let ends = ends(&packet)?;
    if is_for_many(&ends) {
        return None;
    }
    let drop = Drop {
        source: ends.source,
        target: ends.target,
        port: ends.ports[1],
        protocol: ends.protocol,
        why,
        inward: u32::from(received_by != 0),
    };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut count = 1;
    if let Some(known) = DROPS.get_ptr_mut(&drop) {
        // SAFETY: the kernel lends the value for as long as the program runs. Two processors at once may lose a count.
        let known = unsafe { &mut *known };
        known.since += 1;
        if now.wrapping_sub(known.told) < DROPS_TOLD_EVERY {
            return None;
        }
        count = known.since;
        known.since = 0;
        known.told = now;
    } else {
        let first = Count { told: now, since: 0 };
        // Should it be refused, the next one is told, too.
        let _ = DROPS.insert(&drop, &first, 0);
    }
    let event = EventRecord {
        kind: kind::PACKET_THROWN_AWAY,
        cgroup,
        status: u32::from(why),
        family: ends.family,
        state: u16::from(ends.protocol),
        count: count as u32,
        ..EventRecord::default()
    };
    let [from, to] = ends.ports;
    tell(if drop.inward == 1 && cgroup != 0 {
        EventRecord {
            local_port: to,
            remote_port: from,
            state: event.state | RECEIVED,
            local: ends.target,
            remote: ends.source,
            ..event
        }
    } else {
        EventRecord {
            local_port: from,
            remote_port: to,
            local: ends.source,
            remote: ends.target,
            ..event
        }
    });
    Some(())
}

/// The cgroup whose socket sends it, or was to receive it, if one is known by now, else 0; `None` if it is nobody's whose
/// packets are recorded.
#[inline(always)]
fn owner(skb: Address) -> Option<u64> {
    let nobody = || records_all().then_some(0);
    let socket: Address = field(skb, place::SOCKET)?;
    if socket == 0 {
        return nobody();
    }
    let family: u16 = kernel::field(socket, layout::SOCK_FAMILY)?;
    let state: u8 = field(socket, place::SOCKET_STATE)?;
    // Of TIME_WAIT and of a connection that is only asked for, the kernel has less than a socket.
    if !matches!(family, AF_INET | AF_INET6) || matches!(state, TCP_TIME_WAIT | TCP_NEW_SYN_RECV) {
        return nobody();
    }
    let cgroup: Address = kernel::field(socket, layout::SOCK_CGROUP)?;
    // Before Linux 5.15, an odd number there is none.
    if cgroup == 0 || cgroup & 1 == 1 {
        return nobody();
    }
    recorded(cgroup)
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

/// Whether it is for all that hear it: nobody in particular waits for it, and each interface that comes up has some of them
/// dropped.
#[inline(always)]
fn is_for_many(ends: &Ends) -> bool {
    let [first, ..] = ends.target;
    if ends.family == AF_INET {
        // RFC 5771 section 3: 224.0.0.0/4; and 255.255.255.255.
        first >= 224
    } else {
        // RFC 4291 section 2.7.
        first == 0xff
    }
}

/// From where to where a packet goes.
struct Ends {
    family: u16,
    protocol: u8,
    source: [u8; 16],
    target: [u8; 16],
    /// In network order; 0 of what has none.
    ports: [u16; 2],
}

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

#[inline(always)]
fn ends(packet: &Dropped) -> Option<Ends> {
    let [first] = packet.load::<1>(0)?;
    let (mut source, mut target) = ([0; 16], [0; 16]);
    let (family, protocol, transport) = if first >> 4 == 4 {
        let head = packet.load::<20>(0)?;
        let (from, to) = (
            [head[12], head[13], head[14], head[15]],
            [head[16], head[17], head[18], head[19]],
        );
        // Other fragments than the first (an offset in 13 bits) have no ports.
        let later = (head[6] & 0x1f) | head[7] != 0;
        [source[0], source[1], source[2], source[3]] = from;
        [target[0], target[1], target[2], target[3]] = to;
        (AF_INET, head[9], (!later).then_some(u32::from(first & 0xf) * 4))
    } else {
        let head = packet.load::<40>(0)?;
        let mut at = 0;
        while at < 16 {
            source[at] = head[8 + at];
            target[at] = head[24 + at];
            at += 1;
        }
        (AF_INET6, head[6], Some(40))
    };
    let mut ports = [0; 2];
    if let (Some(at), true) = (transport, matches!(protocol, IPPROTO_TCP | IPPROTO_UDP))
        && let Some([a, b, c, d]) = packet.load::<4>(at)
    {
        ports = [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])];
    }
    Some(Ends {
        family,
        protocol,
        source,
        target,
        ports,
    })
}
