//! A cut given out as one file: unfiltered against reading the same files, filtered against tcpdump.

use std::fs::{self, File};
use std::io::{Read, sink};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde_json::json;
use wiretape_figures::{Figure, Goal, median};
use wiretape_hub::snapshots::{Connections, Export, Manifest, SEGMENTS, Wanted};
use wiretape_tape::{Cut, Nanos};

use super::{CLIENT_PORT, FIRST_PORT, PORTS};
use crate::scratch::Scratch;
use crate::usage::Cpu;

/// Runs of each side, in turn; the best is told of what waits for the disk, since a virtual machine's host takes back
/// memory that was just forgotten and gives it again at its leisure, and the median of CPU time.
const RUNS: usize = 5;

/// Read at once, as an export does.
const READ: usize = 256 << 10;

/// Folder of the one node.
const NODE: &str = "bench";

/// A snapshot of the cut, by links; then both sides of both comparisons, in turn.
pub fn measure(dir: &Scratch, cut: &Cut) -> Result<Vec<Figure>> {
    let snapshot = dir.folder("snapshot")?;
    let place = snapshot.join(SEGMENTS).join(NODE);
    fs::create_dir_all(&place)?;
    let mut files = Vec::new();
    for segment in &cut.segments {
        let held = dir.path().join("cuts").join(&cut.id).join(&segment.name);
        let path = place.join(&segment.name);
        fs::hard_link(&held, &path)?;
        // What was written is still on its way to the disk, and only what is there can be forgotten.
        File::open(&path)?.sync_all()?;
        files.push(path);
    }
    let manifest: Manifest = serde_json::from_value(json!({
        "version": 1, "id": NODE, "name": NODE, "origin": "cut", "created_at": cut.start,
        "start": cut.start, "end": Nanos::MAX, "status": "completed",
        "nodes": [{ "name": NODE, "folder": NODE, "status": "completed", "cut": true, "segments": cut.segments }],
    }))?;
    let megabytes = cut.segments.iter().map(|segment| segment.bytes).sum::<u64>() as f64 / 1e6;

    eprintln!("exporting {megabytes:.0} MB unfiltered, from the disk");
    let (mut ours, mut disk) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        forget(&files)?;
        disk.push(megabytes / timed(|| read(&files))?.1);
        forget(&files)?;
        let wanted = Wanted {
            pcapng: true,
            ..Wanted::default()
        };
        let (written, seconds) =
            timed(|| Ok(Export::prepare(&snapshot, &manifest, &wanted)?.write(sink())?))?;
        ensure!(
            written as f64 / 1e6 == megabytes,
            "an export of {written} bytes is not whole"
        );
        ours.push(megabytes / seconds);
    }
    let best = |speeds: Vec<f64>| speeds.into_iter().fold(0.0, f64::max);
    let (ours, disk) = (best(ours), best(disk));
    let unfiltered = Figure::new("unfiltered export, from disk", ours, "MB/s")
        .peer("reading the files", disk)
        .goal(Goal::AtLeast(0.8 * disk));

    let filter = format!("udp port {}", FIRST_PORT + PORTS / 2);
    let whole = dir.path().join("whole.pcapng");
    // One section: libpcap 1.10 refuses a file with a second one of raw IP.
    let wanted = Wanted {
        pcapng: true,
        start: Some(0),
        ..Wanted::default()
    };
    Export::prepare(&snapshot, &manifest, &wanted)?.write(File::create(&whole)?)?;
    eprintln!("exporting `{filter}`, from memory");
    let by_bpf = Wanted {
        pcapng: true,
        bpf: Some(filter.clone()),
        ..Wanted::default()
    };
    // What a KFL expression comes to: the connections of the calls that it takes.
    let mut connections = Connections::default();
    let end = |host, port| SocketAddr::from(([10, 0, 0, host], port));
    connections.add(
        "udp",
        (end(1, CLIENT_PORT), end(2, FIRST_PORT + PORTS / 2)),
        (0, Nanos::MAX),
    );
    let by_kfl = Wanted {
        pcapng: true,
        connections: Some(Arc::new(connections)),
        ..Wanted::default()
    };
    let (mut bpf, mut kfl, mut tcpdump) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (theirs, seconds) = by_tcpdump(&whole, &filter)?;
        tcpdump.push(megabytes / seconds);
        for (wanted, speeds) in [(&by_bpf, &mut bpf), (&by_kfl, &mut kfl)] {
            let before = own_cpu()?;
            let taken = Export::prepare(&snapshot, &manifest, wanted)?.write(sink())?;
            speeds.push(megabytes / (own_cpu()? - before));
            ensure!(
                taken > 0 && taken == theirs,
                "we take {taken} packets, tcpdump {theirs}"
            );
        }
    }
    let tcpdump = median(tcpdump);
    let filtered = |name, speeds| {
        Figure::new(name, median(speeds), "MB/CPU-s")
            .peer("tcpdump -r", tcpdump)
            .goal(Goal::AtLeast(tcpdump))
    };
    Ok(vec![
        unfiltered,
        filtered("export by libpcap filter, from memory", bpf),
        filtered("export by KFL's connections, from memory", kfl),
    ])
}

fn own_cpu() -> Result<f64> {
    Ok(Cpu::of_this_process()?.total())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = Instant::now();
    let outcome = work()?;
    Ok((outcome, begun.elapsed().as_secs_f64()))
}

/// Has the kernel drop what it keeps of the files in memory.
fn forget(files: &[PathBuf]) -> Result<()> {
    for path in files {
        posix_fadvise(File::open(path)?, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> Result<()> {
    let mut buffer = vec![0; READ];
    for path in files {
        let mut file = File::open(path)?;
        while file.read(&mut buffer)? > 0 {}
    }
    Ok(())
}

/// tcpdump's own pass over the file; gives the packets that it took, by what it wrote of them, and its CPU seconds.
fn by_tcpdump(file: &Path, filter: &str) -> Result<(u64, f64)> {
    let before = Cpu::of_children()?;
    let mut tcpdump = Command::new("tcpdump")
        .args(["-n", "-r"])
        .arg(file)
        .args(["-w", "-", filter])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("tcpdump cannot be run: apt-get install tcpdump")?;
    let out = tcpdump.stdout.take().context("just asked for")?;
    let mut reader = wiretape_tape::ChunkReader::new(out)?;
    let mut chunk = wiretape_tape::Chunk::default();
    while reader.next_chunk(&mut chunk)? {}
    ensure!(
        tcpdump.wait()?.success(),
        "tcpdump cannot read {}",
        file.display()
    );
    Ok((
        reader.counters().packets,
        Cpu::of_children()?.since(before).total(),
    ))
}
