//! A server's certificate (RFC 5280), as far as it is shown: DER is read only where it leads there.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::bytes::Bytes;
use crate::limits::TLS_LISTED;

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// As in RFC 3339.
    pub not_after: String,
    /// Names, addresses and URIs that it is for.
    pub alternative_names: Vec<String>,
}

/// Tags (X.690, section 8).
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const BMP_STRING: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

impl Certificate {
    /// Reads the first certificate of the message's list, which is the server's own.
    pub fn read(body: &[u8]) -> Option<Self> {
        let first = Bytes(body).vector24()?.vector24()?.0;
        Self::of_der(first)
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der).expect(SEQUENCE)?;
        let mut body = outer.expect(SEQUENCE)?;
        if body.peek() == Some(VERSION) {
            body.next()?;
        }
        // Serial number and algorithm.
        body.next()?;
        body.next()?;
        let issuer = name(body.expect(SEQUENCE)?)?;
        let mut validity = body.expect(SEQUENCE)?;
        validity.next()?;
        let (kind, time) = validity.next()?;
        let not_after = instant(kind, time)?;
        let subject = name(body.expect(SEQUENCE)?)?;
        let mut certificate = Self {
            subject,
            issuer,
            not_after,
            alternative_names: Vec::new(),
        };
        while let Some((tag, content)) = body.next() {
            if tag == EXTENSIONS {
                certificate.alternative_names = alternative_names(content).unwrap_or_default();
            }
        }
        Some(certificate)
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        let names: usize = self.alternative_names.iter().map(String::len).sum();
        self.subject.len() + self.issuer.len() + names
    }
}

/// Values one behind the other (X.690, section 8.1).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, with its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let mut bytes = Bytes(self.0);
        let tag = bytes.u8()?;
        let len = match bytes.u8()? {
            short if short < 0x80 => usize::from(short),
            0x81 => usize::from(bytes.u8()?),
            0x82 => usize::from(bytes.u16()?),
            0x83 => bytes.u24()?,
            // Longer than any message; or of no length, which DER does not have.
            _ => return None,
        };
        let content = bytes.take(len)?;
        self.0 = bytes.0;
        Some((tag, content))
    }

    /// The content of the next value, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<Self> {
        let (found, content) = self.next()?;
        (found == tag).then_some(Self(content))
    }
}

/// A name (RFC 5280, section 4.1.2.4), its parts in the order in which they stand.
fn name(mut sequence: Der<'_>) -> Option<String> {
    let mut text = String::new();
    while let Some((tag, content)) = sequence.next() {
        if tag != SET {
            return None;
        }
        let mut set = Der(content);
        while let Some((_, content)) = set.next() {
            let mut pair = Der(content);
            let kind = pair.expect(OBJECT)?.0;
            let (tag, value) = pair.next()?;
            if text.len() > NAME_BYTES {
                return Some(text);
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(attribute(kind));
            text.push('=');
            text.push_str(&string(tag, value));
        }
    }
    Some(text)
}

/// Bytes of a name after which no more of its parts are shown.
const NAME_BYTES: usize = 1024;

/// The usual short name of a part of a name (RFC 4514, section 3), by its object identifier.
fn attribute(object: &[u8]) -> &'static str {
    match object {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 4] => "SN",
        [0x55, 4, 5] => "serialNumber",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "street",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x55, 4, 97] => "organizationIdentifier",
        // 0.9.2342.19200300.100.1.25 and 1.2.840.113549.1.9.1
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => "other",
    }
}

fn string(tag: u8, value: &[u8]) -> String {
    if tag == BMP_STRING {
        let units = value.as_chunks().0.iter().map(|unit| u16::from_be_bytes(*unit));
        return char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
    }
    String::from_utf8_lossy(value).into_owned()
}

