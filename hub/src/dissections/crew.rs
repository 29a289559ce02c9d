//! Workers, and the threads that see to them: those of the crew, and the reader's whenever it is ahead.
//!
//! A worker is at one place at a time: at rest, while nothing waits for it; due, once something does; or in the hands of a
//! thread, which sees to it until nothing waits any more. So no thread is idle while there is work, and no worker is ever
//! waited for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::lanes::{Batch, LaneEnd};
use super::worker::{Worker, WorkerReport};
use crate::calls::WriteError;

/// A worker at its lane's end.
pub(super) struct Seat<'j> {
    number: usize,
    worker: Worker<'j>,
    lane: LaneEnd,
}

/// What every thread of a dissection knows.
#[derive(Clone)]
pub(super) struct Crew<'j> {
    /// Workers at rest, by number.
    resting: Arc<[Mutex<Option<Box<Seat<'j>>>>]>,
    due: Receiver<Box<Seat<'j>>>,
}

/// What has become of a worker that was due.
enum Then<'j> {
    /// A batch is done; more may wait.
    More(Box<Seat<'j>>),
    /// It rests, or is gone because the job was cancelled.
    Rest,
    /// No more will come, and its parts are whole.
    Over(Box<WorkerReport>),
}

impl<'j> Crew<'j> {
    /// A crew of workers that rest, and what makes them due.
    pub(super) fn new(workers: impl Iterator<Item = (Worker<'j>, LaneEnd)>) -> (Self, Sender<Box<Seat<'j>>>) {
        let seats = workers
            .enumerate()
            .map(|(number, (worker, lane))| Mutex::new(Some(Box::new(Seat { number, worker, lane }))));
        let resting = seats.collect();
        let (make_due, due) = crossbeam_channel::unbounded();
        (Self { resting, due }, make_due)
    }

    /// A thread's life: it ends when no worker can become due any more.
    pub(super) fn live(&self) -> Result<Vec<WorkerReport>, WriteError> {
        let mut reports = Vec::new();
        for mut seat in &self.due {
            loop {
                match self.step(seat)? {
                    Then::More(more) => seat = more,
                    Then::Rest => break,
                    Then::Over(report) => {
                        reports.push(*report);
                        break;
                    }
                }
            }
        }
        Ok(reports)
    }

    /// Works one batch for a worker that is due; whether there was one. If more waits for it, it is due again.
    pub(super) fn help(&self, make_due: &Sender<Box<Seat<'j>>>) -> Result<bool, WriteError> {
        let Ok(seat) = self.due.try_recv() else {
            return Ok(false);
        };
        if let Then::More(seat) = self.step(seat)? {
            // The crew holds a receiver itself.
            let _ = make_due.send(seat);
        }
        Ok(true)
    }

    /// Takes a worker out of its rest, if it rests.
    pub(super) fn wake(&self, number: usize) -> Option<Box<Seat<'j>>> {
        self.place(number)?.take()
    }

    fn step(&self, mut seat: Box<Seat<'j>>) -> Result<Then<'j>, WriteError> {
        if seat.worker.is_cancelled() {
            return Ok(Then::Rest);
        }
        let batch = {
            let place = self.place(seat.number);
            // Looked for under the lock: who sends a batch looks afterwards whether the worker rests.
            match (seat.lane.batches.try_recv(), place) {
                (Ok(batch), _) => batch,
                (Err(TryRecvError::Empty), Some(mut place)) => {
                    *place = Some(seat);
                    return Ok(Then::Rest);
                }
                (Err(_), place) => {
                    drop(place);
                    return Ok(Then::Over(Box::new(seat.worker.finish()?)));
                }
            }
        };
        seat.work(batch)?;
        Ok(Then::More(seat))
    }

    fn place(&self, number: usize) -> Option<MutexGuard<'_, Option<Box<Seat<'j>>>>> {
        let place = self.resting.get(number)?;
        // Nothing is left half done under this lock.
        Some(place.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seat<'_> {
    fn work(&mut self, batch: Batch) -> Result<(), WriteError> {
        let done = self.worker.work(&batch);
        self.lane.give_back(batch);
        done
    }
}
