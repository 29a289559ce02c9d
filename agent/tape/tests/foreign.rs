//! Captures of other tools: every form that pcapng and pcap have, and real files of the corpora.

mod common;

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use common::*;
use flate2::{Compression, write::GzEncoder};
use wiretape_tape::{
    BlockReader, ChunkReader, Direction, Export, ExportError, ExportFormat, InterfaceInfo, LinkType,
    MAX_BLOCK, PacketMeta, ReadError, index, open,
};

/// Numbers as one byte order writes them.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    const BOTH: [Self; 2] = [Self::Little, Self::Big];

    fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        assert!(body.len().is_multiple_of(4));
        let length = body.len() as u32 + 12;
        [&self.words(&[kind, length]), body, &self.u32(length)].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [
            &self.words(&[0x1A2B_3C4D])[..],
            &self.u16(1),
            &self.u16(0),
            &[0xff; 8],
        ]
        .concat();
        self.block(0x0A0D_0D0A, &body)
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let padding = vec![0; value.len().wrapping_neg() & 3];
        [
            &self.u16(code)[..],
            &self.u16(value.len() as u16),
            value,
            &padding,
        ]
        .concat()
    }

    fn interface(self, link: u16, snap: u32, options: &[u8]) -> Vec<u8> {
        self.block(
            1,
            &[&self.u16(link)[..], &[0, 0], &self.u32(snap), options].concat(),
        )
    }

    fn enhanced(self, interface: u32, stamp: u64, data: &[u8], original: u32) -> Vec<u8> {
        let fixed = self.words(&[
            interface,
            (stamp >> 32) as u32,
            stamp as u32,
            data.len() as u32,
            original,
        ]);
        let padding = vec![0; data.len().wrapping_neg() & 3];
        self.block(6, &[&fixed, data, &padding].concat())
    }
}

fn read(bytes: &[u8]) -> (Vec<OwnPacket>, ChunkReader<Cursor<Vec<u8>>>) {
    let mut reader = ChunkReader::new(Cursor::new(bytes.to_vec())).unwrap();
    (read_all(&mut reader), reader)
}

#[test]
fn clocks_of_every_resolution_in_both_byte_orders() {
    for order in Order::BOTH {
        let clock = |resolution: u8, seconds: i64| {
            let offset = match order {
                Order::Little => seconds.to_le_bytes(),
                Order::Big => seconds.to_be_bytes(),
            };
            [order.option(9, &[resolution]), order.option(14, &offset)].concat()
        };
        let capture = [
            order.section(),
            order.interface(1, 0, &[]),
            order.interface(101, 0, &clock(9, 0)),
            order.interface(113, 0, &clock(3, 10)),
            order.interface(276, 0, &clock(0x80 | 20, -1)),
            order.enhanced(0, 5_000_001, b"a", 9),
            order.enhanced(1, 5_000_000_002, b"bcd", 3),
            order.enhanced(2, 5_003, b"", 0),
            order.enhanced(3, 5 << 20 | 1 << 19, b"efghi", 5),
        ]
        .concat();
        let (packets, reader) = read(&capture);
        let got: Vec<_> = packets
            .iter()
            .map(|(meta, data)| (meta.ts, meta.link.0, &data[..]))
            .collect();
        let expected: [(u64, u16, &[u8]); 4] = [
            (5_000_001_000, 1, b"a"),
            (5_000_000_002, 101, b"bcd"),
            (15_003_000_000, 113, b""),
            (4_500_000_000, 276, b"efghi"),
        ];
        assert_eq!(got, expected);
        assert_eq!(
            (packets[0].0.orig_len, packets[0].0.direction),
            (9, Direction::Unknown)
        );
        assert_eq!((reader.counters().packets, reader.counters().bytes), (4, 9));
        assert_eq!(reader.node(), None);
    }
}

#[test]
fn sections_of_both_byte_orders_in_one_file() {
    let capture: Vec<u8> = Order::BOTH
        .iter()
        .flat_map(|order| {
            [
                order.section(),
                order.interface(101, 0, &order.option(2, b"lo")),
                order.enhanced(0, 7, b"data", 4),
                // Interfaces of the section before are not known here.
                order.enhanced(1, 7, b"data", 4),
            ]
            .concat()
        })
        .collect();
    let (packets, reader) = read(&capture);
    let interfaces: Vec<u32> = packets.iter().map(|(meta, _)| meta.interface).collect();
    assert_eq!(interfaces, [0, 1]);
    assert_eq!(reader.interfaces().len(), 2);
    assert_eq!((reader.counters().unreadable, reader.damage()), (2, None));
}

