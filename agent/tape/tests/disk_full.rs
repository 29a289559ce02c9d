//! A disk that is full: recording goes on with what room there is, no half block is left, every loss is counted.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use wiretape_tape::{Name, Tape, TapeOptions, index, open};

/// A file system of one MiB of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // Not by a program: its process holds, until it is another's, all files that the tests beside have open.
        let tmpfs = Some("tmpfs");
        if let Err(error) = mount(tmpfs, dir.path(), tmpfs, MsFlags::empty(), Some("size=1m")) {
            eprintln!("SKIPPED: cannot mount a tmpfs (not root?): {error}");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all but `left` bytes.
    fn fill(&self, left: usize) {
        let on_it: u64 = segment_files(self.path())
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum();
        let room = (1 << 20) - on_it as usize - left;
        // Whatever does not fit is not there.
        let _ = fs::write(self.path().join("ballast"), vec![1; room]);
    }

    fn free(&self) {
        fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.path().display());
        }
    }
}

/// Longer than its disk.
fn too_long(dir: &Path) -> TapeOptions {
    TapeOptions {
        ring_bytes: 4 << 20,
        ..options(dir)
    }
}

#[test]
fn ring_longer_than_its_disk_drops_oldest() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..30_000);
    tape.flush().unwrap();
    let counters = shelf.counters();
    assert!(
        counters.dropped_disk_full > 0 && counters.write_errors > 0,
        "{counters:?}"
    );
    assert_eq!(
        (counters.packets, counters.lost_disk_full, counters.dropped_held),
        (30_000, 0, 0)
    );
    let numbers: Vec<u64> = segment_files(disk.path())
        .iter()
        .flat_map(|file| packet_numbers(file))
        .collect();
    assert!(numbers.len() > 4000);
    assert_eq!(
        numbers,
        (30_000 - numbers.len() as u64..30_000).collect::<Vec<_>>(),
        "the newest, without a hole"
    );
    tape.seal().unwrap();
    assert!(
        segment_files(disk.path())
            .iter()
            .all(|file| index(file).unwrap().is_some())
    );
}

#[test]
fn nothing_left_to_drop_and_back_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    let shelf = tape.shelf();
    disk.fill(40_000);
    record(&mut tape, 0..5000);
    tape.flush().unwrap();
    let counters = shelf.counters();
    assert!(counters.lost_disk_full > 0);
    assert_eq!(counters.packets + counters.lost_disk_full, 5000);
    // What is there is whole, and told as it is.
    let on_disk: u64 = segment_files(disk.path())
        .iter()
        .map(|file| read_file(file).len() as u64)
        .sum();
    assert_eq!(on_disk, counters.packets);
    assert_eq!(shelf.boundaries().packets, on_disk);
    assert_eq!(shelf.boundaries().lost, counters.lost_disk_full);

    // Room again: recording goes on by itself, and the next segment tells what is missing.
    disk.free();
    tape.tick(START + 10 * SECOND).unwrap();
    record(&mut tape, 5000..6000);
    tape.tick(START + 20 * SECOND).unwrap();
    let recorded = shelf.counters();
    assert_eq!(recorded.packets, counters.packets + 1000);
    assert_eq!(shelf.boundaries().newest, Some(START + 5999 * STEP));
    tape.seal().unwrap();
    let mut told = 0;
    for file in segment_files(disk.path()) {
        let mut reader = open(&file).unwrap();
        read_all(&mut reader);
        assert_eq!(reader.damage(), None);
        told += reader.losses();
    }
    assert_eq!(told, counters.lost_disk_full);
}

