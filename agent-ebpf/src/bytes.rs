//! A packet's bytes, as every program reads them.

#![allow(
    unsafe_code,
    reason = "the helper is reached through a pointer, and fills memory"
)]

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;

/// The length of an Ethernet header. The loader attaches to interfaces that have one.
pub const ETHERNET_BYTES: u32 = 14;

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
