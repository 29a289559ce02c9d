//! The program for packets that the kernel drops before a socket has them.

use anyhow::Result;
use aya::Ebpf;

use crate::capture::Scope;
use crate::config::Interfaces;
use crate::kernel::btf::{self, Types};
use crate::kernel::pins::Pins;
use crate::kernel::thrown::Thrown;
use crate::kernel::tracepoint::{self, Attached};

/// The program, which is its pin's name, too, and the tracepoint that it is for.
const PROGRAM: &str = "packet_dropped";
const TRACEPOINT: &str = "kfree_skb";

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
            packets: Thrown::find(&Types::parse(&btf::of_kernel()?)?, &BEFORE_SOCKETS)?,
            agent: tracepoint::agent_number()?,
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

/// Attaches the program, if it was `told` anything, in the place of an earlier agent's where there is one. Where the kernel
/// refuses, a line of the log says so, and all else is recorded as ever.
pub(super) fn attach(ebpf: &mut Ebpf, told: &Told, pins: Option<&Pins>) -> Option<Attached> {
    let attached = (told.agent != 0).then(|| begin(ebpf, told, pins));
    let attached = attached.and_then(|attached| attached.inspect_err(missing).ok());
    if let (None, Some(pins)) = (&attached, pins) {
        tracepoint::let_go(pins, PROGRAM);
    }
    attached
}

fn begin(ebpf: &mut Ebpf, told: &Told, pins: Option<&Pins>) -> Result<Attached> {
    let attached = Attached::attach(ebpf, PROGRAM, TRACEPOINT, PROGRAM, pins)?;
    tracepoint::speak(ebpf, "DROPS_OF", told.agent)?;
    if let Some(pins) = pins {
        attached.settle(pins)?;
    }
    Ok(attached)
}
