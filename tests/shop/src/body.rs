//! The bodies that are sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Frame, SizeHint};

/// A body in pieces: with a known size it goes out with `Content-Length`, else chunked, one chunk for each piece.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pieces: VecDeque<Bytes>,
    chunked: bool,
}

impl Payload {
    /// A JSON body of known size.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::sized(value.to_string())
    }

    /// A body of known size.
    pub fn sized(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            pieces: if bytes.is_empty() {
                VecDeque::new()
            } else {
                VecDeque::from([bytes])
            },
            chunked: false,
        }
    }

    /// A body that is sent in chunks of `size`.
    pub fn chunked(bytes: impl Into<Bytes>, size: usize) -> Self {
        let mut rest: Bytes = bytes.into();
        let mut pieces = VecDeque::new();
        while !rest.is_empty() {
            pieces.push_back(rest.split_to(size.clamp(1, rest.len())));
        }
        Self {
            pieces,
            chunked: true,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && !self.chunked
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked {
            SizeHint::default()
        } else {
            SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
        }
    }
}

/// Compressed, for `Content-Encoding: gzip`.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}
