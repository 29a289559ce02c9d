//! IP datagrams put together from fragments.

use std::collections::VecDeque;

use etherparse::IpFragOffset;
use etherparse::IpNumber;
use etherparse::defrag::IpDefragBuf;
use rustc_hash::FxHashMap;

use crate::limits::{DATAGRAM_BYTES, DATAGRAM_TICKETS, DATAGRAM_WAIT, DATAGRAMS};
use crate::{Direction, Nanos, RouterCounters};

/// What an IP header says of a fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    pub id: u32,
    pub offset: IpFragOffset,
    pub more: bool,
}

/// Fragments belong together when all of this is the same: RFC 791's four fields, and the observer, since two of them
/// see the same datagram twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DatagramId {
    pub source: [u8; 16],
    pub destination: [u8; 16],
    pub transport: IpNumber,
    pub id: u32,
    pub tape: u16,
    pub interface: u32,
    pub direction: Direction,
}

/// A datagram that is whole.
pub(crate) struct Datagram {
    /// The payload of the IP datagram.
    pub payload: Vec<u8>,
    /// Where the fragment is that came first.
    pub at_first: u64,
}

/// The datagrams that wait for fragments.
#[derive(Default)]
pub(crate) struct Fragments {
    waiting: FxHashMap<DatagramId, Waiting>,
    /// In order of arrival, with that time; what is no longer waiting is passed over.
    order: VecDeque<(Nanos, DatagramId)>,
    bytes: usize,
}

struct Waiting {
    buffer: IpDefragBuf,
    since: Nanos,
    at_first: u64,
}

impl Fragments {
    /// Takes a fragment; gives the datagram if it was the last one.
    ///
    /// Fragments that overlap are laid over each other, the later one on top; ones that contradict each other's end lose
    /// the datagram. (A receiver that follows RFC 5722 drops both kinds; neither is sent by anyone in earnest.)
    pub fn add(
        &mut self,
        id: DatagramId,
        fragment: Fragment,
        payload: &[u8],
        ts: Nanos,
        at: u64,
        counters: &mut RouterCounters,
    ) -> Option<Datagram> {
        self.expire(ts, counters);
        if self.order.len() >= DATAGRAM_TICKETS {
            let waiting = &self.waiting;
            self.order
                .retain(|(since, id)| waiting.get(id).is_some_and(|waiting| waiting.since == *since));
        }
        let waiting = self.waiting.entry(id).or_insert_with(|| {
            self.order.push_back((ts, id));
            Waiting {
                buffer: IpDefragBuf::new(id.transport, Vec::new(), Vec::new()),
                since: ts,
                at_first: at,
            }
        });
        let before = waiting.buffer.data().len();
        let added = waiting.buffer.add(fragment.offset, fragment.more, payload);
        self.bytes = self.bytes + waiting.buffer.data().len() - before;
        if added.is_err() {
            self.drop(&id, counters);
        } else if waiting.buffer.is_complete() {
            let waiting = self.waiting.remove(&id)?;
            let (payload, _) = waiting.buffer.take_bufs();
            self.bytes -= payload.len();
            counters.datagrams += 1;
            return Some(Datagram {
                payload,
                at_first: waiting.at_first,
            });
        }
        while self.waiting.len() > DATAGRAMS || self.bytes > DATAGRAM_BYTES {
            let (_, oldest) = self.order.pop_front()?;
            self.drop(&oldest, counters);
        }
        None
    }

    fn expire(&mut self, now: Nanos, counters: &mut RouterCounters) {
        while let Some(&(since, id)) = self.order.front() {
            let stale = self.waiting.get(&id).is_none_or(|waiting| waiting.since != since);
            if !stale && since + DATAGRAM_WAIT > now {
                return;
            }
            self.order.pop_front();
            if !stale {
                self.drop(&id, counters);
            }
        }
    }

