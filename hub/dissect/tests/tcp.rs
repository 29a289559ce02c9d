//! What networks and captures do to segments, one situation each.

use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Link, Marks, Outcome};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A connection of `n` exchanges, whose nth path is `/n`.
fn exchanges(n: usize) -> Talk {
    let mut talk = Talk::usual();
    talk.handshake();
    for n in 0..n {
        talk.ask(format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n"))
            .answer(OK);
    }
    talk
}

/// Path, status and marks of each call.
#[track_caller]
fn check(dissected: &Dissected, expected: &[&str]) {
    let told: Vec<String> = dissected.calls.iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

fn tell(call: &Call) -> String {
    let path = if call.request.is_some() { &call.path } else { "-" };
    let status = call.status.map_or("-".to_owned(), |status| status.to_string());
    let marks: Vec<&str> = call.marks.names().collect();
    format!("{path} {status} {}", marks.join(" ")).trim().to_owned()
}

#[test]
fn segments_sent_again() {
    let talk = exchanges(2);
    let twice: Vec<Recorded> = talk
        .packets
        .iter()
        .flat_map(|packet| [packet.clone(), packet.clone()])
        .collect();
    let dissected = dissect(&twice);
    check(&dissected, &["/0 200", "/1 200"]);
    assert_eq!(dissected.counters.repeated, 4);
}

#[test]
fn segments_out_of_order() {
    let mut talk = Talk::usual();
    talk.mss = 10;
    talk.handshake()
        .ask("GET /0 HTTP/1.1\r\nHost: shop\r\n\r\n")
        .answer(OK)
        .close();
    let mut packets = talk.packets.clone();
    packets[3..6].reverse();
    packets[7..10].reverse();
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200"]);
    assert_eq!((dissected.counters.gaps, dissected.counters.early > 0), (0, true));
}

#[test]
fn an_acknowledgement_recorded_before_its_data() {
    let mut talk = exchanges(2);
    talk.close();
    // The response before its request.
    talk.packets.swap(5, 6);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200", "/1 200"]);
    assert_eq!(dissected.counters.gaps, 0);
}

#[test]
fn overlapping_segments_keep_the_first_copy() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n");
    let mut again = Talk::usual();
    again.handshake().ask("GET /XXXXXXX1.1\r\n\r\n\r\n");
    let mut last = Talk::usual();
    last.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    let mut packets = talk.packets.clone();
    packets.extend(again.packets.into_iter().skip(3));
    packets.extend(last.packets.into_iter().skip(3));
    check(&dissect(&packets), &["/0 - no_response"]);
}

#[test]
fn early_segments_that_overlap_keep_the_first_copy() {
    let whole = "GET /0123456789 HTTP/1.1\r\n\r\n";
    let part = |from: usize, to: usize, as_sent: &str| {
        let mut talk = Talk::usual();
        talk.handshake().ask(&whole[..from]).ask(as_sent);
        assert_eq!(as_sent.len(), to - from);
        talk.packets.pop().unwrap()
    };
    let mut packets = Talk::usual().handshake().packets.clone();
    packets.push(part(10, 20, &whole[10..20]));
    packets.push(part(5, 15, "56789xxxxx".get(0..10).unwrap()));
    packets.push(part(8, 28, &format!("xx{}{}", "y".repeat(10), &whole[20..])));
    packets.push(part(0, 5, &whole[..5]));
    let dissected = dissect(&packets);
    check(&dissected, &["/5678956789 - no_response"]);
}

#[test]
fn sequence_numbers_wrap_around() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", 1, (u32::MAX - 20, u32::MAX - 40));
    talk.mss = 7;
    talk.handshake();
    for n in 0..4 {
        talk.ask(format!("GET /{n} HTTP/1.1\r\n\r\n")).answer(OK);
    }
    let mut packets = talk.packets.clone();
    packets[3..].chunks_mut(2).for_each(<[Recorded]>::reverse);
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200", "/1 200", "/2 200", "/3 200"]);
    assert_eq!(dissected.counters.gaps, 0);
    // Joined in mid-wrap, where the first thing seen is an acknowledgement.
    check(
        &dissect(&talk.packets[6..]),
        &[
            "- 200 no_request joined",
            "/1 200 joined",
            "/2 200 joined",
            "/3 200 joined",
        ],
    );
}

