//! Choosing in the agent, for sources whose packets no kernel program has chosen from: by the same code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use wiretape_agent_ebpf::choice::{
    Carried, Choice, FLOW_SILENCE, LeftOut, MAX_CONNECTIONS, MAX_RULES, Packet as Judged, Rule, Span,
    Verdict, decide, shed,
};
use wiretape_agent_ebpf::filter::{self, Frame, Instruction, MAX_INSTRUCTIONS};
use wiretape_agent_ebpf::headers::{Bytes, Headers};
use wiretape_tape::{LinkType, Packet};

use super::{Capture, CaptureCounters, CaptureError, Mark, Polled, Source};

/// A source of which only a part is taken.
pub(super) struct Choosing<C> {
    source: C,
    choice: Box<Choice>,
    rules: HashMap<u64, Rule>,
    connections: RefCell<Connections>,
    /// What is left out here, beside what the source counts.
    left_out: super::LeftOut,
    truncated: u64,
    shed: u64,
}

impl<C: Source> Choosing<C> {
    pub fn new(source: C, choice: &Choice) -> Self {
        Self {
            source,
            choice: Box::new(*choice),
            rules: HashMap::new(),
            connections: RefCell::default(),
            left_out: super::LeftOut::default(),
            truncated: 0,
            shed: 0,
        }
    }
}

impl<C: Source> Source for Choosing<C> {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
        let Self {
            source,
            choice,
            rules,
            connections,
            left_out,
            truncated,
            shed,
        } = self;
        source.poll(timeout, &mut |packet| {
            let (network, ethernet) = network_of(packet);
            let span = Span {
                from: 0,
                len: packet.orig_len,
                network,
                ethernet,
            };
            let passing = Passing {
                packet,
                rule: rules.get(&packet.cgroup).copied(),
                connections,
            };
            match decide(choice, &passing, span) {
                Verdict::Record { wanted, shed: less } => {
                    *shed += u64::from(less);
                    let data = packet.data.get(..wanted as usize).unwrap_or(packet.data);
                    *truncated += u64::from(data.len() < packet.data.len());
                    sink(&Packet { data, ..*packet });
                }
                Verdict::LeaveOut(why) => {
                    let counter = match why {
                        LeftOut::Filter => &mut left_out.filter,
                        LeftOut::Rule => &mut left_out.rule,
                        LeftOut::Sample => &mut left_out.sample,
                        LeftOut::Budget => &mut left_out.budget,
                    };
                    *counter += 1;
                }
            }
        })
    }

    fn mark(&mut self) -> Result<Mark, CaptureError> {
        self.source.mark()
    }

    fn is_past(&mut self, mark: &Mark) -> Result<bool, CaptureError> {
        self.source.is_past(mark)
    }

    fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
        let counters = self.source.counters()?;
        Ok(CaptureCounters {
            left_out: self.left_out,
            truncated: counters.truncated + self.truncated,
            shed: counters.shed + self.shed,
            ..counters
        })
    }

    fn new_interfaces(&mut self) -> Vec<(u32, String)> {
        self.source.new_interfaces()
    }

    fn memory(&self) -> u64 {
        self.source.memory()
    }

    fn stop(&mut self) {
        self.source.stop();
    }
}

impl<C: Source> Capture for Choosing<C> {
    fn choose(&mut self, choice: &Choice) -> Result<(), CaptureError> {
        *self.choice = *choice;
        Ok(())
    }

    fn rule(&mut self, cgroup: u64, rule: Option<Rule>) -> Result<(), CaptureError> {
        match rule {
            Some(rule) if self.rules.len() < MAX_RULES as usize || self.rules.contains_key(&cgroup) => {
                self.rules.insert(cgroup, rule);
            }
            Some(_) => {}
            None => {
                self.rules.remove(&cgroup);
            }
        }
        Ok(())
    }
}

/// Where a packet's network header is, and whether an Ethernet header is right before it.
fn network_of(packet: &Packet<'_>) -> (u32, bool) {
    match packet.link {
        LinkType::ETHERNET => match packet.data.get(12..14) {
            // A tag of a VLAN.
            Some([0x81, 0x00] | [0x88, 0xa8]) => (18, false),
            _ => (14, true),
        },
        LinkType::LINUX_SLL => (16, false),
        LinkType::LINUX_SLL2 => (20, false),
        _ => (0, false),
    }
}

