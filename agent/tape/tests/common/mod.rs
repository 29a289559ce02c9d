//! What the tests share: a made-up conversation, and a look at what the disk holds of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use wiretape_tape::{
    Chunk, ChunkReader, Direction, LinkType, Name, Nanos, Packet, PacketMeta, Tape, TapeOptions, open,
};

pub const SECOND: Nanos = 1_000_000_000;
pub const START: Nanos = 1_700_000_000 * SECOND;
/// Time between two packets.
pub const STEP: Nanos = 1_000_000;

/// A short tape: sixteen segments of 64 KiB.
pub fn options(dir: &Path) -> TapeOptions {
    TapeOptions {
        ring_bytes: 1 << 20,
        segment_bytes: 64 << 10,
        ..TapeOptions::new(dir, "node-1", "wiretape-agent 0.1.0 (test)")
    }
}

/// The `n`th packet: one each millisecond, over two interfaces, in all directions, some without an owner.
pub fn packet(n: u64, data: &[u8]) -> Packet<'_> {
    let owned = !n.is_multiple_of(5);
    Packet {
        ts: START + n * STEP,
        data,
        orig_len: data.len() as u32 + (n % 2) as u32,
        link: LinkType::RAW,
        ifindex: 3 + (n % 2) as u32,
        direction: [Direction::Unknown, Direction::In, Direction::Out][n as usize % 3],
        cgroup: if owned { 4000 + n % 7 } else { 0 },
        cookie: if owned { n } else { 0 },
        dropped: None,
    }
}

/// An UDP datagram of IPv4 from 10.0.0.1 to 10.0.0.2, of a length that differs from packet to packet.
pub fn datagram(n: u64) -> Vec<u8> {
    let body: Vec<u8> = (0..10 + n % 97).map(|i| (i + n) as u8).collect();
    let total = (28 + body.len()) as u16;
    let [high, low] = total.to_be_bytes();
    let mut bytes = vec![
        0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    bytes.extend_from_slice(&[0x27, 0x0f, 0x27, 0x10]);
    bytes.extend_from_slice(&(total - 20).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

/// Records packets `from..to` of the conversation.
pub fn record(tape: &mut Tape, packets: std::ops::Range<u64>) {
    for n in packets {
        tape.append(&packet(n, &datagram(n))).unwrap();
    }
}

pub fn frontend() -> Name {
    Name {
        since: START,
        cgroup: 4001,
        cgroup_path: "/shop/frontend".into(),
        pod: "frontend-abc123".into(),
        namespace: "shop".into(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))],
        ..Name::default()
    }
}

/// Segment files on the ring, in order.
pub fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcapng"))
        .collect();
    files.sort();
    files
}

/// A packet with its bytes.
pub type OwnPacket = (PacketMeta, Vec<u8>);

/// All packets of a capture with their bytes.
pub fn read_all<R: std::io::Read>(reader: &mut ChunkReader<R>) -> Vec<OwnPacket> {
    let mut chunk = Chunk::default();
    let mut packets = Vec::new();
    while reader.next_chunk(&mut chunk).unwrap() {
        packets.extend(
            chunk
                .packets
                .iter()
                .map(|meta| (meta.clone(), chunk.data(meta).to_vec())),
        );
    }
    packets
}

pub fn read_file(path: &Path) -> Vec<OwnPacket> {
    read_all(&mut open(path).unwrap())
}

/// Which packets of the conversation a file holds; each must be whole and right.
pub fn packet_numbers(path: &Path) -> Vec<u64> {
    let numbers = read_file(path).into_iter().map(|(meta, data)| {
        let n = (meta.ts - START) / STEP;
        let expected = datagram(n);
        let wrote = packet(n, &expected);
        assert_eq!(data, expected, "packet {n}");
        assert_eq!(
            (meta.ts, meta.orig_len, meta.link),
            (wrote.ts, wrote.orig_len, wrote.link)
        );
        assert_eq!(
            (meta.direction, meta.cgroup, meta.cookie),
            (wrote.direction, wrote.cgroup, wrote.cookie)
        );
        n
    });
    numbers.collect()
}

/// Output of a tool, by line; `None`, said aloud, when it is not installed. A complaint on stderr fails the test.
pub fn tool(name: &str, args: &[&str]) -> Option<Vec<String>> {
    let output = match Command::new(name).args(args).output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("SKIPPED: {name} cannot be run: {error}");
            return None;
        }
    };
    let complaint: String = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.contains("Running as user \"root\""))
        .collect();
    assert!(
        output.status.success() && complaint.is_empty(),
        "{name} {args:?}: {complaint}"
    );
    Some(
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

/// Real captures, beside the checkout; `None`, said aloud, when they are not there.
pub fn corpora() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !root.is_dir() {
        eprintln!("SKIPPED: no captures in {}", root.display());
        return None;
    }
    Some(root)
}
