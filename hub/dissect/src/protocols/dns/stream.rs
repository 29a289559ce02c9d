//! DNS over TCP (RFC 1035, section 4.2.2; RFC 7766): messages with their length before them, in any order of answers.

use std::collections::VecDeque;

use super::call;
use super::message::{self, HEADER, Message, Reading};
use super::numbers::{AXFR, IXFR};
use crate::Counters;
use crate::Outcome;
use crate::flow::End;
use crate::limits::{PENDING, PLACE_BYTES};
use crate::protocols::{
    Gapped, Half, Heads, Info, Input, Key, Missing, Parsed, Place, Protocol, Side, Span, Told, Transaction,
    Verdict,
};
use crate::tcp::Close;

/// The protocol; see the module.
pub(crate) struct DnsStream;

/// Bytes of the length before a message.
const LENGTH: usize = 2;

/// What is remembered of a connection.
#[derive(Default)]
pub(crate) struct State {
    /// In the order in which the questions were asked, answered or not: calls come out in this order.
    exchanges: VecDeque<Exchange>,
    bytes: usize,
    /// Whether bytes of the answers are missing, so that what is not answered may have been.
    gapped: bool,
    closes: [Option<Close>; 2],
}

/// A question, and what was answered so far.
struct Exchange {
    key: Key,
    request: (Message, Span),
    response: Option<(Message, Span)>,
    done: bool,
    cost: usize,
}

impl Protocol for DnsStream {
    const INFO: Info = Info {
        name: "dns",
        aliases: &["domain"],
        ports: &[53, 5353],
        buffer: LENGTH + u16::MAX as usize,
    };
    type Frame = Message;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            let bytes = heads.bytes[end];
            match begins(bytes) {
                Some(Some(response)) => {
                    let client = if response { end.other() } else { end };
                    return Verdict::Yes { client };
                }
                Some(None) if !bytes.is_empty() => verdict = Verdict::Maybe,
                Some(None) | None => {}
            }
        }
        verdict
    }

    fn begin(_: bool) -> State {
        State::default()
    }

    fn parse(_: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Message> {
        let Some(length) = input.bytes.first_chunk::<LENGTH>() else {
            return Parsed::More { at_least: LENGTH };
        };
        let len = usize::from(u16::from_be_bytes(*length));
        let left = input.bytes.get(LENGTH..).unwrap_or_default();
        if len < HEADER || !message::is_plausible(left) {
            return Parsed::Invalid;
        }
        let Some(bytes) = left.get(..len) else {
            return Parsed::More {
                at_least: LENGTH + len,
            };
        };
        let used = LENGTH + len;
        match Message::read(bytes, counters) {
            Some((message, _)) if message.response == (input.from == Side::Server) => {
                Parsed::Frame { used, frame: message }
            }
            _ => Parsed::Invalid,
        }
    }

    fn resync(_: &mut State, input: Input<'_>) -> Place {
        match begins(input.bytes) {
            Some(Some(response)) if response == (input.from == Side::Server) => {
                if input.turn {
                    Place::At(0)
                } else {
                    proves_itself(input.bytes)
                }
            }
            Some(None) => Place::Perhaps,
            Some(Some(_)) | None => Place::Nowhere,
        }
    }

    fn gap(state: &mut State, from: Side, _: &[u8], _: Missing) -> Gapped<Message> {
        state.gapped |= from == Side::Server;
        Gapped {
            inside: 0,
            frame: None,
            lost: true,
        }
    }

    fn end(state: &mut State, from: Side, _: &[u8], close: Close) -> Option<Message> {
        let [client, server] = &mut state.closes;
        let slot = match from {
            Side::Client => client,
            Side::Server => server,
        };
        *slot = Some(close);
        None
    }

    fn pair(state: &mut State, told: Told<Message>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        match told.from {
            Side::Client => state.request(told.frame, told.span, counters, out),
            Side::Server => state.response(told.frame, told.span, out),
        }
    }

    fn close(state: &mut State, close: Close, out: &mut Vec<Transaction>) {
        let finished = |close: &Option<Close>| matches!(close, Some(Close::Finished | Close::Reset));
        let over = close != Close::Cut && state.closes.iter().any(finished) && !state.gapped;
        for exchange in std::mem::take(&mut state.exchanges) {
            let mut transaction = exchange.transaction();
            if transaction.response.is_none() && over {
                transaction.outcome = Outcome::NoResponse;
            }
            out.push(transaction);
        }
    }

    fn memory(state: &State) -> usize {
        state.bytes + state.exchanges.capacity() * size_of::<Exchange>()
    }
}

