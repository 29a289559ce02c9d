//! Bytes to frames. Header blocks are decoded here, in the order in which they were sent.

use super::frame::{
    END_HEADERS, END_STREAM, ErrorCode, HEADER, Header, Kind, PADDED, PREFACE, USUAL_PAYLOAD,
};
use super::head::{Head, block_of};
use super::hpack::Decoder;
use super::tunnel::Piece;
use super::{Frame, HeaderBlock, State};
use crate::Counters;
use crate::limits::HEAD_BYTES;
use crate::protocols::{Gapped, Input, Missing, Parsed, Side};

/// `SETTINGS_MAX_FRAME_SIZE` (RFC 9113, section 6.5.2).
const MAX_FRAME_SIZE: u16 = 5;

/// One direction.
pub(super) struct Lane {
    decoder: Decoder,
    phase: Phase,
    /// The header block under way, that goes on in the next frame.
    block: Option<Block>,
    /// The longest payload that the other side takes; `None` if that was not seen.
    most: Option<u32>,
    /// Whether no frame was seen yet.
    fresh: bool,
    /// What was lost, not yet counted.
    tally: Tally,
}

/// What was lost, until it can be counted: a gap is told without counters.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    cut: u64,
    long: u64,
    unresolved: u64,
    dropped: u64,
    voided: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// A frame.
    #[default]
    Boundary,
    /// The rest of a frame of data.
    Data(Data),
    /// The rest of a frame whose payload is of no use.
    Pass { left: u32 },
    /// The rest of a frame that is too long a part of the header block under way.
    Long { left: u32, ends: bool },
}

/// A frame of data under way.
#[derive(Clone, Copy, Debug)]
struct Data {
    stream: u32,
    /// Payload and padding that are still to come.
    left: u32,
    padding: u32,
    /// Payload that went by, and was not handed on.
    body: u64,
    /// Padding that went by, and the frame's header; without what was handed on.
    framing: u64,
    /// Whether no payload has gone by.
    begins: bool,
    /// Whether what went by last was handed on, so that the driver knows of no frame under way.
    handed_on: bool,
    end: bool,
}

/// A header block under way.
#[derive(Debug)]
struct Block {
    stream: u32,
    promised: Option<u32>,
    end_stream: bool,
    bytes: Vec<u8>,
    /// Bytes on the wire.
    len: u64,
    /// Whether there were too many of them to be kept.
    long: bool,
}

impl Lane {
    /// A direction from its begin on, or from the middle.
    pub fn new(joined: bool) -> Self {
        Self {
            decoder: if joined {
                Decoder::unknown()
            } else {
                Decoder::new()
            },
            phase: Phase::default(),
            block: None,
            most: (!joined).then_some(USUAL_PAYLOAD),
            fresh: true,
            tally: Tally::default(),
        }
    }

    /// The longest payload where a frame has to be looked for.
    pub fn likely_payload(&self) -> u32 {
        self.most.unwrap_or(USUAL_PAYLOAD)
    }

    /// No header block was missed: none was sent before.
    pub fn begin(&mut self) {
        self.decoder = Decoder::new();
    }

    /// The place is lost, and header blocks may have been missed.
    pub fn lose(&mut self) {
        self.phase = Phase::Boundary;
        self.block = None;
        self.fresh = false;
        self.void();
    }

    /// Counts what was lost.
    pub fn count(&mut self, counters: &mut Counters) {
        let Tally {
            cut,
            long,
            unresolved,
            dropped,
            voided,
        } = std::mem::take(&mut self.tally);
        counters.headers_cut += cut;
        counters.heads_too_long += long;
        counters.headers_unresolved += unresolved;
        counters.hpack_entries_dropped += dropped;
        counters.hpack_voided += voided;
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.decoder.memory() + self.block.as_ref().map_or(0, |block| block.bytes.len())
    }

    fn void(&mut self) {
        self.tally.voided += 1;
        self.decoder = Decoder::unknown();
    }

    /// The header block is whole, or as whole as it gets.
    fn finish(&mut self, block: &Block, bytes: &[u8], damaged: bool) -> Frame {
        let mut head = Head::decode(&mut self.decoder, bytes);
        // Of a long one, the first fields are shown.
        head.cut |= block.long;
        head.damaged = damaged || (head.damaged && !block.long);
        self.tally.cut += u64::from(head.cut);
        self.tally.long += u64::from(block.long);
        self.tally.unresolved += u64::from(head.unresolved);
        self.tally.dropped += self.decoder.take_dropped();
        if head.damaged || block.long {
            self.void();
        }
        Frame::Headers(Box::new(HeaderBlock {
            stream: block.stream,
            promised: block.promised,
            head,
            len: block.len,
            end: block.end_stream,
            lost: false,
        }))
    }
}