#[test]
fn simple_and_obsolete_packets() {
    for order in Order::BOTH {
        let obsolete = |drops: u16| {
            let ids = [order.u16(0), order.u16(drops)].concat();
            let body = [
                &ids,
                &order.words(&[0, 2_000_000, 3, 60])[..],
                b"xyz\0",
                &order.option(2, &order.u32(2)),
            ];
            order.block(2, &body.concat())
        };
        let capture = [
            order.section(),
            order.interface(1, 6, &[]),
            // Cut to the snap length, and shorter than it.
            order.block(3, &[&order.u32(60)[..], b"abcdef\0\0"].concat()),
            order.block(3, &[&order.u32(3)[..], b"abc\0"].concat()),
            obsolete(4),
            obsolete(u16::MAX),
        ]
        .concat();
        let (packets, reader) = read(&capture);
        let got: Vec<_> = packets
            .iter()
            .map(|(meta, data)| (meta.ts, meta.orig_len, &data[..]))
            .collect();
        let expected: [(u64, u32, &[u8]); 4] = [
            (0, 60, b"abcdef"),
            (0, 3, b"abc"),
            (2_000_000_000, 60, b"xyz"),
            (2_000_000_000, 60, b"xyz"),
        ];
        assert_eq!(got, expected);
        assert_eq!(packets[2].0.direction, Direction::Out);
        assert_eq!((reader.counters().without_time, reader.losses()), (2, 4));
    }
}

#[test]
fn classic_pcap_in_every_form() {
    for (order, (magic, unit)) in Order::BOTH
        .iter()
        .flat_map(|order| [(order, (0xa1b2_c3d4, 1000)), (order, (0xa1b2_3c4d, 1))])
    {
        let header = [
            order.words(&[magic]),
            vec![0; 12],
            order.words(&[65_535, 0x1000_0001]),
        ]
        .concat();
        let record = |data: &[u8]| [&order.words(&[3, 5, data.len() as u32, 99])[..], data].concat();
        let capture = [header, record(b"first"), record(b"")].concat();
        let (packets, reader) = read(&capture);
        assert_eq!((packets.len(), &packets[0].1[..]), (2, &b"first"[..]));
        let meta = &packets[0].0;
        assert_eq!(
            (meta.ts, meta.orig_len, meta.link, meta.at),
            (3 * SECOND + 5 * unit, 99, LinkType::ETHERNET, 24)
        );
        assert_eq!(reader.damage(), None);
    }
}

#[test]
fn gzipped_in_several_members() {
    let order = Order::Little;
    let packet = |n: u64| order.enhanced(0, n, &n.to_le_bytes(), 8);
    let head = [order.section(), order.interface(101, 0, &[])].concat();
    let packed: Vec<u8> = [head, packet(1), packet(2)]
        .into_iter()
        .flat_map(|part| gzip(&part))
        .collect();
    let (packets, reader) = read(&packed);
    assert_eq!(packets.len(), 2);
    assert_eq!(reader.damage(), None);
    // Cut off: what inflates is read, and the reader says that the rest is missing.
    let (packets, reader) = read(&packed[..packed.len() - 10]);
    assert!(packets.len() < 3 && reader.damage().is_some());
}

#[test]
fn gzipped_a_thousandfold() {
    // 16 MiB of one packet over and over, in some 16 KiB: memory stays that of a chunk.
    let order = Order::Little;
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer
        .write_all(&[order.section(), order.interface(101, 0, &[])].concat())
        .unwrap();
    let run = order.enhanced(0, 1, &[0; 60_000], 60_000).repeat(16);
    for _ in 0..16 {
        packer.write_all(&run).unwrap();
    }
    let packed = packer.finish().unwrap();
    let mut reader = ChunkReader::new(packed.as_slice()).unwrap();
    let mut chunk = wiretape_tape::Chunk::default();
    while reader.next_chunk(&mut chunk).unwrap() {
        assert!(chunk.capacity() <= 2 * wiretape_tape::CHUNK_BYTES);
    }
    assert_eq!(reader.counters().packets, 256);
}

#[test]
fn block_longer_than_is_read() {
    let order = Order::Little;
    let head = [
        order.section(),
        order.interface(101, 0, &[]),
        order.enhanced(0, 1, b"data", 4),
    ]
    .concat();
    let longest = order.block(0x1234, &vec![0; MAX_BLOCK - 12]);
    let (packets, reader) = read(&[&head[..], &longest, &order.enhanced(0, 2, b"data", 4)].concat());
    assert_eq!(
        (packets.len(), reader.counters().unknown, reader.damage()),
        (2, 1, None)
    );

    let longer = order.block(0x1234, &vec![0; MAX_BLOCK - 8]);
    let (packets, reader) = read(&[&head[..], &longer].concat());
    assert_eq!(packets.len(), 1);
    let damage = reader.damage().unwrap();
    assert_eq!(damage.at, head.len() as u64);
    assert!(
        damage.reason.contains(&MAX_BLOCK.to_string()),
        "{}",
        damage.reason
    );
    assert_eq!(reader.counters().unread_bytes, longer.len() as u64);
}

