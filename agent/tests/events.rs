//! What happens beside the packets is on the tape, with whom it happened to.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::agent::Agent;
use common::places::{Cgroup, cgroup_id};
use common::workload::{self, Workload};
use wiretape_tape::{Event, EventKind, Name};

#[test]
fn workload_process() {
    workload::main();
}

fn agent(dir: &Path, cgroup: &Cgroup) -> Agent {
    let path = cgroup.path.to_string_lossy();
    Agent::start(dir, &["--backend", "ebpf", "--cgroup", &path])
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
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = agent(dir.path(), &cgroup);
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

#[test]
fn refused_and_reset_connections_have_their_ends() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = agent(dir.path(), &cgroup);
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

/// A cgroup with a memory controller, in either version, that vanishes with its test.
struct Memory(PathBuf);

impl Memory {
    fn new(bytes: u64, of: &Cgroup) -> Self {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit) = if version_1.join("memory.limit_in_bytes").exists() {
            let name = of.path.file_name().expect("a name");
            (version_1.join(name), "memory.limit_in_bytes")
        } else {
            (of.path.join("small"), "memory.max")
        };
        fs::create_dir_all(&dir).expect("a cgroup");
        fs::write(dir.join(limit), bytes.to_string()).expect("a limit");
        Self(dir)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_process_killed_for_want_of_memory_is_told_of() {
    if common::cannot_record() {
        return;
    }
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = agent(dir.path(), &cgroup);
    let greedy = cgroup.child("greedy");
    let memory = Memory::new(16 << 20, &cgroup);
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

#[test]
fn a_process_of_milliseconds_keeps_its_name_and_its_unit() {
    if common::cannot_record() {
        return;
    }
    const UNITS: usize = 20;
    let (dir, cgroup) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let agent = agent(dir.path(), &cgroup);
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
