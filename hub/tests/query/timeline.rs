//! What changed when.

use serde_json::{Value, json};
use wiretape_dissect::testing::{Talk, Who};
use wiretape_hub::dissections::{self, Job, Progress};
use wiretape_hub::query::{self, Bucket, Database, Lines, RETRY_WITHIN, Scope, TimelineQuery};

use crate::captures::{SECOND, START, dissect, dissect_packets, dissection, everything, mixed, talk, tape};

const MS: u64 = 1_000_000;

fn asked() -> TimelineQuery {
    TimelineQuery {
        scope: Scope::default(),
        by: Lines::Peers,
        bucket: Bucket::Auto,
        retry_within: RETRY_WITHIN,
        max_bytes: 60_000,
    }
}

/// A call at some time that takes some time.
fn call(talk: &mut Talk, at: u64, takes: u64, request: &str, status: &str) {
    talk.now = START + at;
    talk.step = takes;
    talk.ask(format!("{request}\r\n\r\n"));
    talk.answer(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
}

fn connection(client: &str, server: &str, at: u64) -> Talk {
    let mut talk = Talk::new(client, server, START + at, (7, 11));
    talk.handshake();
    talk
}

fn checkout(key: &str) -> String {
    format!(
        "POST /api/v1/checkout HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: {key}\r\nX-Correlation-Id: {key}"
    )
}

/// A shop whose gateway answers within 200 ms for a minute, then takes four seconds, and fails at times.
fn incident() -> (tempfile::TempDir, Database) {
    let mut talks = Vec::new();
    // payment-service to the gateway, on two connections, so that slow calls do not queue.
    for lane in 0..8_u64 {
        let mut talk = connection(&format!("10.0.0.4:4100{lane}"), "10.0.0.5:80", 0);
        for turn in 0..15 {
            let at = (turn * 8 + lane) * SECOND + 500 * MS;
            let takes = if at < 60 * SECOND {
                190 + lane * 3
            } else {
                4100 + lane * 30
            };
            let status = if at > 80 * SECOND && lane % 2 == 0 {
                "503 Unavailable"
            } else {
                "200 OK"
            };
            call(
                &mut talk,
                at,
                takes * MS,
                "POST /charge HTTP/1.1\r\nHost: gw",
                status,
            );
        }
        talks.push(talk.packets);
    }
    // A cart that sends the same order three times within 100 ms, on connections of their own.
    for retry in 0..3_u64 {
        let at = 90 * SECOND + retry * 30 * MS;
        let mut talk = connection(&format!("10.0.0.2:4200{retry}"), "10.0.0.3:80", at - 20 * MS);
        call(&mut talk, at, 100 * MS, &checkout("order-1"), "503 Unavailable");
        talk.reset(Who::Server);
        talks.push(talk.packets);
    }
    // Two like requests of others, which are no retries: another key, and no failure before it.
    for (port, at, request) in [
        (1, 91 * SECOND, checkout("order-2")),
        (2, 92 * SECOND, "GET /health HTTP/1.1\r\nHost: shop".to_owned()),
        (
            3,
            92 * SECOND + 100 * MS,
            "GET /health HTTP/1.1\r\nHost: shop".to_owned(),
        ),
    ] {
        let mut talk = connection(&format!("10.0.0.2:4300{port}"), "10.0.0.3:80", at - 10 * MS);
        call(&mut talk, at, MS, &request, "200 OK");
        talks.push(talk.packets);
    }
    // The order's own call to the payment service, most of the time that it takes.
    let mut talk = connection("10.0.0.3:44000", "10.0.0.4:80", 89 * SECOND);
    let request = "POST /pay HTTP/1.1\r\nHost: pay\r\nX-Correlation-Id: order-1";
    call(&mut talk, 90 * SECOND + 10 * MS, 80 * MS, request, "200 OK");
    talks.push(talk.packets);
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &mixed(talks));
    (dir, db)
}

fn events<'a>(answer: &'a Value, kind: &str) -> Vec<&'a Value> {
    let all = answer["events"].as_array().unwrap();
    all.iter().filter(|event| event["kind"] == kind).collect()
}

