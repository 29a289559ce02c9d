//! Cuts: held whatever the ring does, made once, and no byte copied.

mod common;

use std::io::Read;
use std::os::unix::fs::MetadataExt;

use common::*;
use wiretape_tape::{CUT_LIFETIME, Cut, CutError, MAX_CUTS, Shelf, Tape};

/// What a client of the agent gets: each segment's bytes, no more than the manifest says.
fn collect(shelf: &Shelf, cut: &Cut) -> Vec<u64> {
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = Vec::new();
    for info in &cut.segments {
        let (file, bytes) = shelf.cut_segment(&cut.id, &info.name, 0).unwrap();
        assert_eq!(bytes, info.bytes);
        let path = dir.path().join(&info.name);
        std::io::copy(&mut file.take(bytes), &mut std::fs::File::create(&path).unwrap()).unwrap();
        let held = packet_numbers(&path);
        assert_eq!(held.len() as u64, info.packets);
        numbers.extend(held);
    }
    numbers
}

#[test]
fn cut_holds_all_up_to_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..100);
    // Nothing was flushed yet.
    assert_eq!(shelf.boundaries().packets, 0);
    let cut = shelf.cut("c", START, START + SECOND, START + SECOND).unwrap();
    assert_eq!(collect(&shelf, &cut), (0..100).collect::<Vec<_>>());
    assert!(!cut.segments[0].sealed);
}

#[test]
fn rotated_while_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..1000);
    let cut = shelf.cut("c", START, START + 10 * SECOND, START).unwrap();
    // The open segment goes on, is sealed, and others follow: the cut is what it was.
    record(&mut tape, 1000..5000);
    tape.flush().unwrap();
    assert_eq!(collect(&shelf, &cut), (0..1000).collect::<Vec<_>>());
    assert_eq!(shelf.cut_manifest("c").unwrap(), cut);
}

#[test]
fn cut_survives_ring() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..2000);
    let cut = shelf.cut("c", START, START + SECOND, START).unwrap();
    let whole = collect(&shelf, &cut);
    assert!(
        whole.len() >= 1000 && whole.len() < 2000,
        "whole segments of the window, and no others"
    );
    assert_eq!(shelf.counters().held_bytes, 0);
    record(&mut tape, 2000..40_000);
    assert!(shelf.boundaries().oldest.unwrap() > START + 3 * SECOND);
    assert_eq!(collect(&shelf, &cut), whole);
    let held: u64 = cut.segments.iter().map(|info| info.bytes).sum();
    assert_eq!((shelf.counters().cuts, shelf.counters().held_bytes), (1, held));
    shelf.release("c").unwrap();
    assert_eq!((shelf.counters().cuts, shelf.counters().held_bytes), (0, 0));
    assert!(matches!(shelf.cut_manifest("c"), Err(CutError::Unknown { .. })));
    assert!(matches!(shelf.release("c"), Err(CutError::Unknown { .. })));
    assert!(
        std::fs::read_dir(dir.path().join("cuts"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[test]
fn cut_twice_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..500);
    let cut = shelf.cut("c", START, START + SECOND, START).unwrap();
    record(&mut tape, 500..900);
    assert_eq!(shelf.cut("c", START, START + SECOND, START).unwrap(), cut);
    assert_eq!(shelf.cut("c", 0, 1, START).unwrap(), cut);
    // From many threads at once, too.
    let made: Vec<Cut> = std::thread::scope(|scope| {
        let make = || scope.spawn(|| shelf.cut("d", START, START + SECOND, START).unwrap());
        let threads: Vec<_> = (0..8).map(|_| make()).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|cut| *cut == made[0]));
    assert_eq!(shelf.counters().cuts, 2);
}

#[test]
fn cut_while_recording() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..100);
    let shelf = tape.shelf();
    std::thread::scope(|scope| {
        // The ring turns several times under the cuts.
        let recorder = scope.spawn(move || record(&mut tape, 100..60_000));
        let mut round = 0;
        while !recorder.is_finished() || round == 0 {
            // Less than half of the ring: so it stays whole however fast the recorder is.
            let newest = shelf.boundaries().newest.unwrap_or(START);
            let cut = shelf
                .cut(&format!("c{round}"), newest - 2 * SECOND, u64::MAX, START)
                .unwrap();
            let numbers = collect(&shelf, &cut);
            assert!(!numbers.is_empty());
            assert!(
                numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "a hole in cut {round}"
            );
            shelf.release(&cut.id).unwrap();
            round += 1;
        }
    });
}

