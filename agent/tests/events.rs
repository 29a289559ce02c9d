//! What happens beside the packets is on the tape, with whom it happened to.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Agent, patience};
use common::places::{Cgroup, Firewall, LEFT, Link, RIGHT, cgroup_id, ip, remove};
use common::scene::Scene;
use common::workload::{self, Workload};
use wiretape_tape::{Event, EventKind, Name};

#[test]
fn workload_process() {
    workload::main();
}

/// Waits for an event like this.
fn event(agent: &Agent, what: &str, is: impl Fn(&Event) -> bool) -> Event {
    let mut found = None;
    agent.wait_for(what, |agent| {
        found = agent.events().into_iter().find(|event| is(event));
        found.is_some()
    });
    found.expect("just seen")
}

#[test]
fn ends_of_processes_have_their_code_or_signal() {
    let Some(scene) = Scene::new() else { return };
    let (agent, cgroup) = (scene.agent(&[]), &scene.cgroup);
    let shop = cgroup.child("shop");
    Workload::start("run exit 3", &shop, None).finish();
    Workload::start("run kill -9 $$", &shop, None).finish();
    // Of another sub-tree: not recorded.
    let elsewhere = Cgroup::new();
    Workload::start("run exit 4", &elsewhere.path, None).finish();

    let failed = event(&agent, "the exit with 3", |event| event.exit_code == Some(3));
    assert_eq!(
        (failed.kind, failed.process.as_str(), failed.warning),
        (EventKind::ProcessExit, "sh", true)
    );
    assert_eq!((failed.cgroup, failed.signal), (cgroup_id(&shop), None));
    let killed = event(&agent, "the kill", |event| event.signal == Some(9));
    assert_eq!((killed.reason.as_str(), killed.exit_code), ("SIGKILL", None));
    let all = agent.events();
    let started = all.iter().find(|event| {
        event.kind == EventKind::ProcessStart && event.pid == failed.pid && event.process == "sh"
    });
    assert!(started.is_some_and(|started| started.at <= failed.at), "{all:#?}");
    assert!(
        all.iter().all(|event| event.exit_code != Some(4)),
        "an event of another sub-tree"
    );
    assert!(agent.metric("wiretape_agent_events_total") >= 4);
    assert_eq!(agent.get("/health").json()["missing"], serde_json::json!([]));
}

/// All threads of a process end at the same time, on all processors, and several of them may be the last.
#[test]
fn a_process_of_many_threads_has_ended_once() {
    const PROCESSES: usize = 40;
    let Some(scene) = Scene::new() else { return };
    let (agent, place) = (scene.agent(&[]), scene.cgroup.child("crowd"));
    for _ in 0..PROCESSES {
        Workload::start("crowd 64", &place, None).end();
    }
    Workload::start("run exit 7", &scene.cgroup.child("last"), None).finish();
    event(&agent, "the last exit", |event| event.exit_code == Some(7));
    let events = agent.events();
    let mut ended: Vec<u32> = events
        .iter()
        .filter(|event| event.kind == EventKind::ProcessExit && event.exit_code == Some(9))
        .map(|event| event.pid)
        .collect();
    let told = ended.len();
    ended.sort_unstable();
    ended.dedup();
    assert_eq!((ended.len(), told), (PROCESSES, PROCESSES));
}

#[test]
fn refused_and_reset_connections_have_their_ends() {
    let Some(scene) = Scene::new() else { return };
    let (agent, cgroup) = (scene.agent(&[]), &scene.cgroup);
    let client = cgroup.child("client");
    Workload::start("knock 127.0.0.1:9", &client, None).finish();
    let refused = event(&agent, "the refusal", |event| {
        event.kind == EventKind::SocketRefused
    });
    assert_eq!(
        (refused.reason.as_str(), refused.cgroup),
        ("ECONNREFUSED", cgroup_id(&client))
    );
    assert_eq!(
        refused.remote.map(|remote| remote.to_string()).as_deref(),
        Some("127.0.0.1:9")
    );
    assert!(
        refused.local.is_some_and(|local| local.port() != 0),
        "{refused:?}"
    );
    assert!(refused.pid != 0 && !refused.process.is_empty(), "{refused:?}");

    // Where a port is free, the server says nothing of it: one that tests elsewhere do not use.
    let mut server = Workload::start("serve 18797", &cgroup.child("server"), None);
    server.said("serving");
    Workload::start("hang-up 127.0.0.1:18797", &client, None).finish();
    let server = cgroup_id(&cgroup.path.join("server"));
    let reset = event(&agent, "the reset", |event| {
        event.kind == EventKind::SocketReset && event.cgroup == server
    });
    assert_eq!(reset.local.map(|local| local.port()), Some(18797));
}

