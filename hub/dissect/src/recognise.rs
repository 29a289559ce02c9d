//! Which protocol a connection speaks: by its bytes, with the port only to decide between two that fit.

use crate::driver::{Dissector, Fate, Rest};
use crate::flow::{End, Ends, FlowKey};
use crate::limits::{HANDED_ON, PROBE_BYTES, PROBE_SEGMENTS, PROBE_SEGMENTS_JOINED};
use crate::protocols::{Heads, Next, PROTOCOLS, Registration, Transaction, Verdict, find};
use crate::tcp::{Event, Stamp, Told};
use crate::{Counters, Marks};

/// The dissection of one connection, from before its protocol is known.
pub(crate) enum Dissection {
    /// Nothing fits yet. Most connections are undecided only until their first segment, and carry what it takes no longer.
    Undecided(Option<Box<Undecided>>),
    /// The protocol is known.
    Known(Box<dyn Dissector>),
    /// Its bytes are of no known protocol, and are no longer looked at.
    Passed,
    /// There are no more bytes. What it was is still asked for; the dissector, the largest part of a connection, is gone.
    Over { protocol: &'static str, client: End },
}

/// A connection whose protocol is not known yet.
#[derive(Default)]
pub(crate) struct Undecided {
    /// Whether bytes were missing.
    gapped: bool,
    heads: Ends<Head>,
    /// What was told of the bytes in `heads`, in order.
    kept: Vec<Kept>,
}

/// The first bytes of one direction.
#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    /// Segments that no protocol wanted.
    refused: u32,
    ended: bool,
}

/// Bytes that were told, to be told again.
struct Kept {
    from: End,
    position: u64,
    stamp: Stamp,
    turn: bool,
    bytes: Vec<u8>,
}

/// What has become of a connection whose protocol was not known.
enum Decision {
    /// It is; this is to be told to it before the rest.
    Known(Box<dyn Dissector>, Vec<Kept>),
    /// It will not be.
    Hopeless,
}

impl Dissection {
    /// A connection of which nothing is known.
    pub fn new() -> Self {
        Self::Undecided(None)
    }

    /// Takes what is next. `whole` says whether the connection was seen from its begin.
    pub fn tell(
        &mut self,
        told: Told<'_>,
        flow: &FlowKey,
        whole: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
    ) {
        // What one protocol leaves to the next, the next one last: nothing, nearly always.
        let mut left = Vec::new();
        self.tell_one(told, flow, whole, counters, out, &mut left);
        let mut handed = 0;
        while let Some(next) = left.pop() {
            let waiting = left.len();
            self.tell_one(next.told(), flow, whole, counters, out, &mut left);
            handed += u32::from(left.len() > waiting);
            if handed > HANDED_ON {
                // Each says that the next one is to read it: nobody will.
                counters.hand_overs_dropped += 1;
                let gapped = true;
                *self = Self::Undecided(Some(Box::new(Undecided {
                    gapped,
                    ..Undecided::default()
                })));
                return;
            }
        }
    }

    /// The same, but for what is left to the next protocol.
    fn tell_one(
        &mut self,
        told: Told<'_>,
        flow: &FlowKey,
        whole: bool,
        counters: &mut Counters,
        out: &mut Vec<Transaction>,
        left: &mut Vec<Kept>,
    ) {
        if let Self::Undecided(undecided) = self {
            let undecided = undecided.get_or_insert_default();
            match undecided.tell(told, flow, whole, counters) {
                None => return,
                Some(Decision::Hopeless) => {
                    *self = Self::Passed;
                    return;
                }
                Some(Decision::Known(dissector, kept)) => {
                    *self = Self::Known(dissector);
                    if let (false, Event::Data { bytes, turn }) = (kept.is_empty(), told.event) {
                        left.push(Kept::of(&told, bytes, turn));
                        left.extend(kept.into_iter().rev());
                        return;
                    }
                }
            }
        }
        let Self::Known(dissector) = self else {
            return;
        };
        if let Fate::Switch(next, rest) = dissector.tell(told, counters, out) {
            for from in End::BOTH {
                let end = Told {
                    from,
                    event: Event::End(crate::tcp::Close::Cut),
                    ..told
                };
                // It has nothing more to say, whatever is told it now.
                let _ = dissector.tell(end, counters, out);
            }
            *self = Self::after(next, dissector.client(), counters);
            left.extend(rest.into_iter().rev().map(Kept::from));
        }
    }

    /// Both directions have ended, and all that waited was told.
    pub fn end(&mut self) {
        *self = match self {
            Self::Known(dissector) => Self::Over {
                protocol: dissector.protocol(),
                client: dissector.client(),
            },
            Self::Undecided(_) | Self::Passed => Self::Passed,
            Self::Over { .. } => return,
        };
    }

    /// What comes after a protocol has handed over.
    fn after(next: Next, client: End, counters: &mut Counters) -> Self {
        let name = match &next {
            Next::Tunnel => return Self::new(),
            Next::Named(name) | Next::Answering(name, _) => name,
            Next::Upgraded(upgrade) => &upgrade.name,
        };
        let Some(protocol) = find(name) else {
            counters.passed_over += 1;
            return Self::Passed;
        };
        let mut dissector = (protocol.begin)(client, Marks::default());
        match next {
            Next::Answering(_, request) => dissector.answering(*request),
            Next::Upgraded(upgrade) => dissector.upgraded(*upgrade),
            Next::Named(_) | Next::Tunnel => {}
        }
        Self::Known(dissector)
    }

