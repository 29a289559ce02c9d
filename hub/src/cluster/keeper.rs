//! Keeps what the watches tell: on the hub's own tape, and how each watch stands.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wiretape_tape::{Event, Name, Nanos, Shelf, Tape, TapeError, TapeOptions};

use super::CLUSTER;
use super::directory::Directory;
use super::load::Load;
use super::status::{Kind, Status, Watched};

/// Who writes the tape, as its segments say.
const WRITER: &str = concat!("wiretape-hub ", env!("CARGO_PKG_VERSION"));

/// Bytes of the tape. An event takes some 500: a busy cluster's ten a second fill half a day, a quiet one's years.
const RING_BYTES: u64 = 256 << 20;

/// Bytes of a segment. Names that hold stand at the head of each, up to 4 MiB of them.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Most events remembered, so that a listing after a broken watch does not tell them twice: 8 MB. API servers keep them an
/// hour, and a cluster of 5,000 pods has seldom that many in it.
const MAX_TOLD: usize = 50_000;

/// The tape and what is on it.
pub(super) struct Keeper {
    kept: Mutex<Kept>,
    shelf: Shelf,
    load: Arc<Load>,
}

struct Kept {
    tape: Tape,
    directory: Directory,
    /// By an event's uid: the time of its latest occurrence that is on the tape.
    told: HashMap<String, Nanos>,
    watches: BTreeMap<Kind, Watched>,
    lost: u64,
}

impl Keeper {
    /// Opens the tape, with what an earlier run has left on it.
    pub(super) fn open(folder: &Path, now: Nanos) -> Result<Self, TapeError> {
        let mut options = TapeOptions::new(folder, CLUSTER, WRITER);
        options.ring_bytes = RING_BYTES;
        options.segment_bytes = SEGMENT_BYTES;
        let tape = Tape::open(options, now)?;
        let shelf = tape.shelf();
        let kept = Kept {
            directory: Directory::new(shelf.names()),
            tape,
            told: HashMap::new(),
            watches: Kind::ALL.iter().map(|kind| (*kind, Watched::default())).collect(),
            lost: 0,
        };
        Ok(Self {
            kept: Mutex::new(kept),
            shelf,
            load: Arc::default(),
        })
    }

    /// All objects of a kind are told anew.
    pub(super) fn listing(&self, kind: Kind) {
        let mut kept = self.kept();
        kept.directory.listing(kind);
        kept.watch(kind).lists += 1;
    }

    /// All have been told.
    pub(super) fn listed(&self, kind: Kind, now: Nanos) {
        let mut kept = self.kept();
        let ended = kept.directory.listed(kind, now);
        kept.write(&ended);
        kept.watch(kind).complete = true;
        kept.heard(kind, now);
    }

    /// An object is there, and tells these names.
    pub(super) fn names_of(&self, kind: Kind, object: &str, names: Vec<Name>, now: Nanos) {
        let mut kept = self.kept();
        let changes = kept.directory.apply(kind, object, names, now);
        kept.write(&changes);
    }

    /// An event has happened, or happened again.
    pub(super) fn event(&self, uid: &str, event: Event, now: Nanos) {
        let mut kept = self.kept();
        let at = if event.at == 0 { now } else { event.at };
        if kept.told.get(uid).is_some_and(|told| *told >= at) {
            return;
        }
        if kept.told.len() >= MAX_TOLD {
            kept.told.clear();
        }
        kept.told.insert(uid.to_owned(), at);
        if kept.tape.event(&Event { at, ..event }).is_err() {
            kept.lost += 1;
        }
    }

    /// The API server has spoken: of `listed` objects in a listing, of `changes`.
    pub(super) fn counted(&self, kind: Kind, in_listing: bool, now: Nanos) {
        let mut kept = self.kept();
        let watch = kept.watch(kind);
        if in_listing {
            watch.listed += 1;
        } else {
            watch.changes += 1;
        }
        kept.heard(kind, now);
    }

    /// It has not, or with an error.
    pub(super) fn failed(&self, kind: Kind, error: String) {
        let mut kept = self.kept();
        let watch = kept.watch(kind);
        watch.errors += 1;
        watch.error = Some(error);
    }

