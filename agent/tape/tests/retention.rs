//! How long packets are kept: by bytes, by age, and what cuts that nobody releases take of it.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;
use wiretape_tape::{Cut, CutError, Name, Packet, Shelf, Tape, TapeOptions};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Kept for an hour, with room for more than is recorded here.
fn for_an_hour(dir: &std::path::Path) -> Tape {
    let options = TapeOptions {
        keep: Some(HOUR),
        ring_bytes: 4 << 20,
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

/// A tape that is full, and the cut of all of it.
fn cut_of_a_full_tape(dir: &Path) -> (Tape, Shelf, Cut) {
    let mut tape = Tape::open(options(dir), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..30_000);
    assert!(shelf.counters().dropped > 0);
    let cut = shelf.cut("all", 0, u64::MAX, START).unwrap();
    (tape, shelf, cut)
}

/// Records until the next segment is sealed.
fn rotate(tape: &mut Tape, n: &mut u64) {
    let shelf = tape.shelf();
    let sealed = shelf.counters().sealed;
    while shelf.counters().sealed == sealed {
        record(tape, *n..*n + 1);
        *n += 1;
    }
    tape.tick(START + *n * STEP).unwrap();
}

/// Whether the cut still gives out the segment as it was.
fn is_there(shelf: &Shelf, cut: &Cut, at: usize) -> bool {
    let info = &cut.segments[at];
    match shelf.cut_segment(&cut.id, &info.name, 0) {
        Ok((mut read, _)) => {
            assert_eq!(
                std::io::copy(&mut read, &mut std::io::sink()).unwrap(),
                info.bytes
            );
            true
        }
        Err(CutError::UnknownSegment { .. } | CutError::Unknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Bytes of all files of the tape, each once, however many names it has.
fn on_disk(dir: &Path) -> u64 {
    let mut files = std::collections::BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let file = entry.metadata().unwrap();
            if file.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() != "manifest.json" {
                files.insert(file.ino(), file.len());
            }
        }
    }
    files.values().sum()
}

#[test]
fn a_cut_of_a_whole_full_tape_gives_up_one_segment_for_each_that_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tape, shelf, cut) = cut_of_a_full_tape(dir.path());
    let (ring, all) = (shelf.segments().len(), cut.segments.len());
    let mut n = 30_000;
    for turned in 1..all {
        rotate(&mut tape, &mut n);
        let left: Vec<bool> = (0..all).map(|at| is_there(&shelf, &cut, at)).collect();
        let first = left.iter().position(|there| *there).unwrap();
        assert!(
            left[first..].iter().all(|there| *there),
            "the oldest go first: {left:?}"
        );
        assert!(first <= turned, "{turned} turned: {left:?}");
        // Half of the ring stays, and the cut keeps what the ring lets go of then.
        assert!(shelf.segments().len() >= ring / 2, "{turned} turned");
        assert!(
            on_disk(dir.path()) <= options(dir.path()).ring_bytes,
            "{turned} turned"
        );
    }
    assert_eq!(shelf.cut_manifest("all").unwrap(), cut, "told as it was made");
    assert_eq!(shelf.counters().cuts_expired, 1, "counted once");
}

#[test]
fn no_rotation_takes_more_than_a_segment_from_both_the_ring_and_a_cut_of_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tape, shelf, cut) = cut_of_a_full_tape(dir.path());
    let there = |shelf: &Shelf| {
        let ring = shelf.segments().into_iter().map(|info| info.name);
        let held = (0..cut.segments.len()).filter(|at| is_there(shelf, &cut, *at));
        let held = held.map(|at| cut.segments[at].name.clone());
        ring.chain(held).collect::<std::collections::BTreeSet<_>>()
    };
    let mut n = 30_000;
    let mut before = there(&shelf);
    for turned in 1..40 {
        rotate(&mut tape, &mut n);
        let now = there(&shelf);
        // Segments are of about one length.
        assert!(
            before.difference(&now).count() <= 2,
            "{turned} turned: {} -> {}",
            before.len(),
            now.len()
        );
        assert!(now.len() + 2 >= before.len());
        before = now;
    }
}

