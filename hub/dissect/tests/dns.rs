//! DNS, by situation.

use wiretape_dissect::testing::{Chat, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Observation, Outcome, Value};

const SECOND: u64 = 1_000_000_000;

/// A question: number, name, type.
fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(b"\x01\0\0\x01\0\0\0\0\0\0");
    bytes.extend_from_slice(&question(name, kind));
    bytes
}

/// The answer to it, with some addresses.
fn answer(id: u16, name: &str, kind: u16, rcode: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0x81, 0x80 | rcode, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    bytes.extend_from_slice(&question(name, kind));
    for address in addresses {
        bytes.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04");
        bytes.extend_from_slice(address);
    }
    bytes
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

/// With its length before it.
fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn field<'a>(call: &'a Call, name: &str) -> Option<&'a Value> {
    call.fields
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn text(call: &Call, name: &str) -> String {
    match field(call, name) {
        Some(Value::Text(text)) => text.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

fn only(packets: &[Recorded]) -> Call {
    let mut dissected = dissect(packets);
    assert_eq!(dissected.calls.len(), 1, "{:#?}", dissected.calls);
    dissected.calls.remove(0)
}

#[test]
fn a_question_and_its_answer() {
    let mut chat = Chat::usual();
    chat.ask(query(7, "a.example", 1))
        .answer(answer(7, "a.example", 1, 0, &[[10, 0, 0, 9], [10, 0, 0, 10]]));
    let call = only(&chat.packets);
    assert_eq!(
        (call.protocol, &*call.method, call.path.as_str()),
        ("dns", "A", "a.example")
    );
    assert_eq!((call.status, call.outcome), (Some(0), Outcome::Ok));
    assert_eq!(call.client.address.to_string(), "10.0.0.1:40000");
    assert_eq!(text(&call, "dns_answers"), "10.0.0.9, 10.0.0.10");
    assert_eq!(text(&call, "dns_response_code"), "NOERROR");
    assert_eq!(
        field(&call, "dns_total_size"),
        Some(&Value::Int(27 + 27 + 2 * 16))
    );
    assert_eq!(call.observation().and_then(|seen| seen.elapsed()), Some(1000));
    assert_eq!(
        call.request
            .map(|request| (request.wire_len, request.packets.to_vec())),
        Some((27, vec![0]))
    );
    assert_eq!(call.marks, Marks::default());
}

#[test]
fn dns_on_another_port_seen_from_the_answer_on() {
    let mut chat = Chat::new("10.0.0.1:40000", "10.0.0.2:9999", SECOND);
    chat.answer(answer(7, "a.example", 28, 3, &[]));
    let call = only(&chat.packets);
    assert_eq!(call.server.address.to_string(), "10.0.0.2:9999");
    assert_eq!((&*call.method, call.path.as_str()), ("AAAA", "a.example"));
    assert_eq!((call.status, call.outcome), (Some(3), Outcome::ClientError));
    assert_eq!(text(&call, "error"), "NXDOMAIN");
    assert!(call.marks.has(Marks::NO_REQUEST));
}

#[test]
fn response_codes_across_protocols() {
    let outcomes = [
        (0, Outcome::Ok),
        (1, Outcome::ClientError),
        (2, Outcome::ServerError),
        (3, Outcome::ClientError),
        (4, Outcome::ServerError),
        (5, Outcome::ServerError),
        (9, Outcome::ClientError),
    ];
    for (rcode, outcome) in outcomes {
        let mut chat = Chat::usual();
        chat.ask(query(7, "a", 1)).answer(answer(7, "a", 1, rcode, &[]));
        assert_eq!(only(&chat.packets).outcome, outcome, "{rcode}");
    }
}

#[test]
fn a_question_sent_three_times_is_one_call_with_two_retries() {
    let mut chat = Chat::usual();
    chat.step = SECOND;
    chat.ask(query(7, "a.example", 1))
        .ask(query(7, "a.example", 1))
        .ask(query(7, "a.example", 1))
        .answer(answer(7, "a.example", 1, 0, &[[1, 2, 3, 4]]))
        .answer(answer(7, "a.example", 1, 0, &[[1, 2, 3, 4]]));
    let dissected = dissect(&chat.packets);
    assert_eq!(dissected.counters.answers_repeated, 1);
    let call = only(&chat.packets);
    assert_eq!(field(&call, "dns_retries"), Some(&Value::Int(2)));
    // What the client has waited for it.
    assert_eq!(
        call.observation().and_then(|seen| seen.elapsed()),
        Some(3 * SECOND)
    );
    assert_eq!(
        call.request.map(|request| request.packets.to_vec()),
        Some(vec![0, 1, 2])
    );
}

#[test]
fn a_question_asked_again_after_its_answer_is_another_call() {
    let mut chat = Chat::usual();
    for _ in 0..3 {
        chat.ask(query(7, "a.example", 1))
            .answer(answer(7, "a.example", 1, 0, &[]));
    }
    let calls = dissect(&chat.packets).calls;
    assert_eq!(calls.iter().map(|call| call.index).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(calls.iter().all(|call| call.response.is_some()));
}

#[test]
fn answers_in_another_order_and_case() {
    let mut chat = Chat::usual();
    chat.ask(query(7, "a.example", 1))
        .ask(query(7, "a.example", 28))
        .ask(query(8, "b.example", 1))
        .answer(answer(8, "B.example", 1, 0, &[[8, 8, 8, 8]]))
        .answer(answer(7, "a.Example", 28, 0, &[]))
        .answer(answer(7, "a.example", 1, 0, &[[7, 7, 7, 7]]));
    let calls = dissect(&chat.packets).calls;
    let told: Vec<_> = calls
        .iter()
        .map(|call| (&*call.method, call.path.as_str(), text(call, "dns_answers")))
        .collect();
    let expected = [
        ("A", "a.example", "7.7.7.7".to_owned()),
        ("AAAA", "a.example", String::new()),
        ("A", "b.example", "8.8.8.8".to_owned()),
    ];
    assert_eq!(told, expected);
}

#[test]
fn an_error_without_a_question_answers_by_number() {
    let mut chat = Chat::usual();
    chat.ask(query(7, "a.example", 1)).ask(query(8, "a.example", 1));
    chat.answer(b"\0\x07\x80\x01\0\0\0\0\0\0\0\0");
    let calls = dissect(&chat.packets).calls;
    let statuses: Vec<_> = calls.iter().map(|call| call.status).collect();
    assert_eq!(statuses, [Some(1), None]);
}

#[test]
fn a_question_that_nobody_answers() {
    let mut chat = Chat::usual();
    chat.ask(query(7, "a.example", 1));
    // The recording ends: whether an answer would have come cannot be told.
    assert_eq!(only(&chat.packets).outcome, Outcome::Unknown);
    // It goes on, with something else, in the same shard or in none.
    chat.now += 31 * SECOND;
    chat.ask(query(8, "b.example", 1));
    let calls = dissect(&chat.packets).calls;
    assert_eq!(
        (calls[0].outcome, calls[1].outcome),
        (Outcome::NoResponse, Outcome::Unknown)
    );
    assert!(calls[0].marks.has(Marks::NO_RESPONSE));
}

#[test]
fn a_question_in_a_busy_flow_is_given_up_in_time() {
    let mut chat = Chat::usual();
    chat.ask(query(1, "lost.example", 1));
    chat.step = SECOND;
    for n in 2..100 {
        chat.ask(query(n, "a.example", 1))
            .answer(answer(n, "a.example", 1, 0, &[]));
    }
    let calls = dissect(&chat.packets).calls;
    assert_eq!(
        (calls[0].path.as_str(), calls[0].outcome),
        ("lost.example", Outcome::NoResponse)
    );
    assert_eq!(calls.len(), 99);
    assert!(calls.iter().all(|call| call.stream == calls[0].stream));
}

#[test]
fn a_question_to_all_is_not_unanswered() {
    let mut chat = Chat::new("10.0.0.1:5353", "224.0.0.251:5353", SECOND);
    chat.ask(query(0, "printer.local", 12));
    chat.now += 40 * SECOND;
    chat.ask(query(0, "printer.local", 12));
    let calls = dissect(&chat.packets).calls;
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.outcome == Outcome::Unknown));
}

#[test]
fn truncated_then_over_tcp() {
    let mut chat = Chat::usual();
    let mut cut = answer(7, "big.example", 16, 0, &[]);
    cut[2] |= 2;
    chat.ask(query(7, "big.example", 16)).answer(cut);
    let mut talk = Talk::new("10.0.0.1:40001", "10.0.0.2:53", chat.now, (1, 2));
    talk.handshake()
        .ask(framed(&query(9, "big.example", 16)))
        .answer(framed(&answer(9, "big.example", 16, 0, &[])))
        .close();
    let packets = [chat.packets, talk.packets].concat();
    let calls = dissect(&packets).calls;
    assert_eq!(calls.len(), 2);
    assert_eq!(field(&calls[0], "dns_truncated"), Some(&Value::Bool(true)));
    assert_eq!(text(&calls[0], "dns_transport"), "udp");
    assert_eq!(text(&calls[1], "dns_transport"), "tcp");
    assert_eq!(calls[1].outcome, Outcome::Ok);
}

#[test]
fn bytes_that_are_not_dns() {
    let mut chat = Chat::new("10.0.0.1:40000", "10.0.0.2:4433", SECOND);
    let mut seed = 1u64;
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..64)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (seed >> 56) as u8
            })
            .collect();
        chat.ask(&bytes);
    }
    let dissected = dissect(&chat.packets);
    assert!(dissected.calls.is_empty());
    assert_eq!(dissected.counters.datagram_flows_unrecognised, 1);
}

