//! The filter, run in the kernel: step by step in a loop of the kernel's own (`bpf_loop`, Linux 5.17), of which the
//! verifier looks at one step. A loop here would have it look at all of them.

#![allow(unsafe_code, reason = "the kernel calls a step by its address")]

use aya_ebpf::helpers::bpf_loop;
use wiretape_agent_ebpf::choice::Span;
use wiretape_agent_ebpf::filter::{Frame, Instruction, MAX_INSTRUCTIONS, Machine};

use crate::bytes::Source;

/// A filter at work on a packet.
struct Run<S> {
    machine: Machine,
    filter: *const [Instruction; MAX_INSTRUCTIONS],
    packet: S,
    span: Span,
    length: u32,
    passes: bool,
}

/// Whether the filter lets a packet through.
#[inline(always)]
pub fn passes<S: Source>(
    packet: &S,
    filter: &[Instruction; MAX_INSTRUCTIONS],
    span: Span,
    length: u32,
) -> bool {
    let mut run = Run {
        machine: Machine::default(),
        filter,
        packet: *packet,
        span,
        length,
        passes: false,
    };
    // SAFETY: the function is one of those that the helper calls, with the address of `run`, which lives on.
    unsafe {
        bpf_loop(
            MAX_INSTRUCTIONS as u32,
            step::<S> as *mut _,
            (&raw mut run).cast(),
            0,
        );
    }
    run.passes
}

/// One instruction; 1 ends the loop.
extern "C" fn step<S: Source>(_: u64, run: *mut Run<S>) -> u64 {
    // SAFETY: what `passes` has handed to the helper.
    let run = unsafe { &mut *run };
    let Span {
        network, ethernet, ..
    } = run.span;
    let packet = run.packet;
    let frame = Frame::new(&packet, network, ethernet, run.length);
    // SAFETY: a map's value, which the kernel lends for as long as the program runs.
    match run.machine.step(unsafe { &*run.filter }, &frame) {
        Some(passes) => {
            run.passes = passes;
            1
        }
        None => 0,
    }
}
