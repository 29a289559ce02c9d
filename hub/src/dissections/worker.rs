//! A worker: some shards, and the part of the table that their calls go to.

use std::collections::BTreeMap;

use wiretape_dissect::{Call, Counters, Observation, SHARDS, Shard};
use wiretape_tape::Nanos;

use super::job::{Job, Progress};
use super::lanes::{Batch, LaneEnd, Unit};
use crate::calls::{PartWriter, WriteError};

/// The shards `s` with `s % workers == number`.
pub(super) struct Worker<'j> {
    workers: usize,
    shards: Vec<Shard>,
    window: Option<(Nanos, Nanos)>,
    progress: &'j Progress,
    calls: Vec<Call>,
    part: PartWriter,
    report: WorkerReport,
}

/// What a worker did.
#[derive(Default)]
pub(super) struct WorkerReport {
    pub(super) calls: u64,
    pub(super) outside_window: u64,
    pub(super) protocols: BTreeMap<&'static str, u64>,
    pub(super) first_call: Option<Nanos>,
    pub(super) last_call: Option<Nanos>,
    pub(super) counters: Counters,
}

impl<'j> Worker<'j> {
    pub(super) fn new(
        number: usize,
        workers: usize,
        job: &Job,
        progress: &'j Progress,
        part: PartWriter,
    ) -> Self {
        let shards = (number..SHARDS)
            .step_by(workers.max(1))
            .map(|_| Shard::new())
            .collect();
        Self {
            workers,
            shards,
            window: job.window,
            progress,
            calls: Vec::new(),
            part,
            report: WorkerReport::default(),
        }
    }

    /// A worker's life on a thread of its own. Ends early, without a whole part, when the job is cancelled.
    pub(super) fn live(mut self, lane: &LaneEnd) -> Result<WorkerReport, WriteError> {
        while let Ok(batch) = lane.batches.recv() {
            if self.progress.is_cancelled() {
                return Ok(self.report);
            }
            let done = self.work(&batch);
            lane.give_back(batch);
            done?;
        }
        if self.progress.is_cancelled() {
            Ok(self.report)
        } else {
            self.finish()
        }
    }

    /// Dissects a batch.
    pub(super) fn work(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let workers = self.workers;
        batch.each(|shard, unit, payload| {
            let Some(shard) = self.shards.get_mut(usize::from(shard) / workers) else {
                return;
            };
            match unit {
                Unit::Segment(segment) => shard.segment(segment, payload, &mut self.calls),
                Unit::Datagram(datagram) => shard.datagram(datagram, payload, &mut self.calls),
            }
        });
        self.store()
    }

    /// The calls that were still open, then the end of the part.
    pub(super) fn finish(mut self) -> Result<WorkerReport, WriteError> {
        let mut shards = std::mem::take(&mut self.shards);
        for shard in &mut shards {
            shard.finish(&mut self.calls);
            self.report.counters.merge(shard.counters());
            self.store()?;
        }
        self.part.finish()?;
        Ok(self.report)
    }

    fn store(&mut self) -> Result<(), WriteError> {
        let report = &mut self.report;
        let before = report.calls;
        for call in self.calls.drain(..) {
            let start = call.observation().map_or(0, Observation::start);
            if self
                .window
                .is_some_and(|(from, until)| start < from || start >= until)
            {
                report.outside_window += 1;
                continue;
            }
            self.part.push(&call)?;
            report.calls += 1;
            *report.protocols.entry(call.protocol).or_default() += 1;
            report.first_call = Some(report.first_call.map_or(start, |first| first.min(start)));
            report.last_call = Some(report.last_call.map_or(start, |last| last.max(start)));
        }
        self.progress.found(report.calls - before);
        Ok(())
    }
}