struct Passing<'a> {
    packet: &'a Packet<'a>,
    rule: Option<Rule>,
    connections: &'a RefCell<Connections>,
}

impl Bytes for Passing<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        self.packet.data.load(at)
    }
}

impl Judged for Passing<'_> {
    fn passes(&self, filter: &[Instruction; MAX_INSTRUCTIONS], span: Span, length: u32) -> bool {
        filter::passes(filter, &Frame::new(self, span.network, span.ethernet, length))
    }

    fn rule(&self) -> Option<Rule> {
        self.rule
    }

    fn carried(&self, headers: &Headers, payload: u32) -> u64 {
        self.connections.borrow_mut().carry(self.packet, headers, payload)
    }

    /// There is nothing between a source and this that fills.
    fn pressure(&self) -> u32 {
        shed::NOTHING
    }

    /// The source has copied it by now.
    fn bulk_is_spent(&self, _: u32, _: u32) -> bool {
        false
    }
}

/// How much connections have carried: at most [`MAX_CONNECTIONS`] of them.
#[derive(Default)]
struct Connections(HashMap<u64, Carried>);

impl Connections {
    fn carry(&mut self, packet: &Packet<'_>, headers: &Headers, payload: u32) -> u64 {
        let key = if headers.tcp && packet.cookie != 0 {
            packet.cookie
        } else {
            headers.flow
        };
        if self.0.len() >= MAX_CONNECTIONS as usize && !self.0.contains_key(&key) {
            self.make_room();
        }
        let known = self.0.entry(key).or_insert(Carried {
            last: packet.ts,
            ..Carried::default()
        });
        if !headers.tcp && packet.ts.saturating_sub(known.last) > FLOW_SILENCE {
            known.bytes = [0; 2];
        }
        known.last = packet.ts;
        let [backward, forward] = &mut known.bytes;
        // By its ends, for many a packet of a capture has no direction, and one that is forwarded has both.
        let way = if headers.forward { forward } else { backward };
        if headers.opens {
            *way = 0;
        }
        let before = *way;
        *way += u64::from(payload);
        before
    }

    /// Forgets the half that has been silent longest.
    fn make_room(&mut self) {
        let mut times: Vec<u64> = self.0.values().map(|known| known.last).collect();
        let middle = times.len() / 2;
        let (_, limit, _) = times.select_nth_unstable(middle);
        let limit = *limit;
        self.0.retain(|_, known| known.last > limit);
    }
}

#[cfg(test)]
mod tests {
    use wiretape_agent_ebpf::choice::{asks, detail, one_in};
    use wiretape_agent_ebpf::headers::headers;
    use wiretape_tape::Direction;

    use super::*;

    /// A source of packets that are at hand.
    struct Ready(Vec<Vec<u8>>);

    impl Source for Ready {
        fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(&Packet<'_>)) -> Result<Polled, CaptureError> {
            let packets = std::mem::take(&mut self.0);
            for (data, ts) in packets.iter().zip(1..) {
                sink(&Packet {
                    ts,
                    data,
                    orig_len: data.len() as u32,
                    link: LinkType::RAW,
                    ifindex: 1,
                    direction: Direction::Out,
                    cgroup: u64::from(data[15]),
                    cookie: 0,
                    dropped: None,
                });
            }
            Ok(Polled::Packets(packets.len()))
        }

        fn mark(&mut self) -> Result<Mark, CaptureError> {
            unreachable!("nobody cuts")
        }

        fn is_past(&mut self, _: &Mark) -> Result<bool, CaptureError> {
            unreachable!("nobody cuts")
        }

        fn counters(&mut self) -> Result<CaptureCounters, CaptureError> {
            Ok(CaptureCounters::default())
        }

        fn new_interfaces(&mut self) -> Vec<(u32, String)> {
            Vec::new()
        }

        fn stop(&mut self) {}
    }

