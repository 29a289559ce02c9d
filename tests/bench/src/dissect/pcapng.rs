//! A plain pcapng file as any tool would write it: one section, one Ethernet interface, nanosecond stamps.
//!
//! The tape crate has a writer too. The capture is not made with it, so that its reader is measured on a file that
//! is not its own.

use std::io::{self, Write};

/// Bytes that a block carries besides its packet: type, length, interface, time, two lengths, length again.
const PACKET_OVERHEAD: usize = 32;

/// Writes packets into a pcapng file.
pub struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins the file with its Section Header and Interface Description.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut head = Vec::new();
        // Section Header Block: byte-order magic, version 1.0, section length unknown.
        head.extend(0x0A0D_0D0A_u32.to_le_bytes());
        head.extend(28_u32.to_le_bytes());
        head.extend(0x1A2B_3C4D_u32.to_le_bytes());
        head.extend([1, 0, 0, 0]);
        head.extend(u64::MAX.to_le_bytes());
        head.extend(28_u32.to_le_bytes());
        // Interface Description Block: Ethernet, no snap length, option if_tsresol (9) = 10^-9, end of options.
        head.extend(1_u32.to_le_bytes());
        head.extend(32_u32.to_le_bytes());
        head.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        head.extend([9, 0, 1, 0, 9, 0, 0, 0]);
        head.extend([0, 0, 0, 0]);
        head.extend(32_u32.to_le_bytes());
        out.write_all(&head)?;
        Ok(Self {
            out,
            block: Vec::with_capacity(2048),
        })
    }

    /// Appends one packet, whole, seen at `ts` (nanoseconds since 1970).
    pub fn packet(&mut self, ts: u64, packet: &[u8]) -> io::Result<()> {
        let padding = packet.len().next_multiple_of(4) - packet.len();
        let total = (PACKET_OVERHEAD + packet.len() + padding) as u32;
        let length = packet.len() as u32;
        self.block.clear();
        for word in [6, total, 0, (ts >> 32) as u32, ts as u32, length, length] {
            self.block.extend(word.to_le_bytes());
        }
        self.block.extend(packet);
        self.block.resize(self.block.len() + padding, 0);
        self.block.extend(total.to_le_bytes());
        self.out.write_all(&self.block)
    }

    /// Hands the sink back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
