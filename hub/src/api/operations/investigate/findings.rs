//! What a timeline comes to, in sentences: what one would say of it at night, each with what proves it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::snapshots::window;

/// Most findings of each kind.
const EACH: usize = 4;

/// Fewer failures among the calls of an endpoint are not worth a sentence.
const SHARE: f64 = 0.001;
/// A server whose calls wait so much of their time for another does little else.
const WAITING: f64 = 0.5;
/// Connections a minute for one call or two each: whoever opens them has no pool.
const CHURN: (f64, f64) = (60.0, 2.0);
/// A header that so many requests have is a habit, and those without it are what is missing.
const HABIT: (f64, f64) = (0.005, 0.5);

/// The findings, those that need somebody first.
pub(super) fn of(timeline: &Value) -> Vec<Value> {
    [failures, shifts, retries, connections, waiting, correlation]
        .iter()
        .flat_map(|kind| kind(timeline).into_iter().take(EACH))
        .collect()
}

fn rows<'a>(timeline: &'a Value, of: &str) -> impl Iterator<Item = &'a Value> {
    timeline
        .pointer(of)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_default()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_default()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The calls that a peer of an answer was asked, by whichever name it goes.
fn asked(peer: &str) -> String {
    let name = json!(peer);
    match peer.parse::<IpAddr>() {
        Ok(_) => format!("dst.ip == {name}"),
        Err(_) => format!("(dst.svc == {name} or dst.pod == {name})"),
    }
}

fn failures(timeline: &Value) -> Vec<Value> {
    let failed = rows(timeline, "/failures").filter(|row| number(row, "share") >= SHARE);
    failed
        .map(|row| {
            let (dst, outcome) = (text(row, "dst"), text(row, "outcome"));
            let (how, kfl) = match row["status"].as_i64() {
                Some(status) => (format!("with {status}"), format!("status == {status}")),
                None => (format!("({outcome})"), "error".to_owned()),
            };
            json!({
                "kind": "failures",
                "text": format!(
                    "{} of {} at {dst} fail {how}: {} of {}",
                    percent(number(row, "share")), text(row, "endpoint"), row["count"], row["of"]
                ),
                "kfl": format!("{} and {kfl}", asked(dst)),
            })
        })
        .collect()
}

fn shifts(timeline: &Value) -> Vec<Value> {
    rows(timeline, "/events")
        .filter_map(|event| {
            let (what, level): (_, fn(&Value) -> String) = match text(event, "kind") {
                "latency_shift" => ("median latency", |of| format!("{:.1} ms", number(of, "p50_ms"))),
                "error_rate_shift" => ("share of errors", |of| percent(number(of, "error_rate"))),
                "rate_shift" => ("rate", |of| format!("{:.1} calls/s", number(of, "rate"))),
                _ => return None,
            };
            let peers = [text(event, "src"), text(event, "dst"), text(event, "endpoint")];
            let peers: Vec<&str> = peers.into_iter().filter(|peer| !peer.is_empty()).collect();
            Some(json!({
                "kind": text(event, "kind"),
                "ts": event["ts"],
                "text": format!(
                    "{}: {what} of {} went from {} to {}",
                    at(event), peers.join(" -> "), level(&event["before"]), level(&event["after"])
                ),
                "calls": event["calls"],
            }))
        })
        .collect()
}

/// The second of an event.
fn at(event: &Value) -> String {
    let second = event["ts"].as_u64().unwrap_or_default() / 1000;
    window::at(second.saturating_mul(1_000_000_000))
}

fn retries(timeline: &Value) -> Vec<Value> {
    let within = number(&timeline["retries"], "within_ms");
    let bursts = rows(timeline, "/retries/by_peers").filter(|row| number(row, "bursts") > 0.0);
    bursts
        .map(|row| {
            let (src, dst) = (text(row, "src"), text(row, "dst"));
            let longest = rows(timeline, "/retries/longest_bursts")
                .find(|burst| text(burst, "src") == src && text(burst, "dst") == dst);
            json!({
                "kind": "retries",
                "text": format!(
                    "{src} sends {} to {dst} again within {within} ms: {} retries, {} times three attempts or more",
                    text(row, "endpoint"), row["retries"], row["bursts"]
                ),
                "calls": longest.map_or(json!([]), |burst| burst["calls"].clone()),
            })
        })
        .collect()
}

