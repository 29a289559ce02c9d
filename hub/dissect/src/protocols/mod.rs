//! The contract of a protocol, and the protocols.
//!
//! A protocol is three functions over bytes: `probe` (is it this one?), `parse` (bytes to one frame) and `pair` (frames
//! to transactions). It sees no packets, no time and no buffers of its own: the [driver](crate::driver) keeps those.

pub(crate) mod datagram;

pub(crate) mod dns;
mod events;
mod graphql;
pub(crate) mod grpc;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod icmp;
mod order;
mod postgresql;
pub(crate) mod quic;
mod redis;
mod registry;
mod tap;
pub(crate) mod tls;
mod websocket;

pub use datagram::{Arrival, DatagramProtocol, Key, Likeness, Message as DatagramMessage};
pub use registry::{DATAGRAM_PROTOCOLS, DatagramRegistration, PROTOCOLS, Registration, find};

use std::borrow::Cow;

use crate::call::{Headers, Marks, Outcome, Packets, Value};
use crate::flow::{End, Ends};
use crate::tcp::Close;
use crate::{Counters, Nanos};

/// What a protocol is called, and where it is usually found.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// As in answers and filters, in lower case.
    pub name: &'static str,
    /// Other names that an upgrade may call it by.
    pub aliases: &'static [&'static str],
    /// Ports that decide between two protocols which both recognise the bytes.
    pub ports: &'static [u16],
    /// Bytes that may wait for the end of a frame. A frame's payload need not wait, see [`Parsed::Part`].
    pub buffer: usize,
}

/// The first bytes of a connection that are known of each direction.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The bytes; empty where none were seen yet.
    pub bytes: Ends<&'a [u8]>,
}

/// Whether the bytes are of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are, and this end is the client.
    Yes {
        /// The end that asks.
        client: End,
    },
    /// They may be; more bytes will tell.
    Maybe,
    /// They are not.
    No,
}

/// Whether a frame begins among bytes, after the place was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One begins behind so many bytes.
    At(usize),
    /// One may begin with the first byte; more of them will tell. They wait, at most
    /// [`PLACE_BYTES`](crate::limits::PLACE_BYTES) of them.
    Perhaps,
    /// None does.
    Nowhere,
}

/// A direction by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the end that asks.
    Client,
    /// From the end that answers.
    Server,
}

/// Bytes to be parsed, and where they stand.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Who sent them.
    pub from: Side,
    /// All bytes that are there and not yet used. Never empty.
    pub bytes: &'a [u8],
    /// Position of the first.
    pub position: u64,
    /// How far the sender of the first had received the other direction; 0 when unknown.
    pub ack: u64,
    /// Whether a message is likely to begin with the first: it begins a segment, and it is its sender's turn.
    pub turn: bool,
}

/// How far `parse` got. Of what it used it is told no more.
#[derive(Debug)]
pub enum Parsed<F> {
    /// A frame ends after `used` bytes. They may be none, if it turned out to have ended before.
    Frame {
        /// Bytes that belong to it.
        used: usize,
        /// The frame.
        frame: F,
    },
    /// Bytes of a frame that goes on, at least one: its head, or a part of its payload.
    Part {
        /// How many.
        used: usize,
    },
    /// Bytes that belong to no frame, at least one.
    Skip {
        /// How many.
        used: usize,
    },
    /// A frame begins that is not whole.
    More {
        /// Asking again is no use before there are so many bytes in all.
        at_least: usize,
    },
    /// This is not the protocol, or its place is lost. The driver looks for it again by `resync`.
    Invalid,
    /// Both directions go on in another protocol, from the first byte on.
    Switch(Next),
}

/// What comes after a switch.
#[derive(Clone, Debug)]
pub enum Next {
    /// The protocol of this name.
    Named(String),
    /// The protocol of this name, which answers a request that was made before the switch.
    Answering(String, Box<Request>),
    /// The protocol that HTTP/1 was left for.
    Upgraded(Box<Upgrade>),
    /// Anything: a tunnel, whose content is to be recognised.
    Tunnel,
}

