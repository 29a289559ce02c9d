//! What comes out: calls.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use crate::Nanos;

/// One request with its response, or the half of it that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The connection: a hash of its addresses and its first packet's time, so it does not depend on threads or order
    /// of files.
    pub stream: u64,
    /// Ordinal of the call in its connection, from 0, in order of the request (or response) on the wire; in order of
    /// their ends where calls lie one among the other (HTTP/2).
    pub index: u32,
    /// Lower case, as in the API: `http`.
    pub protocol: &'static str,
    /// Version as spoken, e.g. `HTTP/1.1`; empty where a protocol has none.
    pub version: &'static str,
    /// The side that asked.
    pub client: Peer,
    /// The side that was asked.
    pub server: Peer,
    /// HTTP verb, RPC name, command.
    pub method: Cow<'static, str>,
    /// Path without the query; key, topic or table in other protocols.
    pub path: String,
    /// What followed `?`, without it.
    pub query: String,
    /// The host that the request named (`Host`, `:authority`).
    pub authority: String,
    /// Status code of the response as its protocol numbers it.
    pub status: Option<i32>,
    /// The same status across protocols.
    pub outcome: Outcome,
    /// The request, if it was recorded.
    pub request: Option<Message>,
    /// The response, if it was recorded. Interim responses (1xx) are not responses.
    pub response: Option<Message>,
    /// What an answer about this call must say about its completeness.
    pub marks: Marks,
    /// Times as seen at the client's and at the server's socket. At least one of the two, or the one of `unknown_side`.
    pub client_side: Option<Observation>,
    /// See `client_side`.
    pub server_side: Option<Observation>,
    /// For captures that do not say whose side they were taken at.
    pub unknown_side: Option<Observation>,
    /// Fields that only this protocol has, under their KFL names.
    pub fields: Vec<(&'static str, Value)>,
}

impl Call {
    /// The observation that times are told by: the client's if recorded, else the server's, else the one there is.
    pub fn observation(&self) -> Option<&Observation> {
        self.client_side
            .as_ref()
            .or(self.server_side.as_ref())
            .or(self.unknown_side.as_ref())
    }
}

/// One end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port as in the packets.
    pub address: SocketAddr,
    /// Which tape it was recorded on as the local end ([`Packet::tape`](crate::Packet)); `None` when it was not.
    pub tape: Option<u16>,
    /// The cgroup id (v2) of its socket; 0 when it was not recorded on its own node.
    pub cgroup: u64,
}

/// One direction's message of a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Header fields in wire order, names as sent.
    pub headers: Headers,
    /// TCP sequence number of its first byte.
    pub seq: u32,
    /// Bytes of head (and chunk framing and trailers) on the wire.
    pub head_len: u64,
    /// Bytes of body as framed (after chunking is taken off, before decompression).
    pub body_len: u64,
    /// All its bytes on the wire.
    pub wire_len: u64,
    /// Locations ([`Packet::at`](crate::Packet)) of the packets that carry it, at most [`PACKETS_PER_MESSAGE`].
    pub packets: Packets,
    /// Bytes of it that no tape holds.
    pub missing: u64,
}

/// Most packet locations kept for one message: enough for 350 KiB at 1460 bytes a segment. What is longer is marked
/// [`Marks::PACKETS_CUT`], and is read back by scanning from the first location to the last.
pub const PACKETS_PER_MESSAGE: usize = 256;

/// Locations of packets, in order. One or two carry most messages, and are kept in place.
#[derive(Clone, Default)]
pub struct Packets(Kept);

#[derive(Clone, Default)]
enum Kept {
    #[default]
    None,
    One([u64; 1]),
    Two([u64; 2]),
    Many(Vec<u64>),
}

impl Packets {
    /// Appends a location.
    pub fn push(&mut self, at: u64) {
        self.0 = match std::mem::take(&mut self.0) {
            Kept::None => Kept::One([at]),
            Kept::One([first]) => Kept::Two([first, at]),
            Kept::Two([first, second]) => Kept::Many(vec![first, second, at]),
            Kept::Many(mut many) => {
                many.push(at);
                Kept::Many(many)
            }
        };
    }
}