#[test]
fn a_hub_that_collects_no_slower_than_is_recorded_gets_all_of_a_cut_of_a_full_tape() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tape, shelf, cut) = cut_of_a_full_tape(dir.path());
    let mut n = 30_000;
    for (at, info) in cut.segments.iter().enumerate() {
        let (mut read, bytes) = shelf.cut_segment("all", &info.name, 0).unwrap();
        // It goes while it is read: what is being read is still read to its end.
        rotate(&mut tape, &mut n);
        assert_eq!(
            std::io::copy(&mut read, &mut std::io::sink()).unwrap(),
            bytes,
            "segment {at}"
        );
    }
    shelf.release("all").unwrap();
    assert_eq!(shelf.counters().held_bytes, 0);
}

#[test]
fn a_cut_of_less_than_half_of_a_full_tape_stays_whole_however_often_the_ring_turns() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..30_000);
    let end = shelf.segments()[6].first.unwrap();
    let cut = shelf.cut("part", 0, end, START).unwrap();
    let mut n = 30_000;
    for turned in 0..40 {
        rotate(&mut tape, &mut n);
        assert!(
            (0..cut.segments.len()).all(|at| is_there(&shelf, &cut, at)),
            "{turned} turned"
        );
        assert!(shelf.segments().len() >= 8, "{turned} turned");
        assert!(on_disk(dir.path()) <= options(dir.path()).ring_bytes);
    }
    assert_eq!(shelf.counters().cuts_expired, 0);
}

/// Records what a clock that is a year ahead tells, several segments of it.
fn record_a_year_ahead(tape: &mut Tape) {
    let ahead = 365 * 24 * HOUR / STEP;
    record(tape, ahead..ahead + 3000);
}

#[test]
fn a_segment_of_a_clock_that_was_ahead_at_the_start_goes_with_the_one_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = for_an_hour(dir.path());
    let shelf = tape.shelf();
    record_a_year_ahead(&mut tape);
    pass(&mut tape, 0..3 * 3600, 0);
    let boundaries = shelf.boundaries();
    assert_eq!(boundaries.newest, Some(START + (3 * 3600 - 1) * SECOND));
    assert!(boundaries.newest.unwrap() - boundaries.oldest.unwrap() <= HOUR + 5 * MINUTE);
}

#[test]
fn a_segment_of_a_clock_that_was_behind_goes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = for_an_hour(dir.path());
    let shelf = tape.shelf();
    pass(&mut tape, 0..1800, 0);
    // A day, for some seconds, then right again.
    for n in 0..3000 {
        let data = datagram(n);
        let late = Packet {
            ts: START - 24 * HOUR + n,
            ..packet(n, &data)
        };
        tape.append(&late).unwrap();
    }
    pass(&mut tape, 1800..3700, 0);
    assert!(shelf.counters().dropped_old > 0);
    assert_eq!(
        shelf.segments()[0].first,
        Some(START),
        "what was recorded before it is not old"
    );
}

#[test]
fn a_segment_that_cannot_be_read_goes_with_the_one_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(format!("{:020}-000000.pcapng.zst", 1));
    fs::write(&file, b"not a segment").unwrap();
    let mut tape = for_an_hour(dir.path());
    let shelf = tape.shelf();
    assert_eq!(shelf.counters().unreadable, 1);
    pass(&mut tape, 0..3600, 0);
    assert!(file.exists());
    pass(&mut tape, 3600..3 * 3600, 0);
    assert!(!file.exists() && shelf.counters().dropped_old > 1);
}

#[test]
fn names_live_as_long_as_the_oldest_packet_whatever_the_time_of_the_oldest_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..1500);
    record_a_year_ahead(&mut tape);
    let ended = Name {
        since: START + 1500 * STEP,
        until: Some(START + 3000 * STEP),
        ..frontend()
    };
    tape.name(&ended).unwrap();
    let mut n = 1500;
    while shelf.segments()[0].first < Some(START + 24 * HOUR) {
        record(&mut tape, n..n + 10);
        n += 10;
    }
    assert_eq!(shelf.names(), [ended], "packets of its time are on the ring");
}