/// A time as in RFC 3339. Years of two digits are those from 1950 to 2049 (RFC 5280, section 4.1.2.5.1).
fn instant(tag: u8, value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let full = match tag {
        UTC_TIME if text.as_bytes().first()? >= &b'5' => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if full.len() != 14 || !full.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| full.get(range).unwrap_or_default();
    let date = [part(0..4), part(4..6), part(6..8)].join("-");
    let time = [part(8..10), part(10..12), part(12..14)].join(":");
    Some(format!("{date}T{time}Z"))
}

/// What the extension for them lists (RFC 5280, section 4.2.1.6).
fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    const EMAIL: u8 = 0x81;
    const DNS_NAME: u8 = 0x82;
    const URI: u8 = 0x86;
    const ADDRESS: u8 = 0x87;
    let mut list = Der(extensions).expect(SEQUENCE)?;
    while let Some(mut extension) = list.expect(SEQUENCE) {
        if extension.expect(OBJECT)?.0 != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical may stand between.
        let octets = std::iter::from_fn(|| extension.next())
            .find(|(tag, _)| *tag == OCTETS)?
            .1;
        let mut names = Der(octets).expect(SEQUENCE)?;
        let mut shown = Vec::new();
        while let Some((tag, value)) = names.next() {
            let name = match tag {
                EMAIL | DNS_NAME | URI => String::from_utf8_lossy(value).into_owned(),
                ADDRESS => match (<[u8; 4]>::try_from(value), <[u8; 16]>::try_from(value)) {
                    (Ok(v4), _) => Ipv4Addr::from(v4).to_string(),
                    (_, Ok(v6)) => Ipv6Addr::from(v6).to_string(),
                    _ => continue,
                },
                _ => continue,
            };
            if shown.len() < TLS_LISTED {
                shown.push(name);
            }
        }
        return Some(shown);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = content.len() as u16;
        [&[tag, 0x82], len.to_be_bytes().as_slice(), content].concat()
    }

    fn named(text: &[u8]) -> Vec<u8> {
        let pair = [tagged(OBJECT, &[0x55, 4, 3]), tagged(0x0c, text)].concat();
        tagged(SEQUENCE, &tagged(SET, &tagged(SEQUENCE, &pair)))
    }

    fn certificate() -> Vec<u8> {
        let alternatives = [
            tagged(0x82, b"a.example"),
            tagged(0x87, &[10, 0, 0, 1]),
            tagged(0xa4, b""),
        ]
        .concat();
        let extension = [
            tagged(OBJECT, SUBJECT_ALT_NAME),
            tagged(1, &[0xff]),
            tagged(OCTETS, &tagged(SEQUENCE, &alternatives)),
        ]
        .concat();
        let validity = [
            tagged(UTC_TIME, b"200101000000Z"),
            tagged(GENERALIZED_TIME, b"20510203040506Z"),
        ]
        .concat();
        let body = [
            tagged(VERSION, &[2, 1, 2]),
            tagged(2, &[1]),
            tagged(SEQUENCE, &[]),
            named(b"The Issuer"),
            tagged(SEQUENCE, &validity),
            named(b"a.example"),
            tagged(SEQUENCE, &[]),
            tagged(EXTENSIONS, &tagged(SEQUENCE, &tagged(SEQUENCE, &extension))),
        ]
        .concat();
        tagged(SEQUENCE, &tagged(SEQUENCE, &body))
    }

    #[test]
    fn what_a_certificate_says() {
        let told = Certificate::of_der(&certificate()).unwrap();
        let expected = Certificate {
            subject: "CN=a.example".to_owned(),
            issuer: "CN=The Issuer".to_owned(),
            not_after: "2051-02-03T04:05:06Z".to_owned(),
            alternative_names: vec!["a.example".to_owned(), "10.0.0.1".to_owned()],
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn any_truncation_and_any_wrong_byte() {
        let whole = certificate();
        for len in 0..whole.len() {
            assert_eq!(Certificate::of_der(&whole[..len]), None);
            let mut wrong = whole.clone();
            wrong[len] ^= 0x5a;
            let _ = Certificate::of_der(&wrong);
        }
    }
}
