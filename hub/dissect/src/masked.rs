//! Both sides of a question whose client has another address at the server (RFC 2663; in Kubernetes, masquerading): brought to
//! one shard, where it is told whether they are one (see `datagrams`).
//!
//! A flow goes where its client's port goes. Only where it begins with the very bytes and the sender's own number of a question
//! that another flow has begun with in the last [`HELD`], it goes where that went. Nothing is joined by this: flows of
//! different calls may be in one shard, too.

use std::collections::VecDeque;
use std::hash::Hasher;

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use crate::datagram::Datagram;
use crate::flow::FlowKey;
use crate::limits::{DATAGRAM_IDLE, HELD, QUESTION_BYTES, QUESTIONS};
use crate::segment::Observer;
use crate::{Nanos, RouterCounters};

/// Where flows of datagrams go that do not go where their client's port does.
#[derive(Default)]
pub(crate) struct Masked {
    /// Flows that have begun, by their hashes: in the half minute that runs, and in the one before.
    begun: [FxHashSet<u64>; 2],
    /// When the half minute began that runs.
    since: Nanos,
    /// Where first questions have gone, and when.
    asked: FxHashMap<u64, (u16, Nanos)>,
    /// The same, the oldest first.
    oldest: VecDeque<(u64, Nanos)>,
    /// Flows that go elsewhere, and when they were met last.
    elsewhere: FxHashMap<FlowKey, (u16, Nanos)>,
}

impl Masked {
    /// The shard of a datagram's flow.
    pub fn shard(&mut self, datagram: &Datagram, payload: &[u8], counters: &mut RouterCounters) -> u16 {
        let (flow, now) = (&datagram.flow, datagram.ts);
        if !self.elsewhere.is_empty()
            && let Some((shard, last)) = self.elsewhere.get_mut(flow)
        {
            *last = now.max(*last);
            return *shard;
        }
        let own = flow.datagram_shard();
        if !self.begins(flow, now, counters) || !is_question(datagram) {
            return own;
        }
        self.forget(now);
        let question = digest(datagram, payload);
        if let Some((shard, _)) = self.asked.get(&question) {
            let shard = *shard;
            if shard != own && self.elsewhere.len() < QUESTIONS {
                counters.questions_brought_together += 1;
                self.elsewhere.insert(*flow, (shard, now));
                return shard;
            }
            counters.questions_dropped += u64::from(shard != own);
        } else if self.asked.len() < QUESTIONS {
            self.asked.insert(question, (own, now));
            self.oldest.push_back((question, now));
        } else {
            counters.questions_dropped += 1;
        }
        own
    }

    /// Whether a flow was not met in the last half minute. Of more than there is room for, none counts as one that begins.
    fn begins(&mut self, flow: &FlowKey, now: Nanos, counters: &mut RouterCounters) -> bool {
        if now.saturating_sub(self.since) >= DATAGRAM_IDLE {
            self.since = now;
            self.begun.swap(0, 1);
            let [running, _] = &mut self.begun;
            running.clear();
            // A flow that is silent for so long begins anew, wherever it goes.
            self.elsewhere
                .retain(|_, (_, last)| now.saturating_sub(*last) < 2 * DATAGRAM_IDLE);
        }
        let [running, before] = &mut self.begun;
        if running.contains(&flow.mixed()) {
            return false;
        }
        if running.len() >= QUESTIONS {
            counters.questions_dropped += 1;
            return false;
        }
        running.insert(flow.mixed());
        !before.contains(&flow.mixed())
    }

    /// Forgets the questions that nobody looks for any more.
    fn forget(&mut self, now: Nanos) {
        while let Some((question, at)) = self.oldest.pop_front_if(|(_, at)| at.saturating_add(HELD) < now) {
            if self.asked.get(&question).is_some_and(|(_, known)| *known == at) {
                self.asked.remove(&question);
            }
        }
    }
}

/// Whether a datagram may be a client's question, as a socket saw it, with a number by which it is known elsewhere.
fn is_question(datagram: &Datagram) -> bool {
    datagram.ident != 0
        && datagram.missing == 0
        && QUESTION_BYTES.contains(&datagram.len)
        && datagram.flow.caller() == Some(datagram.from.end)
        && matches!(datagram.observer, Observer::Socket(_))
}

fn digest(datagram: &Datagram, payload: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u32(datagram.ident);
    hasher.write(payload);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Chat, Who};
    use crate::{Packet, Routed, Router};

    const S: Nanos = 1_000_000_000;

    /// The shard of a question of the `n`th client, with a number of its own.
    fn asked(router: &mut Router, n: u16, ident: u16, question: &str, at: Nanos) -> u16 {
        let [high, low] = n.to_be_bytes();
        let mut chat = Chat::new(&format!("10.1.{high}.{low}:40000"), "10.9.9.9:53", at);
        let mut seen = chat.ask(question).seen_by(Who::Client, 0, 0);
        let packet = seen.first_mut().unwrap();
        packet.data[4..6].copy_from_slice(&ident.to_be_bytes());
        let packet: Packet<'_> = packet.packet();
        match router.route(&packet) {
            Routed::Datagram { shard, .. } => shard,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_question_of_another_address_goes_where_it_went_first() {
        let mut router = Router::new();
        let mut ask = |n, ident, question: &str, at| asked(&mut router, n, ident, question, at);
        let first = ask(1, 7, "where is payment", S);
        for n in 2..20 {
            assert_eq!(ask(n, 7, "where is payment", S + 1), first);
            // And what follows, whatever it is.
            assert_eq!(ask(n, 9, "where is frontend", S + 2), first);
        }
        let mut other = |ident, question: &str, at| -> Vec<u16> {
            (20..40).map(|n| ask(n + ident, ident, question, at)).collect()
        };
        // Another question; another number, or none; and long after.
        for shards in [
            other(7, "where is frontend", S + 3),
            other(100, "where is payment", S + 3),
            other(0, "where is payment", S + 3),
        ] {
            assert!(shards.iter().any(|shard| *shard != first), "{shards:?}");
        }
    }

    #[test]
    fn a_flow_stays_where_it_began() {
        let mut router = Router::new();
        let own = asked(&mut router, 3, 1, "something of its own", S);
        asked(&mut router, 1, 7, "where is payment", S + 1);
        assert_eq!(asked(&mut router, 3, 7, "where is payment", S + 2), own);
    }

    #[test]
    fn more_questions_than_there_is_room_for() {
        let (mut masked, mut counters) = (Masked::default(), RouterCounters::default());
        let flow = |n: u64| FlowKey::new((u128::from(n).to_be_bytes(), 40000), ([9; 16], 53)).0;
        for n in 0..QUESTIONS as u64 + 5 {
            assert_eq!(masked.begins(&flow(n), S, &mut counters), n < QUESTIONS as u64);
            masked.asked.insert(n, (0, S));
            masked.oldest.push_back((n, S));
        }
        assert_eq!(
            (masked.begun[0].len(), counters.questions_dropped),
            (QUESTIONS, 5)
        );
        masked.forget(S + HELD + 1);
        assert_eq!((masked.asked.len(), masked.oldest.len()), (0, 0));
        // Half a minute later there is room again.
        assert!(masked.begins(&flow(QUESTIONS as u64), S + DATAGRAM_IDLE, &mut counters));
    }
}
