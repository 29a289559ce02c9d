//! Captures made in memory, for tests here and in the hub: connections as two sockets would have sent them.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

use crate::{
    Call, ConnectionRecord, Counters, Direction, Link, Nanos, Packet, Routed, Router, RouterCounters, SHARDS,
    Shard,
};

/// A packet that owns its bytes.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// See [`Packet::ts`].
    pub ts: Nanos,
    /// See [`Packet::data`].
    pub data: Vec<u8>,
    /// See [`Packet::orig_len`].
    pub orig_len: u32,
    /// See [`Packet::link`].
    pub link: Link,
    /// See [`Packet::direction`].
    pub direction: Direction,
    /// See [`Packet::tape`].
    pub tape: u16,
    /// See [`Packet::interface`].
    pub interface: u32,
    /// See [`Packet::cgroup`].
    pub cgroup: u64,
    /// See [`Packet::at`].
    pub at: u64,
}

impl Recorded {
    /// The packet, borrowed.
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            ts: self.ts,
            data: &self.data,
            orig_len: self.orig_len,
            link: self.link,
            direction: self.direction,
            tape: self.tape,
            interface: self.interface,
            cgroup: self.cgroup,
            at: self.at,
        }
    }
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The end that connects.
    Client,
    /// The end that accepts.
    Server,
}

/// A TCP connection that is being talked over. Its packets are those of a capture without directions, Raw link.
#[derive(Clone, Debug)]
pub struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    /// Next sequence number of each.
    client_seq: u32,
    server_seq: u32,
    /// Time of the next packet, and from one to the next.
    pub now: Nanos,
    /// From one packet to the next.
    pub step: Nanos,
    /// Most bytes of payload in a packet.
    pub mss: usize,
    /// What was sent so far.
    pub packets: Vec<Recorded>,
}

impl Talk {
    /// A connection between two addresses, at a time, with initial sequence numbers.
    pub fn new(client: &str, server: &str, now: Nanos, isns: (u32, u32)) -> Self {
        Self {
            client: client.parse().expect("an address of the test"),
            server: server.parse().expect("an address of the test"),
            client_seq: isns.0,
            server_seq: isns.1,
            now,
            step: 1000,
            mss: 1460,
            packets: Vec::new(),
        }
    }

    /// The usual one: 10.0.0.1:40000 to 10.0.0.2:80.
    pub fn usual() -> Self {
        Self::new(
            "10.0.0.1:40000",
            "10.0.0.2:80",
            1_700_000_000_000_000_000,
            (1000, 5000),
        )
    }

    /// SYN, SYN and ACK, ACK.
    pub fn handshake(&mut self) -> &mut Self {
        self.push(Who::Client, Bits::SYN, &[]);
        self.push(Who::Server, Bits::SYN_ACK, &[]);
        self.push(Who::Client, Bits::ACK, &[])
    }

    /// Data, in as many packets as it takes.
    pub fn send(&mut self, who: Who, bytes: &[u8]) -> &mut Self {
        for part in bytes.chunks(self.mss) {
            self.push(who, Bits::ACK, part);
        }
        self
    }

