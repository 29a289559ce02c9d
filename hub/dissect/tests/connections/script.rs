//! Connections written segment by segment.

use etherparse::{PacketBuilder, TcpOptionElement};
use wiretape_dissect::testing::{Recorded, Who, dissect, record};
use wiretape_dissect::{ConnectionRecord, Nanos, Sent};

pub const MS: Nanos = 1_000_000;
pub const START: Nanos = 1_700_000_000_000_000_000;
/// Initial sequence numbers.
const CLIENT: u32 = 1000;
const SERVER: u32 = 5000;

/// A connection written segment by segment. Numbers are relative to the initial ones.
#[derive(Default)]
pub struct Script {
    pub packets: Vec<Recorded>,
}

/// One segment; `..SEGMENT` leaves the rest as usual.
#[derive(Clone, Copy)]
pub struct Segment {
    pub flags: &'static str,
    pub seq: u32,
    pub ack: u32,
    pub len: usize,
    pub window: u16,
    pub scale: Option<u8>,
}

pub const SEGMENT: Segment = Segment {
    flags: "A",
    seq: 1,
    ack: 1,
    len: 0,
    window: 1000,
    scale: None,
};

impl Script {
    /// Sends a segment, so many ms after the begin.
    pub fn at(&mut self, ms: u64, who: Who, segment: Segment) -> &mut Self {
        let ([from, to], [port, to_port], [isn, other]) = match who {
            Who::Client => ([[10, 0, 0, 1], [10, 0, 0, 2]], [40_000, 80], [CLIENT, SERVER]),
            Who::Server => ([[10, 0, 0, 2], [10, 0, 0, 1]], [80, 40_000], [SERVER, CLIENT]),
        };
        let seq = isn.wrapping_add(segment.seq);
        let mut builder = PacketBuilder::ipv4(from, to, 64).tcp(port, to_port, seq, segment.window);
        for flag in segment.flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'F' => builder.fin(),
                'R' => builder.rst(),
                _ => builder.ack(other.wrapping_add(segment.ack)),
            };
        }
        if let Some(shift) = segment.scale {
            builder = builder.options(&[TcpOptionElement::WindowScale(shift)]).unwrap();
        }
        let mut data = Vec::new();
        builder.write(&mut data, &vec![b'.'; segment.len]).unwrap();
        record(&mut self.packets, START + ms * MS, data);
        self
    }

    pub fn client(&mut self, ms: u64, segment: Segment) -> &mut Self {
        self.at(ms, Who::Client, segment)
    }

    pub fn server(&mut self, ms: u64, segment: Segment) -> &mut Self {
        self.at(ms, Who::Server, segment)
    }

    pub fn syn(&mut self, ms: u64) -> &mut Self {
        let syn = Segment {
            flags: "S",
            seq: 0,
            scale: Some(2),
            ..SEGMENT
        };
        self.client(ms, syn)
    }

    pub fn syn_ack(&mut self, ms: u64) -> &mut Self {
        let syn_ack = Segment {
            flags: "SA",
            seq: 0,
            scale: Some(3),
            ..SEGMENT
        };
        self.server(ms, syn_ack)
    }

    /// A handshake whose round trip is 40 ms, at the client's side.
    pub fn handshake() -> Self {
        let mut script = Self::default();
        script.syn(0).syn_ack(40).client(40, SEGMENT);
        script
    }

    /// Data of the server, which the client acknowledges when `acked`.
    pub fn data(&mut self, ms: u64, seq: u32, len: usize, acked: bool) -> &mut Self {
        self.server(ms, Segment { seq, len, ..SEGMENT });
        if acked {
            let ack = seq + len as u32;
            self.client(ms, Segment { ack, ..SEGMENT });
        }
        self
    }

    #[track_caller]
    pub fn one(&self) -> ConnectionRecord {
        let mut connections = dissect(&self.packets).connections;
        assert_eq!(connections.len(), 1);
        connections.remove(0)
    }

    /// What the server sent.
    #[track_caller]
    pub fn servers(&self) -> Sent {
        self.one().sent[1]
    }

    /// What the client sent.
    #[track_caller]
    pub fn clients(&self) -> Sent {
        self.one().sent[0]
    }
}
