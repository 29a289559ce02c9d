//! Packets of a capture file, with the times they have there, as fast as it can be read.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wiretape_tape::{Chunk, ChunkReader, Packet, ReadError};

use super::{CaptureCounters, CaptureError, Mark, Polled, Source};
use crate::config::Config;

/// A file being replayed.
pub struct Replay {
    path: PathBuf,
    reader: ChunkReader<Box<dyn Read + Send>>,
    /// Read ahead, so that its interfaces are known before its packets are handed over.
    next: Option<Chunk>,
    interfaces_told: usize,
    counters: CaptureCounters,
}

impl Replay {
    /// Opens the file of the configuration.
    ///
    /// # Errors
    /// When there is none, or it is not a capture file.
    pub fn open(config: &Config) -> Result<Self, CaptureError> {
        let path = config.replay.clone().unwrap_or_default();
        let reader = wiretape_tape::open(&path).map_err(|source| failed(&path, source))?;
        let counters = CaptureCounters::default();
        let mut replay = Self {
            path,
            reader,
            next: None,
            interfaces_told: 0,
            counters,
        };
        replay.read(Chunk::default())?;
        Ok(replay)
    }

    fn read(&mut self, mut chunk: Chunk) -> Result<(), CaptureError> {
        let more = self
            .reader
            .next_chunk(&mut chunk)
            .map_err(|source| failed(&self.path, source))?;
        self.next = more.then_some(chunk);
        Ok(())
    }
}

impl Source for Replay {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        let Some(chunk) = self.next.take() else {
            std::thread::sleep(timeout);
            return Ok(Polled::Ended);
        };
        for meta in &chunk.packets {
            self.counters.seen += 1;
            self.counters.seen_bytes += u64::from(meta.orig_len);
            sink(&Packet {
                ts: meta.ts,
                data: chunk.data(meta),
                orig_len: meta.orig_len,
                link: meta.link,
                // 0 would say that it is unknown.
                ifindex: meta.interface + 1,
                direction: meta.direction,
                cgroup: meta.cgroup,
                cookie: meta.cookie,
                dropped: meta.dropped,
            });
        }
        let handed = chunk.packets.len();
        self.read(chunk)?;
        Ok(Polled::Packets(handed))
    }

    /// A packet of a file comes by when it is handed over.
    fn mark(&mut self) -> Result<Mark, CaptureError> {
        Ok(Mark {
            at: Instant::now(),
            packets: self.counters.seen,
        })
    }

    fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError> {
        Ok(self.counters.seen >= mark.packets)
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        Ok(self.counters)
    }

    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        let known = self.reader.interfaces();
        let new = known.iter().zip(1..).skip(self.interfaces_told);
        let new = new
            .map(|(interface, ifindex)| (ifindex, interface.name.clone()))
            .collect();
        self.interfaces_told = known.len();
        new
    }

    fn stop(&mut self) {
        self.next = None;
    }
}

fn failed(path: &Path, source: ReadError) -> CaptureError {
    CaptureError::Replay {
        path: path.to_owned(),
        source,
    }
}
