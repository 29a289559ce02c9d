//! What drives a protocol: the loop, the buffers and their limits, looking for a lost place, times and locations.

use crate::flow::{End, Ends};
use crate::limits::PLACE_BYTES;
use crate::protocols::{
    Gapped, Input, LeftOut, Missing, Next, Parsed, Place, Protocol, Request, Side, Span, Told as Framed,
    Transaction, Upgrade,
};
use crate::tcp::{Close, Event, Stamp, Told};
use crate::{Counters, Marks, PACKETS_PER_MESSAGE};

/// The dissection of one connection by one protocol, as the rest of the crate sees it.
pub trait Dissector: Send {
    /// Takes what is next, gives the transactions that have become complete.
    fn tell(&mut self, told: Told<'_>, counters: &mut Counters, out: &mut Vec<Transaction>) -> Fate;

    /// A request that was made before the switch to this protocol is to be answered in it.
    fn answering(&mut self, request: Request);

    /// HTTP/1 was left for this protocol.
    fn upgraded(&mut self, upgrade: Upgrade);

    /// Which end is the client.
    fn client(&self) -> End;

    /// The protocol's name.
    fn protocol(&self) -> &'static str;

    /// Bytes that it holds, roughly.
    fn memory(&self) -> usize;
}

/// How the dissection goes on.
#[derive(Debug)]
pub enum Fate {
    /// By the same dissector.
    On,
    /// By another one, which is to be told the rest first.
    Switch(Next, Vec<Rest>),
}

/// Bytes that belong to the next protocol.
#[derive(Debug)]
pub struct Rest {
    /// Whose.
    pub from: End,
    /// Where.
    pub position: u64,
    /// The packet that carried the first.
    pub stamp: Stamp,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Room that a direction keeps once nothing waits: of a segment, as most messages that are cut are cut once.
const HELD_KEPT: usize = 2048;

/// A protocol with its buffers.
pub(crate) struct Driver<P: Protocol> {
    client: End,
    /// What every transaction is marked with.
    marks: Marks,
    state: P::State,
    lanes: Ends<Lane>,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Bytes of a frame that is not whole, or of what may be one.
    held: Vec<u8>,
    /// Which packets they came in: position of the first byte of each, with the packet.
    pieces: Vec<(u64, Stamp)>,
    /// Position of the first byte that is not used.
    position: u64,
    /// Bytes without which asking again is no use.
    need: usize,
    /// Whether the next frame must be looked for.
    lost: bool,
    /// While it is looked for: whether what waits came when it was its sender's turn.
    turn: bool,
    /// The frame under way.
    open: Option<Span>,
    /// Whether there is nothing more.
    ended: bool,
}

impl<P: Protocol> Driver<P> {
    /// A dissection that has been told nothing. `marks` say that the connection's begin was not seen, and why.
    pub fn new(client: End, marks: Marks) -> Self {
        let joined = marks != Marks::default();
        Self {
            client,
            marks,
            state: P::begin(joined),
            lanes: Ends {
                low: Lane::new(joined),
                high: Lane::new(joined),
            },
        }
    }

    fn side(&self, end: End) -> Side {
        if end == self.client {
            Side::Client
        } else {
            Side::Server
        }
    }

    fn data(
        &mut self,
        told: &Told<'_>,
        bytes: &[u8],
        turn: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) -> Fate {
        if self.lanes[told.from].lost && turn {
            self.prefer(told, bytes, counters);
        }
        let lane = &mut self.lanes[told.from];
        if lane.held.is_empty() {
            // The common case: nothing waits, and what comes is parsed where it is.
            lane.position = told.position;
            lane.pieces.clear();
            if lane.pieces.capacity() == 0 {
                // Most lanes never have two.
                lane.pieces.reserve_exact(1);
            }
            lane.pieces.push((told.position, told.stamp));
            let (used, fate) = self.parse(told.from, bytes, turn, counters, out);
            let lane = &mut self.lanes[told.from];
            if let Some(left) = bytes.get(used..) {
                lane.held.extend_from_slice(left);
            }
            return self.switch(fate);
        }
        lane.held.extend_from_slice(bytes);
        lane.pieces.push((told.position, told.stamp));
        if lane.held.len() < lane.need {
            return Fate::On;
        }
        let held = std::mem::take(&mut lane.held);
        let turn = lane.lost && lane.turn;
        let (used, fate) = self.parse(told.from, &held, turn, counters, out);
        let lane = &mut self.lanes[told.from];
        lane.held = held;
        lane.held.drain(..used.min(lane.held.len()));
        if lane.held.is_empty() && lane.held.capacity() > HELD_KEPT {
            lane.held = Vec::new();
        }
        let position = lane.position;
        let first = lane
            .pieces
            .partition_point(|(start, _)| *start <= position)
            .saturating_sub(1);
        lane.pieces.drain(..first);
        self.switch(fate)
    }

