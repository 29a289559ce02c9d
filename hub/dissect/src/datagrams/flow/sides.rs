//! The sides of a call to a service: the client's socket knows the service's address, the server's its own
//! (RFC 2663; in Kubernetes, kube-proxy), and so each side is a flow by itself. Of a socket on the node that translates, the
//! question stands under the server's own address, and the answer under the service's.
//!
//! What flows have of a call is one if the client's address and port are the same, the question and the answer's bytes, and
//! all was seen within [`HELD`]; if neither end has asked twice or answered twice within that time, on whichever flow; and if
//! the server's part of the time lies within the client's. So it is decided when that time is over. Who asks the same of two
//! servers at once, as musl's resolver does, has as many calls as it has asked.

use super::{Desk, Flow, Given, Held};
use crate::datagram::Transport;
use crate::datagrams::Due;
use crate::flow::mix;
use crate::limits::HELD;
use crate::protocols::Key;
use crate::segment::Observer;
use crate::{Nanos, Observation};

/// A call that other flows may have something of.
#[derive(Clone, Copy)]
pub(in crate::datagrams) struct Wanted {
    key: Key,
    ident: u32,
    response: Option<u64>,
    /// From the first that was seen of it to the last.
    at: (Nanos, Nanos),
    /// Since when it waits.
    pub since: Nanos,
}

/// What a flow has of a call.
pub(in crate::datagrams) enum Has {
    /// Nothing, or all.
    Nothing,
    /// This.
    Once(Sighting),
    /// What may be it, several times.
    Several,
}

/// What the sockets at both ends saw of a call.
#[derive(Clone, Copy, Default)]
pub(in crate::datagrams) struct Sighting {
    client: Option<Observation>,
    server: Option<Observation>,
    ident: u32,
    response: Option<u64>,
}

/// What a flow had of a call.
pub(in crate::datagrams) struct Part {
    held: Held,
    /// Which tape recorded the server's socket, and the socket's cgroup.
    server: Option<(u16, u64)>,
}

impl Wanted {
    /// By what it is known where its client has another address: `None` if that could be another's, because its packet has no
    /// number, or because it was not answered.
    pub fn masked(&self) -> Option<u64> {
        let whole = self.ident != 0 && self.response.is_some();
        let Key { id, subject } = self.key;
        whole.then(|| mix(subject ^ mix(u64::from(id) << 32 | u64::from(self.ident))))
    }

    fn is(&self, key: Key, response: Option<u64>, at: (Nanos, Nanos)) -> bool {
        let apart = at.0.saturating_sub(self.at.1).max(self.at.0.saturating_sub(at.1));
        let same_answer = self
            .response
            .zip(response)
            .is_none_or(|(mine, theirs)| mine == theirs);
        self.key == key && same_answer && apart <= HELD
    }
}

impl Sighting {
    /// Adds what another flow has. Whether it can be of the same call: neither end has asked or answered twice, and there is one
    /// server.
    pub fn add(&mut self, other: &Self) -> bool {
        if self.server.is_some() && other.server.is_some() {
            return false;
        }
        let same_answer = self
            .response
            .zip(other.response)
            .is_none_or(|(mine, theirs)| mine == theirs);
        self.server = self.server.or(other.server);
        self.response = self.response.or(other.response);
        let client = match (self.client, other.client) {
            (Some(mine), Some(theirs)) => union(mine, theirs),
            (mine, theirs) => mine.or(theirs),
        };
        let once = client.is_some() || (self.client.is_none() && other.client.is_none());
        self.client = client;
        same_answer && once
    }

    /// Whether it is of this call, though its client has another address there.
    pub fn is_masked(&self, call: &Wanted) -> bool {
        let one = self.client.is_some() != self.server.is_some();
        one && (self.ident, self.response) == (call.ident, call.response)
    }

    /// Whether the client's socket has seen anything of the call.
    pub fn has_client(&self) -> bool {
        self.client.is_some()
    }

    /// Whether it has asked.
    pub fn has_question(&self) -> bool {
        self.client.is_some_and(|client| client.request.is_some())
    }

    /// Whether the client has asked, and the server has answered, but not so that the client saw it.
    pub fn is_answered_elsewhere(&self) -> bool {
        let answered = |side: Option<Observation>| side.is_some_and(|side| side.response.is_some());
        self.has_question() && !answered(self.client) && answered(self.server)
    }

    /// Whether the server was faster than it seemed to the client. The two clocks may drift against each other by a thousandth.
    pub fn is_in_time(&self) -> bool {
        let elapsed = |side: Option<Observation>| side.as_ref().and_then(Observation::elapsed);
        let both = elapsed(self.client).zip(elapsed(self.server));
        both.is_none_or(|(whole, part)| part <= whole + whole / 1000)
    }

    /// Adds a question that waits for its answer; whether it is the only one.
    fn ask(&mut self, at_client: bool, tape: u16, at: (Nanos, Nanos)) -> bool {
        let asked = Observation {
            tape,
            request: Some(at),
            response: None,
        };
        let side = if at_client {
            &mut self.client
        } else {
            &mut self.server
        };
        let all = side.map_or(Some(asked), |known| union(known, asked));
        *side = all;
        all.is_some()
    }
}

