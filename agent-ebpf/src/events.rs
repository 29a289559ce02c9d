//! The kernel programs of events: processes, sockets, and packets that are thrown away. What they hand over is in the library of this package.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod kernel;

#[cfg(target_arch = "bpf")]
mod processes;

#[cfg(target_arch = "bpf")]
mod sockets;

#[cfg(target_arch = "bpf")]
mod dropped;

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