#[test]
fn captured_length_that_lies_ends_with_its_block() {
    let order = Order::Little;
    let mut lying = order.enhanced(0, 1, b"data", 4);
    lying[20..24].copy_from_slice(&1_000_000u32.to_le_bytes());
    let capture = [
        order.section(),
        order.interface(101, 0, &[]),
        lying,
        order.enhanced(0, 2, b"more", 4),
    ]
    .concat();
    let (packets, reader) = read(&capture);
    assert_eq!((packets.len(), &packets[0].1[..]), (2, &b"data"[..]));
    assert_eq!(reader.counters().overlong, 1);
}

#[test]
fn broken_block_ends_what_is_read() {
    let order = Order::Little;
    let head = [
        order.section(),
        order.interface(101, 0, &[]),
        order.enhanced(0, 1, b"data", 4),
    ]
    .concat();
    let good = order.enhanced(0, 2, b"data", 4);
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut block = good.clone();
        change(&mut block);
        block
    };
    let cases = [
        broken(&|block| block[4] += 1),
        broken(&|block| block[4..8].copy_from_slice(&8u32.to_le_bytes())),
        broken(&|block| *block.last_mut().unwrap() = 9),
        broken(&|block| block[4..8].copy_from_slice(&0u32.to_le_bytes())),
    ];
    for case in cases {
        let (packets, reader) = read(&[&head[..], &case, &good].concat());
        assert_eq!(
            (packets.len(), reader.damage().unwrap().at),
            (1, head.len() as u64)
        );
        assert_eq!(
            (reader.counters().damaged, reader.counters().unread_bytes),
            (1, 2 * good.len() as u64)
        );
    }
}

#[test]
fn more_interfaces_than_a_reader_keeps() {
    let order = Order::Little;
    let interface = order.interface(1, 0, &[]);
    let (_, reader) = read(&[order.section(), interface.repeat(65_536)].concat());
    assert_eq!((reader.interfaces().len(), reader.damage()), (65_536, None));
    let (_, reader) = read(&[order.section(), interface.repeat(65_537)].concat());
    assert_eq!(reader.interfaces().len(), 65_536);
    assert!(reader.damage().unwrap().reason.contains("65536"));
}

#[test]
fn more_sections_than_a_reader_keeps() {
    let section = Order::Little.section();
    let (_, reader) = read(&section.repeat(65_536));
    assert_eq!(reader.damage(), None);
    let (_, reader) = read(&section.repeat(65_537));
    assert!(reader.damage().unwrap().reason.contains("65536"));
}

#[test]
fn not_a_capture() {
    for bytes in [
        &b""[..],
        b"\x0a",
        b"GET / HTTP/1.1\r\n",
        &gzip(b"text"),
        &gzip(b""),
        &[0xa1, 0xb2, 0xc3, 0xd4, 0, 2],
    ] {
        assert!(
            matches!(ChunkReader::new(bytes), Err(ReadError::NotACapture { .. })),
            "{bytes:02x?}"
        );
    }
}

#[test]
fn source_that_fails_gives_what_it_had() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("the disk is gone")),
                read => Ok(read),
            }
        }
    }
    let order = Order::Little;
    let capture = [
        order.section(),
        order.interface(101, 0, &[]),
        order.enhanced(0, 1, b"data", 4),
    ]
    .concat();
    let mut reader = ChunkReader::new(Failing(&capture)).unwrap();
    let mut chunk = wiretape_tape::Chunk::default();
    assert!(reader.next_chunk(&mut chunk).unwrap());
    assert_eq!(chunk.packets.len(), 1);
    assert!(matches!(reader.next_chunk(&mut chunk), Err(ReadError::Io(_))));
    assert!(!reader.next_chunk(&mut chunk).unwrap());
}

