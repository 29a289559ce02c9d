//! What this process and the programs both read and write, as aya may copy it.

use aya::Pod;
use wiretape_agent_ebpf::choice::{Choices, Rule};
use wiretape_agent_ebpf::{Exclusion, Handover, KernelCounters};

/// [`KernelCounters`] as aya may read them.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Counters(pub(super) KernelCounters);

// SAFETY: `u64`s only, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for Counters {}

/// [`Handover`] as aya may read and write it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Word(pub(super) Handover);

// SAFETY: nothing but `u64`, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for Word {}

/// [`Exclusion`] as aya may write it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Excluded(pub(super) Exclusion);

// SAFETY: a `u64` and two `u32`, no padding, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for Excluded {}

/// [`Choices`] as aya may write it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Chosen(pub(super) Choices);

// SAFETY: integers without padding between them, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for Chosen {}

/// [`Rule`] as aya may write it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct CgroupRule(pub(super) Rule);

// SAFETY: two `u32`, any bytes are a value.
#[expect(unsafe_code, reason = "aya asks for the promise that any bytes are a value")]
unsafe impl Pod for CgroupRule {}
