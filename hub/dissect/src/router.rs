//! From packets to the segments and datagrams of each shard.

use etherparse::{IpNumber, TcpHeaderSlice, TcpOptionElement};
use rustc_hash::FxHashSet;

use crate::datagram::{Datagram, Transport};
use crate::flow::{End, FlowKey};
use crate::fragments::{DatagramId, Fragments};
use crate::ip::{self, Ip};
use crate::limits::LOCAL_ADDRESSES;
use crate::link;
use crate::nat::{Ends, Translations};
use crate::segment::{Flags, Observer, Segment, Sender};
use crate::{Direction, Packet, RouterCounters};

/// Reads link, IP and transport headers, puts fragments together, and says which shard a segment or a datagram belongs
/// to.
///
/// One for all packets of a dissection, in order of time: it runs on the thread that reads.
#[derive(Default)]
pub struct Router {
    fragments: Fragments,
    locals: Locals,
    translations: Translations,
    counters: RouterCounters,
}

/// What became of a packet.
#[derive(Debug)]
pub enum Routed {
    /// A TCP segment, whose payload is in the packet.
    Segment {
        /// The shard that owns its connection.
        shard: u16,
        /// The segment; its payload is in the packet's bytes.
        segment: Segment,
    },
    /// A TCP segment that was put together from fragments.
    Owned {
        /// The shard that owns its connection.
        shard: u16,
        /// The segment; its payload is in `datagram`.
        segment: Segment,
        /// The IP datagram's payload.
        datagram: Vec<u8>,
    },
    /// A UDP datagram or an ICMP message.
    Datagram {
        /// The shard that owns its flow.
        shard: u16,
        /// The datagram.
        datagram: Datagram,
        /// The bytes that hold its payload, if it was put together from fragments; else they are the packet's.
        whole: Option<Vec<u8>>,
    },
    /// A fragment that waits for the others.
    Held,
    /// Nothing for a shard.
    Skipped(Skip),
}

/// Why a packet was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// Another transport than TCP, UDP and ICMP.
    OtherTransport,
    /// The capture cut it within its headers.
    Truncated,
    /// Its headers contradict themselves.
    Malformed,
}

impl Router {
    /// A router that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next packet.
    pub fn route(&mut self, packet: &Packet<'_>) -> Routed {
        self.counters.packets += 1;
        self.counters.bytes += packet.data.len() as u64;
        let routed = self.try_route(packet).unwrap_or_else(Routed::Skipped);
        let counters = &mut self.counters;
        match &routed {
            Routed::Segment { .. } | Routed::Owned { .. } => counters.segments += 1,
            Routed::Datagram { .. } => counters.messages += 1,
            Routed::Held => {}
            Routed::Skipped(Skip::NotIp) => counters.not_ip += 1,
            Routed::Skipped(Skip::OtherTransport) => counters.other_transport += 1,
            Routed::Skipped(Skip::Truncated) => counters.truncated += 1,
            Routed::Skipped(Skip::Malformed) => counters.malformed += 1,
        }
        routed
    }

    /// What has become of all packets so far.
    pub fn counters(&self) -> &RouterCounters {
        &self.counters
    }

    fn try_route(&mut self, packet: &Packet<'_>) -> Result<Routed, Skip> {
        let network = link::network(packet.link, packet.data)?;
        let data = packet.data.get(network.offset..).ok_or(Skip::Truncated)?;
        let cut = packet.orig_len.saturating_sub(packet.data.len() as u32);
        let ip = ip::decode(data, cut)?;
        let interface = network.interface.unwrap_or(packet.interface);
        if let Some(fragment) = ip.fragment {
            self.counters.fragments += 1;
            if ip.missing > 0 {
                return Err(Skip::Truncated);
            }
            let id = DatagramId {
                source: ip.source,
                destination: ip.destination,
                transport: ip.transport,
                id: fragment.id,
                tape: packet.tape,
                interface,
                direction: packet.direction,
            };
            let Some(datagram) =
                self.fragments
                    .add(id, fragment, ip.payload, packet.ts, packet.at, &mut self.counters)
            else {
                return Ok(Routed::Held);
            };
            let whole = Ip {
                payload: &datagram.payload,
                fragment: None,
                ..ip
            };
            if whole.transport != IpNumber::TCP {
                let mut message = self.datagram(packet, &whole, interface, &datagram.payload)?;
                message.at_first = datagram.at_first;
                return Ok(Routed::Datagram {
                    shard: message.flow.shard(),
                    datagram: message,
                    whole: Some(datagram.payload),
                });
            }
            let mut segment = self.segment(packet, &whole, interface, &datagram.payload)?;
            segment.at_first = datagram.at_first;
            return Ok(Routed::Owned {
                shard: segment.flow.shard(),
                segment,
                datagram: datagram.payload,
            });
        }
        if ip.transport != IpNumber::TCP {
            let datagram = self.datagram(packet, &ip, interface, packet.data)?;
            return Ok(Routed::Datagram {
                shard: datagram.flow.shard(),
                datagram,
                whole: None,
            });
        }
        let segment = self.segment(packet, &ip, interface, packet.data)?;
        Ok(Routed::Segment {
            shard: segment.flow.shard(),
            segment,
        })
    }

