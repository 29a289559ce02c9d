//! PostgreSQL, version 3 of its protocol.

mod wire;

mod probe;

mod statement;

mod shown;

mod frontend;

mod backend;

mod so_far;

mod pair;

use backend::{Answer, Backend};
use frontend::{Frontend, Question};
use pair::Pairing;
use probe::Found;

use super::{
    Gapped, Heads, Info, Input, Missing, Next, Parsed, Place, Protocol, Side, Told, Transaction, Verdict,
};
use crate::Counters;
use crate::flow::End;
use crate::limits::MESSAGE_LOOKED;
use crate::tcp::Close;

/// The version of the protocol, the only one since 2003.
const VERSION: &str = "3.0";

/// The protocol; see the module.
pub(crate) struct Postgresql;

/// What is remembered of a connection.
pub(crate) struct State {
    client: Frontend,
    server: Backend,
    pairing: Pairing,
    /// Whether the client wants to encrypt, and the server has not answered yet, by one byte.
    asked_to_encrypt: bool,
    next: Option<Next>,
}

/// A question or an answer.
#[derive(Debug)]
pub(crate) struct Frame {
    message: Message,
    /// Whether bytes of it are missing.
    gap: bool,
    /// Whether others may be missing behind it.
    cut: bool,
    /// Whether it was broken off by a reset.
    reset: bool,
}

#[derive(Debug)]
enum Message {
    Question(Question),
    Answer(Answer),
}

impl Protocol for Postgresql {
    const INFO: Info = Info {
        name: "postgresql",
        aliases: &["postgres"],
        ports: &[5432],
        buffer: MESSAGE_LOOKED,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            let bytes = heads.bytes[end];
            if bytes.is_empty() {
                continue;
            }
            match (probe::is_frontend(bytes), probe::is_backend(bytes)) {
                (Found::Yes, _) => return Verdict::Yes { client: end },
                (Found::No, Found::Yes) => return Verdict::Yes { client: end.other() },
                (Found::No, Found::No) => {}
                _ => verdict = Verdict::Maybe,
            }
        }
        verdict
    }

    fn begin(joined: bool) -> State {
        State {
            client: Frontend::default(),
            server: Backend::default(),
            pairing: Pairing::new(joined),
            asked_to_encrypt: false,
            next: None,
        }
    }

    fn parse(state: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        if let Some(next) = &state.next {
            return Parsed::Switch(next.clone());
        }
        if !state.pairing.proved() && !state.is_open(input.from) {
            match is_across(input) {
                // What was seen first was not what it looked like. It is recognised anew.
                Found::Yes => return Parsed::Switch(Next::Tunnel),
                Found::Maybe => {
                    return Parsed::More {
                        at_least: input.bytes.len() + 1,
                    };
                }
                Found::No => {}
            }
        }
        let parsed = match input.from {
            Side::Client => state.question(input.bytes, counters),
            Side::Server => state.answer(input.bytes),
        };
        if let Parsed::Invalid = parsed {
            state.cut(input.from);
            state.lose(input.from);
        }
        parsed
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        // A row may hold anything, but it is not its sender's turn in the middle of one.
        if !input.turn {
            return Place::Nowhere;
        }
        let across = if state.pairing.proved() {
            Found::No
        } else {
            is_across(input)
        };
        match (is_own(input), across) {
            (Found::Yes, _) | (_, Found::Yes) => Place::At(0),
            (Found::No, Found::No) => Place::Nowhere,
            _ => Place::Perhaps,
        }
    }

    fn gap(state: &mut State, from: Side, _: &[u8], gap: Missing) -> Gapped<Frame> {
        let (inside, message) = match from {
            Side::Client => {
                let (inside, question) = state.client.gap(gap.len);
                (inside, question.map(Message::Question))
            }
            Side::Server => {
                let (inside, answer) = state.server.gap(gap.len);
                (inside, answer.map(Message::Answer))
            }
        };
        let lost = inside < gap.len || gap.len == 0;
        let message = match message {
            None if lost => state.cut(from),
            message => message,
        };
        if lost && message.is_none() {
            state.lose(from);
        } else if lost && from == Side::Client {
            state.client.statements.forget();
        }
        let frame = message.map(|message| Frame {
            message,
            gap: true,
            cut: lost,
            reset: false,
        });
        Gapped { inside, frame, lost }
    }

    fn end(state: &mut State, from: Side, _: &[u8], close: Close) -> Option<Frame> {
        state.pairing.end(from, close);
        state.cut(from).map(|message| Frame {
            message,
            gap: close != Close::Reset,
            cut: false,
            reset: close == Close::Reset,
        })
    }

    fn pair(state: &mut State, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let Told { from, span, frame } = told;
        let half = pair::half(span, frame.gap);
        match frame.message {
            Message::Question(question) => state.pairing.question(question, half, frame.reset, counters, out),
            Message::Answer(answer) => state.pairing.answer(answer, half, frame.reset, counters, out),
        }
        if frame.cut {
            state.pairing.lose(from);
        }
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        state.pairing.close(out);
    }

    fn memory(state: &State) -> usize {
        state.pairing.memory() + state.client.statements.memory()
    }
}

