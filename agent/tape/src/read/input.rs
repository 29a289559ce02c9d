//! Where a reader's bytes come from: the source itself, or what is packed in it.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

/// First bytes of a gzip member (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes read from a packed source at once.
const PACKED_BUFFER: usize = 256 << 10;

/// A source whose first bytes were looked at.
type Peeked<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A source, inflated on the way if it is gzipped. Memory is that of one window of deflate (32 KiB) and one buffer.
pub(super) enum Input<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Peeked<R>>>>),
}

impl<R: Read> Input<R> {
    pub fn new(mut source: R) -> io::Result<Self> {
        let mut first = Vec::with_capacity(GZIP.len());
        source.by_ref().take(GZIP.len() as u64).read_to_end(&mut first)?;
        let packed = first == GZIP;
        let peeked = Cursor::new(first).chain(source);
        if packed {
            let buffered = BufReader::with_capacity(PACKED_BUFFER, peeked);
            Ok(Self::Gzip(Box::new(MultiGzDecoder::new(buffered))))
        } else {
            Ok(Self::Plain(peeked))
        }
    }

    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Gzip(_))
    }

    /// Fills the space; less than all of it only at the end or before a failure.
    pub fn fill(&mut self, space: &mut [u8]) -> (usize, Option<Failure>) {
        let mut filled = 0;
        while let Some(left) = space.get_mut(filled..).filter(|left| !left.is_empty()) {
            let read = match self {
                Self::Plain(source) => source.read(left),
                Self::Gzip(source) => source.read(left),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (filled, Some(self.failure(error))),
            }
        }
        (filled, None)
    }

    /// A gzip stream that does not inflate is damage in the file; anything else failed outside of it.
    fn failure(&self, error: io::Error) -> Failure {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match (self, error.kind()) {
            (Self::Gzip(_), InvalidData | InvalidInput | UnexpectedEof) => {
                Failure::Damaged(error.to_string())
            }
            _ => Failure::Source(error),
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
