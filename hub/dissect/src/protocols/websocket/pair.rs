//! Frames to calls: each message is one, and so is a ping with its pong, and a close with its close.
//!
//! The client of a call is the end that has opened the connection, whoever speaks: what it sends is the request, what
//! the server sends is the response, and most calls have one of the two only.

use std::collections::VecDeque;

use super::Frame;
use super::close;
use super::frame::Opcode;
use super::payload::Payload;
use crate::Counters;
use crate::call::{Marks, Outcome, Value};
use crate::limits::{WS_PAYLOAD, WS_PINGS};
use crate::protocols::{Echo, Half, Request, Response, Side, Span, Told, Transaction, Upgrade};
use crate::tcp::Close;

/// What waits for what belongs to it.
#[derive(Default)]
pub(super) struct Pairing {
    target: Upgrade,
    client: Waiting,
    server: Waiting,
    /// The end that closes, and its close.
    closing: Option<(Side, Control)>,
    /// Pings that cannot be told from earlier ones any more.
    given_up: Vec<(Side, Control)>,
    /// Whether messages may be missing before what comes.
    lost: bool,
    /// How the connection has ended, where it has.
    ended: Option<Close>,
}

/// What waits of one direction.
#[derive(Default)]
struct Waiting {
    /// The message under way.
    message: Option<Message>,
    /// Pings without a pong, in order.
    pings: VecDeque<Control>,
}

/// The frames of a message that were seen.
struct Message {
    span: Span,
    head: u64,
    payload: u64,
    frames: i64,
    opcode: Opcode,
    gap: bool,
}

/// A control frame.
struct Control {
    opcode: Opcode,
    span: Span,
    head: u64,
    payload: Vec<u8>,
    gap: bool,
}

impl Pairing {
    /// What was asked for is known.
    pub fn upgraded(&mut self, upgrade: Upgrade) {
        self.target = upgrade;
    }

    /// Takes a frame.
    pub fn frame(&mut self, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        for (by, ping) in std::mem::take(&mut self.given_up) {
            out.push(self.control(by, ping, None));
        }
        let Told { from, span, frame } = told;
        if !frame.header.opcode.is_control() {
            return self.data(from, span, frame, counters, out);
        }
        let control = Control {
            opcode: frame.header.opcode,
            span,
            head: frame.header.size as u64,
            payload: frame.control,
            gap: frame.gap,
        };
        match control.opcode {
            Opcode::Ping => self.ping(from, control, counters, out),
            Opcode::Pong => self.pong(from, control, out),
            _ => self.close_frame(from, control, out),
        }
    }

    /// Whole messages may be missing: which pong is of which ping cannot be told by what they carry, if several carry the
    /// same.
    pub fn lost(&mut self) {
        self.lost = true;
        for side in [Side::Client, Side::Server] {
            let pings = std::mem::take(&mut self.waiting(side).pings);
            self.given_up.extend(pings.into_iter().map(|ping| (side, ping)));
        }
    }

    /// A direction has ended.
    pub fn ended(&mut self, close: Close) {
        if self.ended.is_none_or(|known| known == Close::Cut) {
            self.ended = Some(close);
        }
    }

    /// Gives everything that waits; the connection has ended.
    pub fn close(&mut self, out: &mut Vec<Transaction>) {
        for side in [Side::Client, Side::Server] {
            self.break_off(side, out);
        }
        for (by, ping) in std::mem::take(&mut self.given_up) {
            out.push(self.control(by, ping, None));
        }
        let over = matches!(self.ended, Some(Close::Finished | Close::Reset)) && !self.lost;
        for side in [Side::Client, Side::Server] {
            for ping in std::mem::take(&mut self.waiting(side).pings) {
                let mut transaction = self.control(side, ping, None);
                if over {
                    transaction.outcome = Outcome::NoResponse;
                }
                out.push(transaction);
            }
        }
        if let Some((by, control)) = self.closing.take() {
            out.push(self.control(by, control, None));
        }
    }

    /// Bytes that wait, roughly.
    pub fn memory(&self) -> usize {
        let target = &self.target;
        let text = target.path.len() + target.query.len() + target.authority.len();
        let pings = self.client.pings.iter().chain(&self.server.pings);
        let cost = |control: &Control| size_of::<Control>() + control.payload.len() + size_of::<u64>();
        let given_up = self.given_up.iter().map(|(_, ping)| cost(ping)).sum::<usize>();
        text + target.headers.memory() + pings.map(cost).sum::<usize>() + given_up
    }

