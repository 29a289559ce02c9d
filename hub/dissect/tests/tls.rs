//! TLS handshakes, by situation.

use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Outcome, Value};

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u16).to_be_bytes();
    [&[kind, 3, 3], len.as_slice(), content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32).to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = (content.len() as u16).to_be_bytes();
    [kind.to_be_bytes().as_slice(), &len, content].concat()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    [(content.len() as u16).to_be_bytes().as_slice(), content].concat()
}

/// A ClientHello for a.example, offering h2 and http/1.1; with an id of a session, and more extensions.
fn client_hello(session: &[u8], more: &[Vec<u8>]) -> Vec<u8> {
    let name = vector16(&[&[0], vector16(b"a.example").as_slice()].concat());
    let mut extensions = [
        extension(0, &name),
        extension(16, &vector16(b"\x02h2\x08http/1.1")),
        extension(10, &vector16(&[0, 29])),
        extension(13, &vector16(&[4, 3, 8, 4])),
    ]
    .concat();
    extensions.extend(more.concat());
    let body = [
        [3, 3].as_slice(),
        &[7; 32],
        &[session.len() as u8],
        session,
        &vector16(&[0x13, 0x01, 0xc0, 0x2f]),
        &[1, 0],
        &vector16(&extensions),
    ]
    .concat();
    message(1, &body)
}

fn server_hello(random: &[u8; 32], session: &[u8], suite: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        [3, 3].as_slice(),
        random,
        &[session.len() as u8],
        session,
        &suite.to_be_bytes(),
        &[0],
        &vector16(&extensions.concat()),
    ]
    .concat();
    message(2, &body)
}

/// Supported versions, as a client names them.
fn versions13() -> Vec<u8> {
    extension(43, &[2, 3, 4])
}

/// The version that a server has chosen.
fn version13() -> Vec<u8> {
    extension(43, &[3, 4])
}

fn ccs() -> Vec<u8> {
    record(20, &[1])
}

fn sealed(kind: u8, len: usize) -> Vec<u8> {
    record(kind, &vec![0xa5; len])
}

fn server12(session: &[u8]) -> Vec<u8> {
    let hello = server_hello(&[9; 32], session, 0xc02f, &[extension(16, &vector16(b"\x02h2"))]);
    // ServerHelloDone, in the same record.
    record(22, &[hello, message(14, &[])].concat())
}

/// A whole connection of TLS 1.2, with data of both ends.
fn tls12() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask(record(22, &client_hello(&[], &[])));
    talk.answer(server12(&[5; 32]));
    talk.ask([record(22, &message(16, &[1; 66])), ccs(), sealed(22, 40)].concat());
    talk.answer([ccs(), sealed(22, 40)].concat());
    talk.ask(sealed(23, 100))
        .answer(sealed(23, 5000))
        .ask(sealed(23, 20));
    talk.ask(sealed(21, 26)).close();
    talk
}

/// The same with TLS 1.3.
fn tls13() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake();
    talk.ask(record(22, &client_hello(&[6; 32], &[versions13()])));
    let hello = server_hello(&[9; 32], &[6; 32], 0x1301, &[version13()]);
    talk.answer([record(22, &hello), ccs(), sealed(23, 2000)].concat());
    talk.ask([ccs(), sealed(23, 53)].concat());
    talk.ask(sealed(23, 100)).answer(sealed(23, 5000)).close();
    talk
}

