//! Packets given out again as capture files.

use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use wiretape_dissect::testing::{Talk, Who};
use wiretape_tape::{Chunk, open};

use crate::agent::{Node, SECOND, checkouts, shop};
use crate::hub::{TestHub, encoded};

/// Whether there is a tshark; else what needs it is skipped, and says so.
fn tshark() -> bool {
    let version = Command::new("tshark")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if version.is_err() {
        eprintln!("tshark is not installed: skipped");
    }
    version.is_ok()
}

/// Times and lengths of the packets of a capture.
fn packets(bytes: &[u8]) -> Vec<(u64, u32)> {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("capture");
    std::fs::write(&file, bytes).expect("a file");
    let mut reader = open(&file).expect("it is a capture");
    let (mut all, mut chunk) = (Vec::new(), Chunk::default());
    while reader.next_chunk(&mut chunk).expect("it can be read") {
        all.extend(chunk.packets.iter().map(|packet| (packet.ts, packet.orig_len)));
    }
    assert_eq!(reader.counters().unread_bytes, 0);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_is_merged_cut_and_filtered() {
    let (client, server) = shop(20, 100, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let get = async |query: &str| {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap{query}"), None)
            .await;
        assert_eq!(answer.status().as_u16(), 200, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/vnd.tcpdump.pcap");
        let name = if query.contains("pcapng") {
            "a.pcapng"
        } else {
            "a.pcap"
        };
        assert_eq!(
            answer.headers()["content-disposition"],
            format!("attachment; filename=\"{name}\"")
        );
        packets(&answer.bytes().await.expect("it arrives whole"))
    };
    let all = get("").await;
    assert_eq!(all.len(), 2 * 20 * 8);
    assert!(
        all.is_sorted_by_key(|(ts, _)| *ts),
        "merged by time over the nodes"
    );
    assert_eq!(get("?nodes=node-1").await.len(), 20 * 8);
    let mut whole = get("?format=pcapng").await;
    whole.sort_unstable();
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(whole, sorted);

    // Start inclusive, end exclusive, both in ms.
    let middle = all[all.len() / 2].0 / 1_000_000;
    let early = get(&format!("?end_time={middle}")).await;
    let late = get(&format!("?start_time={middle}&format=pcapng")).await;
    assert_eq!(early.len() + late.len(), all.len());
    assert!(
        early.iter().all(|(ts, _)| *ts < middle * 1_000_000)
            && late.iter().all(|(ts, _)| *ts >= middle * 1_000_000)
    );

    let one = get(&format!(
        "?bpf_filter={}",
        encoded("tcp port 20003 and host 10.0.0.1")
    ))
    .await;
    assert_eq!(one.len(), 2 * 8);
    let syns = get(&format!(
        "?bpf_filter={}&nodes=node-2",
        encoded("tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn")
    ))
    .await;
    assert_eq!(syns.len(), 20);
    assert_eq!(get(&format!("?bpf_filter={}", encoded("udp"))).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tshark_reads_what_is_exported() {
    if !tshark() {
        return;
    }
    let (client, server) = shop(20, 100, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let folder = TempDir::new().expect("a temporary folder");
    for (query, file) in [
        ("", "a.pcap"),
        ("?format=pcapng", "a.pcapng"),
        ("?format=pcapng&bpf_filter=tcp", "b.pcapng"),
    ] {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap{query}"), None)
            .await;
        let path = folder.path().join(file);
        std::fs::write(&path, answer.bytes().await.expect("it arrives whole")).expect("a file");
        let read = Command::new("tshark")
            .arg("-r")
            .arg(&path)
            .args(["-Y", "http.response.code == 503"])
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&read.stderr);
        assert!(
            read.status.success() && !told.contains("cut short"),
            "{query}: {told}"
        );
        // Both nodes have recorded both; tshark takes the second sight of a packet for a retransmission.
        assert_eq!(
            String::from_utf8_lossy(&read.stdout).lines().count(),
            2,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_of_two_recorders_goes_into_one_classic_file() {
    let node = Node::start("node-1", 16 << 10).await;
    let end = wiretape_hub::now() - SECOND;
    let talks = checkouts(40, end, 1000);
    let (before, after) = talks.split_at(20);
    for talk in before {
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }
    // Another takes the tape over, which sees link headers.
    {
        let mut tape = node.tape.lock().expect("no test panics with it");
        for packet in after.iter().flat_map(|talk| talk.seen_by(Who::Client, 0, 0)) {
            let frame = [[0; 12].as_slice(), &[0x08, 0x00], &packet.data].concat();
            tape.append(&wiretape_tape::Packet {
                ts: packet.ts,
                data: &frame,
                orig_len: packet.orig_len + 14,
                link: wiretape_tape::LinkType::ETHERNET,
                ifindex: 1,
                direction: wiretape_tape::Direction::Out,
                cgroup: 0,
                cookie: 0,
                dropped: None,
            })
            .expect("the tape takes it");
        }
        tape.flush().expect("the tape is flushed");
    }
    let hub = TestHub::start(&[&node]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    for query in ["", "?bpf_filter=tcp"] {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap{query}"), None)
            .await;
        assert_eq!(answer.status().as_u16(), 200);
        let bytes = answer.bytes().await.expect("it arrives whole");
        assert_eq!(packets(&bytes).len(), 40 * 8, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_export() {
    let (client, _server) = shop(600, 10_000, 1 << 20).await;
    let hub = TestHub::start(&[&client]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    // More exports than may run at once, each given up after its first bytes.
    for _ in 0..30 {
        let mut answer = hub.client.send("GET", "/mcp/snapshots/a/pcap", None).await;
        if answer.status().as_u16() == 429 {
            // The last ones have not noticed yet.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        }
        assert_eq!(answer.status().as_u16(), 200);
        answer.chunk().await.expect("it begins");
    }
    let ended = async {
        loop {
            let answer = hub.client.send("GET", "/mcp/snapshots/a/pcap", None).await;
            if answer.status().as_u16() == 200 {
                return packets(&answer.bytes().await.expect("it arrives whole")).len();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let count = tokio::time::timeout(std::time::Duration::from_secs(30), ended)
        .await
        .expect("the others have ended");
    assert!(count > 600 * 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packets_of_an_answer_and_no_others() {
    let (client, server) = shop(20, 3000, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "a" })).await;
    ask.dissect("a", "d").await;
    let get = async |query: &str| {
        let answer = ask
            .send("GET", &format!("/mcp/snapshots/a/pcap?{query}"), None)
            .await;
        assert_eq!(answer.status().as_u16(), 200, "{query}");
        answer.bytes().await.expect("it arrives whole")
    };
    let failing = encoded("response.status == 503");
    // The parts of one request and its answer each, as the table has them.
    let raw = ask
        .get(&format!(
            "/mcp/calls?db=a/d&kfl={failing}&fields=req_packets,resp_packets"
        ))
        .await;
    let calls = raw["calls"].as_array().expect("a list");
    assert_eq!(calls.len(), 2);
    let located: usize = calls
        .iter()
        .flat_map(|call| ["req_packets", "resp_packets"].map(|half| &call[half]))
        .map(|half| half.as_array().map_or(0, Vec::len))
        .sum();
    let own = packets(&get(&format!("kfl={failing}")).await);
    assert_eq!(own.len(), located);
    assert!(own.len() >= 4 && own.is_sorted_by_key(|(ts, _)| *ts), "{own:?}");
    let one_node = packets(&get(&format!("kfl={failing}&nodes=node-2")).await);
    assert!(one_node.len() <= own.len());

    let whole = packets(&get(&format!("kfl={failing}&whole_connections=true&format=pcapng")).await);
    let all = packets(&get("db=a/d&whole_connections=true").await);
    let everything = packets(&get("").await);
    assert_eq!(whole.len() * 10, all.len());
    assert_eq!(all, everything);

    for (query, status, error) in [
        ("kfl=response.statsu", 400, "the filter is wrong"),
        (
            "kfl=request.path%20%3D%3D%20%22%2Fno%22",
            404,
            "no call matches: the filter",
        ),
        ("kfl=tcp_conn", 400, "the filter speaks of connections"),
        ("kfl=error&bpf_filter=tcp", 400, "give one of them"),
        ("db=nope/d", 404, "there is no database `nope/d`"),
        ("kfl=error&nodes=node-9", 400, "no packets of a node `node-9`"),
        (
            "kfl=error&whole_connections=some",
            400,
            "`whole_connections` must be true or false",
        ),
    ] {
        let (got, answer) = ask
            .ask("GET", &format!("/mcp/snapshots/a/pcap?{query}"), None)
            .await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(got == status && told.contains(error), "{query}: {got} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wireshark_reads_where_each_call_begins() {
    if !tshark() {
        return;
    }
    let (client, server) = shop(20, 100, 16 << 10).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("failing.pcapng");
    let located = hub
        .client
        .post(
            "/mcp/tools/export_pcap",
            json!({ "kfl": "error", "whole_connections": false, "format": "pcapng" }),
        )
        .await;
    assert_eq!(located["calls"], 2, "{located}");
    let answer = hub
        .client
        .send("GET", located["path"].as_str().expect("a path"), None)
        .await;
    std::fs::write(&path, answer.bytes().await.expect("it arrives whole")).expect("a file");
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .arg(&path)
            .output()
            .expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program}: {errors}");
        String::from_utf8(output.stdout).expect("it is text")
    };
    let told = run(
        "tshark",
        &["-T", "fields", "-e", "frame.comment", "-Y", "frame.comment", "-r"],
    );
    let comments: Vec<&str> = told.lines().collect();
    assert_eq!(comments.len(), 2, "{told}");
    for comment in comments {
        assert!(
            comment.starts_with("call node-1/")
                && comment.contains(": http POST /api/v1/checkout -> 503 server_error in "),
            "{comment}"
        );
    }
    let hosts = run("tshark", &["-q", "-z", "hosts", "-r"]);
    assert!(
        hosts.contains("10.0.0.2") && hosts.contains("checkout"),
        "{hosts}"
    );
    let info = run("capinfos", &["-c", "-M"]);
    assert!(info.contains("Number of packets"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_says_how_far_clocks_were_apart() {
    if !tshark() {
        return;
    }
    let (client, server) = (
        Node::start("node-1", 16 << 10).await,
        Node::start("node-2", 16 << 10).await,
    );
    let mut talk = Talk::new(
        "10.0.0.1:20000",
        "10.0.0.2:8080",
        wiretape_hub::now() - 5 * SECOND,
        (1000, 7_000_000),
    );
    talk.step = SECOND / 10;
    talk.handshake();
    for _ in 0..6 {
        talk.ask("GET /pay HTTP/1.1\r\nHost: pay\r\n\r\n");
        talk.answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    }
    client.record(&talk.seen_by(Who::Client, 0, 0));
    server.record(&talk.seen_by(Who::Server, 1, SECOND / 4));
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    let folder = TempDir::new().expect("a temporary folder");
    let told = async |query: &str| {
        let answer = hub
            .client
            .send("GET", &format!("/mcp/snapshots/a/pcap?{query}"), None)
            .await;
        let bytes = answer.bytes().await.expect("it arrives whole");
        let file = folder.path().join("capture.pcapng");
        std::fs::write(&file, &bytes).expect("a file");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&file).output();
            let output = output.expect("it runs");
            assert!(output.status.success(), "{program} {query}: {output:?}");
            String::from_utf8(output.stdout).expect("it is text")
        };
        // It lists our own blocks among the packets.
        let listed = run(
            "tshark",
            &["-Y", "ip", "-T", "fields", "-e", "frame.number", "-r"],
        );
        let read = listed.lines().count();
        assert_eq!(read, packets(&bytes).len(), "{query}");
        run("capinfos", &["-k"])
    };
    // As segments lie, merged, and by calls.
    let queries = [
        "format=pcapng",
        "format=pcapng&bpf_filter=tcp",
        "format=pcapng&kfl=error",
    ];
    // Nobody has compared the clocks yet.
    for query in &queries[..2] {
        assert!(!told(query).await.contains("ahead"), "{query}");
    }
    hub.client.dissect("a", "d").await;
    for query in queries {
        let comment = told(query).await;
        assert!(
            comment.contains("node-2 is 250.") && comment.contains(" ms ahead of node-1"),
            "{query}: {comment}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_comes_with_the_packets_of_its_connection() {
    use base64::Engine as _;
    let (client, server) = shop(5, 100, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    let calls = hub.client.get("/mcp/calls?db=a/d&limit=1").await;
    let details = hub
        .client
        .post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": calls["calls"][0]["id"], "include_pcap": true }),
        )
        .await;
    let bytes = base64::prelude::BASE64_STANDARD
        .decode(details["pcap"].as_str().expect("a capture"))
        .expect("it is base64");
    assert_eq!(packets(&bytes).len(), 2 * 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_more_than_a_mebibyte_are_fetched_instead() {
    use base64::Engine as _;
    let node = Node::start("node-1", 64 << 20).await;
    let end = wiretape_hub::now() - SECOND;
    // Some 700 packets of 1460 bytes, with 56 bytes around each: below the limit, and above it.
    for (call, body) in [(0, 1_000_000), (1, 1_015_000)] {
        let talk = checkouts(2, end, body).into_iter().nth(call).expect("one of two");
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }
    let hub = TestHub::start(&[&node]).await;
    hub.client.snapshot(json!({ "name": "a" })).await;
    hub.client.dissect("a", "d").await;
    let calls = hub.client.get("/mcp/calls?db=a/d").await;
    assert_eq!(calls["total"], 2);
    let mut details = Vec::new();
    for call in [0, 1] {
        let asked =
            json!({ "id": calls["calls"][call]["id"], "include_pcap": true, "include_payload": false });
        let path = "/mcp/tools/get_api_call_details";
        details.push(hub.client.post(path, asked).await);
    }
    let bytes = base64::prelude::BASE64_STANDARD
        .decode(details[0]["pcap"].as_str().expect("a capture"))
        .expect("it is base64");
    assert!((1_000_000..1 << 20).contains(&bytes.len()), "{}", bytes.len());
    assert!(
        details[1]["pcap"].is_null()
            && details[1]["pcap_error"]
                .as_str()
                .is_some_and(|told| told.contains("more than 1048576 bytes")),
        "{}",
        details[1]
    );
}