    /// Decodes the TCP header at the begin of `ip.payload`, which is a part of `data`.
    fn segment(
        &mut self,
        packet: &Packet<'_>,
        ip: &Ip<'_>,
        interface: u32,
        data: &[u8],
    ) -> Result<Segment, Skip> {
        let tcp = TcpHeaderSlice::from_slice(ip.payload).map_err(|error| match error {
            etherparse::err::tcp::HeaderSliceError::Len(_) => Skip::Truncated,
            etherparse::err::tcp::HeaderSliceError::Content(_) => Skip::Malformed,
        })?;
        let payload = ip.payload.get(tcp.slice().len()..).unwrap_or_default();
        // Where it stands in `data`: both point into the same bytes.
        let offset = (payload.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let flags = Flags(tcp.slice().get(13).copied().unwrap_or_default());
        let ends = (
            (ip.source, tcp.source_port()),
            (ip.destination, tcp.destination_port()),
        );
        let opened = (flags, tcp.sequence_number());
        let seen = (packet.ts, (packet.tape, packet.direction, interface));
        let Ends {
            source,
            destination,
            two,
        } = self.translations.ends(ends, opened, seen, &mut self.counters);
        let (flow, from) = FlowKey::new(source, destination);
        let (observer, twin) = self.observer(packet, ip, from, interface);
        let twin = twin || two;
        Ok(Segment {
            ts: packet.ts,
            at: packet.at,
            at_first: packet.at,
            cgroup: packet.cgroup,
            flow,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            len: payload.len() as u32,
            missing: ip.missing,
            observer,
            offset: u16::try_from(offset).map_err(|_| Skip::Malformed)?,
            headers: ip.header.saturating_add(tcp.slice().len() as u16),
            tape: packet.tape,
            window: tcp.window_size(),
            scale: flags.has(Flags::SYN).then(|| scale(&tcp)).flatten(),
            flags,
            from: Sender { end: from, twin },
        })
    }

    /// Decodes the UDP or ICMP header at the begin of `ip.payload`, which is a part of `data`.
    fn datagram(
        &mut self,
        packet: &Packet<'_>,
        ip: &Ip<'_>,
        interface: u32,
        data: &[u8],
    ) -> Result<Datagram, Skip> {
        let transport = Transport::of(ip.transport).ok_or(Skip::OtherTransport)?;
        let found = transport.payload(ip.payload, ip.missing)?;
        // Where it stands in `data`: both point into the same bytes.
        let offset = (found.bytes.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let (flow, from) = FlowKey::new(
            (ip.source, found.source_port),
            (ip.destination, found.destination_port),
        );
        let (observer, twin) = self.observer(packet, ip, from, interface);
        Ok(Datagram {
            ts: packet.ts,
            at: packet.at,
            at_first: packet.at,
            cgroup: packet.cgroup,
            flow,
            transport,
            len: found.bytes.len() as u32,
            missing: found.missing,
            observer,
            offset: u16::try_from(offset).map_err(|_| Skip::Malformed)?,
            headers: ip.header.saturating_add(found.header),
            tape: packet.tape,
            from: Sender { end: from, twin },
        })
    }

    /// Who saw a packet, and whether somebody else is likely to see it, too.
    fn observer(&mut self, packet: &Packet<'_>, ip: &Ip<'_>, from: End, interface: u32) -> (Observer, bool) {
        match packet.direction {
            Direction::Unknown => (Observer::Interface(interface), false),
            Direction::Out => (
                Observer::Socket(from),
                self.locals.meet(&ip.source, &ip.destination, &mut self.counters),
            ),
            Direction::In => (
                Observer::Socket(from.other()),
                self.locals.meet(&ip.destination, &ip.source, &mut self.counters),
            ),
        }
    }
}

/// The window scale option of a SYN.
fn scale(tcp: &TcpHeaderSlice<'_>) -> Option<u8> {
    tcp.options_iterator().flatten().find_map(|option| match option {
        // More than 14 is to be taken for 14 (RFC 7323, section 2.3).
        TcpOptionElement::WindowScale(shift) => Some(shift.min(14)),
        _ => None,
    })
}

/// Addresses that were seen as the local end of a socket, on whichever node.
///
/// A connection between two of them is recorded twice, even if the second recording has not begun yet: its calls are
/// worth holding for a while.
#[derive(Default)]
struct Locals {
    known: FxHashSet<[u8; 16]>,
    /// The pair that was asked for last, and the answer: packets come in runs.
    last: Option<([u8; 16], [u8; 16], bool)>,
}

impl Locals {
    /// Notes `local`, and says whether `remote` is known to be local somewhere.
    fn meet(&mut self, local: &[u8; 16], remote: &[u8; 16], counters: &mut RouterCounters) -> bool {
        match &self.last {
            Some((last_local, last_remote, true)) if last_local == local && last_remote == remote => {
                return true;
            }
            _ => {}
        }
        if self.known.len() < LOCAL_ADDRESSES {
            self.known.insert(*local);
        } else if !self.known.contains(local) {
            counters.addresses_unknown += 1;
        }
        let twin = self.known.contains(remote);
        self.last = Some((*local, *remote, twin));
        twin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_addresses_than_are_known() {
        let (mut locals, mut counters) = (Locals::default(), RouterCounters::default());
        for n in 0..5000u128 {
            assert!(!locals.meet(&n.to_be_bytes(), &[0xff; 16], &mut counters));
        }
        assert_eq!(locals.known.len(), LOCAL_ADDRESSES);
        assert_eq!(counters.addresses_unknown, 5000 - LOCAL_ADDRESSES as u64);
        assert!(locals.meet(&[0xfe; 16], &7u128.to_be_bytes(), &mut counters));
    }
}
