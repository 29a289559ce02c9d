//! Writing: one node's tape.

mod disk;

mod piece;

mod writer;

mod segment;

mod losses;

mod ring;

mod sealed;

mod compress;

mod recovery;

mod cuts;

mod pages;

mod shelf;

#[cfg(test)]
mod crashes;

pub use cuts::{CUT_LIFETIME, CutError, CutReader, MAX_CUTS};
pub use pages::Pages;
pub use segment::PIECES;
pub use shelf::{Compressed, Shelf};

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::{Event, Loss, Name, Nanos, Packet};
use cuts::{Cuts, Table};
use ring::Ring;

/// Least bytes of a segment: room for a head and some packets.
const MIN_SEGMENT: u64 = 4096;

/// A clock that goes on by more between two ticks was set, or the machine was asleep. Ticks come ten times a second.
const JUMP: Nanos = 60_000_000_000;

/// How long a clock must have gone steadily before packets are dropped for their age: one that is set forward by
/// mistake, and then back, must not erase the tape.
const STEADY: Nanos = 3_600_000_000_000;

/// A segment holds at most this part of the time that is kept, since segments are dropped as wholes.
const AGE_PARTS: Nanos = 16;

/// Held locked by the one writer of a tape.
const LOCK: &str = "lock";

/// Where a tape lies and how long it is.
#[derive(Clone, Debug)]
pub struct TapeOptions {
    /// Folder of the tape; made when it is missing.
    pub dir: PathBuf,
    /// The node, as segments name it.
    pub node: String,
    /// Who records, as segments name it: begins with `wiretape`, e.g. `wiretape-agent 0.1.0 (ebpf)`.
    pub agent: String,
    /// Most bytes on the ring.
    pub ring_bytes: u64,
    /// Bytes at which a segment is sealed and the next begins.
    pub segment_bytes: u64,
    /// Longest time that a packet stays in memory only.
    pub flush_every: Nanos,
    /// Bytes in memory that go to the disk at once where they come fast, past the page cache; up to [`PIECES`] of such pieces
    /// are in memory.
    pub piece_bytes: usize,
    /// Longest time that a packet is kept, whatever room there is; `None` for as long as there is room.
    pub keep: Option<Nanos>,
}

impl TapeOptions {
    /// A tape of the default length: 1 GiB in segments of 64 MiB, flushed each second.
    pub fn new(dir: impl Into<PathBuf>, node: &str, agent: &str) -> Self {
        Self {
            dir: dir.into(),
            node: node.to_owned(),
            agent: agent.to_owned(),
            ring_bytes: 1 << 30,
            segment_bytes: 64 << 20,
            flush_every: 1_000_000_000,
            piece_bytes: segment::PIECE,
            keep: None,
        }
    }
}

/// Why a tape cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// The sizes make no ring.
    #[error(
        "a ring of {ring_bytes} bytes cannot hold segments of {segment_bytes}: give it at least two, of {MIN_SEGMENT} bytes or more"
    )]
    Sizes {
        /// As asked for.
        ring_bytes: u64,
        /// As asked for.
        segment_bytes: u64,
    },
    /// Another process records there.
    #[error("the tape in {} is in use: stop the agent that records there, or choose another folder", dir.display())]
    InUse {
        /// The tape's folder.
        dir: PathBuf,
    },
    /// The folder or a file in it failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl TapeError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

