//! Packets on their way from the reader to the workers: a batch per worker, sent when it is full.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use wiretape_dissect::{Datagram, SHARDS, Segment};
use wiretape_tape::Nanos;

use super::chunks::Lease;
use super::crew::{Crew, Seat};
use super::worker::{Worker, WorkerReport};
use crate::calls::WriteError;

/// Segments and datagrams of a batch: enough that a channel costs nothing by comparison, few enough that workers are kept
/// busy.
const BATCH: usize = 512;

/// Batches that may wait for a worker. When one is so far behind, the reader helps out.
const WAITING: usize = 4;

/// Segments and datagrams of one worker's shards, with the chunks that hold their bytes.
#[derive(Default)]
pub(super) struct Batch {
    /// By shard, and in order of time within each: what a shard has to look at for a segment is still at hand when its
    /// next one comes.
    shards: Vec<Vec<Item>>,
    segments: usize,
    chunks: Vec<Arc<Lease>>,
    /// Bytes that were put together from fragments.
    wholes: Vec<Vec<u8>>,
    /// The reader is that far: earlier packets of these shards are in this batch, or in one before it.
    until: Nanos,
}

struct Item {
    unit: Unit,
    bytes: Bytes,
}

/// What a shard takes.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Segment(Segment),
    Datagram(Datagram),
}

impl Unit {
    fn ts(&self) -> Nanos {
        match self {
            Self::Segment(segment) => segment.ts,
            Self::Datagram(datagram) => datagram.ts,
        }
    }

    fn payload<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Segment(segment) => segment.payload(data),
            Self::Datagram(datagram) => datagram.payload(data),
        }
    }
}

/// Where an item's packet has its bytes.
#[derive(Clone, Copy)]
enum Bytes {
    /// In a chunk of the batch, from `start` on.
    Chunk { slot: u32, start: u32, end: u32 },
    /// Put together from fragments.
    Whole(u32),
}

impl Batch {
    /// Hands over each segment and datagram with its shard and payload.
    pub(super) fn each(&self, mut take: impl FnMut(usize, &Unit, &[u8])) {
        for (shard, items) in self.shards.iter().enumerate() {
            for item in items {
                let packet = match item.bytes {
                    Bytes::Chunk { slot, start, end } => self
                        .chunks
                        .get(slot as usize)
                        .and_then(|chunk| chunk.bytes().get(start as usize..end as usize)),
                    Bytes::Whole(slot) => self.wholes.get(slot as usize).map(Vec::as_slice),
                };
                let payload = packet.map_or(&[][..], |packet| item.unit.payload(packet));
                take(shard, &item.unit, payload);
            }
        }
    }

    /// How far the reader is.
    pub(super) fn until(&self) -> Nanos {
        self.until
    }

    /// Whether it says nothing.
    fn is_empty(&self) -> bool {
        self.segments == 0 && self.until == 0
    }

    fn push(&mut self, shard: u16, item: Item) {
        self.until = self.until.max(item.unit.ts());
        let shard = usize::from(shard);
        if self.shards.len() <= shard {
            self.shards.resize_with(SHARDS, Vec::new);
        }
        if let Some(items) = self.shards.get_mut(shard) {
            items.push(item);
            self.segments += 1;
        }
    }

    fn clear(&mut self) {
        for items in &mut self.shards {
            items.clear();
        }
        self.segments = 0;
        self.until = 0;
        self.chunks.clear();
        self.wholes.clear();
    }
}

/// The worker's end of a lane.
pub(super) struct LaneEnd {
    pub(super) batches: Receiver<Batch>,
    pub(super) emptied: Sender<Batch>,
}

impl LaneEnd {
    /// Gives a batch back for reuse, and with it its chunks.
    pub(super) fn give_back(&self, mut batch: Batch) {
        batch.clear();
        // The reader may be done already.
        let _ = self.emptied.send(batch);
    }
}

/// A worker is gone before its time; its own error says why.
#[derive(Debug)]
pub(super) struct WorkerGone;

/// The reader's end of all lanes.
pub(super) struct Lanes<'j> {
    lanes: Vec<Lane>,
    crew: Crew<'j>,
    make_due: Sender<Box<Seat<'j>>>,
    /// There is no other thread.
    alone: bool,
    /// Why a worker is gone that the reader saw to.
    error: Option<WriteError>,
}

/// A lane to a worker.
struct Lane {
    batch: Filling,
    to: Sender<Batch>,
    emptied: Receiver<Batch>,
}

/// The batch that is being filled, and which chunks it knows already.
#[derive(Default)]
struct Filling {
    batch: Batch,
    /// Per tape: serial of the chunk it is at, and the chunk's slot in the batch.
    slots: Vec<Option<(u64, u32)>>,
}

impl<'j> Lanes<'j> {
    /// Lanes to `workers`, and the crew that sees to these; the reader does so, too, all the time if it is `alone`.
    pub(super) fn new(workers: Vec<Worker<'j>>, alone: bool) -> (Self, Crew<'j>) {
        let (lanes, ends): (Vec<_>, Vec<_>) = workers.iter().map(|_| lane()).unzip();
        let (crew, make_due) = Crew::new(workers.into_iter().zip(ends));
        let lanes = Self {
            lanes,
            crew: crew.clone(),
            make_due,
            alone,
            error: None,
        };
        (lanes, crew)
    }

