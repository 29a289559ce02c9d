//! From a packet's first byte to its IP header.

use crate::{Link, Skip};

/// What a link header says of the packet behind it.
pub(crate) struct Network {
    /// Where the IP header begins.
    pub offset: usize,
    /// The interface that the header itself names.
    pub interface: Option<u32>,
}

/// EtherTypes (IEEE 802 numbers).
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
const QINQ_OLD: u16 = 0x9100;

/// Tags of a frame. Two are standard (802.1ad), a third is met where a provider carries a customer's two.
const TAGS: usize = 3;

/// Finds the IP header.
pub(crate) fn network(link: Link, data: &[u8]) -> Result<Network, Skip> {
    let at = |offset, interface| Ok(Network { offset, interface });
    match link {
        Link::Raw => at(0, None),
        Link::Ethernet => at(ip_behind(data, 12)?, None),
        // Packet type, ARPHRD, address length, address; then the EtherType at 14.
        Link::Sll => at(ip_behind(data, 14)?, None),
        // EtherType, reserved, interface index, ARPHRD, packet type, address length, address: 20 bytes.
        Link::Sll2 => {
            let interface = u32::from(word(data, 4)?) << 16 | u32::from(word(data, 6)?);
            match word(data, 0)? {
                IPV4 | IPV6 => at(20, Some(interface)),
                VLAN | QINQ | QINQ_OLD => at(ip_behind(data, 18 + 4)?, Some(interface)),
                _ => Err(Skip::NotIp),
            }
        }
        // The address family is in the byte order of the writer and differs between systems (AF_INET is 2, AF_INET6
        // is 10, 24, 28 or 30); the IP version in the next byte says the same.
        Link::Null => at(4, None),
    }
}

/// Follows VLAN tags from the EtherType at `offset`.
fn ip_behind(data: &[u8], mut offset: usize) -> Result<usize, Skip> {
    for _ in 0..=TAGS {
        match word(data, offset)? {
            IPV4 | IPV6 => return Ok(offset + 2),
            VLAN | QINQ | QINQ_OLD => offset += 4,
            _ => return Err(Skip::NotIp),
        }
    }
    Err(Skip::NotIp)
}

/// The 16-bit number at `offset`, in network order.
fn word(data: &[u8], offset: usize) -> Result<u16, Skip> {
    let bytes = data.get(offset..).and_then(|rest| rest.first_chunk::<2>());
    bytes
        .map(|bytes| u16::from_be_bytes(*bytes))
        .ok_or(Skip::Truncated)
}