#[test]
fn keep_alives_and_window_probes() {
    let mut talk = exchanges(1);
    // A probe repeats the byte before the next one.
    let mut probe = talk.packets[3].clone();
    probe.data.truncate(41);
    probe.data[2..4].copy_from_slice(&41u16.to_be_bytes());
    let seq = 1001 + 31 - 1u32;
    probe.data[24..28].copy_from_slice(&seq.to_be_bytes());
    talk.packets.push(probe);
    talk.ask("GET /1 HTTP/1.1\r\n\r\n").answer(OK);
    check(&dissect(&talk.packets), &["/0 200", "/1 200"]);
}

#[test]
fn a_lost_request() {
    let mut talk = exchanges(4);
    talk.close();
    talk.packets.remove(5);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "/0 200",
            "- 200 no_request after_gap",
            "/2 200 after_gap",
            "/3 200 after_gap",
        ],
    );
    assert_eq!((dissected.counters.gaps, dissected.counters.gap_bytes), (1, 31));
}

#[test]
fn a_lost_response() {
    let mut talk = exchanges(4);
    talk.close();
    talk.packets.remove(6);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &[
            "/0 200",
            "/1 - no_response after_gap",
            "/2 200 after_gap",
            "/3 200 after_gap",
        ],
    );
    assert_eq!(dissected.calls[1].outcome, Outcome::Unknown);
}

#[test]
fn nothing_was_recorded_for_a_while() {
    let mut talk = exchanges(5);
    talk.close();
    // Two exchanges, as when a recorder was killed and started again.
    talk.packets.drain(5..9);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200", "/3 200 after_gap", "/4 200 after_gap"]);
    assert_eq!(dissected.counters.gaps, 2);
}

#[test]
fn a_lost_part_of_a_body_of_known_length() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        .answer(vec![b'x'; 4000]);
    talk.ask("GET /1 HTTP/1.1\r\n\r\n").answer(OK).close();
    talk.packets.remove(6);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200 response_gap", "/1 200"]);
    let response = dissected.calls[0].response.as_ref().unwrap();
    assert_eq!((response.body_len, response.missing), (4000, 1460));
}

#[test]
fn a_lost_head_of_a_long_response() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
        .answer(vec![b'x'; 4000]);
    talk.ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .close();
    talk.packets.remove(4);
    check(
        &dissect(&talk.packets),
        &[
            "/0 - no_response after_gap",
            "/1 200 after_gap",
            "/2 200 after_gap",
        ],
    );
}

#[test]
fn half_a_request_head_is_lost() {
    let mut talk = Talk::usual();
    talk.mss = 20;
    talk.handshake()
        .ask("GET /0 HTTP/1.1\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n")
        .answer(OK);
    talk.ask("GET /1 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .ask("GET /2 HTTP/1.1\r\n\r\n")
        .answer(OK)
        .close();
    talk.packets.remove(4);
    let dissected = dissect(&talk.packets);
    check(
        &dissected,
        &["/0 200 request_gap", "/1 200 after_gap", "/2 200 after_gap"],
    );
    let headers = &dissected.calls[0].request.as_ref().unwrap().headers;
    assert!(headers.is_empty(), "{headers:?}");
}

#[test]
fn a_capture_that_cut_its_packets() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    talk.answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    ));
    talk.ask("GET /1 HTTP/1.1\r\n\r\n").answer(OK);
    for packet in &mut talk.packets {
        packet.data.truncate(128);
    }
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200 response_gap", "/1 200"]);
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().missing, 953);
}

#[test]
fn ports_used_again() {
    let mut talk = exchanges(1);
    talk.close();
    let mut next = Talk::new("10.0.0.1:40000", "10.0.0.2:80", talk.now, (900_000, 800_000));
    next.handshake()
        .ask("GET /next HTTP/1.1\r\n\r\n")
        .answer(OK)
        .close();
    talk.packets.extend(next.packets);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200", "/next 200"]);
    assert_eq!(
        (dissected.counters.connections, dissected.counters.ports_reused),
        (2, 1)
    );
    assert_ne!(dissected.calls[0].stream, dissected.calls[1].stream);
    assert_eq!(dissected.calls[1].index, 0);
}

