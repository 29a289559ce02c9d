//! A run that was killed: what it had flushed is there, to the last whole block.

mod common;

use std::fs;

use common::*;
use wiretape_tape::{Name, Tape, TapeOptions, index, open};

#[test]
fn killed_in_mid_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..20);
    tape.flush().unwrap();
    let before = fs::read(&segment_files(dir.path())[0]).unwrap().len();
    record(&mut tape, 20..21);
    tape.flush().unwrap();
    drop(tape);
    let file = segment_files(dir.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    assert!(whole.len() > before);
    for end in before..=whole.len() {
        let again = tempfile::tempdir().unwrap();
        let path = again.path().join(file.file_name().unwrap());
        fs::write(&path, &whole[..end]).unwrap();
        let packets = if end == whole.len() { 21 } else { 20 };

        // As it lies there.
        let mut reader = open(&path).unwrap();
        assert_eq!(read_all(&mut reader).len(), packets);
        let cut_off = if end == whole.len() { 0 } else { end - before };
        assert_eq!(reader.counters().unread_bytes, cut_off as u64);
        assert_eq!(reader.damage().is_some(), cut_off > 0);
        assert_eq!(index(&path).unwrap(), None);

        // And once the agent is back.
        let mut tape = Tape::open(options(again.path()), START + SECOND).unwrap();
        let shelf = tape.shelf();
        let segments = shelf.segments();
        assert_eq!(
            (segments.len(), segments[0].packets, segments[0].sealed),
            (1, packets as u64, true)
        );
        assert_eq!(shelf.counters().recovered, 1);
        assert_eq!(index(&path).unwrap().unwrap().info, segments[0]);
        assert_eq!(packet_numbers(&path), (0..packets as u64).collect::<Vec<_>>());
        record(&mut tape, 100..101);
        tape.seal().unwrap();
        let files = segment_files(again.path());
        assert_eq!((files.len(), packet_numbers(&files[1])), (2, vec![100]));
    }
}

#[test]
fn recovered_after_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.name(&frontend()).unwrap();
    record(&mut tape, 0..3000);
    tape.lost(11);
    tape.flush().unwrap();
    let before = tape.shelf().boundaries();
    // These were never flushed.
    record(&mut tape, 3000..3010);
    drop(tape);

    let tape = Tape::open(options(dir.path()), START + 60 * SECOND).unwrap();
    let after = tape.shelf().boundaries();
    assert_eq!((after.oldest, after.newest), (before.oldest, before.newest));
    assert_eq!(
        (after.packets, after.segments, after.lost),
        (3000, before.segments, 11)
    );
    assert!(tape.shelf().segments().iter().all(|info| info.sealed));
    assert_eq!(tape.shelf().counters().recovered, 1);
    // The name held as long as anyone could know.
    let ended = Name {
        until: before.newest.map(|newest| newest + 1),
        ..frontend()
    };
    assert_eq!(tape.shelf().names(), [ended]);
    drop(tape);

    // The next start has nothing to recover.
    let tape = Tape::open(options(dir.path()), START + 120 * SECOND).unwrap();
    assert_eq!(tape.shelf().counters().recovered, 0);
    assert_eq!(tape.shelf().boundaries(), after);
}

#[test]
fn sealed_tape_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..5 {
        let mut tape = Tape::open(options(dir.path()), START).unwrap();
        record(&mut tape, run * 1000..(run + 1) * 1000);
        tape.seal().unwrap();
    }
    let numbers: Vec<u64> = segment_files(dir.path())
        .iter()
        .flat_map(|file| packet_numbers(file))
        .collect();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
}

#[test]
fn clock_set_back_over_a_restart_keeps_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 5000..5100);
    tape.seal().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..100);
    let segments = tape.shelf().segments();
    tape.seal().unwrap();
    let names: Vec<String> = segment_files(dir.path())
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().into())
        .collect();
    assert_eq!(
        segments.iter().map(|info| info.name.clone()).collect::<Vec<_>>(),
        names
    );
    assert_eq!(
        packet_numbers(&segment_files(dir.path())[1]),
        (0..100).collect::<Vec<_>>()
    );
}

#[test]
fn empty_and_foreign_files_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let name = |sequence: u32| format!("{:020}-{sequence:06}.pcapng", START);
    fs::write(dir.path().join(name(0)), b"").unwrap();
    fs::write(dir.path().join(name(1)), b"no capture at all").unwrap();
    fs::write(dir.path().join("mine.pcapng"), b"left alone").unwrap();
    fs::create_dir(dir.path().join(name(2))).unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    assert!(!dir.path().join(name(0)).exists() && !dir.path().join(name(1)).exists());
    assert!(dir.path().join("mine.pcapng").exists());
    assert_eq!(tape.shelf().counters().unreadable, 1);
    record(&mut tape, 0..10);
    tape.flush().unwrap();
    assert_eq!(tape.shelf().boundaries().packets, 10);
}

#[test]
fn shorter_ring_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..4000);
    tape.seal().unwrap();
    let options = TapeOptions {
        ring_bytes: 128 << 10,
        ..options(dir.path())
    };
    let tape = Tape::open(options, START).unwrap();
    let boundaries = tape.shelf().boundaries();
    assert!(boundaries.bytes <= 128 << 10);
    assert_eq!(boundaries.newest, Some(START + 3999 * STEP));
}