/// What one socket saw, put together from two; `None` if that is twice the same.
fn union(mine: Observation, theirs: Observation) -> Option<Observation> {
    let twice = (mine.request.is_some() && theirs.request.is_some())
        || (mine.response.is_some() && theirs.response.is_some());
    let same = mine.tape == theirs.tape && !twice;
    same.then(|| Observation {
        tape: mine.tape,
        request: mine.request.or(theirs.request),
        response: mine.response.or(theirs.response),
    })
}

impl Flow {
    /// Whether a call of it may have another side, under another address of its server.
    pub(super) fn may_have_other_side(&self, given: &Given) -> bool {
        self.transport == Transport::Udp && self.by_sockets() && self.flow.caller() == Some(given.client)
    }

    /// The call that waits for the longest time.
    pub fn front(&self) -> Option<Wanted> {
        self.wanted(self.held.front()?)
    }

    /// The call that waits for the shortest time.
    pub fn newest(&self) -> Option<Wanted> {
        self.wanted(self.held.back()?)
    }

    fn wanted(&self, held: &Held) -> Option<Wanted> {
        let Given {
            key,
            ident,
            response,
            at,
            ..
        } = held.given;
        self.may_have_other_side(&held.given).then_some(Wanted {
            key,
            ident,
            response,
            at,
            since: held.since,
        })
    }

    /// What it has of a call.
    pub fn has(&self, wanted: &Wanted) -> Has {
        let Some(caller) = self.flow.caller().filter(|_| self.by_sockets()) else {
            return Has::Nothing;
        };
        let is = |given: &Given| given.client == caller && wanted.is(given.key, given.response, given.at);
        if self.given.iter().any(|given| !given.two_sided && is(given)) {
            return Has::Several;
        }
        let mut held = self.held.iter().filter(|held| is(&held.given));
        let (first, second) = (held.next(), held.next());
        if second.is_some() {
            return Has::Several;
        }
        let mut sighting = first.map_or_else(Sighting::default, |held| Sighting {
            client: held.view.sides.client,
            server: held.view.sides.server,
            ident: held.given.ident,
            response: held.given.response,
        });
        let mut any = first.is_some();
        for (n, vantage) in self.vantages.iter().enumerate() {
            let Some(at) = vantage
                .waits_for(caller, wanted.key)
                .filter(|at| wanted.is(wanted.key, None, *at))
            else {
                continue;
            };
            any = true;
            let at_client = vantage.observer == Observer::Socket(caller);
            // What it has told is not what it waits for.
            let told = first.is_some_and(|held| held.given.seen & 1 << n != 0);
            if told || !sighting.ask(at_client, vantage.tape, at) {
                return Has::Several;
            }
        }
        if any { Has::Once(sighting) } else { Has::Nothing }
    }

    /// Gives what it has of a call away.
    pub fn give_part(&mut self, wanted: &Wanted) -> Option<Part> {
        let caller = self.flow.caller()?;
        let is = |given: &Given| given.client == caller && wanted.is(given.key, given.response, given.at);
        let position = self.held.iter().position(|held| is(&held.given));
        let mut part = position.and_then(|n| self.held.remove(n));
        self.held_bytes -= part.as_ref().map_or(0, |held| held.cost);
        for (n, vantage) in self.vantages.iter_mut().enumerate() {
            let waits = vantage.waits_for(caller, wanted.key);
            if waits.is_none_or(|at| !wanted.is(wanted.key, None, at)) {
                continue;
            }
            let Some((given, view)) = vantage.give_up(n, caller, wanted.key) else {
                continue;
            };
            match &mut part {
                Some(part) => part.take(given, view),
                None => {
                    part = Some(Held {
                        given,
                        view,
                        since: wanted.since,
                        cost: 0,
                    });
                }
            }
        }
        let held = part?;
        // What the client's socket saw here is not told by the other flow.
        self.given_away |= held.view.sides.client.is_none();
        Some(Part {
            held,
            server: self.recorded[caller.other()],
        })
    }

    /// Lets a call go that is put together from what this flow had of it and what others had.
    pub fn join_parts(&mut self, mine: Part, others: impl Iterator<Item = Part>, desk: &mut Desk<'_>) {
        let Part { held: mut mine, .. } = mine;
        let client = mine.given.client;
        mine.given.two_sided = true;
        for Part { held, server } in others {
            let recorded = &mut self.recorded[client.other()];
            *recorded = recorded.or(server);
            let mut view = held.view;
            // Which end is the lower one depends on the server's address.
            view.transaction.client = client;
            mine.take(
                Given {
                    seen: 0,
                    ..held.given
                },
                view,
            );
        }
        desk.counters.calls_joined += 1;
        self.emit(mine.given, mine.view, desk);
    }

    /// Lets the call that waits for the longest time go by itself.
    pub fn let_front_go(&mut self, due: Due, desk: &mut Desk<'_>) {
        let Some(held) = self.held.pop_front() else {
            return;
        };
        let missed = u64::from(self.expects_others());
        match due {
            Due::Until(_) => desk.counters.held_expired += missed,
            Due::Crowded => desk.counters.held_forced += missed,
            Due::All => {}
        }
        self.let_go(held, desk);
    }

    /// Whether sockets alone have seen it.
    fn by_sockets(&self) -> bool {
        let mut observers = self.vantages.iter().map(|vantage| vantage.observer);
        observers.all(|observer| matches!(observer, Observer::Socket(_)))
    }
}