#[test]
fn cut_of_all_that_the_disk_holds_gives_way_before_packets_are_lost() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..6000);
    let cut = shelf.cut("c", 0, u64::MAX, START).unwrap();
    let ring = shelf.segments().len();
    for n in (6000..40_000).step_by(100) {
        record(&mut tape, n..n + 100);
        tape.tick(START + n * STEP).unwrap();
        let now = shelf.segments().len();
        assert!(now >= ring / 2, "{now} of {ring} segments are left at {n}");
    }
    let counters = shelf.counters();
    assert_eq!((counters.packets, counters.lost_disk_full), (40_000, 0));
    // Its newest segments are held on, and whole.
    assert_eq!(shelf.cut_manifest("c").unwrap(), cut);
    let held: Vec<bool> = cut
        .segments
        .iter()
        .map(|info| disk.path().join("cuts/c").join(&info.name).exists())
        .collect();
    assert!(!held[0] && held[held.len() - 1] && held.is_sorted(), "{held:?}");
    let newest = cut.segments.last().unwrap();
    let path = disk.path().join("cuts/c").join(&newest.name);
    assert!(read_file(&path).len() as u64 >= newest.packets);
}

#[test]
fn cut_of_a_part_of_what_the_disk_holds_stays_whole() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    let shelf = tape.shelf();
    record(&mut tape, 0..2000);
    let cut = shelf.cut("c", 0, u64::MAX, START).unwrap();
    record(&mut tape, 2000..40_000);
    tape.flush().unwrap();
    let counters = shelf.counters();
    assert!(
        counters.dropped_held > 0,
        "the ring let go of segments that the cut holds: {counters:?}"
    );
    assert!(counters.held_bytes > 0);
    assert_eq!((counters.packets, counters.lost_disk_full), (40_000, 0));
    for info in &cut.segments {
        let path = disk.path().join("cuts/c").join(&info.name);
        assert!(read_file(&path).len() as u64 >= info.packets);
    }
}

#[test]
fn killed_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    // Its index will need more than a page.
    tape.name(&Name {
        process: "p".repeat(5000),
        ..frontend()
    })
    .unwrap();
    record(&mut tape, 0..20);
    tape.flush().unwrap();
    drop(tape);
    disk.fill(0);
    // Page by page: what the open segment's last page has left is all there is.
    let file = segment_files(disk.path()).remove(0);
    let ballast = fs::OpenOptions::new()
        .append(true)
        .open(disk.path().join("ballast"))
        .unwrap();
    while std::io::Write::write_all(&mut &ballast, &[1; 64]).is_ok() {}
    drop(ballast);
    let mut tape = Tape::open(too_long(disk.path()), START).unwrap();
    assert_eq!(
        tape.shelf().counters().recovered,
        0,
        "there was room for the index"
    );
    assert_eq!(tape.shelf().boundaries().packets, 20);
    assert_eq!(packet_numbers(&file), (0..20).collect::<Vec<_>>());
    disk.free();
    record(&mut tape, 100..110);
    tape.seal().unwrap();
    let tape = Tape::open(too_long(disk.path()), START).unwrap();
    assert_eq!(tape.shelf().boundaries().packets, 30);
    assert!(index(&file).unwrap().is_some());
}

#[test]
fn folder_that_vanished() {
    let dir = tempfile::tempdir().unwrap();
    let tape_dir = dir.path().join("tape");
    let mut tape = Tape::open(options(&tape_dir), START).unwrap();
    let shelf = tape.shelf();
    fs::remove_dir_all(&tape_dir).unwrap();
    let data = datagram(0);
    assert!(tape.append(&packet(0, &data)).is_err(), "said once");
    record(&mut tape, 1..100);
    assert_eq!(
        (shelf.counters().lost_write_error, shelf.counters().packets),
        (100, 0)
    );
    // Tried again at each tick.
    tape.tick(START + SECOND).unwrap();
    assert!(tape.append(&packet(0, &data)).is_err());
    fs::create_dir(&tape_dir).unwrap();
    tape.tick(START + 2 * SECOND).ok();
    record(&mut tape, 200..300);
    tape.flush().unwrap();
    assert_eq!((shelf.boundaries().packets, shelf.boundaries().lost), (100, 101));
}
