//! What a DNS answer tells a client of addresses: under which name it goes to reach them, and for how long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::numbers::{A, AAAA, CNAME};
use super::wire::Reader;
use crate::datagram::{Datagram, Transport};
use crate::limits::DNS_RESOLVED;
use crate::segment::Segment;

/// The port that DNS over TCP is looked for on: of a stream, only a segment that is one whole answer is read.
const PORT: u16 = 53;

/// The class of the Internet.
const IN: u16 = 1;

/// Aliases on the way from a name to its addresses: servers follow eight to sixteen.
const ALIASES: usize = 16;

/// An answer that gives a name addresses.
///
/// It is found in a single packet, without its question and before any shard has seen it, so that what it tells can be
/// known of every later packet. What the answer is worth as a call is the dissector's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Who was answered.
    pub client: IpAddr,
    /// The name that was asked for, in lower case; not those that it is an alias of.
    pub name: String,
    /// The addresses, as many as are kept.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds the client may keep them: the least of the aliases' and the addresses'.
    pub ttl: u32,
}

impl Resolution {
    /// Reads a datagram, given its payload, on any port. `None` of all that gives no addresses to a name.
    pub fn of_datagram(datagram: &Datagram, payload: &[u8]) -> Option<Self> {
        if datagram.transport != Transport::Udp || !may_answer(payload) {
            return None;
        }
        let client = datagram.flow.address(datagram.from.end.other()).ip();
        read(payload, client)
    }

    /// Reads a segment, given its payload, if it is one whole answer from DNS's own port.
    pub fn of_segment(segment: &Segment, payload: &[u8]) -> Option<Self> {
        if segment.len == 0 || segment.flow.port(segment.from.end) != PORT {
            return None;
        }
        let (len, message) = payload.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*len)) != message.len() || !may_answer(message) {
            return None;
        }
        let client = segment.flow.address(segment.from.end.other()).ip();
        read(message, client)
    }
}

/// Whether bytes begin as an answer without error does, to one question. Of all datagrams hardly any others do, and this
/// is all that it costs those.
fn may_answer(bytes: &[u8]) -> bool {
    let Some([_, _, upper, lower, q0, q1, a0, a1]) = bytes.first_chunk::<8>() else {
        return false;
    };
    // A response to a plain query; no reserved bit, no error.
    upper & 0xf8 == 0x80 && lower & 0x4f == 0 && [*q0, *q1] == [0, 1] && *a0 == 0 && *a1 > 0
}

