//! Each packet once: what the programs of the hooks and those of the interfaces know of each other's work.

#![allow(
    unsafe_code,
    reason = "helpers and the context are reached through pointers, globals are set by the loader"
)]

use core::arch::asm;
use core::mem::offset_of;
use core::ptr::addr_of;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_cgroup_id};
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::SkBuffContext;
use wiretape_agent_ebpf::MAX_INTERFACES;

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

/// Whether the kernel itself sends this: by a raw socket under the root of the hierarchy.
#[inline(always)]
pub fn is_kernels_own(ctx: &SkBuffContext) -> bool {
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
pub fn socket(ctx: &SkBuffContext) -> *mut bpf_sock {
    // SAFETY: a field of this program's own context.
    unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk }
}

/// Sets or clears this agent's mark, and touches nothing where it stands already as it should.
#[inline(always)]
pub fn set_mark(ctx: &SkBuffContext, on: bool) {
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
pub fn mark() -> u32 {
    // SAFETY: a plain global; volatile, because the loader changes it after compilation.
    unsafe { addr_of!(MARK).read_volatile() }
}
