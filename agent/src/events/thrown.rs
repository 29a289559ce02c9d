//! What the programs are told of packets that the kernel throws away, before they are loaded: which reasons are asked for, and
//! where this kernel keeps a packet.

use std::fs;

use anyhow::{Context, Result, ensure};
use wiretape_agent_ebpf::{DROP_REASONS, packet_layout as place};
use wiretape_tape::DropReason;

use super::layout;

/// Reasons that tell who looks for a failure something. Left out are those that are nobody's fault (a segment came twice), that
/// its sender is told of (nobody listens), and that every network is full of (frames for others).
pub const TOLD: [&str; 36] = [
    "NETFILTER_DROP",
    "XDP",
    "TC_INGRESS",
    "TC_EGRESS",
    "BPF_CGROUP_EGRESS",
    "SOCKET_FILTER",
    "SECURITY_HOOK",
    "XFRM_POLICY",
    "IP_RPFILTER",
    "IP_INNOROUTES",
    "IP_OUTNOROUTES",
    "IP_LOCAL_SOURCE",
    "IP_INVALID_SOURCE",
    "IP_LOCALNET",
    "IP_INVALID_DEST",
    "NEIGH_CREATEFAIL",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "PKT_TOO_BIG",
    "QDISC_DROP",
    "QDISC_OVERLIMIT",
    "QDISC_CONGESTED",
    "FULL_RING",
    "CPU_BACKLOG",
    "SOCKET_RCVBUFF",
    "SOCKET_BACKLOG",
    "PROTO_MEM",
    "NOMEM",
    "TCP_LISTEN_OVERFLOW",
    "IP_CSUM",
    "TCP_CSUM",
    "UDP_CSUM",
    "TCP_MD5FAILURE",
    "TCP_MD5NOTFOUND",
    "TCP_MD5UNEXPECTED",
    "TCP_AUTH_HDR",
];

/// What the kernel's reasons begin with.
const PREFIX: &str = "SKB_DROP_REASON_";

/// See the module.
#[derive(Debug)]
pub struct Thrown {
    /// Our number of each of the kernel's reasons; 0 for those that are not asked for.
    pub reasons: [u8; DROP_REASONS],
    /// By the places of `packet_layout`.
    pub layout: [u32; place::FIELDS],
}

impl Thrown {
    /// For programs that are not used.
    pub const NOTHING: Self = Self {
        reasons: [0; DROP_REASONS],
        layout: [0; place::FIELDS],
    };

    /// Reads it from the kernel's description of its types, for these reasons.
    ///
    /// # Errors
    /// When there is no such description, or the kernel has no reasons (before Linux 5.17).
    pub fn read(asked: &[&str]) -> Result<Self> {
        let btf = fs::read(layout::KERNEL).with_context(|| format!("no {}", layout::KERNEL))?;
        let mut reasons = [0; DROP_REASONS];
        for (name, number) in layout::values(&btf, "skb_drop_reason")? {
            let name = name.strip_prefix(PREFIX).unwrap_or_default();
            if let (true, Some(reason)) = (asked.contains(&name), reasons.get_mut(number as usize)) {
                *reason = DropReason::of(name).number();
            }
        }
        ensure!(
            reasons.iter().any(|reason| *reason != 0),
            "this kernel does not say why it drops a packet (Linux 5.17 does; what firewalls drop, 5.18)"
        );
        let fields = [
            (place::HEAD, ("sk_buff", "head")),
            (place::DATA, ("sk_buff", "data")),
            (place::LENGTH, ("sk_buff", "len")),
            (place::ELSEWHERE, ("sk_buff", "data_len")),
            (place::NETWORK, ("sk_buff", "network_header")),
            (place::PROTOCOL, ("sk_buff", "protocol")),
            (place::TC_INDEX, ("sk_buff", "tc_index")),
            (place::RECEIVED_BY, ("sk_buff", "skb_iif")),
            (place::INTERFACE, ("sk_buff", "dev")),
            (place::INTERFACE_INDEX, ("net_device", "ifindex")),
            (place::INTERFACE_ADDRESS, ("net_device", "dev_addr")),
            (place::SOCKET, ("sk_buff", "sk")),
            (place::SOCKET_STATE, ("sock_common", "skc_state")),
        ];
        let offsets = layout::offsets(&btf, fields.map(|(_, field)| field))?;
        let mut layout = [0; place::FIELDS];
        for ((at, _), offset) in fields.into_iter().zip(offsets) {
            if let Some(place) = layout.get_mut(at) {
                *place = offset;
            }
        }
        Ok(Self { reasons, layout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_is_told_has_words() {
        for name in TOLD {
            assert_eq!(DropReason::of(name).name(), name);
        }
    }
}
