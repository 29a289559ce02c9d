//! A UDP datagram, an ICMP message or a packet of another transport, without its bytes.

use std::borrow::Cow;

use etherparse::IpNumber;

use crate::flow::FlowKey;
use crate::segment::{Observer, Sender};
use crate::{Nanos, Skip};

/// A datagram as the [`Router`](crate::Router) found it: everything but its bytes, small enough to be copied to another
/// thread.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// When it was seen.
    pub ts: Nanos,
    /// Where its packet is; the last one's when it came in fragments.
    pub at: u64,
    /// Where its first fragment is; `at` when it was not fragmented.
    pub at_first: u64,
    /// Id of the local socket's cgroup; 0 when unknown.
    pub cgroup: u64,
    /// Its addresses and ports; where there are no ports, as in ICMP, these are zeros.
    pub flow: FlowKey,
    /// What carried it.
    pub transport: Transport,
    /// What its sender has called it, and translators leave alone: the identification of IPv4, the flow label of IPv6. Or 0.
    pub ident: u32,
    /// Captured bytes of payload. But for UDP, that is all that IP carries, headers included.
    pub len: u32,
    /// Bytes of payload at its end that the capture cut.
    pub missing: u32,
    /// Who saw it, within the tape.
    pub observer: Observer,
    /// Where the payload begins in the packet's (or the datagram's) bytes.
    pub offset: u16,
    /// Bytes of its IP and UDP headers.
    pub headers: u16,
    /// Which tape it is from.
    pub tape: u16,
    /// Who sent it.
    pub from: Sender,
}

/// What carries datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP (RFC 768).
    Udp,
    /// ICMP (RFC 792).
    Icmp,
    /// ICMPv6 (RFC 4443).
    Icmp6,
    /// Any other, by its number (IANA's protocol numbers).
    Other(u8),
}

/// What stands in a datagram's header.
pub(crate) struct Found<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    /// Bytes of the header that is no part of `bytes`.
    pub header: u16,
    pub bytes: &'a [u8],
    pub missing: u32,
}

/// Bytes of a UDP header: ports, length, checksum.
const UDP_HEADER: usize = 8;

impl Datagram {
    /// The payload, given the packet's bytes (or the datagram's, if it was put together from fragments).
    pub fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.offset);
        let end = start.saturating_add(self.len as usize);
        data.get(start..end).unwrap_or_default()
    }

    /// Bytes on the wire, from the IP header on.
    pub fn wire_len(&self) -> u64 {
        u64::from(self.headers) + u64::from(self.len) + u64::from(self.missing)
    }
}

impl Transport {
    /// The transport of a protocol number.
    pub(crate) fn of(number: IpNumber) -> Self {
        match number {
            IpNumber::UDP => Self::Udp,
            IpNumber::ICMP => Self::Icmp,
            IpNumber::IPV6_ICMP => Self::Icmp6,
            IpNumber(other) => Self::Other(other),
        }
    }

    /// As stored and shown: its name, or `ip_` and its number.
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmpv6",
            Self::Other(2) => "igmp",
            Self::Other(4) => "ipip",
            Self::Other(33) => "dccp",
            Self::Other(41) => "ipv6",
            Self::Other(46) => "rsvp",
            Self::Other(47) => "gre",
            Self::Other(50) => "esp",
            Self::Other(51) => "ah",
            Self::Other(88) => "eigrp",
            Self::Other(89) => "ospf",
            Self::Other(103) => "pim",
            Self::Other(112) => "vrrp",
            Self::Other(115) => "l2tp",
            Self::Other(132) => "sctp",
            Self::Other(136) => "udplite",
            Self::Other(number) => return Cow::Owned(format!("ip_{number}")),
        })
    }

    /// Whether it has ports, right at its begin.
    fn has_ports(self) -> bool {
        matches!(self, Self::Udp | Self::Other(33 | 132 | 136))
    }

    /// Reads the header at the begin of an IP datagram's payload, of which `missing` bytes were not captured.
    pub(crate) fn payload(self, bytes: &[u8], missing: u32) -> Result<Found<'_>, Skip> {
        if self != Self::Udp {
            let ports = bytes.first_chunk::<4>().filter(|_| self.has_ports());
            let [s0, s1, d0, d1] = ports.copied().unwrap_or_default();
            return Ok(Found {
                source_port: u16::from_be_bytes([s0, s1]),
                destination_port: u16::from_be_bytes([d0, d1]),
                header: 0,
                bytes,
                missing,
            });
        }
        let header = bytes.first_chunk::<UDP_HEADER>().ok_or(Skip::Truncated)?;
        let [s0, s1, d0, d1, l0, l1, _, _] = *header;
        let payload = bytes.get(UDP_HEADER..).unwrap_or_default();
        // Segmentation offload leaves zero or the length of all segments; what the IP header has more is padding.
        let declared = usize::from(u16::from_be_bytes([l0, l1]));
        let len = match declared.checked_sub(UDP_HEADER) {
            Some(len) => len.min(payload.len()),
            None if declared == 0 => payload.len(),
            None => return Err(Skip::Malformed),
        };
        Ok(Found {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            header: UDP_HEADER as u16,
            bytes: payload.get(..len).unwrap_or_default(),
            missing,
        })
    }
}
