//! The filter, run in the kernel: step by step in a loop of the kernel's own (`bpf_loop`, Linux 5.17), of which the
//! verifier looks at one step. A loop here would have it look at all of them.

#![allow(unsafe_code, reason = "the kernel calls a step by its address")]

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_loop;
use aya_ebpf::programs::SkBuffContext;
use wiretape_agent_ebpf::choice::Span;
use wiretape_agent_ebpf::filter::{Frame, Instruction, MAX_INSTRUCTIONS, Machine};
use wiretape_agent_ebpf::headers::Bytes;

use crate::bytes::load;

/// A filter at work on a packet.
struct Run {
    machine: Machine,
    filter: *const [Instruction; MAX_INSTRUCTIONS],
    skb: *mut __sk_buff,
    span: Span,
    length: u32,
    passes: bool,
}

/// Whether the filter lets a packet through.
#[inline(always)]
pub fn passes(
    ctx: &SkBuffContext,
    filter: &[Instruction; MAX_INSTRUCTIONS],
    span: Span,
    length: u32,
) -> bool {
    let mut run = Run {
        machine: Machine::default(),
        filter,
        skb: ctx.skb.skb,
        span,
        length,
        passes: false,
    };
    // SAFETY: the function is one of those that the helper calls, with the address of `run`, which lives on.
    unsafe {
        bpf_loop(MAX_INSTRUCTIONS as u32, step as *mut _, (&raw mut run).cast(), 0);
    }
    run.passes
}

/// One instruction; 1 ends the loop.
extern "C" fn step(_: u64, run: *mut Run) -> u64 {
    // SAFETY: what `passes` has handed to the helper.
    let run = unsafe { &mut *run };
    let Span {
        network, ethernet, ..
    } = run.span;
    let bytes = Skb(SkBuffContext::new(run.skb));
    let frame = Frame::new(&bytes, network, ethernet, run.length);
    // SAFETY: a map's value, which the kernel lends for as long as the program runs.
    match run.machine.step(unsafe { &*run.filter }, &frame) {
        Some(passes) => {
            run.passes = passes;
            1
        }
        None => 0,
    }
}

struct Skb(SkBuffContext);

impl Bytes for Skb {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        load(&self.0, at)
    }
}
