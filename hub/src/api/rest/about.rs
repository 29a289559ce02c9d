//! What the hub says of itself: routes, version, health, counters.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::api::mcp::PROMPTS;
use crate::api::params::Params;
use crate::api::routes::{self, ROUTES};
use crate::api::{App, grpc, tools};
use crate::cluster::Status;

/// Clients of both kinds read this: those that look for `endpoints` and those that look for `tools` (contract 1.3).
pub(in crate::api) async fn discovery() -> Json<Value> {
    let endpoints: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            let params: Vec<Value> = route
                .takes()
                .map(|param| json!({ "name": param.name, "type": param.kind.word(), "description": param.told() }))
                .collect();
            json!({
                "path": route.path,
                "method": route.method,
                "description": route.description,
                "params": params,
            })
        })
        .collect();
    let tools: Vec<Value> = tools::all()
        .map(|tool| {
            json!({
                "name": tool.name,
                "title": tool.title,
                "description": tool.description,
                "inputSchema": tools::input(tool),
            })
        })
        .collect();
    let prompts: Vec<Value> = PROMPTS
        .iter()
        .map(|prompt| {
            let arguments: Vec<Value> = prompt
                .arguments
                .iter()
                .map(|argument| {
                    json!({
                        "name": argument.name,
                        "description": argument.description,
                        "required": argument.required,
                    })
                })
                .collect();
            json!({ "name": prompt.name, "description": prompt.description, "arguments": arguments })
        })
        .collect();
    Json(json!({
        "name": "Wiretape",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Recorded traffic of a cluster: cut a window of time into a snapshot, dissect it into API calls, \
                        ask for them. Times are Unix milliseconds, UTC.",
        "endpoints": endpoints,
        "tools": tools,
        "prompts": prompts,
    }))
}

pub(super) async fn openapi(_: Params) -> Json<Value> {
    Json(routes::openapi())
}

pub(super) async fn proto(_: Params) -> &'static str {
    grpc::PROTO
}

pub(super) async fn echo(_: Params) -> Json<Value> {
    Json(json!({ "name": "wiretape-hub", "version": env!("CARGO_PKG_VERSION") }))
}

/// Unhealthy is a hub that cannot keep or find snapshots. Agents that do not answer are told by the boundaries.
pub(super) async fn healthz(State(app): State<App>, _: Params) -> impl IntoResponse {
    let mut reasons = Vec::new();
    if let Err(error) = app.hub.catalogue.refresh().await {
        reasons.push(error.to_string());
    }
    if let Err(error) = app.hub.room() {
        reasons.push(error.to_string());
    }
    let (status, word) = if reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    let body = json!({
        "status": word,
        "reasons": reasons,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": app.hub.since.elapsed().as_secs(),
    });
    (status, Json(body))
}

/// The text format of Prometheus, version 0.0.4.
pub(super) async fn metrics(State(app): State<App>, _: Params) -> impl IntoResponse {
    let (snapshots, jobs) = (app.hub.snapshots.counters(), app.hub.jobs.counters());
    let (running, waiting) = app.hub.jobs.active();
    let rebuilt = AtomicU64::new(app.hub.catalogue.rebuilt());
    let counters: [(&str, &str, &AtomicU64); 21] = [
        (
            "requests_answered_total",
            "Requests answered with a status below 400",
            &app.requests.good,
        ),
        (
            "requests_refused_total",
            "Requests answered with a status of 400 to 499",
            &app.requests.refused,
        ),
        (
            "requests_failed_total",
            "Requests answered with a status of 500 or more",
            &app.requests.failed,
        ),
        (
            "mcp_sessions_refused_total",
            "MCP sessions that there was no room for",
            &app.requests.sessions_refused,
        ),
        (
            "stream_calls_told_total",
            "Live calls sent to readers of /ws and /wsFull",
            &app.streams.told,
        ),
        (
            "stream_readers_dropped_total",
            "Readers of these that were let go: too slow, too much for one, or silent",
            &app.streams.dropped,
        ),
        (
            "tool_answers_kept_total",
            "Calls of tools that were answered from what was answered before",
            &app.answers.hits,
        ),
        (
            "snapshots_created_total",
            "Snapshots asked for",
            &snapshots.created,
        ),
        (
            "snapshots_completed_total",
            "Snapshots completed",
            &snapshots.completed,
        ),
        ("snapshots_failed_total", "Snapshots failed", &snapshots.failed),
        (
            "snapshot_bytes_total",
            "Bytes of segments received from agents",
            &snapshots.bytes,
        ),
        (
            "snapshot_streams_resumed_total",
            "Broken streams of segments taken up again",
            &snapshots.resumed,
        ),
        (
            "snapshot_nodes_failed_total",
            "Nodes that gave less than their part of a snapshot",
            &snapshots.nodes_failed,
        ),
        (
            "cuts_unreleased_total",
            "Cuts that an agent could not be told to release",
            &snapshots.unreleased,
        ),
        (
            "dissections_started_total",
            "Dissections asked for",
            &jobs.started,
        ),
        (
            "dissections_completed_total",
            "Dissections completed",
            &jobs.completed,
        ),
        ("dissections_failed_total", "Dissections failed", &jobs.failed),
        (
            "dissections_cancelled_total",
            "Dissections stopped",
            &jobs.cancelled,
        ),
        (
            "dissected_calls_total",
            "Calls found by completed dissections",
            &jobs.calls,
        ),
        (
            "dissected_bytes_total",
            "Bytes of segments read by completed dissections",
            &jobs.bytes,
        ),
        (
            "catalogue_rebuilt_total",
            "Times the catalogue was built again after its opening",
            &rebuilt,
        ),
    ];
    let gauges: [(&str, &str, u64); 4] = [
        (
            "stream_readers",
            "Readers of live calls over WebSockets",
            app.streams.readers() as u64,
        ),
        (
            "snapshots_in_progress",
            "Snapshots being collected",
            app.hub.snapshots.active() as u64,
        ),
        ("dissections_running", "Dissections that run", running as u64),
        ("dissections_waiting", "Dissections that wait", waiting as u64),
    ];
    let mut text = String::new();
    for (name, help, counter) in counters {
        metric(&mut text, "counter", name, help, counter.load(Ordering::Relaxed));
    }
    for (name, help, value) in gauges {
        metric(&mut text, "gauge", name, help, value);
    }
    if let Some(cluster) = &app.hub.cluster {
        kubernetes(&mut text, &cluster.status());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// What the cluster's API server is asked, and what is known by it.
fn kubernetes(text: &mut String, status: &Status) {
    let errors = status.watches.iter().map(|(_, watch)| watch.errors).sum();
    for (name, help, value) in [
        (
            "requests_total",
            "Requests to the Kubernetes API",
            status.requests,
        ),
        ("received_bytes_total", "Bytes that it answered", status.received),
        (
            "errors_total",
            "Requests that failed and watches that broke",
            errors,
        ),
        ("events_total", "Events of Kubernetes on the tape", status.events),
        (
            "names_refused_total",
            "Names that found no room",
            status.names_refused,
        ),
    ] {
        metric(text, "counter", &format!("kubernetes_{name}"), help, value);
    }
    let help = "Names of services, endpoints, nodes and namespaces that hold";
    metric(text, "gauge", "kubernetes_names", help, status.names as u64);
}

fn metric(text: &mut String, kind: &str, name: &str, help: &str, value: u64) {
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "# HELP wiretape_hub_{name} {help}\n# TYPE wiretape_hub_{name} {kind}\nwiretape_hub_{name} {value}"
    );
}
