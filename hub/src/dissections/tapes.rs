//! The tapes of a job, read chunk by chunk and merged by time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use wiretape_tape::{ChunkReader, Event, EventKind, Nanos, ReadCounters};

use super::chunks::{Chunks, Lease};
use super::job::{Job, Progress};
use super::lanes::{Lanes, WorkerGone};
use crate::calls::EventTable;

/// All tapes of a job.
pub(super) struct Tapes<'j> {
    tapes: Vec<Tape<'j>>,
    /// Tapes that have a packet to give, by its time; of equal times, the tape that comes first in the job.
    heads: BinaryHeap<Reverse<(Nanos, u16)>>,
    source: ChunkSource<'j>,
}

/// Packets of one chunk that come before those of every other tape.
pub(super) struct Run {
    pub(super) tape: u16,
    /// Number of the file in the job.
    pub(super) file: u16,
    /// Number of the chunk in the job.
    pub(super) serial: u64,
    pub(super) chunk: Arc<Lease>,
    pub(super) packets: Range<usize>,
}

/// What was read, apart from the packets.
#[derive(Default)]
pub(super) struct ReadReport {
    /// Packets that the files say are missing in them.
    pub(super) lost: u64,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) problems: Vec<String>,
    /// What recorders say of what they recorded, by tape and in their words, with when it was first said.
    pub(super) said: BTreeMap<(u16, String), Nanos>,
}

/// Most of what recorders say that is kept: they say the same again in every segment.
const MAX_SAID: usize = 256;

impl ReadReport {
    fn hear(&mut self, tape: u16, event: &Event) {
        if event.kind != EventKind::Recorder {
            return;
        }
        let said = (tape, event.message.clone());
        if self.said.len() < MAX_SAID || self.said.contains_key(&said) {
            let first = self.said.entry(said).or_insert(event.at);
            *first = event.at.min(*first);
        }
    }
}

impl<'j> Tapes<'j> {
    /// Opens the first file of each source.
    pub(super) fn open(
        job: &'j Job,
        progress: &'j Progress,
        events: &'j mut EventTable,
        lanes: &mut Lanes<'_>,
    ) -> Result<Self, WorkerGone> {
        let mut number = 0_u16;
        let tapes = job.sources.iter().map(|source| {
            let files: Vec<(u16, &Path)> = source
                .files
                .iter()
                .map(|path| {
                    let file = number;
                    // The job has checked that there are no more than 16 bits can number.
                    number = number.wrapping_add(1);
                    (file, path.as_path())
                })
                .collect();
            Tape {
                files: files.into_iter(),
                open: None,
                head: None,
            }
        });
        let mut this = Self {
            tapes: tapes.collect(),
            heads: BinaryHeap::new(),
            source: ChunkSource {
                chunks: Chunks::new(job.sources.len()),
                progress,
                events,
                serial: 0,
                report: ReadReport::default(),
            },
        };
        for tape in 0..this.tapes.len() {
            this.advance(u16::try_from(tape).unwrap_or(u16::MAX), lanes)?;
        }
        Ok(this)
    }

    /// The next packets in time, or `None` at the end of all tapes. Within one tape the order is the tape's own, whose
    /// small disorder (packets of several processors) the reassembly takes.
    pub(super) fn next_run(&mut self, lanes: &mut Lanes<'_>) -> Result<Option<Run>, WorkerGone> {
        let Some(Reverse((_, tape))) = self.heads.pop() else {
            return Ok(None);
        };
        let bound = self.heads.peek().map(|Reverse(head)| *head);
        let Some(head) = self
            .tapes
            .get_mut(usize::from(tape))
            .and_then(|t| t.head.as_mut())
        else {
            return Ok(None);
        };
        let start = head.next;
        let waiting = head.chunk.packets.get(start..).unwrap_or_default();
        let count = match bound {
            None => waiting.len(),
            // The first packet was the least of all heads; it goes even if its tape is out of order.
            Some(bound) => {
                1 + waiting
                    .iter()
                    .skip(1)
                    .take_while(|p| (p.ts, tape) <= bound)
                    .count()
            }
        };
        head.next = start + count;
        let run = Run {
            tape,
            file: head.file,
            serial: head.serial,
            chunk: Arc::clone(&head.chunk),
            packets: start..head.next,
        };
        match head.chunk.packets.get(head.next) {
            Some(next) => self.heads.push(Reverse((next.ts, tape))),
            None => self.advance(tape, lanes)?,
        }
        Ok(Some(run))
    }

    /// What was read in all.
    pub(super) fn report(self) -> ReadReport {
        self.source.report
    }

    /// Brings a tape to its next chunk that has packets.
    fn advance(&mut self, tape: u16, lanes: &mut Lanes<'_>) -> Result<(), WorkerGone> {
        let Some(entry) = self.tapes.get_mut(usize::from(tape)) else {
            return Ok(());
        };
        entry.head = None;
        entry.head = self.source.next_chunk(tape, entry, lanes)?;
        if let Some(first) = entry.head.as_ref().and_then(|head| head.chunk.packets.first()) {
            self.heads.push(Reverse((first.ts, tape)));
        }
        Ok(())
    }
}

