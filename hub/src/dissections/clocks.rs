//! How far apart the clocks of two nodes are, out of the calls that both have recorded.
//!
//! A request's first byte takes some time from the client's socket to the server's, and the response's some time back. Read
//! off two clocks, the one is longer by the distance of the clocks and the other shorter by as much. The shortest of each
//! kind have waited for nothing, and are alike but for that distance: half of their difference (RFC 5905, section 8, takes
//! the same mean, of the sample with the least delay).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wiretape_dissect::{Call, Observation};
use wiretape_tape::Nanos;

/// Most pairs of nodes whose clocks are compared by one worker. Of a hundred nodes there are 4950.
const MAX_PAIRS: usize = 8192;

/// Calls without which nothing is said: the shortest of a few is no shortest way.
const ENOUGH: u64 = 5;

/// The clocks of two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// One node.
    pub node: String,
    /// The other.
    pub other: String,
    /// How far the clock of `other` is ahead, in ns.
    pub ahead_ns: i64,
    /// The least time there and back, in ns: by half of it at most is `ahead_ns` wrong.
    pub round_trip_ns: i64,
    /// Calls that say so.
    pub calls: u64,
}

/// How far the clocks of all nodes are ahead of one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneClock {
    /// The node whose clock it is: the one that most calls tell of. Empty where nothing is known.
    pub node: String,
    /// The others by name, in ns; those that are apart by [`APART`] at least.
    ahead: BTreeMap<String, i64>,
}

/// Clocks that are nearer to each other than this are taken for one: answers have times in ms.
const APART: i64 = 1_000_000;

impl OneClock {
    /// One clock for all nodes that calls connect with each other: from node to node by the shortest ways, which tell most
    /// exactly.
    pub fn of(clocks: &[Clocks]) -> Self {
        let mut calls = BTreeMap::<&str, u64>::new();
        for clocks in clocks {
            for node in [&clocks.node, &clocks.other] {
                *calls.entry(node).or_default() += clocks.calls;
            }
        }
        let Some((first, _)) = calls
            .iter()
            .max_by_key(|(node, calls)| (**calls, Reverse(**node)))
        else {
            return Self::default();
        };
        let mut ahead = BTreeMap::from([((*first).to_owned(), 0_i64)]);
        let mut left: Vec<&Clocks> = clocks.iter().collect();
        left.sort_by_key(|clocks| clocks.round_trip_ns);
        loop {
            let next = left
                .iter()
                .position(|pair| ahead.contains_key(&pair.node) != ahead.contains_key(&pair.other));
            let Some(pair) = next.map(|n| left.remove(n)) else {
                break;
            };
            if let Some(node) = ahead.get(&pair.node).copied() {
                ahead.insert(pair.other.clone(), node.saturating_add(pair.ahead_ns));
            } else if let Some(other) = ahead.get(&pair.other).copied() {
                ahead.insert(pair.node.clone(), other.saturating_sub(pair.ahead_ns));
            }
        }
        ahead.retain(|_, ahead| ahead.unsigned_abs() >= APART.unsigned_abs());
        Self {
            node: (*first).to_owned(),
            ahead,
        }
    }

    /// How far a node's clock is ahead of it, in ns; 0 where that is not known.
    pub fn ahead(&self, node: &str) -> i64 {
        self.ahead.get(node).copied().unwrap_or_default()
    }

    /// A time of a node's clock by this one.
    pub fn time(&self, node: &str, at: Nanos) -> Nanos {
        at.saturating_add_signed(self.ahead(node).saturating_neg())
    }

    /// The same in words, for a file of packets; empty where no clock is apart.
    pub fn told(&self) -> String {
        let apart = self.apart().map(|(node, ahead)| {
            let way = if ahead < 0 { "behind" } else { "ahead of" };
            format!(
                "{node} is {:.3} ms {way} {}",
                ahead.unsigned_abs() as f64 / 1e6,
                self.node
            )
        });
        let apart: Vec<String> = apart.collect();
        if apart.is_empty() {
            return String::new();
        }
        format!(
            "Times are those of the nodes that recorded the packets, and their clocks were apart, as calls recorded at both \
             ends tell: {}.",
            apart.join(", ")
        )
    }

    /// The nodes whose clocks are apart from it, and how far they are ahead.
    pub fn apart(&self) -> impl Iterator<Item = (&str, i64)> {
        self.ahead.iter().map(|(node, ahead)| (node.as_str(), *ahead))
    }
}

/// The shortest ways between nodes.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// By the numbers of the tapes, the smaller first.
    pairs: BTreeMap<(u16, u16), Shortest>,
}

/// Between the first node's clock and the second's, in ns.
#[derive(Clone, Copy, Debug)]
struct Shortest {
    there: i64,
    back: i64,
    calls: u64,
}

impl Ways {
    /// Looks at a call that may have been recorded at both ends.
    pub(super) fn see(&mut self, call: &Call) {
        if let (Some(client), Some(server)) = (&call.client_side, &call.server_side) {
            self.compare(client, server);
        }
    }

    fn compare(&mut self, client: &Observation, server: &Observation) {
        let (Some(asked), Some(heard)) = (client.request, server.request) else {
            return;
        };
        let (Some(told), Some(answered)) = (client.response, server.response) else {
            return;
        };
        let to_server = difference(heard.0, asked.0);
        let to_client = difference(told.0, answered.0);
        if client.tape < server.tape {
            self.add((client.tape, server.tape), to_server, to_client, 1);
        } else if server.tape < client.tape {
            self.add((server.tape, client.tape), to_client, to_server, 1);
        }
    }

