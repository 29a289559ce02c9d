//! What holds for every connection and every capture of it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wiretape_dissect::testing::{Dissected, Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Link, Marks};

/// One exchange, as it is meant.
#[derive(Clone, Debug)]
struct Exchange {
    method: &'static str,
    body: usize,
    request_chunked: bool,
    status: u16,
    answer: usize,
    framing: AnswerFraming,
    interim: bool,
}

#[derive(Clone, Copy, Debug)]
enum AnswerFraming {
    Length,
    Chunked,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (
        prop::sample::select(vec!["GET", "POST", "HEAD", "PUT", "DELETE"]),
        prop_oneof![Just(0usize), 0..200usize, 1000..4000usize],
        any::<bool>(),
        prop::sample::select(vec![200u16, 201, 204, 304, 404, 500, 503]),
        prop_oneof![Just(0usize), 0..200usize, 1000..5000usize],
        prop_oneof![Just(AnswerFraming::Length), Just(AnswerFraming::Chunked)],
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(method, body, request_chunked, status, answer, framing, interim)| Exchange {
                method,
                body: if matches!(method, "POST" | "PUT") { body } else { 0 },
                request_chunked,
                status,
                answer,
                framing,
                interim,
            },
        )
}

/// A body that holds everything that could be mistaken for a message.
fn body(n: usize, len: usize) -> Vec<u8> {
    let text = format!("{{\"n\":{n}}}\r\nGET /fake HTTP/1.1\r\nHost: fake\r\n\r\nHTTP/1.1 299 Fake\r\n\r\n");
    text.bytes().cycle().take(len).collect()
}

impl Exchange {
    fn request(&self, n: usize) -> Vec<u8> {
        let mut bytes = format!(
            "{} /{n}?q={n} HTTP/1.1\r\nHost: h{n}\r\nX-N: {n}\r\n",
            self.method
        )
        .into_bytes();
        frame(
            &mut bytes,
            &body(n, self.body),
            self.request_chunked && self.body > 0,
            self.body > 0,
        );
        bytes
    }

    fn response(&self, n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.interim {
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        }
        bytes.extend_from_slice(format!("HTTP/1.1 {} Told\r\nX-N: {n}\r\n", self.status).as_bytes());
        if self.method == "HEAD" || matches!(self.status, 204 | 304) {
            let length = if self.status == 204 {
                String::new()
            } else {
                format!("Content-Length: {}\r\n", self.answer)
            };
            bytes.extend_from_slice(format!("{length}\r\n").as_bytes());
        } else {
            frame(
                &mut bytes,
                &body(n, self.answer),
                matches!(self.framing, AnswerFraming::Chunked),
                true,
            );
        }
        bytes
    }
}

