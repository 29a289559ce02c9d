//! Packets of interfaces that belong to no socket, from TCX: what the hooks on sockets do not see. Resets from
//! closed ports and segments to them, the end of connections whose process has gone, ICMP, fragments, ARP,
//! neighbour discovery, whatever is forwarded.
//!
//! Each packet is recorded once. On the way in these programs come first: they leave to the hook what a socket
//! is going to receive, and mark in the kernel's `tc_index` what they take, so that the hook leaves that out
//! whoever may receive it after all. On the way out the hook comes first: what an IP socket sends has
//! passed it.

#![allow(
    unsafe_code,
    reason = "helpers and the context are reached through pointers, globals are set by the loader"
)]

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Ipv4Ends,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Ipv6Ends,
};
use aya_ebpf::helpers::{
    bpf_get_socket_cookie, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_ancestor_cgroup_id,
    bpf_skb_cgroup_id,
};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{SkBuffContext, TcContext};
use wiretape_agent_ebpf::headers::Bytes;
use wiretape_agent_ebpf::{InterfaceKey, MAX_INTERFACES, kind};

use crate::bytes::{ETHERNET_BYTES, Given};
use crate::once::{is_kernels_own, set_mark, socket, will_record};
use crate::packets::{Owner, excluded, take};

/// Whose the packets without a socket are: id of the cgroup. By interface, because the kernel tells these programs
/// the namespace of a socket only.
#[map]
static OWNERS: HashMap<InterfaceKey, u64> = HashMap::with_max_entries(MAX_INTERFACES, 0);

/// The verdict "let it pass to the next program": the only one there is here (`TCX_NEXT`).
const NEXT: i32 = -1;

/// Frames that interfaces receive.
#[classifier]
pub fn frame_in(ctx: TcContext) -> i32 {
    let ctx = SkBuffContext::new(ctx.skb.skb);
    if is_left_to_socket(&ctx) {
        set_mark(&ctx, false);
    } else {
        set_mark(&ctx, true);
        let (kind, from) = if is_ip(&ctx) {
            (kind::PACKET_IN, ETHERNET_BYTES)
        } else {
            (kind::FRAME_IN, 0)
        };
        take(&Given::of(&ctx), kind, from, interface_owner(&ctx, TARGET), false);
    }
    NEXT
}

/// Frames that interfaces send.
#[classifier]
pub fn frame_out(ctx: TcContext) -> i32 {
    let ctx = SkBuffContext::new(ctx.skb.skb);
    set_mark(&ctx, false);
    // SAFETY: the helper is given this program's own context. It knows the same sockets as the hook.
    let cgroup = unsafe { bpf_skb_cgroup_id(ctx.skb.skb) };
    let by_socket = cgroup != 0;
    if by_socket && is_ip(&ctx) && socket_family_is_ip(&ctx) && !will_record(&ctx) {
        return NEXT;
    }
    let owner = if by_socket && !is_kernels_own(&ctx) {
        // SAFETY: as above.
        let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
        Owner { cgroup, cookie }
    } else {
        interface_owner(&ctx, SOURCE)
    };
    let excluded = excluded(|level| {
        // SAFETY: as above.
        unsafe { bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level) }
    });
    let (kind, from) = if is_ip(&ctx) {
        (kind::PACKET_OUT, ETHERNET_BYTES)
    } else {
        (kind::FRAME_OUT, 0)
    };
    take(&Given::of(&ctx), kind, from, owner, excluded);
    NEXT
}

/// EtherTypes, as the context has them: in the order of the network.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

/// `PACKET_HOST` of `if_packet.h`: to this machine alone.
const TO_US: u32 = 0;

