//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

mod probe;

mod parse;

mod usual;

mod body;

mod pair;

mod halves;

mod content;

pub(crate) use content::{Content, unframe};
pub(crate) use halves::outcome;
pub(crate) use parse::method_of;

use std::borrow::Cow;

use body::{Body, Inside};
use pair::Pairing;
use probe::Found;

use super::tap::Tap;
use super::{
    Gapped, Heads, Info, Input, Missing, Next, Parsed, Place, Protocol, Side, Told, Transaction, Verdict,
};
use crate::Counters;
use crate::call::Headers;
use crate::flow::End;
use crate::limits::HEAD_BYTES;
use crate::tcp::Close;

/// The protocol; see the module.
pub(crate) struct Http1;

/// What is remembered of a connection.
pub(crate) struct State {
    client: Lane,
    server: Lane,
    pairing: Pairing,
    /// Set when both directions have left HTTP/1.
    next: Option<Next>,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// The message under way, whose head was parsed.
    message: Option<Frame>,
    body: Body,
    /// How far the waiting bytes were searched for the end of a head.
    searched: usize,
    /// Where a run of interim responses began, that ends where the next response begins.
    interim: Option<(u64, u64)>,
    /// Whether nothing has come since bytes were missing, or since the begin of a late join.
    gapped: bool,
    /// How it ended.
    close: Option<Close>,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Frame {
    start: Start,
    version: &'static str,
    headers: Headers,
    head_len: u64,
    body_len: u64,
    /// Whether bytes are missing.
    gap: bool,
    /// Whether it was broken off by a reset.
    reset: bool,
    headers_cut: bool,
    /// What looks at its body, if that is of a kind that has more to tell.
    tap: Option<Box<Tap>>,
}

/// What the first line said, and how the message hangs together with those of the other direction.
#[derive(Debug)]
enum Start {
    Request {
        method: Cow<'static, str>,
        path: String,
        query: String,
        authority: String,
        /// Ordinal in the connection.
        ordinal: u64,
    },
    Response {
        status: i32,
        /// The request that it answers, where that is certain.
        answers: Option<u64>,
        /// Where it begins, interim responses before it included.
        base: u64,
    },
}

impl Protocol for Http1 {
    const INFO: Info = Info {
        name: "http",
        aliases: &["http/1.0", "http/1.1"],
        ports: &[80, 8000, 8080],
        buffer: HEAD_BYTES,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            let bytes = heads.bytes[end];
            for (client, found) in [
                (end, probe::is_request(bytes)),
                (end.other(), probe::is_response(bytes)),
            ] {
                match found {
                    Found::Yes => return Verdict::Yes { client },
                    Found::Maybe if !bytes.is_empty() => verdict = Verdict::Maybe,
                    Found::Maybe | Found::No => {}
                }
            }
        }
        verdict
    }

    fn begin(joined: bool) -> State {
        let lane = || Lane {
            gapped: joined,
            ..Lane::default()
        };
        State {
            client: lane(),
            server: lane(),
            pairing: Pairing::new(!joined),
            next: None,
        }
    }

    fn parse(state: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        if let Some(next) = &state.next {
            return Parsed::Switch(next.clone());
        }
        let lane = state.lane(input.from);
        lane.gapped = false;
        match lane.message {
            Some(_) => state.body(input, 0),
            None => state.head(input, counters),
        }
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        if state.next.is_some() {
            // It is not for us to look for a place in another protocol.
            return Place::At(0);
        }
        let place = state.place(input);
        // Where both directions have lost something, it may be anyone's turn: what follows must bear it out.
        let doubtful = state.client.gapped && state.server.gapped;
        if place != Place::Perhaps {
            state.lane(input.from).gapped = false;
        }
        if doubtful && place == Place::At(0) && input.from == Side::Client {
            state.pairing.doubt();
        }
        place
    }

    fn gap(state: &mut State, from: Side, held: &[u8], gap: Missing) -> Gapped<Frame> {
        if from == Side::Client {
            state.pairing.refute();
        }
        let lane = state.lane(from);
        lane.gapped = true;
        lane.searched = 0;
        lane.interim = None;
        let Some(mut message) = lane.message.take() else {
            let frame = state.cut_head(from, held, gap.position);
            state.pairing.lost(from, gap.position);
            return Gapped {
                inside: 0,
                frame,
                lost: true,
            };
        };
        message.gap = true;
        let Inside { body, ended, lost } = lane.body.gap(gap.len);
        message.body_len += body;
        if let Some(tap) = &mut message.tap {
            tap.skip(gap.len);
        }
        // Behind the message's own bytes, others may be missing.
        let lost = lost || body < gap.len;
        let frame = if ended || lost {
            Some(message)
        } else {
            lane.message = Some(message);
            None
        };
        if lost {
            state.pairing.lost(from, gap.position);
        }
        Gapped {
            inside: body,
            frame,
            lost,
        }
    }

    fn end(state: &mut State, from: Side, held: &[u8], close: Close) -> Option<Frame> {
        let lane = state.lane(from);
        lane.close = Some(close);
        if let Some(mut message) = lane.message.take() {
            let whole = lane.body.ends(close == Close::Finished);
            message.reset = !whole && close == Close::Reset;
            message.gap |= !whole && !message.reset;
            return Some(message);
        }
        if held.is_empty() || state.next.is_some() {
            return None;
        }
        state.cut_head(from, held, 0)
    }

    fn pair(state: &mut State, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        counters.places_refuted += state.pairing.refuted();
        match told.from {
            Side::Client => state.pairing.request(told, counters, out),
            Side::Server => {
                if let Some(next) = state.answered_later(&told.frame) {
                    state.next = Some(next);
                    return;
                }
                state.pairing.response(told, out);
            }
        }
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        state.pairing.close(state.client.close, state.server.close, out);
    }

    fn memory(state: &State) -> usize {
        let under_way = [&state.client, &state.server]
            .into_iter()
            .filter_map(|lane| lane.message.as_ref());
        let cost =
            |message: &Frame| message.headers.memory() + message.tap.as_ref().map_or(0, |tap| tap.cost());
        state.pairing.memory() + under_way.map(cost).sum::<usize>()
    }
}

impl Frame {
    /// The rest of it was not seen, nobody knows how much.
    fn lose(&mut self) {
        self.gap = true;
        if let Some(tap) = &mut self.tap {
            tap.lose();
        }
    }
}

impl State {
    /// A body may quote a message, at the begin of a segment even, but not when it is its sender's turn.
    fn place(&self, input: Input<'_>) -> Place {
        if !input.turn {
            return Place::Nowhere;
        }
        let found = match input.from {
            Side::Client => probe::is_request(input.bytes),
            Side::Server => probe::is_response(input.bytes),
        };
        match found {
            Found::Yes => Place::At(0),
            Found::Maybe => Place::Perhaps,
            Found::No => Place::Nowhere,
        }
    }

    /// HTTP/2 answers the request that has asked for it, by which 101 is no more than an interim response (RFC 7540,
    /// section 3.2).
    fn answered_later(&mut self, frame: &Frame) -> Option<Next> {
        let (Some(Next::Upgraded(upgrade)), Start::Response { answers, .. }) = (&self.next, &frame.start)
        else {
            return None;
        };
        if !upgrade.name.eq_ignore_ascii_case("h2c") {
            return None;
        }
        let request = self.pairing.take_request((*answers)?)?;
        Some(Next::Answering(upgrade.name.clone(), Box::new(request)))
    }
}