    /// It is a direction's turn while bytes of it wait that may begin a frame. If one begins now, or may, then none began
    /// before: the other end has received what waits, and has spoken.
    fn prefer(&mut self, told: &Told<'_>, bytes: &[u8], counters: &mut Counters) {
        let lane = &self.lanes[told.from];
        if lane.held.is_empty() {
            return;
        }
        let input = Input {
            from: self.side(told.from),
            bytes,
            position: told.position,
            ack: told.stamp.ack,
            turn: true,
        };
        if P::resync(&mut self.state, input) != Place::Nowhere {
            self.lanes[told.from].forget(counters);
        }
    }

    /// Parses as far as it goes; gives how many bytes were used.
    fn parse(
        &mut self,
        from: End,
        bytes: &[u8],
        turn: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) -> (usize, Option<Next>) {
        let side = self.side(from);
        let mut used = 0;
        // Steps that used nothing; a frame may end so once, before another one begins.
        let mut idle = 0;
        while let Some(left) = bytes.get(used..).filter(|left| !left.is_empty()) {
            let lane = &mut self.lanes[from];
            let input = Input {
                from: side,
                bytes: left,
                position: lane.position,
                ack: lane.stamp(lane.position).ack,
                turn: turn && used == 0,
            };
            if lane.lost {
                let skip = match P::resync(&mut self.state, input) {
                    Place::At(skip) => skip.min(left.len()),
                    Place::Perhaps if left.len() < PLACE_BYTES => {
                        lane.turn = input.turn;
                        lane.need = 0;
                        break;
                    }
                    Place::Perhaps => {
                        counters.places_given_up += 1;
                        left.len()
                    }
                    Place::Nowhere => left.len(),
                };
                counters.skipped_bytes += skip as u64;
                lane.position += skip as u64;
                used += skip;
                lane.lost = skip == left.len();
                continue;
            }
            let (step, frame) = match P::parse(&mut self.state, input, counters) {
                Parsed::Frame { used, frame } => (used, Some(frame)),
                Parsed::Part { used } => (used, None),
                Parsed::Skip { used: skip } => {
                    let skip = skip.clamp(1, left.len());
                    lane.position += skip as u64;
                    used += skip;
                    continue;
                }
                Parsed::More { at_least } if left.len() < P::INFO.buffer => {
                    lane.need = at_least.max(left.len() + 1);
                    break;
                }
                Parsed::More { .. } => {
                    // What is there of the frame is made the best of, as if the rest were missing.
                    counters.heads_too_long += 1;
                    let end = Missing {
                        position: lane.position + left.len() as u64,
                        len: 0,
                    };
                    if let Some(frame) = P::gap(&mut self.state, side, left, end).frame {
                        lane.advance(left.len() as u64);
                        self.pair(from, frame, counters, out);
                        self.lanes[from].position -= left.len() as u64;
                    }
                    used += self.lose(from, left.len(), counters);
                    continue;
                }
                Parsed::Invalid => {
                    used += self.lose(from, left.len(), counters);
                    continue;
                }
                Parsed::Switch(next) => return (used, Some(next)),
            };
            let step = step.min(left.len());
            idle = if step == 0 { idle + 1 } else { 0 };
            if idle > 2 {
                used += self.lose(from, left.len(), counters);
                continue;
            }
            lane.advance(step as u64);
            used += step;
            if let Some(frame) = frame {
                self.pair(from, frame, counters, out);
            }
        }
        (used, None)
    }

