//! Both sides of a call to a service over UDP: one call, and never one of two calls.

use proptest::prelude::*;
use wiretape_dissect::Call;
use wiretape_dissect::testing::{Chat, Dissected, Recorded, Who, dissect};

const MS: u64 = 1_000_000;
const START: u64 = 1_700_000_000_000_000_000;
const CLIENT: &str = "10.0.0.1:40000";

/// A question for a name of one label.
fn query(id: u16, label: &str) -> Vec<u8> {
    let head = [&id.to_be_bytes(), b"\x01\0\0\x01\0\0\0\0\0\0".as_slice()].concat();
    [
        head.as_slice(),
        &[label.len() as u8],
        label.as_bytes(),
        b"\0\0\x01\0\x01",
    ]
    .concat()
}

/// Its answer, with a return code.
fn answer(id: u16, label: &str, code: u8) -> Vec<u8> {
    let mut bytes = query(id, label);
    bytes[2] |= 0x80;
    bytes[3] = code;
    bytes
}

/// A service's address, a pod's behind it, the pod's tape, and how far the clock of its node is ahead of the client's.
#[derive(Clone, Copy, Debug)]
struct Service {
    address: &'static str,
    pod: &'static str,
    tape: u16,
    ahead: i64,
}

const DNS: Service = Service {
    address: "10.96.0.10:53",
    pod: "10.0.1.2:5353",
    tape: 1,
    ahead: 0,
};

const OTHER: Service = Service {
    address: "10.96.0.11:53",
    pod: "10.0.2.2:53",
    tape: 2,
    ahead: 0,
};

/// A question and its answer.
#[derive(Clone, Debug)]
struct Asked {
    id: u16,
    label: &'static str,
    code: u8,
    /// When, and how long it took at the client.
    at: u64,
    took: u64,
}

const FIRST: Asked = Asked {
    id: 7,
    label: "payment",
    code: 0,
    at: 0,
    took: MS,
};

impl Asked {
    /// As both sockets saw it: the server's a quarter of the time later, for half of the time.
    fn sides(&self, client: &str, service: Service) -> [Vec<Recorded>; 2] {
        let side = |server: &str, at: u64, took: u64, who, tape| {
            let mut chat = Chat::new(client, server, at);
            chat.step = took;
            chat.ask(query(self.id, self.label))
                .answer(answer(self.id, self.label, self.code));
            chat.seen_by(who, tape, 0)
        };
        let at = START + self.at;
        let there = (at + self.took / 4).saturating_add_signed(service.ahead);
        [
            side(service.address, at, self.took, Who::Client, 0),
            side(service.pod, there, self.took / 2, Who::Server, service.tape),
        ]
    }
}

/// What comes out of packets in order of time.
fn told(sides: impl IntoIterator<Item = Vec<Recorded>>) -> Dissected {
    let mut packets: Vec<Recorded> = sides.into_iter().flatten().collect();
    packets.sort_by_key(|packet| packet.ts);
    dissect(&packets)
}

#[test]
fn recorded_at_both_ends_is_one_call_to_the_service_whatever_the_clocks_say() {
    for ahead in [0, 3000, -3000].map(|ms: i64| ms * MS as i64) {
        let told = told(FIRST.sides(CLIENT, Service { ahead, ..DNS }));
        let [call] = told.calls.as_slice() else {
            panic!("{ahead}: {:#?}", told.calls);
        };
        assert_eq!(call.server.address.to_string(), DNS.address);
        assert_eq!((call.client.tape, call.server.tape), (Some(0), Some(1)));
        assert_eq!(call.server.cgroup, 101);
        let elapsed = |side: &Option<wiretape_dissect::Observation>| side.and_then(|side| side.elapsed());
        assert_eq!(
            (elapsed(&call.client_side), elapsed(&call.server_side)),
            (Some(MS), Some(MS / 2))
        );
        assert_eq!(
            (told.counters.calls_two_sided, told.counters.calls_joined),
            (1, 1)
        );
        // So is the flow.
        let [flow] = told.connections.as_slice() else {
            panic!("{:#?}", told.connections);
        };
        assert_eq!((flow.recorded, flow.calls), ((true, true), 1));
    }
}

#[test]
fn clocks_too_far_apart_make_two() {
    let far = Service {
        ahead: 6000 * MS as i64,
        ..DNS
    };
    assert_eq!(told(FIRST.sides(CLIENT, far)).calls.len(), 2);
}

#[test]
fn two_questions_from_one_port_are_two_calls() {
    let second = Asked {
        id: 8,
        at: MS / 10,
        ..FIRST
    };
    let sides = [FIRST.sides(CLIENT, DNS), second.sides(CLIENT, DNS)].concat();
    let told = told(sides);
    assert_eq!((told.calls.len(), told.counters.calls_two_sided), (2, 2));
}

