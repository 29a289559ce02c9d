//! A scripted assistant: the conversation of the page "MCP in Action" in fixed steps, through MCP and nothing else.
//! What it finds is computed from the answers alone, so that it can be held against the shop's truth.

mod mcp;
mod transcript;

use std::net::SocketAddr;

use anyhow::Context;
use serde_json::{Value, json};

use mcp::Session;
use transcript::Transcript;

/// The snapshot, as on the page.
const SNAPSHOT: &str = "frontend-analysis";
/// Its dissection, as on the page.
const DISSECTION: &str = "analysis-1";
/// The checkouts that users and cart-service send.
const CHECKOUTS: &str = "dst.svc == \"frontend\" and request.path == \"/api/v1/checkout\"";

/// New connections in a minute, and how fast they open.
const CONNECTIONS: &str = "SELECT count(*) AS opened, \
    count(*) / (date_part('epoch', max(ts) - min(ts)) / 60) AS a_minute, \
    approx_percentile_cont(handshake_us, 0.5) AS p50_us, approx_percentile_cont(handshake_us, 0.9) AS p90_us, \
    approx_percentile_cont(handshake_us, 0.99) AS p99_us \
    FROM connections WHERE transport = 'tcp' AND dst_service = 'catalogue-db'";
/// What payment-service's 503s have in common: how long they took, beside the answers that were none.
const UNAVAILABLE: &str = "WITH answered AS (SELECT min(elapsed_ns) AS fastest, max(elapsed_ns) AS slowest FROM calls \
    WHERE dst_service = 'payment-service' AND status = 200) \
    SELECT elapsed_ns > slowest AS waited, elapsed_ns < fastest AS at_once, count(*) AS calls, \
    min(elapsed_ns) / 1e6 AS fastest_ms, max(elapsed_ns) / 1e6 AS slowest_ms, max(slowest) / 1e6 AS slowest_200_ms \
    FROM calls, answered WHERE dst_service = 'payment-service' AND status = 503 GROUP BY 1, 2 ORDER BY 3 DESC";
/// Connections to the gateway that payment-service gave up.
const RESETS: &str = "SELECT dst_ip, count(*) AS reset, min(last_ts) AS first FROM connections \
    WHERE src_service = 'payment-service' AND client_rsts > 0 GROUP BY dst_ip";

/// What the assistant has found. Times are the wall's, as they were recorded.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Nodes with recorded data.
    pub nodes: u64,
    /// Calls in the snapshot.
    pub calls: u64,
    /// Checkouts at the frontend.
    pub checkouts: u64,
    /// Of these, answered with 503.
    pub checkouts_unavailable: u64,
    /// Bursts in which cart-service sent one request three times or more within 100 ms of the one before.
    pub retry_bursts: u64,
    /// Connections opened to catalogue-db.
    pub database_connections: u64,
    /// The same in a minute.
    pub database_connections_a_minute: f64,
    /// How long their handshakes take in the middle, in microseconds.
    pub handshake_p50_us: f64,
    /// How long all but one in a hundred take at most.
    pub handshake_p99_us: f64,
    /// Share of requests without a correlation id.
    pub without_correlation: f64,
    /// 503s of payment-service that took longer than any 200 of it.
    pub waited: u64,
    /// The fastest of these, in milliseconds: the timeout.
    pub waited_at_least_ms: f64,
    /// The slowest 200 of payment-service, in milliseconds.
    pub slowest_answer_ms: f64,
    /// 503s of payment-service that were faster than any 200 of it: nothing was asked of the gateway.
    pub refused_at_once: u64,
    /// When the gateway became slow, in Unix milliseconds.
    pub gateway_slow_at: u64,
    /// Its median before, in milliseconds.
    pub gateway_before_ms: f64,
    /// Its median after.
    pub gateway_after_ms: f64,
    /// Connections to it that were reset.
    pub resets: u64,
}

/// Holds the conversation with the hub at this address. The findings, and the page that tells of it.
///
/// # Errors
/// A tool that fails, or an answer without what the next step needs.
pub async fn converse(hub: SocketAddr) -> anyhow::Result<(Findings, String)> {
    let (session, begun) = Session::begin(hub).await?;
    let mut assistant = Assistant {
        session,
        transcript: Transcript::default(),
        found: Findings::default(),
    };
    let who = &begun["serverInfo"];
    anyhow::ensure!(who["name"] == "wiretape", "this is {who}");
    assistant.about_frontend().await?;
    assistant.about_the_failures().await?;
    assistant.about_the_proof().await?;
    Ok((assistant.found, assistant.transcript.page()))
}

