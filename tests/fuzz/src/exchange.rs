//! What was said in the captures, without the packets it was said in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use wiretape_dissect::testing::{Recorded, Who, dissect};
use wiretape_dissect::{Direction, End, FlowKey, Link, Routed, Router};
use wiretape_tape::{Chunk, LinkType};

/// A connection or a flow of datagrams.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The protocol of its first call; empty when it has none.
    pub protocol: &'static str,
    /// Whether it goes over TCP.
    pub stream: bool,
    /// What each said, in turn. The client is whoever spoke first.
    pub said: Vec<(Who, Vec<u8>)>,
}

/// Bytes kept of an exchange: the first ones are the most telling.
const BYTES: usize = 64 << 10;

/// Those of all captures, in the order of their files.
pub fn read(corpora: &Path) -> Result<Vec<Exchange>> {
    let mut files = Vec::new();
    walk(corpora, &mut files)?;
    files.sort();
    Ok(files.iter().flat_map(|file| exchanges(&packets(file))).collect())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
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

/// The packets of a capture, as far as it can be read: some of the corpora are broken on purpose.
fn packets(file: &Path) -> Vec<Recorded> {
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

/// The payloads of each flow with the end that sent them, and the packets they came in.
#[derive(Default)]
struct Flow<'p> {
    stream: bool,
    said: Vec<(End, Vec<u8>)>,
    packets: Vec<&'p Recorded>,
}

fn exchanges(packets: &[Recorded]) -> Vec<Exchange> {
    let mut router = Router::new();
    let mut order: Vec<FlowKey> = Vec::new();
    let mut flows: BTreeMap<String, Flow<'_>> = BTreeMap::new();
    for packet in packets {
        let (key, end, payload, stream) = match router.route(&packet.packet()) {
            Routed::Segment { segment, .. } => {
                let payload = segment.payload(&packet.data).to_vec();
                (segment.flow, segment.from.end, payload, true)
            }
            Routed::Datagram { datagram, whole, .. } => {
                let payload = datagram
                    .payload(whole.as_deref().unwrap_or(&packet.data))
                    .to_vec();
                (datagram.flow, datagram.from.end, payload, false)
            }
            // Put together from fragments: its packets are not one.
            Routed::Owned { .. } | Routed::Held | Routed::Skipped(_) => continue,
        };
        if !order.contains(&key) {
            order.push(key);
        }
        let flow = flows.entry(format!("{key:?}")).or_default();
        flow.stream = stream;
        flow.packets.push(packet);
        if !payload.is_empty() {
            flow.said.push((end, payload));
        }
    }
    let flows = order.iter().filter_map(|key| flows.remove(&format!("{key:?}")));
    flows.filter_map(exchange).collect()
}

fn exchange(flow: Flow<'_>) -> Option<Exchange> {
    let (first, _) = flow.said.first()?;
    let client = *first;
    let calls = dissect(flow.packets).calls;
    let mut left = BYTES;
    let mut said = Vec::new();
    for (end, mut payload) in flow.said {
        payload.truncate(left);
        left -= payload.len();
        if payload.is_empty() {
            break;
        }
        said.push((if end == client { Who::Client } else { Who::Server }, payload));
    }
    Some(Exchange {
        protocol: calls.first().map_or("", |call| call.protocol),
        stream: flow.stream,
        said,
    })
}
