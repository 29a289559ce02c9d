//! What comes out beside calls: connections, of TCP, UDP and other transports, with or without calls in them.

use std::borrow::Cow;

use crate::Nanos;
use crate::call::Peer;
use crate::segment::Observer;
use crate::tcp::{RoundTrips, Sent};

/// A TCP connection, or the datagrams between two addresses and ports with no long pause between them.
///
/// Where several observers saw it, times and counts are of one of them: of the client's socket if it was recorded, else of
/// the server's, else of the first one that saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionRecord {
    /// The same number as its calls have.
    pub stream: u64,
    /// The side that opened it.
    pub client: Peer,
    /// The side that was called.
    pub server: Peer,
    /// How it is known which is which.
    pub client_by: ClientBy,
    /// What carries it: `tcp`, `udp`, or what [`Transport::name`](crate::Transport::name) says.
    pub transport: Cow<'static, str>,
    /// The tape that times and counts are of.
    pub tape: u16,
    /// Whether they are of a socket at one of the ends, and at which.
    pub seen_from: SeenFrom,
    /// Whether it was recorded at the client's socket, and at the server's.
    pub recorded: (bool, bool),
    /// When its first packet was seen, and its last.
    pub times: (Nanos, Nanos),
    /// How far it got.
    pub state: State,
    /// Protocols of its calls, in the order in which they were met; without any call, the one that was recognised.
    pub protocols: Vec<&'static str>,
    /// Calls that came out of it.
    pub calls: u32,
    /// What the client sent, and the server. But for TCP, only packets and bytes.
    pub sent: [Sent; 2],
    /// What there is to tell of TCP alone.
    pub tcp: Option<TcpRecord>,
}

/// What there is to tell of a TCP connection alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TcpRecord {
    /// Which kinds of segments were seen, as Wireshark's `tcp.completeness`: SYN 1, SYN and ACK 2, ACK 4, data 8, FIN 16,
    /// RST 32.
    pub completeness: u8,
    /// From the last SYN to the handshake's last segment (`tcp.analysis.initial_rtt`).
    pub initial_rtt: Option<Nanos>,
    /// From the first SYN to the handshake's last segment: what whoever connects has to wait.
    pub handshake: Option<Nanos>,
    /// The same as the server's socket saw it: from the first SYN that came in. `None` where it was not recorded there.
    pub handshake_at_server: Option<Nanos>,
    /// From the client's first payload to the server's first one after it.
    pub first_byte: Option<Nanos>,
}

/// How a connection's client is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientBy {
    /// It has sent the SYN, or the first datagram.
    Opening,
    /// It is the one that asks, in the protocol that was recognised.
    Protocol,
    /// The begin was not seen, and its port is the higher one; of equal ports, it was seen to speak first.
    Ports,
}

/// From where a connection was seen, the best place first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeenFrom {
    /// The client's socket.
    Client,
    /// The server's socket.
    Server,
    /// Somewhere on the way, or the capture does not say.
    Between,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// A SYN was sent, and nothing came back.
    SynSent,
    /// The SYN was answered, and that answer was not: half-open at the server.
    SynReceived,
    /// The SYN was answered by a reset.
    Refused,
    /// Open when it was seen last.
    #[default]
    Established,
    /// The same, and its begin was not seen.
    MidStream,
    /// One end has closed its direction.
    Closing,
    /// Both have; but for TCP, there was a long pause.
    Closed,
    /// One end has given it up.
    Reset,
}

impl ClientBy {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Protocol => "protocol",
            Self::Ports => "ports",
        }
    }
}

impl SeenFrom {
    /// Where an observer stands, seen from the client's end.
    pub(crate) fn of(observer: Observer, client: crate::End) -> Self {
        match observer {
            Observer::Socket(end) if end == client => Self::Client,
            Observer::Socket(_) => Self::Server,
            Observer::Interface(_) => Self::Between,
        }
    }
}

impl State {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_received",
            Self::Refused => "refused",
            Self::Established => "established",
            Self::MidStream => "mid_stream",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }

    /// In the filter language's three words.
    pub fn in_short(self) -> &'static str {
        match self {
            Self::Established | Self::MidStream => "open",
            Self::SynSent | Self::SynReceived | Self::Closing => "in_progress",
            Self::Refused | Self::Closed | Self::Reset => "closed",
        }
    }
}

impl ConnectionRecord {
    /// Whether it is of TCP.
    pub fn is_tcp(&self) -> bool {
        self.tcp.is_some()
    }

    /// Round trips of what an end sent: its segments' ways to the other end, and the acknowledgements' ways back.
    pub fn round_trips(&self) -> [RoundTrips; 2] {
        self.sent.map(|sent| sent.round_trips)
    }
}
