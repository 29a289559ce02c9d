//! Every limit, at the limit: what is bounded stays bounded, and says what it lost.

use wiretape_dissect::testing::{Recorded, Talk, Who, dissect};
use wiretape_dissect::{Call, Counters, Nanos, Routed, Router, Segment, Shard, State};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const SECOND: Nanos = 1_000_000_000;

/// As in `limits.rs`, which nobody else needs to know.
const CONNECTIONS: u64 = 1408;

/// One shard that is given everything, so that a limit of a shard can be reached.
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
            if let Routed::Segment { segment, .. } = self.router.route(&packet.packet()) {
                self.segment(&segment, segment.payload(&packet.data));
            }
        }
    }

    fn segment(&mut self, segment: &Segment, payload: &[u8]) {
        self.shard.segment(segment, payload, &mut self.calls);
        self.peak = self.peak.max(self.shard.memory());
    }

    fn finish(mut self) -> (Vec<Call>, Counters, usize) {
        self.shard.finish(&[], &mut self.calls);
        (self.calls, self.shard.counters().clone(), self.peak)
    }
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
fn more_connections_than_a_shard_keeps() {
    let mut one = One::default();
    for n in 0..5000 {
        let mut talk = Talk::new(&client(n), "10.9.9.9:80", 1_000 + n as u64, (1, 2));
        one.feed(&talk.handshake().packets);
    }
    let counters = one.shard.counters();
    let evicted = (
        counters.connections_evicted,
        counters.connections_evicted_for_bytes,
    );
    assert_eq!(evicted, (5000 - CONNECTIONS, 0));
    // The longest silent ones go first.
    let over: Vec<_> = one.shard.connections().collect();
    assert_eq!(over.len() as u64, 5000 - CONNECTIONS);
    assert_eq!(over[0].client.address.to_string(), client(0));
    let (_, _, peak) = one.finish();
    assert!(peak < 4 << 20, "{peak}");
}

#[test]
fn more_connections_that_wait_for_answers_than_a_shard_has_room_for() {
    let mut one = One::default();
    for n in 0..5000 {
        let mut talk = Talk::new(&client(n), "10.9.9.9:80", SECOND / 1000 * n as u64, (1, 2));
        talk.handshake().ask("GET /a HTTP/1.1\r\n\r\n");
        one.feed(&talk.packets);
    }
    let counters = one.shard.counters();
    assert!(counters.connections_evicted_for_bytes > 3500, "{counters:#?}");
    let evicted = counters.connections_evicted + counters.connections_evicted_for_bytes;
    // The longest silent ones go first, and their calls come out. Once in a round of all, it is the one that has only begun.
    let calls = one.calls.len() as u64;
    assert!((evicted - 10..=evicted).contains(&calls), "{calls} of {evicted}");
    assert_eq!(one.calls[0].client.address.to_string(), client(0));
    let (calls, _, peak) = one.finish();
    assert_eq!(calls.len(), 5000);
    assert!(peak < 4 << 20, "{peak}");
}

/// One that is over takes no more than one that has only begun.
#[test]
fn what_a_connection_held_is_gone_with_its_end() {
    let memory = |over: bool| {
        let mut one = One::default();
        for n in 0..1000 {
            let mut talk = Talk::new(&client(n), "10.9.9.9:80", 1_000 + n as u64, (1, 2));
            talk.handshake();
            if over {
                talk.ask("GET /a HTTP/1.1\r\n\r\n").answer(OK).close();
            }
            one.feed(&talk.packets);
        }
        one.shard.memory()
    };
    let (begun, over) = (memory(false), memory(true));
    assert!(over < begun + begun / 8, "{over} bytes, {begun} when they began");
}

/// A hundred thousand short connections leave nothing behind, although the longest appointment is fifteen minutes away.
#[test]
fn short_connections_leave_nothing_behind() {
    let mut one = One::default();
    for n in 0..100_000u64 {
        let mut talk = Talk::new(&client(n as usize), "10.9.9.9:80", n * SECOND / 100, (1, 2));
        talk.handshake().ask("GET /a HTTP/1.1\r\n\r\n").answer(OK).close();
        one.feed(&talk.packets);
    }
    let (calls, counters, peak) = one.finish();
    assert_eq!((calls.len(), counters.connections_evicted), (100_000, 0));
    assert!(peak < 4 << 20, "{peak}");
}

