//! Differences that are explained, with who is right. `docs/conformance.md` is written from this table.

use crate::compare::Difference;

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// We are.
    Ours,
    /// The oracle is.
    Theirs,
    /// Each in its own way.
    Both,
}

impl Right {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Both => "both",
        }
    }
}

/// Differences of one field in one capture, or in all of them.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The protocol.
    pub protocol: &'static str,
    /// The oracle.
    pub oracle: &'static str,
    /// The capture.
    pub file: &'static str,
    /// The field; with `*` at its end, all that begin so.
    pub field: &'static str,
    /// Who is right.
    pub right: Right,
    /// Why it is so.
    pub why: &'static str,
}

impl Known {
    /// Whether it speaks of a difference.
    pub fn explains(&self, difference: &Difference) -> bool {
        let field = match self.field.strip_suffix('*') {
            Some(begin) => difference.field.starts_with(begin),
            None => difference.field == self.field,
        };
        let of = (difference.protocol, difference.oracle, difference.file.as_str());
        field && of == (self.protocol, self.oracle, self.file)
    }
}

/// All of them, in the order of the tables.
pub const KNOWN: &[Known] = &[
    Known {
        protocol: "http1",
        oracle: "tshark",
        file: "client-ip.pcap",
        field: "message",
        right: Right::Ours,
        why: "Of the request's body a part is missing, and tshark shows a message only when it has all of it; the first lines and header fields are in the capture.",
    },
    Known {
        protocol: "http1",
        oracle: "tshark",
        file: "istio-tcp-frag.pcap",
        field: "message",
        right: Right::Ours,
        why: "Of the response only the first line was captured. tshark shows nothing; ours is the status, marked as having a gap.",
    },
    Known {
        protocol: "http1",
        oracle: "tshark",
        file: "communityid.pcap.gz",
        field: "response header date",
        right: Right::Both,
        why: "The capture cut each packet after 96 bytes, here within the field: tshark shows half a date as if it were one; ours is marked as having a gap.",
    },
    Known {
        protocol: "http1",
        oracle: "tshark",
        file: "tcp-badsegments.pcap",
        field: "message",
        right: Right::Both,
        why: "Made of segments that contradict each other, with holes. Ours is what can be read, marked as having a gap.",
    },
    Known {
        protocol: "http2",
        oracle: "deepflow",
        file: "grpc-unary.pcap",
        field: "response outcome",
        right: Right::Ours,
        why: "Theirs is that of the HTTP status. A call of gRPC without a `grpc-status` is not known to have succeeded.",
    },
    Known {
        protocol: "http2",
        oracle: "deepflow",
        file: "grpc-unknown.pcap",
        field: "response outcome",
        right: Right::Ours,
        why: "The same.",
    },
    Known {
        protocol: "grpc",
        oracle: "tshark",
        file: "grpc-server-stream.pcap",
        field: "message",
        right: Right::Both,
        why: "Bytes of the response are not in the capture: tshark counts the messages before them, we count none in that direction.",
    },
    Known {
        protocol: "grpc",
        oracle: "tshark",
        file: "grpc-unary.pcap",
        field: "message",
        right: Right::Both,
        why: "The response's message is not whole in the capture: tshark counts whole ones, we count those that have begun.",
    },
    Known {
        protocol: "grpc",
        oracle: "tshark",
        file: "grpc_stream_reassembly_sample.pcapng.gz",
        field: "message",
        right: Right::Both,
        why: "The capture ends in the middle of a message: the same.",
    },
    Known {
        protocol: "grpc",
        oracle: "tshark",
        file: "grpc-unknown.pcap",
        field: "message",
        right: Right::Ours,
        why: "Joined late, the content's type cannot be known; ours is known as gRPC by other fields, and DeepFlow calls it so, too.",
    },
    Known {
        protocol: "dns",
        oracle: "deepflow",
        file: "nxdomain.pcap",
        field: "response outcome",
        right: Right::Ours,
        why: "NXDOMAIN. It calls the same code an error in the first exchange of this file and in `dns.result`.",
    },
    Known {
        protocol: "postgresql",
        oracle: "tshark",
        file: "prepare_stat.pcap",
        field: "message",
        right: Right::Ours,
        why: "Two packets of two exchanges, and what was between them is not in the capture: nothing says that the completion is not in the middle of a row. The statement's name is on its call; tshark shows it with the statement.",
    },
    Known {
        protocol: "postgresql",
        oracle: "deepflow",
        file: "pgsql-all.pcap",
        field: "message",
        right: Right::Ours,
        why: "Two statements that it does not recognise as such; tshark has them as we do.",
    },
    Known {
        protocol: "redis",
        oracle: "tshark",
        file: "redis.pcap",
        field: "message",
        right: Right::Ours,
        why: "A value of 490 kB: tshark does not put it together; DeepFlow has the reply as we do.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "http.pcap",
        field: "connection completeness",
        right: Right::Ours,
        why: "tshark 4.0 leaves out the first segment of a connection that it has joined late; here it is the only one.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "httpv2-stream-id.pcap",
        field: "connection completeness",
        right: Right::Ours,
        why: "The same.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "many_interfaces.pcapng.2",
        field: "connection completeness",
        right: Right::Ours,
        why: "The same.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "tcp-syn-ack-zerowin.pcap",
        field: "connection completeness",
        right: Right::Ours,
        why: "The same.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "http-ooo.pcap",
        field: "connection completeness",
        right: Right::Both,
        why: "tshark counts no FIN without ACK. None is allowed, but the sender has closed.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "out-of-order.pcap",
        field: "direction *",
        right: Right::Ours,
        why: "The SYN's answer is recorded before the SYN, whereupon tshark forgets it: so the ACK of it measures nothing.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "out-of-order.pcap",
        field: "connection completeness",
        right: Right::Ours,
        why: "The same: a SYN was seen.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "syn-syn-ack-retrans-2.pcap",
        field: "direction *",
        right: Right::Ours,
        why: "A repeated SYN acknowledges nothing, but tshark takes the zero in its place for an acknowledgement, and forgets the first SYN-ACK.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "tcp-n-syn-ack.pcap",
        field: "*",
        right: Right::Both,
        why: "SYN-ACKs of four different numbers, and nothing else. A connection has one number: with us they are four connections, with tshark one.",
    },
    Known {
        protocol: "tcp",
        oracle: "tshark",
        file: "xiangdao-retrans.pcap",
        field: "*",
        right: Right::Ours,
        why: "The packets are cut to 66 bytes, and the file says that they were no longer. tshark believes it; we believe the IP header.",
    },
];