#[test]
fn questions_pipelined_over_tcp_and_answered_in_another_order() {
    let mut talk = Talk::new("10.0.0.1:40001", "10.0.0.2:5300", SECOND, (1, 2));
    talk.handshake();
    for id in 1..4 {
        talk.ask(framed(&query(id, &format!("n{id}.example"), 1)));
    }
    for id in [3, 1, 2] {
        talk.answer(framed(&answer(
            id,
            &format!("n{id}.example"),
            1,
            0,
            &[[id as u8; 4]],
        )));
    }
    let calls = dissect(&talk.close().packets).calls;
    let told: Vec<_> = calls
        .iter()
        .map(|call| (call.path.clone(), text(call, "dns_answers")))
        .collect();
    let expected = [1, 2, 3].map(|n| (format!("n{n}.example"), format!("{n}.{n}.{n}.{n}")));
    assert_eq!(told, expected);
}

#[test]
fn joined_in_the_middle_of_a_tcp_connection() {
    let mut talk = Talk::new("10.0.0.1:40001", "10.0.0.2:53", SECOND, (1, 2));
    talk.handshake();
    for id in 1..6 {
        talk.ask(framed(&query(id, "a.example", 1)));
        talk.answer(framed(&answer(id, "a.example", 1, 0, &[])));
    }
    for cut in 3..talk.packets.len() {
        let dissected = dissect(&talk.packets[cut..]);
        let whole = dissected.calls.iter().filter(|call| call.request.is_some());
        assert_eq!(whole.count(), (talk.packets.len() - cut) / 2, "{cut}");
        assert!(dissected.calls.iter().all(|call| call.marks.has(Marks::JOINED)));
    }
}

