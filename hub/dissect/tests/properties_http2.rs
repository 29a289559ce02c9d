//! What holds for every connection of HTTP/2 and every capture of it.

mod wire;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use wire::{Encoder, PREFACE, data, frame, settings};
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Marks, Message, Value};

/// One exchange, as it is meant.
#[derive(Clone, Debug)]
struct Exchange {
    path: &'static str,
    body: usize,
    status: &'static str,
    answer: usize,
    grpc: bool,
    split: bool,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (
        prop::sample::select(vec!["/a", "/b?c=d", "/s.v1.S/Get", "/s.v1.S/List"]),
        prop_oneof![Just(0usize), 0..200usize, 1000..4000usize],
        prop::sample::select(vec!["200", "201", "204", "404", "503"]),
        prop_oneof![Just(0usize), 0..200usize, 1000..5000usize],
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(path, body, status, answer, grpc, split)| Exchange {
            path,
            body,
            status,
            answer,
            grpc,
            split,
        })
}

/// A connection: exchanges of which some are under way at a time, and whose turn it is.
#[derive(Clone, Debug)]
struct Plan {
    exchanges: Vec<Exchange>,
    turns: Vec<usize>,
    mss: usize,
    closes: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        prop::collection::vec(exchange(), 1..9),
        prop::collection::vec(0..60usize, 120),
        prop::sample::select(vec![60usize, 200, 1460]),
        any::<bool>(),
    )
        .prop_map(|(exchanges, turns, mss, closes)| Plan {
            exchanges,
            turns,
            mss,
            closes,
        })
}

/// What is left to be said on one stream.
struct Open<'p> {
    stream: u32,
    exchange: &'p Exchange,
    step: usize,
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// A block in one frame or in many.
fn head(block: &[u8], stream: u32, end: bool, split: bool) -> Vec<u8> {
    let end = u8::from(end);
    if !split {
        return frame(1, 4 | end, stream, block);
    }
    let (first, rest) = block.split_at(block.len() / 2);
    [
        frame(1, end, stream, first),
        frame(9, 0, stream, &rest[..1]),
        frame(9, 4, stream, &rest[1..]),
    ]
    .concat()
}

impl Plan {
    fn talk(&self) -> Talk {
        let mut talk = Talk::usual();
        talk.mss = self.mss;
        talk.handshake()
            .ask([PREFACE, &settings()].concat())
            .answer(settings());
        let (mut client, mut server) = (Encoder::default(), Encoder::default());
        let mut waiting = self.exchanges.iter().enumerate();
        let mut open: Vec<Open<'_>> = Vec::new();
        for turn in self.turns.iter().cycle() {
            if open.len() < 3
                && let Some((n, exchange)) = waiting.next()
            {
                let mut begun = Open {
                    stream: 2 * n as u32 + 1,
                    exchange,
                    step: 0,
                };
                // Streams are opened in order.
                begun.go_on(&mut talk, &mut client, &mut server);
                open.push(begun);
            }
            if open.is_empty() {
                break;
            }
            let at = turn % open.len();
            if !open[at].go_on(&mut talk, &mut client, &mut server) {
                open.remove(at);
            }
        }
        if self.closes {
            talk.close();
        }
        talk
    }
}

impl Open<'_> {
    /// Says the next thing; whether there is more to say.
    fn go_on(&mut self, talk: &mut Talk, client: &mut Encoder, server: &mut Encoder) -> bool {
        let Exchange {
            path,
            body: len,
            status,
            answer,
            grpc,
            split,
        } = *self.exchange;
        let (stream, n) = (self.stream, self.stream.to_string());
        let content = if grpc { "application/grpc" } else { "text/plain" };
        self.step += 1;
        match self.step {
            1 => {
                let fields = [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":path", path),
                    (":authority", "shop"),
                    ("content-type", content),
                    ("x-n", &n),
                ];
                talk.ask(head(&client.block(&fields), stream, false, split));
            }
            2 => {
                talk.ask(data(stream, &body(len), true));
            }
            3 => {
                let fields = [(":status", status), ("content-type", content), ("x-n", &n)];
                talk.answer(head(&server.block(&fields), stream, false, split));
            }
            4 => {
                talk.answer(data(stream, &body(answer), false));
            }
            _ => {
                let fields = [(if grpc { "grpc-status" } else { "x-end" }, "0")];
                talk.answer(head(&server.block(&fields), stream, true, false));
                return false;
            }
        }
        true
    }
}

fn stream(call: &Call) -> i64 {
    let number = call.fields.iter().find_map(|(name, value)| match value {
        Value::Int(number) if *name == "http2_stream" => Some(*number),
        _ => None,
    });
    number.expect("a stream")
}

