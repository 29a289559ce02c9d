//! A message's content, out of its frames: for bodies on demand.
//!
//! Only the packets that carry the message are there. Between them may lie others, with frames of other streams, so the
//! frames cannot always be followed from one to the next.

use super::frame::{HEADER, Header, Kind, PADDED};
use super::probe;

/// What is there of a stretch of one direction: bytes, and which runs of them were seen, in order.
pub(crate) struct Scattered<'a> {
    /// The bytes; those between the runs mean nothing.
    pub bytes: &'a [u8],
    /// Begin and end of each run.
    pub runs: &'a [(usize, usize)],
}

/// The payload of the stream whose frame begins with the first byte, of which there are `len` bytes; as far as it is
/// there without a hole.
///
/// Where the next frame's begin was not seen, it is looked for; what is found so counts only if in the end there is
/// neither more nor less than there should be.
pub(crate) fn unframe(there: &Scattered<'_>, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut body = Vec::new();
    let Some(first) = Header::read(there.run_at(0)) else {
        return body;
    };
    let (mut at, mut certain) = (0, None);
    while body.len() < len {
        let Some(header) = Header::read(there.run_at(at)) else {
            certain.get_or_insert(body.len());
            match there.frame_behind(at, first.stream) {
                Some(found) => at = found,
                None => break,
            }
            continue;
        };
        if header.stream == first.stream && header.kind == Kind::Data {
            let payload = there.run_at(at + HEADER);
            let (padding, skip) = match payload.first() {
                Some(padding) if header.has(PADDED) => (usize::from(*padding), 1),
                _ => (0, 0),
            };
            let size = (header.len as usize).saturating_sub(padding + skip);
            let payload = payload.get(skip..).unwrap_or_default();
            body.extend(payload.iter().take(size));
            if payload.len() < size {
                break;
            }
        }
        at += header.whole();
    }
    match certain {
        Some(certain) if body.len() != len => body.truncate(certain),
        _ => {}
    }
    body
}

impl<'a> Scattered<'a> {
    /// What was seen from a place on, without a hole.
    fn run_at(&self, at: usize) -> &'a [u8] {
        let run = self.runs.iter().find(|(start, end)| (*start..*end).contains(&at));
        run.and_then(|(_, end)| self.bytes.get(at..*end))
            .unwrap_or_default()
    }

    /// The next frame of a stream in a run that begins behind a place. Each run begins with a packet that carries a
    /// part of the stream.
    fn frame_behind(&self, at: usize, stream: u32) -> Option<usize> {
        let runs = self.runs.iter().filter(|(start, _)| *start > at);
        runs.filter_map(|(start, end)| {
            let run = self.bytes.get(*start..*end)?;
            let found = (0..run.len()).find(|from| {
                let rest = run.get(*from..).unwrap_or_default();
                Header::read(rest).is_some_and(|header| header.stream == stream) && probe::is_chain(rest)
            })?;
            Some(start + found)
        })
        .next()
    }
}
