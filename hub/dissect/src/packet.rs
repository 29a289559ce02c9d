//! What goes in: packets.

/// Nanoseconds since 1970-01-01 UTC.
pub type Nanos = u64;

/// How a packet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// IPv4 or IPv6 header first (LINKTYPE_RAW 101, and 228/229).
    Raw,
    /// Ethernet II, 802.1Q and 802.1ad tags included.
    Ethernet,
    /// Linux cooked capture, version 1.
    Sll,
    /// Linux cooked capture, version 2.
    Sll2,
    /// BSD loopback: four bytes of address family (LINKTYPE_NULL 0, LINKTYPE_LOOP 108).
    Null,
}

/// Which end of a packet was local to the observer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The capture does not say.
    #[default]
    Unknown,
    /// The destination is local.
    In,
    /// The source is local.
    Out,
}

/// One packet, borrowed from wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When it was seen.
    pub ts: Nanos,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Bytes on the wire.
    pub orig_len: u32,
    /// How `data` begins.
    pub link: Link,
    /// Seen from the observer.
    pub direction: Direction,
    /// Which tape (node, or foreign file) it is from: an index that the caller chose.
    pub tape: u16,
    /// Interface within the tape; tells observers apart in captures without a direction.
    pub interface: u32,
    /// The owning socket's cgroup id; 0 when unknown.
    pub cgroup: u64,
    /// Where the packet can be found again: a number that the caller chose.
    pub at: u64,
}

/// Until when a connection or flow was recorded, by the tapes that saw it: `ends` has, of each tape, the time of its last packet.
/// `None` where that is not told. What was not answered by then on a tape that went on was not answered.
pub(crate) fn recorded_until(tapes: impl Iterator<Item = u16>, ends: &[Nanos]) -> Option<Nanos> {
    tapes
        .filter_map(|tape| ends.get(usize::from(tape)).copied())
        .max()
}