struct Assistant {
    session: Session,
    transcript: Transcript,
    found: Findings,
}

impl Assistant {
    async fn about_frontend(&mut self) -> anyhow::Result<()> {
        self.transcript
            .user("What can you tell me about my service? The name is frontend.");
        let recorded = self.call("get_data_boundaries", json!({})).await?;
        self.found.nodes = recorded["nodes"].as_array().map_or(0, Vec::len) as u64;
        self.call("create_snapshot", json!({ "name": SNAPSHOT, "duration": "1h" }))
            .await?;
        let asked = json!({ "snapshot_id": SNAPSHOT, "name": DISSECTION });
        let dissected = self.ask("start_snapshot_dissection", &asked).await?;
        let members = ["db", "status", "entry_count", "lost_packets"];
        let shown: Value = members
            .iter()
            .map(|name| (name.to_string(), dissected[name].clone()))
            .collect();
        self.transcript.call("start_snapshot_dissection", &asked, &shown);
        self.found.calls = whole(&dissected, "/entry_count")?;

        let stats = self
            .call(
                "get_api_stats",
                json!({ "db": db(), "kfl": CHECKOUTS, "group_by": "status" }),
            )
            .await?;
        self.found.checkouts = whole(&stats, "/total/count")?;
        let unavailable = row(&stats, "/groups", |group| group["status"] == 503);
        self.found.checkouts_unavailable = unavailable.map_or(Ok(0), |group| whole(group, "/count"))?;

        let asked = json!({ "db": db(), "kfl": "src.svc == \"cart-service\"", "retry_within": "100ms" });
        let timeline = self.ask("get_timeline", &asked).await?;
        self.transcript
            .call("get_timeline", &asked, &json!({ "retries": timeline["retries"] }));
        self.found.retry_bursts = whole(&timeline, "/retries/bursts")?;

        let asked = json!({ "db": db() });
        let timeline = self.ask("get_timeline", &asked).await?;
        let shown = json!({ "correlation": timeline["correlation"], "waiting": timeline["waiting"] });
        self.transcript.call("get_timeline", &asked, &shown);
        self.found.without_correlation =
            number(&timeline, "/correlation/headers/x-correlation-id/share_without")?;

        let connections = self.sql(CONNECTIONS).await?;
        let first = connections
            .first()
            .context("there are no connections to catalogue-db")?;
        self.found.database_connections = whole(first, "/0")?;
        self.found.database_connections_a_minute = number(first, "/1")?;
        self.found.handshake_p50_us = number(first, "/2")?;
        self.found.handshake_p99_us = number(first, "/4")?;

        let Findings {
            nodes,
            calls,
            checkouts,
            checkouts_unavailable,
            ..
        } = self.found;
        let rate = 100.0 * checkouts_unavailable as f64 / checkouts.max(1) as f64;
        let words = format!(
            "Based on {calls} API calls on {nodes} nodes:\n\n\
             - **Checkout failures**: {rate:.1} % of `/api/v1/checkout` return 503 ({checkouts_unavailable} of {checkouts}).\n\
             - **Retry storms**: cart-service sends the same request three times and more, 100 ms at most between two, \
             {} times.\n\
             - **Connection churn**: {:.0} new connections a minute to catalogue-db.\n\
             - **Missing observability**: {:.1} % of requests lack a correlation id.\n\
             - The network is well: handshakes take {:.3} ms (p50), {:.3} ms (p99).",
            self.found.retry_bursts,
            self.found.database_connections_a_minute,
            100.0 * self.found.without_correlation,
            self.found.handshake_p50_us / 1e3,
            self.found.handshake_p99_us / 1e3,
        );
        self.transcript.assistant(&words);
        Ok(())
    }

