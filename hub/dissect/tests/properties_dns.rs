//! What holds for every connection that speaks DNS, and every capture of it.

use proptest::prelude::*;
use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Message};

/// Questions over one connection, and the order in which they are answered.
#[derive(Clone, Debug)]
struct Plan {
    names: Vec<String>,
    order: Vec<usize>,
    answers: Vec<u8>,
    mss: usize,
    pipelined: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        1..7usize,
        any::<bool>(),
        prop::sample::select(vec![30usize, 90, 1460]),
    )
        .prop_flat_map(|(count, pipelined, mss)| {
            let order: Vec<usize> = (0..count).collect();
            (
                prop::collection::vec("[a-z]{1,40}\\.example", count),
                Just(order).prop_shuffle(),
                prop::collection::vec(0..20u8, count),
            )
                .prop_map(move |(names, order, answers)| Plan {
                    names,
                    order,
                    answers,
                    mss,
                    pipelined,
                })
        })
}

impl Plan {
    fn question(&self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in self.names[n].split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.extend_from_slice(b"\0\0\x01\0\x01");
        bytes
    }

    fn query(&self, n: usize) -> Vec<u8> {
        let id = n as u16 + 1;
        framed(
            &[
                &id.to_be_bytes(),
                b"\x01\0\0\x01\0\0\0\0\0\0".as_slice(),
                &self.question(n),
            ]
            .concat(),
        )
    }

    fn answer(&self, n: usize) -> Vec<u8> {
        let id = (n as u16 + 1).to_be_bytes();
        let mut bytes = vec![
            id[0],
            id[1],
            0x81,
            0x80 | (n as u8 % 4),
            0,
            1,
            0,
            self.answers[n],
            0,
            0,
            0,
            0,
        ];
        bytes.extend_from_slice(&self.question(n));
        for last in 0..self.answers[n] {
            bytes.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0");
            bytes.extend_from_slice(&[n as u8, last]);
        }
        framed(&bytes)
    }

    fn talk(&self, mss: usize) -> Talk {
        let mut talk = Talk::new("10.0.0.1:40000", "10.0.0.2:5300", 1_000_000_000, (1, 2));
        talk.mss = mss;
        talk.handshake();
        if self.pipelined {
            (0..self.names.len()).for_each(|n| {
                talk.ask(self.query(n));
            });
            self.order.iter().for_each(|n| {
                talk.answer(self.answer(*n));
            });
        } else {
            for n in 0..self.names.len() {
                talk.ask(self.query(n)).answer(self.answer(n));
            }
        }
        talk.close();
        talk
    }

