//! The captures that are dissected: made once, kept, and taken again while their checksums fit.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::{live, pcapng, traffic};
use crate::scratch::Scratch;

/// Calls in a megabyte of the HTTP/1 traffic; 150 MB are 100 thousand calls in about 400 thousand packets.
const CALLS_PER_MEGABYTE: u64 = 667;
/// Any number; always the same, so that runs on different days measure the same bytes.
const SEED: u64 = 20_260_101;

/// A capture on disk with what is known of it.
pub struct Capture {
    /// The pcapng file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it says.
    pub truth: Truth,
}

/// What whoever made a capture knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Packets.
    pub packets: u64,
    /// Requests that were made, each with one answer.
    pub calls: u64,
    /// How many calls each of these filters must find.
    pub answers: BTreeMap<String, u64>,
}

/// Kept beside a capture: what it was made from, and how to know it again.
#[derive(PartialEq, Serialize, Deserialize)]
struct Label {
    /// Version of what made it.
    maker: u32,
    megabytes: u64,
    bytes: u64,
    checksum: u64,
    truth: Truth,
}

/// The capture of about that many megabytes in `dir`, made if it is not there or is not what it should be.
pub fn prepare(dir: &Path, kind: Kind, megabytes: u64) -> Result<Capture> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let path = dir.join(format!("{}-{megabytes}mb.pcapng", kind.name()));
    let label_path = path.with_extension("json");
    let maker = match kind {
        Kind::Http1 => traffic::VERSION,
        _ => live::VERSION,
    };
    if let Some(label) = kept(&path, &label_path, maker, megabytes) {
        return Ok(Capture {
            path,
            bytes: label.bytes,
            truth: label.truth,
        });
    }

    eprintln!("making {}", path.display());
    let scratch = Scratch::new(dir)?;
    let making = scratch.path().join("capture.pcapng");
    let truth = match kind {
        Kind::Http1 => generate(&making, megabytes)?,
        _ => live::record(kind, megabytes, &scratch, &making)?,
    };
    let (bytes, checksum) = checksum(&making).with_context(|| format!("reading {}", making.display()))?;
    fs::rename(&making, &path).with_context(|| format!("moving it to {}", path.display()))?;
    let label = Label {
        maker,
        megabytes,
        bytes,
        checksum,
        truth,
    };
    fs::write(&label_path, serde_json::to_vec_pretty(&label)?)?;
    Ok(Capture {
        path,
        bytes,
        truth: label.truth,
    })
}

/// HTTP/1, packet by packet.
fn generate(path: &Path, megabytes: u64) -> Result<Truth> {
    let calls = (megabytes * CALLS_PER_MEGABYTE).max(1);
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    let mut writer = pcapng::Writer::new(BufWriter::with_capacity(1 << 20, file))?;
    let said = traffic::generate(calls, SEED, |ts, frame| writer.packet(ts, frame))?;
    writer.finish()?;
    let mut answers = BTreeMap::from([("http".to_owned(), said.calls)]);
    for (status, count) in said.statuses {
        answers.insert(format!("response.status == {status}"), count);
    }
    Ok(Truth {
        packets: said.packets,
        calls: said.calls,
        answers,
    })
}

/// The label of a kept capture, if all of it fits.
fn kept(path: &Path, label: &Path, maker: u32, megabytes: u64) -> Option<Label> {
    let label: Label = serde_json::from_slice(&fs::read(label).ok()?).ok()?;
    let same = (label.maker, label.megabytes) == (maker, megabytes);
    (same && checksum(path).ok()? == (label.bytes, label.checksum)).then_some(label)
}

/// Length and FNV-1a (64 bit, <http://www.isthe.com/chongo/tech/comp/fnv/>) of a file: finds a damaged or foreign one, no
/// more is asked. Reading brings it into the page cache, too.
fn checksum(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut bytes, mut sum) = (0, 0xCBF2_9CE4_8422_2325_u64);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, sum));
        }
        bytes += read as u64;
        for &byte in buffer.iter().take(read) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_again_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let made = prepare(dir.path(), Kind::Http1, 1).unwrap();
        let written = fs::metadata(&made.path).unwrap().modified().unwrap();
        prepare(dir.path(), Kind::Http1, 1).unwrap();
        assert_eq!(
            fs::metadata(&made.path).unwrap().modified().unwrap(),
            written,
            "it was made twice"
        );

        let mut bytes = fs::read(&made.path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&made.path, &bytes).unwrap();
        prepare(dir.path(), Kind::Http1, 1).unwrap();
        bytes[5000] ^= 1;
        assert!(
            fs::read(&made.path).unwrap() == bytes,
            "the damaged file was taken"
        );
    }

    #[test]
    fn capture_holds_the_packets_of_its_truth() {
        let dir = tempfile::tempdir().unwrap();
        let made = prepare(dir.path(), Kind::Http1, 1).unwrap();
        let mut reader = wiretape_tape::open(&made.path).unwrap();
        let mut chunk = wiretape_tape::Chunk::default();
        let mut packets = 0;
        while reader.next_chunk(&mut chunk).unwrap() {
            packets += chunk.packets.len() as u64;
        }
        assert_eq!(packets, made.truth.packets);
    }
}
