//! Packets that the kernel throws away anywhere on the node, with its reason: a firewall's rule between two pods, a queue that
//! is full, a server that does not accept fast enough. Told, not recorded: that one was sent is on the tape already, and this
//! is why nobody answers it.

#![allow(unsafe_code, reason = "maps' values are reached through pointers")]

use core::ptr::addr_of_mut;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::counted::HELD_BACK;
use wiretape_agent_ebpf::headers::Bytes;
use wiretape_agent_ebpf::{
    COMM_BYTES, DROPS_PER_SECOND, DROPS_TOLD_EVERY, EventRecord, RECEIVED, kind, layout,
    packet_layout as place,
};

use crate::kernel::{self, is_telling, recorded, records_all, reserve};
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
    /// In network order; 0 of what has none.
    port: u16,
    family: u16,
    /// 1 if it came in by an interface, 0 if it was sent from here.
    inward: u16,
    protocol: u8,
    why: u8,
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
    let owner = owner(skb)?;
    let packet = Dropped::at(skb)?;
    let received_by: u32 = field(skb, place::RECEIVED_BY)?;
    let (drop, source_port) = Drop::of(&packet, why, received_by != 0)?;
    if drop.is_for_many() {
        return None;
    }
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let known = DROPS.get_ptr_mut(&drop);
    let count = match known {
        // SAFETY: the kernel lends the value for as long as the program runs. Two processors at once may lose a count.
        Some(known) => unsafe {
            (*known).since += 1;
            if now.wrapping_sub((*known).told) < DROPS_TOLD_EVERY {
                return None;
            }
            (*known).since as u32
        },
        None => {
            if !is_admitted(now) {
                kernel::count(HELD_BACK);
                return None;
            }
            let first = Count { told: now, since: 0 };
            // Should it be refused, the next one is told, too.
            let _ = DROPS.insert(&drop, &first, 0);
            1
        }
    };
    // Filled in place: copies on the stack are more than the 512 bytes that Linux 6.1 allows for it.
    let mut entry = reserve::<EventRecord>()?;
    let record = entry.as_mut_ptr();
    let received = owner.has_received(&drop, source_port);
    // SAFETY: `record` is the ring's memory, reserved for this record alone until it is submitted, and every field of it is
    // written.
    unsafe {
        addr_of_mut!((*record).kind).write(kind::PACKET_THROWN_AWAY);
        addr_of_mut!((*record).pid).write(0);
        addr_of_mut!((*record).time).write(now);
        addr_of_mut!((*record).cgroup).write(owner.cgroup);
        addr_of_mut!((*record).status).write(u32::from(why));
        addr_of_mut!((*record).family).write(drop.family);
        addr_of_mut!((*record).count).write(count);
        addr_of_mut!((*record).comm).write([0; COMM_BYTES]);
        if received {
            addr_of_mut!((*record).state).write(u16::from(drop.protocol) | RECEIVED);
            addr_of_mut!((*record).local_port).write(drop.port);
            addr_of_mut!((*record).remote_port).write(source_port);
            addr_of_mut!((*record).local).write(drop.target);
            addr_of_mut!((*record).remote).write(drop.source);
        } else {
            addr_of_mut!((*record).state).write(u16::from(drop.protocol));
            addr_of_mut!((*record).local_port).write(source_port);
            addr_of_mut!((*record).remote_port).write(drop.port);
            addr_of_mut!((*record).local).write(drop.source);
            addr_of_mut!((*record).remote).write(drop.target);
        }
    }
    entry.submit(0);
    if let Some(known) = known {
        // SAFETY: as above.
        unsafe {
            (*known).since = 0;
            (*known).told = now;
        }
    }
    Some(())
}

/// Senders that were told in a second, of those that were not known before: a flood from made-up addresses must not fill the
/// ring, in which other events are told.
static mut ADMITTED: Admitted = Admitted { second: 0, number: 0 };

