//! The kernel that runs, as the programs of packets and those of events meet it: [`btf`] says where it keeps things, [`thrown`]
//! what of them the programs need for packets that it throws away, [`tracepoint`] puts a program in place of an earlier agent's,
//! [`pins`] keeps it there for the next one, and [`attached`] says whether it is still there.

pub mod btf;

pub mod thrown;

#[cfg(ebpf_programs)]
pub mod tracepoint;

pub mod pins;

pub mod attached;
