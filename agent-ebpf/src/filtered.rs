//! The programs of `main.rs` for kernels that can run the filter, in an agent that has one: the same but for that.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod packets;

#[cfg(target_arch = "bpf")]
mod filtering;

#[cfg(target_arch = "bpf")]
mod interfaces;

/// The kernel lets only programs under a GPL-compatible licence call some helpers, `bpf_ktime_get_boot_ns`
/// among them.
#[cfg(target_arch = "bpf")]
#[allow(unsafe_code, reason = "the kernel's loader finds the licence by its section")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never called: the verifier refuses a program in which a panic can be reached.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On any other target the programs are not built; this lets `cargo build --workspace` pass.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("the kernel programs are built by the build script of wiretape-agent, for bpfel-unknown-none");
}
