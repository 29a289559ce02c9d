//! Connections whose addresses are others on the way. The server's: a service's own where the client is, and that of the pod
//! that was chosen where the server is (RFC 2663; in Kubernetes, kube-proxy). The client's: its own where it is, and its
//! node's where the server is (masquerading). Both ends of such a connection are brought together under the addresses at
//! which it was met first.
//!
//! The client's address and port and its initial sequence number are the same on both sides, and no two connections
//! share them: a sequence number is drawn for addresses, ports and time (RFC 9293, section 3.4.1). Where the client's
//! address is another one, its SYN's timestamp takes the address's place: that begins anywhere for each connection, too
//! (RFC 7323, section 5.4), and with the sequence number that is 64 bits that nobody else has in the same half minute.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::flow::{FlowKey, Place};
use crate::limits::{SERVICES, TRANSLATED, TRANSLATION_WAIT, UNTRANSLATED};
use crate::segment::Flags;
use crate::{Direction, Nanos, RouterCounters};

/// Where a packet was seen: tape, direction, interface. The two sides of a connection are not seen at one place.
pub(crate) type Vantage = (u16, Direction, u32);

/// Who is reached under two addresses, or from two.
#[derive(Default)]
pub(crate) struct Translations {
    /// Where connections that have begun went, by their client and its initial sequence number.
    begun: FxHashMap<Opening, Begun>,
    /// The same, the oldest first.
    oldest: VecDeque<Opening>,
    /// The same by sequence number and timestamp.
    stamped: FxHashMap<(u32, u32), Opening>,
    /// Connections that are known under other addresses, by each of them.
    known: FxHashMap<FlowKey, Known>,
    /// When they were entered, or found in use when it was their turn to go; the oldest first.
    order: VecDeque<(FlowKey, Nanos)>,
    /// Addresses that were found to be another's: whoever goes there next is likely to be seen from both sides, too.
    services: FxHashSet<Place>,
}

/// A client, and its initial sequence number.
type Opening = (Place, u32);

#[derive(Clone, Copy)]
struct Begun {
    server: Place,
    at: Nanos,
    seen: Vantage,
    stamp: Option<u32>,
}

/// A connection under addresses that it has in some of its packets.
#[derive(Clone, Copy)]
struct Known {
    /// The client in these packets.
    here: Place,
    /// The client and the server that stand for all.
    client: Place,
    server: Place,
    last: Nanos,
}

impl Begun {
    /// Whether this is what a connection looked like that was seen elsewhere, too.
    fn is_other_side(&self, other: &Self) -> bool {
        self.seen != other.seen && self.at.abs_diff(other.at) <= TRANSLATION_WAIT
    }
}

/// What a segment says of its connection.
#[derive(Clone, Copy)]
pub(crate) struct Says {
    pub flags: Flags,
    pub seq: u32,
    pub ack: u32,
    /// The time of its timestamp option.
    pub stamp: Option<u32>,
}

/// What a segment's ends are taken for.
pub(crate) struct Ends {
    pub source: Place,
    pub destination: Place,
    /// Whether the connection is seen from both sides: it is known under two addresses, or likely to be.
    pub two: bool,
}

impl Translations {
    /// The ends of a segment, after what it says of its connection was noted.
    pub fn ends(
        &mut self,
        (source, destination): (Place, Place),
        says: Says,
        (now, seen): (Nanos, Vantage),
        counters: &mut RouterCounters,
    ) -> Ends {
        if says.flags.has(Flags::SYN) {
            let begun = |server| Begun {
                server,
                at: now,
                seen,
                stamp: says.stamp,
            };
            if says.flags.has(Flags::ACK) {
                let opening = (destination, says.ack.wrapping_sub(1));
                self.accept(opening, &begun(source), counters);
            } else {
                self.begin((source, says.seq), begun(destination), counters);
            }
        }
        if self.services.is_empty() {
            return Ends {
                source,
                destination,
                two: false,
            };
        }
        let (flow, _) = FlowKey::new(source, destination);
        let Some(known) = self.known.get_mut(&flow) else {
            let two = self.services.contains(&source) || self.services.contains(&destination);
            return Ends {
                source,
                destination,
                two,
            };
        };
        known.last = known.last.max(now);
        counters.translated += 1;
        let (source, destination) = if source == known.here {
            (known.client, known.server)
        } else {
            (known.server, known.client)
        };
        Ends {
            source,
            destination,
            two: true,
        }
    }