    /// A TCP segment with 100 bytes of payload from this host and port.
    fn segment(host: u8, port: u16) -> Vec<u8> {
        let mut data = vec![0; 140];
        (data[0], data[9], data[32]) = (0x45, 6, 0x50);
        data[12..20].copy_from_slice(&[10, 0, 0, host, 10, 0, 0, 200]);
        data[20..22].copy_from_slice(&port.to_be_bytes());
        data[23] = 80;
        data
    }

    /// The lengths of what is taken of packets, and what is counted.
    fn taken(choice: Choice, rules: &[(u64, Rule)], packets: Vec<Vec<u8>>) -> (Vec<usize>, CaptureCounters) {
        let mut choosing = Choosing::new(Ready(packets), &choice);
        for (cgroup, rule) in rules {
            choosing.rule(*cgroup, Some(*rule)).unwrap();
        }
        let mut lengths = Vec::new();
        choosing
            .poll(Duration::ZERO, &mut |packet| lengths.push(packet.data.len()))
            .unwrap();
        (lengths, choosing.counters().unwrap())
    }

    fn of(detail: u32, bytes: u32) -> Rule {
        Rule { detail, bytes }
    }

    #[test]
    fn headers_end_before_the_payload_and_first_bytes_of_each_connection_come_before_that() {
        let packets = || {
            vec![
                segment(1, 1000),
                segment(1, 1000),
                segment(1, 1000),
                segment(1, 1001),
            ]
        };
        let choice = |rule| Choice {
            rule,
            ..Choice::EVERYTHING
        };
        let (lengths, counters) = taken(choice(of(detail::HEADERS, 0)), &[], packets());
        assert_eq!((lengths, counters.truncated), (vec![40; 4], 4));
        let (lengths, counters) = taken(choice(of(detail::FIRST, 150)), &[], packets());
        assert_eq!((lengths, counters.truncated), (vec![140, 90, 40, 140], 2));
    }

    #[test]
    fn a_rule_counts_before_what_holds_for_all() {
        let packets = vec![segment(1, 1000), segment(2, 1000), segment(3, 1000)];
        let choice = Choice {
            asks: asks::RULES,
            ..Choice::EVERYTHING
        };
        let rules = [(2, of(detail::NONE, 0)), (3, of(detail::HEADERS, 0))];
        let (lengths, counters) = taken(choice, &rules, packets);
        assert_eq!((lengths, counters.left_out.rule), (vec![140, 40], 1));
    }

    #[test]
    fn a_share_of_the_flows_is_recorded_whole_and_the_budget_takes_a_share_of_that() {
        let packets: Vec<_> = (0..4000).map(|port| segment(1, port)).collect();
        let choice = Choice {
            asks: asks::SAMPLE,
            flows: one_in(4),
            budget_flows: one_in(8),
            ..Choice::EVERYTHING
        };
        let (lengths, counters) = taken(choice, &[], packets.clone());
        let of = |part: u64, whole: u64| (whole * 9 / 10..whole * 11 / 10).contains(&part);
        assert!(of(lengths.len() as u64, 500), "{}", lengths.len());
        assert!(of(counters.left_out.sample, 3000), "{counters:?}");
        assert!(of(counters.left_out.budget, 500), "{counters:?}");
        assert!(
            packets
                .iter()
                .filter(|packet| (headers(&packet[..], 0).flow >> 32) as u32 <= one_in(8))
                .count()
                == lengths.len(),
            "other flows than those"
        );
    }

    #[test]
    fn no_more_connections_are_remembered_than_there_may_be() {
        let mut connections = Connections::default();
        let data = segment(1, 1);
        for ts in 0..2 * u64::from(MAX_CONNECTIONS) {
            let packet = Packet {
                ts,
                data: &data,
                orig_len: 140,
                link: LinkType::RAW,
                ifindex: 1,
                direction: Direction::In,
                cgroup: 0,
                cookie: ts + 1,
                dropped: None,
            };
            assert_eq!(connections.carry(&packet, &headers(&data[..], 0), 1), 0);
            assert!(connections.0.len() <= MAX_CONNECTIONS as usize);
        }
    }
}