impl State {
    fn request(&mut self, request: Message, span: Span, counters: &mut Counters, out: &mut Vec<Transaction>) {
        if self.exchanges.len() >= PENDING
            && let Some(oldest) = self.exchanges.pop_front()
        {
            counters.pending_dropped += 1;
            self.bytes -= oldest.cost;
            out.push(oldest.transaction());
        }
        let cost = request.memory();
        self.bytes += cost;
        self.exchanges.push_back(Exchange {
            key: request.key(),
            request: (request, span),
            response: None,
            done: false,
            cost,
        });
    }

    fn response(&mut self, response: Message, span: Span, out: &mut Vec<Transaction>) {
        let key = response.key();
        let open = |exchange: &&mut Exchange| !exchange.done && exchange.goes_on_with(key);
        let Some(exchange) = self.exchanges.iter_mut().find(open) else {
            out.push(transaction(None, Some((response, span))));
            return;
        };
        let cost = response.memory();
        exchange.cost += cost;
        self.bytes += cost;
        exchange.answer(response, span);
        while let Some(first) = self.exchanges.pop_front_if(|exchange| exchange.done) {
            self.bytes -= first.cost;
            out.push(first.transaction());
        }
    }
}

impl Exchange {
    /// Whether a response is of this question, or continues the answer to it: the messages of a transfer behind the first
    /// need not repeat the question (RFC 5936, section 2.2.2).
    fn goes_on_with(&self, key: Key) -> bool {
        key.answers(self.key)
    }

    fn answer(&mut self, response: Message, span: Span) {
        let kind = self.request.0.questions.first().map(|question| question.kind);
        let (empty, ends) = (
            response.answer_count == 0,
            message::ends_transfer(&response, self.response.is_none()),
        );
        let answer = match &mut self.response {
            Some((before, before_span)) => {
                before.append(response);
                before_span.append(span);
                before
            }
            none => &mut none.insert((response, span)).0,
        };
        self.done = match kind {
            Some(AXFR) => ends,
            Some(IXFR) => empty || message::are_changes_over(&self.request.0, answer),
            _ => true,
        };
    }

    fn transaction(self) -> Transaction {
        transaction(Some(self.request), self.response)
    }
}

fn transaction(request: Option<(Message, Span)>, response: Option<(Message, Span)>) -> Transaction {
    let (request, asked) = request.unzip();
    let (response, answered) = response.unzip();
    let mut transaction = call::transaction("tcp", request, 0, response);
    if let Some((request, span)) = transaction.request.as_mut().zip(asked) {
        // Answers come in any order, so a call is known by its question's place; odd, for the client asks.
        transaction.stream = span.start.saturating_mul(2) + 1;
        request.half = half(span);
    }
    if let Some((response, span)) = transaction.response.as_mut().zip(answered) {
        response.half = half(span);
    }
    transaction
}

fn half(span: Span) -> Half {
    Half {
        head_len: span.end - span.start,
        span,
        ..Half::default()
    }
}

/// Whether bytes that look like a message are one, where none needs to begin: records have numbers in them that look like
/// a length and flags, but not those of a message that can be read to its end.
fn proves_itself(bytes: &[u8]) -> Place {
    let Some((length, left)) = bytes.split_first_chunk::<LENGTH>() else {
        return Place::Perhaps;
    };
    let len = usize::from(u16::from_be_bytes(*length));
    match left.get(..len) {
        Some(message) if matches!(Message::look(message), Some((Reading::Whole, _))) => Place::At(0),
        None if LENGTH + len <= PLACE_BYTES => Place::Perhaps,
        Some(_) | None => Place::Nowhere,
    }
}

/// Whether bytes begin a message with its length, and if so, whether it is a response. `Some(None)` while there are too few.
fn begins(bytes: &[u8]) -> Option<Option<bool>> {
    let Some((length, left)) = bytes.split_first_chunk::<LENGTH>() else {
        return Some(None);
    };
    let len = usize::from(u16::from_be_bytes(*length));
    let known = left.get(..len).unwrap_or(left);
    if len < HEADER || !message::is_plausible(known) {
        return None;
    }
    match message::asks(known) {
        // A response is told from its flags.
        Some(true) => Some(known.get(2).map(|flags| flags & 0x80 != 0)),
        Some(false) => None,
        None if known.len() == len => None,
        None => Some(None),
    }
}
