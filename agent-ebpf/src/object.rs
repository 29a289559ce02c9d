//! What each object of programs must have.

#![allow(unsafe_code, reason = "the kernel's loader finds the licence by its section")]

/// The kernel lets only programs under a GPL-compatible licence call some helpers, `bpf_ktime_get_boot_ns` among them, and
/// read its memory.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never called: the verifier refuses a program in which a panic can be reached.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
