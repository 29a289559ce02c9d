//! Which of the kernel's reasons to throw a packet away are events.

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

#[cfg(test)]
mod tests {
    use wiretape_tape::DropReason;

    use super::*;

    #[test]
    fn every_reason_that_is_told_has_words() {
        for name in TOLD {
            assert_eq!(DropReason::of(name).name(), name);
        }
    }
}
