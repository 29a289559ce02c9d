//! End to end: real agents, the real hub, real traffic between network namespaces, and parties that are not ours.
//!
//! Where eBPF cannot run they record by libpcap, and those about eBPF say so and pass; so do all, where there are no
//! namespaces (root, or a user namespace, in which `cargo xtask test` runs them without root). The programs are those
//! of the release folder: `cargo build --release` first (`cargo xtask test` does).

mod tools;

mod segments;

mod page;

mod walkthrough;

mod replaced;

mod nginx;

mod firewall;

mod live;

mod crashes;

mod bad_input;

mod cleanup;

mod rootless;
