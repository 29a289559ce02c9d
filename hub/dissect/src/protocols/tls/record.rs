//! Records (RFC 8446, section 5.1), and the handshake messages in them.

use super::bytes::Bytes;
use super::handshake::Said;
use super::numbers::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, CLIENT_HELLO, HANDSHAKE, SERVER_HELLO, is_tls13,
};
use super::ssl2;
use crate::Counters;
use crate::limits::{TLS_MESSAGE, TLS_RECORD};
use crate::protocols::Side;

/// Bytes of a record's header: type, version, length.
pub(super) const HEADER: usize = 5;

/// Level of an alert that ends the connection.
pub(super) const FATAL: u8 = 2;

/// A record's header.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub kind: u8,
    pub len: usize,
}

impl Header {
    /// `None` if it is none.
    pub fn read([kind, major, minor, l0, l1]: [u8; HEADER]) -> Option<Self> {
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let known = matches!(kind, CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE | APPLICATION_DATA);
        // Only application data may be empty.
        let fits = len <= TLS_RECORD && (len > 0 || kind == APPLICATION_DATA);
        (known && major == 3 && minor <= 4 && fits).then_some(Self { kind, len })
    }
}

/// A record whose content is passed over.
#[derive(Debug)]
pub(super) struct Inside {
    /// Bytes that are still to come.
    pub left: usize,
    /// Whether its end is told.
    pub told: bool,
}

impl Inside {
    /// How many of so many missing bytes are its own, and whether its end is told.
    pub fn gap(&mut self, len: u64) -> (u64, bool) {
        let own = self.left.min(usize::try_from(len).unwrap_or(usize::MAX));
        self.left -= own;
        (own as u64, self.told)
    }
}

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// They begin with a ClientHello.
    ClientHello,
    /// They begin with a ServerHello.
    ServerHello,
    /// They begin with records of some kind.
    Records,
    /// So far; there are too few bytes to say.
    Maybe,
    No,
}

/// What bytes at the begin of a segment look like.
pub(super) fn likeness(bytes: &[u8]) -> Likeness {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return ssl2::likeness(bytes);
    }
    let Some(header) = bytes.first_chunk() else {
        let fits = |(n, byte): (usize, &u8)| match n {
            0 => (CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(byte),
            1 => *byte == 3,
            2 => *byte <= 4,
            _ => true,
        };
        return if bytes.iter().enumerate().all(fits) {
            Likeness::Maybe
        } else {
            Likeness::No
        };
    };
    let Some(Header { kind, len }) = Header::read(*header) else {
        return Likeness::No;
    };
    let content = bytes.get(HEADER..).unwrap_or_default();
    if kind == HANDSHAKE
        && let Some(hello) = hello(bytes)
    {
        return hello;
    }
    // Behind the record, there is another one or nothing; the first of many, if they are longer than a segment, says
    // of itself that it is encrypted.
    match content.get(len..) {
        Some(rest) => match rest.first_chunk() {
            Some(next) if Header::read(*next).is_some() => Likeness::Records,
            Some(_) => Likeness::No,
            None if rest.is_empty() => Likeness::Records,
            None => Likeness::Maybe,
        },
        None if kind == APPLICATION_DATA && header[2] == 3 => Likeness::Records,
        None => Likeness::No,
    }
}

/// Bytes of a hello by which it is told: type, length and version.
const HELLO: usize = 6;

/// Whether records begin with a hello; `None` if they do not. Its begin may be spread over several.
fn hello(bytes: &[u8]) -> Option<Likeness> {
    let mut begin = Vec::with_capacity(HELLO);
    let mut records = Bytes(bytes);
    while begin.len() < HELLO {
        let Some(header) = records.0.first_chunk() else {
            break;
        };
        let Header { len, .. } = Header::read(*header).filter(|header| header.kind == HANDSHAKE)?;
        records.take(HEADER)?;
        let content = records.take(len.min(records.0.len()))?;
        begin.extend(content.iter().take(HELLO - begin.len()));
        if content.len() < len {
            break;
        }
    }
    let mut bytes = Bytes(&begin);
    let Some(kind) = bytes.u8() else {
        return Some(Likeness::Maybe);
    };
    let found = match kind {
        CLIENT_HELLO => Likeness::ClientHello,
        SERVER_HELLO => Likeness::ServerHello,
        _ => return None,
    };
    let (Some(len), Some(version)) = (bytes.u24(), bytes.u16()) else {
        return Some(Likeness::Maybe);
    };
    // Version, random, length of the session's id, and a suite; a ClientHello has more.
    let known = version >> 8 == 3 || is_tls13(version);
    (known && (2 + 32 + 1 + 2..=TLS_MESSAGE).contains(&len)).then_some(found)
}

/// Handshake messages on their way: they may be spread over records, and share them.
#[derive(Default)]
pub(super) struct Messages {
    held: Vec<u8>,
    /// Bytes of a message that is too long to be kept.
    skip: usize,
}

/// Bytes of a message's header: type and length.
const MESSAGE_HEADER: usize = 4;

impl Messages {
    /// Takes the content of a record, gives the messages that have become whole.
    pub fn take(&mut self, content: &[u8], from: Side, counters: &mut Counters) -> Vec<Said> {
        let skipped = self.skip.min(content.len());
        self.skip -= skipped;
        self.held
            .extend_from_slice(content.get(skipped..).unwrap_or_default());
        let mut said = Vec::new();
        let mut used = 0;
        while let Some(bytes) = self.held.get(used..) {
            let mut reader = Bytes(bytes);
            let (Some(kind), Some(len)) = (reader.u8(), reader.u24()) else {
                break;
            };
            if len > TLS_MESSAGE {
                counters.tls_messages_skipped += 1;
                let there = reader.0.len().min(len);
                self.skip = len - there;
                used += MESSAGE_HEADER + there;
                continue;
            }
            let Some(body) = reader.take(len) else {
                break;
            };
            let message = Said::read(kind, body, from);
            counters.tls_cut += u64::from(message.is_cut());
            said.push(message);
            used += MESSAGE_HEADER + len;
        }
        self.held.drain(..used.min(self.held.len()));
        said
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.held.capacity()
    }
}