struct Admitted {
    second: u64,
    number: u64,
}

/// Whether one more is told in this second. Two processors at once may count one for two.
#[inline(always)]
fn is_admitted(now: u64) -> bool {
    let admitted = addr_of_mut!(ADMITTED);
    // About a second.
    let second = now >> 30;
    // SAFETY: a plain global of this program's.
    unsafe {
        if (*admitted).second != second {
            (*admitted).second = second;
            (*admitted).number = 0;
        }
        (*admitted).number += 1;
        (*admitted).number <= DROPS_PER_SECOND
    }
}

impl Drop {
    /// Reads it from a packet, and from which port it was sent.
    #[inline(always)]
    fn of(packet: &Dropped, why: u8, inward: bool) -> Option<(Self, u16)> {
        let [first] = packet.load::<1>(0)?;
        let mut drop = Self {
            source: [0; 16],
            target: [0; 16],
            port: 0,
            family: AF_INET,
            protocol: 0,
            why,
            inward: u16::from(inward),
        };
        let transport = if first >> 4 == 4 {
            [drop.protocol] = packet.load::<1>(9)?;
            let [offset_high, offset_low] = packet.load::<2>(6)?;
            let (from, to) = (packet.load::<4>(12)?, packet.load::<4>(16)?);
            [drop.source[0], drop.source[1], drop.source[2], drop.source[3]] = from;
            [drop.target[0], drop.target[1], drop.target[2], drop.target[3]] = to;
            // Other fragments than the first (an offset in 13 bits) have no ports.
            let later = (offset_high & 0x1f) | offset_low != 0;
            (!later).then_some(u32::from(first & 0xf) * 4)
        } else {
            drop.family = AF_INET6;
            [drop.protocol] = packet.load::<1>(6)?;
            drop.source = packet.load::<16>(8)?;
            drop.target = packet.load::<16>(24)?;
            Some(40)
        };
        let mut source_port = 0;
        if let (Some(at), true) = (transport, matches!(drop.protocol, IPPROTO_TCP | IPPROTO_UDP))
            && let Some([a, b, c, d]) = packet.load::<4>(at)
        {
            source_port = u16::from_ne_bytes([a, b]);
            drop.port = u16::from_ne_bytes([c, d]);
        }
        Some((drop, source_port))
    }

    /// Whether it is for all that hear it: nobody in particular waits for it, and each interface that comes up has some of
    /// them dropped.
    #[inline(always)]
    fn is_for_many(&self) -> bool {
        let [first, ..] = self.target;
        if self.family == AF_INET {
            // RFC 5771 section 3: 224.0.0.0/4; and 255.255.255.255.
            first >= 224
        } else {
            // RFC 4291 section 2.7.
            first == 0xff
        }
    }
}

/// Whose a packet is, as far as the kernel knows by now.
struct Owner {
    /// Of the socket that sends it, or was to receive it; or 0.
    cgroup: u64,
    /// That socket's port, in network order.
    port: u16,
}

impl Owner {
    /// Whether it was to receive it. On a bridge, or the other end of a pod's interface, a packet that has come in still
    /// belongs to the socket that has sent it: so this is told by the port, and by the way only where both have the same.
    #[inline(always)]
    fn has_received(&self, drop: &Drop, source_port: u16) -> bool {
        if self.cgroup == 0 {
            return false;
        }
        match (self.port == source_port, self.port == drop.port) {
            (true, false) => false,
            (false, true) => true,
            _ => drop.inward == 1,
        }
    }
}

/// `None` if it is nobody's whose packets are recorded.
#[inline(always)]
fn owner(skb: Address) -> Option<Owner> {
    let nobody = || records_all().then_some(Owner { cgroup: 0, port: 0 });
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
    Some(Owner {
        cgroup: recorded(cgroup)?,
        port: kernel::field(socket, layout::SOCK_LOCAL_PORT)?,
    })
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
