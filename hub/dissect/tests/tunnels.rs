//! Packets inside of packets, and those of transports that are not dissected.

use etherparse::{IpNumber, PacketBuilder};
use wiretape_dissect::Direction;
use wiretape_dissect::testing::{Chat, Dissected, Recorded, Talk, dissect, record};

/// Where a node's end of a tunnel is.
const NODES: [[u8; 4]; 2] = [[192, 168, 0, 1], [192, 168, 0, 2]];

/// What a tunnel puts before a packet, and what carries that.
#[derive(Clone, Copy, Debug)]
enum Tunnel {
    Vxlan,
    Geneve,
    /// Geneve with options, and an IP packet right behind them.
    GeneveOfIp,
    Gre,
    GreWithKey,
    Ip,
}

const TUNNELS: [Tunnel; 6] = [
    Tunnel::Vxlan,
    Tunnel::Geneve,
    Tunnel::GeneveOfIp,
    Tunnel::Gre,
    Tunnel::GreWithKey,
    Tunnel::Ip,
];

const FRAME: &[u8] = &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

impl Tunnel {
    /// The packet that carries another one, from one node to the other.
    fn around(self, packet: &Recorded) -> Recorded {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0], FRAME].concat();
        let (udp, number, head): (Option<u16>, _, Vec<u8>) = match self {
            Self::Vxlan => (Some(8472), IpNumber::UDP, vxlan),
            Self::Geneve => (
                Some(6081),
                IpNumber::UDP,
                [&[0, 0, 0x65, 0x58, 0, 0, 42, 0], FRAME].concat(),
            ),
            Self::GeneveOfIp => (
                Some(6081),
                IpNumber::UDP,
                [&[2, 0x40, 8, 0, 0, 0, 42, 0][..], &[1; 8]].concat(),
            ),
            Self::Gre => (None, IpNumber::GRE, vec![0, 0, 8, 0]),
            Self::GreWithKey => (
                None,
                IpNumber::GRE,
                [&[0x30, 0, 0x65, 0x58][..], &[7; 8], FRAME].concat(),
            ),
            Self::Ip => (None, IpNumber::IPV4, Vec::new()),
        };
        let payload = [&head[..], &packet.data].concat();
        let ip = PacketBuilder::ipv4(NODES[0], NODES[1], 64);
        let mut data = Vec::new();
        match udp {
            Some(port) => ip.udp(40_000, port).write(&mut data, &payload),
            None => ip.write(&mut data, number, &payload),
        }
        .expect("a packet that fits");
        Recorded {
            orig_len: data.len() as u32,
            data,
            ..packet.clone()
        }
    }
}

fn exchange() -> Vec<Recorded> {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask(b"GET /a HTTP/1.1\r\n\r\n");
    talk.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    talk.close();
    talk.packets
}

fn question() -> Vec<Recorded> {
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x04cart\0\0\x01\0\x01";
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    let mut chat = Chat::usual();
    chat.ask(query).answer(answer);
    chat.packets
}

fn all(tunnel: Tunnel, packets: &[Recorded]) -> Vec<Recorded> {
    packets.iter().map(|packet| tunnel.around(packet)).collect()
}

/// Calls and connections, and by whom.
#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let call = |path: &str, status| format!("{path} {status:?}");
    let calls = dissected.calls.iter().map(|one| call(&one.path, one.status));
    let connections = dissected
        .connections
        .iter()
        .map(|one| format!("{} {}", one.transport, one.client.address));
    let told: Vec<String> = calls.chain(connections).collect();
    assert_eq!(told, expected, "{:?}", dissected.router);
}

#[test]
fn what_is_inside_is_dissected() {
    for tunnel in TUNNELS {
        let packets = all(tunnel, &exchange());
        let dissected = dissect(&packets);
        check(&dissected, &["/a Some(200)", "tcp 10.0.0.1:40000"]);
        assert_eq!(dissected.router.tunnelled, packets.len() as u64, "{tunnel:?}");
        check(
            &dissect(&all(tunnel, &question())),
            &["cart Some(0)", "udp 10.0.0.1:40000"],
        );
    }
}

#[test]
fn recorded_inside_and_outside_is_one_call() {
    for tunnel in TUNNELS {
        for (packets, expected) in [
            (exchange(), ["/a Some(200)", "tcp 10.0.0.1:40000"]),
            (question(), ["cart Some(0)", "udp 10.0.0.1:40000"]),
        ] {
            // On one interface, as a capture of all of them that does not tell them apart.
            let both: Vec<_> = packets
                .iter()
                .flat_map(|packet| [packet.clone(), tunnel.around(packet)])
                .collect();
            let dissected = dissect(&both);
            check(&dissected, &expected);
            assert_eq!(dissected.counters.repeated, 0, "{tunnel:?}");
            let sent = dissected.connections[0].sent;
            assert_eq!(sent[0].retransmissions + sent[1].retransmissions, 0);

            // By sockets on two nodes, and where it leaves the first and comes to the second.
            let node = |n: u16, packet: &Recorded, direction| Recorded {
                tape: n,
                direction,
                ts: packet.ts + u64::from(n) * 100,
                at: packet.at + 1000 * u64::from(n),
                ..packet.clone()
            };
            let all: Vec<_> = packets
                .iter()
                .flat_map(|packet| {
                    let sent = packet.data.get(12..16) == Some(&[10, 0, 0, 1]);
                    let (here, there) = match sent {
                        true => (Direction::Out, Direction::In),
                        false => (Direction::In, Direction::Out),
                    };
                    [
                        node(1, packet, here),
                        node(1, &tunnel.around(packet), here),
                        node(2, &tunnel.around(packet), there),
                        node(2, packet, there),
                    ]
                })
                .collect();
            let dissected = dissect(&all);
            check(&dissected, &expected);
            let call = &dissected.calls[0];
            assert!(call.client_side.is_some() && call.server_side.is_some());
        }
    }
}