#[test]
fn asked_again_after_an_answer_is_another_call() {
    let failed = Asked { code: 2, ..FIRST };
    let again = Asked { at: 5 * MS, ..FIRST };
    let told = told([failed.sides(CLIENT, DNS), again.sides(CLIENT, DNS)].concat());
    let codes: Vec<_> = told.calls.iter().map(|call| call.status).collect();
    assert_eq!(
        (codes, told.counters.calls_two_sided),
        (vec![Some(2), Some(0)], 2)
    );
}

#[test]
fn the_same_asked_of_two_services_at_once_is_left_alone() {
    // As musl does it. The second pod's node is ahead, so that its side is read before the client has asked.
    for ahead in [0, 2, -2].map(|ms: i64| ms * MS as i64) {
        let second = Asked { at: 10_000, ..FIRST };
        let sides = [
            FIRST.sides(CLIENT, DNS),
            second.sides(CLIENT, Service { ahead, ..OTHER }),
        ]
        .concat();
        let told = told(sides);
        assert_eq!((told.calls.len(), told.counters.calls_two_sided), (4, 0));
        assert!(told.counters.sides_uncertain > 0);
    }
}

#[test]
fn what_took_longer_at_the_server_is_another_call() {
    let [client, _] = FIRST.sides(CLIENT, DNS);
    let longer = Asked {
        took: 4 * MS,
        ..FIRST
    };
    let [_, server] = longer.sides(CLIENT, DNS);
    let told = told([client, server]);
    assert_eq!((told.calls.len(), told.counters.calls_two_sided), (2, 0));
    assert!(told.counters.sides_uncertain > 0);
}

/// What the one side saw without some of its packets, and the other.
fn without(side: &[Recorded], lost: &[usize]) -> Vec<Recorded> {
    let kept = side.iter().enumerate().filter(|(n, _)| !lost.contains(n));
    kept.map(|(_, packet)| packet.clone()).collect()
}

#[test]
fn a_question_without_an_answer_at_one_end_or_both_is_one_call() {
    let long_after = || {
        Chat::new("10.9.9.9:40000", "10.9.9.8:53", START + 90_000 * MS)
            .ask("later")
            .packets
            .clone()
    };
    for ahead in [0, 3000, -3000].map(|ms: i64| ms * MS as i64) {
        let [client, server] = FIRST.sides(CLIENT, Service { ahead, ..DNS });
        // The server was silent; its answer was lost on its way; the tape of its node lacks the answer.
        for (at_client, at_server, status) in [
            ([1].as_slice(), [1].as_slice(), None),
            (&[1], &[], Some(0)),
            (&[], &[1], Some(0)),
        ] {
            for later in [Vec::new(), long_after()] {
                let over = !later.is_empty();
                let told = told([without(&client, at_client), without(&server, at_server), later]);
                let [call] = told.calls.as_slice() else {
                    panic!("{ahead} {at_client:?} {at_server:?}: {:#?}", told.calls);
                };
                assert_eq!(call.server.address.to_string(), DNS.address);
                assert_eq!((call.client.tape, call.server.tape), (Some(0), Some(1)));
                assert_eq!(call.status, status);
                let answered =
                    |side: &Option<wiretape_dissect::Observation>| side.map(|side| side.response.is_some());
                assert_eq!(
                    (answered(&call.client_side), answered(&call.server_side)),
                    (Some(at_client.is_empty()), Some(at_server.is_empty()))
                );
                if status.is_none() && over {
                    assert_eq!(call.outcome, wiretape_dissect::Outcome::NoResponse);
                }
            }
        }
    }
}

#[test]
fn asked_of_two_servers_of_which_one_is_silent_is_two_questions() {
    let second = Asked { at: 10_000, ..FIRST };
    let [first, heard] = FIRST.sides(CLIENT, DNS);
    let [silent, not_heard] = second.sides(CLIENT, OTHER);
    let told = told([first, heard, without(&silent, &[1]), without(&not_heard, &[0, 1])]);
    assert_eq!((told.calls.len(), told.counters.calls_two_sided), (3, 0));
}

#[test]
fn two_pods_of_which_one_has_the_question_and_one_the_answer_are_not_one() {
    let [client, first] = FIRST.sides(CLIENT, DNS);
    let [_, second] = FIRST.sides(CLIENT, OTHER);
    let told = told([
        without(&client, &[1]),
        without(&first, &[1]),
        without(&second, &[0]),
    ]);
    assert_eq!((told.calls.len(), told.counters.calls_two_sided), (3, 0));
}