/// The earlier connection is forgotten ten seconds after its end, and not the one that has its ports now.
#[test]
fn ports_used_again_before_the_earlier_connection_is_forgotten() {
    let second = 1_000_000_000;
    let mut talk = exchanges(1);
    talk.close();
    let begins = talk.now + 5 * second;
    let mut next = Talk::new("10.0.0.1:40000", "10.0.0.2:80", begins, (900_000, 800_000));
    next.handshake().ask("GET /next HTTP/1.1\r\n\r\n");
    next.now += 6 * second;
    next.answer(OK).close();
    talk.packets.extend(next.packets);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200", "/next 200"]);
    assert_eq!(dissected.counters.connections, 2);
}

#[test]
fn ports_used_again_while_a_request_waits() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    let mut next = Talk::new("10.0.0.1:40000", "10.0.0.2:80", talk.now, (900_000, 800_000));
    next.handshake().ask("GET /1 HTTP/1.1\r\n\r\n").answer(OK);
    talk.packets.extend(next.packets);
    check(&dissect(&talk.packets), &["/0 - no_response", "/1 200"]);
}

#[test]
fn ports_used_again_more_often_than_is_followed() {
    // One interface sees every connection; each of the others sees the begin of one.
    let (mut packets, mut now) = (Vec::new(), 1);
    for n in 0..6u32 {
        let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:80", now, (n * 100_000, n * 77_000));
        talk.handshake().ask(format!("GET /{n} HTTP/1.1\r\n\r\n"));
        for packet in &talk.packets {
            let other = Recorded {
                interface: n + 1,
                ..packet.clone()
            };
            packets.extend([packet.clone(), other]);
        }
        now = talk.now;
    }
    let dissected = dissect(&packets);
    assert_eq!(dissected.calls.len(), 6);
    assert_eq!(dissected.counters.connections_evicted, 3);
}

#[test]
fn a_late_packet_of_a_closed_connection() {
    let mut talk = exchanges(1);
    talk.close();
    let late = talk.packets[4].clone();
    talk.packets.push(late);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200"]);
    assert_eq!(dissected.counters.connections, 1);
}

#[test]
fn a_reset_from_elsewhere_is_ignored() {
    let mut talk = exchanges(1);
    let mut reset = talk.clone();
    reset.reset(Who::Server);
    let mut reset = reset.packets.pop().unwrap();
    reset.data[24..28].copy_from_slice(&0x7000_0000u32.to_be_bytes());
    talk.packets.push(reset);
    talk.ask("GET /1 HTTP/1.1\r\n\r\n").answer(OK);
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200", "/1 200"]);
    assert_eq!(dissected.counters.resets_ignored, 1);
}

#[test]
fn the_first_syn_was_not_recorded() {
    let talk = exchanges(1);
    check(&dissect(&talk.packets[1..]), &["/0 200"]);
    let mut without_second = talk.packets.clone();
    without_second.remove(1);
    check(&dissect(&without_second), &["/0 200"]);
}

/// Packets as another link type.
fn with_link(packets: &[Recorded], link: Link, header: &[u8], padding: usize) -> Vec<Recorded> {
    let wrap = |packet: &Recorded| {
        let mut data = header.to_vec();
        data.extend_from_slice(&packet.data);
        data.resize(data.len() + padding, 0xee);
        Recorded {
            orig_len: data.len() as u32,
            data,
            link,
            ..packet.clone()
        }
    };
    packets.iter().map(wrap).collect()
}