#[test]
fn the_inside_of_fragments() {
    for tunnel in [Tunnel::Vxlan, Tunnel::Ip] {
        let mut packets = Vec::new();
        for packet in exchange() {
            let whole = tunnel.around(&packet);
            let (header, payload) = whole.data.split_at(20);
            for (n, part) in payload.chunks(48).enumerate() {
                let mut data = header.to_vec();
                let more = if (n + 1) * 48 < payload.len() { 0x2000 } else { 0 };
                data[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
                data[4..6].copy_from_slice(&(packet.at as u16).to_be_bytes());
                data[6..8].copy_from_slice(&((n * 6) as u16 | more).to_be_bytes());
                data.extend(part);
                packets.push(Recorded {
                    orig_len: data.len() as u32,
                    data,
                    at: whole.at * 100 + n as u64,
                    ..whole.clone()
                });
            }
        }
        let dissected = dissect(&packets);
        check(&dissected, &["/a Some(200)", "tcp 10.0.0.1:40000"]);
        let request = dissected.calls[0].request.as_ref().unwrap();
        assert_eq!(request.packets.first(), Some(&300));
    }
}

#[test]
fn tunnels_in_tunnels_as_deep_as_the_limit() {
    let once = all(Tunnel::Vxlan, &exchange());
    let twice = all(Tunnel::Ip, &once);
    check(&dissect(&twice), &["/a Some(200)", "tcp 10.0.0.1:40000"]);
    let thrice = all(Tunnel::Gre, &twice);
    let dissected = dissect(&thrice);
    check(&dissected, &["udp 192.168.0.1:40000"]);
    assert_eq!(dissected.router.tunnels_too_deep, thrice.len() as u64);
}

#[test]
fn what_only_looks_like_a_tunnel_is_a_flow() {
    // Cut short, longer than it says, with what is not IP inside, or with a bit that is reserved.
    let whole = Tunnel::Vxlan.around(&exchange()[3]);
    let mut longer = whole.clone();
    longer.data[50 + 2] += 1;
    let mut arp = whole.clone();
    arp.data[28 + 8 + 12..][..2].copy_from_slice(&[8, 6]);
    let mut reserved = whole.clone();
    reserved.data[28 + 1] = 1;
    for packet in [longer, arp, reserved] {
        check(&dissect(&[packet]), &["udp 192.168.0.1:40000"]);
    }
    // An encrypted one, and one that ends nowhere.
    let mut esp = Tunnel::Ip.around(&exchange()[0]);
    esp.data[9] = 50;
    check(&dissect(&[esp]), &["esp 192.168.0.1:0"]);
    let mut empty = Tunnel::Gre.around(&exchange()[0]);
    empty.data.truncate(24);
    empty.data[2..4].copy_from_slice(&24_u16.to_be_bytes());
    check(&dissect(&[empty]), &["gre 192.168.0.1:0"]);
}

#[test]
fn the_capture_may_cut_what_is_inside() {
    let mut packets = exchange();
    let mut cut = Tunnel::Vxlan.around(&packets[4]);
    cut.data.truncate(cut.data.len() - 2);
    packets = all(Tunnel::Vxlan, &packets);
    packets[4] = cut;
    let dissected = dissect(&packets);
    check(&dissected, &["/a Some(200)", "tcp 10.0.0.1:40000"]);
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().missing, 2);
}

#[test]
fn other_transports_have_flows() {
    let mut packets = Vec::new();
    for (n, number) in [132, 2, 50, 47, 253].into_iter().enumerate() {
        for (from, to) in [(0, 1), (1, 0)] {
            let mut data = Vec::new();
            // The first four bytes are SCTP's ports.
            let ports: [u16; 2] = if from == 0 { [7, 9] } else { [9, 7] };
            let payload: Vec<u8> = ports
                .into_iter()
                .flat_map(u16::to_be_bytes)
                .chain([0; 8])
                .collect();
            PacketBuilder::ipv4(NODES[from], NODES[to], 64)
                .write(&mut data, IpNumber(number), &payload)
                .unwrap();
            record(&mut packets, 1_000_000_000 * (n as u64 + 1), data);
        }
    }
    let dissected = dissect(&packets);
    check(
        &dissected,
        &[
            "sctp 192.168.0.1:7",
            "igmp 192.168.0.1:0",
            "esp 192.168.0.1:0",
            "gre 192.168.0.1:0",
            "ip_253 192.168.0.1:0",
        ],
    );
    assert_eq!(dissected.router.other_transport, packets.len() as u64);
    for one in &dissected.connections {
        assert_eq!(one.sent.map(|sent| (sent.packets, sent.bytes)), [(1, 32); 2]);
        assert!(!one.is_tcp() && one.protocols.is_empty());
    }
}