fn frame(bytes: &mut Vec<u8>, body: &[u8], chunked: bool, framed: bool) {
    if chunked {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in body.chunks(700) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else if framed {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
    } else {
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Whether data begins with a message that a body quotes: where that is the first ever seen, nothing tells that it is
/// the middle of a body. A request is known by its method and the first byte of its target, as a capture may hold no more
/// of it; so it is enough that a chunk ends there.
fn is_quoted(data: &[u8]) -> bool {
    let data = data.trim_ascii_start();
    let request = data
        .strip_prefix(b"GET /")
        .is_some_and(|path| !path.first().is_some_and(u8::is_ascii_digit));
    request || data.starts_with(b"HTTP/1.1 299")
}

/// The same, from a byte of what was said on.
fn quotes(talk: &Talk, from: usize) -> bool {
    let said: Vec<u8> = talk.said().into_iter().flat_map(|(_, bytes)| bytes).collect();
    is_quoted(&said[from..])
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
    (
        prop::collection::vec(exchange(), 1..9),
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
        let numbered: Vec<(usize, &Exchange)> = self.exchanges.iter().enumerate().collect();
        for batch in numbered.chunks(self.batch) {
            for (n, exchange) in batch {
                talk.ask(exchange.request(*n));
            }
            for (n, exchange) in batch {
                talk.answer(exchange.response(*n));
            }
        }
        if self.closes {
            talk.close();
        }
        talk
    }
}

/// Everything that a call claims, without what depends on the packets' order and place.
fn claims(call: &Call) -> String {
    let message = |message: &Option<wiretape_dissect::Message>| {
        message.as_ref().map(|message| {
            let headers: Vec<_> = message
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            (
                message.seq,
                message.head_len,
                message.body_len,
                message.wire_len,
                message.missing,
                headers,
            )
        })
    };
    format!(
        "{} {} {} {} {:?} {:?} {:?} {:?} {:?}",
        call.method,
        call.path,
        call.query,
        call.authority,
        call.status,
        call.outcome,
        call.marks,
        message(&call.request),
        message(&call.response),
    )
}

fn all_claims(dissected: &Dissected) -> Vec<String> {
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| (call.stream, call.index));
    calls.into_iter().map(claims).collect()
}

/// The same, whatever packets it was in.
fn without_packets(mut dissected: Dissected) -> Vec<String> {
    for call in &mut dissected.calls {
        call.marks.0 &= !Marks::PACKETS_CUT.0;
    }
    all_claims(&dissected)
}

/// The request's own claims, and the response's.
fn request_claims(call: &Call) -> Option<(u32, String)> {
    let request = call.request.as_ref()?;
    let headers: Vec<_> = request.headers.iter().collect();
    Some((
        request.seq,
        format!(
            "{} {} {} {} {headers:?} {} {} {}",
            call.method,
            call.path,
            call.query,
            call.authority,
            request.head_len,
            request.body_len,
            request.wire_len
        ),
    ))
}

fn response_claims(call: &Call) -> Option<(u32, String)> {
    let response = call.response.as_ref()?;
    let headers: Vec<_> = response.headers.iter().collect();
    Some((
        response.seq,
        format!(
            "{:?} {headers:?} {} {} {}",
            call.status, response.head_len, response.body_len, response.wire_len
        ),
    ))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_exchange_is_a_call(plan in plan()) {
        let dissected = dissect(&plan.talk().packets);
        prop_assert_eq!(dissected.calls.len(), plan.exchanges.len());
        for (n, call) in dissected.calls.iter().enumerate() {
            let exchange = &plan.exchanges[n];
            prop_assert_eq!(call.marks.0 & !Marks::PACKETS_CUT.0, 0);
            prop_assert_eq!(&call.path, &format!("/{n}"));
            prop_assert_eq!(call.status, Some(i32::from(exchange.status)));
            let (request, response) = (call.request.as_ref().unwrap(), call.response.as_ref().unwrap());
            prop_assert_eq!(request.body_len, exchange.body as u64);
            prop_assert_eq!(request.wire_len, exchange.request(n).len() as u64);
            prop_assert_eq!(response.headers.get("x-n").map(str::to_owned), Some(n.to_string()));
        }
    }

    #[test]
    fn any_cutting_into_segments_gives_the_same_calls(plan in plan(), mss in 1..300usize) {
        let whole = Plan { mss: 100_000, ..plan.clone() };
        let cut = Plan { mss, ..plan };
        prop_assert_eq!(without_packets(dissect(&cut.talk().packets)), without_packets(dissect(&whole.talk().packets)));
    }

    #[test]
    fn without_any_stretch_of_it_any_cutting_gives_the_same_calls(
        plan in plan(),
        (from, len, joined) in (any::<usize>(), any::<usize>(), any::<bool>()),
        mss in 1..9usize,
    ) {
        let talk = plan.talk();
        let missing = talk.stretch(from, len, joined);
        prop_assume!(!joined || !quotes(&talk, missing.end));
        let whole = dissect(&talk.again_without(missing.clone(), 60_000));
        let cut = dissect(&talk.again_without(missing, mss));
        prop_assert_eq!(without_packets(cut), without_packets(whole));
    }

    #[test]
    fn duplicates_and_reordering_give_the_same_calls(
        plan in plan(),
        moves in prop::collection::vec((any::<prop::sample::Index>(), 1..4usize), 0..4),
        copies in prop::collection::vec((any::<prop::sample::Index>(), 0..10usize), 0..5),
    ) {
        let talk = plan.talk();
        let mut packets = talk.packets.clone();
        for (index, far) in moves {
            // The handshake keeps its place: without it, nobody can know what came first.
            let from = 3 + index.index(packets.len() - 3);
            let to = (from + far).min(packets.len() - 1);
            let packet = packets.remove(from);
            packets.insert(to, packet);
        }
        for (index, far) in copies {
            let from = index.index(packets.len());
            let copy = packets[from].clone();
            packets.insert((from + far).min(packets.len()), copy);
        }
        prop_assert_eq!(all_claims(&dissect(&packets)), all_claims(&dissect(&talk.packets)));
    }

    #[test]
    fn a_lost_segment_never_gives_a_wrong_field_or_pairing(
        plan in plan(),
        lost in prop::collection::vec(any::<prop::sample::Index>(), 1..3),
    ) {
        let talk = plan.talk();
        let truth = dissect(&talk.packets);
        let requests: BTreeMap<u32, String> = truth.calls.iter().filter_map(request_claims).collect();
        let responses: BTreeMap<u32, String> = truth.calls.iter().filter_map(response_claims).collect();
        let pairs: BTreeMap<u32, u32> = truth
            .calls
            .iter()
            .map(|call| (call.request.as_ref().unwrap().seq, call.response.as_ref().unwrap().seq))
            .collect();
        let mut packets = talk.packets.clone();
        for index in lost {
            packets.remove(index.index(packets.len()));
        }
        let dissected = dissect(&packets);
        for call in &dissected.calls {
            if let Some((seq, claims)) = request_claims(call) {
                let truth = requests.get(&seq);
                prop_assert!(truth.is_some(), "a request at {seq}: {claims}");
                prop_assert!(call.marks.has(Marks::REQUEST_GAP) || truth == Some(&claims), "{claims} is {truth:?}");
            }
            if let Some((seq, claims)) = response_claims(call) {
                let truth = responses.get(&seq);
                prop_assert!(truth.is_some(), "a response at {seq}: {claims}");
                prop_assert!(call.marks.has(Marks::RESPONSE_GAP) || truth == Some(&claims), "{claims} is {truth:?}");
            }
            if let (Some(request), Some(response)) = (&call.request, &call.response) {
                prop_assert_eq!(pairs.get(&request.seq), Some(&response.seq), "{}", claims(call));
            }
        }
        // Nothing comes out twice.
        let mut seqs: Vec<u32> = dissected.calls.iter().filter_map(|call| Some(call.request.as_ref()?.seq)).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let count = dissected.calls.iter().filter(|call| call.request.is_some()).count();
        prop_assert_eq!(seqs.len(), count);
    }

    #[test]
    fn joined_anywhere_never_gives_a_wrong_field(plan in plan(), from in any::<prop::sample::Index>()) {
        let plan = Plan { batch: 1, ..plan };
        let talk = plan.talk();
        let truth = dissect(&talk.packets);
        let requests: BTreeMap<u32, String> = truth.calls.iter().filter_map(request_claims).collect();
        let responses: BTreeMap<u32, String> = truth.calls.iter().filter_map(response_claims).collect();
        let seen = &talk.packets[from.index(talk.packets.len())..];
        let first = seen.iter().map(|packet| &packet.data[40..]).find(|data| !data.trim_ascii_start().is_empty());
        prop_assume!(!first.is_some_and(is_quoted));
        for call in &dissect(seen).calls {
            if let Some((seq, claims)) = request_claims(call) {
                prop_assert_eq!(requests.get(&seq), Some(&claims), "{:?}", all_claims(&dissect(seen)));
            }
            if let Some((seq, claims)) = response_claims(call) {
                prop_assert_eq!(responses.get(&seq), Some(&claims));
            }
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
        let dissected = dissect(&packets);
        let mut paths: Vec<&str> = dissected.calls.iter().filter(|call| call.request.is_some()).map(|call| call.path.as_str()).collect();
        let count = paths.len();
        paths.sort_unstable();
        paths.dedup();
        prop_assert_eq!(paths.len(), count, "a call twice: {:?}", all_claims(&dissected));
        for call in &dissected.calls {
            if let (Some(request), Some(response)) = (&call.request, &call.response)
                && !call.marks.has(Marks::REQUEST_GAP)
                && !call.marks.has(Marks::RESPONSE_GAP)
            {
                prop_assert_eq!(request.headers.get("x-n"), response.headers.get("x-n"), "{:#?}", all_claims(&dissected));
            }
        }
    }

    #[test]
    fn any_bytes_over_tcp(parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut talk = Talk::usual();
        talk.handshake().ask("GET / HTTP/1.1\r\n\r\n");
        for (client, bytes) in parts {
            talk.send(if client { Who::Client } else { Who::Server }, &bytes);
        }
        dissect(&talk.packets);
    }

    #[test]
    fn words_of_the_protocol_in_any_order(words in prop::collection::vec((any::<bool>(), prop::sample::select(WORDS)), 0..60)) {
        let mut talk = Talk::usual();
        talk.handshake();
        for (client, word) in words {
            talk.send(if client { Who::Client } else { Who::Server }, word.as_bytes());
        }
        dissect(&talk.packets);
    }

    #[test]
    fn any_bytes_as_packets(packets in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..120), any::<u32>()), 0..20)) {
        let links = [Link::Raw, Link::Ethernet, Link::Sll, Link::Sll2, Link::Null];
        let usual = Talk::usual().handshake().packets.remove(0);
        let packets: Vec<Recorded> = packets
            .into_iter()
            .map(|(link, data, orig_len)| Recorded { link: links[usize::from(link) % links.len()], data, orig_len, ..usual.clone() })
            .collect();
        dissect(&packets);
    }

    #[test]
    fn packets_with_some_bits_flipped(plan in plan(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0..60usize, any::<u8>()), 1..20)) {
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
    fn truncated_packets(plan in plan(), cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..200usize), 1..20)) {
        let mut talk = plan.talk();
        for (index, len) in cuts {
            let packet = index.index(talk.packets.len());
            talk.packets[packet].data.truncate(len);
        }
        dissect(&talk.packets);
    }
}

const WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /x HTTP/1.0\r\n",
    "HEAD / HTTP/1.1\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 101 S\r\nUpgrade: http\r\n\r\n",
    "HTTP/1.1 100 C\r\n\r\n",
    "HTTP/1.0 204 N\r\n\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 18446744073709551615\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n",
    "5\r\nhello\r\n",
    "0\r\n",
    "ffffffffffffffff\r\n",
    "hello",
    "\n",
    " ",
    "x: y\r\n",
    "\0",
];

/// A capture may end anywhere.
#[test]
fn truncated_at_every_packet() {
    let mut talk = Talk::usual();
    talk.mss = 5;
    talk.handshake();
    for n in 0..3 {
        talk.ask(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
        talk.answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    }
    talk.close();
    for end in 0..talk.packets.len() {
        for call in dissect(&talk.packets[..end]).calls {
            let whole = call.request.is_some_and(|request| request.missing == 0);
            assert!(
                !whole || call.method == "GET" || call.marks.has(Marks::REQUEST_GAP),
                "at {end}"
            );
        }
    }
}