    /// Takes over what another worker saw.
    pub(super) fn merge(&mut self, other: &Self) {
        for (pair, way) in &other.pairs {
            self.add(*pair, way.there, way.back, way.calls);
        }
    }

    /// What they say of the clocks; `nodes` are the nodes' names by number of tape.
    pub(super) fn clocks(&self, nodes: &[String]) -> Vec<Clocks> {
        let name = |tape: u16| nodes.get(usize::from(tape)).cloned().unwrap_or_default();
        self.pairs
            .iter()
            .filter(|(_, way)| way.calls >= ENOUGH)
            .map(|((node, other), way)| Clocks {
                node: name(*node),
                other: name(*other),
                ahead_ns: (way.there - way.back) / 2,
                round_trip_ns: way.there + way.back,
                calls: way.calls,
            })
            .collect()
    }

    fn add(&mut self, pair: (u16, u16), there: i64, back: i64, calls: u64) {
        if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&pair) {
            return;
        }
        let way = self.pairs.entry(pair).or_insert(Shortest {
            there,
            back,
            calls: 0,
        });
        way.there = way.there.min(there);
        way.back = way.back.min(back);
        way.calls += calls;
    }
}

/// `later - earlier`, of two clocks. More than some days apart they are not compared.
fn difference(later: u64, earlier: u64) -> i64 {
    const DAYS: i128 = 7 * 86_400_000_000_000;
    let difference = (i128::from(later) - i128::from(earlier)).clamp(-DAYS, DAYS);
    i64::try_from(difference).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const AHEAD: i64 = 40_000_000;

    /// A call that took `there` and `back` on its way, and whose server's clock is ahead by `ahead`: both ends of it.
    fn call(client: u16, server: u16, there: u64, back: u64, ahead: i64) -> (Observation, Observation) {
        let at = |time: u64| Some((time, time));
        let ahead = |time: u64| at(time.checked_add_signed(ahead).unwrap());
        let (heard, answered) = (1000 * MS + there, 1005 * MS + there);
        let client = Observation {
            tape: client,
            request: at(1000 * MS),
            response: at(answered + back),
        };
        let server = Observation {
            tape: server,
            request: ahead(heard),
            response: ahead(answered),
        };
        (client, server)
    }

    fn clocks(calls: &[(Observation, Observation)]) -> Vec<(String, String, i64, i64)> {
        let mut ways = Ways::default();
        calls
            .iter()
            .for_each(|(client, server)| ways.compare(client, server));
        let nodes = ["a".to_owned(), "b".to_owned()];
        let told = ways.clocks(&nodes).into_iter();
        told.map(|clocks| (clocks.node, clocks.other, clocks.ahead_ns, clocks.round_trip_ns))
            .collect()
    }

    #[test]
    fn clock_that_is_ahead_shows_in_the_shortest_ways_of_both_directions() {
        let ways = [(3, 1), (1, 4), (9, 9), (2, 1), (1, 2)];
        let calls = ways.map(|(there, back)| call(0, 1, there * MS, back * MS, AHEAD));
        let expected = ("a".to_owned(), "b".to_owned(), AHEAD, 2_000_000);
        assert_eq!(clocks(&calls), [expected]);
    }

    #[test]
    fn calls_of_either_direction_compare_the_same_clocks() {
        let mut calls: Vec<_> = (0..3).map(|_| call(0, 1, 3 * MS, MS, AHEAD)).collect();
        // Here the server is the node whose clock is behind.
        calls.extend((0..2).map(|_| call(1, 0, MS, MS, -AHEAD)));
        let expected = ("a".to_owned(), "b".to_owned(), AHEAD, 2_000_000);
        assert_eq!(clocks(&calls), [expected]);
    }

    #[test]
    fn one_clock_for_all_that_calls_connect() {
        let clocks = |node: &str, other: &str, ahead_ms: i64, round_trip_ns, calls| Clocks {
            node: node.to_owned(),
            other: other.to_owned(),
            ahead_ns: ahead_ms * 1_000_000,
            round_trip_ns,
            calls,
        };
        let one = OneClock::of(&[
            clocks("a", "b", 300, 10, 50),
            clocks("b", "c", -100, 10, 90),
            // Longer ways tell less exactly, and what is not connected is not known.
            clocks("a", "c", 900, 5000, 90),
            clocks("x", "y", 40, 10, 20),
            clocks("c", "d", 0, 10, 5),
        ]);
        assert_eq!(one.node, "c");
        let apart: Vec<_> = one
            .apart()
            .map(|(node, ahead)| (node, ahead / 1_000_000))
            .collect();
        assert_eq!(apart, [("a", -200), ("b", 100)]);
        assert_eq!((one.time("b", 500_000_000), one.time("x", 7)), (400_000_000, 7));
        assert!(
            one.told()
                .ends_with("tell: a is 200.000 ms behind c, b is 100.000 ms ahead of c.")
        );
        assert_eq!(OneClock::of(&[]), OneClock::default());
        assert_eq!(OneClock::default().told(), "");
    }

    #[test]
    fn few_calls_and_calls_on_one_node_say_nothing() {
        let few: Vec<_> = (0..4).map(|_| call(0, 1, MS, MS, 0)).collect();
        assert_eq!(clocks(&few), []);
        let same: Vec<_> = (0..9).map(|_| call(0, 0, MS, MS, 0)).collect();
        assert_eq!(clocks(&same), []);
    }
}
