//! Bytes of a part: read in place, by several threads at a time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::error::{DataFusionError, Result};
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::RowGroupMetaData;
use datafusion::parquet::file::reader::{ChunkReader, Length};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::Part;

/// A file, read in place: several threads may do so at a time.
pub(super) struct Pages<'f>(pub(super) &'f File);

/// The same of a part that is kept open.
pub(super) struct PartPages(pub(super) Arc<Part>);

impl Length for Pages<'_> {
    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for Pages<'_> {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let length = usize::try_from(self.len().saturating_sub(start)).unwrap_or_default();
        Ok(read_at(self.0, start, length)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        Ok(read_at(self.0, start, length)?)
    }
}

impl Length for PartPages {
    fn len(&self) -> u64 {
        Pages(&self.0.file).len()
    }
}

impl ChunkReader for PartPages {
    type T = BufReader<Tail>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(Tail {
            part: Arc::clone(&self.0),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        Ok(read_at(&self.0.file, start, length)?)
    }
}

/// A part from some place on.
pub(super) struct Tail {
    part: Arc<Part>,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.part.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Tells the kernel that a file is not read from front to back. It would take columns of one row group that are read one after the other for the beginning of
/// that, and read on: six times as much as was asked for.
pub(super) fn read_in_places(file: &File) {
    // What a file system does not know takes longer, and is read all the same.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
}

/// Has the kernel begin to read a place of such a file, while its reader does something else. Of what is in memory it costs some
/// µs for a megabyte.
pub(super) fn read_ahead(file: &File, start: u64, length: u64) {
    let (Ok(start), Ok(length)) = (start.try_into(), length.try_into()) else {
        return;
    };
    // As above.
    let _ = posix_fadvise(file, start, length, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
}

/// Bytes of a file.
///
/// # Errors
/// It cannot be read, or ends before them.
pub(in crate::calls) fn read_at(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, start)?;
    Ok(bytes.into())
}

/// Chunks of a row group that lie one after the other, read at once.
pub(super) struct Chunks {
    from: u64,
    bytes: Bytes,
}

impl Chunks {
    pub(super) fn read(
        part: &Part,
        group: &RowGroupMetaData,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let (mut from, mut to) = (u64::MAX, 0);
        for (leaf, chunk) in group.columns().iter().enumerate() {
            if wanted(leaf) {
                let (start, length) = chunk.byte_range();
                from = from.min(start);
                to = to.max(start.saturating_add(length));
            }
        }
        let most = part.file.metadata()?.len();
        if to > most {
            let path = part.path.display();
            return Err(DataFusionError::Execution(format!("{path} is cut off")));
        }
        let length = usize::try_from(to.saturating_sub(from)).unwrap_or_default();
        Ok(Self {
            from,
            bytes: read_at(&part.file, from, length)?,
        })
    }

    fn at(&self, start: u64) -> ParquetResult<usize> {
        let at = start
            .checked_sub(self.from)
            .and_then(|at| usize::try_from(at).ok());
        at.filter(|at| *at <= self.bytes.len())
            .ok_or_else(|| ParquetError::EOF(format!("{start} is outside of the column")))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunks {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.bytes.slice(self.at(start)?..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let from = self.at(start)?;
        let to = self.at(start + length as u64)?;
        Ok(self.bytes.slice(from..to))
    }
}
