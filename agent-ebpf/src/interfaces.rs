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

use core::arch::asm;
use core::mem::{MaybeUninit, offset_of};
use core::ptr::addr_of;

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Ipv4Ends,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Ipv6Ends,
};
use aya_ebpf::helpers::{
    bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_sk_fullsock, bpf_sk_lookup_tcp,
    bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::{SkBuffContext, TcContext};
use wiretape_agent_ebpf::{InterfaceKey, MAX_INTERFACES, kind};

use crate::packets::{Owner, excluded, take};

/// Whose the packets without a socket are: id of the cgroup. By interface, because the kernel tells these programs
/// the namespace of a socket only.
#[map]
static OWNERS: HashMap<InterfaceKey, u64> = HashMap::with_max_entries(MAX_INTERFACES, 0);

/// The namespaces, by their number (see [`NAMESPACE_AT`]), on whose interfaces these programs are.
#[map]
static COVERED: HashMap<u64, u8> = HashMap::with_max_entries(MAX_INTERFACES, 0);

/// The bit of `tc_index` by which this agent's programs tell each other what is recorded; 0 while interfaces
/// are not recorded. Few qdiscs (GRED) read the field, so it is cleared on the way out.
#[unsafe(no_mangle)]
static MARK: u32 = 0;

/// Where a namespace's number is: the offset of `skc_net` in a `sock_common`, and of `ns.inum` in a `net`. Both 0 where the
/// kernel tells these programs a namespace's cookie (Linux 6.15): then that is its number. Set by the loader.
#[unsafe(no_mangle)]
static NAMESPACE_AT: [u32; 2] = [0; 2];

/// Bytes of a `sock_common` among which `skc_net` is.
const SOCK_HEAD: usize = 64;

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
        take(&ctx, kind, from, interface_owner(&ctx, TARGET), false);
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
    take(&ctx, kind, from, owner, excluded);
    NEXT
}

/// For the hook on what sockets receive: whether an interface has had this packet recorded.
#[inline(always)]
pub fn has_recorded(ctx: &SkBuffContext) -> bool {
    // SAFETY: a field of this program's own context.
    let tc_index = unsafe { (*ctx.skb.skb).tc_index };
    tc_index & mark() != 0
}

/// For the hook on what sockets send: whether an interface will have this packet recorded, because the kernel
/// sends it by a socket of its own, in answer to what nobody received. The interface knows better whose it is.
#[inline(always)]
pub fn will_record(ctx: &SkBuffContext) -> bool {
    if mark() == 0 || !is_kernels_own(ctx) {
        return false;
    }
    // SAFETY: a field of this program's own context; the value is not kept.
    unsafe {
        (*ctx.skb.skb).ifindex != LOOPBACK
            && namespace(ctx).is_some_and(|namespace| COVERED.get(namespace).is_some())
    }
}

/// The number of the namespace of the socket that sends this.
#[inline(always)]
fn namespace(ctx: &SkBuffContext) -> Option<u64> {
    // SAFETY: in bounds; volatile, because the loader changes the global after compilation. The helpers are given this
    // program's own context, its socket, and addresses that they check themselves.
    unsafe {
        let at = addr_of!(NAMESPACE_AT).cast::<u32>();
        let (in_sock, in_net) = (at.read_volatile(), at.add(1).read_volatile());
        if in_sock == 0 {
            return Some(bpf_get_netns_cookie(ctx.skb.skb.cast()));
        }
        let socket = socket(ctx);
        if socket.is_null() {
            return None;
        }
        // No arithmetic is allowed on a socket's address, so all of its head is read.
        let head: [u64; SOCK_HEAD / 8] = bpf_probe_read_kernel(socket.cast()).ok()?;
        let net = head[(in_sock as usize / 8) & (SOCK_HEAD / 8 - 1)];
        let number: u32 = bpf_probe_read_kernel((net + u64::from(in_net)) as *const u32).ok()?;
        Some(u64::from(number))
    }
}

/// The loopback interface has this index in every network namespace, and no program.
const LOOPBACK: u32 = 1;

