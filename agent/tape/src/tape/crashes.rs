//! The tape against a model of it, on a disk that fails or a process that is killed at any single step.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::disk::fault::{self, Plan};
use super::{CutError, Shelf, Tape, TapeOptions};
use crate::{Chunk, Cut, Direction, LinkType, Nanos, Packet};

const START: Nanos = 1_700_000_000_000_000_000;
const SEGMENT: u64 = 4096;
const RING: u64 = 8 * SEGMENT;

/// What is done with a tape.
#[derive(Clone, Debug)]
enum Act {
    Record(u8),
    Lost(u8),
    Flush,
    Compress,
    Cut(u8),
    Release(u8),
    LookAfter,
    StartAgain,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0u8..80).prop_map(Act::Record),
        1 => any::<u8>().prop_map(Act::Lost),
        4 => Just(Act::Flush),
        2 => Just(Act::Compress),
        2 => (0u8..4).prop_map(Act::Cut),
        1 => (0u8..4).prop_map(Act::Release),
        1 => Just(Act::LookAfter),
        1 => Just(Act::StartAgain),
    ]
}

/// The numbers of the packets in a segment of a cut; `None` when it has given way.
type Held = Option<Vec<u64>>;

/// A tape, and what is known of it.
struct Model {
    dir: PathBuf,
    tape: Option<Tape>,
    /// Packets appended, each with its number as its time.
    appended: u64,
    /// Of those, the ones that a flush has brought into files.
    flushed: u64,
    /// Cuts that were made and not released, with the numbers of the packets in their segments.
    cuts: BTreeMap<String, (Cut, Vec<Held>)>,
    /// Cuts have had to let go of segments.
    gave_way: bool,
    /// A release was under way when the process was killed: the cut may be there or not.
    going: Option<String>,
}

impl Model {
    fn open(dir: &Path) -> Self {
        // A case before this one, on the same thread, may have failed.
        fault::plan(Plan::Sound);
        Self {
            dir: dir.to_owned(),
            tape: Some(Tape::open(options(dir), START).unwrap()),
            appended: 0,
            flushed: 0,
            cuts: BTreeMap::new(),
            gave_way: false,
            going: None,
        }
    }

    fn shelf(&self) -> Shelf {
        self.tape.as_ref().unwrap().shelf()
    }

    /// Does one thing. Errors of the disk are the tape's to count; what it promised stands nevertheless.
    fn act(&mut self, act: &Act, killed: impl Fn() -> bool) {
        let tape = self.tape.as_mut().unwrap();
        self.gave_way |= tape.shelf().counters().cuts_expired > 0;
        match act {
            Act::Record(packets) => {
                for _ in 0..*packets {
                    let data = bytes(self.appended);
                    let _ = tape.append(&packet(self.appended, &data));
                    self.appended += 1;
                }
            }
            Act::Lost(packets) => tape.lost(u64::from(*packets)),
            Act::Flush => {
                tape.flush().unwrap();
                if !killed() {
                    self.flushed = self.appended;
                }
            }
            Act::Compress => drop(self.shelf().compress_one(&[])),
            Act::Cut(n) => {
                let id = format!("cut-{n}");
                let shelf = self.shelf();
                if let Ok(cut) = shelf.cut(&id, 0, u64::MAX, START)
                    && !killed()
                {
                    // One that has given way as a whole is made anew.
                    if self.cuts.get(&id).is_none_or(|(made, _)| *made != cut) {
                        let numbers = numbers_of(&shelf, &cut);
                        self.cuts.insert(id, (cut, numbers));
                    }
                }
            }
            Act::Release(n) => {
                let id = format!("cut-{n}");
                self.going = Some(id.clone());
                if self.shelf().release(&id).is_ok() && !killed() {
                    self.cuts.remove(&id);
                }
                if !killed() {
                    self.going = None;
                }
            }
            Act::LookAfter => assert_eq!(self.shelf().look_after(), 0, "nobody else was there"),
            Act::StartAgain => {
                let shelf = self.shelf();
                self.tape.take().unwrap().seal().unwrap();
                self.gave_way |= shelf.counters().cuts_expired > 0;
                drop(shelf);
                if !killed() {
                    self.flushed = self.appended;
                    self.tape = Tape::open(options(&self.dir), START).ok();
                    assert!(self.tape.is_some() || killed());
                }
            }
        }
    }

