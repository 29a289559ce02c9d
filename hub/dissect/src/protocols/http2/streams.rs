//! Streams: frames of many calls, one among the other, to calls.
//!
//! A stream's number is never used again in its connection. So a response belongs to the request on its stream, whatever
//! was lost between them.

use super::frame::ErrorCode;
use super::open::Open;
use super::outcome::GivenUp;
use super::strangers::Strangers;
use super::stream::Stream;
use super::tunnel::{Piece, Tunnel};
use super::{Frame, HeaderBlock};
use crate::Counters;
use crate::limits::{STREAM_BYTES, STREAMS};
use crate::protocols::{Request, Side, Span, Told, Transaction};
use crate::tcp::Close;

/// Every stream of a connection that is open.
#[derive(Default)]
pub(super) struct Streams {
    open: Open,
    /// Requests of clients, and promises of servers.
    asked: Seen,
    promised: Seen,
    /// Who ends the connection, above which stream, and why.
    go_away: Option<(GivenUp, u32)>,
    /// How each direction ended.
    client_close: Option<Close>,
    server_close: Option<Close>,
    /// Whether something was lost since streams were looked at for their end.
    lost: bool,
    /// Whether anything was ever lost.
    gapped: bool,
    /// What may be WebSocket.
    strangers: Strangers,
    /// Streams that carry it.
    tunnels: usize,
    bytes: usize,
}

/// Streams whose begin was seen: all from the first to the last of them, since numbers only rise. None before the first.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    first: u32,
    last: u32,
}

impl Streams {
    /// Takes a frame, gives the calls that have ended with it.
    pub fn take(&mut self, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let Told { from, span, frame } = told;
        let stream = match frame {
            Frame::Headers(block) => {
                let stream = block.promised.unwrap_or(block.stream);
                match block.promised {
                    Some(_) => self.promise(from, stream, *block, span, counters, out),
                    None => self.headers(from, *block, span, counters, out),
                }
                stream
            }
            Frame::Data {
                stream,
                body,
                framing,
                end,
            } => {
                self.with(stream, counters, |open| open.data(from, span, body, framing, end));
                stream
            }
            Frame::Piece(piece) => {
                let stream = piece.stream;
                self.piece(from, *piece, span, counters, out);
                stream
            }
            Frame::Reset { stream, code } => {
                self.with(stream, counters, |open| open.give_up(from, code, &span));
                self.strangers.forget(stream);
                stream
            }
            Frame::GoAway { last, code } => return self.go_away(from, last, code, counters, out),
            Frame::End => 0,
        };
        if self.has_tunnels()
            && let Some(close) = self.close_of(from)
        {
            self.end_tunnels(from, close, counters, out);
        }
        if self.open.get(stream).is_some_and(|open| open.is_done()) {
            self.finish(stream, counters, out);
        }
        if std::mem::take(&mut self.lost) {
            let done = self.open.iter().filter(|(_, open)| open.is_done());
            for stream in done.map(|(stream, _)| stream).collect::<Vec<_>>() {
                self.finish(stream, counters, out);
            }
        }
        while self.memory() > STREAM_BYTES && self.release_oldest(counters) {}
        while self.memory() > STREAM_BYTES && self.drop_oldest(counters, out) {}
    }

    /// The request by which HTTP/1 was left is answered on the first stream (RFC 7540, section 3.2).
    pub fn answering(&mut self, request: Request) {
        const FIRST: u32 = 1;
        let stream = Stream::asked(request);
        self.asked.add(FIRST);
        self.bytes += stream.cost();
        self.open.insert(FIRST, Box::new(stream));
    }

    /// Payload of a stream's data goes by. Whether it is wanted as a piece.
    pub fn payload(&mut self, from: Side, stream: u32, bytes: &[u8]) -> bool {
        let Some(open) = self.open.get_mut(stream) else {
            let unseen = !stream.is_multiple_of(2) && !self.asked.has(stream);
            return unseen && self.strangers.looks_at(stream);
        };
        let (before, after) = open.payload(from, bytes);
        self.bytes = self.bytes + after - before;
        open.is_tunnel() || (open.may_be_tunnel() && self.strangers.looks_at(stream))
    }

    /// Payload of a stream's data was never seen.
    pub fn payload_missing(&mut self, from: Side, stream: u32, len: u64) {
        if let Some(open) = self.open.get_mut(stream) {
            open.payload_missing(from, len);
        }
        self.strangers.lose(stream, from);
    }

