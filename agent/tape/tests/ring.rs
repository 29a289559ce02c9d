//! The ring: what is on it, what falls off it, and what the boundaries say.

mod common;

use common::*;
use wiretape_tape::{
    Boundaries, ChunkReader, MAX_CAPTURED, Name, Tape, TapeError, TapeOptions, head_names, index, open,
};

#[test]
fn wrote_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.interface_name(3, "eth0");
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..300);
    tape.lost(7);
    let shelf = tape.shelf();
    tape.seal().unwrap();

    let files = segment_files(dir.path());
    assert_eq!(files.len(), 1);
    assert_eq!(packet_numbers(&files[0]), (0..300).collect::<Vec<_>>());
    let mut reader = open(&files[0]).unwrap();
    assert_eq!(reader.node(), Some("node-1"));
    let packets = read_all(&mut reader);
    assert!(
        packets
            .iter()
            .enumerate()
            .all(|(n, (meta, _))| meta.interface == n as u32 % 2)
    );
    assert_eq!(reader.names(), [frontend()]);
    assert_eq!(reader.names(), []);
    assert_eq!(reader.losses(), 7);
    let names: Vec<&str> = reader
        .interfaces()
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    assert_eq!(names, ["eth0", "if4"]);
    assert_eq!(reader.damage(), None);
    let counters = reader.counters();
    assert_eq!(
        (
            counters.packets,
            counters.damaged,
            counters.unread_bytes,
            counters.unknown
        ),
        (300, 0, 0, 0)
    );

    let index = index(&files[0]).unwrap().unwrap();
    assert_eq!(shelf.segments(), std::slice::from_ref(&index.info));
    assert_eq!(
        (index.info.packets, index.info.lost, index.info.sealed),
        (300, 7, true)
    );
    assert_eq!(
        (index.info.first, index.info.last),
        (Some(START), Some(START + 299 * STEP))
    );
    assert_eq!(index.info.bytes, files[0].metadata().unwrap().len());
    assert_eq!(index.interfaces, reader.interfaces());
    assert_eq!(index.names, [frontend()]);
}

#[test]
fn nothing_recorded_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tape = Tape::open(options(dir.path()), START).unwrap();
    let empty = Boundaries {
        node: "node-1".into(),
        ..Boundaries::default()
    };
    assert_eq!(tape.shelf().boundaries(), empty);
    tape.seal().unwrap();
    assert!(segment_files(dir.path()).is_empty());
}

#[test]
fn flushed_when_it_is_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..10);
    tape.tick(START + SECOND - 1).unwrap();
    assert_eq!(shelf.boundaries().newest, None);
    tape.tick(START + SECOND).unwrap();
    assert_eq!(shelf.boundaries().newest, Some(START + 9 * STEP));
    assert_eq!(
        packet_numbers(&segment_files(dir.path())[0]),
        (0..10).collect::<Vec<_>>()
    );
    // The clock is set back by an hour: flushing goes on.
    record(&mut tape, 10..20);
    tape.tick(START - 3600 * SECOND).unwrap();
    assert_eq!(shelf.boundaries().packets, 20);
}

#[test]
fn ring_drops_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    let ring_bytes = options(dir.path()).ring_bytes;
    for n in 0..30_000 {
        record(&mut tape, n..n + 1);
        if n % 500 == 0 {
            let on_disk: u64 = segment_files(dir.path())
                .iter()
                .map(|file| file.metadata().unwrap().len())
                .sum();
            assert!(on_disk <= ring_bytes, "{on_disk} bytes after packet {n}");
        }
    }
    tape.flush().unwrap();
    let boundaries = shelf.boundaries();
    assert_eq!(boundaries.newest, Some(START + 29_999 * STEP));
    assert!(boundaries.bytes <= ring_bytes && boundaries.bytes > ring_bytes - 2 * (64 << 10));
    // What is left is the tail of the conversation, without a hole.
    let numbers: Vec<u64> = segment_files(dir.path())
        .iter()
        .flat_map(|file| packet_numbers(file))
        .collect();
    let oldest = (boundaries.oldest.unwrap() - START) / STEP;
    assert!(oldest > 0);
    assert_eq!(numbers, (oldest..30_000).collect::<Vec<_>>());
    assert_eq!(boundaries.packets, numbers.len() as u64);
    let counters = shelf.counters();
    assert!(counters.dropped > 10);
    assert_eq!(counters.sealed + 1, counters.dropped + boundaries.segments);
    assert_eq!(
        (counters.packets, counters.lost, counters.write_errors),
        (30_000, 0, 0)
    );
}

#[test]
fn names_stand_at_the_head_of_each_segment_while_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    let other = Name {
        cgroup: 4002,
        pod: "cart-1".into(),
        ..frontend()
    };
    tape.name(&other).unwrap();
    record(&mut tape, 0..600);
    let ended = Name {
        until: Some(START + 600 * STEP),
        ..other.clone()
    };
    tape.name(&ended).unwrap();
    record(&mut tape, 600..1800);
    tape.seal().unwrap();
    let files = segment_files(dir.path());
    assert!(files.len() >= 3);
    assert_eq!(head_names(&files[0]).unwrap(), [frontend(), other]);
    assert_eq!(head_names(files.last().unwrap()).unwrap(), [frontend()]);
    // The segment in which it ended says so.
    assert_eq!(index(&files[1]).unwrap().unwrap().names, [frontend(), ended]);
}

