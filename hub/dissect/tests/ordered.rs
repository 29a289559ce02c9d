//! What holds for every connection to a server that answers in order, and for every capture of it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks};

/// What one of the two asks and what the other answers.
#[derive(Clone)]
struct Exchange {
    ask: Vec<u8>,
    answer: Vec<u8>,
    /// Calls that it makes.
    calls: usize,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            out,
            "{} -> {}",
            self.ask.escape_ascii(),
            self.answer.escape_ascii()
        )
    }
}

fn exchange(ask: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Exchange {
    Exchange {
        ask: ask.as_ref().to_vec(),
        answer: answer.as_ref().to_vec(),
        calls: 1,
    }
}

/// A command as clients send it.
fn command(words: &[&str]) -> String {
    let strings: String = words
        .iter()
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect();
    format!("*{}\r\n{strings}", words.len())
}

/// A value that holds everything that could be mistaken for a message.
fn quoting(len: usize) -> String {
    let text = "+OK\r\n*2\r\n$3\r\nGET\r\n$4\r\nfake\r\n$4\r\nfake\r\n-ERR fake\r\n:7\r\n";
    text.chars().cycle().take(len).collect()
}

fn redis() -> impl Strategy<Value = Exchange> {
    let bulk = |len: usize| format!("${len}\r\n{}\r\n", quoting(len));
    let key = prop::sample::select(vec!["a", "user:1", "cart"]);
    let len = prop_oneof![Just(0usize), 1..200usize, 1000..5000usize];
    (key, len, 0..8usize).prop_map(move |(key, len, which)| match which {
        0 => exchange(command(&["GET", key]), bulk(len)),
        1 => exchange(command(&["SET", key, &quoting(len)]), "+OK\r\n"),
        2 => exchange(command(&["GET", key]), "$-1\r\n"),
        3 => exchange(command(&["INCR", key]), format!(":{len}\r\n")),
        4 => exchange(
            command(&["LPUSH", key, "x"]),
            "-WRONGTYPE Operation against a key\r\n",
        ),
        5 => exchange(
            command(&["HGETALL", key]),
            format!("*4\r\n{}{}*1\r\n:1\r\n$-1\r\n", bulk(3), bulk(len)),
        ),
        6 => exchange(command(&["EVAL", &quoting(len), "1", key]), "*0\r\n"),
        _ => exchange(format!("EXISTS {key}\r\n"), ":1\r\n"),
    })
}

/// A connection: exchanges in batches, which are pipelined when longer than one.
#[derive(Clone, Debug)]
struct Plan {
    exchanges: Vec<Exchange>,
    batch: usize,
    mss: usize,
    closes: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let exchanges = prop::collection::vec(redis(), 1..9);
    (
        exchanges,
        prop_oneof![4 => Just(1usize), 1 => 2..4usize],
        prop::sample::select(vec![60usize, 200, 1460]),
        any::<bool>(),
    )
        .prop_map(|(exchanges, batch, mss, closes)| Plan {
            exchanges,
            batch,
            mss,
            closes,
        })
}

impl Plan {
    fn talk(&self) -> Talk {
        let mut talk = Talk::usual();
        talk.mss = self.mss;
        talk.handshake();
        for batch in self.exchanges.chunks(self.batch) {
            for exchange in batch {
                talk.ask(&exchange.ask);
            }
            for exchange in batch {
                talk.answer(&exchange.answer);
            }
        }
        if self.closes {
            talk.close();
        }
        talk
    }
}

impl Plan {
    /// Nothing tells that the first data ever seen is the middle of a value, if it looks like a message.
    fn deceives(&self, seen: &[Recorded]) -> bool {
        let Some(first) = seen.iter().find(|packet| packet.data.len() > 40) else {
            return false;
        };
        let whole = self.talk();
        let mut begins = 0;
        let mut starts = Vec::new();
        for batch in self.exchanges.chunks(self.batch) {
            let asks = batch.iter().map(|exchange| exchange.ask.len());
            let answers = batch.iter().map(|exchange| exchange.answer.len());
            for len in asks.chain(answers) {
                starts.push(whole.packets[3 + begins].at);
                begins += len.div_ceil(self.mss);
            }
        }
        !starts.contains(&first.at) && b"+-:$*G".contains(&first.data[40])
    }
}

/// Fields that the answer alone tells.
const OF_ANSWER: &[&str] = &["redis_reply", "redis_error", "error", "redis_response_size"];

/// Fields that need both.
const OF_BOTH: &[&str] = &["redis_total_size"];

fn fields(call: &Call, of_answer: bool) -> Vec<String> {
    let wanted = |name: &&str| OF_ANSWER.contains(name) == of_answer && !OF_BOTH.contains(name);
    let fields = call.fields.iter().filter(|(name, _)| wanted(name));
    fields.map(|(name, value)| format!("{name}={value:?}")).collect()
}

/// Where the request stands, and everything that it claims.
fn asked(call: &Call) -> Option<(u32, String)> {
    let request = call.request.as_ref()?;
    let claims = format!(
        "{} {} {:?} {} {}",
        call.method,
        call.path,
        fields(call, false),
        request.body_len,
        request.wire_len
    );
    Some((request.seq, claims))
}

/// The same of the response.
fn answered(call: &Call) -> Option<(u32, String)> {
    let response = call.response.as_ref()?;
    let claims = format!(
        "{:?} {:?} {} {}",
        call.status,
        fields(call, true),
        response.body_len,
        response.wire_len
    );
    Some((response.seq, claims))
}

/// Everything that the calls claim, without which packets they were in.
fn all_claims(dissected: &Dissected) -> Vec<String> {
    let claims = |call: &Call| {
        let marks = Marks(call.marks.0 & !Marks::PACKETS_CUT.0);
        format!(
            "{} {:?} {:?} {:?} {marks:?}",
            call.version,
            call.outcome,
            asked(call),
            answered(call)
        )
    };
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| (call.stream, call.index));
    calls.into_iter().map(claims).collect()
}