fn field<'a>(call: &'a Call, name: &str) -> Option<&'a Value> {
    call.fields
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn text<'a>(call: &'a Call, name: &str) -> &'a str {
    match field(call, name) {
        Some(Value::Text(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn int(call: &Call, name: &str) -> Option<i64> {
    match field(call, name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

fn only(packets: &[Recorded]) -> Call {
    one(dissect(packets))
}

fn one(mut dissected: Dissected) -> Call {
    assert_eq!(dissected.calls.len(), 1, "{:#?}", dissected.calls);
    dissected.calls.remove(0)
}

#[test]
fn a_handshake_of_tls_1_2() {
    let call = only(&tls12().packets);
    let told = (call.protocol, call.version, &*call.method);
    assert_eq!(told, ("tls", "TLS 1.2", "ClientHello"));
    assert_eq!((call.path.as_str(), call.outcome), ("a.example", Outcome::Ok));
    assert_eq!(text(&call, "tlsx_sni"), "a.example");
    assert_eq!(text(&call, "tlsx_alpn"), "h2");
    assert_eq!(text(&call, "tlsx_alpn_offered"), "h2, http/1.1");
    assert_eq!(
        text(&call, "tlsx_cipher_suites"),
        "TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    );
    assert_eq!(int(&call, "tlsx_version"), Some(0x303));
    assert_eq!(int(&call, "tlsx_cipher_suite"), Some(0xc02f));
    assert_eq!(
        text(&call, "tlsx_summary"),
        "TLS 1.2 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 a.example"
    );
    assert_eq!(text(&call, "tlsx_info"), "ServerHello");
    assert_eq!(field(&call, "tlsx_resumed"), Some(&Value::Bool(false)));
    // Hello, answer, keys, Finished: three packets later.
    assert_eq!(int(&call, "tlsx_handshake_us"), Some(3));
    assert_eq!(int(&call, "tlsx_client_bytes"), Some(120));
    assert_eq!(int(&call, "tlsx_server_bytes"), Some(5000));
    assert_eq!(call.marks, Marks::default());
}

#[test]
fn a_handshake_of_tls_1_3() {
    let call = only(&tls13().packets);
    assert_eq!((call.version, call.outcome), ("TLS 1.3", Outcome::Ok));
    // What is agreed on is encrypted; so it is what was offered.
    assert_eq!(text(&call, "tlsx_alpn"), "h2, http/1.1");
    assert_eq!(int(&call, "tlsx_version"), Some(0x304));
    // Its session is named only for those who know no better.
    assert_eq!(field(&call, "tlsx_resumed"), Some(&Value::Bool(false)));
    assert!(text(&call, "tlsx_ja4").starts_with("t13d0205h2_"));
    assert_eq!(int(&call, "tlsx_handshake_us"), Some(3));
    assert_eq!(int(&call, "tlsx_client_bytes"), Some(100));
    assert_eq!(int(&call, "tlsx_server_bytes"), Some(5000));
}

#[test]
fn the_server_wants_another_hello() {
    const RETRY: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
        0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let mut talk = Talk::usual();
    let hello = client_hello(&[6; 32], &[versions13()]);
    talk.handshake().ask(record(22, &hello));
    let retry = server_hello(&RETRY, &[6; 32], 0x1301, &[version13()]);
    talk.answer([record(22, &retry), ccs()].concat());
    talk.ask([ccs(), record(22, &hello)].concat());
    let chosen = server_hello(&[9; 32], &[6; 32], 0x1302, &[version13()]);
    talk.answer([record(22, &chosen), sealed(23, 99)].concat());
    talk.ask(sealed(23, 53)).close();
    let call = only(&talk.packets);
    assert_eq!(field(&call, "tlsx_hello_retry"), Some(&Value::Bool(true)));
    assert_eq!(
        (int(&call, "tlsx_cipher_suite"), call.outcome),
        (Some(0x1302), Outcome::Ok)
    );
    assert_eq!(
        call.request.map(|request| request.wire_len),
        Some(2 * (5 + hello.len() as u64))
    );
}

#[test]
fn a_session_is_resumed() {
    let mut talk = Talk::usual();
    talk.handshake().ask(record(22, &client_hello(&[5; 32], &[])));
    talk.answer([server12(&[5; 32]), ccs(), sealed(22, 40)].concat());
    talk.ask([ccs(), sealed(22, 40)].concat()).close();
    let call = only(&talk.packets);
    assert_eq!(field(&call, "tlsx_resumed"), Some(&Value::Bool(true)));
    assert_eq!(
        (call.outcome, int(&call, "tlsx_handshake_us")),
        (Outcome::Ok, Some(2))
    );

    let mut talk = Talk::usual();
    talk.handshake()
        .ask(record(22, &client_hello(&[], &[versions13()])));
    let hello = server_hello(&[9; 32], &[], 0x1301, &[version13(), extension(41, &[0, 0])]);
    talk.answer([record(22, &hello), sealed(23, 99)].concat())
        .ask(sealed(23, 53))
        .close();
    assert_eq!(
        field(&only(&talk.packets), "tlsx_resumed"),
        Some(&Value::Bool(true))
    );
}

#[test]
fn alerts_and_whose_fault_they_mean() {
    let cases = [
        (Who::Server, 40, "handshake_failure", Outcome::ClientError),
        (Who::Server, 112, "unrecognized_name", Outcome::ClientError),
        (Who::Server, 80, "internal_error", Outcome::ServerError),
        (Who::Client, 48, "unknown_ca", Outcome::ServerError),
        (Who::Client, 45, "certificate_expired", Outcome::ServerError),
    ];
    for (who, alert, name, outcome) in cases {
        let mut talk = Talk::usual();
        talk.handshake().ask(record(22, &client_hello(&[], &[])));
        if who == Who::Client {
            talk.answer(server12(&[]));
        }
        talk.send(who, &record(21, &[2, alert])).close();
        let call = only(&talk.packets);
        assert_eq!((text(&call, "error"), call.outcome), (name, outcome));
        assert_eq!(text(&call, "tlsx_alert"), name);
    }
}

#[test]
fn a_client_that_rejects_a_handshake_of_tls_1_3_says_so_encrypted() {
    for begin in [vec![], ccs()] {
        let mut talk = Talk::usual();
        talk.handshake()
            .ask(record(22, &client_hello(&[6; 32], &[versions13()])));
        let hello = server_hello(&[9; 32], &[6; 32], 0x1301, &[version13()]);
        talk.answer([record(22, &hello), ccs(), sealed(23, 2000)].concat());
        // Level and number, the kind of content, a tag.
        talk.ask([begin, sealed(23, 2 + 1 + 16)].concat()).close();
        let call = only(&talk.packets);
        assert_eq!(call.outcome, Outcome::Unknown);
        assert_eq!(int(&call, "tlsx_handshake_us"), None);
        assert_eq!(int(&call, "tlsx_server_bytes"), None);
    }
}

#[test]
fn a_server_that_does_not_answer() {
    let mut talk = Talk::usual();
    talk.handshake().ask(record(22, &client_hello(&[], &[])));
    assert_eq!(only(&talk.packets).outcome, Outcome::Unknown);
    let call = only(&talk.reset(Who::Server).packets);
    assert_eq!(call.outcome, Outcome::NoResponse);
    assert!(call.marks.has(Marks::RESET) && call.marks.has(Marks::NO_RESPONSE));
    assert_eq!(text(&call, "tlsx_info"), "ClientHello");
}

#[test]
fn data_before_the_handshake_is_over() {
    let mut talk = Talk::usual();
    let hello = client_hello(&[6; 32], &[versions13(), extension(42, &[])]);
    talk.handshake()
        .ask([record(22, &hello), ccs(), sealed(23, 700)].concat());
    let hello = server_hello(&[9; 32], &[6; 32], 0x1301, &[version13()]);
    talk.answer([record(22, &hello), ccs(), sealed(23, 99)].concat());
    talk.ask(sealed(23, 53))
        .ask(sealed(23, 10))
        .answer(sealed(23, 50))
        .close();
    let call = only(&talk.packets);
    // Which of the client's records ends the handshake cannot be told.
    assert_eq!(int(&call, "tlsx_handshake_us"), None);
    assert_eq!(int(&call, "tlsx_client_bytes"), None);
    assert_eq!(call.outcome, Outcome::Unknown);
}

#[test]
fn joined_after_the_handshake() {
    let packets = tls12().packets;
    let data = packets
        .iter()
        .position(|packet| packet.data.get(40) == Some(&23))
        .expect("a record with data");
    let dissected = dissect(&packets[data..]);
    assert!(dissected.calls.is_empty());
    assert_eq!(dissected.counters.recognised, 1);
}

#[test]
fn joined_between_the_hellos() {
    let call = only(&tls12().packets[4..]);
    assert!(call.marks.has(Marks::JOINED) && call.marks.has(Marks::NO_REQUEST));
    assert_eq!(text(&call, "tlsx_info"), "ServerHello");
    assert_eq!(call.server.address.port(), 80);
}

#[test]
fn any_chunking() {
    for talk in [tls12(), tls13()] {
        let whole = only(&talk.packets);
        for mss in [1, 2, 5, 7, 100] {
            let mut chunked = Talk::usual();
            chunked.mss = mss;
            chunked.handshake();
            for (who, payload) in talk.said() {
                chunked.send(who, &payload);
            }
            let call = only(&chunked.close().packets);
            let timeless = |call: &Call| {
                let mut fields = call.fields.clone();
                fields.retain(|(name, _)| *name != "tlsx_handshake_us");
                (fields, call.outcome)
            };
            assert_eq!(timeless(&call), timeless(&whole), "{mss}");
        }
    }
}

#[test]
fn any_lost_segment_gives_no_wrong_field() {
    // Of what was seen of it.
    const PARTIAL: &[&str] = &[
        "tls_request_size",
        "tls_response_size",
        "tls_total_size",
        "tlsx_summary",
        "tlsx_info",
    ];
    for mut talk in [tls12(), tls13()] {
        let whole = only(&talk.packets);
        // That the last bytes are missing is told by acknowledgements only.
        talk.ack(Who::Client).ack(Who::Server);
        for lost in 3..talk.packets.len() - 2 {
            let mut packets = talk.packets.clone();
            packets.remove(lost);
            for call in dissect(&packets).calls {
                for (name, value) in &call.fields {
                    let expected = field(&whole, name);
                    let fits = PARTIAL.contains(name) || expected == Some(value);
                    assert!(fits, "{lost}: {name} {value:?} {expected:?}");
                }
            }
        }
    }
}

#[test]
fn any_truncation_and_any_wrong_byte() {
    let talk = tls12();
    for n in 3..talk.packets.len() {
        for len in 40..talk.packets[n].data.len().min(400) {
            let mut packets = talk.packets.clone();
            packets[n].data.truncate(len);
            dissect(&packets);
            let mut packets = talk.packets.clone();
            packets[n].data[len] ^= 0xff;
            dissect(&packets);
        }
    }
}

#[test]
fn cut_at_any_packet() {
    for talk in [tls12(), tls13()] {
        for cut in 0..talk.packets.len() {
            for call in dissect(&talk.packets[cut..]).calls {
                assert!(cut < 2 || call.marks.has(Marks::JOINED), "{cut}");
                assert!(call.request.is_some() || call.response.is_some());
            }
        }
    }
}

#[test]
fn seen_by_both_ends() {
    let talk = tls13();
    let mut packets = talk.seen_by(Who::Client, 0, 0);
    packets.extend(talk.seen_by(Who::Server, 1, 400));
    packets.sort_by_key(|packet| packet.ts);
    let call = only(&packets);
    assert!(call.client_side.is_some() && call.server_side.is_some());
}

#[test]
fn more_suites_than_are_listed() {
    let suites: Vec<u8> = (0..300u16).flat_map(|n| (0xc000 + n).to_be_bytes()).collect();
    let body = [[3, 3].as_slice(), &[7; 32], &[0], &vector16(&suites), &[1, 0]].concat();
    let mut talk = Talk::usual();
    talk.handshake().ask(record(22, &message(1, &body)));
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.tls_cut, 1);
    let call = one(dissected);
    assert_eq!(text(&call, "tlsx_cipher_suites").split(", ").count(), 128);
}

#[test]
fn a_record_of_the_longest_kind_and_a_longer_one() {
    for (len, calls) in [(16_384 + 2048, 1), (16_384 + 2049, 0)] {
        let hello = client_hello(&[], &[]);
        let mut content = hello.clone();
        content.resize(len, 0);
        let mut talk = Talk::usual();
        talk.handshake().ask(record(22, &content)).close();
        assert_eq!(dissect(&talk.packets).calls.len(), calls);
    }
}

#[test]
fn a_certificate_message_that_is_too_long() {
    let mut talk = Talk::usual();
    talk.handshake().ask(record(22, &client_hello(&[], &[])));
    let long = message(11, &vec![0; 100_000]);
    let content = [server_hello(&[9; 32], &[], 0xc02f, &[]), long, message(14, &[])].concat();
    for part in content.chunks(16_000) {
        talk.answer(record(22, part));
    }
    talk.ask([record(22, &message(16, &[1; 66])), ccs(), sealed(22, 40)].concat());
    talk.answer([ccs(), sealed(22, 40)].concat()).close();
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.tls_messages_skipped, 1);
    assert_eq!(one(dissected).outcome, Outcome::Ok);
}

#[test]
fn a_hello_in_the_format_of_ssl_2() {
    let hello = b"\x80\x1f\x01\x03\x01\0\x06\0\0\0\x10\x01\0\x80\0\0\x2f0123456789abcdef";
    let answer = server12(b"");
    for mss in [1, 1460] {
        for joined in [false, true] {
            let mut talk = Talk::usual();
            talk.mss = mss;
            talk.handshake().ask(hello).answer(&answer).close();
            let call = only(&talk.packets[if joined { 3 } else { 0 }..]);
            assert!(call.request.is_some() && call.response.is_some());
            let suites = "SSL2_RC4_128_WITH_MD5, TLS_RSA_WITH_AES_128_CBC_SHA";
            assert_eq!(text(&call, "tlsx_cipher_suites"), suites);
            assert_eq!(field(&call, "tlsx_ja3"), None);
        }
    }
}

#[test]
fn joined_behind_the_handshake_of_tcp_any_chunking_tells_the_same() {
    for talk in [tls12(), tls13()] {
        let whole = only(&talk.again_without(0..0, 60_000)).fields;
        for mss in 1..9 {
            assert_eq!(only(&talk.again_without(0..0, mss)).fields, whole, "{mss}");
        }
    }
}

#[test]
fn a_hello_whose_first_bytes_are_in_records_of_their_own() {
    let hello = client_hello(b"", &[]);
    for first in 1..8 {
        let (begin, rest) = hello.split_at(first);
        let mut talk = Talk::usual();
        talk.handshake()
            .ask([record(22, begin), record(22, rest)].concat())
            .answer(server12(b""));
        for packets in [&talk.packets[..], &talk.packets[3..]] {
            let call = only(packets);
            assert!(call.request.is_some() && call.response.is_some(), "{first}");
        }
    }
}
