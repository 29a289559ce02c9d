//! Packets inside of packets, as overlay networks send them: VXLAN, Geneve, GRE, and IP in IP.
//!
//! A tunnel over UDP is known by what it carries, not by its port: its header, then a frame, then an IP header that says
//! exactly how much is left.

use etherparse::IpNumber;

use crate::Link;
use crate::ip::Ip;
use crate::link;

/// Bytes of a UDP header.
const UDP: usize = 8;

/// Bytes of VXLAN's header (RFC 7348, section 5), and of Geneve's without options (RFC 8926, section 3.4).
const OVERLAY: usize = 8;

/// EtherType of a whole Ethernet frame (Transparent Ethernet Bridging).
const ETHERNET: u16 = 0x6558;

/// EtherTypes of IPv4 and IPv6.
const IP: [u16; 2] = [0x0800, 0x86dd];

/// Bytes that a frame may have behind what it carries: 46 is the least that Ethernet carries.
const PADDING: usize = 46;

/// Finds the IP packet that this one carries.
pub(crate) fn inner<'a>(outer: &Ip<'a>) -> Option<&'a [u8]> {
    let (link, data) = match outer.transport {
        IpNumber::UDP => overlay(outer.payload.get(UDP..)?)?,
        IpNumber::GRE => gre(outer.payload)?,
        IpNumber::IPV4 | IpNumber::IPV6 => (Link::Raw, outer.payload),
        _ => return None,
    };
    let offset = link::network(link, data).ok()?.offset;
    let data = data.get(offset..)?;
    fits(data, outer.missing as usize).then_some(data)
}

/// What stands behind the header of VXLAN or Geneve.
fn overlay(data: &[u8]) -> Option<(Link, &[u8])> {
    let header = data.first_chunk::<OVERLAY>()?;
    match *header {
        // Only the flag that says that there is a network's number; all that is reserved is zero.
        [8, 0, 0, 0, _, _, _, 0] => Some((Link::Ethernet, data.get(OVERLAY..)?)),
        // Version 0, with options of so many words; two flags; what it carries.
        [words @ 0..=0x3f, flags, t0, t1, _, _, _, 0] if flags & 0x3f == 0 => {
            let data = data.get(OVERLAY + usize::from(words) * 4..)?;
            Some((carried(u16::from_be_bytes([t0, t1]))?, data))
        }
        _ => None,
    }
}

/// What stands behind a header of GRE (RFC 2784 and 2890).
fn gre(data: &[u8]) -> Option<(Link, &[u8])> {
    let [flags, version, t0, t1] = *data.first_chunk::<4>()?;
    // Checksum, key, sequence number: four bytes each. All else must be zero.
    if flags & 0x4f != 0 || version != 0 {
        return None;
    }
    let words = 1 + (flags & 0xb0).count_ones() as usize;
    Some((carried(u16::from_be_bytes([t0, t1]))?, data.get(4 * words..)?))
}

/// How a packet of an EtherType begins.
fn carried(ether_type: u16) -> Option<Link> {
    match ether_type {
        ETHERNET => Some(Link::Ethernet),
        _ => IP.contains(&ether_type).then_some(Link::Raw),
    }
}

/// Whether an IP packet is as long as it says, given how many of its bytes were not captured.
fn fits(data: &[u8], missing: usize) -> bool {
    let word = |at: usize| {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<2>());
        bytes.map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
    };
    let declared = match data.first().map(|byte| byte >> 4) {
        Some(4) => word(2),
        Some(6) => word(4).map(|len| len + 40),
        _ => None,
    };
    let there = data.len() + missing;
    declared.is_some_and(|declared| (declared..=declared + PADDING).contains(&there))
}