    /// A client opens a connection.
    fn begin(&mut self, opening: Opening, begun: Begun, counters: &mut RouterCounters) {
        let (client, seq) = opening;
        match self.begun.get(&opening).copied() {
            Some(first) if first.server == begun.server => return,
            Some(first) if first.is_other_side(&begun) => {
                self.enter(
                    [(client, first.server), (client, begun.server)],
                    begun.at,
                    counters,
                );
                return;
            }
            _ => {}
        }
        if let Some(stamp) = begun.stamp
            && let Some(other) = self.stamped.get(&(seq, stamp)).copied()
            && let Some(first) = self.begun.get(&other)
            && first.is_other_side(&begun)
        {
            let first = (other.0, first.server);
            self.enter([first, (client, begun.server)], begun.at, counters);
            return;
        }
        // Its ports are used again, and for somewhere else: not what they were.
        let (flow, _) = FlowKey::new(client, begun.server);
        self.known.remove(&flow);
        while self.begun.len() >= UNTRANSLATED {
            let Some(oldest) = self.oldest.pop_front() else {
                break;
            };
            self.forget(&oldest);
        }
        if let Some(stamp) = begun.stamp {
            self.stamped.insert((seq, stamp), opening);
        }
        if self.begun.insert(opening, begun).is_none() {
            self.oldest.push_back(opening);
        }
    }

    /// A server accepts a connection: of a socket on the node that translates, the SYN is seen with the server's own address
    /// already, and the answer with the service's again.
    fn accept(&mut self, opening: Opening, accepted: &Begun, counters: &mut RouterCounters) {
        let (client, _) = opening;
        if let Some(first) = self.begun.get(&opening).copied()
            && first.server != accepted.server
            && first.is_other_side(accepted)
            && !self.known.contains_key(&FlowKey::new(client, accepted.server).0)
        {
            self.enter(
                [(client, first.server), (client, accepted.server)],
                accepted.at,
                counters,
            );
        }
    }

    fn forget(&mut self, opening: &Opening) {
        let Some(begun) = self.begun.remove(opening) else {
            return;
        };
        let stamped = begun.stamp.map(|stamp| (opening.1, stamp));
        if let Some(stamped) = stamped
            && self.stamped.get(&stamped) == Some(opening)
        {
            self.stamped.remove(&stamped);
        }
    }

    /// Enters a connection, given its client and its server as either side has them; the first stand for both.
    fn enter(&mut self, sides: [(Place, Place); 2], now: Nanos, counters: &mut RouterCounters) {
        let [(client, server), _] = sides;
        for (here, place) in sides {
            if self.services.len() < SERVICES {
                self.services.insert(place);
            }
            self.make_room(counters);
            let (flow, _) = FlowKey::new(here, place);
            let known = Known {
                here,
                client,
                server,
                last: now,
            };
            if self.known.insert(flow, known).is_none() {
                self.order.push_back((flow, now));
            }
        }
    }

