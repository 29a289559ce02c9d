//! What is recorded by choice and by budget, on real traffic: exactly that, and all else is counted.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::Agent;
use common::packets::Recorded;
use common::places::cgroup_id;
use common::scene::Scene;
use common::workload::{self, Workload, bytes};
use serde_json::{Value, json};
use wiretape_tape::{Direction, EventKind};

#[test]
fn workload_process() {
    workload::main();
}

/// Has the agent record something else.
fn change(agent: &Agent, to: Value) -> Value {
    let answer = agent.request("PUT", "/recording", "", to.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Length of the headers of a TCP or UDP packet over IPv4.
fn headers(packet: &Recorded) -> usize {
    let ip = usize::from(packet.data[0] & 15) * 4;
    match packet.data[9] {
        6 => ip + usize::from(packet.data[ip + 12] >> 4) * 4,
        _ => ip + 8,
    }
}

/// Its two ports, the lower first.
fn flow(packet: &Recorded) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([packet.data[at], packet.data[at + 1]]);
    let (one, other) = (port(20), port(22));
    (one.min(other), one.max(other))
}

#[test]
fn headers_alone_hold_no_byte_of_payload() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&["--capture", "headers"]);
    scene.run("exchange 200000");
    scene.run("datagrams 10 3000");
    let seen = agent.settle();
    let recorded = agent.recorded("all");
    assert_eq!(recorded.len() as u64, seen);
    assert!(recorded.iter().all(|packet| packet.data.len() == headers(packet)));
    let carried: u64 = recorded.iter().map(|packet| u64::from(packet.orig_len)).sum();
    assert!(
        carried > 800_000,
        "each byte is sent and received, and its length told: {carried}"
    );
    assert!(agent.metric("wiretape_agent_truncated_total") > 0);
    assert_eq!(agent.conditions(), Vec::<String>::new(), "a choice is no trouble");
    // Whoever reads the tape later knows.
    let told = agent
        .events()
        .into_iter()
        .find(|event| event.kind == EventKind::Recorder);
    let told = told.expect("an event of the recorder");
    assert_eq!(
        (told.message.as_str(), told.warning),
        ("recorded is: headers", false)
    );
}

#[test]
fn the_first_bytes_of_each_connection_each_way_then_headers() {
    const LEN: usize = 300_000;
    const FIRST: usize = 1000;
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&["--capture", "first:1000"]);
    scene.run(&format!("exchange {LEN}"));
    scene.run(&format!("exchange {LEN}"));
    let seen = agent.settle();
    let recorded = agent.recorded("all");
    assert_eq!(recorded.len() as u64, seen);
    // By end (a cookie), direction and port of the sender: the payload in the order in which it came.
    let mut streams: BTreeMap<(u64, bool, u16), Vec<u8>> = BTreeMap::new();
    for packet in &recorded {
        let payload = packet.data.get(headers(packet)..).unwrap_or_default();
        let source = u16::from_be_bytes([packet.data[20], packet.data[21]]);
        let key = (packet.cookie, packet.direction == Direction::Out, source);
        streams.entry(key).or_default().extend_from_slice(payload);
    }
    streams.retain(|_, stream| !stream.is_empty());
    let wanted: Vec<_> = [1, 2]
        .iter()
        .map(|seed| bytes(*seed, LEN)[..FIRST].to_vec())
        .collect();
    for (key, stream) in &streams {
        assert!(
            wanted.contains(stream),
            "{key:?}: {} bytes, or others",
            stream.len()
        );
    }
    assert_eq!(
        streams.len(),
        8,
        "two connections, two ends of each, two ways at each"
    );
}

