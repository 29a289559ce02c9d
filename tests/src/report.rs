//! The findings, computed from the hub's answers and from nothing else.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use wiretape_shop::story;

use crate::call::Call;
use crate::investigation::Evidence;
use crate::packets;

/// Requests within this time (of the story) are a retry storm, in milliseconds.
const STORM_MS: f64 = 100.0;
/// How many it takes.
const STORM: usize = 3;
/// What is slower than the first calls' median by this factor has become slow.
const SLOWER: f64 = 5.0;
/// Calls at the beginning that say what is usual.
const USUAL: usize = 20;
/// Lines of the table of the gateway's latency.
const PERIODS: usize = 12;
/// Paths in the table of errors.
const PATHS: usize = 8;

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many times as fast as the wall's clock the story was played. All times below are the story's.
    pub time_scale: f64,
    /// Nodes with recorded data.
    pub nodes: usize,
    /// Bytes in the snapshot.
    pub snapshot_bytes: u64,
    /// Packets that the recorders lost.
    pub lost_packets: u64,
    /// Calls in all.
    pub calls: usize,
    /// Calls out of the frontend.
    pub outbound: usize,
    /// Calls into the frontend.
    pub inbound: usize,
    /// Calls by class of status (`2xx`; `none` without an answer).
    pub statuses: BTreeMap<String, usize>,
    /// Latency of calls to the frontend, in ms.
    pub latency: Latency,
    /// The paths with the most errors (5xx or no answer).
    pub errors: Vec<PathErrors>,
    /// Checkouts at the frontend, and how many of them returned 503.
    pub checkouts: (usize, usize),
    /// How often cart-service sent the same request three times within 100 ms.
    pub retry_storms: usize,
    /// Connections opened to catalogue-db.
    pub database_connections: usize,
    /// The same in a minute.
    pub database_connections_per_minute: f64,
    /// Share of checkout's time that it waits for payment-service.
    pub waiting_for_payment: f64,
    /// Share of calls without a correlation id.
    pub without_correlation: f64,
    /// What most users did, in order.
    pub journey: String,
    /// Connections to the gateway that were reset.
    pub resets: usize,
    /// The gateway's latency over time.
    pub gateway: Vec<Period>,
    /// What happened, with the time of day in the story.
    pub timeline: Vec<Moment>,
}

/// Percentiles, in ms.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of the calls are not slower.
    pub p50: f64,
    /// 99 of 100 are not slower.
    pub p99: f64,
}

/// Errors of one path.
#[derive(Clone, Debug, Serialize)]
pub struct PathErrors {
    /// Service, method and path; numbers in it are written `N`.
    pub path: String,
    /// Calls.
    pub calls: usize,
    /// Of these, 5xx or without an answer.
    pub errors: usize,
}

/// Some seconds of calls to the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Period {
    /// When it begins: time of day in the story.
    pub from: String,
    /// Calls begun.
    pub calls: usize,
    /// Their latency.
    pub latency: Latency,
    /// Calls without an answer.
    pub unanswered: usize,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// Time of day in the story.
    pub at: String,
    /// What.
    pub what: String,
}

impl Report {
    /// Looks at the evidence. `began` is when the story did, in ms since 1970.
    pub fn new(evidence: &Evidence, began: u64, time_scale: f64) -> Self {
        let time = StoryTime {
            began: began as f64,
            scale: time_scale,
        };
        let calls = &evidence.calls;
        let opened = packets::opened(&evidence.database_opens);
        let resets = packets::reset(&evidence.gateway_resets);
        let checkouts: Vec<_> = evidence
            .inbound
            .iter()
            .filter(|call| call.path == "/api/v1/checkout")
            .collect();
        let failed = checkouts.iter().filter(|call| call.status() == Some(503)).count();
        Self {
            time_scale,
            nodes: evidence.nodes.len(),
            snapshot_bytes: evidence.snapshot_bytes,
            lost_packets: evidence.lost_packets,
            calls: calls.len(),
            outbound: evidence.outbound.len(),
            inbound: evidence.inbound.len(),
            statuses: statuses(calls),
            latency: latency(&evidence.inbound, time),
            errors: errors(calls),
            checkouts: (checkouts.len(), failed),
            retry_storms: retry_storms(&evidence.inbound, time),
            database_connections: opened.len(),
            database_connections_per_minute: per_minute(opened.into_values(), time),
            waiting_for_payment: waiting_for_payment(calls),
            without_correlation: share(calls, |call| !call.req_headers.contains_key("x-correlation-id")),
            journey: journey(&evidence.inbound),
            resets: resets.len(),
            gateway: periods(&evidence.gateway, time),
            timeline: timeline(evidence, resets.into_values().min(), time),
        }
    }
}