/// One source: the files that are still to come, the one that is open, and the chunk whose packets are next.
struct Tape<'j> {
    files: std::vec::IntoIter<(u16, &'j Path)>,
    open: Option<OpenFile<'j>>,
    head: Option<Head>,
}

struct OpenFile<'j> {
    number: u16,
    path: &'j Path,
    reader: ChunkReader<Counted<'j>>,
}

struct Head {
    file: u16,
    serial: u64,
    chunk: Arc<Lease>,
    next: usize,
}

/// A file whose progress is told as its bytes are read, compressed or not.
struct Counted<'j> {
    file: File,
    progress: &'j Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(space)?;
        self.progress.read(read as u64);
        Ok(read)
    }
}

/// Fills chunks from files.
struct ChunkSource<'j> {
    chunks: Chunks,
    progress: &'j Progress,
    /// Where events go: they are few, and none of a worker's.
    events: &'j mut EventTable,
    serial: u64,
    report: ReadReport,
}

impl<'j> ChunkSource<'j> {
    fn next_chunk(
        &mut self,
        number: u16,
        tape: &mut Tape<'j>,
        lanes: &mut Lanes<'_>,
    ) -> Result<Option<Head>, WorkerGone> {
        let mut chunk = match self.chunks.take() {
            Some(chunk) => chunk,
            None => {
                // All are out. Once nothing waits here, workers give theirs back.
                lanes.flush()?;
                loop {
                    match self.chunks.take() {
                        Some(chunk) => break chunk,
                        None if lanes.help()? => {}
                        None => break self.chunks.wait(),
                    }
                }
            }
        };
        loop {
            let Some(open) = &mut tape.open else {
                let Some((file, path)) = tape.files.next() else {
                    self.chunks.give_back(chunk);
                    return Ok(None);
                };
                tape.open = self.open(file, path);
                continue;
            };
            let read = open.reader.next_chunk(&mut chunk);
            if matches!(read, Ok(true)) {
                chunk
                    .events
                    .iter()
                    .for_each(|event| self.report.hear(number, event));
                self.events.take(number, &mut chunk.events);
            }
            match read {
                Ok(true) if chunk.packets.is_empty() => {}
                Ok(true) => {
                    self.serial += 1;
                    let chunk = self.chunks.lend(chunk);
                    return Ok(Some(Head {
                        file: open.number,
                        serial: self.serial,
                        chunk,
                        next: 0,
                    }));
                }
                Ok(false) => self.close(tape.open.take()),
                Err(error) => {
                    self.report
                        .problems
                        .push(format!("{}: {error}", open.path.display()));
                    self.close(tape.open.take());
                }
            }
        }
    }

    fn open(&mut self, number: u16, path: &'j Path) -> Option<OpenFile<'j>> {
        let opened = File::open(path).map_err(Into::into).and_then(|file| {
            ChunkReader::new(Counted {
                file,
                progress: self.progress,
            })
        });
        match opened {
            Ok(reader) => Some(OpenFile { number, path, reader }),
            Err(error) => {
                self.report.problems.push(format!("{}: {error}", path.display()));
                None
            }
        }
    }

    fn close(&mut self, file: Option<OpenFile<'j>>) {
        let Some(OpenFile { path, reader, .. }) = file else {
            return;
        };
        let counters = reader.counters();
        self.report.lost += reader.losses();
        if let Some(damage) = reader.damage() {
            self.report.problems.push(format!(
                "{}: damaged at byte {}: {}; {} bytes could not be read",
                path.display(),
                damage.at,
                damage.reason,
                counters.unread_bytes
            ));
        } else if counters.unread_bytes > 0 {
            self.report.problems.push(format!(
                "{}: ends inside of a block; {} bytes could not be read",
                path.display(),
                counters.unread_bytes
            ));
        }
        for (name, count) in named(&counters) {
            *self.report.counters.entry(format!("read.{name}")).or_default() += count;
        }
    }
}

/// A reader's counts that an answer may have to mention.
fn named(counters: &ReadCounters) -> [(&'static str, u64); 12] {
    [
        ("packets", counters.packets),
        ("bytes", counters.bytes),
        ("packets_without_time", counters.without_time),
        ("overlong_packets", counters.overlong),
        ("unreadable_packets", counters.unreadable),
        ("unknown_blocks", counters.unknown),
        ("foreign_custom_blocks", counters.custom),
        ("unreadable_names", counters.bad_names),
        ("refused_names", counters.names_refused),
        ("unreadable_events", counters.bad_events),
        ("damaged_files", counters.damaged),
        ("unread_bytes", counters.unread_bytes),
    ]
}
