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

fn message(kind: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let len = (content.len() + 4) as u32;
    [&[kind][..], &len.to_be_bytes(), content].concat()
}

fn postgresql() -> impl Strategy<Value = Exchange> {
    let fakes = "C\0\0\0\x0dSELECT 9\0Z\0\0\0\x05IQ\0\0\0\x0dSELECT 9\0S\0\0\0\x04";
    let row = |len: usize| {
        let value: Vec<u8> = fakes.bytes().cycle().take(len).collect();
        message(b'D', [&[0, 1][..], &(len as u32).to_be_bytes(), &value].concat())
    };
    let columns = message(
        b'T',
        b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
    );
    let rows = move |count: usize, len: usize| [columns.clone(), row(len).repeat(count)].concat();
    let done = |tag: &str| message(b'C', format!("{tag}\0"));
    let (ready, sync) = (message(b'Z', b"I"), message(b'S', b""));
    let error = message(b'E', "SERROR\0VERROR\0C23505\0Mduplicate key\0\0");
    let bound = [message(b'1', b""), message(b'2', b"")].concat();
    let run = |name: &str| {
        [
            message(b'B', format!("\0{name}\0\0\0\0\0\0\0")),
            message(b'E', b"\0\0\0\0\0"),
        ]
        .concat()
    };
    let parse = |name: &str, text: &str| message(b'P', format!("{name}\0{text}\0\0\0"));
    let table = prop::sample::select(vec!["a", "shop.orders"]);
    let len = prop_oneof![Just(0usize), 1..200usize, 1000..3000usize];
    (table, len, 0..4usize, 0..7usize).prop_map(move |(table, len, count, which)| {
        let select = format!("SELECT '{}' FROM {table}", "x".repeat(len));
        let query = message(b'Q', format!("{select}\0"));
        let found = [rows(count, len), done(&format!("SELECT {count}"))].concat();
        match which {
            0 => exchange(query, [found, ready.clone()].concat()),
            1 => exchange(query, [error.clone(), ready.clone()].concat()),
            2 => exchange(
                query,
                [found.clone(), done("COMMIT"), found, ready.clone()].concat(),
            ),
            3 => exchange(
                [parse("", &select), run(""), sync.clone()].concat(),
                [bound.clone(), found, ready.clone()].concat(),
            ),
            4 => exchange(
                [parse("s1", &select), message(b'D', "Ss1\0"), sync.clone()].concat(),
                [
                    message(b'1', b""),
                    message(b't', b"\0\0"),
                    message(b'n', b""),
                    ready.clone(),
                ]
                .concat(),
            ),
            5 => exchange(
                [run("s1"), sync.clone()].concat(),
                [message(b'2', b""), found, ready.clone()].concat(),
            ),
            _ => Exchange {
                calls: 2,
                ..exchange(
                    [parse("", &select), run(""), run(""), sync.clone()].concat(),
                    [bound.clone(), error.clone(), ready.clone()].concat(),
                )
            },
        }
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
    let exchanges = prop_oneof![
        prop::collection::vec(redis(), 1..9),
        prop::collection::vec(postgresql(), 1..9)
    ];
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
        let looks = self.looks();
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
        !starts.contains(&first.at) && looks.contains(&first.data[40])
    }

    /// The same, where it is a byte of what was said.
    fn deceives_at(&self, talk: &Talk, at: usize) -> bool {
        let mut begin = 0;
        for (_, bytes) in talk.said() {
            if let Some(first) = bytes.get(at - begin) {
                return at > begin && self.looks().contains(first);
            }
            begin += bytes.len();
        }
        false
    }

    /// What messages begin with.
    fn looks(&self) -> &'static [u8] {
        if self.exchanges[0].answer.contains(&0) {
            b"QPBEDCSZ123tTn\0"
        } else {
            b"+-:$*ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        }
    }
}

/// Fields that the answer alone tells.
const OF_ANSWER: &[&str] = &[
    "error",
    "redis_reply",
    "redis_error",
    "redis_response_size",
    "postgresql_command",
    "postgresql_error_code",
    "postgresql_error_message",
    "postgresql_response_size",
    "postgresql_rows",
    "postgresql_state",
    "postgresql_success",
];

/// Fields that need both.
const OF_BOTH: &[&str] = &["redis_total_size", "postgresql_total_size", "postgresql_skipped"];

fn skipped(call: &Call) -> bool {
    call.fields.iter().any(|(name, _)| *name == "postgresql_skipped")
}

fn fields(call: &Call, of_answer: bool) -> Vec<String> {
    let wanted = |name: &&str| OF_ANSWER.contains(name) == of_answer && !OF_BOTH.contains(name);
    let fields = call.fields.iter().filter(|(name, _)| wanted(name));
    let mut fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value:?}")).collect();
    fields.sort();
    fields
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
            let unresolved = call.fields.iter().any(|(name, _)| *name == "unresolved");
            let known = requests.get(&seq) == Some(&claims) || unresolved && requests.contains_key(&seq);
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
            // What a server passes over after an error is not answered.
            let expected = !Marks::PACKETS_CUT.0 & !if skipped(call) { Marks::NO_RESPONSE.0 } else { 0 };
            prop_assert_eq!(call.marks.0 & expected, 0, "{:#?}", all_claims(&dissected));
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
    fn without_any_stretch_of_it_any_cutting_gives_the_same_calls(
        plan in plan(),
        (from, len, joined) in (any::<usize>(), any::<usize>(), any::<bool>()),
        mss in 1..9usize,
    ) {
        let talk = plan.talk();
        let missing = talk.stretch(from, len, joined);
        prop_assume!(!joined || !plan.deceives_at(&talk, missing.end));
        let whole = dissect(&talk.again_without(missing.clone(), 60_000));
        let cut = dissect(&talk.again_without(missing, mss));
        prop_assert!(all_claims(&cut) == all_claims(&whole), "{:#?}\nof {:#?}", all_claims(&cut), all_claims(&whole));
    }

    #[test]
    fn a_lost_segment_never_gives_a_wrong_field_or_pairing(
        plan in plan(),
        client in any::<bool>(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let talk = plan.talk();
        let mut packets = talk.packets.clone();
        // Where both directions are lost at once, nothing tells a value that looks like a message from one.
        let port = if client { 40_000_u16 } else { 80 };
        for index in lost {
            let sent: Vec<usize> =
                (0..packets.len()).filter(|at| packets[*at].data[20..22] == port.to_be_bytes()).collect();
            if !sent.is_empty() {
                packets.remove(sent[index.index(sent.len())]);
            }
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
        // The name of a statement that was prepared before the cut does not tell its text.
        let unresolved = |call: &Call| call.fields.iter().any(|(name, _)| *name == "unresolved");
        let both = |call: &Call| (call.request.as_ref().map(|request| request.seq), answered(call), call.outcome);
        let same = |a: &Call, b: &Call| both(a) == both(b) && (asked(a) == asked(b) || unresolved(b));
        for call in after.iter().skip(3) {
            let found = seen.calls.iter().any(|other| same(call, other) && other.marks.has(Marks::JOINED));
            prop_assert!(found || from <= 2, "{:?} in {:#?}", both(call), all_claims(&seen));
        }
    }

    #[test]
    fn two_observers_give_each_call_once(
        plan in plan(),
        skew in 0..3_000_000u64,
        lost in any::<[Option<prop::sample::Index>; 2]>(),
    ) {
        let talk = plan.talk();
        let mut seen = [talk.seen_by(Who::Client, 0, 0), talk.seen_by(Who::Server, 1, skew)];
        for (packets, index) in seen.iter_mut().zip(lost) {
            if let Some(index) = index {
                packets.remove(index.index(packets.len()));
            }
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
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"\0\0\0\x12\0\x03\0\0user\0ann\0\0",
    b"S",
    b"N",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"P\0\0\0\x10s\0SELECT 1\0\0\0",
    b"B\0\0\0\x0c\0\0\0\0\0\0\0\0",
    b"E\0\0\0\x09\0\0\0\0\0",
    b"D\0\0\0\x07Ss\0",
    b"S\0\0\0\x04",
    b"H\0\0\0\x04",
    b"c\0\0\0\x04",
    b"d\0\0\0\x08abcd",
    b"1\0\0\0\x04",
    b"2\0\0\0\x04",
    b"t\0\0\0\x06\0\0",
    b"n\0\0\0\x04",
    b"C\0\0\0\x0dSELECT 1\0",
    b"E\0\0\0\x16SERROR\0C23505\0\0\0\0",
    b"Z\0\0\0\x05I",
    b"A\0\0\0\x0b\0\0\0\x01a\0\0",
    b"D\xff\xff\xff\xff",
    b"Q\0\0\0\0",
];