    /// Data of the client.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.send(Who::Client, bytes.as_ref())
    }

    /// Data of the server.
    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.send(Who::Server, bytes.as_ref())
    }

    /// A packet without data.
    pub fn ack(&mut self, who: Who) -> &mut Self {
        self.push(who, Bits::ACK, &[])
    }

    /// FIN of both ends, the server's first, and the last ACK.
    pub fn close(&mut self) -> &mut Self {
        self.push(Who::Server, Bits::FIN, &[]);
        self.push(Who::Client, Bits::FIN, &[]);
        self.push(Who::Server, Bits::ACK, &[])
    }

    /// A reset.
    pub fn reset(&mut self, who: Who) -> &mut Self {
        self.push(who, Bits::RST, &[])
    }

    fn push(&mut self, who: Who, bits: Bits, payload: &[u8]) -> &mut Self {
        let (from, to, seq, ack) = match who {
            Who::Client => (self.client, self.server, &mut self.client_seq, self.server_seq),
            Who::Server => (self.server, self.client, &mut self.server_seq, self.client_seq),
        };
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
            _ => panic!("a connection has addresses of one kind"),
        };
        let mut builder = builder.tcp(from.port(), to.port(), *seq, 64240);
        if bits.syn {
            builder = builder.syn();
        }
        if bits.ack {
            builder = builder.ack(ack);
        }
        if bits.fin {
            builder = builder.fin();
        }
        if bits.rst {
            builder = builder.rst();
        }
        let mut data = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut data, payload).expect("a packet that fits");
        *seq = seq.wrapping_add(payload.len() as u32 + u32::from(bits.syn) + u32::from(bits.fin));
        self.packets.push(Recorded {
            ts: self.now,
            orig_len: data.len() as u32,
            data,
            link: Link::Raw,
            direction: Direction::Unknown,
            tape: 0,
            interface: 0,
            cgroup: 0,
            at: self.packets.len() as u64,
        });
        self.now += self.step;
        self
    }

    /// The same packets as a socket saw them, on its own node.
    pub fn seen_by(&self, who: Who, tape: u16, delay: Nanos) -> Vec<Recorded> {
        let local = match who {
            Who::Client => self.client,
            Who::Server => self.server,
        };
        let sent = |packet: &Recorded| {
            let (Routed::Segment { segment, .. } | Routed::Owned { segment, .. }) =
                Router::new().route(&packet.packet())
            else {
                return false;
            };
            segment.flow.address(segment.from.end) == local
        };
        let seen = self.packets.iter().map(|packet| Recorded {
            ts: packet.ts + delay,
            direction: if sent(packet) {
                Direction::Out
            } else {
                Direction::In
            },
            tape,
            cgroup: 100 + u64::from(tape),
            at: 1000 * (u64::from(tape) + 1) + packet.at,
            ..packet.clone()
        });
        seen.collect()
    }
}

/// Datagrams that go to and fro between two addresses and ports. Its packets are those of a capture without directions,
/// Raw link.
#[derive(Clone, Debug)]
pub struct Chat {
    client: SocketAddr,
    server: SocketAddr,
    /// Time of the next packet.
    pub now: Nanos,
    /// From one packet to the next.
    pub step: Nanos,
    /// What was sent so far.
    pub packets: Vec<Recorded>,
}

impl Chat {
    /// Between two addresses, at a time.
    pub fn new(client: &str, server: &str, now: Nanos) -> Self {
        Self {
            client: client.parse().expect("an address of the test"),
            server: server.parse().expect("an address of the test"),
            now,
            step: 1000,
            packets: Vec::new(),
        }
    }

    /// The usual one: 10.0.0.1:40000 to 10.0.0.2:53.
    pub fn usual() -> Self {
        Self::new("10.0.0.1:40000", "10.0.0.2:53", 1_700_000_000_000_000_000)
    }

