//! The program for packets that the kernel drops before a socket has them.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::RawTracePoint;
use aya::programs::links::FdLink;
use aya::programs::raw_trace_point::RawTracePointLink;

use super::loading::take_map;
use crate::capture::Scope;
use crate::capture::pins::Pins;
use crate::config::Interfaces;
use crate::events::programs::since_boot;
use crate::events::thrown::Thrown;

/// The program, the tracepoint that it is for, and its link's pin.
const PROGRAM: &str = "packet_dropped";
const TRACEPOINT: &str = "kfree_skb";
/// The pin of the next agent's, until that one records.
const NEXT: &str = "packet_dropped-next";

/// Reasons for which a packet that an interface has left to a socket never comes to the hook on that socket. Nearly all
/// others are behind the hook, or of packets that are for no socket; what is dropped without a reason is not told.
const BEFORE_SOCKETS: [&str; 27] = [
    "NETFILTER_DROP",
    "TC_INGRESS",
    "XFRM_POLICY",
    "IP_RPFILTER",
    "IP_INNOROUTES",
    "IP_INADDRERRORS",
    "IP_LOCAL_SOURCE",
    "IP_INVALID_SOURCE",
    "IP_LOCALNET",
    "IP_INVALID_DEST",
    "UNICAST_IN_L2_MULTICAST",
    "IPV6DISABLED",
    "IP_CSUM",
    "TCP_CSUM",
    "UDP_CSUM",
    "TCP_MD5FAILURE",
    "TCP_MD5NOTFOUND",
    "TCP_MD5UNEXPECTED",
    "TCP_AUTH_HDR",
    "TCP_MINTTL",
    "IP_INHDR",
    "PKT_TOO_SMALL",
    "TCP_AOFAILURE",
    "TCP_AONOTFOUND",
    "TCP_AOUNEXPECTED",
    "TCP_AOKEYNOTFOUND",
    "PFMEMALLOC",
];

/// What the program is told before it is loaded.
pub(super) struct Told {
    pub packets: Thrown,
    /// The agent that loads it; 0 for a program that is not used.
    pub agent: u64,
}

impl Told {
    /// For a program that is not used.
    pub(super) const NOTHING: Self = Self {
        packets: Thrown::NOTHING,
        agent: 0,
    };

    fn read() -> Result<Self> {
        Ok(Self {
            packets: Thrown::read(&BEFORE_SOCKETS)?,
            agent: since_boot()?,
        })
    }
}

/// What the program is to be told in this agent; nothing where interfaces are not recorded, as all that sockets send and
/// receive is.
pub(super) fn told(scope: &Scope) -> Told {
    if scope.interfaces == Interfaces::None {
        return Told::NOTHING;
    }
    Told::read().unwrap_or_else(|error| {
        missing(&error);
        Told::NOTHING
    })
}

fn missing(error: &anyhow::Error) {
    tracing::warn!("what the kernel drops on its way to a socket is not recorded: {error:#}");
}

/// Keeps the program where it is: for as long as this lives, or until it is unpinned.
pub(super) struct Drops {
    _link: Option<RawTracePointLink>,
}

/// Attaches the program, if it was `told` anything, in the place of an earlier agent's where there is one. Where the kernel
/// refuses, a line of the log says so, and all else is recorded as ever.
pub(super) fn attach(ebpf: &mut Ebpf, told: &Told, pins: Option<&Pins>) -> Option<Drops> {
    let attached = (told.agent != 0).then(|| attach_program(ebpf, told, pins));
    let attached = attached.and_then(|attached| attached.inspect_err(missing).ok());
    if let (None, Some(pins)) = (&attached, pins) {
        // An earlier agent's would go on, for nobody.
        pins.remove(NEXT);
        pins.remove(PROGRAM);
    }
    attached
}

fn attach_program(ebpf: &mut Ebpf, told: &Told, pins: Option<&Pins>) -> Result<Drops> {
    let mut recording: Array<_, u64> = Array::try_from(take_map(ebpf, "DROPS_OF")?)?;
    let program = ebpf.program_mut(PROGRAM).context("no such program")?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    let link = program.attach(TRACEPOINT)?;
    let link = program.take_link(link)?;
    let link = match pins {
        None => Some(link),
        Some(pins) => {
            // Of an agent that ended in the middle of this.
            pins.remove(NEXT);
            FdLink::from(link).pin(pins.path(NEXT))?;
            None
        }
    };
    // One word, at which an earlier agent's program falls silent, and this one begins.
    recording.set(0, told.agent, 0)?;
    if let Some(pins) = pins {
        pins.rename(NEXT, PROGRAM)?;
    }
    Ok(Drops { _link: link })
}