#[test]
fn window_outside_tape() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    let outside = |start, end| match shelf.cut("c", start, end, START) {
        Err(CutError::OutsideTape { oldest, newest }) => (oldest, newest),
        other => panic!("{other:?}"),
    };
    assert_eq!(outside(START, START + SECOND), (None, None));
    record(&mut tape, 0..100);
    let reach = (Some(START), Some(START + 99 * STEP));
    assert_eq!(outside(START - SECOND, START), reach);
    assert_eq!(outside(START + 99 * STEP + 1, START + SECOND), reach);
    assert!(matches!(
        shelf.cut("c", START, START, START),
        Err(CutError::EmptyWindow { .. })
    ));
    // The last instant still counts, and nothing has been left of the failures.
    assert_eq!(
        shelf
            .cut("c", START + 99 * STEP, START + SECOND, START)
            .unwrap()
            .segments
            .len(),
        1
    );
    assert_eq!(shelf.counters().cuts, 1);
    let message = shelf.cut("d", 0, 1, START).unwrap_err().to_string();
    assert!(message.contains(&START.to_string()), "{message}");
}

#[test]
fn ids_and_names_that_are_paths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..100);
    let long = "x".repeat(129);
    for id in [
        "",
        ".",
        "..",
        ".unfinished",
        "a/b",
        "../x",
        "a b",
        "ä",
        "a\0b",
        &long,
    ] {
        assert!(
            matches!(shelf.cut(id, 0, u64::MAX, START), Err(CutError::BadId { .. })),
            "{id:?}"
        );
        assert!(shelf.cut_manifest(id).is_err() && shelf.release(id).is_err());
    }
    shelf.cut("a.B_9-", 0, u64::MAX, START).unwrap();
    for segment in ["", "manifest.json", "../../lock", "nope.pcapng"] {
        let refused = shelf.cut_segment("a.B_9-", segment, 0);
        assert!(
            matches!(refused, Err(CutError::UnknownSegment { .. })),
            "{segment:?}"
        );
    }
}

#[test]
fn cut_carries_the_names_of_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    let ended = wiretape_tape::Name {
        until: Some(START + 10 * STEP),
        ..frontend()
    };
    tape.name(&ended).unwrap();
    record(&mut tape, 0..100);
    assert_eq!(
        shelf.cut("early", START, START + 5 * STEP, START).unwrap().names,
        [ended]
    );
    assert_eq!(
        shelf
            .cut("late", START + 50 * STEP, START + SECOND, START)
            .unwrap()
            .names,
        []
    );
}

#[test]
fn old_cuts_expire() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..100);
    shelf.cut("old", 0, u64::MAX, START).unwrap();
    shelf.cut("young", 0, u64::MAX, START + SECOND).unwrap();
    assert_eq!(shelf.expire_cuts(START + CUT_LIFETIME), 0);
    assert_eq!(shelf.expire_cuts(START + CUT_LIFETIME + 1), 1);
    assert!(shelf.cut_manifest("old").is_err() && shelf.cut_manifest("young").is_ok());
    assert_eq!(shelf.counters().cuts_expired, 1);
}

#[test]
fn cuts_have_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..10);
    for n in 0..MAX_CUTS {
        shelf.cut(&n.to_string(), 0, u64::MAX, START).unwrap();
    }
    assert!(matches!(
        shelf.cut("more", 0, u64::MAX, START),
        Err(CutError::TooMany)
    ));
    shelf.release("0").unwrap();
    shelf.cut("more", 0, u64::MAX, START).unwrap();
}

#[test]
fn no_byte_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..3000);
    let cut = shelf.cut("c", 0, u64::MAX, START).unwrap();
    assert!(cut.segments.len() > 2);
    for info in &cut.segments {
        let file = dir.path().join("cuts/c").join(&info.name);
        assert_eq!(file.metadata().unwrap().nlink(), 2);
    }
}

#[test]
fn cuts_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..500);
    let cut = tape.shelf().cut("c", 0, u64::MAX, START).unwrap();
    record(&mut tape, 500..600);
    tape.flush().unwrap();
    drop(tape);
    // One was being made when the agent was killed.
    std::fs::create_dir(dir.path().join("cuts/.unfinished")).unwrap();
    let tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    assert_eq!(shelf.cut_manifest("c").unwrap(), cut);
    assert_eq!(collect(&shelf, &cut), (0..500).collect::<Vec<_>>());
    assert_eq!(shelf.counters().cuts, 1);
    assert!(!dir.path().join("cuts/.unfinished").exists());
}
