//! Flows, and the names of their ends, over HTTP and as tools.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use wiretape_dissect::testing::{Chat, Talk, Who};

use crate::agent::{SECOND, shop};
use crate::hub::TestHub;
use crate::tools::{dissected, golden};

#[tokio::test(flavor = "multi_thread")]
async fn flows_of_a_dissection_as_documented() {
    let (hub, _client, _server) = dissected().await;
    let ask = &hub.client;
    let flows = ask.get("/mcp/flows?db=incident/calls").await;
    golden("flows.json", &flows);
    let summary = ask.get("/api/mcp/flows/summary?db=incident/calls").await;
    golden("flows_summary.json", &summary);

    // Both ends were recorded: their sums add up, as the contract has it.
    let flow = &flows["flows"][0];
    let number = |pointer: &str| flow.pointer(pointer).and_then(Value::as_u64).expect("a number");
    let sides = ["/client_stats", "/server_stats"];
    let all: u64 = sides
        .iter()
        .flat_map(|side| ["tx_pkts", "rx_pkts"].map(|what| number(&format!("{side}/{what}"))))
        .sum();
    assert_eq!(number("/totals/pkts"), all);
    assert_eq!(summary["total_pkts"].as_u64(), Some(all / 2), "each counts once");

    let full = ask.get("/mcp/flows?snapshot=incident&format=full").await;
    let full = &full["flows"][0];
    assert_eq!((&full["connections"], &full["calls"]), (&json!(50), &json!(50)));
    assert!(
        full["client_stats"]["tx_bps"]
            .as_f64()
            .is_some_and(|bits| bits > 0.0)
    );
    let raw = ask.get("/mcp/flows?db=incident/calls&format=raw").await;
    let listed = ask.get("/mcp/calls?db=incident/calls&kfl=flow&format=raw").await;
    assert_eq!(raw["flows"], listed["calls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_by_filter_and_added_up() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let now = wiretape_hub::now();
    let mut chat = Chat::new("10.0.0.1:50000", "10.0.0.9:9999", now - SECOND);
    chat.ask(b"one").answer(b"two!");
    client.record(&chat.seen_by(Who::Client, 0, 0));
    // A third, which only the server's node recorded.
    let mut talk = Talk::new("10.0.0.77:20000", "10.0.0.2:8080", now - SECOND, (1, 2));
    talk.handshake();
    talk.close();
    server.record(&talk.seen_by(Who::Server, 0, 0));
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    ask.snapshot(json!({ "name": "s" })).await;
    ask.dissect("s", "d").await;
    for (query, flows) in [
        ("", 3),
        ("l4proto=udp", 1),
        ("l4proto=tcp", 2),
        ("ip=10.0.0.9", 1),
        ("ip=%3A%3Affff%3A10.0.0.9", 1),
        ("pod=checkout", 2),
        ("pod=xyz789&l4proto=udp", 0),
        ("svc=frontend", 2),
        ("svc=front", 0),
        ("ns=shop", 3),
        ("ns=sho", 0),
        ("kfl=dst.port%20%3D%3D%208080", 2),
        ("kfl=udp_conn", 1),
        ("kfl=src.pod%20contains%20%22frontend%22", 2),
        ("start=1&end=2", 0),
        ("end=2099-01-01T00:00:00Z", 3),
        ("aggregate=pod", 3),
        ("aggregate=namespace", 3),
        ("aggregate=namespace&l4proto=tcp", 2),
        ("aggregate=service&pod=checkout", 2),
    ] {
        let answer = ask.get(&format!("/mcp/flows?db=s/d&{query}")).await;
        assert_eq!(answer["total"], flows, "{query}: {answer}");
        assert_eq!(answer["flows"].as_array().map(Vec::len), Some(flows), "{query}");
        assert_eq!(answer["explanation"].is_string(), flows == 0, "{query}: {answer}");
    }
    let by_pod = ask.get("/mcp/flows?db=s/d&aggregate=pod").await;
    let udp = by_pod["flows"]
        .as_array()
        .and_then(|flows| flows.iter().find(|flow| flow["proto"] == "udp"))
        .expect("a flow");
    assert_eq!(udp["client"], json!({ "ns": "shop", "pod": "frontend-abc123" }));
    assert_eq!(udp["server"], json!({ "ip": "10.0.0.9", "ns": "internal" }));
    assert!(
        udp.get("server_stats").is_none(),
        "nobody recorded that side: {udp}"
    );

    let served = ask.get("/mcp/flows?db=s/d&ip=10.0.0.77").await;
    let served = &served["flows"][0];
    assert!(served.get("client_stats").is_none(), "{served}");
    assert!(
        served["server_stats"]["tcp_handshake_p50_us"].is_u64(),
        "{served}"
    );

    let one = ask.get("/mcp/flows?db=s/d&limit=1&order=time").await;
    assert_eq!((&one["truncated"], &one["total"]), (&json!(true), &json!(3)));
    assert!(one["hint"].is_string() && one["flows"].as_array().map(Vec::len) == Some(1));
    for (query, error) in [
        ("limit=0", "`limit` must be 1 to 1000, not 0"),
        ("aggregate=pods", "did you mean pod?"),
        (
            "aggregate=pod&format=raw",
            "with `aggregate`, ask for compact or full",
        ),
        ("ip=10.0.0.300", "`ip` must be an IPv4 or IPv6 address"),
        ("l4proto=sctp", "`l4proto` must be tcp or udp"),
        ("kfl=tcp_flow", "write `conn_…`, `tcp_conn` or `udp_conn`"),
        ("start=2&end=1", "must be before end"),
    ] {
        let (status, answer) = ask.ask("GET", &format!("/mcp/flows?db=s/d&{query}"), None).await;
        let error_told = answer["error"].as_str().unwrap_or_default();
        assert!(
            status == 400 && error_told.contains(error),
            "{query}: {status} {answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_db_flows_are_those_of_the_last_minutes() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    // No snapshot, no dissection, and live dissection is off.
    let now = ask.get("/mcp/flows").await;
    assert_eq!(now["db"], "@live", "{now}");
    assert_eq!(now["live"]["nodes"], json!(["node-1", "node-2"]));
    assert!(now["live"]["lone"].is_string() && now["live"]["age_ms"].is_u64());
    let summary = ask.get("/mcp/flows/summary").await;
    let tool = ask.post("/mcp/tools/list_l4_flows", json!({})).await;
    assert_eq!(tool["coverage"]["calls"], 20, "{tool}");
    assert_eq!(ask.get("/mcp/dissection").await["enabled"], false);

    // They are what a snapshot of the same packets shows.
    ask.snapshot(json!({ "name": "incident" })).await;
    ask.dissect("incident", "all").await;
    let then = ask.get("/mcp/flows?db=incident/all").await;
    assert_eq!(now["flows"], then["flows"]);
    assert_eq!((&now["total"], &tool["total"]), (&then["total"], &then["total"]));
    let whole = ask.get("/mcp/flows/summary?db=incident/all").await;
    for counted in [
        "total_flows",
        "total_bytes",
        "total_pkts",
        "unique_clients",
        "by_namespace",
    ] {
        assert_eq!(summary[counted], whole[counted], "{counted}");
    }
    assert_eq!(then["live"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_db_and_a_tape_flows_are_of_the_newest_dissection_and_say_so() {
    let hub = TestHub::start(&[]).await;
    for path in ["/mcp/flows", "/mcp/flows/summary"] {
        let (status, answer) = hub.client.ask("GET", path, None).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(
            status == 404
                && told.contains("no dissection is completed yet")
                && told.contains("knows no agents"),
            "{answer}"
        );
    }
    let (hub, client, server) = dissected().await;
    let ask = &hub.client;
    ask.dissect("incident", "again").await;
    for node in [&client, &server] {
        node.faults.refuse.store(true, Ordering::Relaxed);
    }
    let answer = ask.get("/mcp/flows/summary").await;
    assert_eq!(answer["db"], "incident/again");
    assert!(
        answer["warnings"][0]
            .as_str()
            .is_some_and(|told| told.contains("these are those of `incident/again`")),
        "{answer}"
    );
    for tool in ["list_l4_flows", "get_l4_flow_summary"] {
        let answer = ask.post(&format!("/mcp/tools/{tool}"), json!({})).await;
        assert_eq!(answer["coverage"]["calls"], 50, "{answer}");
        assert!(answer["warnings"].is_array());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workloads_and_addresses_are_resolved() {
    let (client, server) = shop(3, 10, 64 << 20).await;
    let now = wiretape_hub::now();
    let name = wiretape_tape::Name {
        since: now - 60 * SECOND,
        addresses: vec!["10.0.0.7".parse().expect("an address")],
        pod: "payment-7".to_owned(),
        namespace: "bank".to_owned(),
        service: "payment".to_owned(),
        labels: [("app", "payment"), ("tier", "back")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..wiretape_tape::Name::default()
    };
    client
        .tape
        .lock()
        .expect("a tape")
        .name(&name)
        .expect("it is taken");
    client
        .tape
        .lock()
        .expect("a tape")
        .flush()
        .expect("it is flushed");
    let hub = TestHub::start(&[&client, &server]).await;
    let ask = &hub.client;
    let (status, answer) = ask.ask("GET", "/mcp/resolve/ips?ip=10.0.0.1", None).await;
    assert_eq!(status, 404, "{answer}");
    ask.snapshot(json!({ "name": "s" })).await;

    let names = |answer: &Value| -> Vec<String> {
        let rows = answer["workloads"].as_array().expect("a list");
        let name = |row: &Value| row["name"].as_str().map(str::to_owned);
        rows.iter().filter_map(name).collect()
    };
    let before = (now - 300 * SECOND) / 1_000_000;
    let before = format!("type=pod&timestamp={before}");
    for (query, expected) in [
        (
            "type=pod",
            vec!["payment-7", "checkout-xyz789", "frontend-abc123"],
        ),
        ("name=checkout&namespace=shop&type=pod", vec!["checkout-xyz789"]),
        (
            "name_regex=%5E(pay%7Cfront)&type=service",
            vec!["payment", "frontend"],
        ),
        ("namespaces=bank,other", vec!["payment", "payment-7"]),
        ("labels=app%3Dpayment,tier%3Dback&type=pod", vec!["payment-7"]),
        ("labels=app%3Dpayment,tier%3Dfront", vec![]),
        (before.as_str(), vec!["checkout-xyz789", "frontend-abc123"]),
    ] {
        let answer = ask
            .get(&format!("/mcp/resolve/workloads?snapshot_id=s&{query}"))
            .await;
        assert_eq!(names(&answer), expected, "{query}: {answer}");
        assert_eq!(answer["total"], expected.len());
        assert_eq!(answer["explanation"].is_string(), expected.is_empty(), "{query}");
    }
    let payment = ask.get("/mcp/resolve/workloads?name=payment-7").await;
    let since = name.since / 1_000_000;
    assert_eq!(
        payment["workloads"][0],
        json!({
            "name": "payment-7", "namespace": "bank", "kind": "pod",
            "labels": { "app": "payment", "tier": "back" },
            "ips": [{ "ip": "10.0.0.7", "timestamp": since }],
        })
    );
    let warning = payment["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("the names of `s`, the newest"), "{payment}");

    let ips = ask.get("/mcp/resolve/ips?snapshot_id=s&ip=10.0.0.7").await;
    assert_eq!(
        ips["ips"],
        json!([{ "ip": "10.0.0.7", "records": [{ "name": "payment-7", "namespace": "bank", "timestamp": since }] }])
    );
    let by_object = ask
        .post("/mcp/tools/resolve_ip", json!({ "labels": { "app": "payment" } }))
        .await;
    assert_eq!(by_object["total"], 1);
    for (query, error) in [
        ("name_regex=%5B", "`name_regex` must be a regular expression"),
        ("type=node", "`type` must be pod or service, not \"node\""),
        ("labels=app", "`labels` must be pairs such as app=checkout"),
        ("timestamp=now", "`timestamp` must be a time"),
    ] {
        let path = format!("/mcp/resolve/workloads?snapshot_id=s&{query}");
        let (status, answer) = ask.ask("GET", &path, None).await;
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && told.starts_with(error), "{query}: {answer}");
    }
}