/// Turns the wall's times into the story's.
#[derive(Clone, Copy)]
struct StoryTime {
    began: f64,
    scale: f64,
}

impl StoryTime {
    /// The story's time of day at a time in ms since 1970.
    fn clock(self, ms: f64) -> String {
        let seconds = ((ms - self.began) * self.scale / 1000.0).max(0.0) as u64 + begins();
        format!(
            "{:02}:{:02}:{:02}",
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60
        )
    }

    /// A span of time, in ms, as long as it is in the story.
    fn span(self, ms: f64) -> f64 {
        ms * self.scale
    }
}

/// When the story begins, in seconds of the day.
fn begins() -> u64 {
    story::BEGINS.split(':').fold(0, |seconds, part| {
        seconds * 60 + part.parse::<u64>().unwrap_or_default()
    })
}

fn statuses(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut statuses = BTreeMap::new();
    for call in calls {
        let class = call
            .status()
            .map_or_else(|| "none".to_owned(), |status| format!("{}xx", status / 100));
        *statuses.entry(class).or_default() += 1;
    }
    statuses
}

fn latency(calls: &[Call], time: StoryTime) -> Latency {
    let mut latencies: Vec<_> = calls.iter().filter_map(|call| call.latency_ms).collect();
    latencies.sort_by(f64::total_cmp);
    let percentile = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100).saturating_sub(1);
        time.span(latencies.get(rank).copied().unwrap_or_default())
    };
    Latency {
        p50: percentile(50),
        p99: percentile(99),
    }
}

fn errors(calls: &[Call]) -> Vec<PathErrors> {
    let mut paths = BTreeMap::<String, (usize, usize)>::new();
    for call in calls {
        let parts: Vec<_> = call
            .path
            .split('/')
            .map(|part| if part.parse::<u64>().is_ok() { "N" } else { part })
            .collect();
        let to = if call.dst.svc.is_empty() {
            call.dst.ip.to_string()
        } else {
            call.dst.svc.clone()
        };
        let (all, bad) = paths
            .entry(format!("{to} {} {}", call.method, parts.join("/")))
            .or_default();
        *all += 1;
        *bad += usize::from(call.status().is_none_or(|status| status >= 500));
    }
    let mut errors: Vec<_> = paths
        .into_iter()
        .map(|(path, (calls, errors))| PathErrors { path, calls, errors })
        .collect();
    errors.sort_by_key(|path| std::cmp::Reverse((path.errors, path.calls)));
    errors.truncate(PATHS);
    errors
}

/// How many requests of cart-service came as three retries of one another within [`STORM_MS`].
fn retry_storms(inbound: &[Call], time: StoryTime) -> usize {
    let mut orders = BTreeMap::<&str, Vec<f64>>::new();
    for call in inbound.iter().filter(|call| call.src.svc == "cart-service") {
        if let Some(key) = call.req_headers.get("idempotency-key") {
            orders.entry(key).or_default().push(call.ts as f64);
        }
    }
    let mut storms = 0;
    for times in orders.values_mut() {
        times.sort_by(f64::total_cmp);
        // Times are told in whole milliseconds of the wall's clock: one may be rounded up and the other down.
        let storm = |window: &[f64]| match window {
            [first, .., last] => time.span(last - first - 1.0) <= STORM_MS,
            _ => false,
        };
        storms += usize::from(times.windows(STORM).any(storm));
    }
    storms
}

