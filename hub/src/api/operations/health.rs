//! Whether everything is being recorded, in words: the first question when an answer looks too good.

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{boundaries, losses};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::cluster::Status;
use crate::losses::Stage;
use crate::snapshots::window;

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
    let mut lost = node["lost_packets"].as_u64().unwrap_or_default();
    for loss in node["losses"].as_array().into_iter().flatten() {
        let packets = loss["packets"].as_u64().unwrap_or_default();
        lost = lost.saturating_sub(packets);
        let Ok(stage) = Stage::deserialize(&loss["stage"]) else {
            continue;
        };
        problems.push(format!(
            "{name} lost {packets} packets {}: {}",
            when(&loss["start_ts"], &loss["end_ts"]),
            losses::advice(stage)
        ));
    }
    if lost > 0 {
        let kept = node["packets"].as_u64().unwrap_or_default();
        problems.push(format!(
            "{name} has lost {lost} packets beside the {kept} on its tape, and cannot tell when"
        ));
    }
    if let Some(recorded) = node["recorded"].as_str() {
        problems.push(format!(
            "{name} does not record everything, by choice: {recorded}"
        ));
    }
    if let Some(shedding) = node["shedding"].as_str() {
        problems.push(format!("{name} records less, to keep its budget: {shedding}"));
    }
    problems
}

/// A time as people read it, to the second; shorter than a second, it is a moment.
fn when(start: &Value, end: &Value) -> String {
    let [start, end] = [start, end].map(|ts| ts.as_u64().unwrap_or_default());
    let second = |ts: u64| window::at(ts.saturating_mul(1_000_000) / 1_000_000_000 * 1_000_000_000);
    if end.saturating_sub(start) < 1000 {
        format!("at {}", second(start))
    } else {
        format!("from {} to {}", second(start), second(end))
    }
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
                "a has lost 2 packets beside the 5 on its tape, and cannot tell when"
            ]
        );
        let losses = json!([
            { "stage": "buffer_full", "packets": 2, "start_ts": 1_706_745_000_987_u64, "end_ts": 1_706_745_001_037_u64 },
            { "stage": "disk_full", "packets": 3, "start_ts": 1_706_745_000_000_u64, "end_ts": 1_706_745_060_000_u64 },
        ]);
        assert_eq!(
            told(
                json!({ "name": "a", "last_packet_age_ms": 900, "packets": 5, "lost_packets": 5, "losses": losses })
            ),
            [
                "a lost 2 packets at 2024-01-31T23:50:00Z: more came than the recorder could take: give the agent a larger \
                 --buffer-size",
                "a lost 3 packets from 2024-01-31T23:50:00Z to 2024-01-31T23:51:00Z: its disk was full",
            ]
        );
        assert_eq!(
            told(json!({ "name": "http://x", "error": "refused" })),
            ["http://x does not answer: refused"]
        );
        assert_eq!(told(json!({ "name": "a" })), ["a has recorded nothing yet"]);
        let less = json!({ "name": "a", "last_packet_age_ms": 1, "recorded": "headers", "shedding": "bodies are left out" });
        assert_eq!(
            told(less),
            [
                "a does not record everything, by choice: headers",
                "a records less, to keep its budget: bodies are left out"
            ]
        );
    }
}
