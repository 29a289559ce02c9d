//! The begin of the packet that an error speaks of (RFC 792; RFC 4443, section 2.4).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::IpNumber;

use crate::call::Value;
use crate::ip;

/// The flow of a packet that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    transport: IpNumber,
    source: IpAddr,
    destination: IpAddr,
    /// Of TCP, UDP and SCTP, if there are enough bytes.
    ports: Option<(u16, u16)>,
}

impl Quote {
    /// Reads the quoted packet: its header, and at least eight bytes of its content.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        // How much of it was left out says its own header.
        let packet = ip::decode(bytes, 0).ok()?;
        let address = |octets: [u8; 16]| {
            let address = Ipv6Addr::from(octets);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        };
        let has_ports = matches!(packet.transport, IpNumber::TCP | IpNumber::UDP | IpNumber::SCTP);
        let ports = packet
            .payload
            .first_chunk()
            .filter(|_| has_ports)
            .map(|[s0, s1, d0, d1]| (u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])));
        Some(Self {
            transport: packet.transport,
            source: address(packet.source),
            destination: address(packet.destination),
            ports,
        })
    }

    /// Transport, source and destination.
    pub fn text(&self) -> String {
        let (source, destination) = self.ends();
        format!("{} {source} -> {destination}", self.transport())
    }

    /// The same, one by one.
    pub fn fields(&self) -> [(&'static str, Value); 3] {
        let (source, destination) = self.ends();
        [
            ("icmp_about_protocol", Value::Text(self.transport().into())),
            ("icmp_about_src", Value::Text(source.into())),
            ("icmp_about_dst", Value::Text(destination.into())),
        ]
    }

    fn transport(&self) -> String {
        match self.transport {
            IpNumber::TCP => "tcp".to_owned(),
            IpNumber::UDP => "udp".to_owned(),
            IpNumber::SCTP => "sctp".to_owned(),
            IpNumber::ICMP | IpNumber::IPV6_ICMP => "icmp".to_owned(),
            IpNumber(other) => format!("ip {other}"),
        }
    }

    fn ends(&self) -> (String, String) {
        match self.ports {
            Some((source, destination)) => (
                SocketAddr::new(self.source, source).to_string(),
                SocketAddr::new(self.destination, destination).to_string(),
            ),
            None => (self.source.to_string(), self.destination.to_string()),
        }
    }
}
