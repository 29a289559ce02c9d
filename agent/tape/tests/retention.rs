//! How long packets are kept: by bytes, by age, and what cuts that nobody releases take of it.

mod common;

use std::fs;

use common::*;
use wiretape_tape::{CutError, Tape, TapeOptions};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Kept for an hour; a packet a second, with a tick for each.
fn for_an_hour(dir: &std::path::Path) -> Tape {
    let options = TapeOptions {
        keep: Some(HOUR),
        ..options(dir)
    };
    Tape::open(options, START).unwrap()
}

/// Records a packet each second of `seconds` since the start; the clock may be off.
fn pass(tape: &mut Tape, seconds: std::ops::Range<u64>, off: i64) {
    for second in seconds {
        let now = START + second * SECOND;
        let n = second * SECOND / STEP;
        tape.append(&packet(n, &datagram(n))).unwrap();
        tape.tick(now.saturating_add_signed(off)).unwrap();
    }
}

#[test]
fn packets_older_than_is_kept_go_though_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = for_an_hour(dir.path());
    let shelf = tape.shelf();
    pass(&mut tape, 0..3 * 3600, 0);
    let boundaries = shelf.boundaries();
    let reach = boundaries.newest.unwrap() - boundaries.oldest.unwrap();
    // Whole segments, of a sixteenth of the hour at most.
    assert!(
        (HOUR - 5 * MINUTE..=HOUR + 5 * MINUTE).contains(&reach),
        "{} s",
        reach / SECOND
    );
    assert!(boundaries.bytes < options(dir.path()).ring_bytes);
    assert!(shelf.counters().dropped_old > 10 && shelf.counters().dropped == 0);
    // Nothing comes any more, and time goes on: all goes in the end.
    for minute in 0..70 {
        tape.tick(START + 3 * HOUR + minute * MINUTE).unwrap();
    }
    assert_eq!(
        (shelf.boundaries().packets, segment_files(dir.path()).len()),
        (0, 0)
    );
}

#[test]
fn by_bytes_where_that_is_less() {
    let dir = tempfile::tempdir().unwrap();
    let options = TapeOptions {
        keep: Some(24 * HOUR),
        ..options(dir.path())
    };
    let mut tape = Tape::open(options, START).unwrap();
    for n in 0..30_000 {
        tape.append(&packet(n, &datagram(n))).unwrap();
        tape.tick(START + n * STEP).unwrap();
    }
    let counters = tape.shelf().counters();
    assert!(counters.dropped > 0 && counters.dropped_old == 0, "{counters:?}");
}

#[test]
fn a_clock_set_forward_by_mistake_and_back_erases_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = for_an_hour(dir.path());
    let shelf = tape.shelf();
    pass(&mut tape, 0..3600, 0);
    let before = shelf.boundaries().packets;
    // By a year, for half an hour.
    let year = (365 * 24 * HOUR).cast_signed();
    pass(&mut tape, 3600..5400, year);
    assert_eq!(shelf.boundaries().packets, before + 1800);
    pass(&mut tape, 5400..7200, 0);
    assert_eq!(shelf.boundaries().packets, before + 3600);
    assert_eq!(shelf.counters().dropped_old, 0);
    // An hour after the clock goes as it should, age counts again.
    pass(&mut tape, 7200..3 * 3600, 0);
    assert!(shelf.counters().dropped_old > 0);
}

#[test]
fn cuts_that_nobody_releases_take_half_of_the_ring_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    let ring_bytes = options(dir.path()).ring_bytes;
    for round in 0..20 {
        record(&mut tape, round * 3000..(round + 1) * 3000);
        shelf
            .cut(&format!("cut-{round}"), 0, u64::MAX, START + round)
            .unwrap();
        tape.tick(START + (round + 1) * SECOND).unwrap();
        let counters = shelf.counters();
        assert!(counters.held_bytes <= ring_bytes / 2, "{counters:?}");
        assert!(
            counters.held_bytes + counters.stored_bytes <= ring_bytes,
            "held bytes count towards the ring: {counters:?}"
        );
        assert!(shelf.boundaries().bytes >= ring_bytes / 2 - (64 << 10) || round < 3);
    }
    let counters = shelf.counters();
    assert!(counters.cuts > 0 && counters.cuts_expired > 5, "{counters:?}");
    assert!(matches!(
        shelf.cut_manifest("cut-0"),
        Err(CutError::Unknown { .. })
    ));
    assert!(shelf.cut_manifest("cut-19").is_ok(), "the oldest go first");
    let on_disk = |dir: &std::path::Path| fs::read_dir(dir).unwrap().count() as u64;
    assert_eq!(on_disk(&dir.path().join("cuts")), counters.cuts);
}
