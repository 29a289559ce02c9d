//! TLS (RFC 8446, 5246 and before): handshakes. What is encrypted is passed over.

mod record;

mod ssl2;

mod handshake;

pub(crate) mod bytes;

pub(crate) mod hello;

mod certificate;

mod fingerprint;

mod suites;

pub(crate) mod numbers;

pub(crate) mod call;

use handshake::Handshake;
use record::{Header, Inside, Messages};

use super::{Gapped, Heads, Info, Input, Missing, Parsed, Place, Protocol, Side, Told, Transaction, Verdict};
use crate::Counters;
use crate::flow::End;
use crate::limits::TLS_RECORD;
use crate::tcp::Close;
use record::Likeness;

/// The protocol; see the module.
pub(crate) struct Tls;

/// What is remembered of a connection.
#[derive(Default)]
pub(crate) struct State {
    client: Lane,
    server: Lane,
    /// Boxed: it is over soon, and most of the connection's life is passing records over.
    handshake: Option<Box<Handshake>>,
    ending: call::Ending,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// The record under way, if its content is not waited for.
    inside: Option<Inside>,
    /// Handshake messages that are not whole.
    messages: Messages,
    /// Whether records are encrypted from here on.
    encrypted: bool,
    /// Whether bytes are missing, or its begin was not seen: what comes is passed over.
    lost: bool,
    /// Bytes of records with application data.
    data: u64,
}

/// A record of the handshake.
#[derive(Debug)]
pub(crate) enum Frame {
    /// Messages that have become whole with it.
    Messages(Vec<handshake::Said>),
    /// An alert that is not encrypted.
    Alert { fatal: bool, alert: u8 },
    /// It changes to encryption.
    ChangeCipherSpec,
    /// It is encrypted.
    Sealed,
}

impl Protocol for Tls {
    const INFO: Info = Info {
        name: "tls",
        aliases: &["ssl", "tls/1.0", "tls/1.1", "tls/1.2", "tls/1.3"],
        ports: &[443, 8443, 6443, 636, 853, 993, 995],
        buffer: record::HEADER + TLS_RECORD,
    };
    type Frame = Frame;
    type State = State;

    fn probe(heads: Heads<'_>) -> Verdict {
        let mut verdict = Verdict::No;
        for end in End::BOTH {
            let bytes = heads.bytes[end];
            match record::likeness(bytes) {
                Likeness::ClientHello => return Verdict::Yes { client: end },
                Likeness::ServerHello => return Verdict::Yes { client: end.other() },
                // Who is the client cannot be told, and does not matter: there is no call without a hello.
                Likeness::Records => return Verdict::Yes { client: end },
                Likeness::Maybe if !bytes.is_empty() => verdict = Verdict::Maybe,
                Likeness::Maybe | Likeness::No => {}
            }
        }
        verdict
    }

    fn begin(_: bool) -> State {
        State::default()
    }

    fn parse(state: &mut State, input: Input<'_>, counters: &mut Counters) -> Parsed<Frame> {
        let from = input.from;
        if let Some(parsed) = state.lane(from).inside(input.bytes) {
            return parsed;
        }
        if from == Side::Client && state.handshake.is_none() && !state.client.lost {
            match ssl2::read(input.bytes) {
                ssl2::Read::Hello { used, hello } => {
                    let frame = Frame::Messages(vec![handshake::Said::ClientHello(hello)]);
                    return Parsed::Frame { used, frame };
                }
                ssl2::Read::More(at_least) => return Parsed::More { at_least },
                ssl2::Read::No => {}
            }
        }
        let Some(header) = input.bytes.first_chunk() else {
            return Parsed::More {
                at_least: record::HEADER,
            };
        };
        let Some(Header { kind, len }) = Header::read(*header) else {
            return Parsed::Invalid;
        };
        let sealed = state.is_sealed(from, kind);
        let told = sealed && state.waits_for_sealed();
        let counts = state.counts_data();
        let lane = state.lane(from);
        if kind == numbers::APPLICATION_DATA && counts {
            lane.data += len as u64;
        }
        if sealed {
            lane.inside = (len > 0).then_some(Inside { left: len, told });
            return if told {
                Parsed::Part { used: record::HEADER }
            } else {
                Parsed::Skip { used: record::HEADER }
            };
        }
        let used = record::HEADER + len;
        let Some(content) = input.bytes.get(record::HEADER..used) else {
            return Parsed::More { at_least: used };
        };
        let frame = match (kind, content) {
            (numbers::HANDSHAKE, _) => Frame::Messages(lane.messages.take(content, from, counters)),
            (numbers::ALERT, [level, alert]) => Frame::Alert {
                fatal: *level == record::FATAL,
                alert: *alert,
            },
            (numbers::CHANGE_CIPHER_SPEC, _) => {
                lane.encrypted = true;
                Frame::ChangeCipherSpec
            }
            _ => Frame::Sealed,
        };
        Parsed::Frame { used, frame }
    }