    /// The protocol that is spoken, if it is known.
    pub fn protocol(&self) -> Option<&'static str> {
        match self {
            Self::Known(dissector) => Some(dissector.protocol()),
            Self::Over { protocol, .. } => Some(protocol),
            Self::Undecided(_) | Self::Passed => None,
        }
    }

    /// Which end asks, if that is known.
    pub fn client(&self) -> Option<End> {
        match self {
            Self::Known(dissector) => Some(dissector.client()),
            Self::Over { client, .. } => Some(*client),
            Self::Undecided(_) | Self::Passed => None,
        }
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        match self {
            Self::Undecided(undecided) => undecided.as_ref().map_or(0, |undecided| {
                let [low, high] = [&undecided.heads.low, &undecided.heads.high].map(|head| head.bytes.len());
                // Each piece is an allocation of its own.
                let pieces = undecided.kept.capacity() * (size_of::<Kept>() + size_of::<usize>());
                size_of::<Undecided>() + 2 * (low + high) + pieces
            }),
            Self::Known(dissector) => dissector.memory(),
            Self::Passed | Self::Over { .. } => 0,
        }
    }
}

impl Undecided {
    fn tell(
        &mut self,
        told: Told<'_>,
        flow: &FlowKey,
        whole: bool,
        counters: &mut Counters,
    ) -> Option<Decision> {
        let (bytes, turn) = match told.event {
            Event::Data { bytes, turn } => (bytes, turn),
            Event::Gap(_) => {
                self.gapped = true;
                self.forget(told.from);
                return None;
            }
            Event::End(_) => {
                self.heads[told.from].ended = true;
                self.forget(told.from);
                return self.give_up(whole, counters);
            }
        };
        if turn {
            // What waits was no message's begin: the other end has answered it.
            self.forget(told.from);
        }
        let first = self.heads[told.from].bytes.is_empty();
        if first && !turn && (self.gapped || !whole) {
            return None;
        }
        if !first {
            self.heads[told.from].bytes.extend_from_slice(bytes);
        }
        let head = if first {
            bytes
        } else {
            &self.heads[told.from].bytes
        };
        let other = self.heads[told.from.other()].bytes.as_slice();
        let heads = Heads {
            bytes: match told.from {
                End::Low => Ends {
                    low: head,
                    high: other,
                },
                End::High => Ends {
                    low: other,
                    high: head,
                },
            },
        };
        match probe(heads, flow) {
            Recognised::Yes(protocol, client) => {
                counters.recognised += 1;
                let marks = match (whole, self.gapped) {
                    (false, _) => Marks::JOINED,
                    (true, true) => Marks::AFTER_GAP,
                    (true, false) => Marks::default(),
                };
                let kept = std::mem::take(&mut self.kept);
                Some(Decision::Known((protocol.begin)(client, marks), kept))
            }
            Recognised::Maybe if head.len() < PROBE_BYTES => {
                if first {
                    self.heads[told.from].bytes.extend_from_slice(bytes);
                }
                self.kept.push(Kept::of(&told, bytes, turn));
                None
            }
            Recognised::Maybe | Recognised::No => {
                self.heads[told.from].refused += 1;
                self.forget(told.from);
                self.give_up(whole, counters)
            }
        }
    }

    /// Forgets what waits of one direction.
    fn forget(&mut self, end: End) {
        self.heads[end].bytes = Vec::new();
        self.kept.retain(|kept| kept.from != end);
    }

    /// Stops looking, once both directions have had their chance.
    fn give_up(&self, whole: bool, counters: &mut Counters) -> Option<Decision> {
        let most = if whole && !self.gapped {
            PROBE_SEGMENTS
        } else {
            PROBE_SEGMENTS_JOINED
        };
        let done = |head: &Head| head.ended || head.refused >= most;
        let hopeless = End::BOTH
            .into_iter()
            .any(|end| self.heads[end].refused >= 2 * most);
        if hopeless || (done(&self.heads.low) && done(&self.heads.high)) {
            // One that carried nothing is not unknown.
            let spoke = self.heads.low.refused + self.heads.high.refused > 0;
            counters.unrecognised += u64::from(spoke);
            return Some(Decision::Hopeless);
        }
        None
    }
}

impl Kept {
    fn of(told: &Told<'_>, bytes: &[u8], turn: bool) -> Self {
        Self {
            from: told.from,
            position: told.position,
            stamp: told.stamp,
            turn,
            bytes: bytes.to_vec(),
        }
    }

    fn told(&self) -> Told<'_> {
        Told {
            from: self.from,
            position: self.position,
            stamp: self.stamp,
            event: Event::Data {
                bytes: &self.bytes,
                turn: self.turn,
            },
        }
    }
}

impl From<Rest> for Kept {
    fn from(rest: Rest) -> Self {
        let Rest {
            from,
            position,
            stamp,
            bytes,
        } = rest;
        Self {
            from,
            position,
            stamp,
            turn: true,
            bytes,
        }
    }
}

enum Recognised {
    Yes(&'static Registration, End),
    Maybe,
    No,
}

/// Asks every protocol. The first one that is sure wins, unless a later one is sure too and is at home on the port.
fn probe(heads: Heads<'_>, flow: &FlowKey) -> Recognised {
    let mut best = Recognised::No;
    for protocol in PROTOCOLS {
        match ((protocol.probe)(heads), &best) {
            (Verdict::Yes { client }, Recognised::Yes(..)) => {
                if protocol.info.ports.contains(&flow.port(client.other())) {
                    best = Recognised::Yes(protocol, client);
                }
            }
            (Verdict::Yes { client }, _) => best = Recognised::Yes(protocol, client),
            (Verdict::Maybe, Recognised::No) => best = Recognised::Maybe,
            (Verdict::Maybe | Verdict::No, _) => {}
        }
    }
    best
}