    /// A datagram of the client.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let (from, to) = (self.client, self.server);
        self.push(from, to, bytes.as_ref())
    }

    /// A datagram of the server.
    pub fn answer(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let (from, to) = (self.server, self.client);
        self.push(from, to, bytes.as_ref())
    }

    /// An ICMP message of an end: type, code and everything behind, the checksum left out.
    pub fn icmp(&mut self, who: Who, message: &[u8]) -> &mut Self {
        let (from, to) = match who {
            Who::Client => (self.client, self.server),
            Who::Server => (self.server, self.client),
        };
        let mut data = Vec::new();
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else {
            panic!("an IPv4 address of the test");
        };
        PacketBuilder::ipv4(source.octets(), destination.octets(), 64)
            .write(&mut data, etherparse::IpNumber::ICMP, message)
            .expect("a packet that fits");
        self.record(data)
    }

    fn push(&mut self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> &mut Self {
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
            _ => panic!("a flow has addresses of one kind"),
        };
        let builder = builder.udp(from.port(), to.port());
        let mut data = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut data, payload).expect("a packet that fits");
        self.record(data)
    }

    fn record(&mut self, data: Vec<u8>) -> &mut Self {
        self.packets.push(Recorded {
            ts: self.now,
            orig_len: data.len() as u32,
            data,
            link: Link::Raw,
            direction: Direction::Unknown,
            tape: 0,
            interface: 0,
            cgroup: 0,
            at: self.packets.len() as u64,
        });
        self.now += self.step;
        self
    }

    /// The same packets as a socket saw them, on its own node.
    pub fn seen_by(&self, who: Who, tape: u16, delay: Nanos) -> Vec<Recorded> {
        let local = match who {
            Who::Client => self.client,
            Who::Server => self.server,
        };
        let sent = |packet: &Recorded| match Router::new().route(&packet.packet()) {
            Routed::Datagram { datagram, .. } => datagram.flow.address(datagram.from.end).ip() == local.ip(),
            _ => false,
        };
        let seen = self.packets.iter().map(|packet| Recorded {
            ts: packet.ts + delay,
            direction: if sent(packet) {
                Direction::Out
            } else {
                Direction::In
            },
            tape,
            cgroup: 100 + u64::from(tape),
            at: 1000 * (u64::from(tape) + 1) + packet.at,
            ..packet.clone()
        });
        seen.collect()
    }
}

#[derive(Clone, Copy, Default)]
struct Bits {
    syn: bool,
    ack: bool,
    fin: bool,
    rst: bool,
}

impl Bits {
    const ACK: Self = Self {
        syn: false,
        ack: true,
        fin: false,
        rst: false,
    };
    const SYN: Self = Self {
        syn: true,
        ack: false,
        ..Self::ACK
    };
    const SYN_ACK: Self = Self {
        syn: true,
        ..Self::ACK
    };
    const FIN: Self = Self {
        fin: true,
        ..Self::ACK
    };
    const RST: Self = Self {
        rst: true,
        ..Self::ACK
    };
}

/// What came out of a dissection.
#[derive(Clone, Debug, Default)]
pub struct Dissected {
    /// Calls, by connection, in order.
    pub calls: Vec<Call>,
    /// Connections, in order of time.
    pub connections: Vec<ConnectionRecord>,
    /// All shards' counters.
    pub counters: Counters,
    /// The router's.
    pub router: RouterCounters,
}

/// Dissects packets in the order they are given.
pub fn dissect<'a>(packets: impl IntoIterator<Item = &'a Recorded>) -> Dissected {
    let mut router = Router::new();
    let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::new()).collect();
    let mut dissected = Dissected::default();
    for packet in packets {
        match router.route(&packet.packet()) {
            Routed::Segment { shard, segment } => {
                let payload = segment.payload(&packet.data);
                if let Some(shard) = shards.get_mut(usize::from(shard)) {
                    shard.segment(&segment, payload, &mut dissected.calls);
                }
            }
            Routed::Owned {
                shard,
                segment,
                datagram,
            } => {
                let payload = segment.payload(&datagram);
                if let Some(shard) = shards.get_mut(usize::from(shard)) {
                    shard.segment(&segment, payload, &mut dissected.calls);
                }
            }
            Routed::Datagram {
                shard,
                datagram,
                whole,
            } => {
                let payload = datagram.payload(whole.as_deref().unwrap_or(&packet.data));
                if let Some(shard) = shards.get_mut(usize::from(shard)) {
                    shard.datagram(&datagram, payload, &mut dissected.calls);
                }
            }
            Routed::Held | Routed::Skipped(_) => {}
        }
    }
    for shard in &mut shards {
        shard.finish(&mut dissected.calls);
        dissected.connections.extend(shard.connections());
        dissected.counters.merge(shard.counters());
    }
    dissected
        .connections
        .sort_by_key(|connection| (connection.times, connection.stream));
    dissected.router = router.counters().clone();
    dissected
        .calls
        .sort_by_key(|call| (call.observation().map(|o| o.start()), call.stream, call.index));
    dissected
}