fn connections(timeline: &Value) -> Vec<Value> {
    let (often, few) = CHURN;
    let churn = rows(timeline, "/connections")
        .filter(|row| number(row, "per_minute") >= often && number(row, "calls_per_connection") <= few);
    churn
        .map(|row| {
            let dst = text(row, "dst");
            json!({
                "kind": "connections",
                "text": format!(
                    "{} opens {:.0} connections a minute to {dst}, with {} calls on each",
                    text(row, "src"), number(row, "per_minute"), row["calls_per_connection"]
                ),
                "kfl": format!("tcp_conn and {}", asked(dst)),
            })
        })
        .collect()
}

fn waiting(timeline: &Value) -> Vec<Value> {
    let waits = rows(timeline, "/waiting").filter(|row| number(row, "share_of_time") >= WAITING);
    waits
        .map(|row| {
            let other = text(row, "waits_for");
            json!({
                "kind": "waiting",
                "text": format!(
                    "{} waits for {other} in {} of the time that its calls take",
                    text(row, "service"), percent(number(row, "share_of_time"))
                ),
                "kfl": asked(other),
            })
        })
        .collect()
}

fn correlation(timeline: &Value) -> Vec<Value> {
    let (some, most) = HABIT;
    let headers = timeline
        .pointer("/correlation/headers")
        .and_then(Value::as_object);
    let habits = headers.into_iter().flatten().filter(|(_, told)| {
        let without = number(told, "share_without");
        (some..=most).contains(&without)
    });
    habits
        .map(|(header, told)| {
            json!({
                "kind": "correlation",
                "text": format!("{} of requests have no {header}", percent(number(told, "share_without"))),
                "kfl": format!("request.headers[{}] == \"\"", json!(header)),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_out_of_a_timeline() {
        let timeline = json!({
            "failures": [
                { "dst": "frontend", "endpoint": "POST /api/v1/checkout", "status": 503, "outcome": "server_error",
                  "count": 127, "of": 5522, "share": 0.022999 },
                { "dst": "cache", "endpoint": "GET", "status": null, "outcome": "no_response", "count": 1, "of": 99999,
                  "share": 0.00001 },
            ],
            "events": [
                { "kind": "first_failure", "ts": 1 },
                { "kind": "latency_shift", "ts": 1_706_746_978_500_u64, "src": "payment", "dst": "gateway",
                  "before": { "p50_ms": 200.0 }, "after": { "p50_ms": 4412.0 }, "calls": ["node-2/1/7"] },
            ],
            "retries": {
                "within_ms": 1000,
                "by_peers": [{ "src": "cart", "dst": "frontend", "endpoint": "POST /x", "retries": 381, "bursts": 127 }],
                "longest_bursts": [{ "src": "cart", "dst": "frontend", "calls": ["node-1/2/0", "node-1/2/1"] }],
            },
            "connections": [
                { "src": "catalogue", "dst": "db", "per_minute": 847.2, "calls_per_connection": 1.0 },
                { "src": "cart", "dst": "redis", "per_minute": 600.0, "calls_per_connection": 40.0 },
            ],
            "waiting": [{ "service": "checkout", "waits_for": "payment", "share_of_time": 0.93 }],
            "correlation": { "headers": {
                "x-correlation-id": { "share_without": 0.12 }, "x-request-id": { "share_without": 0.0 },
                "traceparent": { "share_without": 0.99 } } },
        });
        let found = of(&timeline);
        let told: Vec<&str> = found.iter().map(|finding| text(finding, "text")).collect();
        assert_eq!(
            told,
            [
                "2.3 % of POST /api/v1/checkout at frontend fail with 503: 127 of 5522",
                "2024-02-01T00:22:58Z: median latency of payment -> gateway went from 200.0 ms to 4412.0 ms",
                "cart sends POST /x to frontend again within 1000 ms: 381 retries, 127 times three attempts or more",
                "catalogue opens 847 connections a minute to db, with 1.0 calls on each",
                "checkout waits for payment in 93.0 % of the time that its calls take",
                "12.0 % of requests have no x-correlation-id",
            ]
        );
        assert_eq!(
            found[0]["kfl"],
            "(dst.svc == \"frontend\" or dst.pod == \"frontend\") and status == 503"
        );
        assert_eq!(found[1]["calls"], json!(["node-2/1/7"]));
        assert_eq!(of(&json!({ "calls": 0 })), Vec::<Value>::new());
    }
}