    fn resync(state: &mut State, input: Input<'_>) -> Place {
        let expected = match input.from {
            Side::Client => Likeness::ClientHello,
            Side::Server => Likeness::ServerHello,
        };
        let found = record::likeness(input.bytes);
        let lane = state.lane(input.from);
        if found == expected && input.turn {
            *lane = Lane::default();
            Place::At(0)
        } else if found == Likeness::Records {
            lane.lose();
            Place::At(0)
        } else if found == Likeness::Maybe {
            Place::Perhaps
        } else {
            Place::Nowhere
        }
    }

    fn gap(state: &mut State, from: Side, _: &[u8], gap: Missing) -> Gapped<Frame> {
        let lane = state.lane(from);
        let (inside, told) = match &mut lane.inside {
            Some(inside) => inside.gap(gap.len),
            None => (0, false),
        };
        let whole = inside == gap.len;
        if whole && lane.inside.as_ref().is_none_or(|inside| inside.left > 0) {
            return Gapped {
                inside: if told { inside } else { 0 },
                frame: None,
                lost: false,
            };
        }
        let frame = (whole && told).then_some(Frame::Sealed);
        if whole {
            lane.inside = None;
        } else {
            lane.lose();
        }
        Gapped {
            inside: if told { inside } else { 0 },
            frame,
            lost: !whole,
        }
    }

    fn end(state: &mut State, _: Side, _: &[u8], close: Close) -> Option<Frame> {
        state.ending.closed |= close != Close::Cut;
        state.ending.reset |= close == Close::Reset;
        None
    }

    fn pair(state: &mut State, told: Told<Frame>, _: &mut Counters, _: &mut Vec<Transaction>) {
        let hello =
            matches!(&told.frame, Frame::Messages(said) if said.iter().any(handshake::Said::is_hello));
        if state.handshake.is_none() && !hello && !matches!(told.frame, Frame::Alert { .. }) {
            return;
        }
        state.handshake.get_or_insert_default().take(told);
    }

    fn close(state: &mut State, _: Close, out: &mut Vec<Transaction>) {
        if let Some(handshake) = state.handshake.take() {
            let counted = handshake.is_data_told_apart();
            let lanes = [&state.client, &state.server].map(|lane| call::Traffic {
                bytes: (!lane.lost && counted).then_some(lane.data),
                lost: lane.lost,
            });
            out.extend(call::transaction(*handshake, lanes, state.ending));
        }
    }

    fn memory(state: &State) -> usize {
        let handshake = state.handshake.as_ref().map_or(0, |handshake| handshake.memory());
        state.client.messages.memory() + state.server.messages.memory() + handshake
    }
}

impl State {
    fn lane(&mut self, side: Side) -> &mut Lane {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Whether a record cannot be read. In TLS 1.3, ChangeCipherSpec means nothing, and what is encrypted looks like
    /// application data (RFC 8446, sections 5.2 and D.4).
    fn is_sealed(&mut self, from: Side, kind: u8) -> bool {
        let tls13 = self
            .handshake
            .as_ref()
            .is_some_and(|handshake| handshake.is_tls13());
        let lane = self.lane(from);
        kind == numbers::APPLICATION_DATA || lane.lost || (lane.encrypted && !tls13)
    }

    /// Whether the time of an encrypted record matters: until the handshake is over.
    fn waits_for_sealed(&self) -> bool {
        !self.client.lost
            && !self.server.lost
            && self.handshake.as_ref().is_some_and(|handshake| handshake.waits())
    }

    /// Whether records with application data hold nothing else: in TLS 1.3, from the handshake's end on.
    fn counts_data(&self) -> bool {
        self.handshake
            .as_ref()
            .is_none_or(|handshake| !handshake.is_tls13() || !handshake.waits())
    }
}

impl Lane {
    /// Goes on in a record whose content is passed over.
    fn inside(&mut self, bytes: &[u8]) -> Option<Parsed<Frame>> {
        let inside = self.inside.as_mut()?;
        let used = inside.left.min(bytes.len());
        inside.left -= used;
        let (told, over) = (inside.told, inside.left == 0);
        if over {
            self.inside = None;
        }
        Some(match (told, over) {
            (false, _) => Parsed::Skip { used },
            (true, false) => Parsed::Part { used },
            (true, true) => Parsed::Frame {
                used,
                frame: Frame::Sealed,
            },
        })
    }

    fn lose(&mut self) {
        self.inside = None;
        self.messages = Messages::default();
        self.lost = true;
    }
}