/// Everything that a message claims, without what depends on the packets' order and place.
fn message_claims(message: &Message) -> String {
    let headers: Vec<_> = message.headers.iter().collect();
    format!(
        "{} {} {} {} {} {headers:?}",
        message.seq, message.head_len, message.body_len, message.wire_len, message.missing
    )
}

fn claims(call: &Call) -> String {
    format!(
        "{} {} {} {} {} {:?} {:?} {:?} {:?} {:?} {:?}",
        call.protocol,
        call.method,
        call.path,
        call.query,
        call.authority,
        call.status,
        call.outcome,
        Marks(call.marks.0 & !Marks::PACKETS_CUT.0),
        call.fields,
        call.request.as_ref().map(message_claims),
        call.response.as_ref().map(message_claims),
    )
}

fn all_claims(dissected: &Dissected) -> Vec<String> {
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| (call.stream, call.index));
    calls.into_iter().map(claims).collect()
}

/// Whatever a call claims is so: its fields are those that were sent, or are not there and it says so.
fn check(dissected: &Dissected, truth: &BTreeMap<i64, Call>) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for call in &dissected.calls {
        let number = stream(call);
        prop_assert!(seen.insert(number), "stream {number} twice");
        let Some(whole) = truth.get(&number) else {
            return Err(TestCaseError::fail(format!("no stream {number}")));
        };
        let texts = [
            (&*call.method, &*whole.method),
            (&call.path, &whole.path),
            (&call.query, &whole.query),
            (&call.authority, &whole.authority),
        ];
        for (ours, theirs) in texts {
            prop_assert!(ours == theirs || ours.is_empty(), "{ours} is {theirs}");
        }
        prop_assert!(call.status == whole.status || call.status.is_none());
        let halves = [
            (&call.request, &whole.request, Marks::REQUEST_GAP),
            (&call.response, &whole.response, Marks::RESPONSE_GAP),
        ];
        for (ours, theirs, gap) in halves {
            let (Some(ours), Some(theirs)) = (ours, theirs) else {
                continue;
            };
            let mut wanted = theirs.headers.iter();
            for field in ours.headers.iter() {
                prop_assert!(wanted.any(|wanted| wanted == field), "{field:?} on {number}");
            }
            if !call.marks.has(gap) {
                let sizes =
                    |message: &Message| (message.seq, message.head_len, message.body_len, message.wire_len);
                prop_assert_eq!(sizes(ours), sizes(theirs), "on {}", number);
                let whole = ours.headers.len() == theirs.headers.len();
                prop_assert!(whole || call.marks.has(Marks::HEADERS_UNRESOLVED), "on {number}");
            }
        }
        let cut = call.marks.has(Marks::REQUEST_GAP) || call.marks.has(Marks::RESPONSE_GAP);
        for (name, value) in call.fields.iter().filter(|(name, _)| name.starts_with("grpc")) {
            // Of a message that was cut, so many as were seen.
            let counted = cut && (name.starts_with("grpc_request") || name.starts_with("grpc_response"));
            prop_assert!(
                counted || whole.fields.contains(&(name, value.clone())),
                "{name} on {number}: {value:?}"
            );
        }
    }
    Ok(())
}

