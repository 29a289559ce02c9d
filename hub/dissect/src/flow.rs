//! Connections by their addresses.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Index, IndexMut};

use crate::limits::SHARDS;

/// Address and port, as a packet has them.
pub(crate) type Place = ([u8; 16], u16);

/// One end of a connection, in the order of addresses and ports, which says nothing of client and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum End {
    /// The end with the lower address, or with the lower port where both are the same.
    #[default]
    Low,
    /// The other.
    High,
}

impl End {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::Low, Self::High];

    /// The end across.
    pub fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

/// The same thing for each end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends<T> {
    /// The low end's.
    pub low: T,
    /// The high end's.
    pub high: T,
}

impl<T> Ends<T> {
    /// That of an end, and that of the other.
    pub fn pair_mut(&mut self, end: End) -> (&mut T, &mut T) {
        match end {
            End::Low => (&mut self.low, &mut self.high),
            End::High => (&mut self.high, &mut self.low),
        }
    }
}

impl<T> Index<End> for Ends<T> {
    type Output = T;

    fn index(&self, end: End) -> &T {
        match end {
            End::Low => &self.low,
            End::High => &self.high,
        }
    }
}

impl<T> IndexMut<End> for Ends<T> {
    fn index_mut(&mut self, end: End) -> &mut T {
        match end {
            End::Low => &mut self.low,
            End::High => &mut self.high,
        }
    }
}

/// Addresses and ports of a connection, the same for both of its directions; and the tape, where both addresses are its node's own
/// (127.0.0.0/8, `::1`): every node has these, and what is said between them stays on it. Several network namespaces of one node are
/// not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// IPv4 addresses in their IPv6-mapped form (RFC 4291, section 2.5.5.2).
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
    /// 0 for what may be seen on any tape, else one more than the tape's number.
    node: u32,
    /// Of the above; it is asked for several times a packet.
    mixed: u64,
}

impl FlowKey {
    /// The key of a packet, and the end that sent it.
    pub fn new(source: ([u8; 16], u16), destination: ([u8; 16], u16)) -> (Self, End) {
        Self::of_node(source, destination, 0)
    }

    /// The same of a packet of this tape.
    pub(crate) fn on_tape(source: Place, destination: Place, tape: u16) -> (Self, End) {
        let own = is_loopback(source.0) && is_loopback(destination.0);
        Self::of_node(source, destination, if own { u32::from(tape) + 1 } else { 0 })
    }

    /// The same addresses and ports, on whichever node.
    #[must_use]
    pub fn anywhere(self) -> Self {
        if self.node == 0 {
            return self;
        }
        Self {
            node: 0,
            mixed: mixed(&self.addresses, self.ports, 0),
            ..self
        }
    }

    fn of_node(source: Place, destination: Place, node: u32) -> (Self, End) {
        // As numbers, for bytes are compared by a call.
        let order = |(address, port): ([u8; 16], u16)| (u128::from_be_bytes(address), port);
        let (from, low, high) = if order(source) <= order(destination) {
            (End::Low, source, destination)
        } else {
            (End::High, destination, source)
        };
        let (addresses, ports) = ([low.0, high.0], [low.1, high.1]);
        let mixed = mixed(&addresses, ports, node);
        let key = Self {
            addresses,
            ports,
            node,
            mixed,
        };
        (key, from)
    }

    /// Address and port of an end.
    pub fn address(&self, end: End) -> SocketAddr {
        let ([low, high], [low_port, high_port]) = (self.addresses, self.ports);
        let (address, port) = match end {
            End::Low => (low, low_port),
            End::High => (high, high_port),
        };
        let bits = u128::from_be_bytes(address);
        let address = if bits >> u32::BITS == MAPPED {
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        };
        SocketAddr::new(address, port)
    }

    /// Port of an end.
    pub fn port(&self, end: End) -> u16 {
        let [low, high] = self.ports;
        match end {
            End::Low => low,
            End::High => high,
        }
    }

    /// Whether both ends are the same, so that who sent a packet cannot be told.
    pub fn is_loop(&self) -> bool {
        let ([low, high], [low_port, high_port]) = (&self.addresses, self.ports);
        low == high && low_port == high_port
    }

    /// The end that is taken for the client's where no handshake tells: the one with the higher port. `None` where both have
    /// the same one, or there are no ports.
    pub fn caller(&self) -> Option<End> {
        let [low, high] = self.ports;
        match low.cmp(&high) {
            Ordering::Less => Some(End::High),
            Ordering::Equal => None,
            Ordering::Greater => Some(End::Low),
        }
    }