/// What HTTP/1 knows of a protocol that it was left for.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    /// The protocol's name, as the response has it.
    pub name: String,
    /// What was asked for, as far as it is known: path, query, authority.
    pub path: String,
    /// See `path`.
    pub query: String,
    /// See `path`.
    pub authority: String,
    /// Header fields of the response.
    pub headers: Headers,
    /// Where the client's bytes begin to be of the new protocol; `None` if that cannot be told.
    pub client_from: Option<u64>,
    /// Where the server's do.
    pub server_from: Option<u64>,
}

/// How the frame under way copes with a gap.
#[derive(Debug)]
pub struct Gapped<F> {
    /// Bytes of the gap that belong to the frame under way.
    pub inside: u64,
    /// The frame, if it ends with these.
    pub frame: Option<F>,
    /// Whether the place is lost, so that the next frame must be looked for.
    pub lost: bool,
}

/// A frame with what the driver knows of it.
#[derive(Debug)]
pub struct Told<F> {
    /// Who sent it.
    pub from: Side,
    /// Where and when.
    pub span: Span,
    /// What `parse` made of it.
    pub frame: F,
}

/// Where a frame stands in its stream, when it passed, and in which packets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// Position of its first byte.
    pub start: u64,
    /// Position behind its last.
    pub end: u64,
    /// How far its sender had received the other direction when it sent the first byte; 0 when unknown.
    pub ack: u64,
    /// When the first byte was seen.
    pub first: Nanos,
    /// When the last was.
    pub last: Nanos,
    /// Locations of its packets, at most [`PACKETS_PER_MESSAGE`](crate::PACKETS_PER_MESSAGE); if there are more, the
    /// last one is the last one's.
    pub packets: Packets,
    /// Whether there are more.
    pub packets_cut: bool,
    /// Bytes of it that were never seen.
    pub missing: u64,
}

impl Span {
    /// Takes over what stands behind it in the same direction.
    pub(crate) fn extend(&mut self, later: &Self) {
        self.end = later.end;
        self.last = later.last;
        self.missing += later.missing;
        self.packets_cut |= later.packets_cut;
        for &at in &later.packets {
            self.add_location(at);
        }
    }
}

/// A request with its response, or one of the two.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// The protocol's name. The driver sets it, unless it is set, and `client`.
    pub protocol: &'static str,
    /// The end that asked.
    pub client: End,
    /// Version as spoken.
    pub version: &'static str,
    /// The number of its stream, in a protocol whose calls lie one among the other; then calls may come in any order. Odd
    /// for what the client began, even for what the server did; of each kind, later ones have higher numbers. 0 in a
    /// protocol whose calls follow one another, and come in order of their requests.
    pub stream: u64,
    /// The half that the client sent. Boxed, as the other is: a transaction is moved a dozen times on its way.
    pub request: Option<Box<Request>>,
    /// The half that the server sent.
    pub response: Option<Box<Response>>,
    /// What the response tells of the request, for when that was not recorded.
    pub echo: Option<Box<Echo>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What concerns both halves. What concerns one is told by its own fields.
    pub marks: Marks,
    /// The protocol's own fields that concern both halves. What one of them tells is with it.
    pub fields: Vec<(&'static str, Value)>,
    /// What of its bodies was left out, for the driver to count.
    pub left_out: LeftOut,
}

/// Which limits of what is looked at and kept of bodies were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// [`GQL_LOOKED`](crate::limits::GQL_LOOKED).
    pub graphql: bool,
    /// [`GQL_QUERY`](crate::limits::GQL_QUERY).
    pub graphql_text: bool,
    /// [`EVENT_TEXT`](crate::limits::EVENT_TEXT).
    pub event_text: bool,
}

impl LeftOut {
    /// What either of two left out.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            graphql: self.graphql || other.graphql,
            graphql_text: self.graphql_text || other.graphql_text,
            event_text: self.event_text || other.event_text,
        }
    }
}