    /// The connection that was silent for the longest time gives way.
    fn make_room(&mut self, counters: &mut RouterCounters) {
        while self.known.len() >= TRANSLATED || self.order.len() >= 2 * TRANSLATED {
            let Some((flow, at)) = self.order.pop_front() else {
                break;
            };
            match self.known.get(&flow) {
                Some(known) if known.last > at => self.order.push_back((flow, known.last)),
                Some(_) => {
                    self.known.remove(&flow);
                    counters.translations_dropped += 1;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: Flags = Flags::SYN;
    const DATA: Flags = Flags::ACK;
    const S: Nanos = 1_000_000_000;
    const HERE: Vantage = (0, Direction::Out, 2);
    const THERE: Vantage = (1, Direction::In, 2);

    fn says(flags: Flags, seq: u32) -> Says {
        Says {
            flags,
            seq,
            ack: 0,
            stamp: None,
        }
    }

    fn place(last: u8, port: u16) -> Place {
        (
            std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets(),
            port,
        )
    }

    #[test]
    fn both_sides_of_a_service_are_one_connection_under_the_first_address() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let (client, service, pod) = (place(1, 40000), place(96, 80), place(2, 8080));
        // The service's address is seen at the client, the pod's at the server.
        let mut ends = |from, to, flags, at| {
            let seen = if from == service || to == service {
                HERE
            } else {
                THERE
            };
            let ends = all.ends((from, to), says(flags, 7), (at, seen), &mut counters);
            (ends.source, ends.destination, ends.two)
        };
        assert_eq!(ends(client, service, SYN, S), (client, service, false));
        assert_eq!(ends(client, pod, SYN, S + 1), (client, service, true));
        assert_eq!(ends(pod, client, SYN | DATA, S + 2), (service, client, true));
        assert_eq!(ends(service, client, SYN | DATA, S + 3), (service, client, true));
        assert_eq!(ends(client, service, DATA, S + 4), (client, service, true));
        // Others are as they are, but may be expected to be seen twice.
        let other = place(1, 40001);
        assert_eq!(ends(other, service, DATA, S + 5), (other, service, true));
        assert_eq!(
            ends(other, place(2, 9090), DATA, S + 6),
            (other, place(2, 9090), false)
        );
    }

    #[test]
    fn ports_that_are_used_again_begin_anew() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let (client, service, pod) = (place(1, 40000), place(96, 80), place(2, 8080));
        let mut open = |to, seq, at| {
            let seen = if to == service { HERE } else { THERE };
            let ends = all.ends((client, to), says(SYN, seq), (at, seen), &mut counters);
            (ends.destination, ends.two)
        };
        open(service, 7, S);
        assert_eq!(open(pod, 7, S), (service, true));
        assert_eq!(open(pod, 8, 60 * S).0, pod);
        // The same number by chance, long after.
        assert_eq!(open(service, 8, 200 * S).0, service);
    }

    #[test]
    fn two_connections_of_one_observer_are_two_though_they_begin_alike() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        for server in [place(96, 80), place(2, 8080)] {
            let ends = all.ends((place(1, 40000), server), says(SYN, 7), (S, HERE), &mut counters);
            assert_eq!((ends.destination, ends.two), (server, false));
        }
    }

    #[test]
    fn a_client_whose_address_is_another_one_at_the_server() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let (client, service) = (place(1, 40000), place(96, 80));
        let (node, pod) = (place(9, 1234), place(2, 8080));
        let mut ends = |from, to, flags, (seq, stamp), seen| {
            let says = Says {
                stamp,
                ..says(flags, seq)
            };
            let ends = all.ends((from, to), says, (S, seen), &mut counters);
            (ends.source, ends.destination)
        };
        let opened = (7, Some(99));
        ends(client, service, SYN, opened, HERE);
        assert_eq!(ends(node, pod, SYN, opened, THERE), (client, service));
        assert_eq!(ends(pod, node, DATA, (1, Some(3)), THERE), (service, client));
        assert_eq!(ends(client, service, DATA, (1, Some(3)), HERE), (client, service));
        // Others of the node's are not it: with another time, without one, and seen at the same place.
        for (port, opened, seen) in [
            (2, (7, Some(98)), THERE),
            (3, (7, None), THERE),
            (4, opened, HERE),
        ] {
            let other = place(9, port);
            assert_eq!(ends(other, pod, SYN, opened, seen), (other, pod));
        }
    }

    #[test]
    fn a_socket_on_the_node_that_translates_is_answered_by_another_than_it_called() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let (client, service, pod) = (place(1, 40000), place(96, 80), place(2, 8080));
        all.ends((client, pod), says(SYN, 7), (S, HERE), &mut counters);
        let back = (0, Direction::In, 2);
        let mut answered = |ack| {
            let says = Says {
                ack,
                ..says(SYN | DATA, 70)
            };
            all.ends((service, client), says, (S, back), &mut counters).source
        };
        assert_eq!(answered(9), service);
        assert_eq!(answered(8), pod);
    }

    #[test]
    fn more_than_there_is_room_for() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let at = |n: usize| ((n as u128).to_be_bytes(), 80);
        for n in 0..UNTRANSLATED + 5 {
            let says = Says {
                stamp: Some(n as u32),
                ..says(SYN, 7)
            };
            all.ends((at(n), place(96, 80)), says, (S, HERE), &mut counters);
        }
        assert_eq!((all.begun.len(), all.oldest.len()), (UNTRANSLATED, UNTRANSLATED));
        assert_eq!(all.stamped.len(), UNTRANSLATED);
        for n in 0..TRANSLATED / 2 + 5 {
            let at = at(1_000_000 + n);
            all.ends((at, place(96, 80)), says(SYN, 7), (S, HERE), &mut counters);
            all.ends((at, (at.0, 81)), says(SYN, 7), (S, THERE), &mut counters);
        }
        assert_eq!(all.services.len(), SERVICES);
        assert_eq!((all.known.len(), counters.translations_dropped), (TRANSLATED, 10));
        assert!(all.order.len() <= 2 * TRANSLATED);
    }
}
