//! What is in a recorder's files, read by the tape crate's reader whoever wrote them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use wiretape_tape::{Chunk, LinkType};

use super::stenographer;
use super::workload::MAGIC;

/// Header bytes before the UDP payload: IPv4 without options, and UDP.
const HEADERS: usize = 20 + 8;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Different packets of the sender's.
    pub recorded: u64,
    /// Packets that are there more than once.
    pub twice: u64,
    /// Numbers that were never sent.
    pub foreign: u64,
    /// Losses that the files tell of.
    pub lost: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// All packets in them, and their bytes.
    pub packets: u64,
    pub captured: u64,
}

/// Reads all files and looks for the numbers 0 to `sent`.
pub fn tally(files: &[PathBuf], sent: u64) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut seen = vec![0_u64; (sent / 64 + 1) as usize];
    let mut chunk = Chunk::default();
    for file in files {
        tally.bytes += file.metadata()?.len();
        if stenographer::is_file_of(file) {
            stenographer::each_packet(file, |packet| {
                tally.take(LinkType::ETHERNET, packet, sent, &mut seen)
            })?;
            continue;
        }
        let mut reader = wiretape_tape::open(file).with_context(|| format!("opening {}", file.display()))?;
        while reader
            .next_chunk(&mut chunk)
            .with_context(|| format!("reading {}", file.display()))?
        {
            for packet in &chunk.packets {
                tally.take(packet.link, chunk.data(packet), sent, &mut seen);
            }
        }
        tally.lost += reader.losses();
    }
    Ok(tally)
}

impl Tally {
    /// One packet; `seen` has a bit for each number.
    fn take(&mut self, link: LinkType, bytes: &[u8], sent: u64, seen: &mut [u64]) {
        self.packets += 1;
        self.captured += bytes.len() as u64;
        let Some(number) = number(link, bytes) else {
            return;
        };
        match seen.get_mut((number / 64) as usize).filter(|_| number < sent) {
            None => self.foreign += 1,
            Some(word) if *word & (1 << (number % 64)) != 0 => self.twice += 1,
            Some(word) => {
                *word |= 1 << (number % 64);
                self.recorded += 1;
            }
        }
    }
}

/// The number in a packet of the sender's; `None` for any other packet.
fn number(link: LinkType, packet: &[u8]) -> Option<u64> {
    let link_header = if link == LinkType::ETHERNET { 14 } else { 0 };
    let payload = packet.get(link_header + HEADERS..)?;
    let number = payload.strip_prefix(&MAGIC)?.first_chunk()?;
    Some(u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_senders_packets_have_a_number() {
        let mut packet = vec![0x45; HEADERS];
        packet.extend(MAGIC);
        packet.extend(77_u64.to_le_bytes());
        assert_eq!(number(LinkType::RAW, &packet), Some(77));
        assert_eq!(number(LinkType::ETHERNET, &packet), None);
        packet.truncate(HEADERS + 12);
        assert_eq!(number(LinkType::RAW, &packet), None);
    }
}
