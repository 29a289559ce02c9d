//! The captures that other projects made, beside the repository.

use std::path::{Path, PathBuf};

use wiretape_dissect::testing::Recorded;
use wiretape_dissect::{Direction, Link};
use wiretape_tape::{Chunk, LinkType};

/// The captures in some folders of the corpora, in order; `None`, loudly, where there are none.
pub fn captures(folders: &[&str]) -> Option<Vec<PathBuf>> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !corpora.is_dir() {
        eprintln!("skipped: no captures in {}", corpora.display());
        return None;
    }
    let mut files = Vec::new();
    for folder in folders {
        walk(&corpora.join(folder), &mut files);
    }
    files.sort();
    Some(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.to_string_lossy().contains(".pcap") {
            files.push(path);
        }
    }
}

/// The packets of a capture, as far as it can be read.
pub fn read(file: &Path) -> Vec<Recorded> {
    let mut packets = Vec::new();
    let Ok(mut reader) = wiretape_tape::open(file) else {
        return packets;
    };
    let mut chunk = Chunk::default();
    while reader.next_chunk(&mut chunk).unwrap_or(false) {
        for packet in &chunk.packets {
            let link = match packet.link {
                LinkType::ETHERNET => Link::Ethernet,
                LinkType::LINUX_SLL => Link::Sll,
                LinkType::LINUX_SLL2 => Link::Sll2,
                LinkType(0 | 108) => Link::Null,
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
    packets
}