/// Its question was not recorded, and what there is of it at first is too little to tell a message by.
#[test]
fn joined_where_the_first_byte_of_an_answer_comes_alone() {
    let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:53", 1, (1, 2));
    talk.ask(framed(&query(7, "b.example", 1)));
    let late = framed(&answer(6, "a.example", 1, 0, &[[10, 0, 0, 1]]));
    let (first, rest) = late.split_at(1);
    talk.answer(first)
        .answer(rest)
        .answer(framed(&answer(7, "b.example", 1, 0, &[])));
    let calls = dissect(&talk.packets).calls;
    let mut told: Vec<_> = calls
        .iter()
        .map(|call| (call.path.as_str(), call.status))
        .collect();
    told.sort_unstable();
    assert_eq!(told, [("a.example", Some(0)), ("b.example", Some(0))]);
}

#[test]
fn a_zone_transfer_over_many_messages_is_one_call() {
    let soa = b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let records = |records: &[&[u8]]| {
        let mut bytes = answer(7, "zone.example", 252, 0, &[]);
        bytes[7] = records.len() as u8;
        framed(&[&bytes, &*records.concat()].concat())
    };
    let address = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04";
    let mut talk = Talk::new("10.0.0.1:40001", "10.0.0.2:53", SECOND, (1, 2));
    talk.handshake().ask(framed(&query(7, "zone.example", 252)));
    talk.answer(records(&[soa]))
        .answer(records(&[address, address]))
        .answer(records(&[address, soa]))
        .close();
    let call = only(&talk.packets);
    assert_eq!((&*call.method, call.outcome), ("AXFR", Outcome::Ok));
    assert_eq!(field(&call, "dns_answer_count"), Some(&Value::Int(5)));
    assert_eq!(call.response.map(|response| response.packets.len()), Some(3));
}