    /// The question that a call is of, by its name and number. Whatever it says of it must be true.
    fn check(&self, call: &Call) -> Result<(), TestCaseError> {
        let number = call.fields.iter().find_map(|(name, value)| match value {
            wiretape_dissect::Value::Int(id) if *name == "dns_id" => usize::try_from(*id - 1).ok(),
            _ => None,
        });
        let n = number.expect("a number");
        prop_assert_eq!(&call.path, &self.names[n]);
        if let Some(status) = call.status {
            prop_assert_eq!(status, (n % 4) as i32);
            let answers = call.fields.iter().find(|(name, _)| *name == "dns_answers");
            let expected: Vec<String> = (0..self.answers[n])
                .map(|last| format!("10.0.{n}.{last}"))
                .collect();
            let expected = wiretape_dissect::Value::Text(expected.join(", ").into());
            prop_assert_eq!(answers.map(|(_, value)| value), Some(&expected));
        }
        Ok(())
    }
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

/// Where a message stands.
fn seq(message: &Option<Message>) -> Option<u32> {
    message.as_ref().map(|message| message.seq)
}

/// What a call says, without times and packets.
fn told(calls: &[Call]) -> Vec<String> {
    let line = |call: &Call| format!("{} {:?} {:?}", call.path, call.status, call.fields);
    calls.iter().map(line).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_gives_the_same_calls(plan in plan(), mss in 1..60usize) {
        let calls = dissect(&plan.talk(plan.mss).packets).calls;
        prop_assert_eq!(calls.len(), plan.names.len());
        for call in &calls {
            plan.check(call)?;
            prop_assert_eq!(call.marks, Marks::default());
        }
        prop_assert_eq!(told(&calls), told(&dissect(&plan.talk(mss).packets).calls));
    }

    #[test]
    fn without_any_stretch_of_it_short_segments_tell_no_less(
        plan in plan(),
        (from, len, joined) in (any::<usize>(), any::<usize>(), any::<bool>()),
        mss in 1..9usize,
    ) {
        let talk = plan.talk(plan.mss);
        let missing = talk.stretch(from, len, joined);
        let whole = dissect(&talk.again_without(missing.clone(), 60_000)).calls;
        let cut = dissect(&talk.again_without(missing, mss)).calls;
        for call in &cut {
            plan.check(call)?;
        }
        // A message that begins within a segment is found only if a short one happens to begin with it.
        for call in &whole {
            let found = |other: &&Call| {
                (call.request.is_none() || seq(&other.request) == seq(&call.request))
                    && (call.response.is_none() || seq(&other.response) == seq(&call.response))
            };
            prop_assert!(cut.iter().any(|other| found(&other)), "{:?} of {:?}", told(&cut), told(&whole));
        }
    }

    #[test]
    fn a_lost_segment_gives_no_wrong_field(plan in plan(), lost in any::<prop::sample::Index>()) {
        let mut packets = plan.talk(plan.mss).packets;
        packets.remove(lost.index(packets.len()));
        for call in dissect(&packets).calls {
            plan.check(&call)?;
        }
    }

    #[test]
    fn any_truncation_is_survived(plan in plan(), cut in any::<prop::sample::Index>(), len in 0..1500usize) {
        let mut packets = plan.talk(plan.mss).packets;
        let n = cut.index(packets.len());
        packets[n].data.truncate(len);
        for call in dissect(&packets).calls {
            plan.check(&call)?;
        }
    }

    #[test]
    fn a_segment_twice_changes_nothing(plan in plan(), twice in any::<prop::sample::Index>()) {
        let mut packets = plan.talk(plan.mss).packets;
        let calls = dissect(&packets).calls;
        let n = twice.index(packets.len());
        packets.insert(n, packets[n].clone());
        prop_assert_eq!(told(&dissect(&packets).calls), told(&calls));
    }

    #[test]
    fn cut_at_any_packet(plan in plan(), cut in any::<prop::sample::Index>()) {
        let packets = plan.talk(1460).packets;
        let cut = cut.index(packets.len());
        let whole = dissect(&packets).calls;
        let late = dissect(&packets[cut..]).calls;
        for call in &late {
            plan.check(call)?;
            prop_assert!(cut < 2 || call.marks.has(Marks::JOINED));
        }
        // What begins after the cut comes out as it was, but for the time when it is the first of its sender.
        let begins = |call: &&Call| {
            let request = call.request.as_ref().and_then(|request| request.packets.first());
            request.is_some_and(|at| *at > cut as u64 + 1)
        };
        if !plan.pipelined {
            let of = |calls: &[Call]| -> Vec<String> {
                let after: Vec<Call> = calls.iter().filter(begins).cloned().collect();
                told(&after)
            };
            prop_assert_eq!(of(&late), of(&whole));
        }
    }

    #[test]
    fn seen_by_both_ends_each_call_comes_once(plan in plan(), delay in 0..5000u64) {
        let talk = plan.talk(plan.mss);
        let mut packets: Vec<Recorded> = talk.seen_by(Who::Client, 0, 0);
        packets.extend(talk.seen_by(Who::Server, 1, delay));
        packets.sort_by_key(|packet| packet.ts);
        let calls = dissect(&packets).calls;
        prop_assert_eq!(calls.len(), plan.names.len());
        for call in &calls {
            plan.check(call)?;
            prop_assert!(call.request.is_some() && call.response.is_some());
        }
    }
}
