//! The tape by situation.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{Chunk, Direction, LinkType, open};

pub(super) const SECOND: Nanos = 1_000_000_000;
pub(super) const START: Nanos = 1_700_000_000 * SECOND;

pub(super) fn options(dir: &Path) -> TapeOptions {
    TapeOptions {
        ring_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        ..TapeOptions::new(dir, "node-1", "wiretape-agent 0.1.0 (test)")
    }
}

/// The `n`th packet of a made-up conversation: one each millisecond, two interfaces, all directions.
pub(super) fn packet(n: u64, data: &[u8]) -> Packet<'_> {
    Packet {
        ts: START + n * 1_000_000,
        data,
        orig_len: data.len() as u32 + (n % 2) as u32,
        link: LinkType::RAW,
        ifindex: 3 + (n % 2) as u32,
        direction: [Direction::Unknown, Direction::In, Direction::Out][n as usize % 3],
        cgroup: if n.is_multiple_of(5) { 0 } else { 4000 + n % 7 },
        cookie: if n.is_multiple_of(5) { 0 } else { n },
    }
}

/// Of lengths that need each padding.
pub(super) fn payload(n: u64) -> Vec<u8> {
    (0..20 + n % 97).map(|i| (i + n) as u8).collect()
}

#[test]
fn wrote_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.interface_name(3, "eth0");
    let name = Name {
        since: START,
        cgroup: 4001,
        pod: "frontend-1".into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))],
        ..Name::default()
    };
    tape.name(&name).unwrap();
    for n in 0..300 {
        tape.append(&packet(n, &payload(n))).unwrap();
    }
    tape.lost(7);
    let shelf = tape.shelf();
    tape.seal().unwrap();

    let segments = shelf.segments();
    assert_eq!(segments.len(), 1);
    let mut reader = open(&dir.path().join(&segments[0].name)).unwrap();
    assert_eq!(reader.node(), Some("node-1"));
    let mut chunk = Chunk::default();
    let mut n = 0;
    while reader.next_chunk(&mut chunk).unwrap() {
        for meta in &chunk.packets {
            let data = payload(n);
            let wrote = packet(n, &data);
            assert_eq!(chunk.data(meta), data);
            assert_eq!(
                (meta.ts, meta.orig_len, meta.link),
                (wrote.ts, wrote.orig_len, wrote.link)
            );
            assert_eq!(
                (meta.direction, meta.cgroup, meta.cookie),
                (wrote.direction, wrote.cgroup, wrote.cookie)
            );
            assert_eq!(meta.interface, (n % 2) as u32);
            n += 1;
        }
    }
    assert_eq!(n, 300);
    assert_eq!(reader.names(), [name]);
    assert_eq!(reader.losses(), 7);
    assert_eq!(reader.interfaces()[0].name, "eth0");
    assert_eq!(reader.interfaces()[1].name, "if4");
    assert_eq!(reader.damage(), None);
    assert_eq!(
        fs::metadata(dir.path().join(&segments[0].name)).unwrap().len(),
        segments[0].bytes
    );
}
