//! HTTP/1 traffic of a made-up cluster, packet by packet in order of time, with the truth of what it says.
//!
//! The same seed and size give the same bytes on every machine: the generator has its own random numbers and no
//! floating point that could round differently.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

use super::messages::{SERVICES, Service, request, response};
use super::wire::{self, ACK, End, FIN, PSH, SEGMENT, SYN};
use crate::random::Random;

/// Bump when the bytes change, so that a kept capture of an older generator is not taken for this one's.
pub const VERSION: u32 = 2;
/// 2026-01-01 00:00:00 UTC; any time will do, a round one is easily known again in tshark.
const START: u64 = 1_767_225_600_000_000_000;
/// Calls of one keep-alive connection, on average: "a few thousand connections" for 100 thousand calls.
const CALLS_PER_CONNECTION: u64 = 33;
/// Time over which 100 thousand calls are spread; more calls take longer, so that the rate stays the same.
const SPAN_OF_100K: u64 = 60_000_000_000;
/// Time that a connection lives: a fifth of [`SPAN_OF_100K`], so that some hundreds are open and interleaved at any
/// time, however large the capture is.
const LIFE: u64 = SPAN_OF_100K / 5;

/// What the capture says, known from making it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Packets.
    pub packets: u64,
    /// TCP connections.
    pub connections: u64,
    /// Calls, each with one request and one response.
    pub calls: u64,
    /// Requests per method.
    pub methods: BTreeMap<String, u64>,
    /// Responses per status.
    pub statuses: BTreeMap<u16, u64>,
}