    /// Writes what is buffered, and lets go of cuts that were left behind, once a second.
    pub(super) fn tick(&self, now: Nanos) {
        let expired = self.shelf.expire_cuts(now);
        if expired > 0 {
            tracing::warn!(
                expired,
                "cuts of the cluster's tape that nobody released are let go"
            );
        }
        let mut kept = self.kept();
        if kept.tape.tick(now).is_err() {
            // What it holds stays in its buffer, and what finds no room there is counted as it comes.
            tracing::warn!("the cluster's tape cannot be written");
        }
    }

    pub(super) fn shelf(&self) -> Shelf {
        self.shelf.clone()
    }

    /// What the watches ask is counted here.
    pub(super) fn load(&self) -> &Arc<Load> {
        &self.load
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.shelf.names()
    }

    pub(super) fn status(&self) -> Status {
        let counters = self.shelf.counters();
        let boundaries = self.shelf.boundaries();
        let (requests, received) = self.load.counted();
        let kept = self.kept();
        Status {
            watches: kept
                .watches
                .iter()
                .map(|(kind, watch)| (*kind, watch.clone()))
                .collect(),
            names: kept.directory.len(),
            names_refused: kept.directory.refused() + counters.names_refused,
            events: counters.events,
            lost: kept.lost,
            bytes: boundaries.bytes,
            requests,
            received,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn write(&mut self, names: &[Name]) {
        for name in names {
            if self.tape.name(name).is_err() {
                self.lost += 1;
            }
        }
    }

    fn watch(&mut self, kind: Kind) -> &mut Watched {
        self.watches.entry(kind).or_default()
    }

    fn heard(&mut self, kind: Kind, now: Nanos) {
        let watch = self.watch(kind);
        watch.last = Some(now);
        watch.error = None;
    }
}

#[cfg(test)]
mod tests {
    use wiretape_tape::CUT_LIFETIME;

    use super::*;

    fn name(service: &str, since: Nanos) -> Name {
        Name {
            since,
            service: service.to_owned(),
            addresses: vec!["10.9.0.1".parse().unwrap()],
            ..Name::default()
        }
    }

    #[test]
    fn restart_keeps_names_and_what_is_told_anew_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(folder.path(), 1_000).unwrap();
        keeper.names_of(Kind::Services, "shop/cart", vec![name("cart", 500)], 1_000);
        let event = Event {
            at: 2_000,
            reason: "Started".to_owned(),
            ..Event::default()
        };
        keeper.event("u1", event, 2_000);
        keeper.tick(u64::MAX / 2);
        drop(keeper);

        let keeper = Keeper::open(folder.path(), 3_000).unwrap();
        keeper.listing(Kind::Services);
        keeper.names_of(Kind::Services, "shop/cart", vec![name("cart", 500)], 3_000);
        keeper.listed(Kind::Services, 3_000);
        let names: Vec<_> = keeper
            .names()
            .into_iter()
            .map(|name| (name.since, name.until))
            .collect();
        assert_eq!(names, [(500, None)]);
    }

    #[test]
    fn a_cut_that_was_left_behind_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(folder.path(), 1_000).unwrap();
        keeper.event(
            "u1",
            Event {
                at: 2_000,
                ..Event::default()
            },
            2_000,
        );
        let cut = keeper.shelf().cut("snapshot", 0, u64::MAX, 3_000).unwrap();
        assert_eq!(cut.segments.len(), 1);
        keeper.tick(3_000 + CUT_LIFETIME);
        assert_eq!(keeper.shelf().counters().cuts, 1);
        keeper.tick(3_001 + CUT_LIFETIME);
        assert_eq!(keeper.shelf().counters().cuts, 0);
    }

    #[test]
    fn event_told_again_by_a_listing_is_one_and_its_next_occurrence_another() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::open(folder.path(), 1_000).unwrap();
        let event = |at| Event {
            at,
            reason: "BackOff".to_owned(),
            ..Event::default()
        };
        for at in [2_000, 2_000, 3_000, 2_000] {
            keeper.event("u1", event(at), 9_000);
        }
        assert_eq!(keeper.status().events, 2);
    }
}
