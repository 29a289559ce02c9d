//! From packets to the segments and datagrams of each shard.

use std::collections::VecDeque;

use etherparse::{IpNumber, TcpHeaderSlice, TcpOptionElement};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::datagram::{Datagram, Transport};
use crate::flow::{End, FlowKey};
use crate::fragments::{self, DatagramId, Fragments};
use crate::ip::{self, Ip};
use crate::limits::{HELD, LOCAL_ADDRESSES, TUNNELS};
use crate::link;
use crate::masked::Masked;
use crate::nat::{Ends, Says, Translations};
use crate::segment::{Flags, Observer, Segment, Sender};
use crate::tunnel;
use crate::{Direction, Nanos, Packet, RouterCounters};

/// Reads link, IP and transport headers, puts fragments together, looks into tunnels, and says which shard a segment or a
/// datagram belongs to.
///
/// One for all packets of a dissection, in order of time: it runs on the thread that reads.
#[derive(Default)]
pub struct Router {
    fragments: Fragments,
    locals: Locals,
    translations: Translations,
    masked: Masked,
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
    /// A UDP datagram, an ICMP message, or a packet of another transport than TCP.
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
    /// The capture cut it within its headers.
    Truncated,
    /// Its headers contradict themselves.
    Malformed,
}

/// Where a packet was seen.
#[derive(Clone, Copy)]
struct Seen {
    interface: u32,
    /// In how many tunnels.
    inside: usize,
}

/// Set in the number of an interface, as which the inside of the tunnels that pass it counts: what goes in is often
/// recorded there, too.
const INSIDE: u32 = 1 << 31;

impl Seen {
    /// Inside of what was seen here.
    fn inside(self) -> Self {
        Self {
            interface: self.interface | INSIDE,
            inside: self.inside + 1,
        }
    }
}

impl Routed {
    /// The same, with the bytes that it was found in.
    fn owning(self, found: fragments::Datagram) -> Self {
        let fragments::Datagram { payload, at_first } = found;
        match self {
            Self::Segment { shard, segment } => Self::Owned {
                shard,
                segment: Segment { at_first, ..segment },
                datagram: payload,
            },
            Self::Datagram {
                shard,
                datagram,
                whole: None,
            } => Self::Datagram {
                shard,
                datagram: Datagram { at_first, ..datagram },
                whole: Some(payload),
            },
            // Of fragments itself, inside of these.
            routed => routed,
        }
    }
}

/// The latest time that a packet may have: the year 2262, as far as tables go. Any wait can be added to it.
const LATEST: Nanos = i64::MAX as Nanos;

impl Router {
    /// A router that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, of so many tapes.
    pub fn of_tapes(tapes: usize) -> Self {
        Self {
            locals: Locals {
                several: tapes > 1,
                ..Locals::default()
            },
            ..Self::default()
        }
    }

