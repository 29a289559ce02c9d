//! Chunks of files: lent by one store of fixed size, shared by batches, given back when the last of these is done.

use std::ops::Deref;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use wiretape_tape::Chunk;

/// Chunks beyond the one that each tape is being read through. A chunk is 1 MiB of a file and up to as much again for
/// the list of its packets; so the store is at most 32 MiB and 2 MiB per tape, whatever the size of the snapshot.
const SPARE: usize = 16;

/// A chunk on loan.
pub(super) struct Lease {
    chunk: Chunk,
    home: Sender<Chunk>,
}

impl Deref for Lease {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        &self.chunk
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // When the store is gone the job is over, and the memory goes the usual way.
        let _ = self.home.send(std::mem::take(&mut self.chunk));
    }
}

/// The store.
pub(super) struct Chunks {
    home: Sender<Chunk>,
    free: Receiver<Chunk>,
    made: usize,
    limit: usize,
}

impl Chunks {
    /// A store that suffices for that many tapes.
    pub(super) fn new(tapes: usize) -> Self {
        let (home, free) = unbounded();
        Self {
            home,
            free,
            made: 0,
            limit: tapes + SPARE,
        }
    }

    /// A chunk to fill, if one is free or may still be made.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        self.free.try_recv().ok().or_else(|| {
            (self.made < self.limit).then(|| {
                self.made += 1;
                Chunk::default()
            })
        })
    }

    /// Waits for a chunk. Whoever calls this must hold no more than one lease per tape, and none in unsent batches.
    pub(super) fn wait(&mut self) -> Chunk {
        // The store holds a sender itself, so the channel is never closed.
        self.free.recv().unwrap_or_default()
    }

    /// Takes a chunk back that was not filled.
    pub(super) fn give_back(&self, chunk: Chunk) {
        // The store holds a receiver itself.
        let _ = self.home.send(chunk);
    }

    /// Lends a filled chunk.
    pub(super) fn lend(&self, chunk: Chunk) -> Arc<Lease> {
        Arc::new(Lease {
            chunk,
            home: self.home.clone(),
        })
    }
}