/// Whether bytes are what their sender should say.
fn is_own(input: Input<'_>) -> Found {
    match input.from {
        Side::Client => probe::is_frontend(input.bytes),
        Side::Server => probe::is_backend(input.bytes),
    }
}

/// Whether bytes are what the other end should say, and not what their sender should.
fn is_across(input: Input<'_>) -> Found {
    let other = match input.from {
        Side::Client => probe::is_backend(input.bytes),
        Side::Server => probe::is_frontend(input.bytes),
    };
    match is_own(input) {
        Found::No => other,
        Found::Maybe if other != Found::No => Found::Maybe,
        Found::Maybe | Found::Yes => Found::No,
    }
}

impl State {
    fn is_open(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.is_open(),
            Side::Server => self.server.is_open(),
        }
    }

    /// The place in one direction is lost.
    fn lose(&mut self, side: Side) {
        if side == Side::Client {
            self.client.statements.forget();
        }
        self.pairing.lose(side);
    }

    /// What is there of the message under way.
    fn cut(&mut self, side: Side) -> Option<Message> {
        match side {
            Side::Client => self.client.cut().map(Message::Question),
            Side::Server => self.server.cut().map(Message::Answer),
        }
    }

    fn question(&mut self, bytes: &[u8], counters: &mut Counters) -> Parsed<Frame> {
        match self.client.read(bytes, counters) {
            frontend::Read::Question { used, question } => Parsed::Frame {
                used,
                frame: Frame::whole(Message::Question(question)),
            },
            frontend::Read::Part(used) => Parsed::Part { used },
            frontend::Read::Skip(used) => Parsed::Skip { used },
            frontend::Read::More(at_least) => Parsed::More { at_least },
            frontend::Read::Encrypt(used) => {
                self.asked_to_encrypt = true;
                Parsed::Skip { used }
            }
            frontend::Read::Invalid => Parsed::Invalid,
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Parsed<Frame> {
        if std::mem::take(&mut self.asked_to_encrypt) {
            match bytes.first() {
                Some(b'S' | b'G') => {
                    self.next = Some(Next::Tunnel);
                    return Parsed::Skip { used: 1 };
                }
                Some(b'N') => return Parsed::Skip { used: 1 },
                // An old server's error.
                _ => {}
            }
        }
        match self.server.read(bytes) {
            backend::Read::Answer { used, answer } => Parsed::Frame {
                used,
                frame: Frame::whole(Message::Answer(answer)),
            },
            backend::Read::Part(used) => Parsed::Part { used },
            backend::Read::Skip(used) => Parsed::Skip { used },
            backend::Read::More(at_least) => Parsed::More { at_least },
            backend::Read::Invalid => Parsed::Invalid,
        }
    }
}

impl Frame {
    fn whole(message: Message) -> Self {
        Self {
            message,
            gap: false,
            cut: false,
            reset: false,
        }
    }
}
