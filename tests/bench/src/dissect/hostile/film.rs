//! What shapes are written with: conversations, segment by segment, into a capture.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;

use crate::dissect::pcapng;
use crate::dissect::wire::{self, ACK, End, FIN, PSH, SEGMENT, SYN};

/// 2026-01-01 00:00:00 UTC, as in the usual traffic.
const START: u64 = 1_767_225_600_000_000_000;
/// Nanoseconds from frame to frame.
const PACE: u64 = 2_000;

/// A capture in the making.
pub struct Film {
    writer: pcapng::Writer<BufWriter<File>>,
    now: u64,
    frame: Vec<u8>,
    bytes: u64,
    connections: u64,
}

/// Both ends of a connection.
#[derive(Clone)]
pub struct Talk {
    /// Who asks.
    pub client: End,
    /// Who answers.
    pub server: End,
}

impl Film {
    /// Begins a capture.
    pub fn new(path: &Path) -> Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self {
            writer: pcapng::Writer::new(file)?,
            now: START,
            frame: Vec::with_capacity(2048),
            bytes: 0,
            connections: 0,
        })
    }

    /// Bytes of all frames so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends it.
    pub fn finish(self) -> Result<()> {
        self.writer.finish()?;
        Ok(())
    }

    /// Two ends that have not spoken yet, unlike all before.
    pub fn strangers(&mut self, port: u16) -> Talk {
        let number = self.connections;
        self.connections += 1;
        // 28,000 ports of each client.
        let [.., rack, pod] = (number / 28_000).to_be_bytes();
        let end = |address, port, seq| End {
            mac: [2, 0, 10, 244, rack, pod],
            address,
            port,
            seq,
            ip_id: 0,
        };
        // Places in the sequence that are as far apart as real ones.
        let seq = (number as u32).wrapping_mul(0x9E37_79B9);
        Talk {
            client: end([10, 244, rack, pod], 32_768 + (number % 28_000) as u16, seq),
            server: end([10, 96, 0, 10], port, !seq),
        }
    }

    /// Two ends that have shaken hands.
    pub fn connect(&mut self, port: u16) -> Result<Talk> {
        let mut talk = self.strangers(port);
        self.segment(&mut talk, true, SYN, &[])?;
        self.segment(&mut talk, false, SYN | ACK, &[])?;
        self.segment(&mut talk, true, ACK, &[])?;
        Ok(talk)
    }

    /// They part.
    pub fn part(&mut self, talk: &mut Talk) -> Result<()> {
        self.segment(talk, true, FIN | ACK, &[])?;
        self.segment(talk, false, FIN | ACK, &[])?;
        self.segment(talk, true, ACK, &[])
    }

    /// One of them says something, in as many segments as it takes.
    pub fn say(&mut self, talk: &mut Talk, from_client: bool, bytes: &[u8]) -> Result<()> {
        for segment in bytes.chunks(SEGMENT) {
            self.segment(talk, from_client, PSH | ACK, segment)?;
        }
        Ok(())
    }

    /// One segment.
    pub fn segment(&mut self, talk: &mut Talk, from_client: bool, flags: u8, payload: &[u8]) -> Result<()> {
        let (from, to) = match from_client {
            true => (&mut talk.client, &talk.server),
            false => (&mut talk.server, &talk.client),
        };
        wire::tcp(from, to, flags, payload, self.now, &mut self.frame);
        self.write()
    }

    /// One datagram.
    pub fn datagram(&mut self, talk: &mut Talk, from_client: bool, payload: &[u8]) -> Result<()> {
        let (from, to) = match from_client {
            true => (&mut talk.client, &talk.server),
            false => (&mut talk.server, &talk.client),
        };
        wire::udp(from, to, payload, &mut self.frame);
        self.write()
    }

    /// A frame that was made elsewhere.
    pub fn frame(&mut self, frame: &[u8]) -> Result<()> {
        self.frame.clear();
        self.frame.extend(frame);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        self.writer.packet(self.now, &self.frame)?;
        self.now += PACE;
        self.bytes += self.frame.len() as u64;
        Ok(())
    }
}
