//! A packet's bytes, as every program reads them.

#![allow(unsafe_code, reason = "helpers are reached through pointers, and fill memory")]

use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use wiretape_agent_ebpf::headers::Bytes;

/// The length of an Ethernet header. The loader attaches to interfaces that have one.
pub const ETHERNET_BYTES: u32 = 14;

/// A packet, wherever a program has it from.
pub trait Source: Bytes + Copy {
    /// Its length.
    fn len(&self) -> u32;

    /// How many of its first bytes can be read at most.
    fn readable(&self) -> u32;

    /// Index of the interface that it is at.
    fn ifindex(&self) -> u32;

    /// Copies so many bytes, which is not 0, from `from` on; says whether that was possible.
    ///
    /// # Safety
    /// There is room for them at `to`.
    unsafe fn copy(&self, from: u32, to: *mut u8, bytes: u32) -> bool;
}

/// The packet that a program was called for.
#[derive(Clone, Copy)]
pub struct Given(*mut __sk_buff);

impl Given {
    /// Of this context.
    #[inline(always)]
    pub fn of(ctx: &SkBuffContext) -> Self {
        Self(ctx.skb.skb)
    }
}

impl Bytes for Given {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        // Not filled before: there it would be done byte by byte.
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper is given this program's own context, and room for what it writes, which it then has.
        unsafe {
            let loaded = bpf_skb_load_bytes(self.0.cast(), at, bytes.as_mut_ptr().cast(), N as u32);
            (loaded == 0).then(|| bytes.assume_init())
        }
    }
}

impl Source for Given {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: a field of this program's own context, here and below.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn readable(&self) -> u32 {
        u32::MAX
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    unsafe fn copy(&self, from: u32, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: the helper is given this program's own context, and room, as the caller promises.
        unsafe { bpf_skb_load_bytes(self.0.cast(), from, to.cast(), bytes) == 0 }
    }
}
