//! The captures that other projects made, beside the checkout.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wiretape_dissect::testing::Recorded;
use wiretape_dissect::{Direction, Link};
use wiretape_tape::{Chunk, LinkType};

/// Where they are kept, seen from the top of the checkout.
pub const BESIDE: &str = "../shared/corpora";

/// The captures in folders of the corpora, in order of their paths.
pub fn captures(corpora: &Path, folders: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in folders {
        let folder = corpora.join(folder);
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_file() && path.to_string_lossy().contains(".pcap") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The packets of a capture, as far as it can be read: some of the corpora end in the middle of one, on purpose.
pub fn read(file: &Path) -> Result<Vec<Recorded>> {
    let mut reader = wiretape_tape::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut packets = Vec::new();
    let mut chunk = Chunk::default();
    while reader.next_chunk(&mut chunk).unwrap_or(false) {
        for packet in &chunk.packets {
            let link = match packet.link {
                LinkType::ETHERNET => Link::Ethernet,
                LinkType::LINUX_SLL => Link::Sll,
                LinkType::LINUX_SLL2 => Link::Sll2,
                // DLT_NULL and DLT_LOOP.
                LinkType(0 | 108) => Link::Null,
                // LINKTYPE_RAW, and the two for one version of IP.
                LinkType(101 | 228 | 229) => Link::Raw,
                _ => continue,
            };
            packets.push(Recorded {
                ts: packet.ts,
                data: chunk.data(packet).to_vec(),
                orig_len: packet.orig_len,
                link,
                direction: Direction::Unknown,
                tape: 0,
                interface: packet.interface,
                cgroup: 0,
                at: packet.at,
            });
        }
    }
    Ok(packets)
}

/// A file's name without its folders.
pub fn name(file: &Path) -> String {
    file.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