impl Deref for Packets {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match &self.0 {
            Kept::None => &[],
            Kept::One(one) => one,
            Kept::Two(two) => two,
            Kept::Many(many) => many,
        }
    }
}

impl DerefMut for Packets {
    fn deref_mut(&mut self) -> &mut [u64] {
        match &mut self.0 {
            Kept::None => &mut [],
            Kept::One(one) => one,
            Kept::Two(two) => two,
            Kept::Many(many) => many,
        }
    }
}

impl<'p> IntoIterator for &'p Packets {
    type Item = &'p u64;
    type IntoIter = std::slice::Iter<'p, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<u64> for Packets {
    fn from_iter<T: IntoIterator<Item = u64>>(locations: T) -> Self {
        let mut packets = Self::default();
        locations.into_iter().for_each(|at| packets.push(at));
        packets
    }
}

impl fmt::Debug for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

impl PartialEq for Packets {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// When a call passed one observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The tape.
    pub tape: u16,
    /// First and last byte of the request.
    pub request: Option<(Nanos, Nanos)>,
    /// First and last byte of the response.
    pub response: Option<(Nanos, Nanos)>,
}

impl Observation {
    /// From the request's first byte to the response's last; `None` when half is missing. Clocks that ran backwards
    /// give zero.
    pub fn elapsed(&self) -> Option<Nanos> {
        Some(self.response?.1.saturating_sub(self.request?.0))
    }

    /// When the call began: its request's first byte, or its response's when the request was not recorded.
    pub fn start(&self) -> Nanos {
        self.request.or(self.response).map_or(0, |(first, _)| first)
    }
}

/// How a call ended, across protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The server did what was asked.
    Ok,
    /// The client asked for something wrong (4xx).
    ClientError,
    /// The server failed (5xx).
    ServerError,
    /// The server said that time ran out: its own, or that of whom it had asked (408, 504, gRPC's DEADLINE_EXCEEDED).
    Timeout,
    /// The connection ended or the recording went on for long without an answer.
    NoResponse,
    /// Not to be told from what was recorded.
    #[default]
    Unknown,
}

impl Outcome {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::NoResponse => "no_response",
            Self::Unknown => "unknown",
        }
    }
}

/// What is missing from a call, or was put together from more than one place. A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(pub u32);

impl Marks {
    /// The request was not recorded.
    pub const NO_REQUEST: Self = Self(1);
    /// The response was not recorded (yet).
    pub const NO_RESPONSE: Self = Self(1 << 1);
    /// Bytes of the request are on no tape.
    pub const REQUEST_GAP: Self = Self(1 << 2);
    /// Bytes of the response are on no tape.
    pub const RESPONSE_GAP: Self = Self(1 << 3);
    /// The connection was older than the recording.
    pub const JOINED: Self = Self(1 << 4);
    /// More packets than a call lists.
    pub const PACKETS_CUT: Self = Self(1 << 5);
    /// Headers were cut at a limit.
    pub const HEADERS_CUT: Self = Self(1 << 6);
    /// The connection was reset before the call was over.
    pub const RESET: Self = Self(1 << 7);
    /// Whole messages of the connection may be on no tape before this call; its request and response were matched by
    /// their acknowledgement numbers, for a client that does not pipeline.
    pub const AFTER_GAP: Self = Self(1 << 8);
    /// Header fields are missing that were told in short, by reference to what was sent before the recording began or in
    /// a gap. The field `unresolved_headers` says how many.
    pub const HEADERS_UNRESOLVED: Self = Self(1 << 9);