/// Opened in a minute of the story, while there was any.
fn per_minute(opened: impl Iterator<Item = u64>, time: StoryTime) -> f64 {
    let mut times: Vec<_> = opened.collect();
    times.sort_unstable();
    match times.as_slice() {
        [first, .., last] if last > first => {
            times.len() as f64 / (time.span((last - first) as f64 / 1e6) / 60_000.0)
        }
        _ => 0.0,
    }
}

/// Share of checkout's time in which a call of its own to payment-service, for the same order, is under way.
fn waiting_for_payment(calls: &[Call]) -> f64 {
    let mut payments = BTreeMap::<&str, Vec<&Call>>::new();
    for call in calls.iter().filter(|call| call.dst.svc == "payment-service") {
        if let Some(key) = call.req_headers.get("idempotency-key") {
            payments.entry(key).or_default().push(call);
        }
    }
    let (mut whole, mut waiting) = (0.0, 0.0);
    for order in calls.iter().filter(|call| call.dst.svc == "checkout") {
        let Some(latency) = order.latency_ms else { continue };
        whole += latency;
        let inside = order
            .req_headers
            .get("idempotency-key")
            .and_then(|key| payments.get(key.as_str()))
            .and_then(|payments| {
                payments
                    .iter()
                    .filter(|call| call.ts >= order.ts && call.end() <= order.end() + 1.0)
                    .filter_map(|call| call.latency_ms)
                    .min_by(|a, b| (latency - a).abs().total_cmp(&(latency - b).abs()))
            });
        waiting += inside.unwrap_or_default().min(latency);
    }
    if whole > 0.0 { waiting / whole } else { 0.0 }
}

/// The commonest order of pages on one user's connection.
fn journey(inbound: &[Call]) -> String {
    let mut connections = BTreeMap::<_, Vec<&Call>>::new();
    for call in inbound.iter().filter(|call| call.src.pod.is_empty()) {
        connections
            .entry((call.src.ip, call.src.port))
            .or_default()
            .push(call);
    }
    let mut journeys = BTreeMap::<String, usize>::new();
    for calls in connections.values_mut() {
        calls.sort_by_key(|call| call.ts);
        let mut pages: Vec<_> = calls
            .iter()
            .filter_map(|call| call.path.strip_prefix("/api/v1/"))
            .map(|page| page.trim_end_matches(|last: char| last.is_ascii_digit() || last == '/'))
            .collect();
        pages.dedup();
        *journeys.entry(pages.join(" -> ")).or_default() += 1;
    }
    let commonest = journeys.into_iter().max_by_key(|(_, count)| *count);
    commonest.map(|(journey, _)| journey).unwrap_or_default()
}

fn periods(gateway: &[Call], time: StoryTime) -> Vec<Period> {
    let length = story::LENGTH.as_millis() as f64 / time.scale / PERIODS as f64;
    (0..PERIODS)
        .map(|period| {
            let from = time.began + length * period as f64;
            let calls: Vec<_> = gateway
                .iter()
                .filter(|call| (from..from + length).contains(&(call.ts as f64)))
                .cloned()
                .collect();
            Period {
                from: time.clock(from),
                calls: calls.len(),
                latency: latency(&calls, time),
                unanswered: calls.iter().filter(|call| call.status().is_none()).count(),
            }
        })
        .collect()
}