#[test]
fn real_captures_have_the_packets_that_wireshark_counts() {
    let Some(root) = corpora() else { return };
    let files: Vec<PathBuf> = ["wireshark", "deepflow"]
        .iter()
        .flat_map(|part| captures(&root.join(part)))
        .collect();
    assert!(files.len() > 100, "{}", files.len());
    let mut args = vec!["-c", "-M", "-T", "-r", "-N"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    let Some(lines) = tool("capinfos", &args) else {
        return;
    };
    assert_eq!(lines.len(), files.len());
    for (file, line) in files.iter().zip(&lines) {
        let counted: usize = line.split('\t').next_back().unwrap().parse().unwrap();
        let mut reader = open(file).unwrap();
        let packets = read_all(&mut reader);
        assert_eq!(packets.len(), counted, "{}", file.display());
        assert_eq!(reader.damage(), None, "{}", file.display());
        assert_eq!(index(file).unwrap(), None);
        read_again_one_by_one(file, &packets, &mut reader);
    }
}

/// Each packet by its offset, with the layout found by reading through and with the one kept.
fn read_again_one_by_one(file: &Path, packets: &[OwnPacket], reader: &mut ChunkReader<impl Read>) {
    if reader.is_packed() {
        assert!(matches!(BlockReader::open(file), Err(ReadError::Compressed)));
        return;
    }
    let kept = serde_json::to_string(reader.layout()).unwrap();
    let with_layout = BlockReader::with_layout(file, serde_json::from_str(&kept).unwrap()).unwrap();
    for blocks in [BlockReader::open(file).unwrap(), with_layout] {
        assert_eq!(blocks.interfaces(), reader.interfaces());
        for (meta, data) in packets {
            let packet = blocks.packet_at(meta.at).unwrap();
            assert_eq!(
                (&packet.data, packet.meta.ts, packet.meta.link),
                (data, meta.ts, meta.link)
            );
            assert_eq!(
                (packet.meta.interface, packet.meta.direction),
                (meta.interface, meta.direction)
            );
        }
        assert!(blocks.packet_at(0).is_err() && blocks.packet_at(u64::MAX).is_err());
    }
}

fn captures(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(captures(&path));
        } else if path.file_name().unwrap().to_str().unwrap().contains(".pcap") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn export_of_mixed_links() {
    let ethernet = |kind: [u8; 2], rest: &[u8]| [&[0; 12][..], &kind, rest].concat();
    let ip = b"\x45 an ip packet";
    let frames = [
        (LinkType::RAW, ip.to_vec()),
        (LinkType::ETHERNET, ethernet([8, 0], ip)),
        (
            LinkType::ETHERNET,
            ethernet([0x81, 0], &[&[0, 7, 8, 0][..], ip].concat()),
        ),
        (LinkType::LINUX_SLL, [&[0; 14][..], &[8, 0], ip].concat()),
        (LinkType::LINUX_SLL2, [&[8, 0][..], &[0; 18], ip].concat()),
        (LinkType(0), [&[2, 0, 0, 0][..], ip].concat()),
        // Not IP: ARP, and frames too short to be anything.
        (LinkType::ETHERNET, ethernet([8, 6], b"who has")),
        (LinkType::ETHERNET, vec![0; 5]),
        (LinkType::LINUX_SLL2, vec![8, 0]),
    ];
    let interface = [InterfaceInfo::new(LinkType::RAW, "any")];
    let mut raw = Export::new(Vec::new(), ExportFormat::PcapRaw, "hub");
    let mut mixed = Export::new(Vec::new(), ExportFormat::Pcap, "hub");
    let mut pcapng = Export::new(Vec::new(), ExportFormat::Pcapng, "hub");
    for (n, (link, data)) in frames.iter().enumerate() {
        let meta = PacketMeta {
            ts: START,
            data: 0..data.len() as u32,
            orig_len: data.len() as u32,
            link: *link,
            interface: 0,
            direction: Direction::In,
            cgroup: 7,
            cookie: 8,
            dropped: None,
            at: 0,
        };
        raw.packet("n", &interface, &meta, data).unwrap();
        pcapng.packet("n", &interface, &meta, data).unwrap();
        let outcome = mixed.packet("n", &interface, &meta, data);
        assert_eq!(n > 0, matches!(outcome, Err(ExportError::MixedLinks { .. })));
    }
    assert_eq!((raw.counters().packets, raw.counters().not_ip), (6, 3));
    let packets = read(&raw.finish().unwrap()).0;
    assert!(
        packets
            .iter()
            .all(|(meta, data)| data == ip && meta.orig_len == ip.len() as u32)
    );
    assert!(packets.iter().all(|(meta, _)| meta.link == LinkType::RAW));
    let packets = read(&pcapng.finish().unwrap()).0;
    let back: Vec<_> = packets
        .iter()
        .map(|(meta, data)| (meta.link, data.clone()))
        .collect();
    assert_eq!(back, frames);
    assert!(
        packets
            .iter()
            .all(|(meta, _)| (meta.cgroup, meta.cookie, meta.direction) == (7, 8, Direction::In))
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}
