//! kill -9 at any moment, under load, again and again.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use wiretape_agent::clocks::wall_clock;
use wiretape_tape::{Cut, Nanos};

use crate::common::agent::Agent;
use crate::common::packets::segments;
use crate::common::scene::Scene;
use crate::common::workload::{Workload, bytes};
use crate::{long, numbers_sent};

const SECOND: Nanos = 1_000_000_000;

/// A packet waits for the recorder and for a flush, a second in all by default; the rest is for a machine that is busy
/// with other tests.
const MOST_LOST: Nanos = 2 * SECOND;

/// What each cut is to hold: some 12 MB of the ring's 64.
const CUT: Nanos = 5 * SECOND;

#[test]
fn killed_at_random_moments_it_loses_the_last_second_at_most_and_no_cut() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let rounds: u64 = if long() { 100 } else { 8 };
    let path = cgroup.path.to_string_lossy();
    let sizes = [
        "--tape-size",
        "64MiB",
        "--segment-size",
        "1MiB",
        "--flush",
        "1s",
        "--compress",
    ];
    let flags = [&["--backend", "ebpf", "--cgroup", &path][..], &sizes].concat();
    let crowd = Workload::start("numbered 1000000000 2000 500", &cgroup.child("crowd"), None);
    let mut held: Option<Cut> = None;
    for round in 0..rounds {
        let agent = Agent::start(dir.path(), &flags);
        let known = agent.boundaries().newest;
        agent.wait_for("packets", |agent| agent.boundaries().newest > known);
        // The cut that the agent before made is whole.
        if let Some(cut) = held.take() {
            for info in &cut.segments {
                let answer = agent.get(&format!("/cuts/{}/segments/{}", cut.id, info.name));
                assert_eq!(
                    (answer.status, answer.body.len() as u64),
                    (200, info.bytes),
                    "{info:?}"
                );
            }
            assert_eq!(
                agent
                    .request("DELETE", &format!("/cuts/{}", cut.id), "", b"")
                    .status,
                204
            );
        }
        // Not all of the tape: a cut of more than half of a full ring gives up its oldest segments.
        let start = wall_clock().saturating_sub(CUT);
        let order = serde_json::json!({ "id": format!("round-{round}"), "start": start, "end": u64::MAX });
        let answer = agent.request("POST", "/cuts", "", order.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        held = Some(serde_json::from_slice(&answer.body).expect("a cut"));
        // A moment that no pattern of the agent's own meets.
        let random = bytes(round + 1, 2);
        thread::sleep(Duration::from_millis(
            u64::from(random[0]) * 4 + u64::from(random[1]),
        ));
        let before = wall_clock();
        agent.kill();

        let last = segments(dir.path()).pop().expect("a segment");
        readable(&last);
        // The tape as it lies there, half a block at its end at most.
        let copy = tempfile::tempdir().expect("a folder");
        let copied = copy.path().join("last.pcapng");
        fs::copy(&last, &copied).expect("copied");
        let newest = wiretape_tape::open(&copied).map(|mut reader| {
            let mut chunk = wiretape_tape::Chunk::default();
            let mut newest = 0;
            while reader.next_chunk(&mut chunk).expect("reads on") {
                newest = chunk.packets.iter().map(|meta| meta.ts).fold(newest, Nanos::max);
            }
            newest
        });
        let newest = newest.ok().filter(|newest| *newest > 0).or_else(|| {
            // The segment had only just begun.
            let files = segments(dir.path());
            let before_last = files.iter().rev().nth(1)?;
            numbers_sent(before_last).last().map(|(ts, _)| *ts)
        });
        let newest = newest.expect("packets");
        assert!(
            before.saturating_sub(newest) < MOST_LOST,
            "{} ns lost in round {round}",
            before - newest
        );
    }
    drop(crowd);
    let agent = Agent::start(dir.path(), &flags);
    assert_eq!(agent.conditions(), Vec::<String>::new());
    assert!(agent.stop().success());
    let files = segments(dir.path());
    for file in &files {
        readable(file);
        // Without a hole inside of a segment.
        let numbers = numbers_sent(file);
        for pair in numbers.windows(2) {
            assert_eq!(pair[0].1 + 1, pair[1].1, "{}", file.display());
        }
    }
}

/// tshark reads it to its end; one that was killed ends in half a block, of which tshark says so.
fn readable(file: &std::path::Path) {
    let output = match Command::new("tshark")
        .args(["-n", "-r"])
        .arg(file)
        .args(["-T", "fields", "-e", "frame.number"])
        .output()
    {
        Ok(output) => output,
        Err(error) => return eprintln!("SKIPPED: tshark cannot be run: {error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: Vec<&str> = complaint
        .lines()
        .filter(|line| !line.contains("Running as user") && !line.contains("cut short in the middle"))
        .collect();
    assert!(complaint.is_empty(), "{}: {complaint:?}", file.display());
}
