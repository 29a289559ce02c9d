//! Streams whose head was not seen, or not understood, and which may carry WebSocket: what both ends say proves it.

use std::collections::BTreeMap;

use super::tunnel::Piece;
use crate::Counters;
use crate::limits::{STRANGER_BYTES, STRANGER_PIECES, STRANGER_REFUSALS, STRANGERS};
use crate::protocols::{Side, Span, websocket};

/// All of a connection.
#[derive(Default)]
pub(super) struct Strangers {
    streams: BTreeMap<u32, Stranger>,
}

/// What was said, in order, from the begin of a frame of data in each direction.
pub(super) type Said = Vec<(Side, Piece, Span)>;

/// One of them.
#[derive(Default)]
struct Stranger {
    said: Said,
    /// Times that what was said could not be WebSocket.
    refused: u32,
}

impl Strangers {
    /// Whether a stream is worth looking at.
    pub fn looks_at(&self, stream: u32) -> bool {
        let stranger = self.streams.get(&stream);
        stranger.is_none_or(|stranger| stranger.refused < STRANGER_REFUSALS)
    }

    /// Takes what is said on a stream; gives all that was said as soon as it proves to be WebSocket.
    pub fn take(&mut self, from: Side, piece: Piece, span: Span, counters: &mut Counters) -> Option<Said> {
        let stream = piece.stream;
        if !self.streams.contains_key(&stream) && self.streams.len() >= STRANGERS {
            // The oldest have had the most time to prove what they are.
            self.streams.pop_first();
            counters.strangers_forgotten += 1;
        }
        let stranger = self.streams.entry(stream).or_default();
        if stranger.take(from, piece, span, counters) {
            return self.streams.remove(&stream).map(|stranger| stranger.said);
        }
        None
    }

    /// Something is missing in one direction of a stream.
    pub fn lose(&mut self, stream: u32, from: Side) {
        if let Some(stranger) = self.streams.get_mut(&stream) {
            stranger.forget(from);
        }
    }

    /// Something is missing in one direction, nobody knows where.
    pub fn lose_all(&mut self, from: Side) {
        for stranger in self.streams.values_mut() {
            stranger.forget(from);
        }
    }

    /// A stream has ended.
    pub fn forget(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    /// Bytes that they hold, roughly.
    pub fn memory(&self) -> usize {
        let cost = |(_, piece, span): &(Side, Piece, Span)| {
            size_of::<(Side, Piece, Span)>() + piece.bytes.len() + size_of::<u64>() * span.packets.len()
        };
        let stranger =
            |stranger: &Stranger| size_of::<Stranger>() + stranger.said.iter().map(cost).sum::<usize>();
        self.streams.values().map(stranger).sum()
    }
}

impl Stranger {
    /// Whether it is proved.
    fn take(&mut self, from: Side, piece: Piece, span: Span, counters: &mut Counters) -> bool {
        let full = self.bytes(from).len() + piece.bytes.len() > STRANGER_BYTES;
        if full || self.said.len() >= STRANGER_PIECES {
            self.forget(from);
            counters.strangers_forgotten += 1;
        }
        let first = !self.said.iter().any(|(side, ..)| *side == from);
        if piece.bytes.is_empty() || piece.bytes.len() > STRANGER_BYTES || (first && !piece.begins) {
            return false;
        }
        self.said.push((from, piece, span));
        match websocket::proves(&self.bytes(Side::Client), &self.bytes(Side::Server)) {
            Some(proved) => {
                if !proved {
                    self.refused += 1;
                    counters.strangers_forgotten += u64::from(self.refused == STRANGER_REFUSALS);
                    self.said.clear();
                }
                proved
            }
            None => false,
        }
    }

    fn forget(&mut self, from: Side) {
        self.said.retain(|(side, ..)| *side != from);
    }

    fn bytes(&self, from: Side) -> Vec<u8> {
        let of_side = self.said.iter().filter(|(side, ..)| *side == from);
        of_side
            .flat_map(|(_, piece, _)| piece.bytes.iter().copied())
            .collect()
    }
}