#[test]
fn a_share_of_the_flows_is_recorded_whole_at_both_ends_and_the_rest_not_at_all() {
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&["--capture", "sample:1/4"]);
    let mut workload = Workload::start("connect 1", &scene.place("shop"), None);
    let made: usize = workload.said("made=").parse().expect("a number");
    workload.finish();
    let (seen, lost) = agent.accounts();
    let recorded = agent.recorded("all");
    assert_eq!(recorded.len() as u64 + agent.left_out() + lost, seen);
    let mut flows: BTreeMap<(u16, u16), [usize; 2]> = BTreeMap::new();
    for packet in &recorded {
        flows.entry(flow(packet)).or_default()[usize::from(packet.direction == Direction::Out)] += 1;
    }
    let part = flows.len() as f64 / made as f64;
    // Which flows they are is as good as random, and a machine that is busy makes few: five standard deviations.
    let far = 5.0 * (0.25 * 0.75 / made as f64).sqrt();
    assert!((part - 0.25).abs() < far, "{} of {made} connections", flows.len());
    if lost == 0 {
        // A FIN that comes when the connection is over for its receiver (TIME_WAIT) is received by no socket.
        let halves: Vec<_> = flows
            .iter()
            .filter(|(_, [received, sent])| received > sent || sent - received > sent / 7 || *sent < 4)
            .collect();
        assert!(halves.is_empty(), "one end alone of {}: {halves:?}", flows.len());
    }
    assert!(
        agent
            .events()
            .iter()
            .any(|event| event.message == "recorded is: sample:1/4")
    );
}

