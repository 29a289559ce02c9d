//! A segment of a cut on its way to the hub: read by threads that may wait for the disk, a piece at a time, so that a
//! hub that stops reading holds none of them.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};
use wiretape_tape::CutReader;

/// How much of a segment is read at once. Larger reads gain nothing; this is held per stream.
pub const STREAM_BUFFER: usize = 256 * 1024;

/// Most streams at a time: a hub takes one of each node, and a compressed segment takes 8 MiB to inflate. Whoever asks
/// for more at once has to come again.
pub const MAX_STREAMS: usize = 64;

/// The bytes, as they come.
pub struct SegmentStream {
    state: State,
    /// Its place among those at a time.
    _place: OwnedSemaphorePermit,
}

enum State {
    Idle(CutReader),
    Reading(JoinHandle<(CutReader, io::Result<Vec<u8>>)>),
    /// What was read, and how much of it was given on: the space may be less than it was.
    Read(CutReader, Vec<u8>, usize),
    Ended,
}

impl SegmentStream {
    /// Of what `reader` gives; `place` is given back at the end.
    pub fn new(reader: CutReader, place: OwnedSemaphorePermit) -> Self {
        Self {
            state: State::Idle(reader),
            _place: place,
        }
    }
}

impl AsyncRead for SegmentStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(Ok(())),
                State::Idle(reader) => {
                    let most = space.remaining().min(STREAM_BUFFER);
                    self.state = State::Reading(spawn_blocking(move || read(reader, most)));
                }
                State::Reading(mut reading) => {
                    let polled = Pin::new(&mut reading).poll(context);
                    if polled.is_pending() {
                        self.state = State::Reading(reading);
                    }
                    let (reader, outcome) = ready!(polled).map_err(io::Error::other)?;
                    let bytes = outcome?;
                    if bytes.is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    self.state = State::Read(reader, bytes, 0);
                }
                State::Read(reader, bytes, given) => {
                    let rest = bytes.get(given..).unwrap_or_default();
                    let (part, _) = rest.split_at(rest.len().min(space.remaining()));
                    space.put_slice(part);
                    let given = given + part.len();
                    self.state = if given < bytes.len() {
                        State::Read(reader, bytes, given)
                    } else {
                        State::Idle(reader)
                    };
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

fn read(mut reader: CutReader, most: usize) -> (CutReader, io::Result<Vec<u8>>) {
    let mut bytes = Vec::with_capacity(most);
    let outcome = reader.by_ref().take(most as u64).read_to_end(&mut bytes);
    (reader, outcome.map(|_| bytes))
}