impl Block {
    fn new(header: &Header) -> Self {
        Self {
            stream: header.stream,
            promised: None,
            end_stream: header.kind == Kind::Headers && header.has(END_STREAM),
            bytes: Vec::new(),
            len: 0,
            long: false,
        }
    }

    /// Adds what a frame has of it.
    fn add(&mut self, header: &Header, payload: &[u8]) -> Option<()> {
        let (part, promised) = block_of(header, payload)?;
        self.promised = self.promised.or(promised);
        let room = HEAD_BYTES - self.bytes.len().min(HEAD_BYTES);
        self.long |= part.len() > room;
        self.bytes.extend_from_slice(part.get(..room).unwrap_or(part));
        self.len += (HEADER + payload.len()) as u64;
        Some(())
    }
}

impl State {
    /// Takes the next frame of a direction, or a part of it.
    pub(super) fn frame(&mut self, input: Input<'_>) -> Parsed<Frame> {
        let available = u32::try_from(input.bytes.len()).unwrap_or(u32::MAX);
        let lane = self.lane(input.from);
        match lane.phase {
            Phase::Boundary => self.begin_frame(input),
            Phase::Data(data) => self.data(data, input, 0),
            Phase::Pass { left } => {
                let used = left.min(available);
                lane.phase = Phase::pass(left - used);
                Parsed::Skip { used: used as usize }
            }
            Phase::Long { left, ends } => {
                let used = left.min(available);
                let rest = left - used;
                lane.phase = Phase::Long { left: rest, ends };
                if rest == 0 {
                    lane.phase = Phase::Boundary;
                    if ends && let Some(block) = lane.block.take() {
                        let frame = lane.finish(&block, &block.bytes, false);
                        return Parsed::Frame {
                            used: used as usize,
                            frame,
                        };
                    }
                }
                Parsed::Part { used: used as usize }
            }
        }
    }

    fn begin_frame(&mut self, input: Input<'_>) -> Parsed<Frame> {
        let (from, bytes) = (input.from, input.bytes);
        if from == Side::Client && bytes.starts_with(b"P") {
            if bytes.starts_with(PREFACE) {
                if self.client.fresh {
                    self.preface(input.ack);
                }
                return Parsed::Skip { used: PREFACE.len() };
            }
            if PREFACE.starts_with(bytes) {
                return Parsed::More {
                    at_least: PREFACE.len(),
                };
            }
        }
        let Some(header) = Header::read(bytes) else {
            return Parsed::More { at_least: HEADER };
        };
        let lane = self.lane(from);
        let expected = match &lane.block {
            Some(block) => header.kind == Kind::Continuation && header.stream == block.stream,
            None => header.kind != Kind::Continuation,
        };
        if !expected || !header.is_valid() || lane.most.is_some_and(|most| header.len > most) {
            self.lost(from);
            return Parsed::Invalid;
        }
        lane.fresh = false;
        let whole = header.whole();
        let wanted = match header.kind {
            Kind::Data => HEADER + usize::from(header.has(PADDED)),
            Kind::Headers | Kind::PushPromise | Kind::Continuation if whole > HEAD_BYTES => HEADER,
            Kind::Headers | Kind::PushPromise | Kind::Continuation => whole,
            Kind::RstStream => whole,
            Kind::Settings if whole <= HEAD_BYTES => whole,
            Kind::GoAway => HEADER + 8,
            // Of the others, nothing is needed.
            _ => HEADER,
        };
        let Some(payload) = bytes.get(HEADER..wanted) else {
            return Parsed::More { at_least: wanted };
        };
        match header.kind {
            Kind::Data => return self.begin_data(header, payload, input),
            Kind::Headers | Kind::PushPromise | Kind::Continuation => {
                return self.block(from, header, payload);
            }
            Kind::RstStream | Kind::GoAway => {
                lane.phase = Phase::pass((whole - wanted) as u32);
                let stream = payload.first_chunk().copied().unwrap_or_default();
                let last = u32::from_be_bytes(stream) & 0x7fff_ffff;
                let code = payload
                    .last_chunk()
                    .and_then(|code: &[u8; 4]| ErrorCode::read(code));
                let code = code.unwrap_or(ErrorCode::NO_ERROR);
                let frame = if header.kind == Kind::GoAway {
                    Frame::GoAway { last, code }
                } else {
                    Frame::Reset {
                        stream: header.stream,
                        code,
                    }
                };
                return Parsed::Frame { used: wanted, frame };
            }
            Kind::Settings => self.settings(from, payload),
            Kind::Priority
            | Kind::Ping
            | Kind::WindowUpdate
            | Kind::AltSvc
            | Kind::Origin
            | Kind::PriorityUpdate
            | Kind::Other => {}
        }
        self.lane(from).phase = Phase::pass((whole - wanted) as u32);
        Parsed::Skip { used: wanted }
    }