/// What a tape has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapeCounters {
    /// Packets taken.
    pub packets: u64,
    /// Their captured bytes.
    pub bytes: u64,
    /// Events taken.
    pub events: u64,
    /// Events that did not come onto the tape: nothing could be written, or they were too long to be told.
    pub events_lost: u64,
    /// Packets of which only the first [`MAX_CAPTURED`](crate::MAX_CAPTURED) bytes were taken.
    pub cut_short: u64,
    /// Packets that the recorder said were lost before they came here.
    pub lost: u64,
    /// Packets lost here because the disk was full and nothing was left to drop.
    pub lost_disk_full: u64,
    /// Packets lost here because writing failed otherwise.
    pub lost_write_error: u64,
    /// Failed writes, the disk being full included.
    pub write_errors: u64,
    /// Times that the buffer went to the file.
    pub flushes: u64,
    /// Segments sealed.
    pub sealed: u64,
    /// Segments that a killed run had left open and that were sealed when the tape was opened.
    pub recovered: u64,
    /// Files of the tape that could not be read when it was opened.
    pub unreadable: u64,
    /// Segments dropped because the ring was full.
    pub dropped: u64,
    /// Segments dropped because the disk was full.
    pub dropped_disk_full: u64,
    /// Of those, how many freed nothing because a cut holds them.
    pub dropped_held: u64,
    /// Segments dropped because all their packets were older than is kept.
    pub dropped_old: u64,
    /// Files that someone else deleted or changed the length of.
    pub vanished: u64,
    /// Packets that went with them. They count among those taken.
    pub vanished_packets: u64,
    /// Bytes written into segments.
    pub written_bytes: u64,
    /// Of those, how many went past the page cache.
    pub direct_bytes: u64,
    /// Bytes of the ring on disk now, compressed or not.
    pub stored_bytes: u64,
    /// The same bytes as a cut gives them out: uncompressed.
    pub plain_bytes: u64,
    /// Names for which there was no room.
    pub names_refused: u64,
    /// Cuts held now.
    pub cuts: u64,
    /// Bytes held by cuts alone: on disk beside the ring.
    pub held_bytes: u64,
    /// Cuts that the tape has let go of, or begun to: older than [`CUT_LIFETIME`], or holding what there was no other
    /// room for.
    pub cuts_expired: u64,
}

/// The writer of one node's tape. There is one per folder at a time.
///
/// A packet is in memory until the next flush, then in a segment. A tape that is dropped without [`seal`](Self::seal)
/// is left as if its process had been killed.
pub struct Tape {
    shared: Arc<Shared>,
    flush_every: Nanos,
    flushed_at: Nanos,
    keep: Option<Nanos>,
    /// Since when the clock has gone as clocks do.
    steady_since: Nanos,
    /// Locked as long as this tape is written; the kernel unlocks it when the process ends, however it ends.
    _lock: File,
}

/// What the writer and the shelf's users share. The lock is held for single steps: a packet into the buffer, the
/// buffer into the file, a list copied. Not while files are linked.
pub(crate) struct Shared {
    dir: PathBuf,
    node: String,
    ring: Mutex<Ring>,
    cuts: Arc<Cuts>,
}

impl Shared {
    /// A panic elsewhere leaves the ring usable: each step keeps it whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, unless somebody has it.
    fn try_ring(&self) -> Option<MutexGuard<'_, Ring>> {
        match self.ring.try_lock() {
            Ok(ring) => Some(ring),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// After a change of the cuts. Whoever needs both locks the table before the ring.
    fn tell_held(&self, table: &Table) {
        self.ring().sealed().held_by_cuts(&table.segments());
    }
}

/// A place on a tape between two packets. It holds when the tape is opened anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The segment: when it begins, and its number.
    pub segment: [u64; 2],
    /// How many of its packets come before.
    pub packets: u64,
}

/// How far a tape has come with what it was given since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Packets given.
    pub appended: u64,
    /// Of those, the first so many are in files, or counted as lost.
    pub settled: u64,
    /// The place behind the last one, in files or not.
    pub end: Place,
    /// Whether all losses that it was told of are told in files.
    pub losses_told: bool,
}

impl Tape {
    /// Opens the tape in its folder. What a killed run left open is cut back to its last whole block and sealed; its
    /// cuts are held on.
    pub fn open(options: TapeOptions, now: Nanos) -> Result<Self, TapeError> {
        let TapeOptions {
            ring_bytes,
            segment_bytes,
            ..
        } = options;
        if segment_bytes < MIN_SEGMENT || ring_bytes / 2 < segment_bytes {
            return Err(TapeError::Sizes {
                ring_bytes,
                segment_bytes,
            });
        }
        let dir = options.dir.clone();
        disk::make_folder(&dir).map_err(|error| TapeError::io("make the tape's folder", &dir, error))?;
        let lock = lock(&dir)?;
        let recovered = recovery::recover(&options)?;
        let cuts = Arc::new(Cuts::open(&dir)?);
        let (node, flush_every, keep) = (options.node.clone(), options.flush_every, options.keep);
        let ring = Mutex::new(Ring::new(options, recovered, Arc::clone(&cuts)));
        Ok(Self {
            shared: Arc::new(Shared {
                dir,
                node,
                ring,
                cuts,
            }),
            flush_every,
            flushed_at: now,
            keep,
            steady_since: now,
            _lock: lock,
        })
    }