/// Connections to an address at which nobody is: what is sent is lost, and nothing comes back.
#[test]
fn a_connection_that_nobody_answers_is_a_timeout() {
    let Some(scene) = Scene::new() else { return };
    let (agent, link) = (scene.agent(&[]), Link::new());
    let left = link.left.as_str();
    ip(&[
        "-n",
        left,
        "neighbour",
        "add",
        "10.99.0.9",
        "lladdr",
        "02:00:00:00:00:09",
        "dev",
        "wire",
        "nud",
        "permanent",
    ]);
    // Gives up after the first SYN and one more.
    let retries = [
        "netns",
        "exec",
        left,
        "sysctl",
        "-q",
        "net.ipv4.tcp_syn_retries=1",
    ];
    ip(&retries);
    let client = scene.cgroup.child("client");
    Workload::start(
        "run exec bash -c 'exec 3<>/dev/tcp/10.99.0.9/80'",
        &client,
        Some(left),
    )
    .finish();
    let timeout = event(&agent, "the timeout", |event| {
        event.kind == EventKind::SocketTimeout
    });
    assert_eq!(
        (timeout.reason.as_str(), timeout.cgroup, timeout.warning),
        ("ETIMEDOUT", cgroup_id(&client), true)
    );
    let ends = [timeout.local, timeout.remote].map(|end| end.map(|end| end.ip().to_string()));
    assert_eq!(ends, [Some(LEFT.to_owned()), Some("10.99.0.9".to_owned())]);
    assert_eq!(timeout.process, "bash");
}

#[test]
fn what_a_firewall_keeps_a_client_from_sending_is_told_with_whom_and_why() {
    let Some(scene) = Scene::new() else { return };
    let (agent, link) = (scene.agent(&[]), Link::new());
    let Some(_firewall) = Firewall::new(&link.left, "output", "udp dport { 9, 10 }") else {
        return;
    };
    let (client, elsewhere) = (scene.cgroup.child("client"), Cgroup::new());
    let say = |port: u16| format!("run bash -c 'echo x > /dev/udp/{RIGHT}/{port}'; true");
    // Of another sub-tree: not told.
    Workload::start(&say(10), &elsewhere.path, Some(&link.left)).finish();
    Workload::start(&say(9), &client, Some(&link.left)).finish();
    let dropped = event(&agent, "the packet dropped", |event| {
        event.kind == EventKind::PacketDropped
    });
    assert_eq!(
        (
            dropped.reason.as_str(),
            dropped.cgroup,
            dropped.warning,
            dropped.count
        ),
        ("NETFILTER_DROP", cgroup_id(&client), true, 1)
    );
    let local = dropped.local.expect("its sender");
    assert_eq!(
        dropped.message,
        format!("UDP from {local} to {RIGHT}:9 dropped by a rule of netfilter (iptables, nftables)")
    );
    assert_eq!(local.ip().to_string(), LEFT);
    assert_eq!(
        dropped.remote.map(|to| to.to_string()),
        Some(format!("{RIGHT}:9"))
    );
    let of_all = agent.events();
    let told = of_all
        .iter()
        .filter(|event| event.kind == EventKind::PacketDropped);
    assert_eq!(told.count(), 1, "{of_all:#?}");
}

/// At the other end of a pod's interface, where a packet has come in and still belongs to the socket that has sent it.
#[test]
fn what_a_nodes_firewall_drops_behind_a_pods_interface_is_told_of_the_pod() {
    let Some(scene) = Scene::new() else { return };
    let (agent, link) = (scene.agent(&[]), Link::new());
    let Some(firewall) = Firewall::new(&link.right, "ingress", "udp dport 9") else {
        return;
    };
    let client = scene.cgroup.child("client");
    let role = format!("run bash -c 'echo x > /dev/udp/{RIGHT}/9'");
    Workload::start(&role, &client, Some(&link.left)).finish();
    let dropped = event(&agent, "the packet dropped", |event| {
        event.kind == EventKind::PacketDropped
    });
    assert_eq!(firewall.dropped(), 1);
    let ends = [dropped.local, dropped.remote].map(|end| end.map(|end| end.ip().to_string()));
    assert_eq!(ends, [Some(LEFT.to_owned()), Some(RIGHT.to_owned())]);
    assert_eq!(dropped.cgroup, cgroup_id(&client));
    assert!(
        dropped.message.starts_with(&format!("UDP from {LEFT}:")),
        "{dropped:?}"
    );
}