    /// Payload of a stream's data was never seen, nobody knows how much.
    pub fn payload_lost(&mut self, from: Side, stream: u32) {
        if let Some(open) = self.open.get_mut(stream) {
            open.payload_lost(from);
        }
        self.strangers.lose(stream, from);
    }

    /// Bytes of a frame of data were never seen, behind others of it that were handed on.
    pub fn frame_missing(&mut self, from: Side, stream: u32, len: u64) {
        if let Some(open) = self.open.get_mut(stream) {
            open.frame_missing(from, len);
        }
    }

    /// Whether a stream carries another protocol.
    pub fn has_tunnels(&self) -> bool {
        self.tunnels > 0
    }

    /// Frames of one direction may be missing, of any stream.
    pub fn lost(&mut self, from: Side) {
        for open in self.open.values_mut() {
            open.lose(from);
        }
        match from {
            Side::Client => self.asked = Seen::default(),
            Side::Server => self.promised = Seen::default(),
        }
        self.strangers.lose_all(from);
        self.lost = true;
        self.gapped = true;
    }

    /// One direction has ended.
    pub fn ends(&mut self, from: Side, close: Close) {
        match from {
            Side::Client => self.client_close = Some(close),
            Side::Server => self.server_close = Some(close),
        }
    }

    /// Both directions have ended: gives everything that is open.
    pub fn close(&mut self, out: &mut Vec<Transaction>) {
        let reset = [self.client_close, self.server_close].contains(&Some(Close::Reset));
        let closed = reset || self.server_close == Some(Close::Finished);
        for (stream, mut open) in std::mem::take(&mut self.open) {
            open.break_off(reset, closed, self.go_away.map(|(given_up, _)| given_up));
            // It was on its way when the server said so.
            if let Some(given_up) = self.excludes(stream, &open) {
                open.refuse(given_up);
            }
            open.give(stream, out);
        }
        (self.bytes, self.tunnels) = (0, 0);
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.bytes + self.open.memory() + self.strangers.memory()
    }

    fn promise(
        &mut self,
        from: Side,
        stream: u32,
        block: HeaderBlock,
        span: Span,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        if from == Side::Client || !self.promised.is_new(stream) {
            counters.streams_unknown += 1;
            return;
        }
        self.promised.add(stream);
        self.open(stream, Stream::promised(block, span), counters, out);
    }

    fn headers(
        &mut self,
        from: Side,
        block: HeaderBlock,
        span: Span,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        let (stream, lost) = (block.stream, block.lost);
        if !self.open.has(stream) {
            let seen = if stream.is_multiple_of(2) {
                self.promised
            } else {
                self.asked
            };
            let opens = match from {
                Side::Client => block.head.is_request() && seen.is_new(stream),
                // To a request that was not seen.
                Side::Server => !seen.has(stream) && !block.head.is_interim(),
            };
            if opens {
                self.open(stream, Stream::default(), counters, out);
                if from == Side::Client {
                    self.asked.add(stream);
                }
            }
        }
        let begins_tunnel = self.with(stream, counters, |open| {
            open.headers(from, block, span);
            open.begins_tunnel()
        });
        if begins_tunnel == Some(true)
            && let Some(open) = self.open.get_mut(stream)
        {
            self.bytes -= open.cost();
            out.push(open.hand_over(stream));
            self.bytes += open.cost();
            self.tunnels += 1;
        }
        if lost && let Some(open) = self.open.get_mut(stream) {
            self.bytes -= open.cost();
            open.lose(from);
            self.bytes += open.cost();
        }
    }

    /// Takes payload of a stream that carries WebSocket, or may.
    fn piece(
        &mut self,
        from: Side,
        piece: Piece,
        span: Span,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        let (stream, end) = (piece.stream, piece.end);
        if let Some(open) = self.open.get_mut(stream).filter(|open| open.is_tunnel()) {
            self.bytes -= open.cost();
            open.piece(from, &piece, span, counters, out);
            self.bytes += open.cost();
            return;
        }
        let body = piece.bytes.len() as u64;
        let part = span.clone();
        self.with(stream, counters, |open| {
            open.data(from, part, body, piece.framing, end)
        });
        let said = self.strangers.take(from, piece, span, counters);
        if end {
            self.strangers.forget(stream);
        }
        let Some(said) = said else {
            return;
        };
        // What the stream is was not seen, so it may not even be known that there is one.
        if !self.open.has(stream) {
            self.open(stream, Stream::default(), counters, out);
        }
        let gapped = self.gapped;
        if let Some(open) = self.open.get_mut(stream) {
            self.bytes -= open.cost();
            let mut tunnel = Tunnel::joined(stream, open.upgrade(), gapped);
            for (from, piece, span) in &said {
                tunnel.take(*from, piece, span, counters, out);
            }
            open.carry(tunnel, end.then_some(from), counters, out);
            self.bytes += open.cost();
            self.tunnels += 1;
        }
    }

