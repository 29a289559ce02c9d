//! Bytes that nobody meant as a capture: never a panic, and nothing given out that is not in the file.

mod common;

use common::*;
use proptest::prelude::*;
use wiretape_tape::{BlockReader, Chunk, ChunkReader, Tape, head_names, index};

/// Few, because every byte of them is broken in turn.
const PACKETS: u64 = 5;

/// A sealed segment, small and with everything in it.
fn segment() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..PACKETS);
    tape.lost(3);
    tape.seal().unwrap();
    std::fs::read(&segment_files(dir.path())[0]).unwrap()
}

/// Reads all there is; every packet must lie in its chunk, and all bytes be accounted for. Returns the packets.
fn read_through(bytes: &[u8]) -> u64 {
    let Ok(mut reader) = ChunkReader::new(bytes) else {
        return 0;
    };
    let packed = reader.is_packed();
    let mut chunk = Chunk::default();
    let mut given_out = 0;
    let mut used = 0;
    while reader.next_chunk(&mut chunk).unwrap() {
        for packet in &chunk.packets {
            assert_eq!(chunk.data(packet).len(), packet.data.len());
        }
        given_out += chunk.packets.len() as u64;
        used += chunk.bytes().len() as u64;
    }
    let counters = reader.counters();
    assert_eq!(counters.packets, given_out);
    // A classic pcap's file header is in no chunk.
    let header = if bytes.first_chunk() == Some(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        0
    } else {
        24
    };
    if !packed {
        assert_eq!(used + counters.unread_bytes + header, bytes.len() as u64);
    }
    assert_eq!(counters.unread_bytes > 0, reader.damage().is_some() && !packed);
    given_out
}

#[test]
fn truncated_at_every_byte() {
    let whole = segment();
    let mut packets = 0;
    for end in 0..=whole.len() {
        let read = read_through(&whole[..end]);
        assert!(read >= packets, "never fewer than of a shorter file");
        packets = read;
    }
    assert_eq!(packets, PACKETS);
}

#[test]
fn bits_flipped_in_every_byte() {
    let whole = segment();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flipped.pcapng");
    for at in 0..whole.len() {
        // Two bits of each byte: a low one, which changes a number a little, and any other.
        for (bit, low) in [(at % 2, true), (2 + at % 6, false)] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(read_through(&bytes) <= PACKETS + 1);
            if !low {
                continue;
            }
            // The tail, the head and single blocks are read by ways of their own.
            std::fs::write(&path, &bytes).unwrap();
            let _ = index(&path);
            let _ = head_names(&path);
            if let Ok(blocks) = BlockReader::open(&path) {
                for place in (0..whole.len()).step_by(100) {
                    let _ = blocks.packet_at(place as u64);
                }
            }
        }
    }
}

/// Random blocks under a good section header: gets deeper than plain noise does.
fn blocks() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        0u32..12,
        Just(0xBAD),
        Just(0x4000_0BAD),
        Just(0x0A0D_0D0A),
        any::<u32>()
    ];
    let body = prop::collection::vec(prop_oneof![3 => 0u8..12, 1 => any::<u8>()], 0..80);
    let block = (kind, body, 0u32..100).prop_map(|(kind, mut body, odd)| {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = body.len() as u32 + 12 + if odd == 0 { 4 } else { 0 };
        [
            &kind.to_le_bytes()[..],
            &length.to_le_bytes(),
            &body,
            &length.to_le_bytes(),
        ]
        .concat()
    });
    prop::collection::vec(block, 0..30).prop_map(|blocks| [head(), blocks.concat()].concat())
}

fn head() -> Vec<u8> {
    let section = [0x0A0D_0D0A, 28, 0x1A2B_3C4D, 1, u32::MAX, u32::MAX, 28u32];
    let interface = [1u32, 20, 101, 0, 20];
    section
        .iter()
        .chain(&interface)
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

fn pcap() -> impl Strategy<Value = Vec<u8>> {
    let magic = prop_oneof![
        Just(0xa1b2_c3d4u32),
        Just(0xd4c3_b2a1),
        Just(0xa1b2_3c4d),
        Just(0x4d3c_b2a1),
    ];
    (
        magic,
        prop::collection::vec(prop_oneof![5 => Just(0u8), 1 => any::<u8>()], 20..400),
    )
        .prop_map(|(magic, rest)| [&magic.to_be_bytes()[..], &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_through(&bytes);
        read_through(&[head(), bytes.clone()].concat());
        read_through(&[&[0x1f, 0x8b, 8, 0][..], &bytes].concat());
    }

    #[test]
    fn random_blocks(bytes in blocks()) {
        read_through(&bytes);
    }

    #[test]
    fn random_pcap(bytes in pcap()) {
        read_through(&bytes);
    }

    #[test]
    fn in_pieces_of_any_size(sizes in prop::collection::vec(1usize..400, 1..40)) {
        let whole = segment();
        let mut reader = ChunkReader::new(InPieces { rest: &whole, sizes: sizes.into_iter().cycle() }).unwrap();
        prop_assert_eq!(read_all(&mut reader).len() as u64, PACKETS);
        prop_assert_eq!(reader.damage(), None);
    }
}

/// A source that gives a few bytes at a time, as a network does.
struct InPieces<'a, S> {
    rest: &'a [u8],
    sizes: S,
}

impl<S: Iterator<Item = usize>> std::io::Read for InPieces<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.next().unwrap_or(1).min(buffer.len());
        self.rest.read(&mut buffer[..size])
    }
}
