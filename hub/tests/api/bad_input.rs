//! Every wrong request: the documented status, an error that says what to do, and nothing changed.

use serde_json::{Value, json};

use crate::agent::{Node, shop};
use crate::hub::TestHub;

/// A request and its answer, as a table reads best.
struct Case {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    status: u16,
    error: &'static str,
}

fn get(path: &'static str, status: u16, error: &'static str) -> Case {
    Case {
        method: "GET",
        path,
        body: None,
        status,
        error,
    }
}

fn post(path: &'static str, body: Value, status: u16, error: &'static str) -> Case {
    Case {
        method: "POST",
        path,
        body: Some(body),
        status,
        error,
    }
}

const NAMES: &str = "cannot be a name: a name has 1 to 128 characters out of A-Z a-z 0-9 . _ - and begins with a letter, a digit or _";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_what_to_do_and_change_nothing() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "good" })).await;
    ask.dissect("good", "d").await;
    let before = (ask.get("/mcp/snapshots").await, ask.get("/mcp/dissections").await);

    let cases = [
        // Snapshots.
        get(
            "/mcp/snapshots/nope",
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        get(
            "/mcp/snapshots/..%2f..%2fetc",
            404,
            "there is no snapshot `../../etc`; there are: good",
        ),
        get(
            "/mcp/snapshots/nope/pcap",
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        Case {
            method: "DELETE",
            ..get(
                "/mcp/snapshots/nope",
                404,
                "there is no snapshot `nope`; there are: good",
            )
        },
        post(
            "/mcp/snapshots",
            json!({}),
            400,
            "`name` is required: a name for the snapshot, e.g. {\"name\": \"incident-001\", \"duration\": \"1h\"}",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "good" }),
            409,
            "there is already a snapshot named `good`; choose another name, or delete it first",
        ),
        post("/mcp/snapshots", json!({ "name": "../good" }), 400, "`../good` "),
        post("/mcp/snapshots", json!({ "name": ".hidden" }), 400, "`.hidden` "),
        post("/mcp/snapshots", json!({ "name": "" }), 400, "`` "),
        post("/mcp/snapshots", json!({ "name": "a/b" }), 400, "`a/b` "),
        post(
            "/mcp/snapshots",
            json!({ "name": ["a"] }),
            400,
            "`name` must be a text, not a list",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "duration": "soon" }),
            400,
            "`duration`: `soon` is not a duration: write 30s, 15m, 1h or 1h30m",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "duration": -5 }),
            400,
            "`duration` must be a duration such as \"1h\", not -5",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "start": "yesterday" }),
            400,
            "`start` must be a time in Unix milliseconds or RFC 3339 (2026-03-29T01:00:00Z), not \"yesterday\"",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "start": 2000, "end": 1000 }),
            400,
            "the window is empty: it begins 1970-01-01T00:00:02Z and ends 1970-01-01T00:00:01Z; its end must be later than its start",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "start": 1000, "end": 2000 }),
            400,
            "there is no tape for the window 1970-01-01T00:00:01Z to 1970-01-01T00:00:02Z: what is recorded now reaches from ",
        ),
        post(
            "/mcp/snapshots",
            json!({ "name": "a", "nodes": ["node-9"] }),
            400,
            "there is no node `node-9`; the nodes are: node-1, node-2",
        ),
        post(
            "/mcp/snapshots",
            json!([]),
            400,
            "the body must be a JSON object, not a list",
        ),
        // Captures.
        get(
            "/mcp/snapshots/good/pcap?nodes=node-9",
            400,
            "the snapshot has no packets of a node `node-9`; its nodes are: node-1, node-2",
        ),
        get(
            "/mcp/snapshots/good/pcap?format=csv",
            400,
            "`format` must be pcap or pcapng, not \"csv\"",
        ),
        get(
            "/mcp/snapshots/good/pcap?start_time=2000&end_time=1000",
            400,
            "the window is empty: `end_time` must be later than `start_time`",
        ),
        get(
            "/mcp/snapshots/good/pcap?bpf_filter=tcp%20prot%2080",
            400,
            "bpf_filter: ",
        ),
        get(
            "/mcp/snapshots/good/pcap?bpf_filter=tcp%00",
            400,
            "bpf_filter: it contains a NUL character; it is written as for tcpdump",
        ),
        // Dissections.
        post(
            "/mcp/dissections",
            json!({}),
            400,
            "`snapshot` (also `snapshot_name`) is required: id or name of a completed snapshot (GET /mcp/snapshots lists them)",
        ),
        post(
            "/mcp/dissections",
            json!({ "snapshot": "nope", "name": "d" }),
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        post(
            "/mcp/dissections",
            json!({ "snapshot": "good", "name": "d" }),
            409,
            "`good` already has a dissection named `d` (completed); ask for its status, choose another name, or delete it",
        ),
        post(
            "/mcp/dissections",
            json!({ "snapshot": "good", "name": "../d" }),
            400,
            "`../d` ",
        ),
        get(
            "/mcp/dissections/good/nope",
            404,
            "`good` has no dissection `nope`; it has: d",
        ),
        get(
            "/mcp/dissections?snapshot=nope",
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        post(
            "/delayed_dissection",
            json!({ "snapshot_name": "nope" }),
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        get(
            "/delayed_dissection.DelayedDissection/GetStatus?message=%7B",
            400,
            "`message` is not JSON: EOF while parsing an object at line 1 column 1; send an object such as {\"name\": \"…\"}",
        ),
        get(
            "/delayed_dissection.DelayedDissection/GetStatus?message=eyJ&base64=1",
            400,
            "`message` is not ",
        ),
        // {"snapshotName":"nope","dissectionName":"d"}
        get(
            "/delayed_dissection.DelayedDissection/GetStatus?connect=v1&encoding=json&base64=1&message=eyJzbmFwc2hvdE5hbWUiOiJub3BlIiwiZGlzc2VjdGlvbk5hbWUiOiJkIn0",
            404,
            "there is no snapshot `nope`; there are: good",
        ),
        // Calls.
        get(
            "/mcp/calls",
            400,
            "`db` is required: <snapshot>/<dissection>; there are: good/d",
        ),
        get(
            "/mcp/calls?db=good/nope",
            404,
            "there is no database `good/nope`; there are: good/d",
        ),
        get(
            "/mcp/calls?db=good/d&format=xml",
            400,
            "`format` must be compact, full or raw, not \"xml\"",
        ),
        get(
            "/mcp/calls?db=good/d&order=random",
            400,
            "`order` must be time, latency or size, not \"random\"",
        ),
        get(
            "/mcp/calls?db=good/d&limit=many",
            400,
            "`limit` must be a whole number, not \"many\"",
        ),
        get("/mcp/calls?db=good/d&limit=0", 400, ""),
        get("/mcp/calls?db=good/d&limit=1001", 400, ""),
        get("/mcp/calls?db=good/d&cursor=rubbish", 400, ""),
        get("/mcp/calls?db=good/d&kfl=response.statsu%3D%3D503", 400, ""),
        get("/mcp/calls/nope/1/2?db=good/d", 404, ""),
        post(
            "/mcp/tools/get_api_call_details",
            json!({ "db": "good/d" }),
            400,
            "id is required",
        ),
        post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": "/1/2", "db": "good/d", "max_payload_size": -1 }),
            400,
            "`max_payload_size` must be 0 to 16777216, not -1",
        ),
        // Routes.
        get(
            "/mcp/snapshot",
            404,
            "there is no route GET /mcp/snapshot; near it are: GET /mcp/snapshots, ",
        ),
        get(
            "/nothing/of/ours",
            404,
            "there is no route GET /nothing/of/ours; GET /mcp lists all routes",
        ),
        Case {
            method: "PUT",
            ..get(
                "/mcp/snapshots",
                405,
                "/mcp/snapshots does not take PUT; it takes GET, POST",
            )
        },
        Case {
            method: "POST",
            ..get("/mcp/calls", 405, "/mcp/calls does not take POST; it takes GET")
        },
    ];
    for case in cases {
        for prefix in ["", "/api"] {
            let (status, answer) = ask
                .ask(case.method, &format!("{prefix}{}", case.path), case.body.clone())
                .await;
            let error = answer["error"].as_str().unwrap_or_default();
            let what = format!(
                "{} {prefix}{} {:?}: {status} {answer}",
                case.method, case.path, case.body
            );
            assert_eq!(status, case.status, "{what}");
            assert!(!error.is_empty() && error.starts_with(case.error), "{what}");
            if case.error.ends_with("` ") {
                assert!(error.ends_with(NAMES), "{what}");
            }
        }
    }
    let after = (ask.get("/mcp/snapshots").await, ask.get("/mcp/dissections").await);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_or_too_long() {
    let hub = TestHub::start(&[]).await;
    let send = async |body: Vec<u8>| {
        let answer = hub.client.send("POST", "/mcp/snapshots", Some(body)).await;
        let status = answer.status().as_u16();
        (
            status,
            answer.json::<Value>().await.expect("the answer is JSON")["error"].clone(),
        )
    };
    let (status, error) = send(b"{\"name\": oops}".to_vec()).await;
    assert_eq!(
        (status, error),
        (
            400,
            json!(
                "the body is not JSON: expected value at line 1 column 10; send an object such as {\"name\": \"…\"}"
            )
        )
    );
    let (status, error) = send(vec![b' '; 10 << 20]).await;
    assert_eq!(
        (status, error),
        (
            413,
            json!("the body is longer than 1048576 bytes; no request here needs that")
        )
    );
    let (status, _) = send(vec![0xff; 100]).await;
    assert_eq!(status, 400);
    let (status, _) = send("[".repeat(100_000).into_bytes()).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rpc_answers_errors_in_connects_form() {
    let hub = TestHub::start(&[]).await;
    let (status, answer) = hub
        .client
        .ask(
            "POST",
            "/delayed_dissection.DelayedDissection/Start",
            Some(json!({ "snapshotName": "x" })),
        )
        .await;
    let message = "there is no snapshot `x`; there are none yet: create one with POST /mcp/snapshots";
    assert_eq!(
        (status, answer),
        (
            404,
            json!({ "code": "not_found", "message": message, "error": message })
        )
    );
    let (status, answer) = hub
        .client
        .ask("GET", "/delayed_dissection.DelayedDissection/GetStatus", None)
        .await;
    assert_eq!(
        (status, &answer["active"], &answer["dissections"]),
        (200, &json!(false), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_nodes_or_tape_says_so() {
    let hub = TestHub::start(&[]).await;
    let (status, answer) = hub
        .client
        .ask("POST", "/mcp/snapshots", Some(json!({ "name": "a" })))
        .await;
    let error = "the hub knows no agents; start it with --node http://HOST:8897 or --nodes-dns NAME:8897";
    assert_eq!((status, answer), (503, json!({ "error": error })));

    let node = Node::start("node-1", 64 << 20).await;
    let hub = TestHub::start(&[&node]).await;
    let (status, answer) = hub
        .client
        .ask("POST", "/mcp/snapshots", Some(json!({ "name": "a" })))
        .await;
    let error =
        "nothing has been recorded yet on any node; check that the agents record (GET /mcp/data-boundaries)";
    assert_eq!((status, answer), (400, json!({ "error": error })));
    let boundaries = hub.client.get("/mcp/data-boundaries").await;
    assert_eq!(
        boundaries["cluster"],
        json!({ "oldest_ts": null, "newest_ts": null })
    );
    assert!(boundaries["explanation"].is_string(), "{boundaries}");
}
