//! What the hub asks of an agent, and what others try.

mod common;

use std::path::Path;

use common::agent::Agent;
use common::packets;
use wiretape_tape::{Direction, Export, ExportFormat, InterfaceInfo, LinkType, PacketMeta};

/// A capture of ten packets, one each second, to be replayed: it needs neither root nor eBPF.
fn capture(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("ten.pcapng");
    let file = std::fs::File::create(&path).expect("a file");
    let mut export = Export::new(file, ExportFormat::Pcapng, "wiretape test");
    let interfaces = [InterfaceInfo::new(LinkType::RAW, "eth0")];
    for number in 0_u8..10 {
        let meta = PacketMeta {
            ts: START + u64::from(number) * SECOND,
            data: 0..40,
            orig_len: 40,
            link: LinkType::RAW,
            interface: 0,
            direction: Direction::Out,
            cgroup: 7,
            cookie: u64::from(number) + 1,
            dropped: None,
            at: 0,
        };
        export
            .packet("node-1", &interfaces, &meta, &[number; 40])
            .expect("written");
    }
    export.finish().expect("written");
    path
}

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn replaying(dir: &Path) -> Agent {
    let file = capture(dir);
    let agent = Agent::start(
        &dir.join("tape"),
        &["--backend", "replay", "--replay", &file.to_string_lossy()],
    );
    agent.wait_for("the ten packets", |agent| agent.boundaries().packets == 10);
    agent
}

fn cut(agent: &Agent, body: &str) -> (u16, serde_json::Value) {
    let answer = agent.request("POST", "/cuts", "", body.as_bytes());
    (answer.status, answer.json())
}

#[test]
fn a_cut_is_made_fetched_and_released() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = replaying(dir.path());
    let boundaries = agent.boundaries();
    assert_eq!(
        (boundaries.oldest, boundaries.newest),
        (Some(START), Some(START + 9 * SECOND))
    );
    assert_eq!(boundaries.node, "node-1");

    let order = format!(r#"{{"id":"incident","start":{START},"end":{}}}"#, START + SECOND);
    let (status, made) = cut(&agent, &order);
    assert_eq!(status, 200, "{made}");
    assert_eq!(cut(&agent, &order), (200, made.clone()), "asked again");
    assert_eq!(agent.get("/cuts/incident").json(), made);
    let segment = made["segments"][0]["name"]
        .as_str()
        .expect("a segment")
        .to_owned();
    let path = format!("/cuts/incident/segments/{segment}");

    let whole = agent.get(&path);
    assert_eq!(
        Some(whole.body.len() as u64),
        made["segments"][0]["bytes"].as_u64()
    );
    let rest = agent.request("GET", &path, "Range: bytes=100-\r\n", b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &whole.body[100..]));
    let range = format!(
        "content-range: bytes 100-{}/{}",
        whole.body.len() - 1,
        whole.body.len()
    );
    assert!(rest.head.contains(&range), "{}", rest.head);
    let past = agent.request(
        "GET",
        &path,
        &format!("Range: bytes={}-\r\n", whole.body.len()),
        b"",
    );
    assert_eq!(past.status, 416, "{}", past.text());

    let file = dir.path().join("fetched.pcapng");
    std::fs::write(&file, &whole.body).expect("written");
    let recorded = packets::read(&file);
    assert_eq!(
        (recorded.len(), recorded[3].cgroup, recorded[3].cookie),
        (10, 7, 4)
    );

    assert_eq!(agent.metric("wiretape_agent_cuts"), 1);
    assert_eq!(agent.request("DELETE", "/cuts/incident", "", b"").status, 204);
    assert_eq!(agent.get("/cuts/incident").status, 404);
    assert_eq!(agent.get(&path).status, 404);
    assert_eq!(agent.metric("wiretape_agent_cuts"), 0);
}

#[test]
fn bad_requests_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = replaying(dir.path());
    let refused = |method: &str, path: &str, body: &[u8], status: u16, says: &str| {
        let answer = agent.request(method, path, "", body);
        let error = answer.json()["error"].as_str().expect("a reason").to_owned();
        assert_eq!(answer.status, status, "{method} {path}: {error}");
        assert!(error.contains(says), "{method} {path}: {error}");
    };
    refused("POST", "/cuts", b"not json", 400, "the body must be");
    refused("POST", "/cuts", br#"{"id":"a","start":1}"#, 400, "end");
    refused(
        "POST",
        "/cuts",
        br#"{"id":"a","start":1,"end":2,"node":"x"}"#,
        400,
        "node",
    );
    refused(
        "POST",
        "/cuts",
        br#"{"id":"../a","start":1,"end":2}"#,
        400,
        "bad id",
    );
    refused(
        "POST",
        "/cuts",
        br#"{"id":"a","start":2,"end":1}"#,
        400,
        "window is empty",
    );
    refused(
        "POST",
        "/cuts",
        br#"{"id":"a","start":1,"end":2}"#,
        404,
        "outside the tape",
    );
    refused("POST", "/cuts", &vec![b' '; 10 << 20], 413, "");
    refused("GET", "/cuts/none", b"", 404, "no cut");
    refused("GET", "/cuts/..%2f..%2fetc/segments/passwd", b"", 400, "bad id");
    refused("DELETE", "/cuts/none", b"", 404, "no cut");
    refused("GET", "/etc/passwd", b"", 404, "nothing at this path");
    refused("PUT", "/boundaries", b"", 405, "method");
    let (_, outside) = cut(&agent, r#"{"id":"a","start":1,"end":2}"#);
    assert_eq!(outside["oldest"], START, "{outside}");
    assert_eq!(agent.boundaries().packets, 10);
    assert_eq!(agent.metric("wiretape_agent_cuts"), 0);
}

#[test]
fn health_and_metrics_say_how_it_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = replaying(dir.path());
    let health = agent.get("/health");
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (200, Some("ok"))
    );
    assert_eq!(health.json()["backend"], "replay");
    assert_eq!(agent.get("/alive").status, 200);
    assert_eq!(agent.metric("wiretape_agent_packets_total"), 10);
    assert_eq!(
        agent.metric("wiretape_agent_oldest_timestamp_seconds"),
        START / SECOND
    );
    assert_eq!(agent.get("/names").json(), serde_json::json!([]));
}

#[test]
fn a_second_agent_on_the_same_tape_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = replaying(dir.path());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
        .args(["--backend", "replay", "--listen", "127.0.0.1:0", "--replay"])
        .arg(dir.path().join("ten.pcapng"))
        .arg("--tape")
        .arg(&agent.tape)
        .output()
        .expect("the agent starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("in use"), "{said}");
}

#[test]
fn a_file_that_is_no_capture_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "these are not packets, however long one looks at them").expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
        .args(["--backend", "replay", "--listen", "127.0.0.1:0", "--replay"])
        .arg(&file)
        .arg("--tape")
        .arg(dir.path().join("tape"))
        .output()
        .expect("the agent starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("notes.txt cannot be replayed"),
        "{said}"
    );
}