    /// Every flag with its name in answers.
    pub const NAMES: &[(Self, &'static str)] = &[
        (Self::NO_REQUEST, "no_request"),
        (Self::NO_RESPONSE, "no_response"),
        (Self::REQUEST_GAP, "request_gap"),
        (Self::RESPONSE_GAP, "response_gap"),
        (Self::JOINED, "joined"),
        (Self::PACKETS_CUT, "packets_cut"),
        (Self::HEADERS_CUT, "headers_cut"),
        (Self::RESET, "reset"),
        (Self::AFTER_GAP, "after_gap"),
        (Self::HEADERS_UNRESOLVED, "headers_unresolved"),
    ];

    /// Adds a flag.
    pub fn set(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    /// Whether a flag is set.
    pub fn has(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(flag, _)| self.has(*flag))
            .map(|(_, name)| *name)
    }
}

/// Header fields of one message: one buffer and where names and values stand in it.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    /// Every part of it that a field points to is UTF-8 by itself.
    text: Vec<u8>,
    fields: Vec<Field>,
}

/// Where a field stands in the buffer: begin and end of its name and of its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: (u32, u32),
    value: (u32, u32),
}

impl Field {
    /// One whose name and value begin so far behind the buffer's begin, and are so long.
    pub(crate) fn at(name: usize, name_len: usize, value: usize, value_len: usize) -> Self {
        let part = |start: usize, len: usize| (start as u32, (start + len) as u32);
        Self {
            name: part(name, name_len),
            value: part(value, value_len),
        }
    }
}

impl Headers {
    /// No fields, and room for some.
    pub fn with_room(text: usize, fields: usize) -> Self {
        Self {
            text: Vec::with_capacity(text),
            fields: Vec::with_capacity(fields),
        }
    }

    /// The fields of a head, given as parts of it. The head is kept as it is: one copy for all of them.
    pub fn of_head<'h>(head: &'h [u8], fields: impl ExactSizeIterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut headers = Self {
            text: Vec::new(),
            fields: Vec::with_capacity(fields.len()),
        };
        if !head.is_ascii() && std::str::from_utf8(head).is_err() {
            for (name, value) in fields {
                headers.push(name, value);
            }
            return headers;
        }
        headers.text.extend_from_slice(head);
        // Both point into the same bytes.
        let place = |part: &[u8]| {
            let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize) as u32;
            (start, start.wrapping_add(part.len() as u32))
        };
        headers.fields.extend(fields.map(|(name, value)| Field {
            name: place(name.as_bytes()),
            value: place(value),
        }));
        headers
    }

    /// The fields of a head that is ASCII, given where they stand in it.
    pub(crate) fn of_ascii(head: &[u8], fields: Vec<Field>) -> Self {
        Self {
            text: head.to_vec(),
            fields,
        }
    }

    /// Appends a field. Bytes that are not UTF-8 are shown as U+FFFD.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: &[u8]) {
        let name = self.append(name.as_ref());
        let value = self.append(value);
        self.fields.push(Field { name, value });
    }

    fn append(&mut self, text: &[u8]) -> (u32, u32) {
        let start = self.text.len() as u32;
        // Nearly all is ASCII, which is quicker to see than that something is UTF-8.
        if text.is_ascii() {
            self.text.extend_from_slice(text);
        } else {
            self.text.extend_from_slice(text_of(text).as_bytes());
        }
        (start, self.text.len() as u32)
    }

    /// The fields in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |part| std::str::from_utf8(part).unwrap_or_default();
        self.bytes().map(move |(name, value)| (text(name), text(value)))
    }

    /// The bytes of the fields in wire order, each of them whole UTF-8.
    pub fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.part(field.name), self.part(field.value)))
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Bytes that it holds.
    pub fn memory(&self) -> usize {
        self.text.len() + self.fields.len() * size_of::<Field>()
    }

    /// The first field of that name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut of_that_length = self
            .fields
            .iter()
            .filter(|field| (field.name.1 - field.name.0) as usize == name.len());
        let named = |field: &&Field| self.part(field.name).eq_ignore_ascii_case(name.as_bytes());
        std::str::from_utf8(self.part(of_that_length.find(named)?.value)).ok()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Bytes as text; what is not UTF-8 is shown as U+FFFD. Nearly all is, and is looked at many bytes at a time.
pub(crate) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

/// Value of a protocol's own field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text: what was said, or one of the words that this crate has for something.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
    /// A truth.
    Bool(bool),
}
