//! Dissections: a snapshot's segments in, the table of its calls out.
//!
//! The caller's thread reads all tapes, merges them by time and routes each packet to a shard; batches of packets go
//! to workers, each of which owns some shards, turns their calls into rows and writes its own part of the table. Threads see
//! to whichever worker has something to do, and so does the reader when it is ahead.
//! All state is per shard and the number of shards is fixed, so the calls do not depend on the number of threads.
//! Nothing is visible under its name until all of it is on disk.

mod job;

mod tapes;

mod missing;

mod chunks;

mod lanes;

mod crew;

mod clocks;

mod worker;

mod publish;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wiretape_dissect::{Counters, Direction, Link, Packet, Resolution, Routed, Router};
use wiretape_tape::{LinkType, Nanos};

pub use clocks::{Clocks, OneClock};
pub use job::{FileSummary, Job, JobError, MAX_FILES, MAX_SOURCES, Partial, Progress, Said, Source, Summary};
pub use publish::{CONNECTIONS, EVENTS, NAMES, SUMMARY, TABLES};

use crate::calls::dns::{DnsCounters, DnsNames};
use crate::calls::{
    ConnectionRows, EventTable, KnownName, NameRows, Names, NodeName, PartWriter, Rows, packets, schema,
};
use crate::losses;
use clocks::Ways;
use lanes::{Lanes, Place, Unit, WorkerGone};
use missing::CutShort;
use publish::Unpublished;
use tapes::{ReadReport, Run, Tapes};
use worker::{Worker, WorkerReport};

/// Most workers, and threads: more than one that reads can feed, for reading takes a fifth of all time. Each holds some
/// 15 MiB, of pages, of batches that wait, and of what its thread's allocator keeps at hand.
pub const MAX_WORKERS: usize = 8;

/// How often workers that have nothing to do hear how far the reader is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Dissects. Blocks until it is done; to be called on a thread of its own, never on an async worker.
///
/// Writes `calls/`, `connections/`, `names/` and `events/` in [`Job::out`], under temporary names until they are whole: the parts of the tables,
/// and the summary that is also returned. Damage in a file costs the rest of that file and is told in [`Summary::problems`].
///
/// # Errors
/// See [`JobError`]. None leaves anything behind.
pub fn run(job: &Job, progress: &Progress) -> Result<Summary, JobError> {
    let files: Vec<(&str, &Path)> = job
        .sources
        .iter()
        .flat_map(|source| {
            source
                .files
                .iter()
                .map(|file| (source.node.as_str(), file.as_path()))
        })
        .collect();
    check(job, files.len())?;
    // A file that cannot be looked at is told by the reader, which gets to it later.
    let sizes: Vec<u64> = files
        .iter()
        .map(|(_, file)| file.metadata().map_or(0, |m| m.len()))
        .collect();
    let folder = Unpublished::create(&job.out)?;
    let begun = begin(job, &files, &sizes);
    progress.begin(begun.clone());

    let names = Arc::new(Names::new(gather_names(job)));
    let tables = progress.tables();
    let mut known = PartWriter::create(&folder.names_part(), NameRows::default(), 1)?.growing(tables)?;
    for name in names.all() {
        known.push(&[KnownName::Told(Box::new(name.clone()))])?;
    }
    known.end_row_group()?;
    let nodes: Arc<[String]> = job.sources.iter().map(|source| source.node.clone()).collect();
    let mut events = EventTable::create(
        &folder.events_part(),
        Arc::clone(&names),
        Arc::clone(&nodes),
        job.window,
        tables,
    )?;
    let workers = job.threads.clamp(1, MAX_WORKERS);
    tables.workers(workers);
    let make_worker = |number: usize| {
        let rows = Rows::new(Arc::clone(&names), Arc::clone(&nodes));
        let part = PartWriter::create(&folder.part(number), rows, workers)?.growing(tables)?;
        let rows = ConnectionRows::new(Arc::clone(&names), Arc::clone(&nodes));
        let connections = PartWriter::create(&folder.connections_part(number), rows, workers)?;
        let connections = connections.growing(tables)?;
        Ok::<_, JobError>(Worker::new(number, workers, job, progress, part, connections))
    };
    let workers = (0..workers).map(make_worker).collect::<Result<Vec<_>, _>>()?;
    let (read, mut dissected) = dissect(job, progress, &names, &mut events, workers)?;
    if progress.is_cancelled() {
        return Err(JobError::Cancelled);
    }
    for resolved in names.dns().all() {
        known.push(&[KnownName::Dns(resolved)])?;
    }
    let mut written = vec![known.finish()?];
    let mut ways = Ways::default();
    dissected.iter().for_each(|report| ways.merge(&report.ways));
    dissected
        .iter_mut()
        .for_each(|report| written.append(&mut report.written));
    let mut summary = summarise(job, read, dissected);
    let (stored, part) = events.finish()?;
    summary.events = stored;
    written.push(part);
    count_dns(&mut summary, names.dns().counters());
    summary.clocks = ways.clocks(&nodes);
    summary.bytes = begun.bytes;
    summary.files = begun.files;
    folder.publish(&summary, &written)?;
    Ok(summary)
}

