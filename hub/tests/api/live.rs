//! Live calls, of agents that go on recording.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wiretape_dissect::testing::Who;
use wiretape_hub::live::Pace;

use crate::agent::{Node, SECOND, checkouts, shop};
use crate::hub::{Client, TestHub};

/// Rounds that follow each other as fast as they can, so that tests are quick.
pub fn quick() -> Pace {
    Pace {
        every: Duration::from_millis(100),
        rest: 0,
        ..Pace::default()
    }
}

/// Asks until an answer will do.
async fn until(ask: &Client, path: &str, will_do: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let (_, answer) = ask.ask("GET", path, None).await;
            if will_do(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .expect("it comes to that")
}

/// Waits until the folder of the rounds is empty.
async fn nothing_stays(hub: &TestHub) {
    let folder = hub.dir.path().join("live");
    let gone = async {
        while std::fs::read_dir(&folder).is_ok_and(|mut left| left.next().is_some()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("its folder is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_end_while_it_is_on_are_there_soon_after() {
    let (client, server) = shop(20, 10, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    let ask = &hub.client;
    let (status, off) = ask.ask("GET", "/mcp/calls", None).await;
    assert_eq!(status, 400);
    assert!(
        off["error"]
            .as_str()
            .is_some_and(|told| told.contains("POST /mcp/dissection/enable"))
    );

    let on = ask.post("/mcp/dissection/enable", json!({})).await;
    assert_eq!(on, json!({ "success": true, "enabled": true }));
    let first = ask.get("/mcp/calls").await;
    assert_eq!((&first["total"], &first["db"]), (&json!(20), &json!("@live")));
    let call = &first["calls"][0];
    assert_eq!(
        (&call["src"]["pod"], &call["dst"]["svc"]),
        (&json!("frontend-abc123"), &json!("checkout"))
    );
    assert_eq!(first["live"]["nodes"], json!(["node-1", "node-2"]));

    // Both tapes go on: only what is new crosses, by a range.
    let ranges = server.faults.ranges.load(Ordering::Relaxed);
    let now = wiretape_hub::now();
    for talk in checkouts(30, now, 20).into_iter().skip(20) {
        client.record(&talk.seen_by(Who::Client, 0, 0));
        server.record(&talk.seen_by(Who::Server, 1, 50_000));
    }
    let later = until(ask, "/mcp/calls?kfl=http", |answer| answer["total"] == 30).await;
    assert_eq!(later["live"]["calls"], 30);
    assert!(server.faults.ranges.load(Ordering::Relaxed) > ranges);

    // All that asks for calls answers about them: one in full, numbers, SQL, flows, tools.
    let id = later["calls"][25]["id"].as_str().expect("it has one");
    assert_eq!(ask.get(&format!("/mcp/calls/{id}")).await["method"], "POST");
    assert_eq!(ask.get("/mcp/stats").await["total"]["count"], 30);
    let counted = ask
        .get("/mcp/sql?sql=SELECT%20count(*)%20AS%20n%20FROM%20calls")
        .await;
    assert_eq!(counted["rows"], json!([[30]]));
    assert_eq!(ask.get("/mcp/flows").await["db"], "@live");
    let by_tool = ask.post("/mcp/tools/list_api_calls", json!({ "limit": 1 })).await;
    assert_eq!(
        (&by_tool["total"], &by_tool["coverage"]["calls"]),
        (&json!(30), &json!(30))
    );
    let details = ask
        .post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": id, "include_pcap": true }),
        )
        .await;
    assert_eq!(details["req_body"], "x".repeat(20));
    assert!(
        details["pcap_error"]
            .as_str()
            .is_some_and(|told| told.contains("of no snapshot")),
        "{details}"
    );
    let databases = ask.get("/mcp/databases").await;
    assert_eq!(databases["databases"][0]["type"], "realtime");
    let boundaries = ask.get("/mcp/l7-data-boundaries").await;
    assert_eq!(boundaries["dissection_enabled"], true);
    assert_eq!(
        boundaries["cluster"]["newest_ts"],
        databases["databases"][0]["last_ts"]
    );

    assert_eq!(
        ask.post("/api/mcp/dissection/disable", json!({})).await,
        json!({ "success": true, "enabled": false })
    );
    assert_eq!(ask.ask("GET", "/mcp/calls", None).await.0, 400);
    assert_eq!(ask.get("/mcp/databases").await["databases"], json!([]));
    nothing_stays(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_round_says_why() {
    let node = Node::start("node-1", 64 << 20).await;
    let hub = TestHub::paced(&[&node], quick()).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    // Nothing was recorded at all.
    let (status, told) = hub.client.ask("GET", "/mcp/calls", None).await;
    let why = told["error"].as_str().or(told["explanation"].as_str());
    assert!(
        why.is_some_and(|why| why.contains("the tape, which is empty")),
        "{status} {told}"
    );
    // Calls, but none that the filter takes.
    let now = wiretape_hub::now();
    for talk in checkouts(3, now, 10) {
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }
    until(&hub.client, "/mcp/calls", |answer| answer["total"] == 3).await;
    let none = hub.client.get("/mcp/calls?kfl=redis").await;
    assert_eq!(none["calls"], json!([]));
    assert!(
        none["explanation"]
            .as_str()
            .is_some_and(|why| why.contains("matched none of the 3 calls"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_switches_itself_off_when_nobody_asks() {
    let (client, server) = shop(5, 10, 64 << 20).await;
    let pace = Pace {
        idle: Duration::from_millis(300),
        ..quick()
    };
    let hub = TestHub::paced(&[&client, &server], pace).await;
    let ask = &hub.client;
    ask.post("/mcp/dissection/enable", json!({})).await;
    assert_eq!(ask.get("/mcp/calls").await["total"], 5);
    // To look how it stands is not to ask for calls.
    let off = until(ask, "/mcp/dissection", |answer| answer["enabled"] == false).await;
    assert!(
        off["explanation"]
            .as_str()
            .is_some_and(|told| told.contains("nobody had asked")),
        "{off}"
    );
    let streams = client.faults.streams.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(client.faults.streams.load(Ordering::Relaxed), streams);
    // On again.
    ask.post("/mcp/dissection/enable", json!({})).await;
    assert_eq!(ask.get("/mcp/calls").await["total"], 5);
}

/// Rounds take each other's place some times a second, and the switch goes off and on, while questions of every kind are asked:
/// who asks has an answer, or a word on what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_outlives_its_round_and_the_switch() {
    let (client, server) = shop(200, 2000, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    let ask = &hub.client;
    let over = AtomicBool::new(false);
    let reads = |path: &'static str| {
        let over = &over;
        async move {
            let (mut answered, mut refused) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                match ask.ask("GET", path, None).await {
                    (200, _) => answered += 1,
                    // Off, or its first round is under way.
                    (400 | 404 | 409 | 503, told) => {
                        assert!(told["error"].is_string(), "{path}: {told}");
                        refused += 1;
                    }
                    (status, told) => panic!("{path}: {status} {told}"),
                }
            }
            (answered, refused)
        }
    };
    let switches = async {
        for _ in 0..20 {
            ask.post("/mcp/dissection/enable", json!({})).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
            ask.post("/mcp/dissection/disable", json!({})).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let ((), full, stats, sql, flows) = tokio::join!(
        switches,
        reads("/mcp/calls?format=full&limit=200"),
        reads("/mcp/stats?group_by=endpoint&bucket=auto"),
        reads("/mcp/sql?sql=SELECT%20status,%20count(*)%20FROM%20calls%20GROUP%20BY%20status"),
        reads("/mcp/flows"),
    );
    let all = [full, stats, sql, flows];
    assert!(all.iter().all(|(answered, _)| *answered > 0), "{all:?}");
    // Which of them meet the moments between is left to chance.
    assert!(all.iter().any(|(_, refused)| *refused > 0), "{all:?}");
    nothing_stays(&hub).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_is_called_off_leaves_no_cut() {
    let (client, _server) = shop(60, 4000, 64 << 10).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::paced(&[&client], quick()).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    client.faults.streaming(2).await;
    client.faults.holding(1).await;
    hub.client.post("/mcp/dissection/disable", json!({})).await;
    client.faults.holding(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_named_and_the_others_answer() {
    let (client, server) = shop(5, 10, 64 << 20).await;
    let hub = TestHub::paced(&[&client, &server], quick()).await;
    let ask = &hub.client;
    ask.post("/mcp/dissection/enable", json!({})).await;
    assert_eq!(ask.get("/mcp/calls").await["total"], 5);
    server.faults.refuse.store(true, Ordering::Relaxed);
    let with_one = until(ask, "/mcp/calls", |answer| answer["live"]["problems"].is_array()).await;
    assert_eq!(with_one["total"], 5);
    assert!(
        with_one["live"]["problems"][0]
            .as_str()
            .is_some_and(|told| told.contains("being serviced")),
        "{with_one}"
    );
    client.faults.refuse.store(true, Ordering::Relaxed);
    let stale = until(ask, "/mcp/calls", |answer| answer["live"]["error"].is_string()).await;
    assert_eq!(stale["total"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_too_many_bytes_is_shortened_and_says_so() {
    // Segments of some ten calls each.
    let (client, server) = shop(60, 4000, 64 << 10).await;
    let pace = Pace {
        most_bytes: 256 << 10,
        ..quick()
    };
    let hub = TestHub::paced(&[&client, &server], pace).await;
    hub.client.post("/mcp/dissection/enable", json!({})).await;
    let answer = hub.client.get("/mcp/calls").await;
    assert!(answer["live"]["shortened"].is_string(), "{answer}");
    let total = answer["total"].as_u64().unwrap_or_default();
    assert!((5..60).contains(&total), "{total}");
    assert!(
        answer["live"]["bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes <= 256 << 10)
    );
    let begins = answer["live"]["start_ts"].as_u64().unwrap_or_default();
    let window = u64::try_from(Pace::default().window.as_millis()).expect("it is short");
    assert!(begins > wiretape_hub::now() / 1_000_000 - window + SECOND / 1_000_000);
}