    fn begin_data(&mut self, header: Header, payload: &[u8], input: Input<'_>) -> Parsed<Frame> {
        let padding = payload.first().map_or(0, |padding| u32::from(*padding));
        let Some(left) = header
            .len
            .checked_sub(payload.len() as u32)
            .filter(|left| padding <= *left)
        else {
            self.lost(input.from);
            return Parsed::Invalid;
        };
        let used = HEADER + payload.len();
        let data = Data {
            stream: header.stream,
            left,
            padding,
            body: 0,
            framing: used as u64,
            begins: true,
            handed_on: false,
            end: header.has(END_STREAM),
        };
        self.data(data, input, used)
    }

    /// Takes what is there of a frame of data, behind the bytes that are used.
    fn data(&mut self, mut data: Data, input: Input<'_>, used: usize) -> Parsed<Frame> {
        let rest = input.bytes.get(used..).unwrap_or_default();
        let there = rest.len().min(data.left as usize);
        let body = there.min(data.left.saturating_sub(data.padding) as usize);
        let payload = rest.get(..body).unwrap_or_default();
        let wanted = self.streams.payload(input.from, data.stream, payload);
        data.pass(there, body);
        let lane = self.lane(input.from);
        let position = input.position + used as u64;
        let used = used + there;
        if wanted && (body > 0 || data.left == 0) {
            let piece = data.piece(position, payload);
            lane.phase = if data.left == 0 {
                Phase::Boundary
            } else {
                Phase::Data(data)
            };
            return Parsed::Frame {
                used,
                frame: Frame::Piece(Box::new(piece)),
            };
        }
        data.begins &= body == 0;
        data.handed_on = false;
        if data.left == 0 {
            lane.phase = Phase::Boundary;
            return Parsed::Frame {
                used,
                frame: data.frame(data.end),
            };
        }
        lane.phase = Phase::Data(data);
        Parsed::Part { used }
    }

    fn block(&mut self, from: Side, header: Header, payload: &[u8]) -> Parsed<Frame> {
        let lane = self.lane(from);
        if lane.block.is_none() && header.has(END_HEADERS) && payload.len() == header.len as usize {
            // The common case: all of it is in one frame, and decoded where it is.
            let Some((bytes, promised)) = block_of(&header, payload) else {
                self.lost(from);
                return Parsed::Invalid;
            };
            let mut block = Block::new(&header);
            block.promised = promised;
            block.len = header.whole() as u64;
            return Parsed::Frame {
                used: header.whole(),
                frame: lane.finish(&block, bytes, false),
            };
        }
        let mut block = lane.block.take().unwrap_or_else(|| Block::new(&header));
        let used = HEADER + payload.len();
        let ends = header.has(END_HEADERS);
        if payload.len() < header.len as usize {
            block.long = true;
            block.len += header.whole() as u64;
            lane.block = Some(block);
            lane.phase = Phase::Long {
                left: header.len - payload.len() as u32,
                ends,
            };
            return Parsed::Part { used };
        }
        if block.add(&header, payload).is_none() {
            self.lost(from);
            return Parsed::Invalid;
        }
        if !ends {
            lane.block = Some(block);
            return Parsed::Part { used };
        }
        let frame = lane.finish(&block, &block.bytes, false);
        Parsed::Frame { used, frame }
    }

    fn settings(&mut self, from: Side, payload: &[u8]) {
        let other = match from {
            Side::Client => &mut self.server,
            Side::Server => &mut self.client,
        };
        for setting in payload.chunks_exact(6) {
            if let [i1, i0, v3, v2, v1, v0] = *setting
                && u16::from_be_bytes([i1, i0]) == MAX_FRAME_SIZE
            {
                let most = u32::from_be_bytes([v3, v2, v1, v0]);
                // A smaller one holds only once it was acknowledged.
                other.most = Some(other.most.unwrap_or(USUAL_PAYLOAD).max(most));
            }
        }
    }