    /// The frame under way has ended, and goes to the others.
    fn pair(&mut self, from: End, frame: P::Frame, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let framed = Framed {
            from: self.side(from),
            span: self.lanes[from].close(),
            frame,
        };
        P::pair(&mut self.state, framed, counters, out);
    }

    /// Passes over bytes in which the place was lost. What comes next is looked at from a segment's begin on.
    fn lose(&mut self, from: End, left: usize, counters: &mut Counters) -> usize {
        let lane = &mut self.lanes[from];
        counters.resyncs += 1;
        counters.skipped_bytes += left as u64;
        lane.position += left as u64;
        lane.lost = true;
        lane.open = None;
        lane.need = 0;
        left
    }

    fn gap(&mut self, told: &Told<'_>, len: u64, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let side = self.side(told.from);
        let lane = &mut self.lanes[told.from];
        if lane.lost {
            lane.forget(counters);
        }
        let missing = Missing {
            position: told.position,
            len,
        };
        let Gapped { inside, frame, lost } = P::gap(&mut self.state, side, &lane.held, missing);
        if frame.is_some() {
            // What waited was the begin of the frame that has ended now.
            lane.advance(lane.held.len() as u64);
        } else if !lane.held.is_empty() {
            counters.skipped_bytes += lane.held.len() as u64;
        }
        lane.position = told.position;
        if let Some(open) = &mut lane.open {
            open.missing += inside;
            lane.position += inside;
            open.end = lane.position;
        }
        lane.held.clear();
        lane.need = 0;
        if lost && !lane.lost {
            counters.resyncs += 1;
            lane.lost = true;
        }
        if let Some(frame) = frame {
            self.pair(told.from, frame, counters, out);
        } else if lost {
            lane.open = None;
        }
        self.lanes[told.from].position = told.position + len;
    }

    fn end(&mut self, from: End, close: Close, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let side = self.side(from);
        let lane = &mut self.lanes[from];
        if lane.ended {
            return;
        }
        if lane.lost {
            lane.forget(counters);
        }
        if let Some(frame) = P::end(&mut self.state, side, &lane.held, close) {
            lane.advance(lane.held.len() as u64);
            self.pair(from, frame, counters, out);
        }
        let lane = &mut self.lanes[from];
        lane.held = Vec::new();
        lane.ended = true;
        if self.lanes[from.other()].ended {
            P::close(&mut self.state, close, out);
        }
    }

    /// The bytes that neither direction has used go to the next protocol.
    fn switch(&mut self, next: Option<Next>) -> Fate {
        let Some(next) = next else { return Fate::On };
        let mut rest = Vec::new();
        for from in End::BOTH {
            let lane = &mut self.lanes[from];
            if !lane.held.is_empty() {
                rest.push(Rest {
                    from,
                    position: lane.position,
                    stamp: lane.stamp(lane.position),
                    bytes: std::mem::take(&mut lane.held),
                });
            }
        }
        Fate::Switch(next, rest)
    }
}

impl<P: Protocol> Dissector for Driver<P> {
    fn tell(&mut self, told: Told<'_>, counters: &mut Counters, out: &mut Vec<Transaction>) -> Fate {
        let first = out.len();
        let fate = match told.event {
            Event::Data { bytes, turn } => self.data(&told, bytes, turn, counters, out),
            Event::Gap(len) => {
                self.gap(&told, len, counters, out);
                Fate::On
            }
            Event::End(close) => {
                self.end(told.from, close, counters, out);
                Fate::On
            }
        };
        for transaction in out.iter_mut().skip(first) {
            if transaction.protocol.is_empty() {
                transaction.protocol = P::INFO.name;
            }
            let LeftOut {
                graphql,
                graphql_text,
                event_text,
            } = transaction.left_out;
            counters.graphql_beyond += u64::from(graphql);
            counters.graphql_texts_cut += u64::from(graphql_text);
            counters.event_texts_cut += u64::from(event_text);
            transaction.client = self.client;
            transaction.marks.set(self.marks);
        }
        fate
    }

