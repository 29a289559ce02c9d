//! A capture many times over, each time with other addresses and later, to see that memory does not grow with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use wiretape_figures::{Figure, Goal};
use wiretape_tape::Chunk;

use super::capture::Capture;
use super::compare::{megabytes, tell};
use super::kind::Kind;
use super::{Options, ours, pcapng, wire};
use crate::scratch::Scratch;

/// What `--big` without a size goes up to, and the sizes on the way to more.
pub const BIG: &str = "1.5G";
const SIZES: [u64; 3] = [150_000_000, 1_500_000_000, 10_000_000_000];

/// Between one copy and the next.
const PAUSE: u64 = 1_000_000_000;

/// A size in bytes: `150M`, `1.5G`.
pub fn size(text: &str) -> Result<u64, String> {
    let units = [("M", 1e6), ("G", 1e9)].into_iter();
    let mut sizes = units.filter_map(|(unit, bytes)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        (number > 0.0).then_some((number * bytes) as u64)
    });
    sizes
        .next()
        .ok_or_else(|| format!("{text} is no size such as 150M or 10G"))
}

/// Dissects files of growing size, the last one of `most` bytes, once on each number of threads.
///
/// What a process takes to begin and its tables to reach the disk is the same for any size: so how much faster two threads
/// are is told of these, too.
pub fn run(
    kind: Kind,
    capture: &Capture,
    most: u64,
    options: &Options,
    scratch: &Scratch,
) -> Result<Vec<Figure>> {
    let out = scratch.path().join("repeated");
    let once = capture.truth.calls;
    let mut figures = Vec::new();
    for bytes in SIZES.into_iter().filter(|size| *size < most).chain([most]) {
        let copies = ((bytes + capture.bytes / 2) / capture.bytes).max(1);
        let path = scratch.path().join("repeated.pcapng");
        write(capture, copies, &path).with_context(|| format!("writing {}", path.display()))?;
        let written = megabytes(std::fs::metadata(&path)?.len());
        let mut runs = BTreeMap::new();
        for &threads in &options.threads {
            let done = dissect(&path, &out, threads)?;
            let what = format!(
                "{written:.0} MB of {}, wiretape on {threads} thread(s)",
                kind.name()
            );
            tell(&what, &done.usage);
            let found = done.summary.calls;
            // A client has questions of its own, which are in each copy.
            ensure!(
                found >= copies * once && found.is_multiple_of(copies),
                "in {copies} copies of {once} calls we found {found}"
            );
            runs.insert(threads, done.usage);
        }
        std::fs::remove_file(&path)?;
        let title = kind.title();
        let named =
            |name: &str, value, unit| Figure::new(format!("{title}{name} at {written:.0} MB"), value, unit);
        if let (Some(one), Some(two)) = (runs.get(&1), runs.get(&2)) {
            let cpu = written / one.cpu.total();
            figures.push(named("capture per CPU time", cpu, "MB/CPU-s"));
            figures.push(
                named("speed-up, 2 threads against 1,", one.wall / two.wall, "x").goal(Goal::AtLeast(1.9)),
            );
        }
        let peak = runs.values().map(|usage| usage.peak).fold(0.0, f64::max);
        figures.push(named("peak memory", peak, "MiB").goal(Goal::Below(256.0)));
    }
    Ok(figures)
}

fn dissect(path: &Path, out: &Path, threads: usize) -> Result<ours::Run> {
    let done = ours::run(path, out, threads)?;
    std::fs::remove_dir_all(out)?;
    Ok(done)
}

/// Writes so many copies, one behind the other.
fn write(capture: &Capture, copies: u64, path: &Path) -> Result<()> {
    let mut writer = pcapng::Writer::new(BufWriter::with_capacity(1 << 20, File::create(path)?))?;
    let mut chunk = Chunk::default();
    let mut frame = Vec::new();
    let mut later = 0;
    for copy in 0..copies {
        let mut reader = wiretape_tape::open(&capture.path)?;
        let (mut first, mut last) = (u64::MAX, 0);
        while reader.next_chunk(&mut chunk)? {
            for packet in &chunk.packets {
                first = first.min(packet.ts);
                last = last.max(packet.ts);
                frame.clear();
                frame.extend(chunk.data(packet));
                readdress(&mut frame, copy);
                writer.packet(packet.ts + later, &frame)?;
            }
        }
        later += last.saturating_sub(first) + PAUSE;
    }
    writer.finish()?;
    Ok(())
}

/// Moves both ends to a network of the copy's own, with checksums as right (or wrong) as they were.
fn readdress(frame: &mut [u8], copy: u64) {
    let [.., high, low] = copy.to_be_bytes();
    // IPv4 in Ethernet; TCP's or UDP's checksum covers the addresses, too.
    let (Some([0x08, 0x00, 0x45]), Some(&protocol)) = (frame.get(12..15), frame.get(23)) else {
        return;
    };
    let checksums = [24, if protocol == 6 { 50 } else { 40 }];
    for address in [26, 30] {
        let Some(&[first, second]) = frame.get(address..address + 2) else {
            return;
        };
        let moved = [first.wrapping_add(high), second ^ low];
        frame[address..address + 2].copy_from_slice(&moved);
        for at in checksums {
            let Some(&[left, right]) = frame.get(at..at + 2) else {
                continue;
            };
            // RFC 1624, equation 3.
            let sum = u64::from(!u16::from_be_bytes([left, right]))
                + u64::from(!u16::from_be_bytes([first, second]))
                + u64::from(u16::from_be_bytes(moved));
            frame[at..at + 2].copy_from_slice(&wire::fold(sum).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::traffic;

    #[test]
    fn checksums_stay_right_and_ends_apart() {
        let mut ends = std::collections::BTreeSet::new();
        traffic::generate(20, 1, |_, frame| {
            for copy in [0, 1, 300] {
                let mut frame = frame.to_vec();
                readdress(&mut frame, copy);
                assert_eq!(wire::fold(wire::sum(&frame[14..34])), 0);
                let pseudo = wire::sum(&frame[26..34]) + 6 + (frame.len() - 34) as u64;
                assert_eq!(wire::fold(pseudo + wire::sum(&frame[34..])), 0);
                ends.insert((copy, frame[26..30].to_vec()));
            }
            anyhow::Ok(())
        })
        .unwrap();
        let addresses: std::collections::BTreeSet<_> = ends.iter().map(|(_, address)| address).collect();
        assert_eq!(addresses.len(), ends.len());
    }

    #[test]
    fn sizes_as_they_are_written() {
        assert_eq!(size("150M"), Ok(150_000_000));
        assert_eq!(size("1.5G"), Ok(1_500_000_000));
        assert!(size("10").is_err());
        assert!(size("-1G").is_err());
        assert!(size("").is_err());
    }
}