/// A question of a socket on the node that translates: it leaves for the pod, and its answer comes from the service.
fn from_the_host(asked: &Asked, service: Service) -> [Vec<Recorded>; 3] {
    let [client, server] = asked.sides(CLIENT, service);
    let mut to_pod = Chat::new(CLIENT, service.pod, START + asked.at);
    to_pod.ask(query(asked.id, asked.label));
    [to_pod.seen_by(Who::Client, 0, 0), without(&client, &[0]), server]
}

#[test]
fn of_a_socket_on_the_node_that_translates_question_and_answer_are_one_call_to_the_pod() {
    for ahead in [0, 3000, -3000].map(|ms: i64| ms * MS as i64) {
        let [asked, answered, server] = from_the_host(&FIRST, Service { ahead, ..DNS });
        let both = told([asked.clone(), answered.clone(), server]);
        let [call] = both.calls.as_slice() else {
            panic!("{ahead}: {:#?}", both.calls);
        };
        assert_eq!(call.server.address.to_string(), DNS.pod);
        let elapsed = |side: &Option<wiretape_dissect::Observation>| side.and_then(|side| side.elapsed());
        assert_eq!(
            (elapsed(&call.client_side), elapsed(&call.server_side)),
            (Some(MS), Some(MS / 2))
        );
        assert_eq!((call.path.as_str(), call.status), ("payment", Some(0)));
        // Where the server's node does not record, nothing says that it has sent this answer.
        let half = told([asked, answered]);
        assert_eq!((half.calls.len(), half.counters.calls_two_sided), (2, 0));
    }
}

#[test]
fn two_sockets_on_the_node_that_translates_that_ask_the_same_are_left_alone() {
    let again = Asked { at: 20 * MS, ..FIRST };
    let told = told([from_the_host(&FIRST, DNS), from_the_host(&again, OTHER)].concat());
    assert_eq!((told.calls.len(), told.counters.calls_two_sided), (4, 0));
    assert!(told.counters.sides_uncertain > 0);
}

/// The same, as a server sees it whose client's address is a node's; question and answer with the numbers that their senders gave
/// them.
fn masqueraded(asked: &Asked, client: &str, node: &str, service: Service, ident: u16) -> [Vec<Recorded>; 2] {
    let [mine, _] = asked.sides(client, service);
    let [_, theirs] = asked.sides(node, service);
    [mine, theirs].map(|mut side| {
        for packet in &mut side {
            packet.data[4..6].copy_from_slice(&ident.to_be_bytes());
        }
        side
    })
}

#[test]
fn a_client_whose_address_is_the_nodes_at_the_server_is_one_call_whatever_the_clocks_say() {
    for ahead in [0, 3000, -3000].map(|ms: i64| ms * MS as i64) {
        // Each of many clients, and so in all shards.
        let sides = (0..40).flat_map(|n| {
            let asked = Asked {
                id: n,
                at: u64::from(n) * 1000,
                ..FIRST
            };
            let (client, node) = (format!("10.0.3.{n}:40000"), format!("10.9.0.1:{}", 20000 + n));
            masqueraded(&asked, &client, &node, Service { ahead, ..DNS }, 900 + n)
        });
        let told = told(sides);
        assert_eq!(
            (told.calls.len(), told.counters.calls_two_sided),
            (40, 40),
            "{ahead}"
        );
        for call in &told.calls {
            assert_eq!(call.server.address.to_string(), DNS.address);
            assert!(call.client.address.to_string().starts_with("10.0.3."));
            assert_eq!((call.client.tape, call.server.tape), (Some(0), Some(1)));
            assert!(call.client_side.is_some() && call.server_side.is_some());
        }
        assert_eq!(told.connections.len(), 40);
    }
}

#[test]
fn masqueraded_and_not_to_be_told_apart_is_left_alone() {
    let both = |ident, other| {
        let first = masqueraded(&FIRST, "10.0.3.1:40000", "10.9.0.1:20001", DNS, ident);
        let again = Asked { at: 2 * MS, ..FIRST };
        let second = masqueraded(&again, "10.0.3.2:40000", "10.9.0.1:20002", DNS, other);
        let told = told([first, second].concat());
        (told.calls.len(), told.counters.calls_two_sided)
    };
    assert_eq!(both(7, 8), (2, 2));
    // The same number by chance, and no numbers at all.
    assert_eq!(both(7, 7), (4, 0));
    assert_eq!(both(0, 0), (4, 0));
}

#[test]
fn masqueraded_with_another_answer_or_another_question_is_two_calls() {
    let [client, _] = masqueraded(&FIRST, "10.0.3.1:40000", "10.9.0.1:20001", DNS, 7);
    for other in [
        Asked { code: 3, ..FIRST },
        Asked { id: 8, ..FIRST },
        Asked {
            took: 4 * MS,
            ..FIRST
        },
    ] {
        let [_, server] = masqueraded(&other, "10.0.3.1:40000", "10.9.0.1:20001", DNS, 7);
        let told = told([client.clone(), server]);
        assert_eq!(
            (told.calls.len(), told.counters.calls_two_sided),
            (2, 0),
            "{other:?}"
        );
    }
}

