//! Sealed segments that were compressed: shorter on disk, and the same for everyone who reads the tape.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use common::*;
use wiretape_tape::{Shelf, Tape, index, open};

fn compressed_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "zst"));
    files.sort();
    files
}

fn compress_all(shelf: &Shelf) -> u64 {
    let mut done = 0;
    while let Some((_, outcome)) = shelf.compress_one(&[]) {
        let outcome = outcome.unwrap();
        assert!(outcome.after < outcome.before);
        done += 1;
    }
    done
}

fn bytes_of(shelf: &Shelf, cut: &str, segment: &str, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut read, _) = shelf.cut_segment(cut, segment, from).unwrap();
    read.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_cut_gives_out_what_was_written_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    tape.lost(3);
    record(&mut tape, 0..4000);
    tape.flush().unwrap();
    let shelf = tape.shelf();
    let before = shelf.segments();
    let was: Vec<Vec<u8>> = segment_files(dir.path())
        .iter()
        .map(|file| fs::read(file).unwrap())
        .collect();

    assert_eq!(
        compress_all(&shelf) as usize,
        before.len() - 1,
        "all but the open one"
    );
    assert_eq!(shelf.segments(), before, "nobody else need know");
    let counters = shelf.counters();
    assert!(counters.stored_bytes < shelf.boundaries().bytes);
    assert_eq!(shelf.look_after(), 0);

    let cut = shelf.cut("c", 0, u64::MAX, START).unwrap();
    assert_eq!(cut.segments, before);
    for (info, was) in cut.segments.iter().zip(&was) {
        assert!(bytes_of(&shelf, "c", &info.name, 0) == *was, "{}", info.name);
        assert!(
            bytes_of(&shelf, "c", &info.name, 1000) == was[1000..],
            "taken up again"
        );
    }
    // Held, then dropped by the ring, and let go.
    record(&mut tape, 4000..60_000);
    assert!(shelf.counters().held_bytes > 0);
    assert!(bytes_of(&shelf, "c", &before[0].name, 0) == was[0]);
    shelf.release("c").unwrap();
    assert_eq!(shelf.counters().held_bytes, 0);
}

#[test]
fn what_cuts_hold_of_compressed_segments_counts_as_it_lies_on_disk_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..8000);
    let shelf = tape.shelf();
    assert!(compress_all(&shelf) > 10);
    shelf.cut("c", 0, START + 6 * SECOND, START).unwrap();
    record(&mut tape, 8000..60_000);
    let before = shelf.counters();
    assert!(before.held_bytes > 0);
    tape.seal().unwrap();
    let before = shelf.counters().held_bytes.max(before.held_bytes);
    drop(shelf);
    let tape = Tape::open(options(dir.path()), START).unwrap();
    let counters = tape.shelf().counters();
    assert_eq!((counters.held_bytes, counters.dropped), (before, 0));
}

#[test]
fn a_compressed_segment_is_found_again_by_its_index_and_read_by_anyone() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..3000);
    let shelf = tape.shelf();
    assert!(compress_all(&shelf) > 1);
    tape.seal().unwrap();
    let segments = shelf.segments();
    let first = compressed_files(dir.path()).remove(0);
    let found = index(&first).unwrap().unwrap();
    assert_eq!((&found.info, found.names), (&segments[0], vec![frontend()]));
    let mut reader = open(&first).unwrap();
    assert!(reader.is_packed());
    assert_eq!(read_all(&mut reader).len() as u64, segments[0].packets);
    assert_eq!(reader.damage(), None);

    let tape = Tape::open(options(dir.path()), START).unwrap();
    assert_eq!(tape.shelf().segments(), segments);
    assert_eq!(
        (
            tape.shelf().counters().recovered,
            tape.shelf().counters().unreadable
        ),
        (0, 0)
    );

    // zstd's own tool makes the same of it, and tshark opens it as it lies there.
    let plain = dir.path().join("plain");
    let (from, to) = (first.to_str().unwrap(), plain.to_str().unwrap());
    if tool("zstd", &["-q", "-d", from, "-o", to]).is_some() {
        assert_eq!(fs::metadata(&plain).unwrap().len(), segments[0].bytes);
    }
    if let Some(lines) = tool("tshark", &["-r", from, "-Y", "ip"]) {
        assert_eq!(lines.len() as u64, segments[0].packets);
    }
}

#[test]
fn what_a_kill_left_half_compressed_goes_and_the_plain_segment_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..2000);
    tape.seal().unwrap();
    let plain = segment_files(dir.path());
    let beside = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    fs::write(beside(&plain[0], ".zst.part"), b"half").unwrap();
    fs::write(beside(&plain[1], ".zst"), b"whole, but the other was not removed").unwrap();
    let tape = Tape::open(options(dir.path()), START).unwrap();
    assert_eq!(tape.shelf().boundaries().packets, 2000);
    assert_eq!(segment_files(dir.path()), plain);
    assert!(compressed_files(dir.path()).is_empty());
}

#[test]
fn a_compressed_segment_that_was_changed_is_told_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..3000);
    compress_all(&shelf);
    let first = shelf.segments().remove(0);
    let file = compressed_files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    fs::File::create(&file)
        .unwrap()
        .write_all(&whole[..whole.len() / 2])
        .unwrap();
    assert_eq!(shelf.look_after(), 1);
    assert_eq!(shelf.counters().vanished_packets, first.packets);
    assert!(shelf.segments().iter().all(|info| info.name != first.name));
}
