//! Events on the tape: among packets, without any, after a kill, and at their limit.

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::*;
use wiretape_tape::{Chunk, EVENT_BYTES, Event, EventKind, Nanos, Tape, index, open};

fn oom_kill(at: Nanos) -> Event {
    Event {
        at,
        kind: EventKind::OomKill,
        warning: true,
        reason: "OOMKilled".into(),
        message: "payment took more than its 256Mi".into(),
        cgroup: 4001,
        pid: 77,
        process: "payment".into(),
        signal: Some(9),
        pod: "payment-1".into(),
        namespace: "shop".into(),
        ..Event::default()
    }
}

fn refused(at: Nanos) -> Event {
    let end = |last, port| SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), port));
    Event {
        at,
        kind: EventKind::SocketRefused,
        reason: "ECONNREFUSED".into(),
        local: Some(end(1, 40_000)),
        remote: Some(end(2, 80)),
        ..Event::default()
    }
}

fn events(path: &std::path::Path) -> Vec<Event> {
    let mut reader = open(path).expect("a segment");
    let (mut chunk, mut events) = (Chunk::default(), Vec::new());
    while reader.next_chunk(&mut chunk).expect("is read") {
        events.append(&mut chunk.events);
    }
    assert_eq!(reader.counters().events, events.len() as u64);
    assert_eq!((reader.counters().bad_events, reader.counters().custom), (0, 0));
    events
}

#[test]
fn events_stand_among_the_packets_as_they_were_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    record(&mut tape, 0..10);
    tape.event(&oom_kill(START + 10 * STEP)).unwrap();
    record(&mut tape, 10..20);
    tape.event(&refused(START + SECOND)).unwrap();
    tape.seal().unwrap();

    let [file] = &segment_files(dir.path())[..] else {
        panic!("one segment");
    };
    assert_eq!(
        events(file),
        [oom_kill(START + 10 * STEP), refused(START + SECOND)]
    );
    let info = index(file).unwrap().unwrap().info;
    assert_eq!((info.packets, info.events), (20, 2));
    assert_eq!((info.first, info.last), (Some(START), Some(START + SECOND)));
    // Other tools go on reading the packets.
    if let Some(lines) = tool("tshark", &["-n", "-r", file.to_str().unwrap(), "-Y", "ip"]) {
        assert_eq!(lines.len(), 20);
    }
}

#[test]
fn a_tape_of_events_alone_is_cut_and_recovered_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    tape.event(&oom_kill(START)).unwrap();
    tape.flush().unwrap();
    tape.event(&refused(START + SECOND)).unwrap();
    tape.flush().unwrap();
    let cut = tape
        .shelf()
        .cut("one", START, START + SECOND, START + SECOND)
        .unwrap();
    assert_eq!(cut.segments.len(), 1);
    assert_eq!(cut.segments[0].events, 2);
    // As if killed.
    drop(tape);
    let tape = Tape::open(options(dir.path()), START + 2 * SECOND).unwrap();
    assert_eq!(tape.shelf().counters().recovered, 1);
    let [file] = &segment_files(dir.path())[..] else {
        panic!("one segment");
    };
    assert_eq!(events(file).len(), 2);
    assert_eq!(index(file).unwrap().unwrap().info.events, 2);
}

#[test]
fn segments_of_events_alone_come_to_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    for n in 0..10_000 {
        tape.event(&oom_kill(START + n * STEP)).unwrap();
    }
    let shelf = tape.shelf();
    tape.seal().unwrap();
    assert!(shelf.segments().len() > 2);
    assert!(shelf.boundaries().bytes <= 1 << 20, "the ring keeps to its size");
    assert!(shelf.segments().iter().all(|info| info.bytes < 2 * (64 << 10)));
}

#[test]
fn a_message_too_long_is_cut_and_an_event_too_long_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::open(options(dir.path()), START).unwrap();
    let long = "é".repeat(EVENT_BYTES);
    tape.event(&Event {
        message: long.clone(),
        ..oom_kill(START)
    })
    .unwrap();
    tape.event(&Event {
        object: long.clone(),
        ..oom_kill(START)
    })
    .unwrap();
    let shelf = tape.shelf();
    tape.seal().unwrap();
    let counters = shelf.counters();
    assert_eq!((counters.events, counters.events_lost), (1, 1));
    let told = events(&segment_files(dir.path())[0]);
    assert_eq!(told.len(), 1);
    assert!(told[0].message.len() > 1000 && long.starts_with(&told[0].message));
}

#[test]
fn an_event_of_a_later_version_is_read_as_far_as_it_is_known() {
    let event: Event =
        serde_json::from_str(r#"{"kind":"disk_pressure","reason":"x","colour":"red"}"#).unwrap();
    assert_eq!((event.kind, event.reason.as_str()), (EventKind::Other, "x"));
}
