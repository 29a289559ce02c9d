//! What `stenotype` writes: the blocks of a `TPACKET_V3` ring as the kernel filled them, one behind the other
//! (`linux/if_packet.h`).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result};

/// Bytes of a block, as `stenotype` asks for them.
const BLOCK: usize = 1 << 20;

/// Where the fields stand: in a block, the number of its packets and where the first is; in a packet, where the next one
/// is, how many bytes are there, and where they begin.
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
const PACKET_NEXT: usize = 0;
const PACKET_CAPTURED: usize = 12;
const PACKET_DATA: usize = 24;

/// Its files are called by a time, with a dot before it while they are written.
pub fn is_file_of(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with("PKT0"))
}

/// Gives out the bytes of each packet, from the Ethernet header on.
pub fn each_packet(file: &Path, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut input = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let mut block = vec![0; BLOCK];
    loop {
        match input.read_exact(&mut block) {
            Ok(()) => packets(&block, &mut take).context("a block of stenotype's is broken")?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn packets(block: &[u8], take: &mut impl FnMut(&[u8])) -> Option<()> {
    let word = |at: usize| Some(u32::from_ne_bytes(*block.get(at..)?.first_chunk()?) as usize);
    let half = |at: usize| Some(u16::from_ne_bytes(*block.get(at..)?.first_chunk()?));
    let mut at = word(BLOCK_FIRST)?;
    for _ in 0..word(BLOCK_PACKETS)? {
        let data = at + usize::from(half(at + PACKET_DATA)?);
        take(block.get(data..data + word(at + PACKET_CAPTURED)?)?);
        at += word(at + PACKET_NEXT)?;
    }
    Some(())
}