#[test]
fn the_connection_that_still_talks_is_kept() {
    let mut one = One::default();
    let mut busy = Talk::new("10.255.0.1:5", "10.9.9.9:80", 0, (1, 2));
    busy.handshake();
    for n in 0..5000 {
        busy.now = 1000 * n;
        busy.ask("GET /busy HTTP/1.1\r\n\r\n").answer(OK);
        one.feed(&std::mem::take(&mut busy.packets));
        let mut talk = Talk::new(&client(n as usize), "10.9.9.9:80", 1000 * n, (1, 2));
        one.feed(&talk.handshake().packets);
    }
    let (calls, counters, _) = one.finish();
    assert_eq!(
        calls
            .iter()
            .map(|call| call.stream)
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        1
    );
    assert_eq!((calls.len(), counters.connections), (5000, 5001));
}

#[test]
fn more_bytes_than_a_shard_holds() {
    let mut one = One::default();
    for n in 0..100 {
        let mut talk = Talk::new(&client(n), "10.9.9.9:80", n as u64, (1, 2));
        // A head that never ends.
        talk.handshake()
            .ask("GET /a HTTP/1.1\r\nX: ")
            .ask(vec![b'x'; 60_000]);
        one.feed(&talk.packets);
    }
    let (calls, counters, peak) = one.finish();
    assert!(peak < 3 << 20, "{peak}");
    assert!(counters.connections_evicted_for_bytes > 50);
    assert_eq!(calls.len(), 100);
}

#[test]
fn more_early_bytes_than_one_direction_keeps() {
    let mut talk = Talk::usual();
    talk.handshake().ask("GET /a HTTP/1.1\r\n\r\n");
    talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n")
        .answer(vec![b'x'; 2_000_000]);
    // Its first bytes come last of all.
    let late = talk.packets.remove(5);
    talk.packets.push(late);
    let mut one = One::default();
    one.feed(&talk.packets);
    let (calls, counters, peak) = one.finish();
    assert!(peak < 1 << 20, "{peak}");
    assert_eq!((counters.gaps, counters.gaps_forced), (1, 1));
    assert_eq!(
        calls[0]
            .response
            .as_ref()
            .map(|response| (response.body_len, response.missing)),
        Some((2_000_000, 1460))
    );
}

#[test]
fn more_early_segments_than_one_direction_keeps() {
    let mut talk = Talk::usual();
    talk.mss = 1;
    talk.handshake()
        .ask(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1500)));
    talk.packets.remove(3);
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.gaps_forced, 1);
}

#[test]
fn more_requests_than_wait_for_an_answer() {
    let mut talk = Talk::usual();
    talk.handshake();
    for n in 0..1500 {
        talk.ask(format!("GET /{n} HTTP/1.1\r\n\r\n"));
    }
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.calls.len(), 1500);
    assert_eq!(dissected.counters.pending_dropped, 1);
}

#[test]
fn a_silent_connection_is_given_up() {
    let mut one = One::default();
    let mut talk = Talk::usual();
    one.feed(&talk.handshake().ask("GET /a HTTP/1.1\r\n\r\n").packets);
    let mut later = Talk::new("10.3.3.3:1", "10.9.9.9:80", talk.now + 899 * SECOND, (1, 2));
    one.feed(&later.handshake().packets);
    assert!(one.calls.is_empty());
    later.now += 2 * SECOND;
    later.packets.clear();
    one.feed(&later.ask("GET /b HTTP/1.1\r\n\r\n").packets);
    assert_eq!(one.calls.len(), 1);
    assert_eq!(one.shard.counters().connections_idle, 1);
}

#[test]
fn a_closed_connection_is_forgotten() {
    let mut one = One::default();
    let mut talk = Talk::usual();
    one.feed(
        &talk
            .handshake()
            .ask("GET /a HTTP/1.1\r\n\r\n")
            .answer(OK)
            .close()
            .packets,
    );
    let mut later = Talk::new("10.3.3.3:1", "10.9.9.9:80", talk.now + 11 * SECOND, (1, 2));
    one.feed(&later.handshake().packets);
    // Its last packet comes too late to be of it, and is all that is known of another one.
    one.feed(&talk.packets[7..]);
    one.shard.finish(&[], &mut one.calls);
    let states: Vec<State> = one
        .shard
        .connections()
        .map(|connection| connection.state)
        .collect();
    assert_eq!(states, [State::Closed, State::Established, State::MidStream]);
    assert_eq!(one.calls.len(), 1);
}

