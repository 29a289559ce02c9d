//! A TCP segment, without its bytes.

use crate::Nanos;
use crate::flow::{End, FlowKey};

/// A TCP segment as the [`Router`](crate::Router) found it: everything but its bytes, small enough to be copied to
/// another thread.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// When it was seen.
    pub ts: Nanos,
    /// Where its packet is; the last one's when it came in fragments.
    pub at: u64,
    /// Where its first fragment is; `at` when it was not fragmented.
    pub at_first: u64,
    /// Id of the local socket's cgroup; 0 when unknown.
    pub cgroup: u64,
    /// The connection.
    pub flow: FlowKey,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; says something only with [`Flags::ACK`].
    pub ack: u32,
    /// Captured bytes of payload.
    pub len: u32,
    /// Bytes of payload at its end that the capture cut.
    pub missing: u32,
    /// Who saw it, within the tape.
    pub observer: Observer,
    /// Where the payload begins in the packet's (or the datagram's) bytes.
    pub offset: u16,
    /// Bytes of its IP and TCP headers.
    pub headers: u16,
    /// Which tape it is from.
    pub tape: u16,
    /// The window as in the header, not scaled.
    pub window: u16,
    /// By how many bits its sender's windows are to be shifted (RFC 7323, section 2.2); only a SYN says it.
    pub scale: Option<u8>,
    /// The header's flags.
    pub flags: Flags,
    /// Who sent it.
    pub from: Sender,
}

impl Segment {
    /// The payload, given the packet's bytes (or the datagram's, if it was put together from fragments).
    pub fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.offset);
        let end = start.saturating_add(self.len as usize);
        data.get(start..end).unwrap_or_default()
    }

    /// Bytes of payload on the wire, captured or not.
    pub fn payload_len(&self) -> u32 {
        self.len.saturating_add(self.missing)
    }

    /// Bytes on the wire, from the IP header on.
    pub fn wire_len(&self) -> u64 {
        u64::from(self.headers) + u64::from(self.payload_len())
    }
}

/// The end that sent a segment, and whether the other end is recorded on its own node, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The end.
    pub end: End,
    /// Whether the same segment is likely to be seen by another observer.
    pub twin: bool,
}

/// Who saw a segment. Two observers of one connection see the same bytes at different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observer {
    /// The socket at this end.
    Socket(End),
    /// An interface somewhere on the way, by its number.
    Interface(u32),
}

/// Flags of a TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(1);
    /// Begin of a connection.
    pub const SYN: Self = Self(2);
    /// The connection is gone.
    pub const RST: Self = Self(4);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(16);

    /// Those that begin or end a connection.
    pub(crate) const CONTROL: Self = Self(1 | 2 | 4);

    /// Whether a flag is set.
    pub fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Whether one of some flags is set.
    pub(crate) fn any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
}
