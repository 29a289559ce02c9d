//! The capture that is dissected: made once, kept, and taken again while its checksum fits.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::pcapng;
use super::traffic::{self, Truth};

/// Calls in a megabyte of this traffic; 150 MB are 100 thousand calls in about 400 thousand packets.
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

/// Kept beside the capture: what it was made from, and how to know it again.
#[derive(PartialEq, Serialize, Deserialize)]
struct Label {
    generator: u32,
    seed: u64,
    calls: u64,
    bytes: u64,
    checksum: u64,
    truth: Truth,
}

/// The capture of about that many megabytes in `dir`, made if it is not there or is not what it should be.
pub fn prepare(dir: &Path, megabytes: u64) -> Result<Capture> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let calls = (megabytes * CALLS_PER_MEGABYTE).max(1);
    let path = dir.join(format!("http1-{megabytes}mb.pcapng"));
    let label_path = path.with_extension("json");
    if let Some(label) = kept(&path, &label_path, calls) {
        return Ok(Capture {
            path,
            bytes: label.bytes,
            truth: label.truth,
        });
    }

    eprintln!("making {} ({calls} calls)", path.display());
    let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let sink = Checksummed {
        file,
        checksum: Checksum::default(),
        bytes: 0,
    };
    let mut writer = pcapng::Writer::new(BufWriter::with_capacity(1 << 20, sink))?;
    let truth = traffic::generate(calls, SEED, |ts, frame| writer.packet(ts, frame))?;
    let sink = writer
        .finish()?
        .into_inner()
        .map_err(|error| error.into_error())?;
    let (bytes, checksum) = (sink.bytes, sink.checksum.finish());
    let label = Label {
        generator: traffic::VERSION,
        seed: SEED,
        calls,
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

/// The label of a kept capture, if all of it fits.
fn kept(path: &Path, label: &Path, calls: u64) -> Option<Label> {
    let label: Label = serde_json::from_slice(&fs::read(label).ok()?).ok()?;
    if (label.generator, label.seed, label.calls) != (traffic::VERSION, SEED, calls) {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let mut checksum = Checksum::default();
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).ok()?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        checksum.add(buffer.get(..read)?);
    }
    (bytes == label.bytes && checksum.finish() == label.checksum).then_some(label)
}

/// A file that sums up what is written to it.
struct Checksummed {
    file: File,
    checksum: Checksum,
    bytes: u64,
}

impl Write for Checksummed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.checksum.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// FNV-1a (64 bit, <http://www.isthe.com/chongo/tech/comp/fnv/>): finds a damaged or foreign file, no more is asked.
struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_again_when_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let made = prepare(dir.path(), 1).unwrap();
        let written = fs::metadata(&made.path).unwrap().modified().unwrap();
        prepare(dir.path(), 1).unwrap();
        assert_eq!(
            fs::metadata(&made.path).unwrap().modified().unwrap(),
            written,
            "it was made twice"
        );

        let mut bytes = fs::read(&made.path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&made.path, &bytes).unwrap();
        prepare(dir.path(), 1).unwrap();
        bytes[5000] ^= 1;
        assert!(
            fs::read(&made.path).unwrap() == bytes,
            "the damaged file was taken"
        );
    }

    #[test]
    fn capture_holds_the_packets_of_its_truth() {
        let dir = tempfile::tempdir().unwrap();
        let made = prepare(dir.path(), 1).unwrap();
        let mut reader = wiretape_tape::open(&made.path).unwrap();
        let mut chunk = wiretape_tape::Chunk::default();
        let mut packets = 0;
        while reader.next_chunk(&mut chunk).unwrap() {
            packets += chunk.packets.len() as u64;
        }
        assert_eq!(packets, made.truth.packets);
    }
}