/// The SOA of a zone.
fn soa(serial: u8) -> Vec<u8> {
    let head = b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0\0\0\0".as_slice();
    [head, &[serial], &[0; 16]].concat()
}

/// A question for a zone's changes since this serial (RFC 1995, section 3).
fn changes_since(serial: u8) -> Vec<u8> {
    let mut bytes = query(7, "zone.example", 251);
    bytes[9] = 1;
    framed(&[bytes, soa(serial)].concat())
}

#[test]
fn a_transfer_of_a_zones_changes_over_many_messages_is_one_call() {
    const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04";
    let address = ADDRESS.to_vec();
    // Two changes; the whole zone; nothing, as the zone has not changed.
    let changes = [
        soa(3),
        soa(1),
        address.clone(),
        soa(2),
        soa(2),
        address.clone(),
        soa(3),
        address.clone(),
        soa(3),
    ];
    let zone = [soa(3), address.clone(), address, soa(3)];
    for (since, records) in [(1, &changes[..]), (1, &zone[..]), (3, &[soa(3)][..])] {
        for each in 1..=records.len() {
            let mut talk = Talk::new("10.0.0.1:40001", "10.0.0.2:53", SECOND, (1, 2));
            talk.handshake().ask(changes_since(since));
            for records in records.chunks(each) {
                let mut bytes = answer(7, "zone.example", 251, 0, &[]);
                bytes[7] = records.len() as u8;
                talk.answer(framed(&[bytes, records.concat()].concat()));
            }
            // The transfer is over: its number may be used again.
            talk.ask(framed(&query(7, "zone.example", 251)))
                .answer(framed(&answer(7, "zone.example", 251, 5, &[])));
            let calls = dissect(&talk.packets).calls;
            let told: Vec<_> = calls
                .iter()
                .map(|call| (call.outcome, field(call, "dns_answer_count").cloned()))
                .collect();
            let all = Value::Int(records.len() as i64);
            let expected = [
                (Outcome::Ok, Some(all)),
                (Outcome::ServerError, Some(Value::Int(0))),
            ];
            assert_eq!(told, expected, "{since}, {each} a message");
        }
    }
}

