//! Both sides of a call to a service: the client's socket knows the service's address, the server's its own
//! (RFC 2663; in Kubernetes, kube-proxy), and so each side is a flow by itself.
//!
//! A call of the one flow and a call of the other are one if the client's address and port are the same, the question's
//! bytes and the answer's, the server's part of the time lies within the client's, and both sides were seen within
//! [`HELD`]; and only if within that time there is no other call that it could be on either side, not even one without an
//! answer. So it is decided when that time is over. Who asks the same of two servers at once, as musl's resolver does, has as
//! many calls as it has asked.

use super::{Desk, Flow, Given, Held};
use crate::datagram::Transport;
use crate::datagrams::Due;
use crate::flow::End;
use crate::limits::HELD;
use crate::protocols::Key;
use crate::segment::Observer;
use crate::{Nanos, Observation};

/// A call as every side of it has it.
#[derive(Clone, Copy)]
pub(in crate::datagrams) struct Whole {
    key: Key,
    response: u64,
    /// Since when it waits.
    pub since: Nanos,
}

/// What a flow has of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::datagrams) enum Has {
    /// Nothing, or both sides.
    Nothing,
    /// One side of it, at this end.
    Side(End),
    /// What may be it, several times or without an answer.
    Several,
}

/// The server's side of a call.
pub(in crate::datagrams) struct ServerSide {
    held: Held,
    /// Which tape recorded the server's socket, and the socket's cgroup.
    recorded: Option<(u16, u64)>,
}

impl Flow {
    /// Whether a call of it may have another side, under another address of its server.
    pub(super) fn may_have_other_side(&self, given: &Given) -> bool {
        self.transport == Transport::Udp
            && given.response.is_some()
            && self.only_end().is_some()
            && self.flow.caller() == Some(given.client)
    }

    /// The call that waits for the longest time, if it is whole.
    pub fn front(&self) -> Option<Whole> {
        let held = self.held.front()?;
        held.whole().filter(|_| self.may_have_other_side(&held.given))
    }

    /// What it has of a call.
    pub fn has(&self, wanted: Whole) -> Has {
        let (Some(end), Some(caller)) = (self.only_end(), self.flow.caller()) else {
            return Has::Nothing;
        };
        let is = |given: &Given| {
            given.client == caller
                && given.key == wanted.key
                && given.since.abs_diff(wanted.since) <= HELD
                && given.response.is_none_or(|response| response == wanted.response)
        };
        let out = |given: &Given| !given.two_sided && is(given);
        let waits = self
            .vantages
            .iter()
            .any(|vantage| vantage.awaits(caller, wanted.key));
        if waits || self.given.iter().any(out) {
            return Has::Several;
        }
        let mut held = self.held.iter().filter(|held| is(&held.given));
        match (held.next(), held.next()) {
            (None, _) => Has::Nothing,
            (Some(held), None) if held.whole().is_some() => Has::Side(end),
            _ => Has::Several,
        }
    }

    /// From the request to the response, as the side saw it.
    pub fn elapsed(&self, wanted: Whole) -> Option<Nanos> {
        let sides = &self.held.get(self.position(wanted)?)?.view.sides;
        let side = sides.client.as_ref().or(sides.server.as_ref());
        side.and_then(Observation::elapsed)
    }

    /// Gives the server's side of a call away.
    pub fn give_side(&mut self, wanted: Whole) -> Option<ServerSide> {
        let held = self.held.remove(self.position(wanted)?)?;
        self.held_bytes -= held.cost;
        self.given_away = true;
        let server = self.flow.caller()?.other();
        Some(ServerSide {
            held,
            recorded: self.recorded[server],
        })
    }

    /// Lets the client's side of a call go, together with the server's.
    pub fn join_sides(&mut self, wanted: Whole, theirs: ServerSide, desk: &mut Desk<'_>) {
        let Some(mut mine) = self.position(wanted).and_then(|n| self.held.remove(n)) else {
            return;
        };
        let server = mine.given.client.other();
        self.recorded[server] = self.recorded[server].or(theirs.recorded);
        let ServerSide { held, .. } = theirs;
        let mut view = held.view;
        // Which end is the lower one depends on the server's address.
        view.transaction.client = mine.given.client;
        mine.given.two_sided = true;
        mine.take(
            Given {
                seen: 0,
                ..held.given
            },
            view,
        );
        self.let_go(mine, desk);
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

    /// The end whose socket alone has seen it.
    fn only_end(&self) -> Option<End> {
        let mut ends = self.vantages.iter().map(|vantage| match vantage.observer {
            Observer::Socket(end) => Some(end),
            Observer::Interface(_) => None,
        });
        let first = ends.next()??;
        ends.all(|end| end == Some(first)).then_some(first)
    }

    fn position(&self, wanted: Whole) -> Option<usize> {
        let is = |whole: Whole| {
            (whole.key, whole.response) == (wanted.key, wanted.response)
                && whole.since.abs_diff(wanted.since) <= HELD
        };
        self.held.iter().position(|held| held.whole().is_some_and(is))
    }
}

impl Held {
    /// By what the other side knows it; `None` while there is a half of it only.
    fn whole(&self) -> Option<Whole> {
        let asked = self.view.transaction.request.is_some();
        let Given {
            key, response, since, ..
        } = self.given;
        let response = response.filter(|_| asked)?;
        Some(Whole { key, response, since })
    }
}
