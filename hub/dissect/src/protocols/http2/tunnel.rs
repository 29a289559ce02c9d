//! What an extended CONNECT carries (RFC 8441): WebSocket, in the payload of a stream's frames of data.
//!
//! A frame of WebSocket may lie in several frames of data, and one of these may hold several. Positions are those in the
//! connection, so that both observers tell of the same ones.

use super::stream::STREAM;
use crate::Counters;
use crate::call::Value;
use crate::limits::PLACE_BYTES;
use crate::protocols::websocket::{self, WebSocket};
use crate::protocols::{Input, Missing, Parsed, Place, Protocol, Side, Span, Told, Transaction, Upgrade};
use crate::tcp::Close;

/// Payload of a frame of data, as much as was there at a time.
#[derive(Debug)]
pub(crate) struct Piece {
    pub stream: u32,
    /// Position of the first byte.
    pub position: u64,
    pub bytes: Vec<u8>,
    /// Whether the frame's payload begins with it.
    pub begins: bool,
    /// Bytes beside the payload.
    pub framing: u64,
    /// Whether the stream's direction ends with it.
    pub end: bool,
}

/// WebSocket on one stream.
pub(super) struct Tunnel {
    stream: u32,
    state: websocket::State,
    client: Lane,
    server: Lane,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// The begin of a frame's head, and where it stands.
    held: Vec<u8>,
    held_at: Option<Span>,
    /// The frame under way.
    open: Option<Span>,
    /// What is missing before that which comes.
    lost: Lost,
    /// Whether the next frame must be looked for.
    astray: bool,
    /// Whether a message is likely to begin with what is held.
    turn: bool,
    /// Whether frames of data are known to begin elsewhere than frames of WebSocket do: then where one begins tells nothing.
    straddles: bool,
    ended: bool,
}

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lost {
    #[default]
    Nothing,
    /// So many bytes.
    Bytes(u64),
    /// Nobody knows how many.
    Unknown,
}

impl Tunnel {
    /// From its begin on.
    pub fn new(stream: u32, upgrade: Upgrade) -> Self {
        Self::with(stream, websocket::State::tunnelled(upgrade))
    }

    /// From the middle of one that is under way; `gapped` if it is so because something was lost.
    pub fn joined(stream: u32, upgrade: Upgrade, gapped: bool) -> Self {
        Self::with(stream, websocket::State::joined(upgrade, gapped))
    }

    fn with(stream: u32, state: websocket::State) -> Self {
        Self {
            stream,
            state,
            client: Lane::default(),
            server: Lane::default(),
        }
    }

    /// Takes payload of one direction.
    pub fn take(
        &mut self,
        from: Side,
        piece: &Piece,
        span: &Span,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        let first = out.len();
        self.settle(from, counters, out);
        let lane = self.lane(from);
        lane.straddles |= piece.begins && !lane.astray && (lane.open.is_some() || !lane.held.is_empty());
        let mut bytes = std::mem::take(&mut lane.held);
        let before = bytes.len();
        // What waits was told to begin a message, or not, when it came.
        let turn = if before == 0 {
            piece.begins && !lane.straddles
        } else {
            lane.turn
        };
        let whole = if before == 0 {
            piece.bytes.as_slice()
        } else {
            bytes.extend_from_slice(&piece.bytes);
            &bytes
        };
        let position = |at: usize| piece.position + at.saturating_sub(before) as u64;
        let mut used = 0;
        while let Some(left) = whole.get(used..).filter(|left| !left.is_empty()) {
            let input = Input {
                from,
                bytes: left,
                position: position(used),
                ack: span.ack,
                turn: turn && used == 0,
            };
            if self.lane(from).astray {
                match WebSocket::resync(&mut self.state, input) {
                    Place::At(0) => {
                        self.lane(from).astray = false;
                        continue;
                    }
                    Place::Perhaps if left.len() < PLACE_BYTES => {
                        self.lane(from).hold(left, position(used), span);
                        self.lane(from).turn = input.turn;
                    }
                    place => {
                        // The middle of a frame, most likely: no frame of data need begin with one.
                        self.lane(from).straddles |= input.turn;
                        counters.places_given_up += u64::from(place == Place::Perhaps);
                        counters.skipped_bytes += left.len() as u64;
                    }
                }
                break;
            }
            let (step, frame) = match WebSocket::parse(&mut self.state, input, counters) {
                Parsed::Frame { used, frame } => (used, Some(frame)),
                Parsed::Part { used } => (used, None),
                Parsed::More { .. } => {
                    self.lane(from).hold(left, position(used), span);
                    break;
                }
                Parsed::Skip { .. } | Parsed::Invalid | Parsed::Switch(_) => {
                    counters.resyncs += 1;
                    counters.skipped_bytes += left.len() as u64;
                    let lane = self.lane(from);
                    (lane.astray, lane.open) = (true, None);
                    break;
                }
            };
            let step = step.min(left.len());
            let end = position(used + step);
            self.lane(from).advance(position(used), end, span);
            used += step;
            if let Some(frame) = frame {
                self.pair(from, frame, counters, out);
            }
        }
        self.name(first, out);
    }

