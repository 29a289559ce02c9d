//! REST: a route for each operation, in the order of an investigation.

mod pcap;

mod tools;

mod stream;

mod about;

use axum::extract::State;
use axum::routing::{self, MethodRouter};
use axum::{Json, Router};
use serde_json::Value;

use super::operations::{
    Operation, boundaries, calls, dissections, events, flows, live, operation, recording, settings,
    snapshots, sql, stats, switches, timeline, workloads,
};
use super::params::Params;
use super::{ApiError, App};
pub(super) use about::discovery;
pub(super) use stream::Streams;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/mcp/raw-capture", get(operation!(switches::raw_capture)))
        .route("/mcp/data-boundaries", get(operation!(boundaries::get)))
        .route(
            "/mcp/l7-data-boundaries",
            get(operation!(switches::l7_boundaries)),
        )
        .route(
            "/mcp/recording",
            get(operation!(recording::get)).merge(put(operation!(recording::change))),
        )
        .route(
            "/mcp/snapshots",
            get(operation!(snapshots::list)).merge(post(operation!(snapshots::create))),
        )
        .route(
            "/mcp/snapshots/{snapshot}",
            get(operation!(snapshots::get)).merge(delete(operation!(snapshots::delete))),
        )
        .route("/mcp/snapshots/{snapshot}/pcap", routing::get(pcap::get))
        .route(
            "/mcp/dissections",
            get(operation!(dissections::list)).merge(post(operation!(dissections::create))),
        )
        .route(
            "/mcp/dissections/{snapshot}/{name}",
            get(operation!(dissections::get)).merge(delete(operation!(dissections::delete))),
        )
        .route(
            "/mcp/dissections/{snapshot}/{name}/stop",
            post(operation!(dissections::stop)),
        )
        .route("/mcp/databases", get(operation!(dissections::databases)))
        .route("/mcp/dissection", get(operation!(live::dissection)))
        .route("/mcp/dissection/enable", post(operation!(live::enable)))
        .route("/mcp/dissection/disable", post(operation!(live::disable)))
        .route("/mcp/resolve/workloads", get(operation!(workloads::workloads)))
        .route("/mcp/resolve/ips", get(operation!(workloads::ips)))
        .route("/mcp/flows", get(operation!(flows::list)))
        .route("/mcp/flows/summary", get(operation!(flows::summary)))
        .route("/mcp/calls", get(operation!(calls::list)))
        .route("/mcp/calls/{*id}", get(operation!(calls::get)))
        .route("/mcp/stats", both(operation!(stats::stats)))
        .route("/mcp/timeline", both(operation!(timeline::timeline)))
        .route("/mcp/events", get(operation!(events::list)))
        .route("/mcp/sql", both(operation!(sql::sql)))
        .route("/mcp/schema", get(operation!(sql::describe_schema)))
        .route("/mcp/tools/call", routing::post(tools::call))
        .route("/mcp/tools/{tool}", routing::post(tools::named))
        .route("/delayed_dissection.proto", routing::get(about::proto))
        .route("/openapi.json", routing::get(about::openapi))
        .route("/echo", routing::get(about::echo))
        .route("/whoami", get(operation!(settings::whoami)))
        .route("/license", get(operation!(settings::license)))
        .route("/settings", get(operation!(settings::settings)))
        .route("/settings/dissection", post(operation!(settings::set_dissection)))
        .route("/pods/target", get(operation!(settings::targets)))
        .route("/pods/target/{how}", post(operation!(settings::set_targets)))
        .route("/ws", routing::get(stream::compact))
        .route("/wsFull", routing::get(stream::full))
        .route("/healthz", routing::get(about::healthz))
        .route("/metrics", routing::get(about::metrics))
}

fn get(operation: Operation) -> MethodRouter<App> {
    routing::get(move |State(app), params| answer(operation, app, params))
}

fn post(operation: Operation) -> MethodRouter<App> {
    routing::post(move |State(app), params| answer(operation, app, params))
}

fn put(operation: Operation) -> MethodRouter<App> {
    routing::put(move |State(app), params| answer(operation, app, params))
}

/// What changes nothing, and may be too long for a line.
fn both(operation: Operation) -> MethodRouter<App> {
    get(operation).merge(post(operation))
}

fn delete(operation: Operation) -> MethodRouter<App> {
    routing::delete(move |State(app), params| answer(operation, app, params))
}

async fn answer(operation: Operation, app: App, mut params: Params) -> Result<Json<Value>, ApiError> {
    let zone = params.zone()?;
    let mut answer = operation(&app, &mut params).await?;
    params.warn(&mut answer);
    live::tell(&app, &mut answer);
    if let Some(zone) = zone {
        zone.tell(&mut answer);
    }
    Ok(Json(answer))
}
