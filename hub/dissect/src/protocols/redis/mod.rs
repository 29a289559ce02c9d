//! Redis: RESP, versions 2 and 3, and commands typed as lines.

mod probe;

mod seen;

mod resp;

mod command;

mod pair;

use command::{Command, is_name};
use pair::{Pairing, Reply};
use probe::Found;
use resp::{Read, Reader};
use seen::{Kind, Texts};

use super::{
    Gapped, Heads, Info, Input, Missing, Next, Parsed, Place, Protocol, Side, Told, Transaction, Verdict,
};
use crate::Counters;
use crate::flow::End;
use crate::limits::{COMMAND_BYTES, REPLY_BYTES, RESP_LINE};
use crate::tcp::Close;

/// The protocol; see the module.
pub(crate) struct Redis;

/// What is remembered of a connection.
pub(crate) struct State {
    client: Reader,
    server: Reader,
    pairing: Pairing,
}

/// A command or a reply.
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
    Command(Command),
    Reply(Reply),
}

impl Protocol for Redis {
    const INFO: Info = Info {
        name: "redis",
        aliases: &[],
        ports: &[6379],
        buffer: RESP_LINE,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            let (bytes, other) = (heads.bytes[end], heads.bytes[end.other()]);
            if bytes.is_empty() {
                continue;
            }
            let (command, reply) = (probe::is_command(bytes), probe::is_reply(bytes));
            let fits = |found: Found| matches!(found, Found::Yes | Found::Likely);
            if command == Found::Yes
                || command == Found::Likely && !other.is_empty() && fits(probe::is_reply(other))
            {
                return Verdict::Yes { client: end };
            }
            if reply == Found::Yes && command == Found::No || fits(reply) && fits(probe::is_command(other)) {
                return Verdict::Yes { client: end.other() };
            }
            if command != Found::No || reply != Found::No {
                verdict = Verdict::Maybe;
            }
        }
        verdict
    }

    fn begin(joined: bool) -> State {
        State {
            client: Reader::within(COMMAND_BYTES),
            server: Reader::within(REPLY_BYTES),
            pairing: Pairing::new(joined),
        }
    }

    fn parse(state: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        if let Some(next) = state.pairing.next() {
            return Parsed::Switch(next);
        }
        let parsed = match input.from {
            Side::Client => state.command(input.bytes, counters),
            Side::Server => state.reply(input.bytes, counters),
        };
        if let Parsed::Invalid = parsed {
            state.lose(input.from);
        }
        parsed
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        let place = match input.from {
            Side::Client => match probe::is_command(input.bytes) {
                Found::Yes | Found::Likely => Place::At(0),
                // A line that another protocol has as well; this connection is none of that.
                Found::Maybe if input.bytes.contains(&b'\n') && !input.bytes.starts_with(b"*") => {
                    Place::At(0)
                }
                Found::Maybe => Place::Perhaps,
                Found::No => Place::Nowhere,
            },
            Side::Server => state.reply_begins(input.bytes),
        };
        // A subscriber need not say anything before its next message.
        let turn = input.turn || input.from == Side::Server && state.is_message(input.bytes);
        if turn { place } else { Place::Nowhere }
    }

    fn gap(state: &mut State, from: Side, _: &[u8], gap: Missing) -> Gapped<Frame> {
        let reader = state.reader(from);
        let open = reader.is_open();
        let (inside, whole) = reader.gap(gap.len).unwrap_or_default();
        let lost = inside < gap.len || gap.len == 0;
        if open && !whole && !lost {
            return Gapped {
                inside,
                frame: None,
                lost,
            };
        }
        let frame = open.then(|| state.take(from)).flatten().map(|frame| Frame {
            gap: true,
            cut: lost,
            ..frame
        });
        // What ends without being told has an answer nevertheless.
        let lost = lost || whole && frame.is_none();
        if lost && frame.is_none() {
            state.lose(from);
        }
        Gapped { inside, frame, lost }
    }

    fn end(state: &mut State, from: Side, _: &[u8], close: Close) -> Option<Frame> {
        state.reader(from).break_off();
        let frame = state.reader(from).is_open().then(|| state.take(from)).flatten();
        state.pairing.end(from, close);
        frame.map(|frame| Frame {
            gap: close != Close::Reset,
            reset: close == Close::Reset,
            ..frame
        })
    }

    fn pair(state: &mut State, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        let Told { from, span, frame } = told;
        let half = pair::half(span, frame.gap);
        match frame.message {
            Message::Command(command) => state.pairing.request(command, half, frame.reset, counters, out),
            Message::Reply(reply) => state.pairing.reply(reply, half, frame.reset, out),
        }
        if frame.cut {
            state.pairing.lose(from);
        }
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        state.pairing.close(out);
    }

    fn memory(state: &State) -> usize {
        state.pairing.memory()
    }
}

