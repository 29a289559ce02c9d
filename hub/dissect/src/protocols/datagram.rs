//! The contract of a protocol whose messages are datagrams.
//!
//! It is three functions: `probe` (is it this one?), `parse` (one datagram to one message) and `call` (a request and
//! its response to a transaction). Which response answers which request is told by keys; the
//! [driver](crate::datagrams) keeps what waits, the times and the packets.

use super::{Info, Transaction};
use crate::flow::End;
use crate::{Counters, Transport};

/// One datagram, and what its headers said.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The payload, as far as it was captured.
    pub bytes: &'a [u8],
    /// Bytes of it that the capture cut.
    pub missing: u32,
    /// What carried it.
    pub transport: Transport,
    /// Who sent it.
    pub from: End,
    /// Port that it came from.
    pub source_port: u16,
    /// Port that it went to.
    pub destination_port: u16,
}

/// Whether a datagram is of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It is.
    Yes,
    /// It may be, but is too short to say so by itself: it is if it comes from one of the protocol's ports or goes to one.
    AtHome,
    /// It is not.
    No,
}

/// By what a response finds its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// The number that the protocol gave the request.
    pub id: u32,
    /// A digest of what was asked; 0 in a response that does not say.
    pub subject: u64,
}

impl Key {
    /// Whether a response with this key answers a request with that one.
    pub fn answers(self, request: Self) -> bool {
        self.id == request.id && (self.subject == request.subject || self.subject == 0)
    }
}

/// What a datagram was.
#[derive(Debug)]
pub enum Message<Q, R> {
    /// Its sender asks.
    Request {
        /// What its response will be known by.
        key: Key,
        /// The question.
        content: Q,
    },
    /// Its sender answers.
    Response {
        /// What its request is known by.
        key: Key,
        /// The answer.
        content: R,
    },
    /// Its sender tells something that nobody answers.
    Notice(Q),
    /// The begin of a message that goes on in the next datagram of the same end.
    Part,
    /// It belongs to the protocol, but to no message.
    Passed,
    /// It is not of the protocol, or cannot be read.
    Unread,
}

/// A protocol of datagrams.
///
/// No input may panic, and nothing may be kept beyond a named limit.
pub trait DatagramProtocol: Send + 'static {
    /// Its name and habits.
    const INFO: Info;
    /// What it remembers of a flow in order to read its datagrams.
    type State: Default + Send;
    /// A question.
    type Request: Send;
    /// An answer.
    type Response: Send;

    /// Whether a datagram is of this protocol.
    fn probe(arrival: &Arrival<'_>) -> Likeness;

    /// Reads a datagram.
    fn parse(
        state: &mut Self::State,
        arrival: &Arrival<'_>,
        counters: &mut Counters,
    ) -> Message<Self::Request, Self::Response>;

    /// Makes a transaction of a question that was sent `1 + retries` times and its answer, or of one of the two. The
    /// driver adds sizes, times and packets.
    fn call(request: Option<Self::Request>, retries: u32, response: Option<Self::Response>) -> Transaction;

    /// Bytes that a waiting question holds.
    fn cost(request: &Self::Request) -> usize;

    /// Bytes that the state holds.
    fn memory(state: &Self::State) -> usize;
}
