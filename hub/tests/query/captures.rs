//! Captures and dissections for the tests of this folder, through the real writer of tapes.

use std::path::{Path, PathBuf};

use serde_json::Value;
use wiretape_dissect::Direction;
use wiretape_dissect::testing::{Recorded, Talk};
use wiretape_hub::calls::NodeName;
use wiretape_hub::dissections::{self, Job, Progress, Source, Summary};
use wiretape_hub::query::{self, CallsPage, CallsQuery, Database, Format};
use wiretape_tape::{DropReason, Event, LinkType, Name, Packet, Tape, TapeOptions};

/// When the tests' traffic begins: 2023-11-14 22:13:20 UTC.
pub const START: u64 = 1_700_000_000_000_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// Records packets onto a node's tape in `dir`, and returns its segments.
pub fn tape(dir: &Path, node: &str, packets: &[Recorded]) -> Source {
    named_tape(dir, node, packets, &[])
}

/// The same, with names that the agent knew.
pub fn named_tape(dir: &Path, node: &str, packets: &[Recorded], names: &[Name]) -> Source {
    let packets = packets.iter().map(|packet| (packet, None));
    write_tape(dir, node, packets, names, &[])
}

/// A tape on which events stand, too.
pub fn tape_with_events(dir: &Path, node: &str, packets: &[Recorded], events: &[Event]) -> Source {
    let packets = packets.iter().map(|packet| (packet, None));
    write_tape(dir, node, packets, &[], events)
}

/// A tape of which some packets were dropped by the kernel.
pub fn tape_with_drops(dir: &Path, node: &str, packets: &[(Recorded, Option<DropReason>)]) -> Source {
    let packets = packets.iter().map(|(packet, dropped)| (packet, *dropped));
    write_tape(dir, node, packets, &[], &[])
}

fn write_tape<'a>(
    dir: &Path,
    node: &str,
    packets: impl Iterator<Item = (&'a Recorded, Option<DropReason>)>,
    names: &[Name],
    events: &[Event],
) -> Source {
    let folder = dir.join("segments").join(node);
    let mut options = TapeOptions::new(&folder, node, "wiretape-agent 0.1.0 (test)");
    // Several segments of even a small tape.
    options.segment_bytes = 64 << 10;
    let mut tape = Tape::open(options, START).unwrap();
    for name in names {
        tape.name(name).unwrap();
    }
    for event in events {
        tape.event(event).unwrap();
    }
    for (packet, dropped) in packets {
        let direction = match packet.direction {
            Direction::Unknown => wiretape_tape::Direction::Unknown,
            Direction::In => wiretape_tape::Direction::In,
            Direction::Out => wiretape_tape::Direction::Out,
        };
        let packet = Packet {
            ts: packet.ts,
            data: &packet.data,
            orig_len: packet.orig_len,
            link: LinkType::RAW,
            ifindex: packet.interface,
            direction,
            cgroup: packet.cgroup,
            cookie: 0,
            dropped,
        };
        tape.append(&packet).unwrap();
    }
    tape.seal().unwrap();
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcapng"))
        .collect();
    files.sort();
    Source {
        node: node.to_owned(),
        files,
    }
}

/// The folder of a dissection of the snapshot in `dir`.
pub fn dissection(dir: &Path) -> PathBuf {
    dir.join("dissections").join("d")
}

/// Dissects tapes of the snapshot in `dir`.
pub fn dissect(dir: &Path, sources: Vec<Source>, names: Vec<NodeName>) -> (Summary, Database) {
    let job = Job {
        sources,
        names,
        out: dissection(dir),
        threads: 2,
        ..Job::default()
    };
    let summary = dissections::run(&job, &Progress::default()).unwrap();
    (summary, Database::open(&job.out).unwrap())
}

/// Dissects one node's packets.
pub fn dissect_packets(dir: &Path, packets: &[Recorded]) -> Database {
    dissect(dir, vec![tape(dir, "node-1", packets)], Vec::new()).1
}

/// The calls of one filter, in full.
pub async fn ask(db: &Database, kfl: &str) -> CallsPage {
    let query = CallsQuery {
        kfl: Some(kfl.to_owned()),
        format: Format::Full,
        ..CallsQuery::default()
    };
    query::calls(db, &query).await.unwrap()
}

/// Every call with every column, by page.
pub async fn everything(db: &Database) -> Vec<Value> {
    in_pages(db, 7).await
}

/// The same in pages of so many.
pub async fn in_pages(db: &Database, limit: i64) -> Vec<Value> {
    let mut query = CallsQuery {
        format: Format::Raw,
        limit: Some(limit),
        ..CallsQuery::default()
    };
    let mut all = Vec::new();
    loop {
        let page = query::calls(db, &query).await.unwrap();
        all.extend(page.calls);
        if page.cursor.is_none() {
            return all;
        }
        query.cursor = page.cursor;
    }
}

/// A connection with so many calls, each with its number in path and header; every third fails.
pub fn talk(client: &str, server: &str, start: u64, calls: usize) -> Talk {
    let port: u32 = client.rsplit(':').next().unwrap().parse().unwrap();
    let mut talk = Talk::new(client, server, start, (port * 7, port * 11));
    talk.step = 1_000_000;
    talk.handshake();
    for call in 0..calls {
        talk.ask(format!(
            "GET /api/v1/checkout?n={call} HTTP/1.1\r\nHost: shop\r\nX-Request-Id: {client}-{call}\r\n\r\n"
        ));
        let (status, body) = if call % 3 == 2 {
            ("503 Unavailable", "{}")
        } else {
            ("200 OK", r#"{"ok":true}"#)
        };
        let length = body.len();
        talk.answer(format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nX-Request-Id: {client}-{call}\r\n\r\n{body}"
        ));
    }
    talk.close();
    talk
}

/// Packets of several connections, in order of time.
pub fn mixed(talks: impl IntoIterator<Item = Vec<Recorded>>) -> Vec<Recorded> {
    let mut packets: Vec<Recorded> = talks.into_iter().flatten().collect();
    packets.sort_by_key(|packet| packet.ts);
    packets
}
