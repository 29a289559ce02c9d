//! Whether everything is being recorded, in words: the first question when an answer looks too good.

use serde_json::{Value, json};

use super::boundaries;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::cluster::Status;

/// A tape without a new packet for so long has fallen silent: agents flush once a second, and a node always talks.
const SILENT_MS: u64 = 60_000;

/// How each node's recorder does, and whether the hub has room.
pub async fn get(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let mut answer = boundaries::get(app, params).await?;
    let none = Vec::new();
    let nodes = answer["nodes"].as_array().unwrap_or(&none);
    let mut problems: Vec<String> = nodes.iter().flat_map(problems).collect();
    let mut advice = "every node records; cut a window with create_snapshot or investigate".to_owned();
    if nodes.is_empty() {
        problems.push(
            "the hub knows no agents, so nothing is being recorded; snapshots that are there can be asked"
                .to_owned(),
        );
    }
    let mut kubernetes = None;
    if let Err(error) = app.hub.room() {
        problems.push(error.to_string());
    }
    if let Err(error) = app.hub.catalogue.refresh().await {
        problems.push(error.to_string());
    }
    if let Some(cluster) = &app.hub.cluster {
        let status = cluster.status();
        problems.extend(status.problems());
        kubernetes = Some(watches(&status));
    }
    if !problems.is_empty() {
        advice = "calls of the nodes and times named here may be missing from every answer".to_owned();
    }
    answer["status"] = json!(if problems.is_empty() { "ok" } else { "degraded" });
    answer["problems"] = json!(problems);
    if let Some(kubernetes) = kubernetes {
        answer["kubernetes"] = kubernetes;
    }
    answer["next"] = json!(advice);
    Ok(answer)
}

/// How the hub's watches of the cluster stand, and what they cost the API server.
fn watches(status: &Status) -> Value {
    let now = crate::now();
    let mut watches = serde_json::Map::new();
    for (kind, watched) in &status.watches {
        let mut watch = json!(watched);
        if let Some(last) = watched.last {
            watch["last_heard_age_ms"] = json!(now.saturating_sub(last) / 1_000_000);
        }
        watches.insert(kind.word().to_owned(), watch);
    }
    json!({
        "watches": watches,
        "names": status.names,
        "names_refused": status.names_refused,
        "events": status.events,
        "lost": status.lost,
        "bytes": status.bytes,
        "requests": status.requests,
        "received_bytes": status.received,
    })
}

fn problems(node: &Value) -> Vec<String> {
    let name = node["name"].as_str().unwrap_or_default();
    if let Some(error) = node["error"].as_str() {
        return vec![format!("{name} does not answer: {error}")];
    }
    let mut problems = Vec::new();
    match node["last_packet_age_ms"].as_u64() {
        None => problems.push(format!("{name} has recorded nothing yet")),
        Some(age) if age > SILENT_MS => {
            problems.push(format!("{name} has recorded nothing for {} s", age / 1000));
        }
        Some(_) => {}
    }
    if let Some(lost) = node["lost_packets"].as_u64().filter(|lost| *lost > 0) {
        let kept = node["packets"].as_u64().unwrap_or_default();
        problems.push(format!(
            "{name} has lost {lost} packets beside the {kept} on its tape"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_node_is_said() {
        let told = |node: Value| problems(&node);
        assert_eq!(
            told(json!({ "name": "a", "last_packet_age_ms": 900, "packets": 5, "lost_packets": 0 })),
            Vec::<String>::new()
        );
        assert_eq!(
            told(json!({ "name": "a", "last_packet_age_ms": 90_000, "packets": 5, "lost_packets": 2 })),
            [
                "a has recorded nothing for 90 s",
                "a has lost 2 packets beside the 5 on its tape"
            ]
        );
        assert_eq!(
            told(json!({ "name": "http://x", "error": "refused" })),
            ["http://x does not answer: refused"]
        );
        assert_eq!(told(json!({ "name": "a" })), ["a has recorded nothing yet"]);
    }
}
