//! `wiretape-bench cut`: how long it takes to hold a whole tape, what that does to the recording, and to give it out.

mod disturbance;
mod export;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use wiretape_figures::{Figure, Goal, median};
use wiretape_tape::{Cut, Direction, LinkType, Nanos, Packet, Tape, TapeOptions};

use crate::scratch::Scratch;

/// What an agent has by default.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of a packet: a full Ethernet frame without its header.
const PACKET: usize = 1500;
/// Packets go to so many ports in turn, so that a filter on one takes one in a hundred.
const PORTS: u16 = 100;
/// The first of them.
const FIRST_PORT: u16 = 1000;
/// The port that they come from.
const CLIENT_PORT: u16 = 9;
/// Time of the first packet; any will do.
const START: Nanos = 1_767_225_600_000_000_000;
/// Nanoseconds from packet to packet: 1.2 Gbit/s.
const PACE: Nanos = 10_000;
/// Cuts that are timed; the median is told.
const CUTS: usize = 9;

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// Length of the tape in GiB.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    gigabytes: u64,
    /// Leave out the exports, which need as much room again.
    #[arg(long)]
    no_export: bool,
    /// Where the tape is put; removed afterwards.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    let dir = Scratch::new(&options.dir)?;
    let tape_options = || TapeOptions {
        ring_bytes: options.gigabytes << 30,
        segment_bytes: SEGMENT_BYTES,
        ..TapeOptions::new(
            dir.path(),
            "bench",
            concat!("wiretape-bench ", env!("CARGO_PKG_VERSION")),
        )
    };

    eprintln!(
        "filling a tape of {} GiB in {}",
        options.gigabytes,
        dir.path().display()
    );
    let begun = Instant::now();
    let mut tape = Tape::open(tape_options(), START)?;
    let end = fill(&mut tape, options.gigabytes << 30)?;
    tape.seal()?;
    let filled = begun.elapsed().as_secs_f64();

    // As an agent that was started again does, so that nothing is known but what is on disk.
    let begun = Instant::now();
    let mut tape = Tape::open(tape_options(), end)?;
    let opened = begun.elapsed().as_secs_f64();
    // Some packets that no flush has reached: a cut has to bring them to disk.
    let end = record(&mut tape, end, 500)?;

    let shelf = tape.shelf();
    let before = blocks(dir.path())?;
    let mut times = Vec::new();
    let mut cut = Cut::default();
    for number in 0..CUTS {
        let id = format!("bench-{number}");
        let begun = Instant::now();
        cut = shelf.cut(&id, START, end + 1, end)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        held_by_links(dir.path(), &cut)?;
        if number + 1 < CUTS {
            shelf.release(&id)?;
        }
    }
    // What a cut adds on disk: its manifest and the flushed packets, and no copy of anything.
    let added = blocks(dir.path())?.saturating_sub(before);
    let bytes: u64 = cut.segments.iter().map(|segment| segment.bytes).sum();
    let packets: u64 = cut.segments.iter().map(|segment| segment.packets).sum();
    let exports = if options.no_export {
        Vec::new()
    } else {
        export::measure(&dir, &cut)?
    };
    shelf.release(&cut.id)?;
    let disturbance = disturbance::measure(&mut tape, end)?;

    let mut figures = vec![
        Figure::new("time of a cut", median(times.iter().copied()), "ms").goal(Goal::Below(100.0)),
        Figure::new("slowest cut", times.iter().copied().fold(0.0, f64::max), "ms").goal(Goal::Below(100.0)),
        Figure::new("bytes held", bytes as f64 / f64::from(1 << 20), "MiB"),
        Figure::new("packets held", packets as f64, "packets"),
        Figure::new(
            "segments held, each by a second link",
            cut.segments.len() as f64,
            "files",
        ),
        Figure::new("disk taken while held", added as f64 / 1024.0, "KiB").goal(Goal::Below(1024.0)),
        Figure::new("time to open the tape", opened * 1e3, "ms"),
        Figure::new("writing speed while filling", bytes as f64 / 1e6 / filled, "MB/s"),
    ];
    figures.extend(disturbance);
    figures.extend(exports);
    wiretape_figures::print(&figures, options.json)
}

/// Records until the ring is full, and a little less than its oldest segment would be taken.
fn fill(tape: &mut Tape, ring_bytes: u64) -> Result<Nanos> {
    let goal = ring_bytes - SEGMENT_BYTES / 2;
    let mut now = START;
    while tape.shelf().boundaries().bytes < goal {
        now = record(tape, now, 1000)?;
    }
    Ok(now)
}

/// Records some packets, each different from the one before it; returns the time after the last.
fn record(tape: &mut Tape, start: Nanos, packets: u64) -> Result<Nanos> {
    let mut data = datagram();
    let mut now = start;
    for number in 0..packets {
        now += PACE;
        // At most PORTS.
        let port = FIRST_PORT + (number % u64::from(PORTS)) as u16;
        for (at, bytes) in [(22, &port.to_be_bytes()[..]), (28, &now.to_be_bytes()[..])] {
            if let Some(place) = data.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        tape.append(&Packet {
            ts: now,
            data: &data,
            orig_len: PACKET as u32,
            link: LinkType::RAW,
            ifindex: 2,
            direction: Direction::Out,
            cgroup: 4711,
            cookie: 1,
            dropped: None,
        })?;
    }
    Ok(now)
}

/// IPv4 (RFC 791) and UDP (RFC 768) from port 9 of one host to another; the port is filled in for each packet.
fn datagram() -> [u8; PACKET] {
    let mut data = [0x5A; PACKET];
    let [high, low] = (PACKET as u16).to_be_bytes();
    let [udp_high, udp_low] = (PACKET as u16 - 20).to_be_bytes();
    let head = [
        0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 0, udp_high,
        udp_low, 0, 0,
    ];
    for (place, byte) in data.iter_mut().zip(head) {
        *place = byte;
    }
    data
}

/// Every segment of the cut is the ring's own file under a second name.
fn held_by_links(dir: &Path, cut: &Cut) -> Result<()> {
    for segment in &cut.segments {
        let ring = fs::metadata(dir.join(&segment.name))?;
        let held = fs::metadata(dir.join("cuts").join(&cut.id).join(&segment.name))?;
        ensure!(
            ring.ino() == held.ino() && held.nlink() == 2,
            "{} is not the ring's own file",
            segment.name
        );
    }
    Ok(())
}

/// Bytes that the files of a folder take on disk, each file once however many names it has.
fn blocks(dir: &Path) -> Result<u64> {
    let mut seen = std::collections::HashMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            // `st_blocks` counts 512 bytes, whatever the file system's own block is (stat(2)).
            seen.insert(metadata.ino(), metadata.blocks() * 512);
        }
    }
    Ok(seen.values().sum())
}