#[test]
fn calls_held_for_the_other_observer() {
    // The server's socket is known to be recorded, but not for this connection.
    let mut known = Talk::new("10.0.0.1:39999", "10.0.0.2:81", 0, (1, 2));
    known.handshake();
    let mut talk = Talk::usual();
    talk.handshake();
    for n in 0..1000 {
        talk.ask(format!("GET /{n} HTTP/1.1\r\n\r\n")).answer(OK);
    }
    let mut one = One::default();
    one.feed(&known.seen_by(Who::Server, 1, 0));
    one.feed(&talk.seen_by(Who::Client, 0, 0));
    assert_eq!(one.calls.len(), 1000 - 256);
    assert_eq!(one.shard.counters().held_forced, 1000 - 256);
    // The rest goes when its time has come.
    let mut later = Talk::new("10.3.3.3:1", "10.9.9.9:80", talk.now + 6 * SECOND, (1, 2));
    one.feed(&later.handshake().packets);
    assert_eq!((one.calls.len(), one.shard.counters().held_expired), (1000, 256));
    let indexes: Vec<u32> = one.calls.iter().map(|call| call.index).collect();
    assert!(indexes.iter().copied().eq(0..1000));
}

#[test]
fn bytes_of_no_known_protocol_stop_costing() {
    let mut talk = Talk::usual();
    talk.handshake();
    for _ in 0..5000 {
        talk.ask("G");
    }
    let mut one = One::default();
    one.feed(&talk.packets[3..]);
    let (calls, _, peak) = one.finish();
    assert!(calls.is_empty() && peak < 100_000, "{peak}");
}

/// A target that is no path makes a request when its line is whole, and a line may be as long as servers take.
#[test]
fn a_first_line_longer_than_what_waits_for_a_verdict() {
    let calls_of = |target: usize| {
        let line = format!("CONNECT {}:443 HTTP/1.1\r\n\r\n", "a".repeat(target));
        let mut talk = Talk::usual();
        talk.handshake();
        for part in line.as_bytes().chunks(1000) {
            talk.ask(part);
        }
        talk.answer(OK);
        let mut one = One::default();
        // Without the answer, which would tell what the line does not.
        one.feed(&talk.packets[..talk.packets.len() - 1]);
        one.finish().0.len()
    };
    assert_eq!(calls_of((8 << 10) - 100), 1);
    assert_eq!(calls_of((8 << 10) + 2000), 0);
}

#[test]
fn a_segment_is_small() {
    assert!(size_of::<Segment>() <= 120, "{}", size_of::<Segment>());
}

/// Shards do not know each other: splitting the connections otherwise changes nothing.
#[test]
fn the_order_of_other_connections_does_not_matter() {
    let talks: Vec<Talk> = (0..40)
        .map(|n| {
            let mut talk = Talk::new(&client(n), "10.9.9.9:80", 1000 * n as u64, (n as u32, 7));
            talk.handshake()
                .ask(format!("GET /{n} HTTP/1.1\r\n\r\n"))
                .answer(OK)
                .close();
            talk
        })
        .collect();
    let one_by_one: Vec<Recorded> = talks.iter().flat_map(|talk| talk.packets.clone()).collect();
    let mut together = one_by_one.clone();
    together.sort_by_key(|packet| packet.ts);
    let mut backwards: Vec<Recorded> = talks.iter().rev().flat_map(|talk| talk.packets.clone()).collect();
    backwards.iter_mut().for_each(|packet| packet.interface = 0);
    let calls = dissect(&one_by_one).calls;
    assert_eq!(calls.len(), 40);
    assert_eq!(dissect(&together).calls, calls);
    assert_eq!(dissect(&backwards).calls, calls);
}

/// Both ends say what only a server says, so that whoever is taken for the client shows that it is none. Found by the fuzzer:
/// recognised anew for ever, it overflowed the stack.
#[test]
fn more_hand_overs_than_are_followed() {
    let error = b"E\0\0\0aSERROR\0VERROR\0C42601\0Msyntax error at or near \"asds";
    let mut talk = Talk::usual();
    talk.ack(Who::Client)
        .ask(b"Q\0\0")
        .answer(error)
        .ask(&error[..37]);
    let dissected = dissect(&talk.packets);
    assert_eq!(dissected.counters.hand_overs_dropped, 1);
    assert!(dissected.calls.is_empty());
}
