//! Hubs that do what they should not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use wiretape_tape::Cut;

use crate::common::agent::Agent;
use crate::common::places::Cgroup;
use crate::common::scene::Scene;
use crate::common::workload::Workload;

/// As many streams as the agent gives at a time.
const STREAMS: usize = 64;

fn recorded(dir: &std::path::Path, cgroup: &Cgroup, flags: &[&str]) -> Agent {
    let path = cgroup.path.to_string_lossy();
    let agent = Agent::start(
        dir,
        &[&["--backend", "ebpf", "--cgroup", &path][..], flags].concat(),
    );
    Workload::start("datagrams 5000 1000", &cgroup.child("shop"), None).finish();
    agent.accounts();
    agent
}

fn cut(agent: &Agent, id: &str) -> Cut {
    let order = serde_json::json!({ "id": id, "start": 0, "end": u64::MAX });
    let answer = agent.request("POST", "/cuts", "", order.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("a cut")
}

/// Asks for a segment and reads nothing but the head of the answer.
fn begin(agent: &Agent, path: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(agent.address).expect("the agent listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("set");
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    (stream, String::from_utf8_lossy(&status[9..]).into_owned())
}

#[test]
fn a_hub_that_dies_in_the_middle_of_a_stream_takes_it_up_where_it_was() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    // Compressed or not: the bytes are the same.
    for (tape, flags) in [
        ("plain", &[][..]),
        (
            "packed",
            &["--compress", "--tape-size", "64MiB", "--segment-size", "2MiB"],
        ),
    ] {
        let shop = Cgroup::new();
        let agent = recorded(&dir.path().join(tape), &shop, flags);
        if tape == "packed" {
            agent.wait_for("a compressed segment", |agent| {
                agent.metric("wiretape_agent_ring_stored_bytes") < agent.metric("wiretape_agent_ring_bytes")
            });
        }
        let made = cut(&agent, "c");
        assert_eq!(cut(&agent, "c"), made, "asked twice, it is the same cut");
        let info = &made.segments[0];
        let path = format!("/cuts/c/segments/{}", info.name);
        let whole = agent.get(&path).body;
        assert_eq!(whole.len() as u64, info.bytes);
        let (mut stream, _) = begin(&agent, &path);
        stream.read_exact(&mut [0; 50_000]).expect("a part");
        drop(stream);
        let rest = agent.request("GET", &path, "Range: bytes=50000-\r\n", b"");
        assert_eq!(rest.status, 206);
        assert!(rest.body == whole[50_000..], "taken up again");
        assert_eq!(cut(&agent, "c"), made);
    }
    drop(cgroup);
}

#[test]
fn a_hub_that_asks_for_all_at_once_and_reads_nothing_stops_nobody_else() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let agent = recorded(dir.path(), &cgroup, &[]);
    let made = cut(&agent, "c");
    let path = format!("/cuts/c/segments/{}", made.segments[0].name);
    let streams: Vec<_> = (0..STREAMS + 10).map(|_| begin(&agent, &path)).collect();
    let given = streams.iter().filter(|(_, status)| status == "200").count();
    let refused = streams.iter().filter(|(_, status)| status == "429").count();
    assert_eq!((given, refused), (STREAMS, 10));
    let begun = Instant::now();
    assert_eq!(agent.get("/boundaries").status, 200);
    Workload::start("datagrams 50 100", &cgroup.child("later"), None).finish();
    assert_eq!(agent.accounts().1, 0);
    cut(&agent, "another");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // They leave, and there is room again.
    drop(streams);
    agent.wait_for("a stream", |agent| begin(agent, &path).1 == "200");
}

#[test]
fn a_hub_that_never_releases_takes_half_of_the_ring_at_most() {
    let Some(Scene { dir, cgroup }) = Scene::new() else {
        return;
    };
    let sizes = ["--tape-size", "4MiB", "--segment-size", "512KiB"];
    let agent = recorded(dir.path(), &cgroup, &sizes);
    for round in 0..6 {
        cut(&agent, &format!("cut-{round}"));
        Workload::start(
            "datagrams 2500 1000",
            &cgroup.child(&format!("round-{round}")),
            None,
        )
        .finish();
        agent.accounts();
    }
    agent.wait_for("the oldest to go", |agent| {
        agent.metric("wiretape_agent_cut_bytes") <= 2 << 20
            && agent.metric("wiretape_agent_cuts_expired_total") > 0
    });
    let on_disk = agent.metric("wiretape_agent_ring_stored_bytes") + agent.metric("wiretape_agent_cut_bytes");
    assert!(on_disk <= 4 << 20, "{on_disk} bytes");
    assert_eq!(agent.get("/cuts/cut-0").status, 404);
    // There is room for a new one.
    let made = cut(&agent, "new");
    assert_eq!(cut(&agent, "new"), made);
}