    /// Bytes are missing. What is known of the frame under way says how many of them it takes.
    pub(super) fn missing(&mut self, from: Side, held: &[u8], gap: Missing) -> Gapped<Frame> {
        let lane = self.lane(from);
        let phase = std::mem::take(&mut lane.phase);
        let (inside, mut frame, lost) = match phase {
            Phase::Data(mut data) => {
                let inside = gap.len.min(data.left.into());
                let body = inside.min(data.left.saturating_sub(data.padding).into());
                data.pass(inside as usize, body as usize);
                self.streams.payload_missing(from, data.stream, body);
                if data.handed_on {
                    self.streams.frame_missing(from, data.stream, inside);
                }
                let lost = inside < gap.len;
                if data.left == 0 {
                    (inside, Some(data.frame(data.end)), lost)
                } else {
                    self.lane(from).phase = Phase::Data(data);
                    (inside, None, false)
                }
            }
            Phase::Pass { left } => {
                let inside = gap.len.min(left.into());
                lane.phase = Phase::pass(left - inside as u32);
                (inside, None, inside < gap.len)
            }
            Phase::Long { left, .. } => {
                let inside = gap.len.min(left.into());
                lane.phase = Phase::pass(left - inside as u32);
                (inside, lane.damaged(&[]), inside < gap.len)
            }
            Phase::Boundary => {
                let header = Header::read(held).filter(Header::is_valid);
                let left = header.map_or(0, |header| header.whole().saturating_sub(held.len()) as u64);
                let inside = gap.len.min(left);
                lane.phase = Phase::pass((left - inside) as u32);
                let frame = match header.filter(|header| header.kind == Kind::Data) {
                    Some(header) => Some(self.padding_missing(from, header)),
                    None => lane.damaged(held),
                };
                let inside = if frame.is_some() { inside } else { 0 };
                (inside, frame, gap.len == 0 || left < gap.len)
            }
        };
        if lost {
            self.lost(from);
            // The stream that it opens is not among those that were just told so.
            if let Some(Frame::Headers(block)) = &mut frame {
                block.lost = true;
            }
        }
        Gapped { inside, frame, lost }
    }

    /// Of a frame of data, the byte is missing that says how much of it is padding: none of the rest can be told from that.
    fn padding_missing(&mut self, from: Side, header: Header) -> Frame {
        self.streams.payload_lost(from, header.stream);
        Frame::Data {
            stream: header.stream,
            body: 0,
            framing: HEADER as u64,
            end: header.has(END_STREAM),
        }
    }

    /// A direction has ended: what is there of the frame under way.
    pub(super) fn ended(&mut self, from: Side, held: &[u8]) -> Option<Frame> {
        let lane = self.lane(from);
        match std::mem::take(&mut lane.phase) {
            Phase::Data(data) => Some(data.frame(false)),
            Phase::Pass { .. } => None,
            Phase::Long { .. } => lane.damaged(&[]),
            Phase::Boundary => lane.damaged(held),
        }
    }
}

impl Lane {
    /// Makes what can be made of the header block under way, whose rest is missing. `held` is the begin of the frame
    /// that was to bring it, if there is one.
    fn damaged(&mut self, held: &[u8]) -> Option<Frame> {
        let header = Header::read(held).filter(Header::is_valid);
        let header = header.filter(|header| {
            matches!(
                header.kind,
                Kind::Headers | Kind::PushPromise | Kind::Continuation
            )
        });
        let mut block = match (self.block.take(), header) {
            (Some(block), _) => block,
            (None, Some(header)) if header.kind != Kind::Continuation => Block::new(&header),
            (None, _) => return None,
        };
        if let Some(mut header) = header
            && header.stream == block.stream
        {
            // Padding is at the end, and missing.
            let payload = held.get(HEADER..).unwrap_or_default();
            let payload = if header.has(PADDED) && header.kind != Kind::Continuation {
                header.flags &= !PADDED;
                payload.get(1..).unwrap_or_default()
            } else {
                payload
            };
            // What is there may be less than what stands before the block.
            let _nothing_of_it = block.add(&header, payload);
        }
        Some(self.finish(&block, &block.bytes, true))
    }
}

impl Data {
    fn pass(&mut self, there: usize, body: usize) {
        self.left -= there as u32;
        self.body += body as u64;
        self.framing += (there - body) as u64;
    }

    /// Hands on what went by.
    fn piece(&mut self, position: u64, payload: &[u8]) -> Piece {
        self.body = 0;
        self.handed_on = true;
        Piece {
            stream: self.stream,
            position,
            bytes: payload.to_vec(),
            begins: std::mem::take(&mut self.begins),
            framing: std::mem::take(&mut self.framing),
            end: self.end && self.left == 0,
        }
    }

    fn frame(&self, end: bool) -> Frame {
        Frame::Data {
            stream: self.stream,
            body: self.body,
            framing: self.framing,
            end,
        }
    }
}

impl Phase {
    fn pass(left: u32) -> Self {
        if left == 0 {
            Self::Boundary
        } else {
            Self::Pass { left }
        }
    }
}