    fn data(
        &mut self,
        from: Side,
        span: Span,
        frame: Frame,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        if frame.first {
            self.break_off(from, out);
        }
        let header = frame.header;
        let message = self.waiting(from).message.take();
        let mut message = match message {
            Some(mut message) => {
                message.span.extend(&span);
                message
            }
            None => Message {
                span,
                head: 0,
                payload: 0,
                frames: 0,
                opcode: header.opcode,
                gap: header.opcode == Opcode::Continuation,
            },
        };
        message.head += header.size as u64;
        message.payload += header.payload;
        message.frames += 1;
        message.gap |= frame.gap;
        match frame.message {
            Some(payload) => {
                counters.texts_cut += u64::from(payload.cut);
                out.push(self.message(from, message, Some(*payload)));
            }
            None => self.waiting(from).message = Some(message),
        }
    }

    /// The message under way does not go on.
    fn break_off(&mut self, from: Side, out: &mut Vec<Transaction>) {
        if let Some(mut message) = self.waiting(from).message.take() {
            message.gap = true;
            out.push(self.message(from, message, None));
        }
    }

    fn ping(&mut self, from: Side, ping: Control, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let pings = &mut self.waiting(from).pings;
        pings.push_back(ping);
        if pings.len() > WS_PINGS
            && let Some(oldest) = pings.pop_front()
        {
            counters.ws_pings_dropped += 1;
            out.push(self.control(from, oldest, None));
        }
    }

    /// A pong answers the first ping that carries the same and had arrived when it was sent. Pings before that one are
    /// not answered any more (RFC 6455, section 5.5.3). One that answers none keeps the connection alive.
    fn pong(&mut self, from: Side, pong: Control, out: &mut Vec<Transaction>) {
        let asker = other(from);
        let pings = &mut self.waiting(asker).pings;
        let arrived = |ping: &Control| pong.span.ack == 0 || pong.span.ack >= ping.span.end;
        let same = |ping: &Control| ping.payload == pong.payload && !ping.gap && !pong.gap;
        let Some(answered) = pings.iter().position(|ping| same(ping) && arrived(ping)) else {
            out.push(self.control(from, pong, None));
            return;
        };
        let mut settled: Vec<Control> = pings.drain(..=answered).collect();
        let ping = settled.pop();
        for unanswered in settled {
            out.push(self.control(asker, unanswered, None));
        }
        if let Some(ping) = ping {
            out.push(self.control(asker, ping, Some(pong)));
        }
    }

    /// The first close is answered by the other end's. If both close at once, it is the client that does.
    fn close_frame(&mut self, from: Side, control: Control, out: &mut Vec<Transaction>) {
        match self.closing.take() {
            Some((by, first)) if by != from => {
                let at_once = control.span.ack != 0 && control.span.ack < first.span.end;
                let transaction = if at_once && by == Side::Server {
                    self.control(from, control, Some(first))
                } else {
                    self.control(by, first, Some(control))
                };
                out.push(transaction);
            }
            Some((by, first)) => {
                out.push(self.control(by, first, None));
                self.closing = Some((from, control));
            }
            None => self.closing = Some((from, control)),
        }
    }

    /// The call of a message.
    fn message(&self, from: Side, message: Message, payload: Option<Payload>) -> Transaction {
        let payload = payload.unwrap_or_default();
        let gap = message.gap || payload.gap;
        let mut half = Half {
            head_len: message.head,
            body_len: message.payload,
            gap,
            ..Half::default()
        };
        let text = match (payload.opcode, payload.kept.is_empty()) {
            (Some(Opcode::Text), false) => Some(text(&payload.kept)),
            (Some(_), false) => Some(hexadecimal(&payload.kept)),
            _ => None,
        };
        half.fields = told(from, message.payload, text);
        let mut transaction = self.call(from, message.opcode, message.span.start);
        half.span = message.span;
        if payload.compressed {
            transaction.fields.push(("ws_compressed", Value::Bool(true)));
        }
        transaction.fields.push(("ws_frames", Value::Int(message.frames)));
        transaction.outcome = if gap { Outcome::Unknown } else { Outcome::Ok };
        self.put(&mut transaction, message.opcode, from, half, None);
        transaction
    }