#[tokio::test]
async fn a_slow_gateway_and_what_came_of_it() {
    let (_dir, db) = incident();
    let answer = query::timeline(&db, &asked()).await.unwrap();
    let calls = everything(&db).await;
    assert_eq!(answer["calls"], calls.len());

    let slow = events(&answer, "latency_shift");
    assert_eq!(slow.len(), 1, "{}", answer["events"]);
    let slow = slow[0];
    assert_eq!(
        (&slow["src"], &slow["dst"]),
        (&json!("10.0.0.4"), &json!("10.0.0.5"))
    );
    // The first slow charge began 60.5 s after the start.
    assert_eq!(slow["ts"], START / MS + 60_500);
    let (before, after) = (
        slow["before"]["p50_ms"].as_f64().unwrap(),
        slow["after"]["p50_ms"].as_f64().unwrap(),
    );
    assert!(
        (190.0..212.0).contains(&before) && (4100.0..4320.0).contains(&after),
        "{slow}"
    );
    let evidence = &slow["calls"][0];
    let first = calls.iter().find(|call| call["id"] == *evidence).unwrap();
    assert_eq!(first["path"], "/charge");

    let failing = events(&answer, "error_rate_shift");
    assert_eq!(failing.len(), 1, "{}", answer["events"]);
    assert_eq!(
        (&failing[0]["dst"], &failing[0]["before"]["error_rate"]),
        (&json!("10.0.0.5"), &json!(0.0))
    );
    let firsts = events(&answer, "first_failure");
    assert_eq!(firsts.len(), 2);
    let times: Vec<u64> = answer["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["ts"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted());
    assert_eq!(
        (&firsts[0]["dst"], &firsts[0]["status"]),
        (&json!("10.0.0.5"), &json!(503))
    );

    let line = &answer["lines"][0];
    assert_eq!((&line["dst"], &line["count"]), (&json!("10.0.0.5"), &json!(120)));
    assert_eq!(
        line["series"]["count"].as_array().unwrap().len() as u64,
        answer["buckets"]["count"].as_u64().unwrap()
    );
}

#[tokio::test]
async fn a_retry_storm_is_counted_and_its_likes_are_not() {
    let (_dir, db) = incident();
    let answer = query::timeline(&db, &asked()).await.unwrap();
    let retries = &answer["retries"];
    assert_eq!(
        (
            &retries["retries"],
            &retries["retried_requests"],
            &retries["bursts"]
        ),
        (&json!(2), &json!(1), &json!(1)),
        "{retries}"
    );
    let burst = &retries["longest_bursts"][0];
    assert_eq!(
        (
            &burst["attempts"],
            &burst["span_ms"],
            &burst["src"],
            &burst["endpoint"]
        ),
        (
            &json!(3),
            &json!(60.0),
            &json!("10.0.0.2"),
            &json!("POST /api/v1/checkout")
        )
    );
    assert_eq!(burst["calls"].as_array().unwrap().len(), 3);
    let strict = TimelineQuery {
        retry_within: 20 * MS,
        ..asked()
    };
    assert_eq!(
        query::timeline(&db, &strict).await.unwrap()["retries"]["retries"],
        0
    );
}

#[tokio::test]
async fn failures_connections_correlation_and_waiting() {
    let (_dir, db) = incident();
    let answer = query::timeline(&db, &asked()).await.unwrap();
    let checkout = answer["failures"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["endpoint"] == "POST /api/v1/checkout");
    let checkout = checkout.unwrap();
    assert_eq!(
        (
            &checkout["count"],
            &checkout["of"],
            &checkout["share"],
            &checkout["status"]
        ),
        (&json!(3), &json!(4), &json!(0.75), &json!(503))
    );
    let cart = answer["connections"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["src"] == "10.0.0.2")
        .unwrap();
    // Six of them, from 90.0 s to 92.1 s.
    assert_eq!(
        (&cart["opened"], &cart["calls"], &cart["per_minute"]),
        (&json!(6), &json!(6), &json!(171.4))
    );
    let correlation = &answer["correlation"];
    assert_eq!(
        (&correlation["requests_with_headers"], &correlation["without_any"]),
        (&json!(127), &json!(122))
    );
    assert_eq!(correlation["headers"]["x-correlation-id"]["with"], 5);
    assert_eq!(
        answer["waiting"],
        json!([{
            "service": "10.0.0.3", "waits_for": "10.0.0.4", "share_of_time": 0.265781,
            "calls_made": 1, "calls_served": 4,
        }])
    );
}

#[tokio::test]
async fn lines_by_endpoint_and_within_their_room() {
    let (_dir, db) = incident();
    let by_endpoint = TimelineQuery {
        by: Lines::Endpoint,
        ..asked()
    };
    let answer = query::timeline(&db, &by_endpoint).await.unwrap();
    let slow = events(&answer, "latency_shift");
    assert_eq!((slow.len(), &slow[0]["endpoint"]), (1, &json!("POST /charge")));
    let small = TimelineQuery {
        max_bytes: 1500,
        ..asked()
    };
    let answer = query::timeline(&db, &small).await.unwrap();
    assert!(answer["lines"].to_string().len() <= 1502 && answer["truncated"] == true);
    // The line that changed is the last to go.
    assert_eq!(answer["lines"][0]["dst"], "10.0.0.5");
}

#[tokio::test]
async fn the_first_failure_is_the_one_that_was_over_first() {
    let mut slow = connection("10.0.0.1:40000", "10.0.0.2:80", 0);
    let (asked_slow, asked_quick) = ("GET /slow HTTP/1.1\r\nHost: s", "GET /quick HTTP/1.1\r\nHost: s");
    call(&mut slow, SECOND, 30 * SECOND, asked_slow, "504 Gateway Timeout");
    let mut quick = connection("10.0.0.1:40001", "10.0.0.2:80", 0);
    call(&mut quick, 2 * SECOND, 100 * MS, asked_quick, "503 Unavailable");
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &mixed([slow.packets, quick.packets]));
    let answer = query::timeline(&db, &asked()).await.unwrap();
    let [first] = events(&answer, "first_failure")[..] else {
        panic!("{}", answer["events"]);
    };
    assert_eq!(
        (&first["endpoint"], &first["ts"]),
        (&json!("GET /quick"), &json!(START / MS + 2100)),
        "{first}"
    );
}

