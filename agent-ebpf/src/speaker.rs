//! Which of two agents speaks: at a tracepoint, the programs of an earlier one run beside those of the next for a moment.

#![allow(
    unsafe_code,
    reason = "maps' values and globals set by the loader are reached through pointers"
)]

use core::ptr::addr_of;

use aya_ebpf::maps::Array;

/// The number of the agent that loads this. Set by the loader.
#[unsafe(no_mangle)]
static AGENT: u64 = 0;

/// Whether it is this one: its number stands in the only entry of `word`, which the two share.
#[inline(always)]
pub fn speaks(word: &Array<u64>) -> bool {
    // SAFETY: a plain global; volatile, because the loader changes it after compilation.
    let own = unsafe { addr_of!(AGENT).read_volatile() };
    word.get(0).is_some_and(|speaks| {
        // SAFETY: a live value; volatile, because the agent changes it.
        unsafe { core::ptr::from_ref(speaks).read_volatile() == own }
    })
}
