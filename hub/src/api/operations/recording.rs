//! What the nodes record, and having them record something else.

use std::str::FromStr;

use futures::future::join_all;
use serde_json::{Value, json};
use wiretape_tape::{Capture, Change, Recorded, RecordingError, Rule};

use super::millis;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::nodes::{NodeError, Surveyed};
use crate::snapshots::SnapshotError;

/// What each node records, and what it leaves out.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let nodes = chosen(app, &params.list(&["nodes"])?).await?;
    let asked = nodes.into_iter().map(|node| async move {
        // One that gives no boundaries gives nothing else.
        let recorded = match &node.boundaries {
            Ok(_) => node.agent.recorded().await,
            Err(error) => Err(error.clone()),
        };
        (node, recorded)
    });
    let told = join_all(asked)
        .await
        .into_iter()
        .map(|(node, recorded)| shown(&node, recorded));
    let nodes: Vec<Value> = told.collect();
    let mut answer = json!({ "nodes": nodes });
    if nodes.is_empty() {
        answer["explanation"] =
            json!("the hub knows no agents; start it with --node http://HOST:8897 or --nodes-dns NAME:8897");
    }
    Ok(answer)
}

/// Has all nodes, or some, record something else from now on. What is not named stays as it is.
pub async fn change(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let names = params.list(&["nodes"])?;
    let change = read(params)?;
    let nodes = chosen(app, &names).await?;
    if nodes.is_empty() {
        return Err(ApiError::conflict(
            "the hub knows no agents, so there is nothing to change",
        ));
    }
    let asked = nodes.into_iter().map(|node| async {
        let changed = node.agent.record(&change).await;
        (node, changed)
    });
    let outcomes = join_all(asked).await;
    let changed: Vec<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(node, _)| node.name.as_str())
        .collect();
    if changed.is_empty() {
        return Err(refused(&outcomes));
    }
    let mut answer = json!({ "success": changed.len() == outcomes.len(), "changed": changed });
    answer["nodes"] = outcomes
        .into_iter()
        .map(|(node, outcome)| shown(&node, outcome))
        .collect();
    Ok(answer)
}

/// The nodes of these names, or all.
async fn chosen(app: &App, names: &[String]) -> Result<Vec<Surveyed>, ApiError> {
    let mut nodes = app.hub.nodes.survey().await.map_err(SnapshotError::Find)?;
    if let Some(unknown) = names
        .iter()
        .find(|name| !nodes.iter().any(|node| node.name == **name))
    {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(ApiError::not_found(format!(
            "there is no node {unknown:?} that answers; there are {}",
            known.join(", ")
        )));
    }
    if !names.is_empty() {
        nodes.retain(|node| names.contains(&node.name));
    }
    Ok(nodes)
}

/// Refuses here what no agent would take.
fn read(params: &mut Params) -> Result<Change, ApiError> {
    let refused = |error: RecordingError| ApiError::bad_request(format!("`capture`: {error}"));
    let capture = params.text(&["capture"])?;
    let rules = params.value(&["rules"]).filter(|rules| !rules.is_null());
    let change = Change {
        capture: capture
            .as_deref()
            .map(Capture::from_str)
            .transpose()
            .map_err(refused)?,
        filter: params.text(&["filter", "bpf_filter"])?,
        rules: rules.map(rules_of).transpose()?,
    };
    if change == Change::default() {
        return Err(ApiError::bad_request(
            "say what is to be changed: `capture`, `filter` or `rules`, or several of them",
        ));
    }
    Ok(change)
}

fn rules_of(rules: Value) -> Result<Vec<Rule>, ApiError> {
    serde_json::from_value(rules).map_err(|error| {
        let wanted = r#"[{"match": {"namespace": "payments"}, "record": "none"}]"#;
        ApiError::bad_request(format!("`rules` must be a list such as {wanted}: {error}"))
    })
}

/// When no node has done it: what the first one says.
fn refused(outcomes: &[(Surveyed, Result<Recorded, NodeError>)]) -> ApiError {
    let errors = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().err());
    let mut all = errors.clone();
    let is_refusal = |error: &NodeError| matches!(error, NodeError::Refused { status: 400, .. });
    let message = errors.map(ToString::to_string).next().unwrap_or_default();
    if all.all(is_refusal) {
        ApiError::bad_request(message)
    } else {
        ApiError::unavailable(message)
    }
}

fn shown(node: &Surveyed, recorded: Result<Recorded, NodeError>) -> Value {
    let mut shown = json!({ "name": node.name, "url": node.agent.url() });
    match recorded {
        Ok(recorded) => {
            shown["capture"] = json!(recorded.recording.capture);
            shown["filter"] = json!(recorded.recording.filter);
            shown["rules"] = json!(recorded.recording.rules);
            shown["since_ts"] = json!(millis(recorded.since));
            shown["left_out_packets"] = json!(recorded.left_out);
            shown["shortened_packets"] = json!(recorded.shortened);
            if !recorded.shedding.is_empty() {
                shown["shedding"] = json!(recorded.shedding);
            }
        }
        Err(error) => shown["error"] = json!(error.to_string()),
    }
    shown
}