    /// The call of a control frame, by who sent it, with the one that answers it.
    fn control(&self, by: Side, control: Control, answer: Option<Control>) -> Transaction {
        let mut transaction = self.call(by, control.opcode, control.span.start);
        let fields = &mut transaction.fields;
        fields.push(("ws_by", Value::Text(name(by).into())));
        if let Some(answer) = &answer {
            let micros = answer.span.last.saturating_sub(control.span.first) / 1000;
            let micros = i64::try_from(micros).unwrap_or(i64::MAX);
            fields.push(("ws_round_trip", Value::Int(micros)));
        }
        let mut status = None;
        if control.opcode == Opcode::Close {
            let told = close::code(&control.payload);
            if let Some((code, reason)) = told {
                status = Some(i32::from(code));
                fields.push(("ws_close_code", Value::Int(code.into())));
                if !reason.is_empty() {
                    fields.push(("ws_close_reason", Value::Text(text(reason).into())));
                }
                if !matches!(code, 1000 | 1001) {
                    fields.push(("error", Value::Text(close::name(code).into())));
                }
            }
            transaction.outcome = if control.gap {
                Outcome::Unknown
            } else {
                close::outcome(by, told.map(|(code, _)| code))
            };
        } else if answer.is_some() || control.opcode == Opcode::Pong {
            transaction.outcome = Outcome::Ok;
        }
        let opcode = control.opcode;
        self.put(&mut transaction, opcode, by, control.half(by), status);
        if let Some(answer) = answer {
            let half = answer.half(other(by));
            self.put(&mut transaction, opcode, other(by), half, status);
        }
        transaction
    }

    /// A call that one end has begun with a frame at a position: its number is made of both.
    fn call(&self, by: Side, opcode: Opcode, position: u64) -> Transaction {
        let mut marks = Marks::default();
        if self.lost {
            marks.set(Marks::AFTER_GAP);
        }
        if self.ended == Some(Close::Reset) {
            marks.set(Marks::RESET);
        }
        Transaction {
            version: "13",
            stream: position.saturating_mul(2) + u64::from(by == Side::Client),
            marks,
            fields: vec![("ws_opcode", Value::Text(opcode.name().into()))],
            ..Transaction::default()
        }
    }

    /// Gives a call the half that one end has sent.
    fn put(
        &self,
        transaction: &mut Transaction,
        opcode: Opcode,
        from: Side,
        half: Half,
        status: Option<i32>,
    ) {
        let target = &self.target;
        let (method, path) = (opcode.name().into(), target.path.clone());
        match from {
            Side::Client => {
                transaction.request = Some(Box::new(Request {
                    method,
                    path,
                    query: target.query.clone(),
                    authority: target.authority.clone(),
                    half,
                }));
            }
            Side::Server => {
                transaction.echo = Some(Box::new(Echo {
                    method,
                    path,
                    query: target.query.clone(),
                    authority: target.authority.clone(),
                }));
                transaction.response = Some(Box::new(Response { status, half }));
            }
        }
    }

    fn waiting(&mut self, side: Side) -> &mut Waiting {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Control {
    fn half(self, from: Side) -> Half {
        let len = self.payload.len() as u64;
        let missing = self.span.missing;
        let said = Some(&self.payload)
            .filter(|said| self.opcode != Opcode::Close && !said.is_empty())
            .map(|said| std::str::from_utf8(said).map_or_else(|_| hexadecimal(said), str::to_owned));
        Half {
            head_len: self.head,
            body_len: len + missing,
            gap: self.gap,
            fields: told(from, len + missing, said),
            span: self.span,
            ..Half::default()
        }
    }
}

/// What one end's half tells.
fn told(from: Side, len: u64, said: Option<String>) -> Vec<(&'static str, Value)> {
    let [is_there, length, data] = match from {
        Side::Client => [
            "ws_request",
            "ws_request_payload_length",
            "ws_request_payload_data",
        ],
        Side::Server => [
            "ws_response",
            "ws_response_payload_length",
            "ws_response_payload_data",
        ],
    };
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let mut fields = vec![(is_there, Value::Bool(true)), (length, Value::Int(len))];
    fields.extend(said.map(|said| (data, Value::Text(said.into()))));
    fields
}

/// Text that may have been cut within a character.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Ok(_) | Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Bytes as hexadecimal digits, as many as text would take.
fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in bytes.iter().take(WS_PAYLOAD / 2) {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}
