//! QUIC, by situation: the packets have to be protected first.

use super::keys::Keys;
use super::packet::Version;
use crate::testing::{Chat, Recorded, Who, dissect};
use crate::{Call, Marks, Outcome, Value};

const DESTINATION: &[u8] = &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

/// Both ends of a connection, as they protect their first packets.
struct Ends {
    version: u32,
    destination: Vec<u8>,
    keys: [Keys; 2],
    number: u32,
}

impl Ends {
    fn new(version: u32, destination: &[u8]) -> Self {
        let recipe = Version::of(version).unwrap().recipe;
        Self {
            version,
            destination: destination.to_vec(),
            keys: Keys::of(recipe, destination).unwrap(),
            number: 0,
        }
    }

    fn initial(&mut self, side: usize, frames: &[u8]) -> Vec<u8> {
        let mut payload = frames.to_vec();
        payload.resize(payload.len().max(1100), 0);
        let kind = if self.version == V2 { 0xd3 } else { 0xc3 };
        let mut header = vec![kind];
        header.extend_from_slice(&self.version.to_be_bytes());
        header.push(self.destination.len() as u8);
        header.extend_from_slice(&self.destination);
        // No id of its own, no token; the number, the payload and its tag.
        header.extend_from_slice(&[0, 0]);
        header.extend_from_slice(&(0x4000 | (4 + payload.len() + 16) as u16).to_be_bytes());
        self.number += 1;
        self.keys[side].seal(header, self.number, &payload)
    }

    fn client(&mut self, frames: &[u8]) -> Vec<u8> {
        self.initial(0, frames)
    }

    fn server(&mut self, frames: &[u8]) -> Vec<u8> {
        self.initial(1, frames)
    }
}

fn crypto(offset: u16, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend_from_slice(&(0x4000 | offset).to_be_bytes());
    frame.extend_from_slice(&(0x4000 | bytes.len() as u16).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0], (body.len() as u16).to_be_bytes().as_slice(), body].concat()
}

/// For a.example by h3, long enough for two packets.
fn client_hello() -> Vec<u8> {
    let mut body = [[3, 3].as_slice(), &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat();
    let extensions = [
        b"\0\0\0\x0e\0\x0c\0\0\x09a.example".as_slice(),
        b"\0\x10\0\x05\0\x03\x02h3",
        b"\0\x2b\0\x03\x02\x03\x04",
        &[&[0, 21, 4, 0], [0; 1024].as_slice()].concat(),
    ]
    .concat();
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(&extensions);
    message(1, &body)
}

fn server_hello() -> Vec<u8> {
    let body = [
        [3, 3].as_slice(),
        &[9; 32],
        &[0],
        &[0x13, 0x01, 0],
        &[0, 6, 0, 43, 0, 2, 3, 4],
    ]
    .concat();
    message(2, &body)
}

fn chat() -> Chat {
    Chat::new("10.0.0.1:40000", "10.0.0.2:443", 1_000_000_000)
}

fn field<'a>(call: &'a Call, name: &str) -> Option<&'a Value> {
    let found = call.fields.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value)
}

fn only(packets: &[Recorded]) -> Call {
    let mut calls = dissect(packets).calls;
    assert_eq!(calls.len(), 1, "{calls:#?}");
    calls.remove(0)
}

fn is(call: &Call, name: &str, text: &str) -> bool {
    field(call, name) == Some(&Value::Text(text.to_owned().into()))
}

#[test]
fn a_hello_over_two_datagrams_in_any_order() {
    for version in [V1, V2] {
        for order in [[0, 1], [1, 0]] {
            let (mut ends, hello) = (Ends::new(version, DESTINATION), client_hello());
            let pieces = [crypto(0, &hello[..700]), crypto(700, &hello[700..])];
            let mut chat = chat();
            for piece in order {
                chat.ask(ends.client(&pieces[piece]));
            }
            chat.answer(ends.server(&crypto(0, &server_hello())));
            chat.answer([0x40; 900]).ask([0x41; 500]);
            let call = only(&chat.packets);
            assert_eq!((call.protocol, call.path.as_str()), ("quic", "a.example"));
            assert_eq!(call.version, if version == V1 { "QUIC v1" } else { "QUIC v2" });
            assert_eq!(call.outcome, Outcome::Ok);
            assert!(is(&call, "tlsx_sni", "a.example") && is(&call, "tlsx_alpn", "h3"));
            assert_eq!(field(&call, "tlsx_version"), Some(&Value::Int(0x304)));
            // Both of them, and no more.
            assert_eq!(
                call.request.map(|request| request.packets.to_vec()),
                Some(vec![0, 1])
            );
        }
    }
}

