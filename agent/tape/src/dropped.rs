//! Why the kernel threw a packet away.

use std::num::NonZeroU8;

/// Why the kernel threw a packet away: a name of its `enum skb_drop_reason`, without `SKB_DROP_REASON_`. The kernel's numbers
/// differ from version to version, so the tape has the name; what is here is the agent's own number of it, which an agent and the
/// programs that an earlier one has left must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropReason(NonZeroU8);

/// The names, each with what it means to who looks for a failure. Those that say nothing a packet would not say by itself
/// (nobody listens, a segment came twice) are not among them. New ones go to the end, so that numbers stay.
const REASONS: [(&str, &str); 48] = [
    ("other", "for a reason that this version does not know"),
    ("NETFILTER_DROP", "by a rule of netfilter (iptables, nftables)"),
    ("XDP", "by an XDP program"),
    ("TC_INGRESS", "by a traffic control program, on the way in"),
    ("TC_EGRESS", "by a traffic control program, on the way out"),
    ("BPF_CGROUP_EGRESS", "by an eBPF program of the sender's cgroup"),
    ("SOCKET_FILTER", "by a filter of the receiver's socket or cgroup"),
    ("SECURITY_HOOK", "by a security module"),
    ("XFRM_POLICY", "by an IPsec policy"),
    ("IP_RPFILTER", "as its source is not reached that way (rp_filter)"),
    ("IP_INNOROUTES", "as there is no route to its target"),
    ("IP_OUTNOROUTES", "as there is no route to its target"),
    ("IP_INADDRERRORS", "as its addresses are not accepted here"),
    ("IP_LOCAL_SOURCE", "as its source is an address of this machine"),
    ("IP_INVALID_SOURCE", "as its source is no sender's address"),
    ("IP_LOCALNET", "as it is for the loopback network"),
    ("IP_INVALID_DEST", "as its target is no receiver's address"),
    ("UNICAST_IN_L2_MULTICAST", "as it came in a frame for many"),
    ("IPV6DISABLED", "as IPv6 is disabled here"),
    ("NEIGH_CREATEFAIL", "as the table of neighbours has no room"),
    (
        "NEIGH_FAILED",
        "as its next hop does not answer (ARP, neighbour discovery)",
    ),
    ("NEIGH_QUEUEFULL", "as too many wait for its next hop to answer"),
    ("PKT_TOO_BIG", "as it is longer than the way allows (MTU)"),
    ("QDISC_DROP", "by the queue of the interface"),
    ("QDISC_OVERLIMIT", "as the queue of the interface is full"),
    (
        "QDISC_CONGESTED",
        "by the queue of the interface, which is congested",
    ),
    ("FULL_RING", "as the queue of the interface is full"),
    (
        "CPU_BACKLOG",
        "as the queue of the processor is full (netdev_max_backlog)",
    ),
    (
        "SOCKET_RCVBUFF",
        "as the receiver's buffer is full: it does not read fast enough",
    ),
    (
        "SOCKET_BACKLOG",
        "as the receiver's backlog is full: it does not read fast enough",
    ),
    (
        "PROTO_MEM",
        "as the protocol's memory is used up (tcp_mem, udp_mem)",
    ),
    ("NOMEM", "for want of memory"),
    (
        "TCP_LISTEN_OVERFLOW",
        "as the server's queue of new connections is full: it does not accept fast enough",
    ),
    ("IP_CSUM", "as its checksum is wrong"),
    ("TCP_CSUM", "as its checksum is wrong"),
    ("UDP_CSUM", "as its checksum is wrong"),
    ("TCP_MD5FAILURE", "as its signature is wrong (TCP MD5)"),
    ("TCP_MD5NOTFOUND", "as it is not signed (TCP MD5)"),
    (
        "TCP_MD5UNEXPECTED",
        "as it is signed, which nobody expects (TCP MD5)",
    ),
    ("TCP_AUTH_HDR", "as its signature is broken (TCP)"),
    ("TCP_MINTTL", "as it comes from too far away (TTL)"),
    ("IP_INHDR", "as its IP header is broken"),
    ("PKT_TOO_SMALL", "as it is shorter than its headers say"),
    ("TCP_AOFAILURE", "as its signature is wrong (TCP-AO)"),
    ("TCP_AONOTFOUND", "as it is not signed (TCP-AO)"),
    (
        "TCP_AOUNEXPECTED",
        "as it is signed, which nobody expects (TCP-AO)",
    ),
    (
        "TCP_AOKEYNOTFOUND",
        "as nobody knows the key of its signature (TCP-AO)",
    ),
    ("PFMEMALLOC", "as memory is so short that it is kept for others"),
];

impl DropReason {
    /// Any that has no number here.
    pub const OTHER: Self = Self(NonZeroU8::MIN);

    /// The reason of this name.
    pub fn of(name: &str) -> Self {
        Self::all()
            .find(|reason| reason.name() == name)
            .unwrap_or(Self::OTHER)
    }

    /// All that have a number.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=u8::MAX).take(REASONS.len()).filter_map(Self::numbered)
    }

    /// The reason that has this number in this process.
    pub fn numbered(number: u8) -> Option<Self> {
        let number = NonZeroU8::new(number)?;
        (usize::from(number.get()) <= REASONS.len()).then_some(Self(number))
    }

    /// Its number in this process: 1 and more.
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// The kernel's word for it; `other` for one that has no number here.
    pub fn name(self) -> &'static str {
        self.entry().0
    }

    /// What it means, behind "dropped".
    pub fn meaning(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (&'static str, &'static str) {
        let [other, ..] = REASONS;
        let at = usize::from(self.number()) - 1;
        REASONS.get(at).copied().unwrap_or(other)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_is_found_by_its_name_and_by_its_number() {
        let all: Vec<_> = DropReason::all().collect();
        assert_eq!(all.len(), REASONS.len());
        for reason in &all {
            assert_eq!(DropReason::of(reason.name()), *reason);
            assert_eq!(DropReason::numbered(reason.number()), Some(*reason));
        }
        let names: HashSet<_> = all.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), all.len());
        // An agent that is upgraded reads what the one before has left in the ring.
        let numbers = [
            "other",
            "NETFILTER_DROP",
            "TCP_MD5FAILURE",
            "PKT_TOO_SMALL",
            "PFMEMALLOC",
        ];
        let numbers = numbers.map(|name| DropReason::of(name).number());
        assert_eq!(numbers, [1, 2, 37, 43, 48]);
        assert_eq!(DropReason::of("SOMETHING_NEW"), DropReason::OTHER);
        assert_eq!(DropReason::numbered(0), None);
        assert_eq!(DropReason::numbered(u8::MAX), None);
    }
}
