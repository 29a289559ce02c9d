//! The programs of `main.rs` for kernels that can run the filter, in an agent that has one: the same but for that.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod bytes;

#[cfg(target_arch = "bpf")]
mod once;

#[cfg(target_arch = "bpf")]
mod packets;

#[cfg(target_arch = "bpf")]
mod filtering;

#[cfg(target_arch = "bpf")]
mod interfaces;

#[cfg(target_arch = "bpf")]
mod undelivered;

#[cfg(target_arch = "bpf")]
mod skb;

#[cfg(target_arch = "bpf")]
mod speaker;

#[cfg(target_arch = "bpf")]
mod object;

/// On any other target the programs are not built; this lets `cargo build --workspace` pass.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("the kernel programs are built by the build script of wiretape-agent, for bpfel-unknown-none");
}
