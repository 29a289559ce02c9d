//! Numbers about calls, against those that a plain loop over all calls comes to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wiretape_dissect::testing::{Recorded, Talk};
use wiretape_hub::query::{
    self, Bucket, CallsGroup, CallsQuery, Database, GroupKey, QueryError, Scope, StatsOrder, StatsQuery,
};

use crate::captures::{SECOND, START, dissect_packets, everything, mixed};

/// Three clients and two servers; paths, statuses, latencies and bodies vary.
fn varied() -> Vec<Recorded> {
    let mut talks = Vec::new();
    for client in 1..=3_u32 {
        for server in 1..=2_u32 {
            let (from, to) = (
                format!("10.0.0.{client}:4{server}000"),
                format!("10.0.1.{server}:80"),
            );
            let mut talk = Talk::new(
                &from,
                &to,
                START + u64::from(client * 10 + server) * 1_000_000,
                (1, 1),
            );
            talk.handshake();
            for call in 0..40_u32 {
                talk.now += 250_000_000;
                talk.step = u64::from(1 + (call * client) % 17) * 1_234_567;
                let (method, path) = match call % 3 {
                    0 => ("GET", format!("/users/{}", call * 7 + client)),
                    1 => ("POST", "/api/v1/checkout".to_owned()),
                    _ => ("GET", format!("/users/{call}/orders/{}", "4f9d2c1b".repeat(2))),
                };
                talk.ask(format!("{method} {path} HTTP/1.1\r\nHost: shop\r\n\r\n"));
                let status = match (call + server) % 7 {
                    0 => "503 Unavailable",
                    1 => "404 Not Found",
                    2 => "504 Gateway Timeout",
                    _ => "200 OK",
                };
                let body = "x".repeat((call % 5) as usize * 100);
                talk.answer(format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
            talk.close();
            talks.push(talk.packets);
        }
    }
    mixed(talks)
}

fn shop() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let db = dissect_packets(dir.path(), &varied());
    (dir, db)
}

fn by(keys: &[&str]) -> StatsQuery {
    StatsQuery {
        group_by: keys.iter().map(|key| GroupKey::named(key).unwrap()).collect(),
        max_bytes: 1 << 20,
        ..StatsQuery::default()
    }
}

/// What a loop comes to.
#[derive(Default)]
struct Plain {
    count: u64,
    errors: u64,
    outcomes: BTreeMap<String, u64>,
    latencies: Vec<i64>,
    bytes_in: i64,
    bytes_out: i64,
}

impl Plain {
    fn add(&mut self, call: &Value) {
        self.count += 1;
        let outcome = call["outcome"].as_str().unwrap();
        self.errors += u64::from(!["ok", "unknown"].contains(&outcome));
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
        self.latencies.extend(call["elapsed_ns"].as_i64());
        self.bytes_in += call["req_bytes"].as_i64().unwrap_or(0);
        self.bytes_out += call["resp_bytes"].as_i64().unwrap_or(0);
    }

    fn check(&mut self, told: &Value, what: &str) {
        assert_eq!(told["count"], self.count, "{what}");
        assert_eq!(told["errors"], self.errors, "{what}");
        let rate = (self.errors as f64 / self.count as f64 * 1e6).round() / 1e6;
        assert_eq!(told["error_rate"], rate, "{what}");
        assert_eq!(told["outcomes"], json!(self.outcomes), "{what}");
        assert_eq!(
            (&told["bytes_in"], &told["bytes_out"]),
            (&json!(self.bytes_in), &json!(self.bytes_out))
        );
        self.latencies.sort_unstable();
        let ranked = |percent: usize| {
            let rank = (self.latencies.len() * percent).div_ceil(100);
            self.latencies[rank - 1] as f64 / 1e6
        };
        let sum: i64 = self.latencies.iter().sum();
        let expected = json!({
            "p50": ranked(50), "p90": ranked(90), "p95": ranked(95), "p99": ranked(99), "max": ranked(100),
            "avg": (sum / self.latencies.len() as i64) as f64 / 1e6,
        });
        assert_eq!(told["latency_ms"], expected, "{what}");
    }
}

fn key(call: &Value, keys: &[&str]) -> String {
    let parts = keys.iter().map(|key| match *key {
        "endpoint" => {
            let path: Vec<&str> = call["path"]
                .as_str()
                .unwrap()
                .split('/')
                .map(|part| match part {
                    "4f9d2c1b4f9d2c1b" => "{hex}",
                    part if part.parse::<u32>().is_ok() => "{id}",
                    part => part,
                })
                .collect();
            format!("{} {}", call["method"].as_str().unwrap(), path.join("/"))
        }
        "src" => call["src_ip"].as_str().unwrap().to_owned(),
        "dst" => call["dst_ip"].as_str().unwrap().to_owned(),
        "status" => call["status"].to_string(),
        column => call[column].as_str().unwrap().to_owned(),
    });
    parts.collect::<Vec<_>>().join("|")
}

#[tokio::test]
async fn every_grouping_is_what_a_loop_comes_to() {
    let (_dir, db) = shop();
    let calls = everything(&db).await;
    for keys in [
        vec!["endpoint"],
        vec!["src"],
        vec!["dst", "endpoint"],
        vec!["status"],
        vec!["method", "outcome"],
        vec!["protocol"],
        vec!["node", "src", "dst", "status"],
    ] {
        let answer = query::stats(&db, &by(&keys)).await.unwrap();
        let mut expected = BTreeMap::<String, Plain>::new();
        let mut total = Plain::default();
        for call in &calls {
            expected.entry(key(call, &keys)).or_default().add(call);
            total.add(call);
        }
        total.check(&answer["total"], "all");
        let groups = answer["groups"].as_array().unwrap();
        assert_eq!(
            (groups.len(), &answer["truncated"]),
            (expected.len(), &json!(false)),
            "{keys:?}"
        );
        for group in groups {
            let parts = keys.iter().map(|key| match &group[*key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let name = parts.collect::<Vec<_>>().join("|");
            let rate =
                group["count"].as_u64().unwrap() as f64 / answer["window"]["seconds"].as_f64().unwrap();
            assert_eq!(group["rate"], (rate * 1e3).round() / 1e3);
            expected
                .get_mut(&name)
                .unwrap_or_else(|| panic!("{name}"))
                .check(group, &name);
        }
        let counts: Vec<u64> = groups
            .iter()
            .map(|group| group["count"].as_u64().unwrap())
            .collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    }
}

#[tokio::test]
async fn endpoints_come_with_their_rule_and_two_examples() {
    let (_dir, db) = shop();
    let answer = query::stats(&db, &by(&["endpoint"])).await.unwrap();
    let told: Vec<Value> = answer["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| json!([group["endpoint"], group["count"], group["examples"]]))
        .collect();
    let hex = "4f9d2c1b4f9d2c1b";
    assert_eq!(
        told,
        [
            json!(["GET /users/{id}", 84, ["/users/1", "/users/106"]]),
            json!([
                "GET /users/{id}/orders/{hex}",
                78,
                [
                    format!("/users/11/orders/{hex}"),
                    format!("/users/14/orders/{hex}")
                ]
            ]),
            json!(["POST /api/v1/checkout", 78, ["/api/v1/checkout"]]),
        ]
    );
    assert_eq!(
        answer["placeholders"],
        json!({
            "{id}": "a number",
            "{hex}": "8 or more hexadecimal digits, numerals and letters among them",
        })
    );
    assert_eq!(answer["percentiles"], json!({ "method": "exact" }));
}

#[tokio::test]
async fn orders_limits_and_room() {
    let (_dir, db) = shop();
    let all = query::stats(&db, &by(&["src", "dst", "status"])).await.unwrap();
    let total = all["groups"].as_array().unwrap().len();
    for (order, of) in [
        (StatsOrder::Errors, "/errors"),
        (StatsOrder::P99, "/latency_ms/p99"),
        (StatsOrder::Max, "/latency_ms/max"),
        (StatsOrder::ErrorRate, "/error_rate"),
    ] {
        let query = StatsQuery {
            order,
            limit: Some(5),
            ..by(&["src", "dst", "status"])
        };
        let answer = query::stats(&db, &query).await.unwrap();
        let groups = answer["groups"].as_array().unwrap();
        let told: Vec<f64> = groups
            .iter()
            .map(|group| group.pointer(of).unwrap().as_f64().unwrap())
            .collect();
        assert!(told.len() == 5 && told.is_sorted_by(|a, b| a >= b), "{told:?}");
        assert_eq!(
            (&answer["truncated"], &answer["total_groups"]),
            (&json!(true), &json!(total))
        );
        let most = all["groups"].as_array().unwrap().iter();
        let most = most
            .map(|group| group.pointer(of).unwrap().as_f64().unwrap())
            .fold(0.0, f64::max);
        assert_eq!(told[0], most);
    }
    let small = StatsQuery {
        max_bytes: 1024,
        ..by(&["src", "dst", "status"])
    };
    let answer = query::stats(&db, &small).await.unwrap();
    let shown = answer["groups"].as_array().unwrap().len();
    assert!(
        (1..total).contains(&shown) && answer["truncated"] == true,
        "{shown} of {total}"
    );
    assert!(answer["groups"].to_string().len() <= 1024 + 2);
    for limit in [0, -1, 1001] {
        let query = StatsQuery {
            limit: Some(limit),
            ..by(&["src"])
        };
        assert!(matches!(
            query::stats(&db, &query).await,
            Err(QueryError::BadRequest(_))
        ));
    }
}

#[tokio::test]
async fn series_add_up_and_stand_where_their_calls_are() {
    let (_dir, db) = shop();
    let calls = everything(&db).await;
    let query = StatsQuery {
        bucket: Some(Bucket::Length(2 * SECOND)),
        ..by(&["dst"])
    };
    let answer = query::stats(&db, &query).await.unwrap();
    let buckets = &answer["buckets"];
    assert_eq!(buckets["start_ts"], START / 1_000_000);
    assert_eq!(buckets["bucket_ms"], 2000);
    let count = buckets["count"].as_u64().unwrap() as usize;
    let place = |call: &Value| {
        let ts: jiff::Timestamp = call["ts"].as_str().unwrap().parse().unwrap();
        ((ts.as_nanosecond() - i128::from(START)) / i128::from(2 * SECOND)) as usize
    };
    let check = |series: &Value, of: &dyn Fn(&Value) -> bool| {
        let (mut counts, mut latencies) = (vec![0_u64; count], vec![Vec::new(); count]);
        for call in calls.iter().filter(|call| of(call)) {
            counts[place(call)] += 1;
            latencies[place(call)].extend(call["elapsed_ns"].as_i64());
        }
        assert_eq!(series["count"], json!(counts));
        let p50: Vec<Option<f64>> = latencies
            .iter_mut()
            .map(|all| {
                all.sort_unstable();
                let rank = all.len().div_ceil(2).checked_sub(1)?;
                Some(all[rank] as f64 / 1e6)
            })
            .collect();
        assert_eq!(series["p50_ms"], json!(p50));
    };
    check(&answer["series"], &|_| true);
    for group in answer["groups"].as_array().unwrap() {
        check(&group["series"], &|call| call["dst_ip"] == group["dst"]);
    }
    let auto = StatsQuery {
        bucket: Some(Bucket::Auto),
        ..by(&[])
    };
    let answer = query::stats(&db, &auto).await.unwrap();
    let counts = answer["series"]["count"].as_array().unwrap();
    assert_eq!(counts.iter().filter_map(Value::as_u64).sum::<u64>(), 240);
    let fine = StatsQuery {
        bucket: Some(Bucket::Length(1_000_000)),
        ..by(&[])
    };
    assert!(matches!(
        query::stats(&db, &fine).await,
        Err(QueryError::BadRequest(_))
    ));
}

#[tokio::test]
async fn filters_and_windows_narrow_what_is_counted() {
    let (_dir, db) = shop();
    let calls = everything(&db).await;
    let failing = StatsQuery {
        scope: Scope {
            kfl: Some("response.status >= 500".to_owned()),
            ..Scope::default()
        },
        ..by(&["status"])
    };
    let answer = query::stats(&db, &failing).await.unwrap();
    let expected = calls
        .iter()
        .filter(|call| call["status"].as_i64() >= Some(500))
        .count();
    assert_eq!(answer["total"]["count"], expected);
    assert_eq!(answer["total"]["error_rate"], 1.0);
    let nothing = StatsQuery {
        scope: Scope {
            kfl: Some("response.status == 418".to_owned()),
            ..Scope::default()
        },
        ..by(&["status"])
    };
    let answer = query::stats(&db, &nothing).await.unwrap();
    assert_eq!(
        (&answer["total"]["count"], &answer["groups"]),
        (&json!(0), &json!([]))
    );
    assert!(
        answer["explanation"]
            .as_str()
            .unwrap()
            .contains("matched none of the 240 calls")
    );
    let wrong = StatsQuery {
        scope: Scope {
            start: Some(5),
            end: Some(5),
            ..Scope::default()
        },
        ..by(&[])
    };
    assert!(matches!(
        query::stats(&db, &wrong).await,
        Err(QueryError::BadRequest(_))
    ));
}

#[test]
fn keys_that_there_are_not() {
    let Err(QueryError::BadRequest(message)) = GroupKey::named("pods") else {
        panic!()
    };
    assert!(message.contains("src.pod"), "{message}");
    let five = ["src", "dst", "node", "status", "method"].map(str::to_owned);
    assert!(GroupKey::all_named(&five).is_err());
    let twice = ["svc", "service"].map(str::to_owned);
    assert_eq!(GroupKey::all_named(&twice).unwrap().len(), 1);
}

#[tokio::test]
async fn pages_keep_to_their_room_and_go_on_by_cursor() {
    let (_dir, db) = shop();
    let mut query = CallsQuery {
        limit: Some(100),
        max_bytes: Some(5000),
        group_by: Some(CallsGroup::Node),
        ..CallsQuery::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = query::calls(&db, &query).await.unwrap();
        assert!(serde_json::to_string(&page.calls).unwrap().len() <= 5000 + 2);
        assert_eq!(page.total, 240);
        assert_eq!(page.groups, Some(vec![json!({ "node": "node-1", "total": 240 })]));
        ids.extend(
            page.calls
                .iter()
                .map(|call| call["id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page.truncated, page.cursor.is_some());
        if page.cursor.is_none() {
            break;
        }
        assert!(page.hint.unwrap().contains("5000 bytes"));
        query.cursor = page.cursor;
    }
    let all: Vec<String> = everything(&db)
        .await
        .iter()
        .map(|call| call["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, all);
    // One call is shown even where there is no room for it.
    let tiny = CallsQuery {
        max_bytes: Some(1),
        ..CallsQuery::default()
    };
    assert_eq!(query::calls(&db, &tiny).await.unwrap().calls.len(), 1);
}

#[tokio::test]
async fn only_the_fields_that_are_asked_for() {
    let (_dir, db) = shop();
    let fields = ["path", "status", "id", "path", "req_headers"].map(str::to_owned);
    let query = CallsQuery {
        limit: Some(2),
        fields: query::columns_named(&fields).unwrap(),
        ..CallsQuery::default()
    };
    let page = query::calls(&db, &query).await.unwrap();
    let all = everything(&db).await;
    for (call, whole) in page.calls.iter().zip(&all) {
        let expected = json!({
            "id": whole["id"], "path": whole["path"], "status": whole["status"], "req_headers": whole["req_headers"],
        });
        assert_eq!(*call, expected);
    }
    assert!(page.cursor.is_some());
    let Err(QueryError::BadRequest(message)) = query::columns_named(&["statsu".to_owned()]) else {
        panic!()
    };
    assert!(message.contains("did you mean \"status\"?"), "{message}");
}