/// Makes the traffic of `calls` calls and hands every packet (time, Ethernet frame) to `sink` in order of time.
pub fn generate<E>(
    calls: u64,
    seed: u64,
    mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Truth, E> {
    let connections = (calls / CALLS_PER_CONNECTION).max(1);
    let span = SPAN_OF_100K * calls.max(1) / 100_000;
    let mut random = Random(seed);
    let mut truth = Truth {
        connections,
        calls,
        ..Truth::default()
    };

    let life = LIFE.min(span / 5);
    let mut open = Vec::new();
    let mut due = BinaryHeap::new();
    for number in 0..connections {
        let own_calls = calls / connections + u64::from(number < calls % connections);
        let begins = START + random.below(span - life + 1);
        let pace = life / own_calls.max(1);
        open.push(Connection::new(number, own_calls, pace, Random(random.next())));
        due.push(Reverse((begins, number as usize)));
    }

    let mut frame = Vec::with_capacity(2048);
    while let Some(Reverse((now, number))) = due.pop() {
        let Some(connection) = open.get_mut(number) else {
            continue;
        };
        let Some(step) = connection.steps.pop_front() else {
            continue;
        };
        connection.frame(&step, now, &mut frame);
        truth.packets += 1;
        sink(now, &frame)?;
        if connection.steps.is_empty() {
            connection.next_steps(&mut truth);
        }
        if let Some(next) = connection.steps.front() {
            due.push(Reverse((now + next.after, number)));
        }
    }
    Ok(truth)
}

/// One packet of a connection that is still to come.
struct Step {
    /// Nanoseconds after the packet before it.
    after: u64,
    /// From client to server, or back.
    from_client: bool,
    flags: u8,
    payload: Vec<u8>,
}

/// A keep-alive connection between a client and a service.
struct Connection {
    client: End,
    server: End,
    service: &'static Service,
    calls_left: u64,
    /// Mean time from one call to the next.
    pace: u64,
    closing: bool,
    random: Random,
    steps: VecDeque<Step>,
}

impl Connection {
    /// A connection that begins with its handshake. Addresses and ports follow from its number, so none occurs twice.
    fn new(number: u64, calls: u64, pace: u64, mut random: Random) -> Self {
        let service_number = (number % SERVICES.len() as u64) as u8;
        let service = &SERVICES[usize::from(service_number)];
        let client_pod = ((number / SERVICES.len() as u64) % 60) as u8;
        let port = 32_768 + (number / (SERVICES.len() as u64 * 60) % 28_000) as u16;
        let rack = (number / (SERVICES.len() as u64 * 60 * 28_000)) as u8;
        let client = End {
            mac: [2, 0, 10, 244, 1, client_pod],
            address: [10, 244, 1 + rack, 10 + client_pod],
            port,
            seq: random.next() as u32,
            ip_id: random.next() as u16,
        };
        let server = End {
            mac: [2, 0, 10, 96, 0, service_number],
            address: [10, 96, 0, 10 + service_number],
            port: service.port,
            seq: random.next() as u32,
            ip_id: random.next() as u16,
        };
        let steps = VecDeque::from([
            Step {
                after: 0,
                from_client: true,
                flags: SYN,
                payload: Vec::new(),
            },
            Step {
                after: 80_000,
                from_client: false,
                flags: SYN | ACK,
                payload: Vec::new(),
            },
            Step {
                after: 60_000,
                from_client: true,
                flags: ACK,
                payload: Vec::new(),
            },
        ]);
        Self {
            client,
            server,
            service,
            calls_left: calls,
            pace,
            closing: false,
            random,
            steps,
        }
    }

    /// The next call's packets, or the goodbye, or nothing when that has been said.
    fn next_steps(&mut self, truth: &mut Truth) {
        if self.calls_left > 0 {
            self.calls_left -= 1;
            self.call(truth);
        } else if !self.closing {
            self.closing = true;
            for (from_client, flags) in [(true, FIN | ACK), (false, FIN | ACK), (true, ACK)] {
                self.steps.push_back(Step {
                    after: 70_000,
                    from_client,
                    flags,
                    payload: Vec::new(),
                });
            }
        }
    }

    /// Request, its acknowledgement, response, its acknowledgement.
    fn call(&mut self, truth: &mut Truth) {
        let random = &mut self.random;
        let route = random.pick(self.service.routes);
        let status = random.status(route.method);
        *truth.methods.entry(route.method.to_owned()).or_default() += 1;
        *truth.statuses.entry(status).or_default() += 1;

        let idle = self.pace / 2 + random.below(self.pace.max(1));
        let request = request(random, self.service, route);
        let works = 200_000 + random.below(4_000_000);
        let response = response(random, route, status);
        // A server that answers at once acknowledges with its answer.
        let acknowledges = random.below(100) < 80;
        self.message(true, idle, &request);
        if acknowledges {
            self.steps.push_back(Step {
                after: 40_000,
                from_client: false,
                flags: ACK,
                payload: Vec::new(),
            });
        }
        self.message(false, works, &response);
        self.steps.push_back(Step {
            after: 40_000,
            from_client: true,
            flags: ACK,
            payload: Vec::new(),
        });
    }

    /// Cuts a message into segments.
    fn message(&mut self, from_client: bool, after: u64, bytes: &[u8]) {
        let mut after = after;
        let mut segments = bytes.chunks(SEGMENT).peekable();
        while let Some(segment) = segments.next() {
            let flags = if segments.peek().is_some() { ACK } else { ACK | PSH };
            self.steps.push_back(Step {
                after,
                from_client,
                flags,
                payload: segment.to_vec(),
            });
            // About the time of 1500 bytes on a 1 Gbit/s link.
            after = 12_000;
        }
    }

    /// Writes a step as an Ethernet frame.
    fn frame(&mut self, step: &Step, now: u64, frame: &mut Vec<u8>) {
        let (from, to) = match step.from_client {
            true => (&mut self.client, &self.server),
            false => (&mut self.server, &self.client),
        };
        wire::tcp(from, to, step.flags, &step.payload, now, frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dissect::messages::BODY;

    const CALLS: u64 = 2000;

    fn packets(seed: u64) -> (Vec<(u64, Vec<u8>)>, Truth) {
        let mut packets = Vec::new();
        let truth = generate(CALLS, seed, |ts, frame| {
            packets.push((ts, frame.to_vec()));
            Ok::<(), std::convert::Infallible>(())
        });
        let truth = match truth {
            Ok(truth) => truth,
            Err(never) => match never {},
        };
        (packets, truth)
    }

    #[test]
    fn same_seed_gives_same_traffic() {
        assert!(packets(1) == packets(1));
        assert!(packets(1) != packets(2));
    }

    #[test]
    fn packets_come_in_order_of_time_and_interleaved() {
        let (packets, truth) = packets(1);
        assert_eq!(packets.len() as u64, truth.packets);
        assert!(packets.is_sorted_by_key(|(ts, _)| *ts));
        // Whichever direction it goes.
        let ends = |frame: &[u8]| {
            let mut ends = [
                (frame[26..30].to_vec(), frame[34..36].to_vec()),
                (frame[30..34].to_vec(), frame[36..38].to_vec()),
            ];
            ends.sort();
            ends
        };
        let changes = packets
            .windows(2)
            .filter(|pair| ends(&pair[0].1) != ends(&pair[1].1))
            .count();
        assert!(
            changes > packets.len() / 4,
            "only {changes} times another connection in {} packets",
            packets.len()
        );
    }

    #[test]
    fn every_call_has_one_method_and_one_status() {
        let (_, truth) = packets(1);
        assert_eq!(truth.methods.values().sum::<u64>(), CALLS);
        assert_eq!(truth.statuses.values().sum::<u64>(), CALLS);
        assert!(truth.statuses.len() > 5);
    }

    #[test]
    fn lengths_and_checksums_are_right() {
        for (_, frame) in packets(1).0 {
            assert_eq!(
                u16::from_be_bytes([frame[16], frame[17]]) as usize,
                frame.len() - 14
            );
            assert_eq!(wire::fold(wire::sum(&frame[14..34])), 0);
            let pseudo = wire::sum(&frame[26..34]) + 6 + (frame.len() - 34) as u64;
            assert_eq!(wire::fold(pseudo + wire::sum(&frame[34..])), 0);
        }
    }

    #[test]
    fn bodies_are_as_long_as_their_heads_say() {
        let mut random = Random(1);
        for _ in 0..500 {
            let message = response(&mut random, &SERVICES[0].routes[0], 200);
            let text = String::from_utf8(message).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), body.len());
            assert!(
                (BODY.0 as usize..=BODY.1 as usize).contains(&body.len()),
                "{}",
                body.len()
            );
            assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
            assert!((8..=12).contains(&(head.lines().count() - 1)), "{head}");
        }
    }
}
