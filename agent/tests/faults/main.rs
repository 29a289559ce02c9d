//! Faults, each on real parts: the agent as a process, its kernel programs, disks, clocks, interfaces and hubs that do
//! what they should not.
//!
//! `WIRETAPE_LONG=1` has the heavy ones run as long as issue and patience ask for.

#[path = "../common/mod.rs"]
mod common;

mod double;

mod load;

mod network;

mod disk;

mod clock;

mod killed;

mod hub;

use std::path::Path;

use common::agent::Agent;
use wiretape_tape::{Chunk, Direction, Nanos};

#[test]
fn workload_process() {
    common::workload::main();
}

/// Whether the heavy tests run in full.
fn long() -> bool {
    std::env::var_os("WIRETAPE_LONG").is_some()
}

/// Time and number of each numbered datagram that was sent, as the file holds them.
fn numbers_sent(path: &Path) -> Vec<(Nanos, u64)> {
    let mut reader = wiretape_tape::open(path).expect("a capture file");
    let (mut chunk, mut found) = (Chunk::default(), Vec::new());
    while reader.next_chunk(&mut chunk).expect("reads on") {
        let sent = chunk
            .packets
            .iter()
            .filter(|meta| meta.direction == Direction::Out);
        for meta in sent {
            let number = chunk.data(meta).get(28..36).expect("a numbered datagram");
            found.push((
                meta.ts,
                u64::from_be_bytes(number.try_into().expect("eight bytes")),
            ));
        }
    }
    assert!(reader.damage().is_none(), "{:?}", reader.damage());
    found
}

/// The same of everything that a cut made now holds.
fn all_numbers(agent: &Agent, id: &str) -> Vec<(Nanos, u64)> {
    let fetched = tempfile::tempdir().expect("a folder");
    let segments = agent.collect(id, fetched.path());
    segments.iter().flat_map(|path| numbers_sent(path)).collect()
}