fn truth(talk: &Talk) -> BTreeMap<i64, Call> {
    dissect(&talk.packets)
        .calls
        .into_iter()
        .map(|call| (stream(&call), call))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_exchange_is_a_call(plan in plan()) {
        let truth = truth(&plan.talk());
        prop_assert_eq!(truth.len(), plan.exchanges.len());
        for (exchange, (number, call)) in plan.exchanges.iter().zip(&truth) {
            prop_assert_eq!(call.marks.0 & !Marks::PACKETS_CUT.0, 0);
            prop_assert_eq!(call.status.map(|status| status.to_string()), Some(exchange.status.to_owned()));
            prop_assert_eq!(call.protocol, if exchange.grpc { "grpc" } else { "http" });
            let (request, response) = (call.request.as_ref().unwrap(), call.response.as_ref().unwrap());
            prop_assert_eq!((request.body_len, response.body_len), (exchange.body as u64, exchange.answer as u64));
            let n = number.to_string();
            for message in [request, response] {
                prop_assert_eq!(message.headers.get("x-n"), Some(n.as_str()));
            }
        }
    }

    #[test]
    fn any_cutting_into_segments_gives_the_same_calls(plan in plan(), mss in 1..300usize) {
        let whole = Plan { mss: 100_000, ..plan.clone() };
        let cut = Plan { mss, ..plan };
        prop_assert_eq!(all_claims(&dissect(&cut.talk().packets)), all_claims(&dissect(&whole.talk().packets)));
    }

    #[test]
    fn without_any_stretch_of_it_short_segments_never_give_a_wrong_field(
        plan in plan(),
        (from, len, joined) in (any::<usize>(), any::<usize>(), any::<bool>()),
        mss in 1..9usize,
    ) {
        let talk = plan.talk();
        let missing = talk.stretch(from, len, joined);
        // Which of the bytes that look like a frame are one is told by where segments begin and end, too.
        check(&dissect(&talk.again_without(missing, mss)), &truth(&talk))?;
    }

    #[test]
    fn a_lost_segment_never_gives_a_wrong_field(
        plan in plan(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let talk = plan.talk();
        let mut packets = talk.packets.clone();
        for index in lost {
            packets.remove(index.index(packets.len()));
        }
        check(&dissect(&packets), &truth(&talk))?;
    }

    #[test]
    fn joined_anywhere_never_gives_a_wrong_field(plan in plan(), from in any::<prop::sample::Index>()) {
        let talk = plan.talk();
        let from = from.index(talk.packets.len());
        check(&dissect(&talk.packets[from..]), &truth(&talk))?;
    }

    #[test]
    fn reordered_and_repeated_packets_change_nothing(plan in plan(), swaps in prop::collection::vec(any::<prop::sample::Index>(), 1..6)) {
        let talk = plan.talk();
        let mut packets = talk.packets.clone();
        for index in swaps {
            let at = 3 + index.index(packets.len() - 3);
            let copy = packets[at].clone();
            packets.insert((at + 2).min(packets.len()), copy);
        }
        let whole = truth(&talk);
        prop_assert_eq!(dissect(&packets).calls.len(), whole.len());
        check(&dissect(&packets), &whole)?;
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
        let dissected = dissect(&packets);
        check(&dissected, &truth(&talk))?;
    }

    #[test]
    fn packets_with_some_bits_flipped(plan in plan(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..90usize, any::<u8>()), 1..20)) {
        let mut talk = plan.talk();
        for (index, at, value) in flips {
            let packet = index.index(talk.packets.len());
            let data = &mut talk.packets[packet].data;
            let at = at % data.len();
            data[at] = value;
        }
        dissect(&talk.packets);
    }

    #[test]
    fn truncated_packets(plan in plan(), cuts in prop::collection::vec((any::<prop::sample::Index>(), 40..200usize), 1..20)) {
        let mut talk = plan.talk();
        for (index, len) in cuts {
            let packet = index.index(talk.packets.len());
            talk.packets[packet].data.truncate(len);
        }
        check(&dissect(&talk.packets), &truth(&plan.talk()))?;
    }

    #[test]
    fn frames_in_any_order(frames in prop::collection::vec((any::<bool>(), 0..11u8, any::<u8>(), 0..6u32, prop::collection::vec(any::<u8>(), 0..40)), 0..60)) {
        let mut talk = Talk::usual();
        talk.handshake().ask(PREFACE);
        for (client, kind, flags, stream, payload) in frames {
            talk.send(if client { Who::Client } else { Who::Server }, &frame(kind, flags, stream, &payload));
        }
        dissect(&talk.packets);
    }

    #[test]
    fn bytes_of_nothing_in_particular_are_not_taken_for_http2(
        parts in prop::collection::vec((any::<bool>(), prop::collection::vec(prop_oneof![Just(0u8), 0..10u8, any::<u8>()], 0..120)), 0..20),
        joined in any::<bool>(),
    ) {
        let mut talk = Talk::usual();
        if !joined {
            talk.handshake();
        }
        for (client, bytes) in parts {
            talk.send(if client { Who::Client } else { Who::Server }, &bytes);
        }
        let dissected = dissect(&talk.packets);
        prop_assert!(dissected.calls.iter().all(|call| call.version != "HTTP/2"), "{:?}", all_claims(&dissected));
    }
}

/// A capture may end anywhere.
#[test]
fn truncated_at_every_packet() {
    let exchange = Exchange {
        path: "/a",
        body: 30,
        status: "200",
        answer: 30,
        grpc: true,
        split: true,
    };
    let plan = Plan {
        exchanges: vec![exchange; 3],
        // One exchange after the other.
        turns: vec![0],
        mss: 5,
        closes: true,
    };
    let talk = plan.talk();
    let whole = truth(&talk);
    assert_eq!(whole.len(), 3);
    let packets: &[Recorded] = &talk.packets;
    for end in 0..packets.len() {
        check(&dissect(&packets[..end]), &whole).unwrap_or_else(|error| panic!("at {end}: {error}"));
    }
}
