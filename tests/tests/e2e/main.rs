//! End to end: real agents, the real hub, real traffic between network namespaces, and parties that are not ours.
//!
//! These tests need root and eBPF; without, each says so and passes. The programs are those of the release folder:
//! `cargo build --release` first (`cargo xtask test` does).

mod tools;

mod segments;

mod page;

mod nginx;

mod crashes;

mod bad_input;

mod cleanup;
