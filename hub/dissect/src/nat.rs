//! Connections whose server's address is another one on the way: a service's own where the client is, and that of the pod
//! that was chosen where the server is (RFC 2663; in Kubernetes, kube-proxy). Both ends of such a connection are brought
//! together under the address at which it was met first.
//!
//! The client's address and port and its initial sequence number are the same on both sides, and no two connections
//! share them: a sequence number is drawn for addresses, ports and time (RFC 9293, section 3.4.1).

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::flow::FlowKey;
use crate::limits::{SERVICES, TRANSLATED, TRANSLATION_WAIT, UNTRANSLATED};
use crate::segment::Flags;
use crate::{Direction, Nanos, RouterCounters};

/// Address and port, as a packet has them.
pub(crate) type Place = ([u8; 16], u16);

/// Where a packet was seen: tape, direction, interface. The two sides of a connection are not seen at one place.
pub(crate) type Vantage = (u16, Direction, u32);

/// Who is reached under two addresses.
#[derive(Default)]
pub(crate) struct Translations {
    /// Where connections that have begun went, by their client and its initial sequence number.
    begun: FxHashMap<(Place, u32), Begun>,
    /// The same, the oldest first.
    oldest: VecDeque<(Place, u32)>,
    /// Connections that are known under two addresses, by each of them.
    known: FxHashMap<FlowKey, Known>,
    /// When they were entered, or found in use when it was their turn to go; the oldest first.
    order: VecDeque<(FlowKey, Nanos)>,
    /// Addresses that were found to be another's: whoever goes there next is likely to be seen from both sides, too.
    services: FxHashSet<Place>,
}

#[derive(Clone, Copy)]
struct Begun {
    server: Place,
    at: Nanos,
    seen: Vantage,
}

#[derive(Clone, Copy)]
struct Known {
    /// The client, and the server's address that stands for both.
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
        (flags, seq): (Flags, u32),
        (now, seen): (Nanos, Vantage),
        counters: &mut RouterCounters,
    ) -> Ends {
        let opening = flags.has(Flags::SYN) && !flags.has(Flags::ACK);
        if opening {
            let begun = Begun {
                server: destination,
                at: now,
                seen,
            };
            self.begin(source, seq, begun, counters);
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
        let (source, destination) = if source == known.client {
            (source, known.server)
        } else {
            (known.server, destination)
        };
        Ends {
            source,
            destination,
            two: true,
        }
    }

    /// A client opens a connection.
    fn begin(&mut self, client: Place, seq: u32, begun: Begun, counters: &mut RouterCounters) {
        let key = (client, seq);
        match self.begun.get(&key).copied() {
            Some(first) if first.server == begun.server => {}
            Some(first) if first.is_other_side(&begun) => {
                let under = [first.server, begun.server];
                self.enter(client, under, first.server, begun.at, counters);
            }
            _ => {
                // Its ports are used again, and for somewhere else: not what they were.
                let (flow, _) = FlowKey::new(client, begun.server);
                self.known.remove(&flow);
                while self.begun.len() >= UNTRANSLATED {
                    let Some(oldest) = self.oldest.pop_front() else {
                        break;
                    };
                    self.begun.remove(&oldest);
                }
                if self.begun.insert(key, begun).is_none() {
                    self.oldest.push_back(key);
                }
            }
        }
    }

    fn enter(
        &mut self,
        client: Place,
        under: [Place; 2],
        server: Place,
        now: Nanos,
        counters: &mut RouterCounters,
    ) {
        let known = Known {
            client,
            server,
            last: now,
        };
        for place in under {
            if self.services.len() < SERVICES {
                self.services.insert(place);
            }
            self.make_room(counters);
            let (flow, _) = FlowKey::new(client, place);
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
            let ends = all.ends((from, to), (flags, 7), (at, seen), &mut counters);
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
            let ends = all.ends((client, to), (SYN, seq), (at, seen), &mut counters);
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
            let ends = all.ends((place(1, 40000), server), (SYN, 7), (S, HERE), &mut counters);
            assert_eq!((ends.destination, ends.two), (server, false));
        }
    }

    #[test]
    fn more_than_there_is_room_for() {
        let (mut all, mut counters) = (Translations::default(), RouterCounters::default());
        let at = |n: usize| ((n as u128).to_be_bytes(), 80);
        for n in 0..UNTRANSLATED + 5 {
            all.ends((at(n), place(96, 80)), (SYN, 7), (S, HERE), &mut counters);
        }
        assert_eq!((all.begun.len(), all.oldest.len()), (UNTRANSLATED, UNTRANSLATED));
        for n in 0..TRANSLATED / 2 + 5 {
            let at = at(1_000_000 + n);
            all.ends((at, place(96, 80)), (SYN, 7), (S, HERE), &mut counters);
            all.ends((at, (at.0, 81)), (SYN, 7), (S, THERE), &mut counters);
        }
        assert_eq!(all.services.len(), SERVICES);
        assert_eq!((all.known.len(), counters.translations_dropped), (TRANSLATED, 10));
        assert!(all.order.len() <= 2 * TRANSLATED);
    }
}
