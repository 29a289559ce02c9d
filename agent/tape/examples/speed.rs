//! How fast a tape is written, cut and read back: `cargo run --release --example speed [FOLDER] [MIB]`.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use wiretape_tape::{Chunk, Direction, LinkType, Packet, Tape, TapeOptions, open};

/// Mean length of a packet in the project's benchmark capture: 150 MB in 400 thousand packets.
const MEAN: usize = 375;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let kept = tempfile::tempdir()?;
    let dir = arguments
        .next()
        .map_or_else(|| kept.path().to_owned(), PathBuf::from);
    let mebibytes: u64 = arguments.next().map_or(Ok(150), |text| text.parse())?;

    let packets = (mebibytes << 20) / (MEAN as u64 + 72);
    let options = TapeOptions {
        ring_bytes: 4 << 30,
        ..TapeOptions::new(&dir, "node-1", "wiretape-speed")
    };
    let mut tape = Tape::open(options, 0)?;
    let data = vec![0x45; 2 * MEAN];
    let begun = (Instant::now(), cpu()?);
    for n in 0..packets {
        let length = MEAN / 2 + (n as usize * 7919) % MEAN;
        tape.append(&Packet {
            ts: 1_700_000_000_000_000_000 + n * 1000,
            data: data.get(..length).unwrap_or(&data),
            orig_len: length as u32,
            link: LinkType::RAW,
            ifindex: 2,
            direction: if n % 2 == 0 { Direction::In } else { Direction::Out },
            cgroup: 4242,
            cookie: n,
            dropped: None,
        })?;
    }
    tape.flush()?;
    let (wall, used) = (begun.0.elapsed(), cpu()? - begun.1);
    let shelf = tape.shelf();
    let bytes = shelf.boundaries().bytes;
    println!(
        "wrote  {packets} packets, {} MB: {wall:?}, {:?} of CPU, {:?} of CPU a packet",
        bytes / 1_000_000,
        used,
        used / packets as u32
    );

    let begun = Instant::now();
    let cut = shelf.cut("speed", 0, u64::MAX, 0)?;
    println!("cut    {} segments: {:?}", cut.segments.len(), begun.elapsed());

    for round in ["cold", "warm"] {
        let begun = (Instant::now(), cpu()?);
        let mut read = 0;
        let mut chunk = Chunk::default();
        for segment in &cut.segments {
            let mut reader = open(&dir.join(&segment.name))?;
            while reader.next_chunk(&mut chunk)? {
                black_box(&chunk.packets);
            }
            read += reader.counters().packets;
        }
        let wall = begun.0.elapsed();
        let rate = bytes as f64 / 1e6 / wall.as_secs_f64();
        println!(
            "read   {read} packets ({round}): {wall:?}, {:?} of CPU, {rate:.0} MB/s",
            cpu()? - begun.1
        );
    }
    shelf.release("speed")?;
    Ok(())
}

/// CPU time of this process, in ticks of a hundredth of a second.
fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let ticks: u64 = stat
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}
