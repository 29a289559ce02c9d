//! What can be told from an exported capture without dissecting it: connections opened and reset.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use wiretape_tape::{Chunk, ChunkReader, LinkType, Nanos};

/// Length of the header of LINKTYPE_LINUX_SLL2, which begins with the EtherType
/// (<https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>).
const SLL2_HEADER: usize = 20;

/// A TCP connection by its client's and its server's end.
pub type Ends = (SocketAddr, SocketAddr);

/// One TCP packet's head.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// When it was recorded.
    pub ts: Nanos,
    /// Where from.
    pub src: SocketAddr,
    /// Where to.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: u32,
    /// SYN is set, ACK is not.
    pub opens: bool,
    /// RST is set.
    pub resets: bool,
}

/// The TCP packets of a capture.
///
/// # Errors
/// Not a capture, or one that is damaged.
pub fn segments(capture: &[u8]) -> anyhow::Result<Vec<Segment>> {
    let mut reader = ChunkReader::new(capture).context("the hub's export is not a capture")?;
    let mut chunk = Chunk::default();
    let mut segments = Vec::new();
    while reader.next_chunk(&mut chunk)? {
        for packet in &chunk.packets {
            let data = chunk.data(packet);
            let sliced = match packet.link {
                LinkType::ETHERNET => SlicedPacket::from_ethernet(data),
                LinkType::RAW => SlicedPacket::from_ip(data),
                LinkType::LINUX_SLL2 => match data.split_at_checked(SLL2_HEADER) {
                    Some((header, ip)) if is_ip(header) => SlicedPacket::from_ip(ip),
                    _ => continue,
                },
                other => anyhow::bail!("link type {other:?} is not read here"),
            };
            let sliced = sliced.context("a packet that is none")?;
            let (from, to) = match &sliced.net {
                Some(NetSlice::Ipv4(ip)) => {
                    let header = ip.header();
                    (header.source_addr().into(), header.destination_addr().into())
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let header = ip.header();
                    (header.source_addr().into(), header.destination_addr().into())
                }
                _ => continue,
            };
            if let Some(TransportSlice::Tcp(tcp)) = &sliced.transport {
                segments.push(Segment {
                    ts: packet.ts,
                    src: SocketAddr::new(from, tcp.source_port()),
                    dst: SocketAddr::new(to, tcp.destination_port()),
                    seq: tcp.sequence_number(),
                    opens: tcp.syn() && !tcp.ack(),
                    resets: tcp.rst(),
                });
            }
        }
    }
    if let Some(damage) = reader.damage() {
        anyhow::bail!("the hub's export is damaged: {damage:?}");
    }
    Ok(segments)
}

/// Whether IPv4 or IPv6 follows.
fn is_ip(sll2_header: &[u8]) -> bool {
    matches!(sll2_header, [0x08, 0x00, ..] | [0x86, 0xdd, ..])
}

/// Connections that were opened, each once however often its SYN was recorded, with the time of the first.
pub fn opened(segments: &[Segment]) -> BTreeMap<(Ends, u32), Nanos> {
    firsts(segments.iter().filter(|segment| segment.opens))
}

/// Connections that were reset by the first of the two ends, with the time.
pub fn reset(segments: &[Segment]) -> BTreeMap<(Ends, u32), Nanos> {
    firsts(segments.iter().filter(|segment| segment.resets))
}

/// When each was first recorded. Ports are used again within seconds, so the ends alone do not name a connection.
fn firsts<'a>(segments: impl Iterator<Item = &'a Segment>) -> BTreeMap<(Ends, u32), Nanos> {
    let mut firsts = BTreeMap::new();
    for segment in segments {
        let first: &mut Nanos = firsts
            .entry(((segment.src, segment.dst), segment.seq))
            .or_insert(segment.ts);
        *first = segment.ts.min(*first);
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_seen_twice_is_one_and_one_on_ports_used_again_is_another() {
        let reset_at = |ts, seq| Segment {
            ts,
            src: SocketAddr::from(([10, 77, 3, 11], 51617)),
            dst: SocketAddr::from(([203, 0, 113, 10], 443)),
            seq,
            opens: false,
            resets: true,
        };
        let resets = reset(&[reset_at(20, 7), reset_at(10, 7), reset_at(30, 8)]);
        assert_eq!(resets.into_values().collect::<Vec<_>>(), [10, 30]);
    }
}
