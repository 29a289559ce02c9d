//! Single packets, read again where a [`ChunkReader`](super::ChunkReader) found them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::decode::{self, FRAME, Place, RECORD};
use super::index::read_index;
use super::layout::{InterfaceInfo, Kind, Layout};
use super::{Chunk, ChunkReader, ReadError};
use crate::PacketMeta;
use crate::format::{MAX_BLOCK, block};

/// Read at once at a packet's place: most packets are not longer, so one read is enough for them.
const FIRST_READ: usize = 2048;

/// A packet with its own bytes.
#[derive(Clone, Debug)]
pub struct OwnedPacket {
    /// Its `data` range is that of all of `data`.
    pub meta: PacketMeta,
    /// The captured bytes.
    pub data: Vec<u8>,
}

/// Reads single packets of an uncompressed capture by their offset ([`PacketMeta::at`]).
///
/// Opened once per file; reads are positional, so it can be shared between threads.
#[derive(Debug)]
pub struct BlockReader {
    file: File,
    layout: Layout,
}

impl BlockReader {
    /// Opens a capture. A sealed segment's index gives its layout; any other file is read through once.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        if let Some(index) = read_index(&file, String::new())? {
            return Ok(Self {
                file,
                layout: Layout::segment(index.interfaces),
            });
        }
        let mut reader = ChunkReader::new(&file)?;
        if reader.is_packed() {
            return Err(ReadError::Compressed);
        }
        let mut chunk = Chunk::default();
        while reader.next_chunk(&mut chunk)? {}
        let layout = reader.layout().clone();
        Ok(Self { file, layout })
    }

    /// Opens a capture whose layout is known from [`ChunkReader::layout`](super::ChunkReader::layout).
    pub fn with_layout(path: &Path, layout: Layout) -> Result<Self, ReadError> {
        Ok(Self {
            file: File::open(path)?,
            layout,
        })
    }

    /// The file's interfaces; [`PacketMeta::interface`] counts in them.
    pub fn interfaces(&self) -> &[InterfaceInfo] {
        self.layout.interfaces()
    }

    /// The packet whose block begins at `at`.
    pub fn packet_at(&self, at: u64) -> Result<OwnedPacket, ReadError> {
        let refuse = |reason: &str| ReadError::NoPacketAt {
            at,
            reason: reason.to_owned(),
        };
        let section = self
            .layout
            .section_at(at)
            .ok_or_else(|| refuse("it is outside the file's sections"))?;
        let mut bytes = vec![0; FIRST_READ];
        let read = read_at_most(&self.file, &mut bytes, at)?;
        bytes.truncate(read);
        let head = bytes
            .first_chunk::<RECORD>()
            .ok_or_else(|| refuse("the file ends there"))?;
        let order = section.order;
        let [kind, length, captured, _] = head.as_chunks::<4>().0 else {
            return Err(refuse("the file ends there"));
        };
        let (kind, length, captured) = (order.u32(*kind), order.u32(*length), order.u32(*captured));
        let (length, least) = match self.layout.kind {
            Kind::Pcapng => (length as usize, FRAME),
            Kind::Pcap => ((captured as usize).saturating_add(RECORD), RECORD),
        };
        if !(least..=MAX_BLOCK).contains(&length) {
            return Err(refuse("no block begins there"));
        }
        if length > read {
            bytes.resize(length, 0);
            let rest = bytes.get_mut(read..).unwrap_or_default();
            self.file.read_exact_at(rest, at + read as u64)?;
        }
        let whole = bytes.get(..length).unwrap_or(&bytes);
        let place = Place { base: 0, at };
        let decoded = match (self.layout.kind, kind) {
            (Kind::Pcap, _) => decode::record(whole, section, place),
            (Kind::Pcapng, block::ENHANCED) => decode::enhanced(whole, section, place),
            (Kind::Pcapng, block::SIMPLE) => decode::simple(whole, section, place),
            (Kind::Pcapng, block::PACKET) => decode::obsolete(whole, section, place).0,
            (Kind::Pcapng, kind) => return Err(refuse(&format!("a block of type {kind:#x} begins there"))),
        };
        let (mut meta, _) =
            decoded.map_err(|_| refuse("its block is too short or of an unknown interface"))?;
        let data = bytes
            .get(meta.data.start as usize..meta.data.end as usize)
            .unwrap_or(&[])
            .to_vec();
        meta.data = 0..data.len() as u32;
        Ok(OwnedPacket { meta, data })
    }
}

/// Reads until `bytes` is full or the file ends.
fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> Result<usize, ReadError> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(read)
}
