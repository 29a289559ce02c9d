//! What the calls of a timeline say beside their numbers: failures, connections, correlation, waiting.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use wiretape_dissect::Marks;

use super::facts::{CORRELATION, Fact, Facts};
use crate::query::entry::ms;
use crate::query::stats::share;

/// Lines of each list in an answer.
const SHOWN: usize = 20;

/// By how much the clocks of two nodes may differ for a call to count as caused by another, in ns.
const CLOCKS: u64 = 5_000_000;

/// Calls of one request that may be waiting at the same time and are looked at as the cause of another.
const WAITING: usize = 64;

/// The first failure of each server, and the first connection that was reset to it.
pub(super) fn firsts(facts: &Facts) -> Vec<Value> {
    let mut events = Vec::new();
    for (kind, holds) in [
        ("first_failure", Fact::failed as fn(&Fact) -> bool),
        ("first_reset", |fact: &Fact| fact.marked(Marks::RESET)),
    ] {
        // A call has failed when it is over: one that began before may have failed after.
        let mut seen = BTreeMap::<u32, &Fact>::new();
        for fact in facts.all.iter().filter(|fact| holds(fact)) {
            let first = seen.entry(fact.dst).or_insert(fact);
            if fact.end() < first.end() {
                *first = fact;
            }
        }
        for fact in seen.into_values() {
            events.push(json!({
                "ts": fact.end() / 1_000_000,
                "kind": kind,
                "src": facts.words.text(fact.src),
                "dst": facts.words.text(fact.dst),
                "endpoint": facts.words.text(fact.endpoint),
                "status": fact.status,
                "outcome": fact.outcome.as_str(),
                "latency_ms": fact.latency.map(ms),
                "calls": [facts.id(fact)],
            }));
        }
    }
    events
}

/// Failures by server, endpoint, and status or outcome, with their share of the endpoint's calls.
pub(super) fn failures(facts: &Facts) -> Value {
    let mut all = FxHashMap::<(u32, u32), u64>::default();
    let mut failed = FxHashMap::<(u32, u32, Option<i64>, &str), u64>::default();
    for fact in &facts.all {
        *all.entry((fact.dst, fact.endpoint)).or_default() += 1;
        if fact.failed() {
            let key = (fact.dst, fact.endpoint, fact.status, fact.outcome.as_str());
            *failed.entry(key).or_default() += 1;
        }
    }
    let mut lines: Vec<_> = failed
        .into_iter()
        .map(|((dst, endpoint, status, outcome), count)| {
            let of = all.get(&(dst, endpoint)).copied().unwrap_or_default();
            let (dst, endpoint) = (facts.words.text(dst), facts.words.text(endpoint));
            (Reverse(count), dst, endpoint, status, outcome, of)
        })
        .collect();
    lines.sort_unstable();
    let shown = lines.into_iter().take(SHOWN);
    shown
        .map(|(Reverse(count), dst, endpoint, status, outcome, of)| {
            json!({
                "dst": dst, "endpoint": endpoint, "status": status, "outcome": outcome,
                "count": count, "of": of, "share": share(count, of),
            })
        })
        .collect()
}

