//! What clients of the contract ask of the hub itself: who they are, what it may do, how it is set (contract 1.14).

use serde_json::{Value, json};

use super::{live, workloads};
use crate::api::params::Params;
use crate::api::{ApiError, App};

/// Who asks, and what they may do: everybody everything, since the hub asks nobody who they are.
pub async fn whoami(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({
        "identity": "anonymous",
        "role": "admin",
        "auth_enabled": false,
        "capabilities": [
            "dissection:control",
            "dissection:live",
            "settings:write",
            "snapshot:read",
            "snapshot:write",
            "snapshot:dissection",
        ],
        "authzFilters": [],
    }))
}

/// Which licence it needs: none.
pub async fn license(_: &App, _: &mut Params) -> Result<Value, ApiError> {
    Ok(json!({
        "required": false,
        "valid": true,
        "license": "Apache-2.0 OR MIT",
        "expires_at": null,
        "max_nodes": null,
        "max_pods": null,
        "explanation": "no licence is asked for, by no server; nodes, pods and time are not limited",
    }))
}

/// How the hub is set.
pub async fn settings(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let agents = app.hub.nodes.agents().await;
    let agents: Vec<String> = agents
        .map(|agents| agents.iter().map(|agent| agent.url().to_owned()).collect())
        .map_err(crate::snapshots::SnapshotError::Find)?;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "auth_enabled": false,
        "data": app.hub.data.display().to_string(),
        "agents": agents,
        "kubernetes": app.hub.cluster.is_some(),
        "allowed_hosts": app.access.all_hosts().collect::<Vec<_>>(),
        "allowed_origins": app.access.all_origins().collect::<Vec<_>>(),
        "dissection": live::dissection(app, params).await?,
    }))
}

/// Switches live dissection on or off.
pub async fn set_dissection(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    match params.flag(&["enabled"])? {
        Some(true) => live::enable(app, params).await,
        Some(false) => live::disable(app, params).await,
        None => Err(ApiError::bad_request(
            "`enabled` is required: true dissects live traffic, false ends that",
        )),
    }
}

/// The pods whose traffic is recorded: all that an agent knows.
pub async fn targets(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    params.give("type", json!("pod"));
    let mut known = workloads::workloads(app, params).await?;
    let pods: Vec<Value> = known["workloads"]
        .as_array()
        .into_iter()
        .flatten()
        .map(target)
        .collect();
    let mut answer = json!({ "total": pods.len(), "pods": pods });
    for member in ["snapshot", "live", "warnings", "explanation"] {
        if let Some(told) = known.get_mut(member) {
            answer[member] = told.take();
        }
    }
    Ok(answer)
}

fn target(pod: &Value) -> Value {
    let mut target = json!({
        "name": pod["name"],
        "namespace": pod["namespace"],
        "recorded": pod.get("not_recorded").is_none(),
    });
    if let Some(why) = pod.get("not_recorded") {
        target["not_recorded"] = why.clone();
    }
    target
}

/// Refused: all pods are targets.
pub async fn set_targets(_: &App, params: &mut Params) -> Result<Value, ApiError> {
    // Read, so that what is wrong in itself is told first.
    params.text(&["how"])?;
    params.text(&["regex"])?;
    for names in ["namespaces", "excluded_namespaces"] {
        params.list(&[names])?;
    }
    Err(ApiError::conflict(
        "no pods are targeted here: the traffic of all is recorded. To leave some out of the recording: PUT /mcp/recording \
         {\"rules\": [{\"match\": {\"namespace\": …, \"pod\": …}, \"record\": \"none\"}]}; to see only some: workload_filter \
         of POST /mcp/snapshots, or a filter such as src.ns == \"shop\"",
    ))
}
