//! A snapshot of certain workloads: of every packet that was collected, those are kept of which at least one peer is meant
//! (contract 1.8).
//!
//! It is done here, once a node's segments have come: agents cut whole segments, and do not know who is at the other end of
//! a packet. What is kept goes onto a tape of its own, with the events and the names; what is not is gone.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use wiretape_tape::{
    Chunk, Direction, LinkType, Packet, PacketMeta, SegmentInfo, Tape, TapeError, TapeOptions,
};

use super::{remove_all, sync_folder};
use crate::calls::{Identity, Names};

/// Most bytes of a compiled `pod_regex`: names are short, and an expression that needs more is a mistake or an attack.
const REGEX_BYTES: usize = 1 << 20;

/// Bytes of a segment of what is kept, as an agent's.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The ring never turns: more than any snapshot has.
const RING_BYTES: u64 = 1 << 50;

/// Which workloads a snapshot is of, as it is asked for and told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadFilter {
    /// Peers of one of these namespaces; of any, if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Peers in whose pod's name this regular expression has a match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_regex: Option<String>,
}

/// The same, ready to be asked.
pub struct Meant {
    namespaces: Vec<String>,
    pod: Option<Regex>,
}

/// What has become of a node's segments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) segments: Vec<SegmentInfo>,
    /// Packets that were left out.
    pub(super) left_out: u64,
}

impl WorkloadFilter {
    /// Checks it. The error says what is wrong with the expression.
    pub fn meant(&self) -> Result<Meant, String> {
        let pod = self.pod_regex.as_ref().map(|text| {
            let compiled = RegexBuilder::new(text).size_limit(REGEX_BYTES).build();
            compiled.map_err(|error| error.to_string())
        });
        Ok(Meant {
            namespaces: self.namespaces.clone(),
            pod: pod.transpose()?,
        })
    }
}

impl Meant {
    fn is(&self, who: &Identity<'_>) -> bool {
        let namespace = || self.namespaces.iter().any(|namespace| namespace == who.namespace);
        let pod = |pod: &Regex| !who.pod.is_empty() && pod.is_match(who.pod);
        (self.namespaces.is_empty() || namespace()) && self.pod.as_ref().is_none_or(pod)
    }

    /// Whether one of a packet's peers is. A packet without addresses that can be read has none.
    fn takes(&self, names: &Names, node: &str, packet: &PacketMeta, data: &[u8]) -> bool {
        let Some((source, destination)) = addresses(packet.link, data) else {
            return false;
        };
        // The recorded socket is at the end that its direction says, and has the cgroup.
        let here = |local: bool| {
            if local {
                (Some(node), packet.cgroup)
            } else {
                (None, 0)
            }
        };
        let ends = [
            (source, here(packet.direction == Direction::Out)),
            (destination, here(packet.direction == Direction::In)),
        ];
        ends.into_iter().any(|(address, (node, cgroup))| {
            self.is(&names.resolve(node, cgroup, SocketAddr::new(address, 0), packet.ts))
        })
    }
}

/// Copies what is meant of a node's segments from one folder into another, which is made anew.
pub(super) fn keep(
    meant: &Meant,
    names: &Names,
    node: &str,
    segments: &[SegmentInfo],
    (from, to): (&Path, &Path),
) -> io::Result<Kept> {
    remove_all(to)?;
    let mut options = TapeOptions::new(to, node, concat!("wiretape-hub ", env!("CARGO_PKG_VERSION")));
    (options.ring_bytes, options.segment_bytes) = (RING_BYTES, SEGMENT_BYTES);
    let begun = segments
        .iter()
        .find_map(|segment| segment.first)
        .unwrap_or_default();
    let mut tape = Tape::open(options, begun).map_err(failed)?;
    for name in names.all().iter().filter(|name| name.node == node) {
        tape.name(&name.name).map_err(failed)?;
    }
    let mut left_out = 0;
    let mut chunk = Chunk::default();
    for segment in segments {
        let mut reader = wiretape_tape::open(&from.join(&segment.name)).map_err(io::Error::other)?;
        while reader.next_chunk(&mut chunk).map_err(io::Error::other)? {
            for event in &chunk.events {
                tape.event(event).map_err(failed)?;
            }
            for packet in &chunk.packets {
                let data = chunk.data(packet);
                if meant.takes(names, node, packet, data) {
                    tape.append(&Packet {
                        ts: packet.ts,
                        data,
                        orig_len: packet.orig_len,
                        link: packet.link,
                        ifindex: packet.interface,
                        direction: packet.direction,
                        cgroup: packet.cgroup,
                        cookie: packet.cookie,
                        dropped: packet.dropped,
                    })
                    .map_err(failed)?;
                } else {
                    left_out += 1;
                }
            }
        }
        let mut untimed = segment.lost;
        for loss in &segment.losses {
            tape.lost_at(*loss);
            untimed = untimed.saturating_sub(loss.packets);
        }
        tape.lost(untimed);
    }
    let shelf = tape.shelf();
    tape.seal().map_err(failed)?;
    let segments = shelf.segments();
    // A tape rather loses packets than holds up who records; here nothing may be lost in silence.
    let counters = shelf.counters();
    if counters.lost_disk_full + counters.lost_write_error + counters.events_lost > 0 {
        return Err(io::Error::other("the disk did not take all of it"));
    }
    // What it was made from goes, and a tape is the kernel's until it is written.
    for segment in &segments {
        File::open(to.join(&segment.name))?.sync_all()?;
    }
    sync_folder(to)?;
    Ok(Kept { segments, left_out })
}