    /// Address and port of that end.
    pub(crate) fn caller_place(&self) -> Option<Place> {
        let n = match self.caller()? {
            End::Low => 0,
            End::High => 1,
        };
        Some((*self.addresses.get(n)?, *self.ports.get(n)?))
    }

    /// A hash that is the same on every machine and in every version: calls are named by it.
    pub fn mixed(&self) -> u64 {
        self.mixed
    }

    /// The shard that owns the connection.
    pub fn shard(&self) -> u16 {
        shard(self.mixed())
    }

    /// The shard that owns the flow, if it is one of datagrams: the same for all flows of a client's port, so that both sides
    /// of a call to a service are in one.
    pub fn datagram_shard(&self) -> u16 {
        let Some((address, port)) = self.caller_place() else {
            return self.shard();
        };
        shard(mixed(&[address, [0; 16]], [port, 0], 0))
    }
}

/// The shard of what has this hash.
fn shard(mixed: u64) -> u16 {
    // The upper bits are the better mixed ones.
    ((mixed >> 32) % SHARDS as u64) as u16
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.mixed());
    }
}

/// What stands before an IPv4 address in its mapped form.
const MAPPED: u128 = 0xffff;

/// Whether an address is the node's own: 127.0.0.0/8 (RFC 1122, section 3.2.1.3), `::1`.
fn is_loopback(address: [u8; 16]) -> bool {
    let bits = u128::from_be_bytes(address);
    bits == 1 || bits >> 24 == MAPPED << 8 | 127
}

fn mixed(addresses: &[[u8; 16]; 2], ports: [u16; 2], node: u32) -> u64 {
    let mut hash = u64::from(node) << 32 | u64::from(ports[0]) << 16 | u64::from(ports[1]);
    for address in addresses {
        let address = u128::from_be_bytes(*address);
        hash = mix(hash ^ (address >> 64) as u64);
        hash = mix(hash ^ address as u64);
    }
    hash
}

/// One round of a 64-bit mixer: multiplication carries to the upper bits, the shift brings them back down. The factor
/// is 2^64 divided by the golden ratio.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> [u8; 16] {
        std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets()
    }

    #[test]
    fn both_directions_have_one_key() {
        let (there, from) = FlowKey::new((v4(9), 40000), (v4(2), 80));
        let (back, to) = FlowKey::new((v4(2), 80), (v4(9), 40000));
        assert_eq!(there, back);
        assert_eq!((from, to), (End::High, End::Low));
        assert_eq!(there.address(from).to_string(), "10.0.0.9:40000");
        assert_eq!(there.shard(), back.shard());
    }

    #[test]
    fn what_a_node_says_to_itself_is_its_own() {
        let own = std::net::Ipv4Addr::new(127, 0, 0, 53).to_ipv6_mapped().octets();
        let six = std::net::Ipv6Addr::LOCALHOST.octets();
        for (source, destination) in [(own, own), (six, six), (own, v4(1))] {
            let key = |tape| FlowKey::on_tape((source, 40000), (destination, 53), tape).0;
            assert_eq!(key(0) == key(1), destination == v4(1));
            assert_eq!(key(0).mixed() == key(1).mixed(), destination == v4(1));
            let back = FlowKey::on_tape((destination, 53), (source, 40000), 1);
            assert_eq!(key(1), back.0);
        }
        assert_eq!(
            FlowKey::on_tape((v4(1), 1), (v4(2), 2), 7),
            FlowKey::new((v4(1), 1), (v4(2), 2))
        );
    }

    #[test]
    fn connections_of_one_pair_spread_over_all_shards() {
        let mut met = [0; SHARDS];
        for port in 32768..60000 {
            let (key, _) = FlowKey::new((v4(1), port), (v4(2), 80));
            met[usize::from(key.shard())] += 1;
        }
        let even = (60000 - 32768) / SHARDS;
        assert!(met.iter().all(|n| (even / 2..even * 2).contains(n)), "{met:?}");
    }

    #[test]
    fn flows_of_a_clients_port_are_in_one_shard_and_its_ports_in_all() {
        let mut met = [0; SHARDS];
        for port in 32768..60000 {
            let shard = |server| FlowKey::new((v4(5), port), server).0.datagram_shard();
            assert_eq!(shard((v4(1), 53)), shard((v4(9), 5353)));
            met[usize::from(shard((v4(1), 53)))] += 1;
        }
        let even = (60000 - 32768) / SHARDS;
        assert!(met.iter().all(|n| (even / 2..even * 2).contains(n)), "{met:?}");
    }
}
