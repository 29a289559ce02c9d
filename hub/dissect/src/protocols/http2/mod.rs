//! HTTP/2 (RFC 9113), with and without a beginning.

mod frame;

mod hpack;

mod head;

mod probe;

mod parse;

mod streams;

mod open;

mod stream;

mod tunnel;

mod strangers;

mod outcome;

mod content;

pub(crate) use content::{Scattered, unframe};

use frame::ErrorCode;
use head::Head;
use parse::Lane;
use probe::Found;
use streams::Streams;
use tunnel::Piece;

use super::{
    Gapped, Heads, Info, Input, Missing, Parsed, Place, Protocol, Request, Side, Told, Transaction, Verdict,
};
use crate::Counters;
use crate::flow::End;
use crate::limits::HEAD_BYTES;
use crate::tcp::Close;

/// The protocol; see the module.
pub(crate) struct Http2;

/// What is remembered of a connection.
pub(crate) struct State {
    client: Lane,
    server: Lane,
    streams: Streams,
    /// How far the client had received the server's bytes when it sent its preface.
    preface_ack: Option<u64>,
    /// From where on the server's bytes were seen without a loss, if not from their begin.
    server_from: Option<u64>,
}

/// What pairing is told.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A header block, with all its frames.
    Headers(Box<HeaderBlock>),
    /// A frame of data, whose payload went by.
    Data {
        stream: u32,
        body: u64,
        /// Bytes beside the payload.
        framing: u64,
        end: bool,
    },
    /// Payload of data that is looked into, as it comes.
    Piece(Box<Piece>),
    /// A stream is given up.
    Reset { stream: u32, code: ErrorCode },
    /// The connection is going to end; streams above the last are not answered.
    GoAway { last: u32, code: ErrorCode },
    /// The connection's direction has ended.
    End,
}

/// A header block, and what its frames say of it.
#[derive(Debug)]
pub(crate) struct HeaderBlock {
    stream: u32,
    /// The stream of the request that the server promises to answer.
    promised: Option<u32>,
    head: Head,
    /// Bytes on the wire.
    len: u64,
    /// Whether the stream's direction ends with it.
    end: bool,
    /// Whether frames behind it may be missing.
    lost: bool,
}

impl Protocol for Http2 {
    const INFO: Info = Info {
        name: "http2",
        aliases: &["h2c", "h2"],
        ports: &[50051],
        buffer: HEAD_BYTES,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            match probe::recognise(heads.bytes[end]) {
                Found::Yes(Side::Client) => return Verdict::Yes { client: end },
                Found::Yes(Side::Server) => return Verdict::Yes { client: end.other() },
                Found::Maybe => verdict = Verdict::Maybe,
                Found::No => {}
            }
        }
        verdict
    }

    fn begin(joined: bool) -> State {
        State {
            client: Lane::new(joined),
            server: Lane::new(joined),
            streams: Streams::default(),
            preface_ack: None,
            server_from: None,
        }
    }

    fn answering(state: &mut State, request: Request) {
        state.streams.answering(request);
    }

    fn parse(state: &mut State, input: Input<'_>, _: &mut Counters) -> Parsed<Frame> {
        state.frame(input)
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        let most = state.lane(input.from).likely_payload();
        let place = probe::next_frame(input.bytes, input.from, most);
        if input.from == Side::Server && matches!(place, Place::At(_)) {
            state.server_from = Some(input.position);
            state.begin_server();
        }
        place
    }

    fn gap(state: &mut State, from: Side, held: &[u8], gap: Missing) -> Gapped<Frame> {
        state.missing(from, held, gap)
    }

    fn end(state: &mut State, from: Side, held: &[u8], close: Close) -> Option<Frame> {
        state.streams.ends(from, close);
        let frame = state.ended(from, held);
        // What tunnels carry ends, too.
        frame.or_else(|| state.streams.has_tunnels().then_some(Frame::End))
    }

    fn pair(state: &mut State, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        state.lane(told.from).count(counters);
        state.streams.take(told, counters, out);
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        state.streams.close(out);
    }

    fn memory(state: &State) -> usize {
        state.client.memory() + state.server.memory() + state.streams.memory()
    }
}

impl State {
    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// The client begins. So does the server: it has sent no header block before.
    fn preface(&mut self, ack: u64) {
        self.client.begin();
        self.preface_ack = Some(ack);
        self.begin_server();
    }

    /// If the server's bytes were seen from before the first request on, then its table was.
    fn begin_server(&mut self) {
        if let (Some(from), Some(ack)) = (self.server_from, self.preface_ack)
            && from <= ack
        {
            self.server.begin();
            self.preface_ack = None;
        }
    }

    /// The place is lost in one direction.
    fn lost(&mut self, from: Side) {
        self.lane(from).lose();
        self.streams.lost(from);
        match from {
            Side::Server => self.server_from = Some(u64::MAX),
            Side::Client => self.preface_ack = None,
        }
    }
}