    /// Payload of one direction was never seen.
    pub fn missing(&mut self, from: Side, len: u64) {
        let lane = self.lane(from);
        lane.lost = match lane.lost {
            Lost::Nothing => Lost::Bytes(len),
            Lost::Bytes(before) => Lost::Bytes(before.saturating_add(len)),
            Lost::Unknown => Lost::Unknown,
        };
    }

    /// Any number of frames of one direction may be missing.
    pub fn lose(&mut self, from: Side) {
        self.lane(from).lost = Lost::Unknown;
    }

    /// One direction has ended.
    pub fn end(&mut self, from: Side, close: Close, counters: &mut Counters, out: &mut Vec<Transaction>) {
        if std::mem::replace(&mut self.lane(from).ended, true) {
            return;
        }
        let first = out.len();
        self.settle(from, counters, out);
        let held = std::mem::take(&mut self.lane(from).held);
        if let Some(frame) = WebSocket::end(&mut self.state, from, &held, close) {
            self.pair(from, frame, counters, out);
        }
        self.name(first, out);
    }

    /// Gives everything that waits.
    pub fn close(mut self, close: Close, out: &mut Vec<Transaction>) {
        let first = out.len();
        WebSocket::close(&mut self.state, close, out);
        self.name(first, out);
    }

    /// Gives back what compression has to remember; whether there was any.
    pub fn release(&mut self) -> bool {
        self.state.release()
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + WebSocket::memory(&self.state) + self.client.memory() + self.server.memory()
    }

    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Tells what is missing before that which comes.
    fn settle(&mut self, from: Side, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let lane = self.lane(from);
        let frame = match std::mem::take(&mut lane.lost) {
            Lost::Nothing => return,
            Lost::Bytes(len) => {
                let held = std::mem::take(&mut lane.held);
                lane.held_at = None;
                // Where they stand does not matter to WebSocket.
                let missing = Missing { position: 0, len };
                let gapped = WebSocket::gap(&mut self.state, from, &held, missing);
                let lane = self.lane(from);
                if let Some(open) = &mut lane.open {
                    open.missing += gapped.inside;
                }
                counters.resyncs += u64::from(gapped.lost && !lane.astray);
                lane.astray |= gapped.lost;
                gapped.frame
            }
            Lost::Unknown => {
                counters.resyncs += u64::from(!lane.astray);
                lane.astray = true;
                lane.held.clear();
                lane.held_at = None;
                self.state.lose(from)
            }
        };
        if let Some(frame) = frame {
            self.pair(from, frame, counters, out);
        }
        if self.lane(from).astray {
            self.lane(from).open = None;
        }
    }

    fn pair(
        &mut self,
        from: Side,
        frame: websocket::Frame,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        let span = self.lane(from).open.take().unwrap_or_default();
        WebSocket::pair(&mut self.state, Told { from, span, frame }, counters, out);
    }

    /// Says of new calls whose they are.
    fn name(&self, first: usize, out: &mut [Transaction]) {
        for call in out.iter_mut().skip(first) {
            call.protocol = WebSocket::INFO.name;
            call.fields.push((STREAM, Value::Int(self.stream.into())));
        }
    }
}

impl Lane {
    /// Keeps the begin of a frame's head until there is more of it.
    fn hold(&mut self, bytes: &[u8], position: u64, span: &Span) {
        self.held.extend_from_slice(bytes);
        match &mut self.held_at {
            Some(held) => held.add_packets(span),
            None => self.held_at = Some(part_of(span, position, position)),
        }
    }

    /// Gives bytes to the frame under way; begins one if there is none.
    fn advance(&mut self, start: u64, end: u64, span: &Span) {
        let held = self.held_at.take();
        let open = self
            .open
            .get_or_insert_with(|| held.unwrap_or_else(|| part_of(span, start, end)));
        open.end = end;
        open.add_packets(span);
    }

    fn memory(&self) -> usize {
        let packets = |span: &Option<Span>| span.as_ref().map_or(0, |span| span.packets.len());
        self.held.len() + size_of::<u64>() * (packets(&self.held_at) + packets(&self.open))
    }
}

/// A part of what was seen at a time.
fn part_of(span: &Span, start: u64, end: u64) -> Span {
    Span {
        start,
        end,
        missing: 0,
        ..span.clone()
    }
}
