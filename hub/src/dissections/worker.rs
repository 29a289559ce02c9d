//! A worker: some shards, and the part of the table that their calls go to.

use std::collections::BTreeMap;

use wiretape_dissect::{Call, ConnectionRecord, Counters, Observation, SHARDS, Shard};
use wiretape_tape::Nanos;

use super::clocks::Ways;
use super::job::{Job, Progress};
use super::lanes::{Batch, Unit};
use crate::calls::{ConnectionRows, PartWriter, Rows, WriteError, Written};

/// Calls that are stored together: few enough that their texts are still in the processor's cache.
const AT_HAND: usize = 16;

/// Calls that are stored at a time where one segment has given many: when a thousand requests are given up at once, their
/// texts are no longer in that cache, but they need not come from memory for each column.
const AT_ONCE: usize = 64;

/// The shards `s` with `s % workers == number`.
pub(super) struct Worker<'j> {
    number: usize,
    workers: usize,
    shards: Vec<Shard>,
    window: Option<(Nanos, Nanos)>,
    progress: &'j Progress,
    calls: Vec<Call>,
    part: PartWriter<Rows>,
    /// Connections that are over.
    over: Vec<ConnectionRecord>,
    connections: PartWriter<ConnectionRows>,
    /// How far the reader was with the last batch.
    until: Nanos,
    report: WorkerReport,
}

/// What a worker did.
#[derive(Default)]
pub(super) struct WorkerReport {
    pub(super) calls: u64,
    pub(super) connections: u64,
    pub(super) outside_window: u64,
    pub(super) protocols: BTreeMap<&'static str, u64>,
    pub(super) first_call: Option<Nanos>,
    pub(super) last_call: Option<Nanos>,
    pub(super) counters: Counters,
    /// Of calls that were recorded on two nodes.
    pub(super) ways: Ways,
    /// Its parts of the tables, once they are whole.
    pub(super) written: Vec<Written>,
}

impl<'j> Worker<'j> {
    pub(super) fn new(
        number: usize,
        workers: usize,
        job: &Job,
        progress: &'j Progress,
        part: PartWriter<Rows>,
        connections: PartWriter<ConnectionRows>,
    ) -> Self {
        let shards = (number..SHARDS)
            .step_by(workers.max(1))
            .map(|_| Shard::new())
            .collect();
        Self {
            number,
            workers,
            shards,
            window: job.window,
            progress,
            calls: Vec::new(),
            part,
            over: Vec::new(),
            connections,
            until: 0,
            report: WorkerReport::default(),
        }
    }

    /// Whether the job is to end, without whole parts.
    pub(super) fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }

    /// Dissects a batch.
    pub(super) fn work(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let closed = self.part.closed();
        let workers = self.workers;
        let mut stored = Ok(());
        batch.each(|shard, unit, payload| {
            if let Some(shard) = self.shards.get_mut(shard / workers) {
                match unit {
                    Unit::Segment(segment) => shard.segment(segment, payload, &mut self.calls),
                    Unit::Datagram(datagram) => shard.datagram(datagram, payload, &mut self.calls),
                }
            }
            if self.calls.len() >= AT_HAND && stored.is_ok() {
                stored = self.store();
            }
        });
        stored?;
        for shard in &mut self.shards {
            self.over.extend(shard.connections());
        }
        self.store_connections()?;
        self.store()?;
        self.connections.show()?;
        self.part.show()?;
        let before = std::mem::replace(&mut self.until, batch.until());
        let tables = self.progress.tables();
        if self.part.is_empty() {
            tables.complete(self.number, self.until);
        } else if self.part.closed() > closed {
            // What came since is of this batch.
            tables.complete(self.number, before);
        }
        Ok(())
    }

    /// The calls that were still open, then the end of the part.
    pub(super) fn finish(mut self) -> Result<WorkerReport, WriteError> {
        let mut shards = std::mem::take(&mut self.shards);
        for shard in &mut shards {
            shard.finish(self.progress.ends(), &mut self.calls);
            self.report.counters.merge(shard.counters());
            self.store()?;
            self.over.extend(shard.connections());
            self.store_connections()?;
        }
        let mut report = self.report;
        report.written = vec![self.part.finish()?, self.connections.finish()?];
        Ok(report)
    }

    /// Stores the calls that have come.
    fn store(&mut self) -> Result<(), WriteError> {
        let report = &mut self.report;
        if let Some((from, until)) = self.window {
            let before = self.calls.len();
            self.calls.retain(|call| (from..until).contains(&start(call)));
            report.outside_window += (before - self.calls.len()) as u64;
        }
        for call in &self.calls {
            report.ways.see(call);
            let start = start(call);
            *report.protocols.entry(call.protocol).or_default() += 1;
            report.first_call = Some(report.first_call.map_or(start, |first| first.min(start)));
            report.last_call = Some(report.last_call.map_or(start, |last| last.max(start)));
        }
        let calls = self.calls.len() as u64;
        report.calls += calls;
        self.progress.found(calls);
        let mut batches = self.calls.chunks(AT_ONCE);
        let stored = batches.try_for_each(|calls| self.part.push(calls));
        self.calls.clear();
        stored
    }

    /// Stores the connections that are over: those of which a packet was in the window.
    fn store_connections(&mut self) -> Result<(), WriteError> {
        if let Some((from, until)) = self.window {
            self.over
                .retain(|connection| connection.times.0 < until && connection.times.1 >= from);
        }
        self.report.connections += self.over.len() as u64;
        let stored = self.connections.push(&self.over);
        self.over.clear();
        stored
    }
}

/// When a call began.
fn start(call: &Call) -> Nanos {
    call.observation().map_or(0, Observation::start)
}