/// More senders than are told: nobody can have them fill the ring in which other events come.
#[test]
fn a_flood_of_dropped_packets_hides_no_other_event() {
    let Some(scene) = Scene::new() else { return };
    let (agent, link) = (scene.agent(&[]), Link::new());
    let Some(firewall) = Firewall::new(&link.left, "output", "udp dport 1000-60000") else {
        return;
    };
    let (shop, client) = (scene.cgroup.child("shop"), scene.cgroup.child("client"));
    // Each port is another target.
    let flood = format!(
        "run bash -c 'for n in {{2000..9000}}; do echo x > /dev/udp/{RIGHT}/$n; done 2> /dev/null; true'"
    );
    let flood = Workload::start(&flood, &client, Some(&link.left));
    Workload::start("run exit 3", &shop, None).finish();
    flood.finish();
    event(&agent, "the exit with 3", |event| event.exit_code == Some(3));
    let dropped = firewall.dropped();
    assert!(dropped > 2000, "{dropped}");
    agent.wait_for("what was held back to be counted", |agent| {
        let told = agent
            .events()
            .into_iter()
            .filter(|event| event.kind == EventKind::PacketDropped);
        let left_out = agent.metric("wiretape_agent_events_left_out_total{stage=\"too_many\"}");
        // The few, if any, in the middle of which another one came on the same processor.
        let untold = agent.metric("wiretape_agent_events_left_out_total{stage=\"interrupted\"}");
        let [left_out, untold] = [left_out, untold].map(|count| usize::try_from(count).expect("fits"));
        (dropped.saturating_sub(untold)..=dropped).contains(&(told.count() + left_out))
    });
    assert_eq!(
        agent.metric("wiretape_agent_events_left_out_total{stage=\"buffer_full\"}"),
        0
    );
}

/// On the way between two others, as a node's firewall does it to pods; told once, however often it is tried.
#[test]
fn what_is_dropped_between_others_is_told_where_all_is_recorded() {
    let Some(Scene { dir, .. }) = Scene::new() else {
        return;
    };
    let link = Link::new();
    let Some(firewall) = Firewall::new(&link.left, "input", "udp dport 9") else {
        return;
    };
    // It records what fetches its own tape, too: the headers of that.
    let agent = Agent::start(dir.path(), &["--backend", "ebpf", "--capture", "headers"]);
    // Interfaces that come up say so to all, and the kernel drops some of that: not told.
    let (_another, outside) = (Link::new(), Cgroup::new());
    for _ in 0..3 {
        let role = format!("run bash -c 'echo x > /dev/udp/{LEFT}/9'");
        Workload::start(&role, &outside.path, Some(&link.right)).finish();
    }
    let is_it = |event: &Event| {
        event.kind == EventKind::PacketDropped
            && event
                .remote
                .is_some_and(|to| to.to_string() == format!("{LEFT}:9"))
    };
    let dropped = event(&agent, "the packet dropped", is_it);
    assert_eq!(firewall.dropped(), 3);
    assert_eq!((dropped.reason.as_str(), dropped.cgroup), ("NETFILTER_DROP", 0));
    assert_eq!(
        dropped.local.map(|from| from.ip().to_string()).as_deref(),
        Some(RIGHT)
    );
    let of_all = agent.events();
    assert_eq!(of_all.iter().filter(|event| is_it(event)).count(), 1);
    let to_many = |event: &&Event| {
        event.kind == EventKind::PacketDropped && event.remote.is_some_and(|to| to.ip().is_multicast())
    };
    assert_eq!(of_all.iter().find(to_many), None);
}

/// A cgroup with a memory controller, in either version, that vanishes with its test.
struct Memory(PathBuf);

