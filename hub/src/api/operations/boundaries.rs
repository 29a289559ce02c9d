//! How much tape there is, node by node.

use serde::Serialize;
use serde_json::Value;

use super::{json, losses, millis};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::losses::Lost;
use crate::snapshots::{SnapshotError, window};

/// The answer.
#[derive(Serialize)]
struct Answer {
    cluster: Span,
    nodes: Vec<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'static str>,
}

#[derive(Serialize)]
struct Span {
    oldest_ts: Option<u64>,
    newest_ts: Option<u64>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    oldest_ts: Option<u64>,
    newest_ts: Option<u64>,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_packets: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<Value>,
    /// A recorder that has fallen silent shows here first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_packet_age_ms: Option<u64>,
    /// What it records, where that is not everything, and what it leaves out of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shedding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// From when to when each node has recorded traffic.
pub async fn get(app: &App, _: &mut Params) -> Result<Value, ApiError> {
    let surveyed = app.hub.nodes.survey().await.map_err(SnapshotError::Find)?;
    let now = crate::now();
    let span = window::span(surveyed.iter().filter_map(|node| node.boundaries.as_ref().ok()));
    let explanation = match (surveyed.as_slice(), span) {
        ([], _) => Some(
            "the hub knows no agents, so nothing is recorded: start it with --node or --nodes-dns; snapshots that are there \
             can be asked",
        ),
        (_, None) => Some("no node has recorded anything yet, or none answers: see the `error` of each"),
        (_, Some(_)) => None,
    };
    let nodes = surveyed.into_iter().map(|node| {
        let url = node.agent.url().to_owned();
        match node.boundaries {
            Ok(tape) => Node {
                name: node.name,
                url,
                oldest_ts: tape.oldest.map(millis),
                newest_ts: tape.newest.map(millis),
                bytes: Some(tape.bytes),
                packets: Some(tape.packets),
                lost_packets: Some(tape.lost),
                losses: losses::many(
                    &tape
                        .losses
                        .iter()
                        .map(|loss| Lost::told("", loss))
                        .collect::<Vec<_>>(),
                ),
                last_packet_age_ms: tape.newest.map(|newest| millis(now.saturating_sub(newest))),
                recorded: tape
                    .recorded
                    .as_ref()
                    .filter(|recorded| !recorded.recording.is_everything())
                    .map(|recorded| recorded.recording.to_string()),
                shedding: tape
                    .recorded
                    .map(|recorded| recorded.shedding)
                    .filter(|shedding| !shedding.is_empty()),
                error: None,
            },
            Err(error) => Node {
                name: node.name,
                url,
                oldest_ts: None,
                newest_ts: None,
                bytes: None,
                packets: None,
                lost_packets: None,
                losses: Vec::new(),
                last_packet_age_ms: None,
                recorded: None,
                shedding: None,
                error: Some(error.to_string()),
            },
        }
    });
    json(Answer {
        cluster: Span {
            oldest_ts: span.map(|span| millis(span.0)),
            newest_ts: span.map(|span| millis(span.1)),
        },
        nodes: nodes.collect(),
        explanation,
    })
}