    async fn about_the_failures(&mut self) -> anyhow::Result<()> {
        self.transcript
            .user("Tell me more about those checkout 503 errors. What's causing them?");
        let kfl = format!("{CHECKOUTS} and response.status == 503");
        self.call("list_api_calls", json!({ "db": db(), "kfl": kfl, "limit": 3 }))
            .await?;

        for row in self.sql(UNAVAILABLE).await? {
            let calls = whole(&row, "/2")?;
            if row[0] == true {
                self.found.waited = calls;
                self.found.waited_at_least_ms = number(&row, "/3")?;
                self.found.slowest_answer_ms = number(&row, "/5")?;
            } else if row[1] == true {
                self.found.refused_at_once = calls;
            }
        }

        let asked = json!({ "db": db(), "kfl": "src.svc == \"payment-service\"" });
        let timeline = self.ask("get_timeline", &asked).await?;
        let shift = row(&timeline, "/events", |event| event["kind"] == "latency_shift");
        let shift = shift.context("the gateway's latency did not change")?;
        self.transcript
            .call("get_timeline", &asked, &json!({ "events": [shift] }));
        self.found.gateway_slow_at = whole(shift, "/ts")?;
        self.found.gateway_before_ms = number(shift, "/before/p50_ms")?;
        self.found.gateway_after_ms = number(shift, "/after/p50_ms")?;
        let gateway = shift["dst"].as_str().unwrap_or_default().to_owned();
        let resets = self.sql(RESETS).await?;
        self.found.resets = resets.first().map_or(Ok(0), |row| whole(row, "/1"))?;

        let found = &self.found;
        let words = format!(
            "**Pattern**: {} of payment-service's 503s took {:.0} ms or longer, and none of its good answers took longer \
             than {:.0} ms: it gives up after a timeout. {} more were refused at once, without asking anybody.\n\n\
             **Root cause**: payment-service waits for {gateway}. At {} its median goes from {:.0} ms to {:.0} ms. What \
             is given up is a connection less: {} were reset, and then the pool is empty.",
            found.waited,
            found.waited_at_least_ms,
            found.slowest_answer_ms,
            found.refused_at_once,
            clock(found.gateway_slow_at),
            found.gateway_before_ms,
            found.gateway_after_ms,
            found.resets,
        );
        self.transcript.assistant(&words);
        Ok(())
    }

    async fn about_the_proof(&mut self) -> anyhow::Result<()> {
        self.transcript.user("Can I see the packets?");
        let kfl = "dst.svc == \"payment-service\" and response.status == 503";
        self.call("export_pcap", json!({ "db": db(), "kfl": kfl }))
            .await?;
        self.transcript
            .assistant("`GET` that path from the hub: it is a capture for Wireshark.");
        Ok(())
    }

    /// Calls a tool, and tells of it.
    async fn call(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        let answer = self.ask(tool, &arguments).await?;
        self.transcript.call(tool, &arguments, &answer);
        Ok(answer)
    }

    /// The rows of a SELECT.
    async fn sql(&mut self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let asked = json!({ "db": db(), "sql": sql });
        let mut answer = self.ask("query_sql", &asked).await?;
        let names: Vec<&Value> = answer["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|column| &column["name"])
            .collect();
        let shown = json!({ "columns": names, "rows": answer["rows"] });
        self.transcript.call("query_sql", &asked, &shown);
        match answer["rows"].take() {
            Value::Array(rows) => Ok(rows),
            other => anyhow::bail!("query_sql gives no rows: {other}"),
        }
    }

    async fn ask(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.session.call(tool, arguments).await
    }
}

fn db() -> String {
    format!("{SNAPSHOT}/{DISSECTION}")
}

fn row<'a>(answer: &'a Value, rows: &str, is: impl Fn(&Value) -> bool) -> Option<&'a Value> {
    answer.pointer(rows)?.as_array()?.iter().find(|row| is(row))
}

fn whole(answer: &Value, at: &str) -> anyhow::Result<u64> {
    let found = answer.pointer(at).and_then(Value::as_u64);
    found.with_context(|| format!("{at} is no number in {answer}"))
}

fn number(answer: &Value, at: &str) -> anyhow::Result<f64> {
    let found = answer.pointer(at).and_then(Value::as_f64);
    found.with_context(|| format!("{at} is no number in {answer}"))
}

/// The time of day, UTC, at some milliseconds since 1970.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000 % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}