    fn start(&mut self) {
        self.tape = Some(Tape::open(options(&self.dir), START).unwrap());
    }
}

fn options(dir: &Path) -> TapeOptions {
    TapeOptions {
        ring_bytes: RING,
        segment_bytes: SEGMENT,
        ..TapeOptions::new(dir, "node-1", "wiretape-agent (model)")
    }
}

fn bytes(n: u64) -> Vec<u8> {
    (0..20 + n % 41).map(|at| (at * 7 + n) as u8).collect()
}

fn packet(n: u64, data: &[u8]) -> Packet<'_> {
    Packet {
        ts: START + n,
        data,
        orig_len: data.len() as u32,
        link: LinkType::RAW,
        ifindex: 1,
        direction: Direction::In,
        cgroup: 1,
        cookie: n,
        dropped: None,
    }
}

/// The packets of a capture by their numbers; each must be whole and right.
fn numbers(read: impl std::io::Read) -> Vec<u64> {
    let mut reader = crate::ChunkReader::new(read).unwrap();
    let (mut chunk, mut found) = (Chunk::default(), Vec::new());
    while reader.next_chunk(&mut chunk).unwrap() {
        for meta in &chunk.packets {
            let n = meta.ts - START;
            assert_eq!(chunk.data(meta), bytes(n), "packet {n}");
            found.push(n);
        }
    }
    assert_eq!(reader.damage(), None);
    found
}

fn numbers_of(shelf: &Shelf, cut: &Cut) -> Vec<Held> {
    let segments = cut
        .segments
        .iter()
        .map(|info| match shelf.cut_segment(&cut.id, &info.name, 0) {
            Ok((read, bytes)) => {
                assert_eq!(bytes, info.bytes);
                Some(numbers(read))
            }
            Err(CutError::UnknownSegment { .. }) => None,
            Err(error) => panic!("{error}"),
        });
    segments.collect()
}

/// Whether all that a cut still gives out is as it was, and what has given way was its oldest.
fn is_sound(left: &[Held], made: &[Held]) -> bool {
    let gone = left.iter().take_while(|held| held.is_none()).count();
    left.get(gone..) == made.get(gone..)
}

fn on_ring(dir: &Path) -> Vec<u64> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("lock"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| numbers(fs::File::open(path).unwrap()))
        .collect()
}

/// Bytes of the segments on the ring and in cuts, each once.
fn disk_bytes(dir: &Path) -> u64 {
    let cuts = fs::read_dir(dir.join("cuts")).unwrap();
    let folders = cuts.map(|entry| entry.unwrap().path()).chain([dir.to_owned()]);
    let entries = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_name() != "manifest.json");
    let files = files
        .map(|entry| entry.metadata().unwrap())
        .filter(fs::Metadata::is_file);
    let lengths: BTreeMap<u64, u64> = files.map(|file| (file.ino(), file.len())).collect();
    lengths.values().sum()
}

/// Packets enough for several pieces, in one segment.
const SOME: u64 = 200;

fn record_some(dir: &Path) -> (u64, u64) {
    let wide = TapeOptions {
        segment_bytes: 1 << 20,
        ring_bytes: 4 << 20,
        ..options(dir)
    };
    let mut tape = Tape::open(wide, START).unwrap();
    for n in 0..SOME {
        tape.append(&packet(n, &bytes(n))).unwrap();
    }
    tape.flush().unwrap();
    let counters = tape.shelf().counters();
    tape.seal().unwrap();
    assert_eq!(on_ring(dir), (0..SOME).collect::<Vec<_>>());
    (counters.direct_bytes, counters.written_bytes)
}