fn read(message: &[u8], client: IpAddr) -> Option<Resolution> {
    let mut reader = Reader::new(message);
    reader.take(6)?;
    let answers = reader.u16()?;
    reader.take(4)?;
    let question = reader;
    reader.skip_name()?;
    let asked = reader.u16()?;
    if !matches!(asked, A | AAAA) || reader.u16()? & 0x7fff != IN {
        return None;
    }
    let mut aliases = Vec::new();
    let mut found = Vec::new();
    for _ in 0..answers {
        let owner = reader;
        reader.skip_name()?;
        let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let len = reader.u16()?;
        let data = reader.part(usize::from(len))?;
        if class & 0x7fff != IN {
            continue;
        }
        match kind {
            CNAME if aliases.len() < ALIASES => {
                let mut behind = data;
                behind.skip_name()?;
                aliases.push((owner, data, ttl));
            }
            A | AAAA if found.len() < DNS_RESOLVED => found.push((owner, address(kind, data.rest())?, ttl)),
            _ => {}
        }
    }
    // From the name over its aliases; they need not stand in their order. Each is followed once, so none in a circle.
    let mut at = question;
    let mut ttl = u32::MAX;
    while let Some(next) = aliases.iter().position(|(owner, ..)| owner.is_same_name(&at)) {
        let (_, target, lives) = aliases.swap_remove(next);
        (at, ttl) = (target, ttl.min(lives));
    }
    found.retain(|(owner, ..)| owner.is_same_name(&at));
    let ttl = found.iter().fold(ttl, |ttl, (_, _, lives)| ttl.min(*lives));
    if found.is_empty() {
        return None;
    }
    let mut name = { question }.name()?;
    name.make_ascii_lowercase();
    Some(Resolution {
        client,
        name,
        addresses: found.into_iter().map(|(_, address, _)| address).collect(),
        ttl,
    })
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    if kind == A {
        let octets: [u8; 4] = data.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets: [u8; 16] = data.try_into().ok()?;
    Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));

    /// An answer to a question for `name`, with these records: owner, type, seconds, data.
    fn answer(name: &str, kind: u16, records: &[(&str, u16, u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1];
        bytes.extend(u16::try_from(records.len()).unwrap().to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(labels(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        for (owner, kind, ttl, data) in records {
            bytes.extend(labels(owner));
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend(ttl.to_be_bytes());
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    fn labels(name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    fn told(bytes: &[u8]) -> Option<(String, Vec<String>, u32)> {
        may_answer(bytes).then_some(())?;
        let told = read(bytes, CLIENT)?;
        assert_eq!(told.client, CLIENT);
        let addresses = told.addresses.iter().map(ToString::to_string).collect();
        Some((told.name, addresses, told.ttl))
    }

    #[test]
    fn name_with_two_addresses() {
        let records = [
            ("Pay.Example.com", A, 30, vec![192, 0, 2, 1]),
            ("pay.example.com", A, 20, vec![192, 0, 2, 2]),
        ];
        let expected = (
            "pay.example.com".to_owned(),
            vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
            20,
        );
        assert_eq!(told(&answer("pay.EXAMPLE.com", A, &records)), Some(expected));
    }

    #[test]
    fn aliases_in_any_order_and_the_name_that_was_asked_for() {
        let records = [
            ("b.example", CNAME, 40, labels("c.example")),
            ("c.example", AAAA, 300, Ipv6Addr::LOCALHOST.octets().to_vec()),
            ("a.example", CNAME, 50, labels("b.example")),
            ("else.example", AAAA, 1, Ipv6Addr::LOCALHOST.octets().to_vec()),
        ];
        let expected = ("a.example".to_owned(), vec!["::1".to_owned()], 40);
        assert_eq!(told(&answer("a.example", AAAA, &records)), Some(expected));
    }

    #[test]
    fn aliases_in_a_circle_lead_nowhere() {
        let records = [
            ("a.example", CNAME, 50, labels("b.example")),
            ("b.example", CNAME, 40, labels("a.example")),
        ];
        assert_eq!(told(&answer("a.example", A, &records)), None);
    }

    #[test]
    fn what_gives_no_address() {
        assert_eq!(told(&answer("a.example", A, &[])), None);
        assert_eq!(
            told(&answer("a.example", 15, &[("a.example", A, 1, vec![1, 2, 3, 4])])),
            None
        );
        assert_eq!(
            told(&answer("a.example", A, &[("a.example", A, 1, vec![1, 2, 3])])),
            None
        );
        let mut refused = answer("a.example", A, &[("a.example", A, 1, vec![1, 2, 3, 4])]);
        refused[3] |= 5;
        assert_eq!(told(&refused), None);
    }

    #[test]
    fn more_addresses_than_are_kept() {
        let records: Vec<_> = (0..=DNS_RESOLVED)
            .map(|n| ("a.example", A, 9, vec![10, 0, 0, u8::try_from(n).unwrap()]))
            .collect();
        let (_, addresses, _) = told(&answer("a.example", A, &records)).unwrap();
        assert_eq!(addresses.len(), DNS_RESOLVED);
    }

    #[test]
    fn no_truncation_panics() {
        let records = [
            ("a.example", CNAME, 50, labels("b.example")),
            ("b.example", A, 40, vec![192, 0, 2, 1]),
        ];
        let bytes = answer("a.example", A, &records);
        for len in 0..bytes.len() {
            assert_eq!(told(&bytes[..len]), None, "{len}");
        }
        assert!(told(&bytes).is_some());
    }
}
