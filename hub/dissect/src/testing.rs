//! Captures made in memory, for tests here and in the hub: connections as two sockets would have sent them.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use etherparse::PacketBuilder;

use crate::{
    Call, ConnectionRecord, Counters, Direction, Link, Nanos, Packet, Routed, Router, RouterCounters, SHARDS,
    Segment, Shard,
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
        record(&mut self.packets, self.now, data);
        self.now += self.step;
        self
    }

    /// What was said, in turns.
    pub fn said(&self) -> Vec<(Who, Vec<u8>)> {
        let mut said: Vec<(Who, Vec<u8>)> = Vec::new();
        for packet in &self.packets {
            let Some(segment) = segment(packet) else { continue };
            let who = if segment.flow.address(segment.from.end) == self.client {
                Who::Client
            } else {
                Who::Server
            };
            let payload = segment.payload(&packet.data);
            match said.last_mut() {
                Some((last, bytes)) if *last == who => bytes.extend_from_slice(payload),
                _ => said.push((who, payload.to_vec())),
            }
        }
        said
    }

    /// A stretch of what was said, of any numbers: where it is `joined` late, the begin of it; else a part of one turn, so
    /// that only one direction has a gap.
    pub fn stretch(&self, from: usize, len: usize, joined: bool) -> Range<usize> {
        let turns = self.said();
        let all: usize = turns.iter().map(|(_, bytes)| bytes.len()).sum();
        if joined {
            return 0..len % all + 1;
        }
        let start = from % all;
        let mut end = 0;
        for (_, bytes) in turns {
            end += bytes.len();
            if end > start {
                break;
            }
        }
        start.max(1)..start + 1 + len % (end - start)
    }

    /// The same said again, in segments of so many bytes, all at one time. A range of the bytes, as they are counted over
    /// both directions, is missing in the recording; where it begins with the first one, so is the handshake.
    pub fn again_without(&self, missing: Range<usize>, mss: usize) -> Vec<Recorded> {
        let mut again = Self { mss, ..Self::usual() };
        again.step = 0;
        again.handshake();
        if missing.start == 0 {
            again.packets.clear();
        }
        let mut begin = 0;
        for (who, bytes) in self.said() {
            let at = |n: usize| n.saturating_sub(begin).min(bytes.len());
            let (before, rest) = bytes.split_at(at(missing.start));
            let (lost, after) = rest.split_at(at(missing.end) - before.len());
            again.send(who, before);
            let recorded = again.packets.len();
            again.send(who, lost);
            again.packets.truncate(recorded);
            again.send(who, after);
            begin += bytes.len();
        }
        again.packets
    }

    /// The same packets as a socket saw them, on its own node.
    pub fn seen_by(&self, who: Who, tape: u16, delay: Nanos) -> Vec<Recorded> {
        let local = match who {
            Who::Client => self.client,
            Who::Server => self.server,
        };
        let sent = |packet: &Recorded| {
            segment(packet).is_some_and(|segment| segment.flow.address(segment.from.end) == local)
        };
        seen(&self.packets, sent, tape, delay)
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

    /// DNS: a question for the address of a name, and the answer, which lives for half a minute: aliases from each name to
    /// the next, and the address of the last.
    pub fn resolve(&mut self, names: &[&str], address: [u8; 4]) -> &mut Self {
        let labels = |name: &str| -> Vec<u8> {
            let labels = name.split('.').map(str::as_bytes);
            let labels = labels.flat_map(|label| [&[label.len() as u8], label].concat());
            labels.chain([0]).collect()
        };
        let question = [labels(names[0]).as_slice(), &[0, 1, 0, 1]].concat();
        let record = |owner: &str, kind: u8, data: &[u8]| {
            let head = [0, kind, 0, 1, 0, 0, 0, 30, 0, data.len() as u8];
            [labels(owner).as_slice(), &head, data].concat()
        };
        let aliases = names.windows(2).map(|pair| record(pair[0], 5, &labels(pair[1])));
        let last = record(names[names.len() - 1], 1, &address);
        let records: Vec<u8> = aliases.chain([last]).flatten().collect();
        self.ask([&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], question.as_slice()].concat());
        let head = [0, 7, 0x81, 0x80, 0, 1, 0, names.len() as u8, 0, 0, 0, 0];
        self.answer([head.as_slice(), &question, &records].concat())
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
        record(&mut self.packets, self.now, data);
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
        seen(&self.packets, sent, tape, delay)
    }
}

/// A packet of a capture without directions, Raw link.
pub fn record(packets: &mut Vec<Recorded>, ts: Nanos, data: Vec<u8>) {
    packets.push(Recorded {
        ts,
        orig_len: data.len() as u32,
        data,
        link: Link::Raw,
        direction: Direction::Unknown,
        tape: 0,
        interface: 0,
        cgroup: 0,
        at: packets.len() as u64,
    });
}

/// Packets as the socket of one end saw them, given which of them it `sent`.
fn seen(packets: &[Recorded], sent: impl Fn(&Recorded) -> bool, tape: u16, delay: Nanos) -> Vec<Recorded> {
    let seen = packets.iter().map(|packet| Recorded {
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

/// The TCP segment in a packet.
fn segment(packet: &Recorded) -> Option<Segment> {
    match Router::new().route(&packet.packet()) {
        Routed::Segment { segment, .. } | Routed::Owned { segment, .. } => Some(segment),
        _ => None,
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
    let packets: Vec<&Recorded> = packets.into_iter().collect();
    let tapes: HashSet<u16> = packets.iter().map(|packet| packet.tape).collect();
    let mut router = Router::of_tapes(tapes.len());
    let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::new()).collect();
    let mut dissected = Dissected::default();
    let mut ends = vec![0; tapes.iter().max().map_or(0, |last| usize::from(*last) + 1)];
    for packet in packets {
        if let Some(end) = ends.get_mut(usize::from(packet.tape)) {
            *end = packet.ts.max(*end);
        }
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
        shard.finish(&ends, &mut dissected.calls);
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
