//! A packet that the kernel throws away, where it tells so (the tracepoint `skb/kfree_skb`, with a reason since Linux 5.17):
//! read from the kernel's memory, at the places that the loader has found.

#![allow(
    unsafe_code,
    reason = "the kernel's memory and globals set by the loader are reached through pointers"
)]

use core::ptr::addr_of;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::programs::RawTracePointContext;
use wiretape_agent_ebpf::headers::Bytes;
use wiretape_agent_ebpf::{DROP_REASONS, MAX_PACKET_BYTES, packet_layout as place};

/// The agent's number of each of the kernel's reasons; 0 for those that are not asked for. Set by the loader.
#[unsafe(no_mangle)]
static REASONS: [u8; DROP_REASONS] = [0; DROP_REASONS];

/// Where the kernel keeps what is read here. Set by the loader.
#[unsafe(no_mangle)]
static PACKET_LAYOUT: [u32; place::FIELDS] = [0; place::FIELDS];

/// EtherTypes, as a packet has them: in the order of the network.
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// An address in the kernel's memory.
pub type Address = u64;

/// `kfree_skb(packet, where, reason)`: the packet, and the agent's number of the reason, if that is asked for.
#[inline(always)]
pub fn thrown_away(ctx: &RawTracePointContext) -> Option<(Address, u8)> {
    let reason: u32 = ctx.arg(2);
    if reason >= DROP_REASONS as u32 {
        return None;
    }
    // SAFETY: in bounds; volatile, because the loader changes the global after compilation.
    let why = unsafe {
        addr_of!(REASONS)
            .cast::<u8>()
            .add(reason as usize)
            .read_volatile()
    };
    (why != 0).then(|| (ctx.arg(0), why))
}

/// A packet of IP that is being thrown away, from its IP header on.
#[derive(Clone, Copy)]
pub struct Dropped {
    /// Its first byte.
    pub start: Address,
    /// Its length.
    pub len: u32,
    /// How much of it is in one piece. What a sender's stack or an interface keeps in pages cannot be read from here.
    pub readable: u32,
}

/// The shortest header of IP.
const IPV4_BYTES: u32 = 20;

impl Dropped {
    /// Finds it; `None` for what is not IP.
    #[inline(always)]
    pub fn at(skb: Address) -> Option<Self> {
        let protocol: u16 = field(skb, place::PROTOCOL)?;
        if !matches!(protocol, ETH_P_IP | ETH_P_IPV6) {
            return None;
        }
        let (head, data): (Address, Address) = (field(skb, place::HEAD)?, field(skb, place::DATA)?);
        let (network, length, elsewhere): (u16, u32, u32) = (
            field(skb, place::NETWORK)?,
            field(skb, place::LENGTH)?,
            field(skb, place::ELSEWHERE)?,
        );
        let start = head + u64::from(network);
        // What is left of it begins before its IP header or behind it.
        let len = (data.wrapping_sub(start) as u32).wrapping_add(length);
        let readable = len.wrapping_sub(elsewhere);
        // One is broken that is longer than packets are, or shorter than the header of IP.
        if len > 2 * MAX_PACKET_BYTES as u32 || !(IPV4_BYTES..=len).contains(&readable) {
            return None;
        }
        Some(Self { start, len, readable })
    }
}

impl Bytes for Dropped {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if at.checked_add(N as u32)? > self.readable {
            return None;
        }
        read(self.start + u64::from(at))
    }
}

/// What stands in a structure at one of the places of [`place`]. Reading memory that is not there gives `None`.
#[inline(always)]
pub fn field<T>(of: Address, at: usize) -> Option<T> {
    // SAFETY: in bounds, `at` is one of the constants of `place`; volatile, because the loader changes the global.
    let offset = unsafe { addr_of!(PACKET_LAYOUT).cast::<u32>().add(at).read_volatile() };
    read(of + u64::from(offset))
}

/// What stands at an address.
#[inline(always)]
pub fn read<T>(at: Address) -> Option<T> {
    // SAFETY: the helper checks the address itself, and every `T` that is read is made of plain numbers.
    unsafe { bpf_probe_read_kernel(at as *const T) }.ok()
}
