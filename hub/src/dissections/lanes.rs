//! Packets on their way from the reader to the workers: a batch per worker, sent when it is full.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use wiretape_dissect::{Datagram, SHARDS, Segment};
use wiretape_tape::Nanos;

use super::chunks::Lease;
use super::worker::Worker;
use crate::calls::WriteError;

/// Segments and datagrams of a batch: enough that a channel costs nothing by comparison, few enough that workers are kept
/// busy.
const BATCH: usize = 512;

/// Batches that may wait for a worker. The reader stops when a worker is so far behind.
pub(super) const WAITING: usize = 4;

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
pub(super) enum Lanes<'j> {
    /// One worker, on the reader's own thread.
    Here(Box<Here<'j>>),
    /// Workers on threads of their own.
    Threads(Vec<Lane>),
}

/// The worker on the reader's own thread.
pub(super) struct Here<'j> {
    pub(super) worker: Worker<'j>,
    pub(super) error: Option<WriteError>,
    batch: Filling,
}

/// A lane to another thread.
pub(super) struct Lane {
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
    /// Everything on the reader's own thread.
    pub(super) fn here(worker: Worker<'j>) -> Self {
        Self::Here(Box::new(Here {
            worker,
            error: None,
            batch: Filling::default(),
        }))
    }

    /// Lanes to `workers` threads, with the ends to give to these.
    pub(super) fn threads(workers: usize) -> (Self, Vec<LaneEnd>) {
        let (lanes, ends) = (0..workers)
            .map(|_| {
                let (to, batches) = crossbeam_channel::bounded(WAITING);
                let (give_back, emptied) = crossbeam_channel::unbounded();
                (
                    Lane {
                        batch: Filling::default(),
                        to,
                        emptied,
                    },
                    LaneEnd {
                        batches,
                        emptied: give_back,
                    },
                )
            })
            .unzip();
        (Self::Threads(lanes), ends)
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
        match self {
            Self::Here(here) => here.work(),
            Self::Threads(lanes) => lanes.iter_mut().try_for_each(Lane::send),
        }
    }

    /// Sends whatever there is, and how far the reader is, also to workers that nothing is for.
    pub(super) fn tell(&mut self, until: Nanos) -> Result<(), WorkerGone> {
        match self {
            Self::Here(here) => here.batch.batch.until = until,
            Self::Threads(lanes) => {
                for lane in lanes {
                    lane.batch.batch.until = until;
                }
            }
        }
        self.flush()
    }

    fn filling(&mut self, shard: u16) -> &mut Filling {
        match self {
            Self::Here(here) => &mut here.batch,
            Self::Threads(lanes) => {
                let lane = usize::from(shard) % lanes.len();
                &mut lanes[lane].batch
            }
        }
    }

    fn send_if_full(&mut self, shard: u16) -> Result<(), WorkerGone> {
        match self {
            Self::Here(here) if here.batch.batch.segments >= BATCH => here.work(),
            Self::Here(_) => Ok(()),
            Self::Threads(lanes) => {
                let lane = usize::from(shard) % lanes.len();
                let lane = &mut lanes[lane];
                if lane.batch.batch.segments >= BATCH {
                    lane.send()
                } else {
                    Ok(())
                }
            }
        }
    }
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

impl Here<'_> {
    fn work(&mut self) -> Result<(), WorkerGone> {
        let done = self.worker.work(&self.batch.batch);
        self.batch.clear();
        done.map_err(|error| {
            self.error = Some(error);
            WorkerGone
        })
    }
}

impl Lane {
    fn send(&mut self) -> Result<(), WorkerGone> {
        if self.batch.batch.is_empty() {
            return Ok(());
        }
        let next = self.emptied.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch.batch, next);
        self.batch.clear();
        self.to.send(full).map_err(|_| WorkerGone)
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
