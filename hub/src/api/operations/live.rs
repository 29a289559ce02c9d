//! Live dissection: its switch, how it stands, and the database that it makes (contract 1.7).

use serde_json::{Value, json};

use super::calls::Opened;
use super::millis;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::live::{LiveError, Round};

/// What live calls are asked for by, where one must say so. No snapshot can be called that.
pub(super) const LIVE_DB: &str = "@live";

/// Whether live traffic is dissected, and how that goes.
pub async fn dissection(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let (state, pace) = (app.hub.live.state(), app.hub.live.pace());
    let mut answer = json!({
        "enabled": state.enabled(),
        "window_seconds": pace.window.as_secs(),
        "every_seconds": pace.every.as_secs(),
        "idle_seconds": pace.idle.as_secs(),
    });
    if !state.enabled() {
        let off = LiveError::Off(state.idle).to_string();
        answer["explanation"] = json!(format!(
            "{off}; traffic is recorded all the time, and dissected when you ask: POST /mcp/snapshots cuts a window"
        ));
        return Ok(answer);
    }
    answer["rounds"] = json!(state.rounds);
    if let Some(round) = &state.latest {
        answer["latest"] = latest(round);
    }
    if let Some(error) = &state.error {
        answer["error"] = json!(error);
    } else if state.latest.is_none() {
        answer["explanation"] = json!(LiveError::NotYet.to_string());
    }
    Ok(answer)
}

/// Switches it on. Calls are there some seconds later.
pub async fn enable(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    app.hub.live.enable();
    Ok(json!({ "success": true, "enabled": true }))
}

/// Switches it off, and lets its calls go.
pub async fn disable(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    app.hub.live.disable();
    Ok(json!({ "success": true, "enabled": false }))
}

/// The last round, opened for questions.
pub(super) async fn open(app: &App) -> Result<Opened, ApiError> {
    let round = app.hub.live.latest().await?;
    Ok(opened(&round))
}

/// A round for a question that is asked while it is off, and what to tell of it.
///
/// # Errors
/// Why there is none.
pub(super) async fn open_lone(app: &App) -> Result<(Opened, Value), String> {
    let round = app.hub.live.lone().await?;
    let mut told = latest(&round);
    told["lone"] = json!("live dissection is off: the tapes' last minutes were dissected for this question");
    Ok((opened(&round), told))
}

fn opened(round: &Round) -> Opened {
    Opened {
        db: LIVE_DB.to_owned(),
        snapshot: None,
        database: round.database.clone(),
        progress: None,
    }
}

/// The database of the last round, as lists of databases show it; none while it is off.
pub(super) fn database(app: &App) -> Option<Value> {
    let round = app.hub.live.state().latest?;
    Some(json!({
        "type": "realtime",
        "db": LIVE_DB,
        "node": round.nodes.join(","),
        "entry_count": round.summary.calls,
        "status": "completed",
        "first_ts": round.summary.first_call.map(millis),
        "last_ts": round.summary.last_call.map(millis),
    }))
}

/// Says in an answer about live calls of which moment it is.
pub(in crate::api) fn tell(app: &App, answer: &mut Value) {
    if answer.get("db").and_then(Value::as_str) != Some(LIVE_DB) {
        return;
    }
    let state = app.hub.live.state();
    if let Some(round) = &state.latest {
        answer["live"] = latest(round);
        if let Some(error) = state.error {
            answer["live"]["error"] = json!(format!("no newer round came to anything: {error}"));
        }
    }
}

fn latest(round: &Round) -> Value {
    let (start, end) = round.window;
    let mut latest = json!({
        "start_ts": millis(start),
        "end_ts": millis(end),
        "age_ms": millis(crate::now().saturating_sub(end)),
        "calls": round.summary.calls,
        "packets": round.summary.packets,
        "bytes": round.bytes,
        "took_ms": round.took.as_millis() as u64,
        "nodes": round.nodes,
    });
    if round.shortened {
        latest["shortened"] = json!("there is more traffic than a round holds: the window is shorter");
    }
    if !round.problems.is_empty() {
        latest["problems"] = json!(round.problems);
    }
    latest
}
