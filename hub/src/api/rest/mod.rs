//! REST: one file per resource, in the order of an investigation.

mod boundaries;

mod snapshots;

mod pcap;

mod dissections;

mod calls;

mod stats;

mod timeline;

mod sql;

mod about;

use axum::Router;
use axum::routing::{get, post};

use super::App;
pub(super) use dissections::{entry, full, start};
pub(super) use pcap::MAX_EXPORTS;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/mcp", get(about::discovery))
        .route("/mcp/data-boundaries", get(boundaries::get))
        .route("/mcp/snapshots", get(snapshots::list).post(snapshots::create))
        .route(
            "/mcp/snapshots/{snapshot}",
            get(snapshots::get).delete(snapshots::delete),
        )
        .route("/mcp/snapshots/{snapshot}/pcap", get(pcap::get))
        .route(
            "/mcp/dissections",
            get(dissections::list).post(dissections::create),
        )
        .route(
            "/mcp/dissections/{snapshot}/{name}",
            get(dissections::get).delete(dissections::delete),
        )
        .route("/mcp/dissections/{snapshot}/{name}/stop", post(dissections::stop))
        .route("/mcp/databases", get(dissections::databases))
        .route("/mcp/calls", get(calls::list))
        .route("/mcp/calls/{*id}", get(calls::get))
        .route("/mcp/tools/get_api_call_details", post(calls::details))
        .route("/mcp/stats", get(stats::get).post(stats::get))
        .route("/mcp/timeline", get(timeline::get).post(timeline::get))
        .route("/mcp/sql", get(sql::get).post(sql::get))
        .route("/mcp/schema", get(sql::schema))
        .route("/echo", get(about::echo))
        .route("/healthz", get(about::healthz))
        .route("/metrics", get(about::metrics))
}

/// Milliseconds, as the API counts time.
fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}