/// What is known of a job before its first packet.
fn begin(job: &Job, files: &[(&str, &Path)], sizes: &[u64]) -> Summary {
    let files = files.iter().zip(sizes).map(|((node, path), bytes)| FileSummary {
        node: (*node).to_owned(),
        path: publish::stored_path(&job.out, path),
        bytes: *bytes,
    });
    Summary {
        schema: schema::VERSION,
        files: files.collect(),
        bytes: sizes.iter().sum(),
        window: job.window,
        lost_packets: losses::lost(&job.losses),
        losses: job.losses.clone(),
        problems: job.problems.clone(),
        ..Summary::default()
    }
}

fn check(job: &Job, files: usize) -> Result<(), JobError> {
    if files == 0 {
        return Err(JobError::NoFiles);
    }
    for (what, count, limit) in [
        ("files", files, MAX_FILES),
        ("sources", job.sources.len(), MAX_SOURCES),
    ] {
        if count > limit {
            return Err(JobError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

/// The job's names, and those that stand in its files: a snapshot's manifest has them already, a file that was copied
/// by hand has only its own. Read before the first packet, so that what a call is named does not depend on the order
/// in which threads come to it. A file that cannot be read is told when its packets are read.
fn gather_names(job: &Job) -> Vec<NodeName> {
    let mut names = Vec::new();
    for source in &job.sources {
        for file in &source.files {
            let index = wiretape_tape::index(file).ok().flatten().map(|index| index.names);
            let told = index
                .or_else(|| wiretape_tape::head_names(file).ok())
                .unwrap_or_default();
            names.extend(told.into_iter().map(|name| NodeName {
                node: source.node.clone(),
                name,
            }));
        }
    }
    // Told last, when the window was cut, and so with the ends of names that segments do not know.
    names.extend(job.names.iter().cloned());
    names
}

/// Reads here, and dissects on as many threads as there are workers, this one among them.
fn dissect(
    job: &Job,
    progress: &Progress,
    names: &Names,
    events: &mut EventTable,
    workers: Vec<Worker<'_>>,
) -> Result<(Routes, Vec<WorkerReport>), JobError> {
    let others = workers.len() - 1;
    let (mut lanes, crew) = Lanes::new(workers, others == 0);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 1..=others {
            let name = format!("dissect-{number}");
            let crew = crew.clone();
            let thread = thread::Builder::new()
                .name(name.clone())
                .spawn_scoped(scope, move || crew.live())
                .map_err(|e| JobError::io("start a thread for", &job.out, e))?;
            threads.push((name, thread));
        }
        let read = read(job, progress, names, events, &mut lanes);
        // The others' lives end here, too, once they have seen to all workers.
        let mut reports = lanes.finish();
        for (name, thread) in threads {
            let theirs = thread.join().map_err(|panic| JobError::Panicked {
                thread: name,
                message: last_words(panic.as_ref()),
            })?;
            reports = reports.and_then(|mut reports| {
                reports.append(&mut theirs?);
                Ok(reports)
            });
        }
        match read {
            Ok(read) => Ok((read, reports?)),
            Err(WorkerGone) => {
                reports?;
                Err(JobError::Cancelled)
            }
        }
    })
}

fn last_words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// What the reading thread saw.
#[derive(Default)]
struct Routes {
    read: ReadReport,
    packets: u64,
    first: Option<Nanos>,
    last: Option<Nanos>,
    /// Of each tape, the time of its last packet.
    ends: Vec<Nanos>,
    unknown_link: u64,
    dropped: u64,
    route: BTreeMap<&'static str, u64>,
    cut_short: CutShort,
}

/// The reading thread: every packet of every tape, in order of time, to its shard's worker.
fn read(
    job: &Job,
    progress: &Progress,
    names: &Names,
    events: &mut EventTable,
    lanes: &mut Lanes<'_>,
) -> Result<Routes, WorkerGone> {
    let mut tapes = Tapes::open(job, progress, events, lanes)?;
    let mut router = Router::of_tapes(job.sources.len());
    let mut routes = Routes {
        ends: vec![0; job.sources.len()],
        ..Routes::default()
    };
    let mut serial = None;
    let mut told = Instant::now();
    while let Some(run) = tapes.next_run(lanes)? {
        if progress.is_cancelled() {
            return Err(WorkerGone);
        }
        // A look at the clock for a chunk, not for a packet.
        if serial.replace(run.serial) != Some(run.serial) && told.elapsed() >= TELL_EVERY {
            lanes.tell(routes.last.unwrap_or_default())?;
            told = Instant::now();
        }
        route(job, &run, names.dns(), &mut router, &mut routes, lanes)?;
        progress.routed(run.packets.len() as u64);
    }
    lanes.flush()?;
    progress.read_until(std::mem::take(&mut routes.ends));
    routes.read = tapes.report();
    routes.route = router.counters().iter().collect();
    Ok(routes)
}

fn route(
    job: &Job,
    run: &Run,
    dns: &DnsNames,
    router: &mut Router,
    routes: &mut Routes,
    lanes: &mut Lanes<'_>,
) -> Result<(), WorkerGone> {
    let packets = run.chunk.packets.get(run.packets.clone()).unwrap_or_default();
    if let Some(end) = routes.ends.get_mut(usize::from(run.tape)) {
        *end = packets.iter().map(|meta| meta.ts).fold(*end, Nanos::max);
    }
    for meta in packets {
        routes.packets += 1;
        // Packets without a time (Simple Packet Blocks) say nothing about when.
        if meta.ts > 0 {
            routes.first = Some(routes.first.map_or(meta.ts, |first| first.min(meta.ts)));
            routes.last = Some(routes.last.map_or(meta.ts, |last| last.max(meta.ts)));
        }
        // It is what this end never had, however often it was sent to it: its sender's tape has it as sent.
        if meta.dropped.is_some() {
            routes.dropped += 1;
            continue;
        }
        if usize::try_from(meta.orig_len).is_ok_and(|length| length > meta.data.len()) {
            routes.cut_short.add(job, run.tape, meta.ts);
        }
        let Some(link) = link(meta.link) else {
            routes.unknown_link += 1;
            continue;
        };
        let packet = Packet {
            ts: meta.ts,
            data: run.chunk.data(meta),
            orig_len: meta.orig_len,
            link,
            direction: direction(meta.direction),
            tape: run.tape,
            interface: meta.interface,
            cgroup: meta.cgroup,
            at: packets::location(run.file, meta.at),
        };
        let place = Place {
            tape: run.tape,
            serial: run.serial,
            chunk: &run.chunk,
            start: meta.data.start,
            end: meta.data.end,
        };
        match router.route(&packet) {
            Routed::Segment { shard, segment } => {
                note(dns, run.tape, routes.last, || {
                    Resolution::of_segment(&segment, segment.payload(packet.data))
                });
                lanes.packet(shard, Unit::Segment(segment), place)?;
            }
            Routed::Owned {
                shard,
                segment,
                datagram,
            } => lanes.whole(shard, Unit::Segment(segment), datagram)?,
            Routed::Datagram {
                shard,
                datagram,
                whole,
            } => {
                note(dns, run.tape, routes.last, || {
                    let bytes = whole.as_deref().unwrap_or(packet.data);
                    Resolution::of_datagram(&datagram, datagram.payload(bytes))
                });
                let unit = Unit::Datagram(datagram);
                match whole {
                    Some(bytes) => lanes.whole(shard, unit, bytes)?,
                    None => lanes.packet(shard, unit, place)?,
                }
            }
            // The router counts what it holds back and what it skips.
            Routed::Held | Routed::Skipped(_) => {}
        }
    }
    Ok(())
}

/// Notes what an answer of DNS tells, if a packet is one: here, where packets still stand in the order of their time.
fn note(dns: &DnsNames, tape: u16, now: Option<Nanos>, answer: impl FnOnce() -> Option<Resolution>) {
    if let (Some(answer), Some(now)) = (answer(), now) {
        dns.note(&answer, tape, now);
    }
}

fn count_dns(summary: &mut Summary, counted: DnsCounters) {
    let counters = [
        ("names.dns_answers", counted.answers),
        ("names.dns_refused", counted.refused),
    ];
    let counters = counters.map(|(name, count)| (name.to_owned(), count));
    summary.counters.extend(counters);
    if counted.refused > 0 {
        summary.problems.push(format!(
            "{} addresses in answers of DNS found no room: who was reached under which name is not told of those",
            counted.refused
        ));
    }
}

/// How a packet begins, if the dissector knows such packets. Numbers without a name are those of the LINKTYPE registry.
pub(crate) fn link(link: LinkType) -> Option<Link> {
    match link {
        LinkType::RAW | LinkType(12 | 14 | 228 | 229) => Some(Link::Raw),
        LinkType::ETHERNET => Some(Link::Ethernet),
        LinkType::LINUX_SLL => Some(Link::Sll),
        LinkType::LINUX_SLL2 => Some(Link::Sll2),
        LinkType(0 | 108) => Some(Link::Null),
        _ => None,
    }
}

/// The tape's word for a direction in the dissector's.
pub(crate) fn direction(direction: wiretape_tape::Direction) -> Direction {
    match direction {
        wiretape_tape::Direction::Unknown => Direction::Unknown,
        wiretape_tape::Direction::In => Direction::In,
        wiretape_tape::Direction::Out => Direction::Out,
    }
}

fn summarise(job: &Job, routes: Routes, reports: Vec<WorkerReport>) -> Summary {
    let losses = missing::losses(job, &routes);
    let mut counters = routes.read.counters;
    counters.insert("route.unknown_link".to_owned(), routes.unknown_link);
    counters.insert("route.dropped".to_owned(), routes.dropped);
    counters.extend(
        routes
            .route
            .iter()
            .map(|(name, count)| (format!("route.{name}"), *count)),
    );
    let mut problems = job.problems.clone();
    problems.extend(routes.read.problems);
    if routes.unknown_link > 0 {
        problems.push(format!(
            "{} packets are of a link type that is not dissected",
            routes.unknown_link
        ));
    }
    let mut summary = Summary {
        schema: schema::VERSION,
        packets: routes.packets,
        first_ts: routes.first,
        last_ts: routes.last,
        window: job.window,
        lost_packets: losses::lost(&losses),
        losses,
        recorded: recorded(job, routes.read.said),
        problems,
        ..Summary::default()
    };
    let mut dissect = Counters::default();
    let mut outside_window = 0;
    for report in reports {
        dissect.merge(&report.counters);
        outside_window += report.outside_window;
        summary.calls += report.calls;
        summary.connections += report.connections;
        for (protocol, count) in report.protocols {
            *summary.protocol_counts.entry(protocol.to_owned()).or_default() += count;
        }
        summary.first_call = earlier(summary.first_call, report.first_call);
        summary.last_call = summary.last_call.max(report.last_call);
    }
    counters.insert("dissect.calls_outside_window".to_owned(), outside_window);
    counters.extend(
        dissect
            .iter()
            .map(|(name, count)| (format!("dissect.{name}"), count)),
    );
    summary.counters = counters;
    summary
}

/// What the recorders say of what they recorded, the first first.
fn recorded(job: &Job, said: BTreeMap<(u16, String), Nanos>) -> Vec<Said> {
    let mut all: Vec<Said> = said
        .into_iter()
        .map(|((tape, said), since)| Said {
            node: job
                .sources
                .get(usize::from(tape))
                .map(|source| source.node.clone())
                .unwrap_or_default(),
            since,
            said,
        })
        .collect();
    all.sort_by_key(|said| said.since);
    all
}

/// The earlier of two times, where there are any.
fn earlier(a: Option<Nanos>, b: Option<Nanos>) -> Option<Nanos> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