    /// How a direction has ended, if it has.
    fn close_of(&self, from: Side) -> Option<Close> {
        match from {
            Side::Client => self.client_close,
            Side::Server => self.server_close,
        }
    }

    /// A direction has ended, and with it that of every tunnel.
    fn end_tunnels(&mut self, from: Side, close: Close, counters: &mut Counters, out: &mut Vec<Transaction>) {
        for open in self.open.values_mut() {
            self.bytes -= open.cost();
            open.end_tunnel(from, close, counters, out);
            self.bytes += open.cost();
        }
    }

    fn open(&mut self, number: u32, stream: Stream, counters: &mut Counters, out: &mut Vec<Transaction>) {
        if self.open.len() >= STREAMS {
            self.drop_oldest(counters, out);
        }
        self.bytes += stream.cost();
        self.open.insert(number, Box::new(stream));
    }

    fn go_away(
        &mut self,
        by: Side,
        last: u32,
        code: ErrorCode,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        let given_up = GivenUp { by, code };
        match by {
            Side::Client if code == ErrorCode::NO_ERROR => return,
            Side::Client => {
                self.go_away = Some((given_up, u32::MAX));
                return;
            }
            Side::Server => self.go_away = Some((given_up, last)),
        }
        let refused = self.open.iter();
        let refused = refused.filter(|(stream, open)| self.excludes(*stream, open).is_some());
        for stream in refused.map(|(stream, _)| stream).collect::<Vec<_>>() {
            if let Some(open) = self.open.get_mut(stream) {
                open.refuse(given_up);
            }
            self.finish(stream, counters, out);
        }
    }

    /// Who will not look at a stream: of those that the client has opened, the server excludes all above a number.
    fn excludes(&self, stream: u32, open: &Stream) -> Option<GivenUp> {
        let (given_up, last) = self.go_away?;
        let excluded = stream > last && !stream.is_multiple_of(2) && !open.is_answered();
        excluded.then_some(given_up)
    }

    /// Does something with a stream that is open; what comes for one that is not is counted.
    fn with<T>(
        &mut self,
        stream: u32,
        counters: &mut Counters,
        act: impl FnOnce(&mut Stream) -> T,
    ) -> Option<T> {
        let Some(open) = self.open.get_mut(stream) else {
            counters.streams_unknown += 1;
            return None;
        };
        self.bytes -= open.cost();
        let done = act(open);
        self.bytes += open.cost();
        Some(done)
    }

    /// Gives the oldest stream as it is; whether there was one.
    fn drop_oldest(&mut self, counters: &mut Counters, out: &mut Vec<Transaction>) -> bool {
        let Some((stream, mut open)) = self.open.pop_first() else {
            return false;
        };
        counters.streams_dropped += 1;
        self.bytes -= open.cost();
        self.tunnels -= usize::from(open.is_tunnel());
        open.break_off(false, false, None);
        for side in [Side::Client, Side::Server] {
            open.end_tunnel(side, Close::Cut, counters, out);
        }
        open.give(stream, out);
        true
    }

    /// Gives back what the compression of the oldest tunnel remembers; whether there was one that remembers anything.
    fn release_oldest(&mut self, counters: &mut Counters) -> bool {
        if self.tunnels == 0 {
            return false;
        }
        for open in self.open.values_mut().filter(|open| open.is_tunnel()) {
            let before = open.cost();
            if open.release() {
                counters.ws_inflation_stopped += 1;
                self.bytes = self.bytes - before + open.cost();
                return true;
            }
        }
        false
    }

    fn finish(&mut self, stream: u32, counters: &mut Counters, out: &mut Vec<Transaction>) {
        if let Some(mut open) = self.open.remove(stream) {
            self.bytes -= open.cost();
            self.tunnels -= usize::from(open.is_tunnel());
            for side in [Side::Client, Side::Server] {
                open.end_tunnel(side, open.closing(), counters, out);
            }
            open.give(stream, out);
        }
    }
}

impl Seen {
    fn add(&mut self, stream: u32) {
        if self.first == 0 {
            self.first = stream;
        }
        self.last = stream;
    }

    fn has(self, stream: u32) -> bool {
        self.first != 0 && (self.first..=self.last).contains(&stream)
    }

    /// Whether a stream can begin now.
    fn is_new(self, stream: u32) -> bool {
        stream > self.last
    }
}
