//! Packets that the kernel throws away on their way from an interface to a socket: a firewall's rule, a wrong checksum.
//!
//! The interface's program has left them to the hook on the socket, which is then never called for them. The kernel tells of
//! them where it drops them. Those for which it does so before the hook are told by the reason, and by the mark which they
//! lack: so each packet is recorded once, and nothing is remembered.

#![allow(unsafe_code, reason = "the kernel's memory is reached through pointers")]

use aya_ebpf::helpers::bpf_probe_read_kernel_buf;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::headers::Bytes;
use wiretape_agent_ebpf::{kind, packet_layout as place};

use crate::bytes::Source;
use crate::interfaces::owner_of;
use crate::once::mark;
use crate::packets::{Owner, take};
use crate::skb::{Address, Dropped, field, read, thrown_away};
use crate::speaker::speaks;

/// One entry: the number of the agent whose program records.
#[map]
static DROPS_OF: Array<u64> = Array::with_max_entries(1, 0);

/// Whatever the kernel throws away.
#[raw_tracepoint(tracepoint = "kfree_skb")]
pub fn packet_dropped(ctx: RawTracePointContext) -> i32 {
    if let Some((skb, why)) = thrown_away(&ctx) {
        let _ = record(skb, why);
    }
    0
}

#[inline(always)]
fn record(skb: Address, why: u8) -> Option<()> {
    let tc_index: u16 = field(skb, place::TC_INDEX)?;
    if mark() == 0 || u32::from(tc_index) & mark() != 0 || !speaks(&DROPS_OF) {
        return None;
    }
    let (packet, owner) = Undelivered::at(skb)?;
    take(&packet, kind::PACKET_DROPPED | u32::from(why), 0, owner, false);
    Some(())
}

/// A packet that comes no further than to its interface.
#[derive(Clone, Copy)]
struct Undelivered {
    packet: Dropped,
    ifindex: u32,
}

impl Undelivered {
    /// Finds it, and whose it is; `None` for one that was not received by an interface which is recorded on.
    #[inline(always)]
    fn at(skb: Address) -> Option<(Self, Owner)> {
        // A socket that has taken it keeps something else there.
        let interface: Address = field(skb, place::INTERFACE)?;
        let ifindex: u32 = field(interface, place::INTERFACE_INDEX)?;
        let received_by: u32 = field(skb, place::RECEIVED_BY)?;
        if ifindex != received_by {
            return None;
        }
        let address: [u8; 6] = read(field(interface, place::INTERFACE_ADDRESS)?)?;
        let owner = owner_of(address, ifindex)?;
        let packet = Dropped::at(skb)?;
        Some((Self { packet, ifindex }, owner))
    }
}

impl Bytes for Undelivered {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.packet.load(at)
    }
}

impl Source for Undelivered {
    #[inline(always)]
    fn len(&self) -> u32 {
        self.packet.len
    }

    #[inline(always)]
    fn readable(&self) -> u32 {
        self.packet.readable
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    #[inline(always)]
    unsafe fn copy(&self, from: u32, to: *mut u8, bytes: u32) -> bool {
        let start = (self.packet.start + u64::from(from)) as *const u8;
        // SAFETY: there is room, as the caller promises; the helper checks the address that it reads itself.
        unsafe {
            let to = core::slice::from_raw_parts_mut(to, bytes as usize);
            bpf_probe_read_kernel_buf(start, to).is_ok()
        }
    }
}