#[test]
fn a_client_that_speaks_to_more_than_are_looked_through() {
    let crowd = (0..20).map(|n| {
        let mut chat = Chat::new(CLIENT, &format!("10.7.0.{n}:53"), START);
        chat.ask(query(100 + n, "crowd"))
            .answer(answer(100 + n, "crowd", 0));
        chat.seen_by(Who::Client, 0, 0)
    });
    let told = told(crowd.chain(FIRST.sides(CLIENT, DNS)));
    assert_eq!((told.calls.len(), told.counters.callers_crowded), (22, 6));
}

/// Questions, each with whether it is of the first client's port and to the first service; how far each service's clock is ahead, in
/// ms; and packets that are lost, by their number.
type Plan = (Vec<(Asked, bool, bool)>, [i64; 2], Vec<usize>);

/// Questions of two clients' ports to two services, some the same, with clocks apart, and packets that were lost.
fn plan() -> impl Strategy<Value = Plan> {
    let asked = (
        0..3u16,
        prop::sample::select(vec!["a", "b"]),
        0..2u8,
        0..40u64,
        1..20u64,
    )
        .prop_map(|(id, label, code, at, took)| Asked {
            id,
            label,
            code: 3 * code,
            at: at * MS,
            took: took * MS,
        });
    (
        prop::collection::vec((asked, any::<bool>(), any::<bool>()), 1..12),
        [-30..30i64, -30..30i64],
        prop::collection::vec(0..48usize, 0..4),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A call that was joined is made of one of each side's that have the same question and no other answer, and that were the
    /// same, whatever the clocks say.
    #[test]
    fn different_questions_are_never_one((plan, ahead, lost) in plan()) {
        let mut packets = Vec::new();
        for (n, (asked, port, service)) in plan.iter().enumerate() {
            // No two at the same time, so that they can be told apart here.
            let asked = Asked { at: asked.at + 1000 * n as u64, ..asked.clone() };
            let client = if *port { CLIENT } else { "10.0.0.1:40001" };
            let (service, ahead) = if *service { (DNS, ahead[0]) } else { (OTHER, ahead[1]) };
            let service = Service { ahead: ahead * MS as i64, ..service };
            packets.extend(asked.sides(client, service).into_iter().flatten());
        }
        let mut n = 0;
        packets.retain(|_| {
            n += 1;
            !lost.contains(&(n - 1))
        });
        let both = told([packets.clone()]);
        let alone = |tapes: &[u16]| {
            let of = |packet: &&Recorded| tapes.contains(&packet.tape);
            told([packets.iter().filter(of).cloned().collect()]).calls
        };
        let (mut asked, mut heard) = (alone(&[0]), alone(&[1, 2]));
        // Nothing is lost by joining.
        let joined = both.counters.calls_two_sided as usize;
        prop_assert_eq!(both.calls.len() + joined, asked.len() + heard.len());
        for call in both.calls.iter().filter(|call| call.client_side.is_some() && call.server_side.is_some()) {
            let mine = asked.iter().position(|mine| mine.client_side == call.client_side && mine.client.address == call.client.address);
            let mine = asked.swap_remove(mine.expect("the client's side of it"));
            let theirs = heard.iter().position(|theirs| theirs.server_side == call.server_side && theirs.client.address == call.client.address);
            let theirs = heard.swap_remove(theirs.expect("the server's side of it"));
            let id = |call: &Call| call.fields.iter().find(|(name, _)| *name == "dns_id").cloned();
            prop_assert_eq!((&mine.path, id(&mine)), (&theirs.path, id(&theirs)));
            prop_assert!(mine.status.is_none() || theirs.status.is_none() || mine.status == theirs.status);
            // One may be taken for another only if the same port asks the same twice, and something was lost; or before the first
            // was answered, which makes one call of them.
            let number = |call: &Call| {
                let at = call.observation().expect("somebody saw it").start() + 1000 * MS - START;
                (at % (MS / 4) / 1000) as usize
            };
            let (n, m) = (number(&mine), number(&theirs));
            let asked = |n: usize| (plan[n].0.id, plan[n].0.label, plan[n].1);
            let at_once = plan[n].0.at.abs_diff(plan[m].0.at) <= 20 * MS;
            prop_assert!(n == m || asked(n) == asked(m) && (at_once || !lost.is_empty()), "{} is {}", n, m);
        }
    }
}