fn timeline(evidence: &Evidence, first_reset: Option<u64>, time: StoryTime) -> Vec<Moment> {
    let mut moments = Vec::new();
    let mut gateway: Vec<_> = evidence.gateway.iter().collect();
    gateway.sort_by_key(|call| call.ts);
    let usual: Vec<_> = gateway.iter().take(USUAL).map(|call| (*call).clone()).collect();
    let usual = latency(&usual, time).p50;
    let slow = gateway
        .iter()
        .filter_map(|call| Some((call.ts as f64, time.span(call.latency_ms?))))
        .find(|(_, latency)| *latency > usual * SLOWER);
    if let Some((at, latency)) = slow {
        let what = format!("gateway latency: {usual:.0} ms -> {:.1} s", latency / 1000.0);
        moments.push((at, what));
    }
    let unavailable = evidence
        .calls
        .iter()
        .filter(|call| call.dst.svc == "payment-service" && call.status() == Some(503));
    let first = unavailable.clone().min_by(|a, b| a.end().total_cmp(&b.end()));
    if let Some(call) = first {
        let waited = time.span(call.latency_ms.unwrap_or_default()) / 1000.0;
        moments.push((
            call.end(),
            format!("first 503 from payment-service, after {waited:.1} s"),
        ));
    }
    if let Some(reset) = first_reset {
        let what = "first connection to the gateway reset by payment-service (TCP RST)";
        moments.push((reset as f64 / 1e6, what.to_owned()));
    }
    // Answered sooner than a well gateway would: it was not even asked.
    let refused = unavailable
        .filter(|call| time.span(call.latency_ms.unwrap_or(f64::MAX)) < usual / 2.0)
        .min_by_key(|call| call.ts);
    if let Some(call) = refused {
        let what = "connection pool exhausted: payment-service refuses at once";
        moments.push((call.ts as f64, what.to_owned()));
    }
    moments.sort_by(|a, b| a.0.total_cmp(&b.0));
    moments
        .into_iter()
        .map(|(at, what)| Moment {
            at: time.clock(at),
            what,
        })
        .collect()
}

fn share(calls: &[Call], of: impl Fn(&Call) -> bool) -> f64 {
    if calls.is_empty() {
        return 0.0;
    }
    calls.iter().filter(|call| of(call)).count() as f64 / calls.len() as f64
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checkouts, failed) = self.checkouts;
        let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
        writeln!(
            f,
            "Based on {} API calls on {} nodes ({:.1} MB, {} packets lost in recording).",
            self.calls,
            self.nodes,
            self.snapshot_bytes as f64 / 1e6,
            self.lost_packets
        )?;
        writeln!(
            f,
            "Times are the story's: it was played {} times as fast.\n",
            self.time_scale
        )?;
        let statuses: Vec<_> = self
            .statuses
            .iter()
            .map(|(class, calls)| format!("{class} {:.1} %", percent(*calls, self.calls)))
            .collect();
        writeln!(
            f,
            "  frontend        {} calls out, {} calls in",
            self.outbound, self.inbound
        )?;
        writeln!(
            f,
            "  latency         p50 {:.0} ms, p99 {:.0} ms",
            self.latency.p50, self.latency.p99
        )?;
        writeln!(f, "  statuses        {}", statuses.join(", "))?;
        writeln!(f, "  user journey    {}\n", self.journey)?;
        writeln!(f, "Needs attention")?;
        writeln!(
            f,
            "  1. Checkout failures: {:.1} % of /api/v1/checkout return 503 ({failed} of {checkouts})",
            percent(failed, checkouts)
        )?;
        writeln!(
            f,
            "  2. Retry storms: cart-service sent the same request {STORM} times within {STORM_MS} ms, {} times",
            self.retry_storms
        )?;
        writeln!(
            f,
            "  3. Connection churn: {:.0} new connections a minute to catalogue-db ({} in all)",
            self.database_connections_per_minute, self.database_connections
        )?;
        writeln!(
            f,
            "  4. Synchronous blocking: checkout waits for payment-service in {:.0} % of its time",
            100.0 * self.waiting_for_payment
        )?;
        writeln!(
            f,
            "  5. Missing observability: {:.1} % of requests lack a correlation id\n",
            100.0 * self.without_correlation
        )?;
        writeln!(f, "Errors by path (5xx or no answer)")?;
        for path in self.errors.iter().filter(|path| path.errors > 0) {
            writeln!(
                f,
                "  {:5.1} %  {:5} of {:5}  {}",
                percent(path.errors, path.calls),
                path.errors,
                path.calls,
                path.path
            )?;
        }
        writeln!(f, "\npayment-service -> gateway")?;
        for period in &self.gateway {
            let bar = "#".repeat((period.latency.p50 / 200.0).ceil() as usize);
            writeln!(
                f,
                "  {}  {:3} calls  p50 {:5.0} ms  {:2} unanswered  {bar}",
                period.from, period.calls, period.latency.p50, period.unanswered
            )?;
        }
        writeln!(f, "\nTimeline")?;
        for moment in &self.timeline {
            writeln!(f, "  {}  {}", moment.at, moment.what)?;
        }
        Ok(())
    }
}