/// Holds what came out of a damaged capture against what came out of the whole one.
fn nothing_is_wrong(whole: &Dissected, damaged: &Dissected) -> Result<(), TestCaseError> {
    let requests: BTreeMap<u32, String> = whole.calls.iter().filter_map(asked).collect();
    let responses: BTreeMap<u32, String> = whole.calls.iter().filter_map(answered).collect();
    let pairs: BTreeMap<u32, u32> = whole
        .calls
        .iter()
        .filter_map(|call| Some((call.request.as_ref()?.seq, call.response.as_ref()?.seq)))
        .collect();
    let all = || format!("{:#?}\nof {:#?}", all_claims(damaged), all_claims(whole));
    let mut seen = Vec::new();
    for call in &damaged.calls {
        if let Some((seq, claims)) = asked(call) {
            let known = requests.get(&seq) == Some(&claims);
            prop_assert!(
                known || call.marks.has(Marks::REQUEST_GAP),
                "{} in {}",
                claims,
                all()
            );
            prop_assert!(!seen.contains(&seq), "twice {} in {}", claims, all());
            seen.push(seq);
        }
        if let Some((seq, claims)) = answered(call) {
            let known = responses.get(&seq) == Some(&claims);
            prop_assert!(
                known || call.marks.has(Marks::RESPONSE_GAP),
                "{} in {}",
                claims,
                all()
            );
        }
        if let (Some(request), Some(response)) = (&call.request, &call.response) {
            prop_assert_eq!(pairs.get(&request.seq), Some(&response.seq), "{}", all());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_exchange_is_a_call(plan in plan()) {
        let dissected = dissect(&plan.talk().packets);
        let expected: usize = plan.exchanges.iter().map(|exchange| exchange.calls).sum();
        prop_assert_eq!(dissected.calls.len(), expected, "{:#?}", all_claims(&dissected));
        for call in &dissected.calls {
            prop_assert_eq!(call.marks.0 & !Marks::PACKETS_CUT.0, 0, "{:#?}", all_claims(&dissected));
        }
        prop_assert_eq!(dissected.counters.skipped_bytes, 0);
    }

    #[test]
    fn any_cutting_into_segments_gives_the_same_calls(plan in plan(), mss in 1..300usize) {
        let whole = Plan { mss: 100_000, ..plan.clone() };
        let cut = Plan { mss, ..plan };
        prop_assert_eq!(all_claims(&dissect(&cut.talk().packets)), all_claims(&dissect(&whole.talk().packets)));
    }

    #[test]
    fn a_lost_segment_never_gives_a_wrong_field_or_pairing(
        plan in plan(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let talk = plan.talk();
        let mut packets = talk.packets.clone();
        for index in lost {
            packets.remove(index.index(packets.len()));
        }
        nothing_is_wrong(&dissect(&talk.packets), &dissect(&packets))?;
    }

    #[test]
    fn joined_anywhere_never_gives_a_wrong_field_or_pairing(plan in plan(), from in any::<prop::sample::Index>()) {
        let plan = Plan { batch: 1, ..plan };
        let talk = plan.talk();
        let from = from.index(talk.packets.len());
        let seen = &talk.packets[from..];
        prop_assume!(!plan.deceives(seen));
        nothing_is_wrong(&dissect(&talk.packets), &dissect(seen))?;
    }

    #[test]
    fn calls_that_begin_three_exchanges_after_the_cut_come_out_the_same(plan in plan(), from in any::<prop::sample::Index>()) {
        let plan = Plan { batch: 1, mss: 1460, ..plan };
        let talk = plan.talk();
        let whole = dissect(&talk.packets);
        let from = from.index(talk.packets.len());
        let seen = dissect(&talk.packets[from..]);
        let at = |call: &Call| call.request.as_ref().and_then(|request| request.packets.first().copied());
        let after: Vec<&Call> = whole.calls.iter().filter(|call| at(call).is_some_and(|at| at >= from as u64)).collect();
        let both = |call: &Call| (asked(call), answered(call), call.outcome);
        for call in after.iter().skip(3) {
            let found = seen.calls.iter().any(|other| both(other) == both(call) && other.marks.has(Marks::JOINED));
            prop_assert!(found || from <= 2, "{:?} in {:#?}", both(call), all_claims(&seen));
        }
    }

    #[test]
    fn two_observers_give_each_call_once(
        plan in plan(),
        skew in 0..3_000_000u64,
        lost in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..3),
    ) {
        let talk = plan.talk();
        let mut seen = [talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, skew)];
        for (side, index) in lost {
            let packets = &mut seen[usize::from(side)];
            packets.remove(index.index(packets.len()));
        }
        let mut packets = seen.concat();
        packets.sort_by_key(|packet| packet.ts);
        nothing_is_wrong(&dissect(&talk.packets), &dissect(&packets))?;
    }

    #[test]
    fn flipped_bits_and_truncated_packets(
        plan in plan(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..200usize, any::<u8>()), 1..20),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..200usize), 0..5),
    ) {
        let mut talk = plan.talk();
        for (index, at, value) in flips {
            let packet = index.index(talk.packets.len());
            let data = &mut talk.packets[packet].data;
            let at = at % data.len();
            data[at] = value;
        }
        for (index, len) in cuts {
            let packet = index.index(talk.packets.len());
            talk.packets[packet].data.truncate(len);
        }
        dissect(&talk.packets);
    }

    #[test]
    fn words_of_the_protocols_in_any_order(words in prop::collection::vec((any::<bool>(), prop::sample::select(WORDS)), 0..60)) {
        let mut talk = Talk::usual();
        talk.handshake();
        for (client, word) in words {
            talk.send(if client { Who::Client } else { Who::Server }, word);
        }
        dissect(&talk.packets);
    }
}

const WORDS: &[&[u8]] = &[
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n",
    b"*2\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n",
    b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
    b"+OK\r\n",
    b"-ERR x\r\n",
    b"$5\r\nhello\r\n",
    b"$-1\r\n",
    b"$99999999999999999\r\n",
    b"*9999999999\r\n",
    b"|1\r\n",
    b"%?\r\n",
    b"$?\r\n",
    b";0\r\n",
    b".\r\n",
    b">2\r\n",
    b"\r\n",
    b"PING\r\n",
    b"\0",
    b" ",
];