#[test]
fn a_filter_is_changed_while_it_records_and_nothing_is_lost_by_that() {
    let Some(scene) = Scene::new() else { return };
    // Room for all that passes, so that the first change is still there at the end.
    let agent = scene.agent(&[
        "--filter",
        "tcp",
        "--tape-size",
        "2GiB",
        "--segment-size",
        "64MiB",
    ]);
    scene.run("datagrams 50 100");
    scene.run("exchange 10000");
    let (seen, lost) = agent.accounts();
    let recorded = agent.recorded("tcp");
    assert!(recorded.iter().all(|packet| packet.protocol() == Some(6)) && !recorded.is_empty());
    let filtered = agent.metric("wiretape_agent_left_out_total{by=\"filter\"}");
    assert_eq!((filtered, seen - recorded.len() as u64, lost), (100, 100, 0));

    // A hundred changes while datagrams pass: each is on the tape or left out by the filter.
    let mut workload = Workload::start("flood 3", &scene.place("shop"), None);
    for number in 0..100 {
        let filter = if number % 2 == 0 {
            "udp and greater 20"
        } else {
            "tcp or ip6"
        };
        change(&agent, json!({ "filter": filter }));
        // Some pass between one change and the next; by themselves, all changes are over before the sender has begun.
        thread::sleep(Duration::from_millis(10));
    }
    let told = change(&agent, json!({ "filter": "" }));
    assert_eq!((&told["filter"], &told["capture"]), (&json!(""), &json!("whole")));
    let _: u64 = workload.said("sent=").parse().expect("a number");
    workload.finish();
    let (seen, lost) = agent.accounts();
    let kept = agent.metric("wiretape_agent_tape_packets_total");
    assert_eq!(seen, kept + agent.left_out() + lost);
    assert!(agent.left_out() > 100 && kept > recorded.len() as u64);
    let changes = agent
        .events()
        .into_iter()
        .filter(|event| event.reason == "RecordingChanged")
        .count();
    assert_eq!(changes, 101);

    let refused = agent.request("PUT", "/recording", "", br#"{"filter": "tcp prot 80"}"#);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(agent.get("/recording").json()["filter"], json!(""));
}

#[test]
fn rules_by_workload_hold_for_those_that_come_later_too() {
    let Some(scene) = Scene::new() else { return };
    let file = scene.dir.path().join("rules.yaml");
    let rules =
        "- match: { cgroup: 'secret*' }\n  record: none\n- match: { cgroup: shop }\n  record: headers\n";
    std::fs::write(&file, rules).expect("written");
    let agent = scene.agent(&["--rules", &file.to_string_lossy()]);
    let count = |agent: &Agent, cgroup: &str| {
        let id = cgroup_id(&scene.cgroup.path.join(cgroup));
        let recorded = agent.recorded(&format!("of-{cgroup}"));
        let of: Vec<_> = recorded
            .into_iter()
            .filter(|packet| packet.cgroup == id)
            .collect();
        let whole = of
            .iter()
            .filter(|packet| packet.data.len() as u32 == packet.orig_len)
            .count();
        (of.len(), whole)
    };
    for cgroup in ["secret-1", "shop", "other"] {
        scene.run_in("datagrams 5 1000", cgroup);
        // Until the cgroup is known by its name, what holds for all holds for it.
        thread::sleep(Duration::from_millis(600));
        let before = {
            agent.settle();
            count(&agent, cgroup)
        };
        scene.run_in("datagrams 50 1000", cgroup);
        agent.settle();
        let after = count(&agent, cgroup);
        let more = (after.0 - before.0, after.1 - before.1);
        let wanted = match cgroup {
            "secret-1" => (0, 0),
            "shop" => (100, 0),
            _ => (100, 100),
        };
        assert_eq!(more, wanted, "{cgroup}");
    }
    // The workload's own rule is taken away while it runs.
    change(&agent, json!({ "rules": [] }));
    let before = count(&agent, "secret-1");
    scene.run_in("datagrams 50 1000", "secret-1");
    agent.settle();
    assert_eq!(count(&agent, "secret-1").0 - before.0, 100);
    agent.accounts();
}

#[test]
fn libpcap_records_by_the_same_choices() {
    let Some(scene) = Scene::new() else { return };
    let flags = [
        "--backend",
        "pcap",
        "--interface",
        "lo",
        "--capture",
        "headers",
        "--filter",
        "udp and greater 2000",
    ];
    let agent = Agent::start(&scene.tape(), &flags);
    scene.run("datagrams 20 3000");
    agent.wait_for("the datagrams", |agent| agent.boundaries().packets >= 20);
    let recorded = agent.recorded("all");
    assert!(
        recorded
            .iter()
            .all(|packet| packet.protocol() == Some(17) && packet.data.len() == 28)
    );
    agent.accounts();
}

/// A load that is far above a budget for some seconds; gives what is used in each of the last ones, and checks what must
/// hold at any load.
fn over_budget(flags: &[&str], role: &str, seconds: u64, used: impl Fn(&Agent) -> f64) -> Vec<f64> {
    let scene = Scene::new().expect("the test has asked");
    let agent = scene.agent(flags);
    let workload = Workload::start(role, &scene.place("shop"), None);
    // So long it takes to find out.
    thread::sleep(Duration::from_secs(4));
    let (mut rates, mut before, mut since) = (Vec::new(), used(&agent), Instant::now());
    for _ in 4..seconds - 1 {
        thread::sleep(Duration::from_secs(1));
        let now = used(&agent);
        rates.push((now - before) / since.elapsed().as_secs_f64());
        (before, since) = (now, Instant::now());
    }
    agent.wait_for_condition("shedding");
    assert_eq!(agent.get("/alive").status, 200, "a new start would mend nothing");
    let told = agent.get("/boundaries").json();
    assert!(
        told["recorded"]["shedding"]
            .as_str()
            .is_some_and(|text| text.contains("left out")),
        "{told}"
    );
    assert!(agent.metric("wiretape_agent_shed_level") > 0);
    workload.finish();
    agent.accounts();
    let event = agent
        .events()
        .into_iter()
        .find(|event| event.reason == "Shedding");
    let event = event.expect("an event of the recorder");
    assert!(event.warning && event.message.contains("left out"), "{event:?}");
    rates
}

#[test]
fn the_disks_budget_is_kept() {
    if common::cannot_record() {
        return;
    }
    const BUDGET: f64 = 2_000_000.0;
    // 20 MB a second, as sent and as received.
    let rates = over_budget(
        &["--disk-budget", "2MB/s"],
        "numbered 120000 10000 1000",
        12,
        |agent| agent.metric("wiretape_agent_written_bytes_total") as f64,
    );
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    eprintln!(
        "disk: {:.2} of the budget, second by second {rates:.0?}",
        mean / BUDGET
    );
    assert!(mean <= BUDGET * 1.1, "{mean:.0} bytes a second of {BUDGET}");
    assert!(
        mean >= BUDGET * 0.05,
        "{mean:.0} bytes a second: hardly anything is recorded"
    );
}

#[test]
fn the_processors_budget_is_kept() {
    if common::cannot_record() {
        return;
    }
    const BUDGET: f64 = 0.02;
    let rates = over_budget(&["--cpu-budget", "2%"], "flood 12", 12, |agent| {
        agent.usage().1 as f64 / 1000.0
    });
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    eprintln!(
        "processor: {:.2} of the budget, second by second {rates:.3?}",
        mean / BUDGET
    );
    // The kernel's part is beside this.
    assert!(
        mean <= BUDGET * 1.25,
        "{mean:.3} of a processor, {BUDGET} allowed"
    );
}

#[test]
fn the_memorys_budget_is_kept() {
    const BUDGET: u64 = 48 << 20;
    let Some(scene) = Scene::new() else { return };
    let agent = scene.agent(&["--memory-budget", "48MiB"]);
    let workload = Workload::start("flood 4", &scene.place("shop"), None);
    let mut most = 0;
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(300));
        most = most.max(agent.usage().0 * 1024 + (16 << 20));
    }
    workload.finish();
    agent.accounts();
    eprintln!("memory: {} of {} KiB", most >> 10, BUDGET >> 10);
    assert!(most <= BUDGET, "{most} bytes");
}

