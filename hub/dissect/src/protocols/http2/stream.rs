//! One stream: a request and its response, as their frames come.

use super::HeaderBlock;
use super::frame::ErrorCode;
use super::outcome::GivenUp;
use crate::call::{Marks, Outcome, Value};
use crate::limits::HEADERS;
use crate::protocols::tap::Tap;
use crate::protocols::{Half, LeftOut, Request, Response, Side, Span, Transaction, graphql, grpc, http1};

/// A request and its response, so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    method: String,
    path: String,
    authority: String,
    /// What an extended CONNECT asked for.
    protocol: Option<String>,
    status: Option<i32>,
    /// Whether the server has promised it, unasked.
    pushed: bool,
    request: Part,
    response: Part,
    /// Who gave it up.
    given_up: Option<GivenUp>,
    /// Who gave up the connection, and with it this stream.
    went_away: Option<GivenUp>,
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
        let part = self.part(from);
        match &mut part.half {
            Some(half) => {
                half.body_len += body;
                half.head_len += framing;
                half.absorb(span);
            }
            None => part.lost = true,
        }
        part.over |= end;
    }

    /// Somebody gives it up.
    pub fn give_up(&mut self, by: Side, code: ErrorCode, span: &Span) {
        // A server that has answered wants no more of the request (RFC 9113, section 8.1).
        let content = by == Side::Server && code == ErrorCode::NO_ERROR && self.response.over;
        if let Some(half) = &mut self.part(by).half {
            half.span.add_packets(span);
        }
        if !content {
            self.given_up = Some(GivenUp { by, code });
        }
        self.request.over = true;
        self.response.over = true;
    }

    /// The server will not answer it.
    pub fn refuse(&mut self, by: GivenUp) {
        self.went_away = Some(by);
        self.closed = true;
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
        if let Some(half) = &mut part.half {
            half.gap = true;
        }
        if let Some(tap) = &mut part.tap {
            tap.lose();
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
    }

    /// Whether a response has begun.
    pub fn is_answered(&self) -> bool {
        self.response.half.is_some()
    }

    /// Whether nothing more is to be expected.
    pub fn is_done(&self) -> bool {
        let request = &self.request;
        self.response.over && (request.over || request.lost || request.half.is_none())
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let text = self.method.len() + self.path.len() + self.authority.len();
        size_of::<Self>() + text + self.request.cost() + self.response.cost()
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

    /// The call, as far as it came.
    pub fn transaction(mut self, number: u32) -> Transaction {
        let mut fields = vec![("http2_stream", Value::Int(number.into()))];
        let mut marks = Marks::default();
        if self.reset {
            marks.set(Marks::RESET);
        }
        if self.pushed {
            fields.push(("http2_pushed", Value::Bool(true)));
        }
        if let Some(protocol) = &self.protocol {
            fields.push(("http2_connect_protocol", Value::Text(protocol.clone())));
        }
        let call = grpc::Call {
            path: &self.path,
            request: self.request.half.as_ref().map(|half| &half.headers),
            response: self.response.half.as_ref().map(|half| &half.headers),
            asked: self.request.tap.as_ref().and_then(|tap| tap.messages()),
            answered: self.response.tap.as_ref().and_then(|tap| tap.messages()),
        };
        let grpc = call.describe();
        let is_grpc = grpc.is_some();
        let graphql = self.describe_graphql().filter(|_| !is_grpc);
        let is_graphql = graphql.is_some();
        let told = match (self.status, grpc.as_ref().and_then(|grpc| grpc.status)) {
            (None | Some(200), Some(status)) => grpc::outcome(status),
            (Some(200), None) if is_grpc => Outcome::Unknown,
            (Some(status), _) => {
                let told = graphql.as_ref().and_then(|graphql| graphql.outcome);
                graphql::outcome(http1::outcome(status), told)
            }
            (None, None) => Outcome::Unknown,
        };
        let taps = [&self.request.tap, &self.response.tap].into_iter().flatten();
        let mut left_out = taps.fold(LeftOut::default(), |sum, tap| sum.or(tap.left_out()));
        if let Some(graphql) = &graphql {
            left_out = left_out.or(graphql.left_out);
        }
        let outcome = self.ending(told, &mut fields);
        if let Some(grpc) = grpc {
            for (part, told) in [
                (&mut self.request, grpc.asked),
                (&mut self.response, grpc.answered),
            ] {
                if let Some(half) = &mut part.half {
                    half.fields = told;
                }
            }
        }
        if let Some(graphql) = graphql {
            for (part, told) in [
                (&mut self.request, graphql.asked),
                (&mut self.response, graphql.answered),
            ] {
                if let Some(half) = &mut part.half {
                    half.fields = told;
                }
            }
        }
        if let Some(events) = self.response.tap.as_ref().and_then(|tap| tap.events())
            && let Some(half) = &mut self.response.half
        {
            half.fields = events.fields();
        }
        let response = self.response.half.map(|half| Response {
            status: self.status,
            half,
        });
        let mut path = self.path;
        let query = match path.find('?') {
            Some(at) => path.split_off(at).split_off(1),
            None => String::new(),
        };
        let request = self.request.half.map(|half| Request {
            method: self.method,
            path,
            query,
            authority: self.authority,
            half,
        });
        Transaction {
            protocol: match (is_grpc, is_graphql) {
                (true, _) => "grpc",
                (false, true) => "gqlv2",
                (false, false) => "http",
            },
            version: "HTTP/2",
            stream: number.into(),
            request,
            response,
            outcome,
            marks,
            fields,
            left_out,
            ..Transaction::default()
        }
    }

    /// What GraphQL has to tell, if it is spoken.
    fn describe_graphql(&self) -> Option<graphql::Graphql> {
        self.request.half.as_ref()?;
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        let asked = self.request.tap.as_ref().and_then(|tap| tap.json());
        let answered = self.response.tap.as_ref().and_then(|tap| tap.json());
        graphql::describe(query, asked, answered)
    }

    /// How it ended, given what the response says.
    fn ending(&self, told: Outcome, fields: &mut Vec<(&'static str, Value)>) -> Outcome {
        let answered = self.is_answered();
        if let Some(given_up) = self.given_up {
            let by = match given_up.by {
                Side::Client => "client",
                Side::Server => "server",
            };
            fields.push(("error", Value::Text(given_up.code.name())));
            fields.push(("http2_reset_by", Value::Text(by.to_owned())));
            return given_up.outcome(answered);
        }
        if let Some(given_up) = self.went_away.filter(|_| !self.response.over) {
            fields.push(("error", Value::Text(format!("GOAWAY {}", given_up.code.name()))));
            let quiet = given_up.code == ErrorCode::NO_ERROR;
            return if quiet {
                Outcome::NoResponse
            } else {
                given_up.outcome(answered)
            };
        }
        if !answered && self.closed && !self.response.lost {
            return Outcome::NoResponse;
        }
        told
    }
}

impl Part {
    fn begin(&mut self, from: Side, block: HeaderBlock, span: Span) {
        let head = block.head;
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