/// New connections by client and server, as far as calls were made on them.
pub(super) fn connections(facts: &Facts) -> Value {
    #[derive(Default)]
    struct Opened {
        calls: u64,
        joined: u64,
        times: Vec<u64>,
    }
    let mut seen = FxHashMap::<u64, ()>::default();
    let mut peers = BTreeMap::<(&str, &str), Opened>::new();
    for fact in &facts.all {
        let key = (facts.words.text(fact.src), facts.words.text(fact.dst));
        let opened = peers.entry(key).or_default();
        opened.calls += 1;
        if seen.insert(fact.stream, ()).is_none() {
            // Older than the recording: when it was opened is not known.
            if fact.marked(Marks::JOINED) {
                opened.joined += 1;
            } else {
                opened.times.push(fact.ts);
            }
        }
    }
    let mut lines: Vec<_> = peers.into_iter().collect();
    lines.sort_by_key(|(key, opened)| (Reverse(opened.times.len()), *key));
    let shown = lines.into_iter().take(SHOWN);
    shown
        .map(|((src, dst), opened)| {
            let count = opened.times.len() as u64;
            // Between the first and the last: before and after, nobody wanted any.
            let span = match opened.times.as_slice() {
                [first, .., last] => last - first,
                _ => 0,
            };
            let per_minute = (span > 0).then(|| (count as f64 / (span as f64 / 60e9) * 10.0).round() / 10.0);
            let all = (count + opened.joined).max(1);
            json!({
                "src": src,
                "dst": dst,
                "opened": count,
                "opened_before": opened.joined,
                "per_minute": per_minute,
                "calls": opened.calls,
                "calls_per_connection": (opened.calls as f64 / all as f64 * 100.0).round() / 100.0,
            })
        })
        .collect()
}

/// How many requests carry which correlation header, and how many none.
pub(super) fn correlation(facts: &Facts) -> Value {
    let (mut requests, mut without) = (0, 0);
    let mut with = [0_u64; CORRELATION.len()];
    for has in facts.all.iter().filter_map(|fact| fact.correlation) {
        requests += 1;
        without += u64::from(has == 0);
        for (at, count) in with.iter_mut().enumerate() {
            *count += u64::from(has >> at & 1);
        }
    }
    let headers: serde_json::Map<String, Value> = CORRELATION
        .iter()
        .zip(with)
        .filter(|(_, with)| *with > 0)
        .map(|(header, with)| {
            let without = requests - with;
            let told = json!({ "with": with, "without": without, "share_without": share(without, requests) });
            ((*header).to_owned(), told)
        })
        .collect();
    json!({
        "requests_with_headers": requests,
        "without_any": without,
        "share_without_any": share(without, requests),
        "headers": headers,
    })
}

/// How much of their time servers spend waiting for others: of a call, that of the calls which its server makes
/// meanwhile for the same request (by correlation header or idempotency key).
pub(super) fn waiting(facts: &Facts) -> Value {
    let mut serving = FxHashMap::<u64, Vec<&Fact>>::default();
    // By server: the time of its calls. By server and whom it waits for: that time, and the calls.
    let mut whole = BTreeMap::<u32, (u64, u64)>::new();
    let mut inside = BTreeMap::<(u32, u32), (u64, u64)>::new();
    for fact in &facts.all {
        let (Some(request), Some(latency)) = (fact.request, fact.latency) else {
            continue;
        };
        let open = serving.entry(request).or_default();
        open.retain(|parent| parent.end().saturating_add(CLOCKS) >= fact.ts);
        let causes =
            |parent: &&&Fact| parent.dst == fact.src && parent.end().saturating_add(CLOCKS) >= fact.end();
        if let Some(parent) = open.iter().rev().find(causes) {
            let (time, calls) = inside.entry((parent.dst, fact.dst)).or_default();
            *time += latency;
            *calls += 1;
        }
        let (time, calls) = whole.entry(fact.dst).or_default();
        *time += latency;
        *calls += 1;
        if open.len() == WAITING {
            open.remove(0);
        }
        open.push(fact);
    }
    let mut lines: Vec<_> = inside
        .into_iter()
        .map(|((server, other), (time, calls))| {
            let (all, served) = whole.get(&server).copied().unwrap_or_default();
            // Calls that it makes at the same time count each.
            let part = share(time, all).min(1.0);
            let (server, other) = (facts.words.text(server), facts.words.text(other));
            (server, other, part, calls, served)
        })
        .collect();
    lines.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
    let shown = lines.into_iter().take(SHOWN);
    shown
        .map(|(server, other, part, calls, served)| {
            json!({
                "service": server, "waits_for": other, "share_of_time": part,
                "calls_made": calls, "calls_served": served,
            })
        })
        .collect()
}
