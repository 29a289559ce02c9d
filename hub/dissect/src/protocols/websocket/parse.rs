//! One direction's frames, and the message that they make.

use super::frame::{Header, Opcode, Read};
use super::payload::{Inflater, Payload};
use super::{Frame, GoesOn, Lane, Open, Start};
use crate::Counters;
use crate::protocols::{Gapped, Input, Parsed, Side};

impl Lane {
    /// A direction of which nothing is known, but that it begins with a frame.
    pub fn new() -> Self {
        Self {
            start: Start::Proved,
            frame: None,
            goes_on: GoesOn::Unknown,
            message: None,
            inflater: Inflater::default(),
        }
    }

    /// It begins with its first message.
    pub fn upgraded(&mut self, start: Start) {
        self.start = start;
        self.goes_on = GoesOn::No;
    }

    /// Takes what is next.
    pub fn parse(&mut self, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        if self.frame.is_some() {
            return self.payload(input.bytes, 0, counters);
        }
        let header = match Header::read(input.bytes) {
            Read::Head(header) => header,
            Read::More => {
                return Parsed::More {
                    at_least: input.bytes.len() + 1,
                };
            }
            Read::Malformed => return Parsed::Invalid,
        };
        // A client masks, a server does not (RFC 6455, section 5.1).
        let masked = header.mask.is_some() == (input.from == Side::Client);
        let fits = match (header.opcode, self.goes_on) {
            (Opcode::Continuation, GoesOn::No) | (Opcode::Text | Opcode::Binary, GoesOn::Yes) => false,
            (Opcode::Continuation | Opcode::Text | Opcode::Binary, _) => true,
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => true,
        };
        if !masked || !fits {
            return Parsed::Invalid;
        }
        if !header.opcode.is_control() && (header.opcode != Opcode::Continuation || self.message.is_none()) {
            let opcode = Some(header.opcode).filter(|opcode| *opcode != Opcode::Continuation);
            self.message = Some(Payload::new(opcode, header.compressed, &mut self.inflater));
        }
        let goes_on = self.goes_on;
        if !header.opcode.is_control() {
            self.goes_on = if header.last { GoesOn::No } else { GoesOn::Yes };
        }
        self.frame = Some(Open {
            header,
            passed: 0,
            gap: false,
            control: Vec::new(),
            first: goes_on != GoesOn::Yes,
        });
        self.payload(input.bytes, header.size, counters)
    }

    /// Bytes are missing.
    pub fn gap(&mut self, len: u64) -> Gapped<Frame> {
        let Some(open) = &mut self.frame else {
            self.lose();
            return Gapped {
                inside: 0,
                frame: None,
                lost: true,
            };
        };
        let inside = len.min(open.header.payload - open.passed);
        open.passed += inside;
        open.gap |= inside > 0;
        if inside > 0
            && !open.header.opcode.is_control()
            && let Some(message) = &mut self.message
        {
            message.skip(inside, &mut self.inflater);
        }
        let lost = inside < len;
        let frame = if open.passed == open.header.payload {
            self.ended()
        } else {
            None
        };
        if lost {
            self.lose();
        }
        Gapped { inside, frame, lost }
    }

    /// Nothing follows: the frame under way, as far as it is there.
    pub fn cut(&mut self) -> Option<Frame> {
        let mut open = self.frame.take()?;
        open.gap = true;
        let mut message = self.message.take_if(|_| !open.header.opcode.is_control());
        if let Some(message) = &mut message {
            message.gap = true;
        }
        Some(open.frame(message))
    }

    /// The place is lost: what comes may be the middle of anything.
    pub fn lose(&mut self) {
        self.frame = None;
        self.message = None;
        self.goes_on = GoesOn::Unknown;
        self.inflater.lose();
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        let control = self.frame.as_ref().map_or(0, |open| open.control.len());
        self.message.as_ref().map_or(0, Payload::memory) + self.inflater.memory() + control
    }

    /// Takes bytes of the frame under way, of which the first `head` are its head.
    fn payload(&mut self, bytes: &[u8], head: usize, counters: &mut Counters) -> Parsed<Frame> {
        let Some(open) = &mut self.frame else {
            return Parsed::Invalid;
        };
        let rest = bytes.get(head..).unwrap_or_default();
        let left = usize::try_from(open.header.payload - open.passed).unwrap_or(usize::MAX);
        let payload = rest.get(..left).unwrap_or(rest);
        let used = head + payload.len();
        if open.header.opcode.is_control() {
            open.keep(payload);
        } else if let Some(message) = &mut self.message {
            message.take(&open.header, open.passed, payload, &mut self.inflater, counters);
        }
        open.passed += payload.len() as u64;
        if open.passed < open.header.payload {
            return Parsed::Part { used };
        }
        if let Some(message) = &mut self.message
            && open.is_messages_last()
        {
            message.end(&mut self.inflater, counters);
        }
        match self.ended() {
            Some(frame) => Parsed::Frame { used, frame },
            None => Parsed::Invalid,
        }
    }

    /// The frame under way has ended.
    fn ended(&mut self) -> Option<Frame> {
        let open = self.frame.take()?;
        let message = self.message.take_if(|_| open.is_messages_last());
        Some(open.frame(message))
    }
}

impl Open {
    fn is_messages_last(&self) -> bool {
        self.header.last && !self.header.opcode.is_control()
    }

    fn keep(&mut self, payload: &[u8]) {
        if self.gap {
            return;
        }
        let mask = self.header.mask;
        let bytes = (self.passed..).zip(payload);
        self.control
            .extend(bytes.map(|(offset, byte)| super::frame::unmask(mask, offset, *byte)));
    }

    fn frame(self, message: Option<Payload>) -> Frame {
        Frame {
            header: self.header,
            gap: self.gap,
            control: self.control,
            first: self.first,
            message: message.map(Box::new),
        }
    }
}
