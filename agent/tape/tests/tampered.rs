//! Files that someone else deletes, truncates or replaces under the tape: what is gone is told, and recording goes on.

mod common;

use std::fs::{self, OpenOptions};

use common::*;
use wiretape_tape::{Loss, LossStage, Shelf, Tape};

/// All that is in the files now, and what the tape says of it, fit together.
fn holds(dir: &std::path::Path, shelf: &Shelf, appended: u64) {
    let on_disk: u64 = segment_files(dir)
        .iter()
        .map(|file| packet_numbers(file).len() as u64)
        .sum();
    let (boundaries, counters) = (shelf.boundaries(), shelf.counters());
    assert_eq!(boundaries.packets, on_disk);
    assert_eq!(on_disk + boundaries.lost, appended + counters.lost);
    assert_eq!(counters.packets + counters.lost_write_error, appended);
    assert_eq!(
        counters.vanished_packets + counters.lost_write_error + counters.lost,
        boundaries.lost
    );
    let told: u64 = boundaries.losses.iter().map(|loss| loss.packets).sum();
    assert_eq!(told, boundaries.lost, "{:?}", boundaries.losses);
}

#[test]
fn open_segment_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..100);
    tape.flush().unwrap();
    fs::remove_file(&segment_files(dir.path())[0]).unwrap();
    record(&mut tape, 100..110);
    tape.flush().unwrap();
    record(&mut tape, 110..150);
    tape.flush().unwrap();
    assert_eq!(
        (shelf.counters().vanished, shelf.counters().vanished_packets),
        (1, 100)
    );
    holds(dir.path(), &shelf, 150);
    let lost = shelf.boundaries().losses;
    let gone = lost
        .iter()
        .find(|loss| loss.stage == LossStage::Vanished)
        .unwrap();
    assert_eq!(
        (gone.since, gone.until, gone.packets),
        (START, START + 99 * STEP, 100)
    );
    // The next segment's index tells it to whoever reads the tape.
    tape.seal().unwrap();
    let tape = Tape::open(options(dir.path()), START + SECOND).unwrap();
    assert_eq!(tape.shelf().boundaries().losses, lost);
}

#[test]
fn open_segment_cut_short_in_the_middle_of_a_block() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    // Told at the end of the file, and so gone with it.
    let (stage, since, until) = (LossStage::BufferFull, START, START);
    tape.lost_at(Loss {
        stage,
        since,
        until,
        packets: 5,
    });
    record(&mut tape, 0..200);
    tape.flush().unwrap();
    let file = segment_files(dir.path()).remove(0);
    let half = file.metadata().unwrap().len() / 2 + 1;
    OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(half)
        .unwrap();
    record(&mut tape, 200..300);
    tape.flush().unwrap();
    record(&mut tape, 300..400);
    tape.flush().unwrap();
    let counters = shelf.counters();
    assert!(
        counters.vanished_packets > 50 && counters.vanished_packets < 150,
        "{counters:?}"
    );
    holds(dir.path(), &shelf, 400);
}

#[test]
fn sealed_segments_deleted_and_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..4000);
    tape.flush().unwrap();
    assert_eq!(shelf.look_after(), 0);
    let files = segment_files(dir.path());
    fs::remove_file(&files[0]).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&files[1])
        .unwrap()
        .set_len(30_000)
        .unwrap();
    assert_eq!(shelf.look_after(), 2);
    assert_eq!(shelf.look_after(), 0);
    holds(dir.path(), &shelf, 4000);
    // A cut has no segment in it that cannot be had.
    let cut = shelf.cut("c", 0, u64::MAX, START).unwrap();
    let held: u64 = cut.segments.iter().map(|info| info.packets).sum();
    assert_eq!(held, shelf.boundaries().packets);
}
