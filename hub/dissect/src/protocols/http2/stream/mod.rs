//! One stream: a request and its response, as their frames come.

mod tunnels;

mod calls;

use std::borrow::Cow;

use super::HeaderBlock;
use super::frame::ErrorCode;
use super::outcome::GivenUp;
use super::tunnel::Tunnel;
use crate::Nanos;
use crate::limits::HEADERS;
use crate::protocols::tap::Tap;
use crate::protocols::{Half, Request, Side, Span};

/// The field that has a stream's number.
pub(super) const STREAM: &str = "http2_stream";

/// A request and its response, so far.
#[derive(Default)]
pub(super) struct Stream {
    method: Cow<'static, str>,
    path: String,
    authority: String,
    /// What an extended CONNECT asked for.
    protocol: Option<String>,
    status: Option<i32>,
    /// Whether the server has promised it, unasked.
    pushed: bool,
    request: Part,
    response: Part,
    /// What it carries, if that is looked into.
    tunnel: Option<Box<Tunnel>>,
    /// Who gave it up, and when.
    given_up: Option<GivenUp>,
    given_up_at: Nanos,
    /// Who gave up the connection, and with it this stream.
    went_away: Option<GivenUp>,
    /// Whether the server has not processed it, by its own account.
    excluded: bool,
    /// What is known of its end otherwise.
    reset: bool,
    closed: bool,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Part {
    /// The message, if its head was seen.
    half: Option<Half>,
    /// Whether it has ended.
    over: bool,
    /// Whether frames of it may be missing.
    lost: bool,
    /// Whether fields of its head may be missing.
    damaged: bool,
    /// What looks at its body, if that is of a kind that has more to tell.
    tap: Option<Box<Tap>>,
}

impl Stream {
    /// The request that a server promises to answer (RFC 9113, section 8.4).
    pub fn promised(block: HeaderBlock, span: Span) -> Self {
        let mut stream = Self {
            pushed: true,
            ..Self::default()
        };
        stream.ask(block, span);
        stream.request.over = true;
        stream
    }

    /// A request that is whole, and was not made in frames.
    pub fn asked(request: Request) -> Self {
        let Request {
            method,
            mut path,
            query,
            authority,
            half,
        } = request;
        if !query.is_empty() {
            path.push('?');
            path.push_str(&query);
        }
        Self {
            method,
            path,
            authority,
            request: Part {
                half: Some(half),
                over: true,
                ..Part::default()
            },
            ..Self::default()
        }
    }

    /// Takes a header block: a head, an interim response or trailers.
    pub fn headers(&mut self, from: Side, block: HeaderBlock, span: Span) {
        if from == Side::Server && block.head.is_interim() {
            return;
        }
        let end = block.end;
        if self.tunnel.is_some() {
            // There are no trailers (RFC 9113, section 8.5).
            self.part(from).over |= end;
            return;
        }
        // Only trailers end what has begun. A head whose status is not known, behind which another one comes, was an
        // interim response.
        let interim = from == Side::Server && self.status.is_none() && !end;
        match &mut self.part(from).half {
            Some(half) if !interim => half.add_trailers(block, span),
            _ if from == Side::Client => self.ask(block, span),
            _ => self.answer(block, span),
        }
        self.part(from).over |= end;
    }

    /// Takes a frame of data.
    pub fn data(&mut self, from: Side, span: Span, body: u64, framing: u64, end: bool) {
        let carries = self.is_tunnel();
        let part = self.part(from);
        match &mut part.half {
            Some(half) => {
                half.body_len += body;
                half.head_len += framing;
                half.absorb(span);
            }
            None => part.lost |= !carries,
        }
        part.over |= end;
    }

    /// Somebody gives it up.
    pub fn give_up(&mut self, by: Side, code: ErrorCode, span: &Span) {
        // Behind a whole response, a server wants no more of the request (RFC 9113, section 8.1), and a client has nothing
        // to give up but its own sending.
        let quiet = code == ErrorCode::NO_ERROR || (by == Side::Client && code == ErrorCode::CANCEL);
        let content = quiet && self.response.over;
        if let Some(half) = &mut self.part(by).half {
            half.span.add_packets(span);
        }
        if !content {
            self.given_up = Some(GivenUp { by, code });
            self.given_up_at = span.last;
        }
        self.request.over = true;
        self.response.over = true;
    }

    /// The server has not processed it, and will not answer it (RFC 9113, section 6.8).
    pub fn refuse(&mut self, by: GivenUp) {
        self.went_away = Some(by);
        self.excluded = true;
    }

    /// There will be no more of it.
    pub fn break_off(&mut self, reset: bool, closed: bool, go_away: Option<GivenUp>) {
        self.reset = reset;
        self.closed = closed;
        self.went_away = go_away.filter(|given_up| given_up.code != ErrorCode::NO_ERROR);
        for part in [&mut self.request, &mut self.response] {
            if let Some(half) = &mut part.half {
                half.gap |= !part.over && !reset;
            }
        }
    }