#[test]
fn a_hello_that_is_sent_again() {
    let (mut ends, hello) = (Ends::new(V1, DESTINATION), client_hello());
    let mut chat = chat();
    chat.ask(ends.client(&crypto(0, &hello)))
        .ask(ends.client(&crypto(0, &hello)));
    chat.answer(ends.server(&crypto(0, &server_hello())));
    let call = only(&chat.packets);
    assert_eq!(field(&call, "quic_retries"), Some(&Value::Int(1)));
    assert_eq!(call.outcome, Outcome::Ok);
}

#[test]
fn any_datagram_twice_or_late() {
    let (mut ends, hello) = (Ends::new(V1, DESTINATION), client_hello());
    let mut chat = chat();
    chat.ask(ends.client(&crypto(0, &hello[..700])))
        .ask(ends.client(&crypto(700, &hello[700..])))
        .answer(ends.server(&crypto(0, &server_hello())))
        .ask(ends.client(&[2, 1, 0, 0, 0]));
    for twice in 0..chat.packets.len() {
        for late in twice..=chat.packets.len() {
            let mut packets = chat.packets.clone();
            packets.insert(late, packets[twice].clone());
            assert_eq!(only(&packets).outcome, Outcome::Ok, "{twice} {late}");
        }
    }
}

#[test]
fn the_server_wants_the_address_proved() {
    let hello = client_hello();
    let mut chat = chat();
    chat.ask(Ends::new(V1, DESTINATION).client(&crypto(0, &hello)));
    chat.answer([&[0xf0, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4], [0xaa; 30].as_slice()].concat());
    let mut ends = Ends::new(V1, &[1, 2, 3, 4]);
    chat.ask(ends.client(&crypto(0, &hello)));
    chat.answer(ends.server(&crypto(0, &server_hello())));
    let call = only(&chat.packets);
    assert_eq!(field(&call, "quic_retry"), Some(&Value::Bool(true)));
    assert_eq!(call.outcome, Outcome::Ok);
}

#[test]
fn refusals() {
    let mut ends = Ends::new(V1, DESTINATION);
    let mut refused = chat();
    refused.ask(ends.client(&crypto(0, &client_hello())));
    // CRYPTO_ERROR with TLS's no_application_protocol, of no frame, for no reason.
    refused.answer(ends.server(&[0x1c, 0x41, 0x78, 0, 0]));
    let call = only(&refused.packets);
    assert!(is(&call, "error", "no_application_protocol"));
    assert_eq!((call.outcome, call.status), (Outcome::ClientError, Some(0x178)));

    let mut other = chat();
    other.ask(Ends::new(V1, DESTINATION).client(&crypto(0, &client_hello())));
    other.answer([0x80, 0, 0, 0, 0, 0, 0, 0x6b, 0x33, 0x43, 0xcf]);
    assert!(is(&only(&other.packets), "error", "version_negotiation"));
}

#[test]
fn joined_after_the_hello() {
    let mut ends = Ends::new(V1, DESTINATION);
    let mut chat = chat();
    chat.ask(ends.client(&crypto(0, &client_hello())));
    chat.answer(ends.server(&crypto(0, &server_hello())));
    let dissected = dissect(&chat.packets[1..]);
    assert!(dissected.calls.is_empty());
    assert_eq!(dissected.counters.datagrams_unread, 1);
}

#[test]
fn nobody_answers() {
    let mut chat = chat();
    chat.ask(Ends::new(V1, DESTINATION).client(&crypto(0, &client_hello())));
    chat.now += 40_000_000_000;
    chat.ask([0; 20]);
    let call = only(&chat.packets);
    assert_eq!(call.outcome, Outcome::NoResponse);
    assert!(call.marks.has(Marks::NO_RESPONSE));
}

#[test]
fn seen_by_both_ends() {
    let mut ends = Ends::new(V1, DESTINATION);
    let mut chat = chat();
    chat.ask(ends.client(&crypto(0, &client_hello())));
    chat.answer(ends.server(&crypto(0, &server_hello())));
    let mut packets = chat.seen_by(Who::Client, 0, 0);
    packets.extend(chat.seen_by(Who::Server, 1, 10));
    packets.sort_by_key(|packet| packet.ts);
    let call = only(&packets);
    assert!(call.client_side.is_some() && call.server_side.is_some());
}

#[test]
fn any_truncation_and_any_wrong_byte() {
    let mut ends = Ends::new(V1, DESTINATION);
    let mut chat = chat();
    chat.ask(ends.client(&crypto(0, &client_hello())));
    chat.answer(ends.server(&crypto(0, &server_hello())));
    for n in 0..2 {
        for len in (28..chat.packets[n].data.len()).step_by(7) {
            let mut packets = chat.packets.clone();
            packets[n].data.truncate(len);
            assert!(dissect(&packets).calls.len() <= 1);
            let mut packets = chat.packets.clone();
            packets[n].data[len] ^= 0xff;
            assert!(dissect(&packets).calls.len() <= 1);
        }
    }
}
