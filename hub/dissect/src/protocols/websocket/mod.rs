//! WebSocket (RFC 6455) with its compression (RFC 7692), after an upgrade from HTTP/1 or met in mid-connection.

mod probe;

mod frame;

mod parse;

mod payload;

mod pair;

mod close;

use frame::Header;
use pair::Pairing;
use payload::{Inflater, Payload};

use super::{
    Gapped, Heads, Info, Input, Missing, Parsed, Place, Protocol, Side, Told, Transaction, Upgrade, Verdict,
};
use crate::Counters;
use crate::flow::End;
use crate::tcp::Close;

/// The protocol; see the module.
pub(crate) struct WebSocket;

/// What is remembered of a connection.
pub(crate) struct State {
    client: Lane,
    server: Lane,
    pairing: Pairing,
}

/// One direction.
struct Lane {
    start: Start,
    /// The frame under way.
    frame: Option<Open>,
    /// Whether a message goes on in the next frame that is none of control.
    goes_on: GoesOn,
    /// The message under way.
    message: Option<Payload>,
    inflater: Inflater,
}

/// Where a direction's first frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the first byte: that is by what the protocol was recognised.
    Proved,
    /// At this position.
    At(u64),
    /// It must be looked for.
    Unknown,
    /// It is behind.
    Passed,
}

/// Whether a message goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GoesOn {
    No,
    Yes,
    /// The frame before was not seen.
    Unknown,
}

/// A frame whose head was parsed.
struct Open {
    header: Header,
    /// Bytes of payload that went by.
    passed: u64,
    gap: bool,
    /// What a control frame says.
    control: Vec<u8>,
    /// Whether it is the first one of its message that was seen.
    first: bool,
}

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    header: Header,
    /// Whether bytes of it are missing.
    gap: bool,
    /// What a control frame says.
    control: Vec<u8>,
    /// Whether it is the first one of its message that was seen.
    first: bool,
    /// The message that ends with it.
    message: Option<Box<Payload>>,
}

impl Protocol for WebSocket {
    const INFO: Info = Info {
        name: "ws",
        aliases: &["websocket"],
        ports: &[],
        buffer: frame::HEAD,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for client in End::BOTH {
            match probe::is_both(heads.bytes[client], heads.bytes[client.other()]) {
                Some(true) => return Verdict::Yes { client },
                Some(false) => {}
                None => verdict = Verdict::Maybe,
            }
        }
        verdict
    }

    fn begin(_: bool) -> State {
        State {
            client: Lane::new(),
            server: Lane::new(),
            pairing: Pairing::default(),
        }
    }

    fn upgraded(state: &mut State, upgrade: Upgrade) {
        let at = |position: Option<u64>| position.map_or(Start::Unknown, Start::At);
        state.client.upgraded(at(upgrade.client_from));
        state.server.upgraded(at(upgrade.server_from));
        state.agreed(upgrade);
    }

    fn parse(state: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        let lane = state.lane(input.from);
        let start = std::mem::replace(&mut lane.start, Start::Passed);
        let astray = match start {
            Start::Proved | Start::Passed => false,
            Start::At(position) => position != input.position,
            Start::Unknown => true,
        };
        if astray {
            // What came before was lost while the connection changed hands.
            lane.lose();
            state.pairing.lost();
            if probe::begins_again(input.bytes, input.from, input.turn) != Place::At(0) {
                return Parsed::Invalid;
            }
        }
        match state.lane(input.from).parse(input, counters) {
            Parsed::Invalid => {
                state.lane(input.from).lose();
                state.pairing.lost();
                Parsed::Invalid
            }
            parsed => parsed,
        }
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        let lane = state.lane(input.from);
        let start = std::mem::replace(&mut lane.start, Start::Passed);
        if start == Start::Proved {
            return Place::At(0);
        }
        probe::begins_again(input.bytes, input.from, input.turn)
    }

    fn gap(state: &mut State, from: Side, _: &[u8], gap: Missing) -> Gapped<Frame> {
        let lane = state.lane(from);
        if let Start::At(_) | Start::Unknown = lane.start {
            lane.start = Start::Passed;
        }
        let gapped = lane.gap(gap.len);
        if gapped.lost {
            state.pairing.lost();
        }
        gapped
    }

    fn end(state: &mut State, from: Side, _: &[u8], close: Close) -> Option<Frame> {
        state.pairing.ended(close);
        state.lane(from).cut()
    }

    fn pair(state: &mut State, told: Told<Frame>, counters: &mut Counters, out: &mut Vec<Transaction>) {
        state.pairing.frame(told, counters, out);
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        state.pairing.close(out);
    }

    fn memory(state: &State) -> usize {
        state.client.memory() + state.server.memory() + state.pairing.memory()
    }
}

/// Whether what both ends say from the begin of a frame on proves that it is WebSocket; `None` while neither speaks
/// against it.
pub(crate) fn proves(client: &[u8], server: &[u8]) -> Option<bool> {
    probe::is_both(client, server)
}

impl State {
    /// Of a stream of HTTP/2, whose data begins with the first frame of each direction.
    pub fn tunnelled(upgrade: Upgrade) -> Self {
        let mut state = WebSocket::begin(false);
        state.client.upgraded(Start::Proved);
        state.server.upgraded(Start::Proved);
        state.agreed(upgrade);
        state
    }

    /// Of a stream of HTTP/2 that is met in the middle; `gapped` says that something was lost before.
    pub fn joined(upgrade: Upgrade, gapped: bool) -> Self {
        let mut state = WebSocket::begin(true);
        state.pairing.upgraded(upgrade);
        if gapped {
            state.pairing.lost();
        }
        state
    }

    /// An unknown number of bytes is missing: gives the frame under way, as far as it is there.
    pub fn lose(&mut self, from: Side) -> Option<Frame> {
        let frame = self.lane(from).cut();
        self.lane(from).lose();
        self.pairing.lost();
        frame
    }

    /// Gives back the memory of what compressed messages refer to; whether there was any.
    pub fn release(&mut self) -> bool {
        let lanes = [&mut self.client, &mut self.server];
        let held = lanes.into_iter().filter(|lane| lane.inflater.memory() > 0);
        held.map(|lane| lane.inflater.lose()).count() > 0
    }

    /// Takes over what both ends have agreed on.
    fn agreed(&mut self, upgrade: Upgrade) {
        let extensions = upgrade.headers.iter();
        let extensions = extensions.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-extensions"));
        for extension in extensions.flat_map(|(_, list)| list.split(',')) {
            let mut words = extension.split(';').map(str::trim);
            if words.next() != Some("permessage-deflate") {
                continue;
            }
            let words: Vec<&str> = words.collect();
            self.client.inflater = Inflater::fresh(words.contains(&"client_no_context_takeover"));
            self.server.inflater = Inflater::fresh(words.contains(&"server_no_context_takeover"));
        }
        self.pairing.upgraded(upgrade);
    }

    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}