/// What the client sent.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// See [`Call::method`](crate::Call).
    pub method: Cow<'static, str>,
    /// See [`Call::path`](crate::Call).
    pub path: String,
    /// See [`Call::query`](crate::Call).
    pub query: String,
    /// See [`Call::authority`](crate::Call).
    pub authority: String,
    /// The message.
    pub half: Half,
}

/// What a response tells of its request.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// See [`Call::method`](crate::Call).
    pub method: Cow<'static, str>,
    /// See [`Call::path`](crate::Call).
    pub path: String,
    /// See [`Call::query`](crate::Call).
    pub query: String,
    /// See [`Call::authority`](crate::Call).
    pub authority: String,
}

/// What the server sent.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// See [`Call::status`](crate::Call).
    pub status: Option<i32>,
    /// The message.
    pub half: Half,
}

/// One message of a transaction.
#[derive(Clone, Debug, Default)]
pub struct Half {
    /// Where and when.
    pub span: Span,
    /// Header fields, in wire order.
    pub headers: Headers,
    /// See [`Message::head_len`](crate::Message).
    pub head_len: u64,
    /// See [`Message::body_len`](crate::Message).
    pub body_len: u64,
    /// Whether bytes of it are missing.
    pub gap: bool,
    /// Whether header fields were cut at a limit.
    pub headers_cut: bool,
    /// Header fields that are there, but cannot be known from what was recorded.
    pub unresolved: u32,
    /// The protocol's own fields that this half alone tells of.
    pub fields: Vec<(&'static str, Value)>,
}

impl Half {
    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let fields = self.fields.len() * size_of::<(&str, Value)>();
        self.headers.memory() + self.span.packets.len() * size_of::<u64>() + fields
    }
}

/// A protocol. See the module's head, and `docs/protocols.md` for how to add one.
///
/// No input may panic, and nothing may be kept beyond a named limit.
pub trait Protocol: Send + 'static {
    /// Its name and habits.
    const INFO: Info;
    /// What `parse` makes of bytes.
    type Frame: Send;
    /// What it remembers of a connection, in both directions.
    type State: Send;

    /// Whether these are the first bytes of a connection, or of a segment of it.
    fn probe(heads: Heads<'_>) -> Verdict;

    /// Begins. `joined` says that the connection's begin was not recorded.
    fn begin(joined: bool) -> Self::State;

    /// A request that was made before the switch to this protocol is to be answered in it.
    fn answering(_: &mut Self::State, _: Request) {}

    /// HTTP/1 was left for this protocol.
    fn upgraded(_: &mut Self::State, _: Upgrade) {}

    /// Takes bytes of one direction.
    fn parse(state: &mut Self::State, input: Input<'_>, counters: &mut Counters) -> Parsed<Self::Frame>;

    /// After the place was lost: whether a frame begins among these bytes. What is told by few bytes must be told by
    /// more, for it does not matter how they are cut into segments.
    fn resync(state: &mut Self::State, input: Input<'_>) -> Place;

    /// Bytes of one direction are missing. `held` is what was asked to wait by [`Parsed::More`]; it is gone after this.
    fn gap(state: &mut Self::State, from: Side, held: &[u8], gap: Missing) -> Gapped<Self::Frame>;

    /// One direction has ended: the frame under way, if there is one.
    fn end(state: &mut Self::State, from: Side, held: &[u8], close: Close) -> Option<Self::Frame>;

    /// Takes a frame, gives transactions that are complete.
    fn pair(
        state: &mut Self::State,
        told: Told<Self::Frame>,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    );

    /// Both directions have ended: gives everything that still waits.
    fn close(state: &mut Self::State, close: Close, out: &mut Vec<Transaction>);

    /// Bytes that the state holds, roughly.
    fn memory(state: &Self::State) -> usize;
}

/// Missing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Position of the first.
    pub position: u64,
    /// How many.
    pub len: u64,
}
