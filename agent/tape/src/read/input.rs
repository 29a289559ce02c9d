//! Where a reader's bytes come from: the source itself, or what is packed in it.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// First bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// First bytes of a zstd frame (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Largest window of a zstd frame, as a power of two: what RFC 8878 (section 3.1.1.1.2) asks every decoder to take. It
/// bounds memory.
const ZSTD_WINDOW: u32 = 23;

/// Bytes read from a packed source at once.
const PACKED_BUFFER: usize = 256 << 10;

/// A source whose first bytes were looked at.
type Peeked<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A source, inflated on the way if it is compressed. Memory is that of one window (32 KiB, or 8 MiB of zstd) and one
/// buffer.
pub(crate) enum Input<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Peeked<R>>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Peeked<R>>>>),
}

impl<R: Read> Input<R> {
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut first = Vec::with_capacity(ZSTD.len());
        source.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
        let peeked = Cursor::new(first).chain(source);
        let buffered = |peeked| BufReader::with_capacity(PACKED_BUFFER, peeked);
        if gzip {
            Ok(Self::Gzip(Box::new(MultiGzDecoder::new(buffered(peeked)))))
        } else if zstd {
            let mut decoder = ZstdDecoder::with_buffer(buffered(peeked))?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Ok(Self::Zstd(Box::new(decoder)))
        } else {
            Ok(Self::Plain(peeked))
        }
    }

    /// One that is known not to be compressed, or not at its beginning.
    pub fn plain(source: R) -> Self {
        Self::Plain(Cursor::new(Vec::new()).chain(source))
    }

    pub fn is_packed(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Fills the space; less than all of it only at the end or before a failure.
    pub(super) fn fill(&mut self, space: &mut [u8]) -> (usize, Option<Failure>) {
        let mut filled = 0;
        while let Some(left) = space.get_mut(filled..).filter(|left| !left.is_empty()) {
            match self.read(left) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (filled, Some(self.failure(error))),
            }
        }
        (filled, None)
    }

    /// A compressed stream that does not inflate is damage in the file; anything else failed outside of it.
    fn failure(&self, error: io::Error) -> Failure {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match (self, error.kind()) {
            (Self::Gzip(_), InvalidData | InvalidInput | UnexpectedEof) => {
                Failure::Damaged(error.to_string())
            }
            // The decoder's own errors have no number of the system's.
            (Self::Zstd(_), _) if error.raw_os_error().is_none() => Failure::Damaged(error.to_string()),
            _ => Failure::Source(error),
        }
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(space),
            Self::Gzip(source) => source.read(space),
            Self::Zstd(source) => source.read(space),
        }
    }
}

/// Why no more bytes come.
pub(super) enum Failure {
    /// The packed stream is broken or cut off.
    Damaged(String),
    /// The source failed.
    Source(io::Error),
}