#[test]
fn seen_by_both_ends_is_one_call() {
    let mut chat = Chat::usual();
    chat.step = 1_000_000;
    for id in 0..20 {
        chat.ask(query(id, "a.example", 1))
            .answer(answer(id, "a.example", 1, 0, &[]));
    }
    // The server's socket is known to be recorded, and its clock is ahead by a second.
    let mut known = Chat::new("10.0.0.3:1", "10.0.0.2:54", chat.now - SECOND);
    let mut packets = known.ask("known").seen_by(Who::Server, 1, 0);
    packets.extend(chat.seen_by(Who::Client, 0, 0));
    packets.extend(chat.seen_by(Who::Server, 1, SECOND));
    packets.sort_by_key(|packet| packet.ts);
    let dissected = dissect(&packets);
    assert_eq!((dissected.calls.len(), dissected.counters.calls_joined), (20, 20));
    for call in &dissected.calls {
        assert!(call.client_side.is_some() && call.server_side.is_some());
        assert_eq!((call.client.tape, call.server.tape), (Some(0), Some(1)));
    }
}

#[test]
fn the_first_of_two_questions_was_lost_on_the_way() {
    let mut chat = Chat::usual();
    chat.step = SECOND;
    chat.ask(query(7, "a.example", 1))
        .ask(query(7, "a.example", 1))
        .answer(answer(7, "a.example", 1, 0, &[]));
    for (client, server) in [(0, 10), (10, 0)] {
        let mut packets = chat.seen_by(Who::Client, 0, client);
        packets.extend(chat.seen_by(Who::Server, 1, server).into_iter().skip(1));
        packets.sort_by_key(|packet| packet.ts);
        let call = only(&packets);
        assert_eq!(field(&call, "dns_retries"), Some(&Value::Int(1)));
        let elapsed = |side: Option<Observation>| side.and_then(|side| side.elapsed());
        assert_eq!(elapsed(call.client_side), Some(2 * SECOND));
        assert_eq!(elapsed(call.server_side), Some(SECOND));
    }
}

#[test]
fn the_answer_was_lost_on_the_way() {
    let mut chat = Chat::usual();
    chat.step = SECOND;
    chat.ask(query(7, "a.example", 1))
        .answer(answer(7, "a.example", 1, 2, &[]));
    let mut packets = chat.seen_by(Who::Client, 0, 0);
    packets.truncate(1);
    packets.extend(chat.seen_by(Who::Server, 1, 10));
    let call = only(&packets);
    assert_eq!((call.status, call.outcome), (Some(2), Outcome::ServerError));
    assert_eq!(call.client_side.map(|side| side.response.is_some()), Some(false));
    assert_eq!(call.server_side.map(|side| side.response.is_some()), Some(true));
}

#[test]
fn any_truncation_by_the_capture() {
    let mut chat = Chat::usual();
    chat.ask(query(7, "a.example", 1))
        .answer(answer(7, "a.example", 1, 0, &[[10, 0, 0, 9], [10, 0, 0, 10]]));
    let whole = only(&chat.packets);
    let full = chat.packets[1].data.len();
    for len in 0..full {
        let mut packets = chat.packets.clone();
        packets[1].data.truncate(len);
        let calls = dissect(&packets).calls;
        assert_eq!(calls.len(), 1);
        if calls[0].response.is_some() {
            assert!(calls[0].marks.has(Marks::RESPONSE_GAP), "{len}");
            let (all, some) = (text(&whole, "dns_answers"), text(&calls[0], "dns_answers"));
            assert!(all.starts_with(&some), "{some}");
        }
    }
}

#[test]
fn any_datagram_twice() {
    let mut chat = Chat::usual();
    for id in 0..4 {
        chat.ask(query(id, "a.example", 1))
            .answer(answer(id, "a.example", 1, 0, &[]));
    }
    for twice in 0..chat.packets.len() {
        let mut packets = chat.packets.clone();
        packets.insert(twice, packets[twice].clone());
        let dissected = dissect(&packets);
        assert_eq!(dissected.calls.len(), 4);
        assert!(
            dissected
                .calls
                .iter()
                .all(|call| call.response.is_some() && call.request.is_some())
        );
        assert_eq!(
            dissected.counters.answers_repeated + dissected.counters.requests_repeated,
            1
        );
    }
}