impl State {
    fn reader(&mut self, side: Side) -> &mut Reader {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Whether bytes of the server begin a reply, or show that it is the client: then they are read as such.
    fn reply_begins(&self, bytes: &[u8]) -> Place {
        if !self.pairing.proved() {
            match probe::is_command(bytes) {
                Found::Yes => return Place::At(0),
                Found::Maybe if bytes.starts_with(b"*") => return Place::Perhaps,
                _ => {}
            }
        }
        match Reader::within(REPLY_BYTES).read(bytes, &mut Counters::default()) {
            Read::Done(_) | Read::Partly(_) => Place::At(0),
            Read::More if probe::is_reply(bytes) != Found::No => Place::Perhaps,
            Read::More | Read::Invalid => Place::Nowhere,
        }
    }

    /// Whether bytes may be what is published to a subscriber, as far as they are there.
    fn is_message(&self, bytes: &[u8]) -> bool {
        let mut reader = Reader::within(REPLY_BYTES);
        match reader.read(bytes, &mut Counters::default()) {
            Read::Done(_) => self.pairing.is_message(&reader.seen),
            Read::Partly(_) | Read::More => {
                self.pairing.is_subscribed() && matches!(bytes, [b'*' | b'>', ..])
            }
            Read::Invalid => false,
        }
    }

    /// The place in one direction is lost.
    fn lose(&mut self, side: Side) {
        self.take(side);
        self.pairing.lose(side);
    }

    /// Reads a command: an array of strings, or a line.
    fn command(&mut self, bytes: &[u8], counters: &mut Counters) -> Parsed<Frame> {
        if !self.client.is_open() && !bytes.starts_with(b"*") {
            return typed(bytes, counters);
        }
        match self.client.read(bytes, counters) {
            Read::Done(used) => {
                if matches!(self.client.seen.kind, Kind::Array | Kind::Nil) && self.client.seen.elements == 0
                {
                    // Servers pass over empty ones.
                    self.client.clear(COMMAND_BYTES);
                    return Parsed::Skip { used };
                }
                counters.texts_cut += u64::from(self.client.seen.texts.cut);
                match self.take(Side::Client) {
                    Some(frame) => Parsed::Frame { used, frame },
                    None => Parsed::Invalid,
                }
            }
            Read::Partly(used) => Parsed::Part { used },
            Read::More => Parsed::More {
                at_least: bytes.len() + 1,
            },
            Read::Invalid => Parsed::Invalid,
        }
    }

    /// Reads a reply, or a push.
    fn reply(&mut self, bytes: &[u8], counters: &mut Counters) -> Parsed<Frame> {
        if !self.pairing.proved() && !self.server.is_open() {
            match probe::is_command(bytes) {
                // What was seen first was not what it looked like: this end asks. It is recognised anew.
                Found::Yes => return Parsed::Switch(Next::Tunnel),
                Found::Maybe if bytes.starts_with(b"*") => {
                    return Parsed::More {
                        at_least: bytes.len() + 1,
                    };
                }
                _ => {}
            }
        }
        if !self.server.is_open()
            && bytes.starts_with(b"+")
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
            && probe::is_monitored(bytes.get(1..end).unwrap_or_default())
        {
            counters.monitored += 1;
            return Parsed::Skip { used: end + 1 };
        }
        match self.server.read(bytes, counters) {
            Read::Done(used) => {
                counters.texts_cut += u64::from(self.server.seen.error_cut);
                match self.take(Side::Server) {
                    Some(frame) => Parsed::Frame { used, frame },
                    None => Parsed::Invalid,
                }
            }
            Read::Partly(used) => Parsed::Part { used },
            Read::More => Parsed::More {
                at_least: bytes.len() + 1,
            },
            Read::Invalid => Parsed::Invalid,
        }
    }

    /// What is there of the value under way; none if that is nothing to be shown.
    fn take(&mut self, side: Side) -> Option<Frame> {
        let message = match side {
            Side::Client => {
                let seen = &self.client.seen;
                let named = seen.texts.get(0).is_some_and(|name| !name.is_empty());
                let command = named.then(|| {
                    (
                        Message::Command(Command::new(&seen.texts, seen.elements)),
                        seen.gap,
                    )
                });
                self.client.clear(COMMAND_BYTES);
                command
            }
            Side::Server => {
                let seen = &self.server.seen;
                let reply =
                    (seen.kind != Kind::Unknown).then(|| (Message::Reply(Reply::new(seen)), seen.gap));
                self.server.clear(REPLY_BYTES);
                reply
            }
        };
        message.map(|(message, gap)| Frame {
            message,
            gap,
            cut: false,
            reset: false,
        })
    }
}

/// A command typed as a line of words.
fn typed(bytes: &[u8], counters: &mut Counters) -> Parsed<Frame> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let name = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        let fits = is_name(name.trim_ascii_end()) || bytes == b"\r";
        return if fits {
            Parsed::More {
                at_least: bytes.len() + 1,
            }
        } else {
            Parsed::Invalid
        };
    };
    let used = end + 1;
    let line = bytes.get(..end).unwrap_or_default().trim_ascii();
    if line.is_empty() {
        return Parsed::Skip { used };
    }
    let mut texts = Texts::within(COMMAND_BYTES);
    let mut count = 0;
    for word in line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
    {
        texts.begin();
        texts.add(word);
        count += 1;
    }
    if !texts.get(0).is_some_and(is_name) {
        return Parsed::Invalid;
    }
    counters.texts_cut += u64::from(texts.cut);
    let frame = Frame {
        message: Message::Command(Command::new(&texts, count)),
        gap: false,
        cut: false,
        reset: false,
    };
    Parsed::Frame { used, frame }
}
