//! Datagrams on their way to a protocol: flows, observers, fragments, limits.

use wiretape_dissect::testing::{Chat, Recorded, Who, dissect};
use wiretape_dissect::{Call, Counters, Datagram, Routed, Router, Segment, Shard};

const SECOND: u64 = 1_000_000_000;

/// One shard that is given everything.
#[derive(Default)]
struct One {
    shard: Shard,
    router: Router,
    calls: Vec<Call>,
    peak: usize,
}

impl One {
    fn feed(&mut self, packets: &[Recorded]) {
        for packet in packets {
            if let Routed::Datagram { datagram, .. } = self.router.route(&packet.packet()) {
                let payload = datagram.payload(&packet.data);
                self.shard.datagram(&datagram, payload, &mut self.calls);
                self.peak = self.peak.max(self.shard.memory());
            }
        }
    }

    fn counters(&self) -> &Counters {
        self.shard.counters()
    }

    fn finish(mut self) -> (Vec<Call>, Counters) {
        self.shard.finish(&[], &mut self.calls);
        (self.calls, self.shard.counters().clone())
    }
}

/// A question for a name of one label, which may be long.
fn query(id: u16, label: &[u8]) -> Vec<u8> {
    let name = [&[label.len() as u8], label, b"\0\0\x01\0\x01"].concat();
    [&id.to_be_bytes(), b"\x01\0\0\x01\0\0\0\0\0\0".as_slice(), &name].concat()
}

fn answer(id: u16, label: &[u8]) -> Vec<u8> {
    let mut bytes = query(id, label);
    bytes[2] |= 0x80;
    bytes
}

fn client(n: usize) -> String {
    format!(
        "10.{}.{}.{}:{}",
        n >> 16 & 255,
        n >> 8 & 255,
        n & 255,
        1024 + n % 60_000
    )
}

#[test]
fn a_question_that_nobody_answers_while_its_node_goes_on_recording() {
    let mut question = Chat::new("10.0.0.1:5000", "10.0.0.2:53", 60 * SECOND);
    question.ask(query(7, b"shop"));
    // Others of the same node, or of another one, are heard a minute later, of any shard.
    for (tape, outcome) in [(0, "no_response"), (1, "unknown")] {
        let mut packets = question.seen_by(Who::Client, 0, 0);
        let mut later = Chat::new("10.0.0.9:5009", "10.0.0.8:53", 120 * SECOND);
        later.ask(query(8, b"cart")).answer(answer(8, b"cart"));
        packets.extend(later.seen_by(Who::Client, tape, 0));
        let calls = dissect(&packets).calls;
        let call = calls.iter().find(|call| call.response.is_none());
        assert_eq!(call.expect("the question").outcome.as_str(), outcome, "{tape}");
    }
}

#[test]
fn more_flows_than_a_shard_keeps() {
    let mut one = One::default();
    for n in 0..3000 {
        let mut chat = Chat::new(&client(n), "10.9.9.9:53", SECOND + n as u64);
        one.feed(&chat.ask(query(1, b"a")).packets);
    }
    assert_eq!(one.counters().datagram_flows_evicted, 3000 - 1024);
    // The longest silent ones go first, and their calls come out.
    assert_eq!(one.calls.len(), 3000 - 1024);
    assert_eq!(one.calls[0].client.address.to_string(), client(0));
    assert!(one.peak < 2 << 20, "{}", one.peak);
    let (calls, counters) = one.finish();
    assert_eq!((calls.len(), counters.datagram_flows), (3000, 3000));
}

#[test]
fn the_flow_that_still_talks_is_kept() {
    let mut one = One::default();
    let mut busy = Chat::usual();
    for n in 0..3000 {
        busy.now = SECOND + 2 * n as u64;
        busy.step = 1;
        busy.ask(query(n, b"busy")).answer(answer(n, b"busy"));
        one.feed(&std::mem::take(&mut busy.packets));
        let mut other = Chat::new(&client(usize::from(n)), "10.9.9.9:53", busy.now);
        one.feed(&other.ask("not of any protocol").packets);
    }
    let (calls, counters) = one.finish();
    assert!(calls.iter().all(|call| call.stream == calls[0].stream));
    assert_eq!((calls.len(), counters.datagram_flows), (3000, 3001));
}

#[test]
fn more_bytes_than_a_shard_holds_for_flows() {
    let mut one = One::default();
    for n in 0..20 {
        let mut chat = Chat::new(&client(n), "10.9.9.9:53", SECOND + n as u64);
        for id in 0..500 {
            chat.ask(query(id, &[b'x'; 63]));
        }
        one.feed(&chat.packets);
    }
    assert!(one.counters().datagram_flows_evicted > 10);
    assert!(one.peak < 1 << 20, "{}", one.peak);
    assert_eq!(one.finish().0.len(), 20 * 500);
}

