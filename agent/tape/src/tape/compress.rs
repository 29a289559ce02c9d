//! Sealed segments made smaller, in the background.
//!
//! A compressed segment is the segment in zstd frames (RFC 8878), and behind them, in a skippable frame, its index once
//! more: so a start finds it as fast as in a plain one. `zstd -d` and Wireshark read such a file as they would any.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::disk;
use crate::read::{SKIPPABLE, index_block};

/// Higher levels take several times as long for a few per cent: see docs/performance.md.
const LEVEL: i32 = 3;

/// Written at once.
const WRITE: usize = 256 << 10;

/// Suffix of a file that is being made.
pub(super) const UNFINISHED: &str = ".part";

/// Makes `packed` of the sealed segment `plain`; gives the bytes that it takes. It is whole when it has its name.
pub(super) fn compress(plain: &Path, packed: &Path) -> io::Result<u64> {
    let mut part = packed.as_os_str().to_owned();
    part.push(UNFINISHED);
    let part = Path::new(&part);
    let outcome = write(plain, part).and_then(|bytes| disk::rename(part, packed).map(|()| bytes));
    if outcome.is_err() {
        // Else the next start does.
        let _ = disk::remove(part);
    }
    outcome
}

fn write(plain: &Path, part: &Path) -> io::Result<u64> {
    let mut source = File::open(plain)?;
    let Some(index) = index_block(&source)? else {
        return Err(io::Error::other("a segment without an index"));
    };
    let file = Steps(disk::create(part)?);
    let mut encoder = zstd::Encoder::new(io::BufWriter::with_capacity(WRITE, file), LEVEL)?;
    // Bytes that changed unseen must not become packets.
    encoder.include_checksum(true)?;
    io::copy(&mut source, &mut encoder)?;
    let mut out = encoder.finish()?;
    out.write_all(&SKIPPABLE)?;
    let length = u32::try_from(index.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&index)?;
    let Steps(file) = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // The plain file is removed next: without this, a crash of the machine could leave neither.
    file.sync_data()?;
    Ok(file.metadata()?.len())
}

/// Writes by the functions of [`disk`].
struct Steps(File);

impl Write for Steps {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        disk::append(&mut self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