#[test]
fn large_pieces_go_past_the_page_cache() {
    fault::plan(Plan::Sound);
    let dir = tempfile::tempdir().unwrap();
    if super::disk::open_direct(&{
        let probe = dir.path().join("probe");
        fs::write(&probe, []).unwrap();
        probe
    })
    .is_err()
    {
        return eprintln!(
            "SKIPPED: {} takes nothing past the page cache",
            dir.path().display()
        );
    }
    fs::remove_file(dir.path().join("probe")).unwrap();
    let (direct, written) = record_some(dir.path());
    // All but what is left at the flush, and what comes before the first sector's end.
    assert!(direct > written / 2, "{direct} of {written}");
}

#[test]
fn a_disk_that_takes_nothing_past_the_page_cache_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fault::plan(Plan::Unfit);
    let (direct, _) = record_some(dir.path());
    fault::plan(Plan::Sound);
    assert_eq!(direct, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn killed_at_any_step_nothing_that_was_flushed_is_lost(
        acts in prop::collection::vec(act(), 1..40),
        steps in 0u64..120,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::open(dir.path());
        fault::plan(Plan::Killed(steps));
        let killed = fault::is_dead;
        for act in &acts {
            if killed() {
                break;
            }
            model.act(act, killed);
        }
        model.gave_way |= model.tape.as_ref().is_some_and(|tape| tape.shelf().counters().cuts_expired > 0);
        // Without another step: as a killed process leaves it.
        fault::plan(Plan::Dead);
        model.tape = None;
        fault::plan(Plan::Sound);

        model.start();
        let found = on_ring(dir.path());
        // Without a hole: the ring drops at one end, and the kill takes at the other.
        let first = found.first().copied().unwrap_or(model.appended);
        let end = first + found.len() as u64;
        prop_assert_eq!(&found, &(first..end).collect::<Vec<_>>());
        prop_assert!(end <= model.appended);
        prop_assert!(end >= model.flushed || found.is_empty() && model.flushed == 0, "{} of {}", end, model.flushed);
        prop_assert!(disk_bytes(dir.path()) <= RING + SEGMENT);
        let shelf = model.shelf();
        prop_assert_eq!(shelf.boundaries().packets, found.len() as u64);
        prop_assert_eq!(shelf.look_after(), 0);
        for (id, (cut, numbers)) in &model.cuts {
            match shelf.cut_manifest(id) {
                Ok(kept) => {
                    prop_assert_eq!(&kept, cut);
                    prop_assert!(is_sound(&numbers_of(&shelf, cut), numbers), "{}", id);
                }
                Err(error) => prop_assert!(
                    model.going.as_ref() == Some(id) || model.gave_way || shelf.counters().cuts_expired > 0,
                    "{}: {}", id, error
                ),
            }
        }
        // And it goes on.
        model.act(&Act::Record(10), || false);
        model.act(&Act::Flush, || false);
        prop_assert_eq!(on_ring(dir.path()).last().copied(), Some(model.appended - 1));
    }

    #[test]
    fn a_step_that_fails_costs_no_more_than_is_counted(
        acts in prop::collection::vec(act(), 1..40),
        steps in 0u64..120,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::open(dir.path());
        fault::plan(Plan::FailsOnce(steps));
        // Opening anew may be refused by a disk that fails; that is tested where it is done.
        for act in acts.iter().filter(|act| !matches!(act, Act::StartAgain)) {
            model.act(act, || false);
        }
        fault::plan(Plan::Sound);
        model.act(&Act::Flush, || false);
        let counters = model.shelf().counters();
        prop_assert_eq!(
            counters.packets + counters.lost_disk_full + counters.lost_write_error,
            model.appended
        );
        let told: u64 = model.shelf().boundaries().losses.iter().map(|loss| loss.packets).sum();
        if counters.dropped == 0 {
            prop_assert_eq!(told, counters.lost_write_error);
            prop_assert_eq!(on_ring(dir.path()).len() as u64, counters.packets);
        }
        for (cut, numbers) in model.cuts.values() {
            if model.shelf().cut_manifest(&cut.id).is_ok() {
                prop_assert!(is_sound(&numbers_of(&model.shelf(), cut), numbers), "{}", cut.id);
            }
        }
    }
}