    fn drop(&mut self, id: &DatagramId, counters: &mut RouterCounters) {
        if let Some(waiting) = self.waiting.remove(id) {
            self.bytes -= waiting.buffer.data().len();
            counters.datagrams_lost += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> DatagramId {
        DatagramId {
            source: [1; 16],
            destination: [2; 16],
            transport: IpNumber::TCP,
            id: n,
            tape: 0,
            interface: 0,
            direction: Direction::Unknown,
        }
    }

    fn part(offset: u16, more: bool) -> Fragment {
        Fragment {
            id: 0,
            offset: IpFragOffset::try_new(offset / 8).unwrap(),
            more,
        }
    }

    #[test]
    fn fragments_in_any_order_make_the_datagram() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
            let parts = [(0, true, [1u8; 8]), (8, true, [2; 8]), (16, false, [3; 8])];
            let mut whole = None;
            for (n, i) in order.into_iter().enumerate() {
                let (offset, more, bytes) = parts[i];
                whole = pool.add(id(1), part(offset, more), &bytes, 0, n as u64, &mut counters);
            }
            let whole = whole.expect("the last fragment completes it");
            assert_eq!(whole.payload, [[1u8; 8], [2; 8], [3; 8]].concat());
            assert_eq!((whole.at_first, pool.bytes, pool.waiting.len()), (0, 0, 0));
        }
    }

    #[test]
    fn a_datagram_waits_no_longer_than_its_time() {
        let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
        assert!(
            pool.add(id(1), part(0, true), &[0; 8], 5, 0, &mut counters)
                .is_none()
        );
        assert!(
            pool.add(
                id(1),
                part(8, false),
                &[0; 8],
                5 + DATAGRAM_WAIT,
                0,
                &mut counters
            )
            .is_none()
        );
        assert_eq!(counters.datagrams_lost, 1);
    }

    #[test]
    fn an_identification_that_comes_back_completes_no_earlier_datagram() {
        let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
        // The first fragment was lost, and the identification comes back after 65,536 datagrams, 30,000 a second.
        let again = 65_536 * 1_000_000_000 / 30_000;
        let mut add = |offset, more, byte: u8, ts| {
            let whole = pool.add(id(77), part(offset, more), &[byte; 8], ts, 0, &mut counters);
            whole.map(|whole| whole.payload)
        };
        assert_eq!(add(8, false, 1, 0), None);
        assert_eq!(add(0, true, 2, again), None);
        assert_eq!(add(8, false, 3, again), Some([[2; 8], [3; 8]].concat()));
        assert_eq!((counters.datagrams, counters.datagrams_lost), (1, 1));
    }

    #[test]
    fn whole_datagrams_behind_one_that_waits_are_forgotten() {
        let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
        pool.add(id(0), part(0, true), &[0; 8], 0, 0, &mut counters);
        for n in 1..100_000 {
            pool.add(id(n), part(0, true), &[0; 8], 0, 0, &mut counters);
            assert!(
                pool.add(id(n), part(8, false), &[0; 8], 0, 0, &mut counters)
                    .is_some()
            );
            assert!(pool.order.len() <= DATAGRAM_TICKETS);
        }
        assert!(
            pool.add(id(0), part(8, false), &[0; 8], 0, 0, &mut counters)
                .is_some()
        );
    }

    #[test]
    fn the_pool_is_bounded_in_datagrams_and_bytes() {
        let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
        for n in 0..10 * DATAGRAMS as u32 {
            assert!(
                pool.add(id(n), part(8, true), &[0; 8], 0, 0, &mut counters)
                    .is_none()
            );
            assert!(pool.waiting.len() <= DATAGRAMS);
        }
        assert_eq!(counters.datagrams_lost, 9 * DATAGRAMS as u64);
        for n in 0..200 {
            assert!(
                pool.add(id(n), part(60000, true), &[0; 800], 0, 0, &mut counters)
                    .is_none()
            );
            assert!(pool.bytes <= DATAGRAM_BYTES);
        }
    }

    #[test]
    fn contradicting_ends_lose_the_datagram() {
        let (mut pool, mut counters) = (Fragments::default(), RouterCounters::default());
        assert!(
            pool.add(id(1), part(8, false), &[0; 8], 0, 0, &mut counters)
                .is_none()
        );
        assert!(
            pool.add(id(1), part(64, false), &[0; 8], 0, 0, &mut counters)
                .is_none()
        );
        assert_eq!(counters.datagrams_lost, 1);
    }
}