/// Whether a socket is going to receive this packet, at which the hook sees it. Of whatever is not quite sure
/// this says no.
#[inline(always)]
fn is_left_to_socket(ctx: &SkBuffContext) -> bool {
    let skb = ctx.skb.skb;
    // SAFETY: fields of this program's own context.
    let (to, protocol) = unsafe { ((*skb).pkt_type, (*skb).protocol) };
    if to != TO_US {
        return false;
    }
    if protocol == ETH_P_IP {
        let Some(head) = Given::of(ctx).load::<24>(ETHERNET_BYTES) else {
            return false;
        };
        // Any fragment: more to come (0x20), or an offset.
        if head[0] != 0x45 || head[6] & 0x3f != 0 || head[7] != 0 {
            return false;
        }
        let ipv4 = Ipv4Ends {
            saddr: u32::from_ne_bytes([head[12], head[13], head[14], head[15]]),
            daddr: u32::from_ne_bytes([head[16], head[17], head[18], head[19]]),
            sport: u16::from_ne_bytes([head[20], head[21]]),
            dport: u16::from_ne_bytes([head[22], head[23]]),
        };
        return has_socket(ctx, head[9], ipv4);
    }
    if protocol == ETH_P_IPV6 {
        let Some(head) = Given::of(ctx).load::<44>(ETHERNET_BYTES) else {
            return false;
        };
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let ipv6 = Ipv6Ends {
            saddr: [word(8), word(12), word(16), word(20)],
            daddr: [word(24), word(28), word(32), word(36)],
            sport: u16::from_ne_bytes([head[40], head[41]]),
            dport: u16::from_ne_bytes([head[42], head[43]]),
        };
        return has_socket(ctx, head[6], ipv6);
    }
    false
}

/// Whether there is a socket for this packet; one that is in TIME_WAIT is none. Whose it is these programs may
/// not ask: that of a cgroup which is not recorded is left to a hook that is not called for it.
///
/// `tuple` is one of the two forms that a `bpf_sock_tuple` has; which, the helpers know by its length.
#[inline(always)]
fn has_socket<T>(ctx: &SkBuffContext, protocol: u8, mut tuple: T) -> bool {
    let skb = ctx.skb.skb.cast();
    let (tuple, bytes) = ((&raw mut tuple).cast::<bpf_sock_tuple>(), size_of::<T>() as u32);
    let here = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: the helpers are given this program's own context and a tuple of the length told; the socket is
    // let go again.
    unsafe {
        let socket = match protocol {
            IPPROTO_TCP => bpf_sk_lookup_tcp(skb, tuple, bytes, here, 0),
            IPPROTO_UDP => bpf_sk_lookup_udp(skb, tuple, bytes, here, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}

/// Whether the socket that sends this sends IP, and not frames of its own making, which no hook sees.
#[inline(always)]
fn socket_family_is_ip(ctx: &SkBuffContext) -> bool {
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    let socket = socket(ctx);
    // SAFETY: checked for null; the kernel lends it for as long as the program runs.
    !socket.is_null() && matches!(unsafe { (*socket).family }, AF_INET | AF_INET6)
}

/// Where the addresses stand in an Ethernet header.
const TARGET: u32 = 0;
const SOURCE: u32 = 6;

/// Whose a packet without a socket is, by the interface's own address, which stands at `at`; nobody's, if it is
/// for all that hear it.
#[inline(always)]
fn interface_owner(ctx: &SkBuffContext, at: u32) -> Owner {
    let nobody = Owner { cgroup: 0, cookie: 0 };
    let Some(address) = Given::of(ctx).load::<6>(at) else {
        return nobody;
    };
    // SAFETY: a field of this program's own context.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    owner_of(address, ifindex).unwrap_or(nobody)
}

/// Whose the packets without a socket are on the interface with this Ethernet address and index, if it is recorded on.
#[inline(always)]
pub fn owner_of(address: [u8; 6], ifindex: u32) -> Option<Owner> {
    let [a, b, c, d, e, f] = address;
    let key = InterfaceKey {
        address: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
        ifindex: u64::from(ifindex),
    };
    // SAFETY: the value is copied at once.
    let cgroup = *unsafe { OWNERS.get(key) }?;
    Some(Owner { cgroup, cookie: 0 })
}

#[inline(always)]
fn is_ip(ctx: &SkBuffContext) -> bool {
    // SAFETY: a field of this program's own context.
    matches!(unsafe { (*ctx.skb.skb).protocol }, ETH_P_IP | ETH_P_IPV6)
}