#[test]
fn more_questions_than_wait_for_an_answer() {
    let mut chat = Chat::usual();
    for id in 0..1500 {
        chat.ask(query(id, b"a"));
    }
    let dissected = dissect(&chat.packets);
    assert_eq!(
        (dissected.calls.len(), dissected.counters.pending_dropped),
        (1500, 1500 - 1024)
    );
}

#[test]
fn more_answers_than_are_remembered() {
    let mut chat = Chat::usual();
    for id in 0..200 {
        chat.ask(query(id, b"a")).answer(answer(id, b"a"));
    }
    for id in 0..200 {
        chat.answer(answer(id, b"a"));
    }
    let dissected = dissect(&chat.packets);
    assert_eq!(dissected.counters.answers_repeated, 128);
    assert_eq!(dissected.calls.len(), 200 + 72);
}

#[test]
fn calls_held_for_the_other_observer() {
    // The server's socket is known to be recorded, but not for this flow.
    let mut known = Chat::new("10.0.0.3:1", "10.0.0.2:54", SECOND);
    let mut one = One::default();
    one.feed(&known.ask("known").seen_by(Who::Server, 1, 0));
    let mut chat = Chat::usual();
    for id in 0..1000 {
        chat.ask(query(id, b"a")).answer(answer(id, b"a"));
    }
    one.feed(&chat.seen_by(Who::Client, 0, 0));
    assert_eq!((one.calls.len(), one.counters().held_forced), (744, 744));
    // The rest goes when its time has come.
    let mut later = Chat::new("10.3.3.3:1", "10.9.9.9:53", chat.now + 6 * SECOND);
    one.feed(&later.ask("later").packets);
    assert_eq!((one.calls.len(), one.counters().held_expired), (1000, 256));
}

#[test]
fn a_view_that_comes_after_the_call_was_given() {
    let mut chat = Chat::usual();
    chat.ask(query(1, b"a")).answer(answer(1, b"a"));
    let packets = [
        chat.seen_by(Who::Client, 0, 0),
        chat.seen_by(Who::Server, 1, 6 * SECOND),
    ]
    .concat();
    let dissected = dissect(&packets);
    assert_eq!((dissected.calls.len(), dissected.counters.twins_late), (1, 1));
}

#[test]
fn more_observers_than_a_flow_has() {
    let mut chat = Chat::usual();
    chat.ask(query(1, b"a"));
    let packets: Vec<Recorded> = (0..12)
        .map(|interface| Recorded {
            interface,
            ..chat.packets[0].clone()
        })
        .collect();
    let dissected = dissect(&packets);
    assert_eq!(
        (dissected.calls.len(), dissected.counters.vantages_refused),
        (1, 4)
    );
}

#[test]
fn a_datagram_in_fragments() {
    let mut chat = Chat::usual();
    chat.ask(query(1, b"a")).answer(answer(1, b"a"));
    let whole = chat.packets.remove(1);
    let (header, payload) = whole.data.split_at(20);
    let fragment = |n: u64, range: std::ops::Range<usize>, more: bool| {
        let mut data = [header, &payload[range.clone()]].concat();
        data[2..4].copy_from_slice(&(20 + range.len() as u16).to_be_bytes());
        data[6..8].copy_from_slice(&(u16::from(more) << 13 | (range.start / 8) as u16).to_be_bytes());
        Recorded {
            data,
            at: 10 + n,
            ..whole.clone()
        }
    };
    chat.packets.push(fragment(1, 16..payload.len(), false));
    chat.packets.push(fragment(0, 0..16, true));
    let dissected = dissect(&chat.packets);
    assert_eq!(dissected.router.datagrams, 1);
    let response = dissected.calls[0].response.as_ref().expect("an answer");
    assert_eq!((response.wire_len, &*response.packets), (19, [11, 10].as_slice()));
}

#[test]
fn what_is_routed_stays_small() {
    assert!(size_of::<Datagram>() <= size_of::<Segment>());
    // What TCP needs: a segment, the bytes of fragments, and where it goes.
    assert!(size_of::<Routed>() <= size_of::<Segment>() + size_of::<Vec<u8>>() + 8);
}

#[test]
fn the_order_of_other_flows_does_not_matter() {
    let chats: Vec<Chat> = (0..40)
        .map(|n| {
            let mut chat = Chat::new(&client(n), "10.9.9.9:53", SECOND + 1000 * n as u64);
            chat.ask(query(n as u16, b"a")).answer(answer(n as u16, b"a"));
            chat
        })
        .collect();
    let one_by_one: Vec<Recorded> = chats.iter().flat_map(|chat| chat.packets.clone()).collect();
    let mut together = one_by_one.clone();
    together.sort_by_key(|packet| packet.ts);
    let backwards: Vec<Recorded> = chats.iter().rev().flat_map(|chat| chat.packets.clone()).collect();
    let calls = dissect(&one_by_one).calls;
    assert_eq!(calls.len(), 40);
    assert_eq!(dissect(&together).calls, calls);
    assert_eq!(dissect(&backwards).calls, calls);
}
