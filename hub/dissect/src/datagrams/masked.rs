//! Calls by what they are known by where their client has another address.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Name;
use crate::Nanos;
use crate::limits::{DATAGRAM_FLOWS, HELD};

/// Flows with calls that wait for their other side, by the digest of [`Wanted::masked`](super::Wanted::masked).
#[derive(Default)]
pub(super) struct Masked {
    flows: FxHashMap<u64, Vec<Name>>,
    /// The oldest first.
    order: VecDeque<(Nanos, u64)>,
}

/// Flows of one digest that are kept: two are the sides of a call, and a third one makes that uncertain.
const SIDES: usize = 3;

impl Masked {
    /// A call waits from now on.
    pub fn add(&mut self, digest: u64, name: Name, now: Nanos) {
        // One side waits for HELD, the other comes within as much.
        let over = |at: Nanos, len: usize| at.saturating_add(2 * HELD) <= now || len >= DATAGRAM_FLOWS;
        while let Some((at, oldest)) = self.order.front().copied()
            && over(at, self.order.len())
        {
            self.order.pop_front();
            self.flows.remove(&oldest);
        }
        let flows = self.flows.entry(digest).or_default();
        if flows.is_empty() {
            self.order.push_back((now, digest));
            flows.reserve_exact(1);
        }
        if flows.len() < SIDES && !flows.contains(&name) {
            flows.push(name);
        }
    }

    /// The flows that may have the call.
    pub fn all(&self, digest: u64) -> &[Name] {
        self.flows.get(&digest).map_or(&[], Vec::as_slice)
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.order.len() * (size_of::<(Nanos, u64)>() + size_of::<(u64, Vec<Name>)>() + size_of::<Name>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;
    use crate::flow::FlowKey;

    #[test]
    fn more_than_are_kept() {
        let mut masked = Masked::default();
        let name = |n: u8| (FlowKey::new(([n; 16], 40000), ([9; 16], 53)).0, Transport::Udp);
        for n in 0..5 {
            masked.add(0, name(n), 1);
        }
        assert_eq!(masked.all(0).len(), SIDES);
        for digest in 1..2 * DATAGRAM_FLOWS as u64 {
            masked.add(digest, name(1), 2);
        }
        assert_eq!(
            (masked.order.len(), masked.flows.len()),
            (DATAGRAM_FLOWS, DATAGRAM_FLOWS)
        );
        masked.add(7, name(1), 3 + 2 * HELD);
        assert_eq!((masked.order.len(), masked.all(7).len()), (1, 1));
    }
}