#[test]
fn a_later_name_of_the_same_cgroup_ends_the_earlier() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let later = Name {
        since: START + SECOND,
        pod: "frontend-def456".into(),
        ..frontend()
    };
    tape.name(&later).unwrap();
    tape.name(&frontend()).unwrap();
    let first = Name {
        until: Some(later.since),
        ..frontend()
    };
    assert_eq!(tape.shelf().names(), [first, later]);
}

#[test]
fn names_take_no_more_than_their_part_of_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    for cgroup in 1..2000 {
        tape.name(&Name { cgroup, ..frontend() }).unwrap();
    }
    let shelf = tape.shelf();
    assert_eq!(shelf.counters().names_refused + shelf.names().len() as u64, 1999);
    record(&mut tape, 0..2000);
    tape.seal().unwrap();
    let files = segment_files(dir.path());
    assert!(files.len() < 12, "{} segments", files.len());
    assert_eq!(head_names(files.last().unwrap()).unwrap(), shelf.names());
}

#[test]
fn names_too_long_for_their_fields_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let long = "é".repeat(5000);
    let mut tape = Tape::open(
        TapeOptions {
            node: long.clone(),
            ..options(dir.path())
        },
        START,
    )
    .unwrap();
    tape.interface_name(3, &long);
    record(&mut tape, 0..2);
    tape.seal().unwrap();
    let mut reader = open(&segment_files(dir.path())[0]).unwrap();
    assert_eq!(reader.node(), Some(&long[..4096]));
    assert_eq!(read_all(&mut reader).len(), 2);
    assert_eq!(reader.interfaces()[0].name, &long[..4096]);
}

#[test]
fn losses_are_told_before_any_packet_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.lost(5);
    assert_eq!(tape.shelf().boundaries().lost, 5);
    tape.tick(START + 2 * SECOND).unwrap();
    tape.seal().unwrap();
    let mut reader = open(&segment_files(dir.path())[0]).unwrap();
    assert!(read_all(&mut reader).is_empty());
    assert_eq!(reader.losses(), 5);
}

#[test]
fn losses_are_in_an_open_segment_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..10);
    tape.lost(3);
    tape.flush().unwrap();
    record(&mut tape, 10..20);
    tape.lost(2);
    tape.flush().unwrap();
    let mut reader = open(&segment_files(dir.path())[0]).unwrap();
    assert_eq!(read_all(&mut reader).len(), 20);
    assert_eq!(reader.losses(), 5);
}

#[test]
fn packet_longer_than_any_reader_takes_is_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let long = vec![0x45; MAX_CAPTURED + 1];
    tape.append(&packet(0, &long)).unwrap();
    tape.append(&packet(1, &long[..MAX_CAPTURED])).unwrap();
    assert_eq!(tape.shelf().counters().cut_short, 1);
    tape.seal().unwrap();
    let files = segment_files(dir.path());
    let packets: Vec<_> = files.iter().flat_map(|file| read_file(file)).collect();
    assert_eq!(packets.len(), 2);
    assert!(packets.iter().all(|(_, data)| data.len() == MAX_CAPTURED));
    assert_eq!(packets[0].0.orig_len, MAX_CAPTURED as u32 + 1);
}

#[test]
fn more_interfaces_than_a_segment_holds_begin_another() {
    let dir = tempfile::tempdir().unwrap();
    let options = TapeOptions {
        ring_bytes: 8 << 20,
        segment_bytes: 4 << 20,
        ..options(dir.path())
    };
    let mut tape = Tape::open(options, START).unwrap();
    let data = datagram(0);
    for ifindex in 0..5000 {
        tape.append(&wiretape_tape::Packet {
            ifindex,
            ..packet(0, &data)
        })
        .unwrap();
    }
    tape.seal().unwrap();
    let interfaces = |path| index(path).unwrap().unwrap().interfaces.len();
    let counts: Vec<usize> = segment_files(dir.path())
        .iter()
        .map(|file| interfaces(file))
        .collect();
    assert_eq!(counts, [4096, 904]);
}

#[test]
fn segments_concatenated_are_one_capture() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..2000);
    tape.seal().unwrap();
    let files = segment_files(dir.path());
    assert!(files.len() > 1);
    let whole: Vec<u8> = files
        .iter()
        .flat_map(|file| std::fs::read(file).unwrap())
        .collect();
    let path = dir.path().join("whole");
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(packet_numbers(&path), (0..2000).collect::<Vec<_>>());
    assert_eq!(
        index(&path).unwrap(),
        None,
        "its last index is not that of the whole"
    );
    let mut reader = ChunkReader::new(whole.as_slice()).unwrap();
    read_all(&mut reader);
    assert_eq!(reader.interfaces().len(), 2 * files.len());
    if let Some(lines) = tool("capinfos", &["-c", "-M", "-T", "-r", path.to_str().unwrap()]) {
        assert!(lines[0].ends_with("\t2000"), "{lines:?}");
    }
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let tape = Tape::open(options(dir.path()), START).unwrap();
    assert!(matches!(
        Tape::open(options(dir.path()), START),
        Err(TapeError::InUse { .. })
    ));
    drop(tape);
    Tape::open(options(dir.path()), START).unwrap();
}

#[test]
fn sizes_that_make_no_ring_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (ring_bytes, segment_bytes) in [(1 << 20, 1 << 20), (1 << 20, 100), (0, 0)] {
        let options = TapeOptions {
            ring_bytes,
            segment_bytes,
            ..options(dir.path())
        };
        assert!(matches!(Tape::open(options, START), Err(TapeError::Sizes { .. })));
    }
}