/// The length of an Ethernet header. The loader attaches to interfaces that have one.
pub const ETHERNET_BYTES: u32 = 14;

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
        let Some(head) = load::<24>(ctx, ETHERNET_BYTES) else {
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
        let Some(head) = load::<44>(ctx, ETHERNET_BYTES) else {
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

/// Whether the kernel itself sends this: by a raw socket under the root of the hierarchy.
#[inline(always)]
fn is_kernels_own(ctx: &SkBuffContext) -> bool {
    const SOCK_RAW: u32 = 3;
    /// The id of the hierarchy's root: its inode number, the first there is.
    const ROOT: u64 = 1;
    // SAFETY: the helper is given this program's own context.
    if unsafe { bpf_skb_cgroup_id(ctx.skb.skb) } != ROOT {
        return false;
    }
    let socket = socket(ctx);
    if socket.is_null() {
        return false;
    }
    // SAFETY: checked for null, here and below.
    unsafe {
        let full = bpf_sk_fullsock(socket);
        !full.is_null() && (*full).type_ == SOCK_RAW
    }
}

#[inline(always)]
fn socket(ctx: &SkBuffContext) -> *mut bpf_sock {
    // SAFETY: a field of this program's own context.
    unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk }
}

/// Where the addresses stand in an Ethernet header.
const TARGET: u32 = 0;
const SOURCE: u32 = 6;

/// Whose a packet without a socket is, by the interface's own address, which stands at `at`; nobody's, if it is
/// for all that hear it.
#[inline(always)]
fn interface_owner(ctx: &SkBuffContext, at: u32) -> Owner {
    let nobody = Owner { cgroup: 0, cookie: 0 };
    let Some(address) = load::<6>(ctx, at) else {
        return nobody;
    };
    let [a, b, c, d, e, f] = address;
    let key = InterfaceKey {
        address: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
        // SAFETY: a field of this program's own context.
        ifindex: u64::from(unsafe { (*ctx.skb.skb).ifindex }),
    };
    // SAFETY: the value is copied at once.
    match unsafe { OWNERS.get(key) } {
        Some(cgroup) => Owner {
            cgroup: *cgroup,
            cookie: 0,
        },
        None => nobody,
    }
}

#[inline(always)]
fn is_ip(ctx: &SkBuffContext) -> bool {
    // SAFETY: a field of this program's own context.
    matches!(unsafe { (*ctx.skb.skb).protocol }, ETH_P_IP | ETH_P_IPV6)
}

/// Sets or clears this agent's mark, and touches nothing where it stands already as it should.
#[inline(always)]
fn set_mark(ctx: &SkBuffContext, on: bool) {
    let (skb, mark) = (ctx.skb.skb, mark());
    // SAFETY: a field of this program's own context, which classifiers may write. In assembly, because the verifier wants
    // its place to stand in the instruction, and the compiler may add it up before.
    unsafe {
        let tc_index = (*skb).tc_index;
        if (tc_index & mark != 0) != on {
            asm!(
                "*(u32 *)({skb} + {at}) = {value}",
                skb = in(reg) skb,
                at = const offset_of!(__sk_buff, tc_index),
                value = in(reg) u64::from(tc_index ^ mark),
                options(nostack)
            );
        }
    }
}

#[inline(always)]
fn mark() -> u32 {
    // SAFETY: a plain global; volatile, because the loader changes it after compilation.
    unsafe { addr_of!(MARK).read_volatile() }
}

/// The packet's bytes from `from` on; `None` if there are fewer.
#[inline(always)]
pub fn load<const N: usize>(ctx: &SkBuffContext, from: u32) -> Option<[u8; N]> {
    // Not filled before: there it would be done byte by byte.
    let mut bytes = MaybeUninit::<[u8; N]>::uninit();
    // SAFETY: the helper is given this program's own context, and room for what it writes, which it then has.
    unsafe {
        let loaded = bpf_skb_load_bytes(ctx.skb.skb.cast(), from, bytes.as_mut_ptr().cast(), N as u32);
        (loaded == 0).then(|| bytes.assume_init())
    }
}