#[tokio::test]
async fn nothing_says_why() {
    let (_dir, db) = incident();
    let nothing = TimelineQuery {
        scope: Scope {
            kfl: Some("response.status == 418".to_owned()),
            ..Scope::default()
        },
        ..asked()
    };
    let answer = query::timeline(&db, &nothing).await.unwrap();
    assert!(
        answer["explanation"].as_str().unwrap().contains("matched none"),
        "{answer}"
    );
}

#[tokio::test]
async fn all_nodes_are_told_by_one_clock() {
    const AHEAD: u64 = 3 * SECOND;
    // Six calls from node-1 to node-2, by which their clocks are compared, and one before that fails, between pods of node-2.
    let calls = talk("10.0.0.1:40000", "10.0.0.2:80", START + 20 * SECOND, 6);
    let mut failing = connection("10.0.0.2:41000", "10.0.0.3:80", 10 * SECOND + AHEAD);
    call(
        &mut failing,
        10 * SECOND + AHEAD,
        MS,
        "GET /stock HTTP/1.1\r\nHost: s",
        "503 Unavailable",
    );
    let there = mixed([
        calls.seen_by(Who::Server, 1, AHEAD + MS / 4),
        failing.seen_by(Who::Client, 1, 0),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let sources = vec![
        tape(dir.path(), "node-1", &calls.seen_by(Who::Client, 0, 0)),
        tape(dir.path(), "node-2", &there),
    ];
    let (summary, db) = dissect(dir.path(), sources, Vec::new());
    assert_eq!(summary.clocks.len(), 1, "{:?}", summary.clocks);
    let answer = query::timeline(&db, &asked()).await.unwrap();
    assert_eq!(answer["clocks"]["node"], "node-1");
    let ahead = answer["clocks"]["ahead_ms"]["node-2"].as_f64().unwrap();
    assert!((2999.0..3001.0).contains(&ahead), "{}", answer["clocks"]);
    let failures = events(&answer, "first_failure");
    let of_node_2 = failures.iter().find(|event| event["dst"] == "10.0.0.3").unwrap();
    let at = of_node_2["ts"].as_u64().unwrap() - START / MS;
    assert!((9_999..=10_002).contains(&at), "{of_node_2}");
}

/// A service that is asked four times in each second, seen by a node alone whose clock is ahead of the other's by four
/// seconds, in a snapshot of a minute.
#[tokio::test]
async fn a_window_is_of_one_clock_whatever_the_clocks_of_its_nodes_say() {
    const AHEAD: u64 = 4 * SECOND;
    let compared = talk("10.0.0.1:40000", "10.0.0.2:80", START + 30 * SECOND, 6);
    let mut steady = connection("10.0.0.2:41000", "10.0.0.3:80", 0);
    for n in 0..320 {
        let at = n * 250 * MS + 100 * MS;
        call(&mut steady, at, MS, "GET /stock HTTP/1.1\r\nHost: s", "200 OK");
    }
    let there = mixed([
        compared.seen_by(Who::Server, 1, AHEAD + MS / 4),
        steady.seen_by(Who::Client, 1, 0),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let job = Job {
        sources: vec![
            tape(dir.path(), "node-1", &compared.seen_by(Who::Client, 0, 0)),
            tape(dir.path(), "node-2", &there),
        ],
        window: Some((START + 10 * SECOND, START + 70 * SECOND)),
        out: dissection(dir.path()),
        threads: 2,
        ..Job::default()
    };
    let summary = dissections::run(&job, &Progress::default()).unwrap();
    assert_eq!(summary.calls, 6 + 240);
    let db = Database::open(&job.out).unwrap();
    let ms = |at: u64| i64::try_from((START + at) / MS).unwrap();
    for (start, end, calls) in [
        (Some(20), Some(50), 120),
        // Here the recording ends before the window does: of node-2 at 66 s.
        (Some(40), Some(70), 104),
        (None, Some(50), 176),
        (None, None, 240),
    ] {
        let query = TimelineQuery {
            scope: Scope {
                start: start.map(|start| ms(start * SECOND)),
                end: end.map(|end| ms(end * SECOND)),
                ..Scope::default()
            },
            bucket: Bucket::Length(SECOND),
            ..asked()
        };
        let answer = query::timeline(&db, &query).await.unwrap();
        let what = format!("{start:?} to {end:?}");
        let line = &answer["lines"][0];
        assert_eq!(line["dst"], "10.0.0.3", "{what}");
        assert_eq!(line["count"], calls, "{what}: every call is in a bucket");
        let series = line["series"]["count"].as_array().unwrap();
        let first = series.iter().position(|count| *count != 0).unwrap();
        let recorded = &series[first..first + calls / 4];
        assert!(recorded.iter().all(|count| *count == 4), "{what}: {recorded:?}");
        let shifts = events(&answer, "rate_shift");
        assert!(shifts.is_empty(), "{what}: {shifts:?}");
        // The six that the clocks were compared by are of the thirtieth second.
        let compared = if start > Some(30) { 0 } else { 6 };
        assert_eq!(answer["calls"], calls + compared, "{what}");
    }
}

#[test]
fn clocks_are_compared_though_all_that_was_said_is_over_before_the_other_node_begins() {
    for skew in [SECOND / 4, 2 * SECOND] {
        for (client, server) in [(0, skew), (skew, 0)] {
            let calls: Vec<_> = (0..6)
                .map(|n| {
                    let at = START + n * 10 * MS;
                    talk(&format!("10.0.0.1:{}", 40000 + n), "10.0.0.2:80", at, 1)
                })
                .collect();
            let seen = |who, tape, delay| mixed(calls.iter().map(|call| call.seen_by(who, tape, delay)));
            let dir = tempfile::tempdir().unwrap();
            let sources = vec![
                tape(dir.path(), "node-1", &seen(Who::Client, 0, client)),
                tape(dir.path(), "node-2", &seen(Who::Server, 1, server + MS / 4)),
            ];
            let (summary, _) = dissect(dir.path(), sources, Vec::new());
            let [clocks] = summary.clocks.as_slice() else {
                panic!("{skew}: {:?}", summary.clocks);
            };
            let wrong = clocks.ahead_ns - (server as i64 - client as i64);
            assert!(wrong.unsigned_abs() < MS, "{skew}: {clocks:?}");
            assert_eq!((summary.calls, clocks.calls), (6, 6));
        }
    }
}
