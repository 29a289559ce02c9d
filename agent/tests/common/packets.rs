//! Packets read back from tapes and captures: just enough of IPv4, TCP and UDP to compare them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use wiretape_tape::{Chunk, Direction, DropReason, LinkType};

/// A packet from its IP header on.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub ts: u64,
    pub direction: Direction,
    pub cgroup: u64,
    pub cookie: u64,
    pub dropped: Option<DropReason>,
    pub orig_len: u32,
    pub data: Vec<u8>,
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    pub source: u16,
    pub target: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A tape's segments, in order.
pub fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir)
        .expect("a tape")
        .map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcapng"))
        .collect();
    segments.sort();
    segments
}

/// All packets of a tape's segments, in order.
pub fn read_tape(dir: &Path) -> Vec<Recorded> {
    segments(dir).iter().flat_map(|path| read(path)).collect()
}

/// All packets of a file, without their link header.
pub fn read(path: &Path) -> Vec<Recorded> {
    let mut reader = wiretape_tape::open(path).expect("a capture file");
    let (mut chunk, mut packets) = (Chunk::default(), Vec::new());
    while reader.next_chunk(&mut chunk).expect("reads on") {
        for meta in &chunk.packets {
            let data = chunk.data(meta);
            let header = match meta.link {
                LinkType::RAW => 0,
                LinkType::ETHERNET => 14,
                LinkType::LINUX_SLL2 => 20,
                link => panic!("{link:?} is not expected here"),
            };
            let (direction, cgroup, cookie) = (meta.direction, meta.cgroup, meta.cookie);
            let orig_len = meta.orig_len - header as u32;
            packets.push(Recorded {
                ts: meta.ts,
                direction,
                cgroup,
                cookie,
                dropped: meta.dropped,
                orig_len,
                data: data[header..].to_vec(),
            });
        }
    }
    packets
}

impl Recorded {
    /// The protocol of an IPv4 packet; `None` for anything else.
    pub fn protocol(&self) -> Option<u8> {
        (self.data.first()? >> 4 == 4).then(|| self.data[9])
    }

    /// Whether this is an IPv4 packet from `address`.
    pub fn is_from(&self, address: &str) -> bool {
        let address: Ipv4Addr = address.parse().expect("an address");
        self.protocol().is_some() && self.data[12..16] == address.octets()
    }

    /// Whether this is a part of a packet that was too long for the wire.
    pub fn is_fragment(&self) -> bool {
        self.protocol().is_some() && u16::from_be_bytes([self.data[6], self.data[7]]) & 0x3fff != 0
    }

    /// Whether all of it was recorded.
    pub fn is_whole(&self) -> bool {
        self.data.len() == self.orig_len as usize
    }

    /// The TCP segment in an IPv4 packet.
    pub fn segment(&self) -> Option<Segment> {
        if self.protocol()? != 6 {
            return None;
        }
        let total = usize::from(u16::from_be_bytes([self.data[2], self.data[3]]));
        // GSO packets of 64 KiB and more have no length.
        let end = if total == 0 { self.data.len() } else { total };
        let tcp = &self.data[usize::from(self.data[0] & 15) * 4..end];
        let u16_at = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let u32_at = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        Some(Segment {
            source: u16_at(0),
            target: u16_at(2),
            seq: u32_at(4),
            ack: u32_at(8),
            flags: tcp[13],
            payload: tcp[usize::from(tcp[12] >> 4) * 4..].to_vec(),
        })
    }
}

/// The bytes that `source` sent to `target`, put together by sequence number. Panics at a gap.
pub fn stream(segments: &[Segment], source: u16, target: u16) -> Vec<u8> {
    let of_stream = || {
        segments
            .iter()
            .filter(move |segment| segment.source == source && segment.target == target)
    };
    let first = of_stream()
        .find(|segment| segment.flags & SYN != 0)
        .expect("a SYN")
        .seq
        .wrapping_add(1);
    let mut parts: BTreeMap<u32, &[u8]> = BTreeMap::new();
    for segment in of_stream().filter(|segment| !segment.payload.is_empty()) {
        // A part that is sent again may be shorter than what it began with: the longest counts.
        let part = parts.entry(segment.seq.wrapping_sub(first)).or_default();
        if segment.payload.len() > part.len() {
            *part = &segment.payload;
        }
    }
    let mut bytes = Vec::new();
    for (at, payload) in parts {
        let at = at as usize;
        assert!(
            at <= bytes.len(),
            "{} bytes are missing before {at}",
            at - bytes.len()
        );
        if at + payload.len() > bytes.len() {
            bytes.extend_from_slice(&payload[bytes.len() - at..]);
        }
    }
    bytes
}