    /// Puts a packet on the tape. Cheap: it goes into a buffer, which now and then goes to the file.
    ///
    /// Fails when no segment can be begun, though the disk is not full: the packet is counted as lost then, and so are
    /// those that follow, until [`tick`](Self::tick) or [`flush`](Self::flush) lets it be tried again.
    pub fn append(&mut self, packet: &Packet<'_>) -> Result<(), TapeError> {
        self.shared.ring().append(packet)
    }

    /// [`append`](Self::append) for many: the lock is taken once. The first error ends neither the batch nor the tape.
    pub fn append_batch<'a>(
        &mut self,
        packets: impl IntoIterator<Item = Packet<'a>>,
    ) -> Result<(), TapeError> {
        let mut ring = self.shared.ring();
        let mut outcome = Ok(());
        for packet in packets {
            outcome = outcome.and(ring.append(&packet));
        }
        outcome
    }

    /// Tells how an interface is called; used when it is next described in a segment.
    pub fn interface_name(&mut self, ifindex: u32, name: &str) {
        self.shared.ring().interface_name(ifindex, name);
    }

    /// Puts a name on the tape, and at the head of each later segment while it holds. A name with the `since` and
    /// cgroup of an earlier one stands in its place (to end it, or to add to it).
    pub fn name(&mut self, name: &Name) -> Result<(), TapeError> {
        self.shared.ring().name(name)
    }

    /// Puts an event on the tape.
    ///
    /// Fails, and counts the event as lost, when no segment can be begun.
    pub fn event(&mut self, event: &Event) -> Result<(), TapeError> {
        self.shared.ring().event(event)
    }

    /// Counts packets that the recorder knows it has lost.
    pub fn lost(&mut self, packets: u64) {
        self.shared.ring().lost(packets, None);
    }

    /// The same, where it is known at which stage and when they were lost.
    pub fn lost_at(&mut self, loss: Loss) {
        self.shared.ring().lost(loss.packets, Some(loss));
    }

    /// Flushes when it is time to, and drops what is too old.
    pub fn tick(&mut self, now: Nanos) -> Result<(), TapeError> {
        // A clock that was set back must not stop flushing.
        if now >= self.flushed_at && now - self.flushed_at < self.flush_every {
            return Ok(());
        }
        if now < self.flushed_at || now - self.flushed_at > JUMP {
            self.steady_since = now;
        }
        self.flushed_at = now;
        let mut ring = self.shared.ring();
        let begun = ring.begin_for_losses(now);
        ring.flush();
        if let Some(keep) = self.keep
            && now - self.steady_since >= keep.min(STEADY)
        {
            let oldest = now.saturating_sub(keep);
            ring.keep_since(oldest, oldest.saturating_add(keep - keep / AGE_PARTS), now);
        }
        begun
    }

    /// Puts into the file what is buffered. Write errors are counted, not returned: recording goes on.
    pub fn flush(&mut self) -> Result<(), TapeError> {
        self.shared.ring().flush();
        Ok(())
    }

    /// How far it has come.
    pub fn progress(&mut self) -> Progress {
        self.shared.ring().progress()
    }

    /// Packets in the files from a place on.
    pub fn packets_since(&self, place: Place) -> u64 {
        self.shared.ring().packets_since(place)
    }

    /// Stops cleanly: what is buffered is written and the open segment sealed.
    pub fn seal(self) -> Result<(), TapeError> {
        self.shared.ring().close();
        Ok(())
    }

    /// A handle on what is on the tape, for other threads.
    pub fn shelf(&self) -> Shelf {
        Shelf::new(Arc::clone(&self.shared))
    }
}

fn lock(dir: &Path) -> Result<File, TapeError> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(|error| TapeError::io("make", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(TapeError::InUse { dir: dir.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(TapeError::io("lock", &path, error)),
    }
}
