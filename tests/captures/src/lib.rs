//! The captures that other projects made, which are kept beside the checkout, as packets to dissect.

use std::path::{Path, PathBuf};

use wiretape_dissect::testing::Recorded;
use wiretape_dissect::{Direction, Link};
use wiretape_tape::{Chunk, LinkType, ReadError};

/// Where they are kept. `None`, loudly, if they are not there: what needs them is left out then.
pub fn corpora() -> Option<PathBuf> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !corpora.is_dir() {
        eprintln!("SKIPPED: there are no captures in {}", corpora.display());
        return None;
    }
    Some(corpora)
}

/// All in some folders of the corpora, and in those inside them, in order of their paths.
pub fn captures(corpora: &Path, folders: &[&str]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in folders {
        walk(&corpora.join(folder), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.to_string_lossy().contains(".pcap") {
            files.push(path);
        }
    }
    Ok(())
}

/// The packets of a capture, as far as it can be read: some end in the middle of one, or are broken, on purpose.
pub fn read(file: &Path) -> Result<Vec<Recorded>, ReadError> {
    let mut reader = wiretape_tape::open(file)?;
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