#[test]
fn what_is_recorded_is_told_in_every_segment_unless_it_is_everything() {
    let Some(scene) = Scene::new() else { return };
    let flags = [
        "--capture",
        "first:600",
        "--tape-size",
        "4MiB",
        "--segment-size",
        "256KiB",
    ];
    let agent = scene.agent(&flags);
    scene.run("numbered 6000 2000 1000");
    agent.settle();
    let fetched = tempfile::tempdir().expect("a folder");
    let segments = agent.collect("all", fetched.path());
    assert!(segments.len() > 3, "{}", segments.len());
    let told: BTreeSet<_> = segments
        .iter()
        .filter(|path| {
            let mut reader = wiretape_tape::open(path).expect("a segment");
            let mut chunk = wiretape_tape::Chunk::default();
            let mut found = false;
            while reader.next_chunk(&mut chunk).expect("reads on") {
                found |= chunk
                    .events
                    .iter()
                    .any(|event| event.message == "recorded is: first:600");
            }
            found
        })
        .collect();
    // The newest may be younger than a second.
    assert!(
        told.len() + 1 >= segments.len(),
        "{} of {}",
        told.len(),
        segments.len()
    );
}

/// The kernel measures its programs while this lives, as it did before or not.
struct Measured(String);

impl Measured {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn new() -> Self {
        let before = std::fs::read_to_string(Self::SWITCH).unwrap_or_default();
        let _ = std::fs::write(Self::SWITCH, "1");
        Self(before)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::SWITCH, &self.0);
    }
}

/// With `--nocapture` this prints the table of docs/recording.md.
#[test]
fn what_each_choice_costs() {
    if common::cannot_record() {
        return;
    }
    let _measured = Measured::new();
    let count = if std::env::var_os("WIRETAPE_LONG").is_some() {
        200_000
    } else {
        20_000
    };
    let many: Vec<String> = (0..20).map(|number| format!("host 10.99.0.{number}")).collect();
    let many = format!("not ({})", many.join(" or "));
    let rules = "- match: { cgroup: shop }\n  record: whole\n";
    eprintln!("| choice | programs, ns | agent, ns | bytes on the tape |\n|---|---|---|---|");
    for (name, flags) in [
        ("whole", vec![]),
        ("headers", vec!["--capture", "headers"]),
        ("first:4096", vec!["--capture", "first:4096"]),
        ("sample:1/8", vec!["--capture", "sample:1/8"]),
        ("whole, filter `udp`", vec!["--filter", "udp"]),
        ("whole, filter `not port 9100`", vec!["--filter", "not port 9100"]),
        ("whole, filter of 20 hosts", vec!["--filter", many.as_str()]),
        ("whole, filter `tcp` (nothing passes)", vec!["--filter", "tcp"]),
        ("whole, by a rule", vec!["--rules", "RULES"]),
    ] {
        let Some(scene) = Scene::new() else { return };
        let file = scene.dir.path().join("rules.yaml").to_string_lossy().into_owned();
        std::fs::write(&file, rules).expect("written");
        let flags: Vec<&str> = flags
            .iter()
            .map(|flag| if *flag == "RULES" { &file } else { *flag })
            .collect();
        let agent = scene.agent(&flags);
        // So that the cgroup has its rule.
        scene.run("datagrams 10 1000");
        thread::sleep(Duration::from_millis(500));
        let (time, runs) = agent.programs_ran();
        let ((_, cpu), written) = (agent.usage(), agent.metric("wiretape_agent_bytes_total"));
        scene.run(&format!("datagrams {count} 1000"));
        let (seen, _) = agent.accounts();
        assert!(seen >= 2 * count);
        let (later, more) = agent.programs_ran();
        let per = |amount: u64, by: u64| amount as f64 / by.max(1) as f64;
        eprintln!(
            "| {name} | {:.0} | {:.0} | {:.0} |",
            per(later - time, more - runs),
            per((agent.usage().1 - cpu) * 1_000_000, 2 * count),
            per(agent.metric("wiretape_agent_bytes_total") - written, 2 * count)
        );
    }
}