    /// Frames of one direction may be missing.
    pub fn lose(&mut self, from: Side) {
        let part = self.part(from);
        if part.over {
            return;
        }
        part.lost = true;
        self.payload_lost(from);
    }

    /// Payload was never seen, nobody knows how much.
    pub fn payload_lost(&mut self, from: Side) {
        let part = self.part(from);
        if let Some(half) = &mut part.half {
            half.gap = true;
        }
        if let Some(tap) = &mut part.tap {
            tap.lose();
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.lose(from);
        }
    }

    /// Payload goes by. Gives what is kept of it, before and after.
    pub fn payload(&mut self, from: Side, bytes: &[u8]) -> (usize, usize) {
        let Some(tap) = &mut self.part(from).tap else {
            return (0, 0);
        };
        let before = tap.cost();
        tap.take(bytes);
        (before, tap.cost())
    }

    /// Payload was never seen.
    pub fn payload_missing(&mut self, from: Side, len: u64) {
        if let Some(tap) = &mut self.part(from).tap {
            tap.skip(len);
        }
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.missing(from, len);
        }
    }

    /// Bytes of a frame of data were never seen, and the driver does not count them.
    pub fn frame_missing(&mut self, from: Side, len: u64) {
        if let Some(half) = &mut self.part(from).half {
            half.gap = true;
            half.span.missing += len;
        }
    }

    /// Whether a response has begun.
    pub fn is_answered(&self) -> bool {
        self.response.half.is_some() || self.tunnel.is_some()
    }

    /// Whether nothing more is to be expected.
    pub fn is_done(&self) -> bool {
        let request = &self.request;
        let unseen = request.half.is_none() && self.tunnel.is_none();
        self.response.over && (request.over || request.lost || unseen)
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let text = self.method.len() + self.path.len() + self.authority.len();
        let tunnel = self.tunnel.as_ref().map_or(0, |tunnel| tunnel.memory());
        size_of::<Self>() + tunnel + text + self.request.cost() + self.response.cost()
    }

    fn part(&mut self, side: Side) -> &mut Part {
        match side {
            Side::Client => &mut self.request,
            Side::Server => &mut self.response,
        }
    }

    fn ask(&mut self, mut block: HeaderBlock, span: Span) {
        let head = &mut block.head;
        self.method = head.method.take().unwrap_or_default();
        self.path = head.path.take().unwrap_or_default();
        // Behind a proxy that speaks HTTP/1 to its client, the host may be told as there.
        let host = || head.headers.get("host").map(str::to_owned);
        self.authority = head.authority.take().or_else(host).unwrap_or_default();
        self.protocol = head.protocol.take();
        self.request.begin(Side::Client, block, span);
    }

    fn answer(&mut self, block: HeaderBlock, span: Span) {
        self.status = block.head.status;
        // Without a status, these may be the trailers of a response whose head is not there.
        let headless = block.end && self.status.is_none();
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let asked = Tap::of_answer(self.request.tap.as_deref(), query, &block.head.headers);
        self.response.begin(Side::Server, block, span);
        if self.response.tap.is_none() {
            self.response.tap = asked;
        }
        if let Some(half) = &mut self.response.half {
            half.gap |= headless;
        }
    }
}

impl Part {
    fn begin(&mut self, from: Side, block: HeaderBlock, span: Span) {
        let head = block.head;
        self.damaged = head.damaged || head.cut;
        self.tap = Tap::of_headers(&head.headers, head.unresolved > 0, from);
        self.half = Some(Half {
            gap: head.damaged || span.missing > 0,
            span,
            headers: head.headers,
            head_len: block.len,
            body_len: 0,
            headers_cut: head.cut,
            unresolved: head.unresolved,
            fields: Vec::new(),
        });
    }

    /// Whether not all of its header fields are known.
    fn is_unresolved(&self) -> bool {
        let half = self.half.as_ref();
        self.damaged || half.is_none_or(|half| half.unresolved > 0)
    }

    fn cost(&self) -> usize {
        let tap = self.tap.as_ref().map_or(0, |tap| tap.cost());
        self.half.as_ref().map_or(0, Half::cost) + tap
    }
}

impl Half {
    fn add_trailers(&mut self, block: HeaderBlock, span: Span) {
        let head = block.head;
        for (name, value) in head.headers.iter() {
            if self.headers.len() >= HEADERS {
                self.headers_cut = true;
                break;
            }
            self.headers.push(name, value.as_bytes());
        }
        self.head_len += block.len;
        self.gap |= head.damaged;
        self.headers_cut |= head.cut;
        self.unresolved += head.unresolved;
        self.absorb(span);
    }

    /// Takes over where another of its frames stands.
    fn absorb(&mut self, span: Span) {
        self.gap |= span.missing > 0;
        self.span.end = span.end;
        self.span.missing += span.missing;
        self.span.add_packets(&span);
    }
}