fn failed(error: TapeError) -> io::Error {
    io::Error::other(error)
}

/// The addresses of an IP packet behind the usual link headers.
fn addresses(link: LinkType, data: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let ip = match link {
        LinkType::RAW | LinkType(12 | 14 | 228 | 229) => data,
        LinkType::ETHERNET => behind_ethernet(data)?,
        // LINKTYPE_LINUX_SLL and its second version.
        LinkType(113) => data.get(16..)?,
        LinkType(276) => data.get(20..)?,
        _ => return None,
    };
    match ip.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                Some(bytes.into())
            };
            Some((address(12)?, address(16)?))
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let bytes: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                Some(IpAddr::from(bytes).to_canonical())
            };
            Some((address(8)?, address(24)?))
        }
        _ => None,
    }
}

/// What is behind the addresses, and behind the tags of IEEE 802.1Q and 802.1ad.
fn behind_ethernet(data: &[u8]) -> Option<&[u8]> {
    let mut rest = data.get(12..)?;
    while let [0x81 | 0x88, 0x00 | 0xa8, ..] = rest {
        rest = rest.get(4..)?;
    }
    rest.get(2..)
}

#[cfg(test)]
mod tests {
    use wiretape_tape::Name;

    use super::*;
    use crate::calls::NodeName;

    const S: u64 = 1_000_000_000;

    /// An IPv4 packet without payload.
    fn packet(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut data = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0];
        data.extend(source);
        data.extend(destination);
        data
    }

    fn names() -> Names {
        let pod = |pod: &str, namespace: &str, cgroup, address: [u8; 4]| NodeName {
            node: "n1".to_owned(),
            name: Name {
                pod: pod.to_owned(),
                namespace: namespace.to_owned(),
                cgroup,
                addresses: vec![address.into()],
                ..Name::default()
            },
        };
        Names::new(vec![
            pod("cart-1", "shop", 7, [10, 0, 0, 1]),
            pod("pay-1", "bank", 8, [10, 0, 0, 2]),
        ])
    }

    fn kept(filter: &WorkloadFilter) -> (Vec<u64>, u64) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("n1"), dir.path().join("n1-kept"));
        let mut tape = Tape::open(TapeOptions::new(&from, "n1", "wiretape test"), S).unwrap();
        let others = [[10, 0, 0, 2], [10, 0, 0, 9], [10, 0, 0, 9]];
        let ours = [[10, 0, 0, 1], [10, 0, 0, 1], [10, 0, 0, 8]];
        for (number, (source, destination)) in ours.into_iter().zip(others).enumerate() {
            let data = packet(source, destination);
            tape.append(&Packet {
                ts: S * (number as u64 + 1),
                data: &data,
                orig_len: 20,
                link: LinkType::RAW,
                ifindex: 1,
                direction: Direction::Out,
                cgroup: 0,
                cookie: 0,
                dropped: None,
            })
            .unwrap();
        }
        let shelf = tape.shelf();
        tape.seal().unwrap();
        let segments = shelf.segments();
        let kept = keep(&filter.meant().unwrap(), &names(), "n1", &segments, (&from, &to)).unwrap();
        let mut times = Vec::new();
        for segment in &kept.segments {
            let mut reader = wiretape_tape::open(&to.join(&segment.name)).unwrap();
            let mut chunk = Chunk::default();
            while reader.next_chunk(&mut chunk).unwrap() {
                times.extend(chunk.packets.iter().map(|packet| packet.ts / S));
            }
        }
        (times, kept.left_out)
    }

    #[test]
    fn packet_is_kept_if_one_of_its_peers_is_meant() {
        let filter = |namespaces: &[&str], pod: Option<&str>| WorkloadFilter {
            namespaces: namespaces.iter().map(|&namespace| namespace.to_owned()).collect(),
            pod_regex: pod.map(str::to_owned),
        };
        assert_eq!(kept(&filter(&["shop"], None)), (vec![1, 2], 1));
        assert_eq!(kept(&filter(&["bank"], None)), (vec![1], 2));
        assert_eq!(kept(&filter(&[], Some("^pay-"))), (vec![1], 2));
        assert_eq!(kept(&filter(&["shop"], Some("^pay-"))), (vec![], 3));
        assert_eq!(kept(&filter(&[], None)), (vec![1, 2, 3], 0));
        assert!(filter(&[], Some("(")).meant().is_err());
    }

    #[test]
    fn addresses_stand_behind_link_headers_and_tags() {
        let ip = packet([10, 0, 0, 1], [10, 0, 0, 2]);
        let behind = |head: &[u8]| [head, ip.as_slice()].concat();
        let ends = Some(([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        let mut tagged = vec![0; 12];
        tagged.extend([0x81, 0, 0, 5, 0x08, 0]);
        assert_eq!(addresses(LinkType::RAW, &ip), ends);
        assert_eq!(addresses(LinkType::ETHERNET, &behind(&tagged)), ends);
        assert_eq!(addresses(LinkType(113), &behind(&[0; 16])), ends);
        assert_eq!(addresses(LinkType::RAW, &ip[..19]), None);
    }
}