impl Memory {
    fn new(bytes: u64, of: &Cgroup) -> Self {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit) = if version_1.join("memory.limit_in_bytes").exists() {
            let name = of.path.file_name().expect("a name");
            (version_1.join(name), "memory.limit_in_bytes")
        } else {
            // Where it is not handed down, the limit is refused below.
            for above in of.path.ancestors().skip(1).take(1).chain([of.path.as_path()]) {
                let _ = fs::write(above.join("cgroup.subtree_control"), "+memory");
            }
            (of.path.join("small"), "memory.max")
        };
        fs::create_dir_all(&dir).expect("a cgroup");
        fs::write(dir.join(limit), bytes.to_string()).expect("a limit");
        Self(dir)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

#[test]
fn a_process_killed_for_want_of_memory_is_told_of() {
    let Some(scene) = Scene::new() else { return };
    let (agent, cgroup) = (scene.agent(&[]), &scene.cgroup);
    let greedy = cgroup.child("greedy");
    let memory = Memory::new(16 << 20, cgroup);
    let procs = memory.0.join("cgroup.procs");
    let command = format!("run (echo 0 > {}; exec tail /dev/zero)", procs.display());
    Workload::start(&command, &greedy, None).finish();
    let killed = event(&agent, "the kill", |event| event.kind == EventKind::OomKill);
    assert_eq!((killed.process.as_str(), killed.warning), ("tail", true));
    let exit = event(&agent, "its end", |event| {
        event.kind == EventKind::ProcessExit && event.pid == killed.pid
    });
    assert_eq!(exit.signal, Some(9));
}

/// Writes more than fits into its memory, and so waits for the disk to take it.
#[test]
fn a_cgroup_that_waits_for_memory_is_told_of() {
    let Some(scene) = Scene::new() else { return };
    let (agent, short) = (scene.agent(&[]), scene.cgroup.child("short"));
    let pressure = short.join("memory.pressure");
    // Microseconds in which some process waited, by the kernel.
    let waited = || -> Option<u64> {
        let text = fs::read_to_string(&pressure).ok()?;
        text.lines().next()?.rsplit_once("total=")?.1.parse().ok()
    };
    if waited().is_none() {
        return eprintln!("SKIPPED: this test needs a kernel that accounts for pressure (PSI)");
    }
    // Not in memory, as a folder for temporary files may be.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if !target.is_dir() {
        return eprintln!("SKIPPED: this test needs a disk, at {}", target.display());
    }
    let disk = tempfile::tempdir_in(target).expect("a folder");
    // A tape without anything cannot be cut.
    scene.run("datagrams 3 100");
    agent.settle();
    let memory = Memory::new(16 << 20, &scene.cgroup);
    let command = format!(
        "run (echo 0 > {}; for n in 1 2 3; do while :; do dd if=/dev/zero of={}/$n bs=1M count=64 2> /dev/null; done & done; wait)",
        memory.0.join("cgroup.procs").display(),
        disk.path().display()
    );
    let writing = Workload::start(&command, &short, None);
    let begun = Instant::now();
    let pressed = loop {
        let mut events = agent.events().into_iter();
        if let Some(event) = events.find(|event| event.kind == EventKind::MemoryPressure) {
            break Some(event);
        }
        if begun.elapsed() > patience() {
            break None;
        }
        thread::sleep(Duration::from_millis(200));
    };
    let share = waited().unwrap_or_default() / u64::try_from(begun.elapsed().as_millis()).unwrap_or(1);
    drop(writing);
    fs::write(short.join("cgroup.kill"), "1").expect("killed");
    match pressed {
        Some(pressed) => assert_eq!((pressed.cgroup, pressed.warning), (cgroup_id(&short), true)),
        // In thousandths of the time; an event is of a tenth of five seconds.
        None if share < 50 => eprintln!("SKIPPED: this test needs a disk for which has to be waited"),
        None => panic!("{share} thousandths of the time were waited, and nothing is told"),
    }
}

#[test]
fn a_process_of_milliseconds_keeps_its_name_and_its_unit() {
    const UNITS: usize = 20;
    let Some(scene) = Scene::new() else { return };
    let (agent, cgroup) = (scene.agent(&[]), &scene.cgroup);
    for number in 0..UNITS {
        // One datagram to nobody; the cgroup goes with the process.
        let unit = cgroup.child(&format!("blink-{number}.service"));
        let send = "echo 0 > \"$0/cgroup.procs\" && exec bash -c 'echo x > /dev/udp/127.0.0.1/9'";
        let mut sh = Command::new("sh");
        let status = sh.args(["-c", send]).arg(&unit).stderr(Stdio::null()).status();
        status.expect("sh starts");
        while fs::remove_dir(&unit).is_err() {}
    }
    let names = |agent: &Agent| -> Vec<Name> {
        let names: Vec<Name> = serde_json::from_slice(&agent.get("/names").body).expect("names");
        names
            .into_iter()
            .filter(|name| name.owner.starts_with("blink"))
            .collect()
    };
    agent.wait_for("all their names", |agent| names(agent).len() == UNITS);
    for name in names(&agent) {
        assert_eq!(
            (name.process.as_str(), name.owner_kind.as_str()),
            ("bash", "Unit"),
            "{name:?}"
        );
        assert_eq!(name.owner, name.cgroup_path);
    }
}