    fn answering(&mut self, request: Request) {
        P::answering(&mut self.state, request);
    }

    fn upgraded(&mut self, upgrade: Upgrade) {
        P::upgraded(&mut self.state, upgrade);
    }

    fn client(&self) -> End {
        self.client
    }

    fn protocol(&self) -> &'static str {
        P::INFO.name
    }

    fn memory(&self) -> usize {
        size_of::<Self>() + self.lanes.low.memory() + self.lanes.high.memory() + P::memory(&self.state)
    }
}

impl Lane {
    fn new(lost: bool) -> Self {
        Self {
            lost,
            ..Self::default()
        }
    }

    /// Passes over what waits, for it begins no frame.
    fn forget(&mut self, counters: &mut Counters) {
        counters.skipped_bytes += self.held.len() as u64;
        self.position += self.held.len() as u64;
        self.held.clear();
    }

    /// Bytes that it holds, roughly.
    fn memory(&self) -> usize {
        let packets = self.open.as_ref().map_or(0, |open| open.packets.len());
        self.held.capacity() + size_of::<u64>() * packets + size_of::<(u64, Stamp)>() * self.pieces.capacity()
    }

    /// The packet that carried the byte at a position.
    fn stamp(&self, position: u64) -> Stamp {
        let behind = self.pieces.partition_point(|(start, _)| *start <= position);
        let piece = self.pieces.get(behind.saturating_sub(1));
        piece.map(|(_, stamp)| *stamp).unwrap_or_default()
    }

    /// Gives the next bytes to the frame under way; begins one if there is none.
    fn advance(&mut self, len: u64) {
        let start = self.position;
        self.position += len;
        let end = self.position;
        if len == 0 {
            return;
        }
        let first = self
            .pieces
            .partition_point(|(at, _)| *at <= start)
            .saturating_sub(1);
        let pieces = self.pieces.iter().skip(first).take_while(|(at, _)| *at < end);
        for (_, stamp) in pieces {
            let open = self.open.get_or_insert_with(|| Span {
                start,
                ack: stamp.ack,
                first: stamp.ts,
                ..Span::default()
            });
            open.carried_by(stamp);
        }
        if let Some(open) = &mut self.open {
            open.end = end;
        }
    }

    /// The frame under way has ended.
    fn close(&mut self) -> Span {
        self.open.take().unwrap_or(Span {
            start: self.position,
            end: self.position,
            ..Span::default()
        })
    }
}

impl Span {
    /// Takes over when another part of the same message passed, and in which packets.
    pub(crate) fn add_packets(&mut self, part: &Self) {
        self.last = self.last.max(part.last);
        self.packets_cut |= part.packets_cut;
        for at in &part.packets {
            self.add_location(*at);
        }
    }

    fn carried_by(&mut self, stamp: &Stamp) {
        self.last = stamp.ts;
        if stamp.at_first != stamp.at {
            // Fragments lie between the two locations.
            self.packets_cut = true;
            self.add_location(stamp.at_first);
        }
        self.add_location(stamp.at);
    }

    /// Takes what follows it in the same direction, as a part of the same message.
    pub(crate) fn append(&mut self, later: Self) {
        self.end += later.end - later.start;
        self.missing += later.missing;
        self.repeat(&later);
    }

    /// The same was sent again.
    pub(crate) fn repeat(&mut self, later: &Self) {
        self.last = later.last;
        self.packets_cut |= later.packets_cut;
        for at in &later.packets {
            self.add_location(*at);
        }
    }

    /// Adds a packet, within the limit.
    pub(crate) fn add_location(&mut self, at: u64) {
        if self.packets.last() == Some(&at) {
            return;
        }
        if self.packets.len() < PACKETS_PER_MESSAGE {
            self.packets.push(at);
        } else if let Some(last) = self.packets.last_mut() {
            *last = at;
            self.packets_cut = true;
        }
    }
}