    /// Takes the next packet. A time behind [`LATEST`] is taken for that.
    pub fn route(&mut self, packet: &Packet<'_>) -> Routed {
        self.counters.packets += 1;
        self.counters.bytes += packet.data.len() as u64;
        let sooner;
        let packet = if packet.ts > LATEST {
            sooner = Packet {
                ts: LATEST,
                ..*packet
            };
            &sooner
        } else {
            packet
        };
        let routed = self.try_route(packet).unwrap_or_else(Routed::Skipped);
        let counters = &mut self.counters;
        match &routed {
            Routed::Segment { .. } | Routed::Owned { .. } => counters.segments += 1,
            Routed::Datagram { datagram, .. } => match datagram.transport {
                Transport::Other(_) => counters.other_transport += 1,
                Transport::Udp | Transport::Icmp | Transport::Icmp6 => counters.messages += 1,
            },
            Routed::Held => {}
            Routed::Skipped(Skip::NotIp) => counters.not_ip += 1,
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
        let seen = Seen {
            interface: network.interface.unwrap_or(packet.interface),
            inside: 0,
        };
        self.ip(packet, data, cut, packet.data, seen)
    }

    /// Routes the IP packet at the begin of `data`, which is a part of `base`. `cut` is how many bytes of it were not
    /// captured.
    fn ip(
        &mut self,
        packet: &Packet<'_>,
        data: &[u8],
        cut: u32,
        base: &[u8],
        seen: Seen,
    ) -> Result<Routed, Skip> {
        let ip = ip::decode(data, cut)?;
        let Some(fragment) = ip.fragment else {
            return self.payload(packet, &ip, base, seen);
        };
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
            interface: seen.interface,
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
        let routed = self.payload(packet, &whole, &datagram.payload, seen)?;
        Ok(routed.owning(datagram))
    }

    /// Routes what an IP packet carries: if that is another one, what that carries.
    fn payload(&mut self, packet: &Packet<'_>, ip: &Ip<'_>, base: &[u8], seen: Seen) -> Result<Routed, Skip> {
        if ip.transport == IpNumber::TCP {
            let segment = self.segment(packet, ip, seen, base)?;
            return Ok(Routed::Segment {
                shard: segment.flow.shard(),
                segment,
            });
        }
        if let Some(inner) = tunnel::inner(ip) {
            if seen.inside >= TUNNELS {
                self.counters.tunnels_too_deep += 1;
            } else if let Ok(routed) = self.ip(packet, inner, ip.missing, base, seen.inside()) {
                self.counters.tunnelled += u64::from(seen.inside == 0);
                return Ok(routed);
            }
        }
        let datagram = self.datagram(packet, ip, seen, base)?;
        let shard = match datagram.transport {
            Transport::Udp => self
                .masked
                .shard(&datagram, datagram.payload(base), &mut self.counters),
            _ => datagram.flow.datagram_shard(),
        };
        Ok(Routed::Datagram {
            shard,
            datagram,
            whole: None,
        })
    }

    /// Decodes the TCP header at the begin of `ip.payload`, which is a part of `data`.
    fn segment(
        &mut self,
        packet: &Packet<'_>,
        ip: &Ip<'_>,
        seen: Seen,
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
        let says = Says {
            flags,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            stamp: flags.has(Flags::SYN).then(|| stamp(&tcp)).flatten(),
        };
        let here = (packet.ts, (packet.tape, packet.direction, seen.interface));
        let Ends {
            source,
            destination,
            two,
        } = self.translations.ends(ends, says, here, &mut self.counters);
        let (flow, from) = FlowKey::on_tape(source, destination, packet.tape);
        let (observer, twin) = self.observer(packet, ip, from, seen);
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

    /// Decodes the header of any other transport at the begin of `ip.payload`, which is a part of `data`.
    fn datagram(
        &mut self,
        packet: &Packet<'_>,
        ip: &Ip<'_>,
        seen: Seen,
        data: &[u8],
    ) -> Result<Datagram, Skip> {
        let transport = Transport::of(ip.transport);
        let found = transport.payload(ip.payload, ip.missing)?;
        // Where it stands in `data`: both point into the same bytes.
        let offset = (found.bytes.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let (flow, from) = FlowKey::on_tape(
            (ip.source, found.source_port),
            (ip.destination, found.destination_port),
            packet.tape,
        );
        let (observer, twin) = self.observer(packet, ip, from, seen);
        Ok(Datagram {
            ts: packet.ts,
            at: packet.at,
            at_first: packet.at,
            cgroup: packet.cgroup,
            flow,
            transport,
            ident: ip.ident,
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
    fn observer(&mut self, packet: &Packet<'_>, ip: &Ip<'_>, from: End, seen: Seen) -> (Observer, bool) {
        match packet.direction {
            // In a tunnel, the local end is that of the tunnel.
            _ if seen.inside > 0 => (Observer::Interface(seen.interface), false),
            Direction::Unknown => (Observer::Interface(seen.interface), false),
            Direction::Out => (
                Observer::Socket(from),
                self.locals
                    .meet([&ip.source, &ip.destination], packet.ts, &mut self.counters),
            ),
            Direction::In => (
                Observer::Socket(from.other()),
                self.locals
                    .meet([&ip.destination, &ip.source], packet.ts, &mut self.counters),
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

/// The time in the timestamp option of a SYN.
fn stamp(tcp: &TcpHeaderSlice<'_>) -> Option<u32> {
    tcp.options_iterator().flatten().find_map(|option| match option {
        TcpOptionElement::Timestamp(stamp, _) => Some(stamp),
        _ => None,
    })
}

/// Addresses that were seen as the local end of a socket, on whichever node.
///
/// A connection between two of them is recorded twice, even if the second recording has not begun yet: its calls are
/// worth holding for a while. So are those with an address that was met only now: if its own node's clock is behind, all that
/// it recorded is still to come.
#[derive(Default)]
struct Locals {
    /// Whether there are several tapes, whose clocks may be apart.
    several: bool,
    known: FxHashSet<[u8; 16]>,
    /// Those that were met as the other end only, and when first.
    strangers: FxHashMap<[u8; 16], Nanos>,
    /// The same, the oldest first.
    oldest: VecDeque<[u8; 16]>,
    /// What was asked for last, and the answer: packets come in runs.
    last: Option<Met>,
}

/// Two ends, and whether the remote one may be recorded, too.
struct Met {
    local: [u8; 16],
    remote: [u8; 16],
    twin: bool,
    /// Until when that holds.
    until: Nanos,
}

impl Locals {
    /// Notes the local end, and says whether the remote one is known to be local somewhere, or may be.
    fn meet(&mut self, [local, remote]: [&[u8; 16]; 2], now: Nanos, counters: &mut RouterCounters) -> bool {
        if let Some(last) = &self.last
            && (&last.local, &last.remote) == (local, remote)
            && now < last.until
        {
            return last.twin;
        }
        if self.known.len() < LOCAL_ADDRESSES {
            self.known.insert(*local);
        } else if !self.known.contains(local) {
            counters.addresses_unknown += 1;
        }
        let (twin, until) = if self.known.contains(remote) {
            (true, Nanos::MAX)
        } else {
            let until = self
                .since(remote, now, counters)
                .map(|since| since.saturating_add(HELD));
            until
                .filter(|until| now < *until)
                .map_or((false, Nanos::MAX), |until| (true, until))
        };
        self.last = Some(Met {
            local: *local,
            remote: *remote,
            twin,
            until,
        });
        twin
    }

    /// Since when a remote address is known that was not met as a local one, where that says anything.
    fn since(&mut self, remote: &[u8; 16], now: Nanos, counters: &mut RouterCounters) -> Option<Nanos> {
        if !self.several {
            return None;
        }
        if let Some(since) = self.strangers.get(remote) {
            return Some(*since);
        }
        if self.strangers.len() >= LOCAL_ADDRESSES {
            let oldest = self.oldest.front().and_then(|oldest| self.strangers.get(oldest));
            if oldest.is_some_and(|since| now < since.saturating_add(HELD)) {
                // As if nothing came of it, so that a crowd of clients does not keep all its calls waiting.
                counters.addresses_unknown += 1;
                return None;
            }
            if let Some(oldest) = self.oldest.pop_front() {
                self.strangers.remove(&oldest);
            }
        }
        self.strangers.insert(*remote, now);
        self.oldest.push_back(*remote);
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_addresses_than_are_known() {
        let (mut locals, mut counters) = (Locals::default(), RouterCounters::default());
        for n in 0..5000u128 {
            assert!(!locals.meet([&n.to_be_bytes(), &[0xff; 16]], 7, &mut counters));
        }
        assert_eq!(locals.known.len(), LOCAL_ADDRESSES);
        assert_eq!(counters.addresses_unknown, 5000 - LOCAL_ADDRESSES as u64);
        assert!(locals.meet([&[0xfe; 16], &7u128.to_be_bytes()], 7, &mut counters));
    }

    #[test]
    fn of_several_tapes_the_other_end_may_be_recorded_until_it_could_have_been_met() {
        let (mut locals, mut counters) = (Locals::default(), RouterCounters::default());
        let (here, there) = ([1; 16], [2; 16]);
        let mut meet = |ends: [&[u8; 16]; 2], now| locals.meet(ends, now, &mut counters);
        assert!(!meet([&here, &there], 7));
        let (mut locals, mut counters) = (Locals::default(), RouterCounters::default());
        locals.several = true;
        let mut meet = |ends: [&[u8; 16]; 2], now| locals.meet(ends, now, &mut counters);
        assert!(meet([&here, &there], 7) && meet([&here, &there], 6 + HELD));
        assert!(!meet([&here, &there], 7 + HELD) && !meet([&here, &there], 8 + HELD));
        // It was met after all, by a clock that is further away.
        assert!(meet([&there, &here], 9 + HELD) && meet([&here, &there], 9 + HELD));
    }

    #[test]
    fn more_strangers_at_a_time_than_are_waited_for() {
        let (mut locals, mut counters) = (Locals::default(), RouterCounters::default());
        locals.several = true;
        let limit = LOCAL_ADDRESSES as u128;
        for n in 0..limit + 5 {
            let waits = locals.meet([&[0xff; 16], &n.to_be_bytes()], 7, &mut counters);
            assert_eq!(waits, n < limit, "{n}");
        }
        assert_eq!(counters.addresses_unknown, 5);
        // Their time is over, and so there is room for others.
        assert!(locals.meet([&[0xff; 16], &[3; 16]], 7 + HELD, &mut counters));
        assert_eq!(
            (locals.strangers.len(), locals.oldest.len()),
            (LOCAL_ADDRESSES, LOCAL_ADDRESSES)
        );
    }
}