    /// Sends what is in the packet that stands at `start..end` of a tape's current chunk.
    pub(super) fn packet(&mut self, shard: u16, unit: Unit, at: Place<'_>) -> Result<(), WorkerGone> {
        let filling = self.filling(shard);
        let slot = filling.slot(at.tape, at.serial, at.chunk);
        let bytes = Bytes::Chunk {
            slot,
            start: at.start,
            end: at.end,
        };
        filling.batch.push(shard, Item { unit, bytes });
        self.send_if_full(shard)
    }

    /// Sends what was put together from fragments, with its bytes.
    pub(super) fn whole(&mut self, shard: u16, unit: Unit, bytes: Vec<u8>) -> Result<(), WorkerGone> {
        let batch = &mut self.filling(shard).batch;
        let slot = u32::try_from(batch.wholes.len()).unwrap_or(u32::MAX);
        batch.wholes.push(bytes);
        let bytes = Bytes::Whole(slot);
        batch.push(shard, Item { unit, bytes });
        self.send_if_full(shard)
    }

    /// Sends whatever there is, so that no chunk waits in an unsent batch.
    pub(super) fn flush(&mut self) -> Result<(), WorkerGone> {
        (0..self.lanes.len()).try_for_each(|lane| self.send(lane))
    }

    /// Works a batch, if one waits that no other thread sees to; whether there was one.
    pub(super) fn help(&mut self) -> Result<bool, WorkerGone> {
        self.crew.help(&self.make_due).map_err(|error| {
            self.error = Some(error);
            WorkerGone
        })
    }

    /// No more packets come: works with the crew until all workers are done. Gives those that were done here.
    pub(super) fn finish(self) -> Result<Vec<WorkerReport>, WriteError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (number, lane) in self.lanes.into_iter().enumerate() {
            // Whoever sees to the worker now sees that no more will come.
            drop(lane);
            if let Some(seat) = self.crew.wake(number) {
                let _ = self.make_due.send(seat);
            }
        }
        drop(self.make_due);
        self.crew.live()
    }

    fn lane(&self, shard: u16) -> usize {
        usize::from(shard) % self.lanes.len()
    }

    /// Sends whatever there is, and how far the reader is, also to workers that nothing is for.
    pub(super) fn tell(&mut self, until: Nanos) -> Result<(), WorkerGone> {
        for lane in &mut self.lanes {
            lane.batch.batch.until = until;
        }
        self.flush()
    }

    fn filling(&mut self, shard: u16) -> &mut Filling {
        let lane = self.lane(shard);
        &mut self.lanes[lane].batch
    }

    fn send_if_full(&mut self, shard: u16) -> Result<(), WorkerGone> {
        let lane = self.lane(shard);
        if self.lanes[lane].batch.batch.segments >= BATCH {
            self.send(lane)
        } else {
            Ok(())
        }
    }

    fn send(&mut self, number: usize) -> Result<(), WorkerGone> {
        let Some(mut full) = self.lanes[number].take() else {
            return Ok(());
        };
        loop {
            let refused = match self.lanes[number].to.try_send(full) {
                Ok(()) => break,
                Err(refused) => refused,
            };
            let TrySendError::Full(batch) = refused else {
                return Err(WorkerGone);
            };
            full = batch;
            if !self.help()? {
                // Other threads see to all workers, and so to this one.
                self.lanes[number].to.send(full).map_err(|_| WorkerGone)?;
                break;
            }
        }
        if let Some(seat) = self.crew.wake(number) {
            // The crew holds a receiver itself.
            let _ = self.make_due.send(seat);
        }
        if self.alone {
            self.help()?;
        }
        Ok(())
    }
}

/// Both ends of a lane.
fn lane() -> (Lane, LaneEnd) {
    let (to, batches) = crossbeam_channel::bounded(WAITING);
    let (give_back, emptied) = crossbeam_channel::unbounded();
    let lane = Lane {
        batch: Filling::default(),
        to,
        emptied,
    };
    let end = LaneEnd {
        batches,
        emptied: give_back,
    };
    (lane, end)
}

/// Where a packet's bytes are.
#[derive(Clone, Copy)]
pub(super) struct Place<'c> {
    pub(super) tape: u16,
    pub(super) serial: u64,
    pub(super) chunk: &'c Arc<Lease>,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Lane {
    /// What was filled so far, if there is any; begins the next batch.
    fn take(&mut self) -> Option<Batch> {
        if self.batch.batch.is_empty() {
            return None;
        }
        let next = self.emptied.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch.batch, next);
        self.batch.clear();
        Some(full)
    }
}

impl Filling {
    fn slot(&mut self, tape: u16, serial: u64, chunk: &Arc<Lease>) -> u32 {
        let tape = usize::from(tape);
        if self.slots.len() <= tape {
            self.slots.resize(tape + 1, None);
        }
        match self.slots.get(tape) {
            Some(Some((known, slot))) if *known == serial => *slot,
            _ => {
                let slot = u32::try_from(self.batch.chunks.len()).unwrap_or(u32::MAX);
                self.batch.chunks.push(Arc::clone(chunk));
                if let Some(entry) = self.slots.get_mut(tape) {
                    *entry = Some((serial, slot));
                }
                slot
            }
        }
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.slots.fill(None);
    }
}