#[test]
fn links_of_all_kinds() {
    let mac = [0u8; 12];
    let ethernet = [&mac[..], &[8, 0]].concat();
    let vlan = [&mac[..], &[0x81, 0, 0, 5, 8, 0]].concat();
    let qinq = [&mac[..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]].concat();
    let sll = [&[0u8; 14][..], &[8, 0]].concat();
    let sll2 = [&[8u8, 0][..], &[0; 18]].concat();
    let links = [
        (Link::Raw, vec![]),
        (Link::Ethernet, ethernet),
        (Link::Ethernet, vlan),
        (Link::Ethernet, qinq),
        (Link::Sll, sll),
        (Link::Sll2, sll2),
        (Link::Null, vec![2, 0, 0, 0]),
    ];
    for (link, header) in links {
        // Padding behind the IP packet is no payload.
        for padding in [0, 6] {
            let talk = exchanges(2);
            let dissected = dissect(&with_link(&talk.packets, link, &header, padding));
            check(&dissected, &["/0 200", "/1 200"]);
            assert_eq!(dissected.counters.bytes, 2 * (31 + 43), "{link:?} {padding}");
        }
    }
}

#[test]
fn what_is_no_tcp_is_counted() {
    let arp = [&[0u8; 12][..], &[8, 6], &[0; 28]].concat();
    let mut packets = with_link(&exchanges(1).packets[..1], Link::Ethernet, &arp, 0);
    let mut sctp = exchanges(1).packets[3].clone();
    sctp.data[9] = 132;
    let mut cut = exchanges(1).packets[3].clone();
    cut.data.truncate(30);
    let mut lying = exchanges(1).packets[3].clone();
    lying.data[32] = 0x10;
    let mut not_ip = exchanges(1).packets[3].clone();
    not_ip.data[0] = 0x75;
    packets.extend([sctp, cut, lying, not_ip]);
    let router = dissect(&packets).router;
    let told = (
        router.packets,
        router.not_ip,
        router.other_transport,
        router.truncated,
        router.malformed,
    );
    assert_eq!(told, (5, 2, 1, 1, 1), "SCTP is told as a flow");
}

#[test]
fn segmentation_offload_leaves_no_length() {
    let mut talk = Talk::usual();
    talk.mss = 60_000;
    talk.handshake().ask("GET /0 HTTP/1.1\r\n\r\n");
    talk.answer(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 59000\r\n\r\n{}",
        "x".repeat(59_000)
    ));
    for packet in &mut talk.packets {
        packet.data[2..4].copy_from_slice(&[0, 0]);
    }
    let dissected = dissect(&talk.packets);
    check(&dissected, &["/0 200"]);
    assert_eq!(dissected.calls[0].response.as_ref().unwrap().body_len, 59_000);
}

/// An IPv4 packet as fragments of so many bytes.
fn fragments(packet: &Recorded, size: usize) -> Vec<Recorded> {
    let (header, payload) = packet.data.split_at(20);
    let count = payload.len().div_ceil(size);
    let part = |(n, part): (usize, &[u8])| {
        let mut data = header.to_vec();
        let offset = (n * size / 8) as u16;
        let more = if n + 1 < count { 0x2000 } else { 0 };
        data[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        data[4..6].copy_from_slice(&(packet.at as u16).to_be_bytes());
        data[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        data.extend_from_slice(part);
        Recorded {
            orig_len: data.len() as u32,
            data,
            at: packet.at * 100 + n as u64,
            ..packet.clone()
        }
    };
    payload.chunks(size).enumerate().map(part).collect()
}

#[test]
fn datagrams_in_fragments() {
    let talk = exchanges(2);
    let mut packets: Vec<Recorded> = talk
        .packets
        .iter()
        .flat_map(|packet| fragments(packet, 24))
        .collect();
    let dissected = dissect(&packets);
    check(&dissected, &["/0 200 packets_cut", "/1 200 packets_cut"]);
    assert_eq!(dissected.router.datagrams, 4);
    // The locations reach from the first fragment to the last.
    assert_eq!(*dissected.calls[0].request.as_ref().unwrap().packets, [300, 302]);
    packets.reverse();
    packets.sort_by_key(|packet| packet.ts);
    check(&dissect(&packets), &["/0 200 packets_cut", "/1 200 packets_cut"]);
}

#[test]
fn marks_have_names() {
    let all = Marks(u32::MAX);
    assert_eq!(all.names().count(), Marks::NAMES.len());
}
