//! Resources: what there is to read beside the tools' answers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use super::Backend;
use super::answer::PCAP;
use crate::api::ApiError;
use crate::api::operations::pcap;
use crate::api::params::Params;
use crate::api::tools::MAX_BYTES;
use crate::snapshots::shown;

/// Longest capture that is given as a blob, before base64. A longer one is fetched from the hub, or filtered.
pub(super) const MAX_BLOB: usize = 1 << 20;

const JSON: &str = "application/json";
const MARKDOWN: &str = "text/markdown";

/// What is always there: address, name, meaning, text.
const PAGES: [(&str, &str, &str, &str); 3] = [
    (
        "wiretape://kfl",
        "KFL, the filter language",
        "How to write filters, by example, with every field",
        include_str!("../../../../docs/kfl.md"),
    ),
    (
        "wiretape://schema",
        "The tables",
        "Every column of a dissection, with type and meaning",
        include_str!("../../../../docs/schema.md"),
    ),
    (
        "wiretape://protocols",
        "The protocols",
        "What is decoded of each protocol, what is not, and what a connection seen from its middle costs",
        include_str!("../../../../docs/protocols.md"),
    ),
];

/// All resources there are now.
pub(super) async fn list(backend: &Backend) -> Result<Vec<Resource>, ApiError> {
    let mut all: Vec<Resource> = PAGES
        .iter()
        .map(|(uri, name, meaning, text)| {
            Resource::new(*uri, *name)
                .with_description(*meaning)
                .with_mime_type(MARKDOWN)
                .with_size(text.len() as u64)
        })
        .collect();
    let much = json!({ "max_bytes": MAX_BYTES });
    let snapshots = backend.ask("list_snapshots", much.clone()).await?;
    for snapshot in rows(&snapshots, "snapshots") {
        let (id, name) = (text(snapshot, "id"), text(snapshot, "name"));
        all.push(
            Resource::new(format!("wiretape://snapshots/{id}"), format!("Snapshot {name}"))
                .with_description(format!(
                    "{} of traffic, {}",
                    text(snapshot, "duration"),
                    text(snapshot, "status")
                ))
                .with_mime_type(JSON),
        );
    }
    let dissections = backend.ask("list_snapshot_dissections", much).await?;
    for dissection in rows(&dissections, "dissections") {
        let (snapshot, name) = (text(dissection, "snapshot"), text(dissection, "name"));
        all.push(
            Resource::new(
                format!("wiretape://dissections/{snapshot}/{name}"),
                format!("Dissection {snapshot}/{name}"),
            )
            .with_description(text(dissection, "status"))
            .with_mime_type(JSON),
        );
    }
    Ok(all)
}

/// How the addresses of resources are made.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    [
        (
            "wiretape://snapshots/{snapshot}",
            "Snapshot",
            "A snapshot: window, nodes, losses, dissections",
            JSON,
        ),
        (
            "wiretape://dissections/{snapshot}/{dissection}",
            "Dissection",
            "A dissection: status, counts, losses",
            JSON,
        ),
        (
            "wiretape://snapshots/{snapshot}/pcap{?bpf_filter,start_time,end_time,nodes,format}",
            "Capture",
            "Packets of a snapshot for Wireshark, up to 1 MiB",
            PCAP,
        ),
    ]
    .map(|(uri, name, meaning, kind)| {
        ResourceTemplate::new(uri, name)
            .with_description(meaning)
            .with_mime_type(kind)
    })
    .into()
}

/// Reads one.
pub(super) async fn read(backend: &Backend, uri: &str) -> Result<ReadResourceResult, ApiError> {
    if let Some((.., text)) = PAGES.iter().find(|(page, ..)| *page == uri) {
        return Ok(one(ResourceContents::text(*text, uri).with_mime_type(MARKDOWN)));
    }
    let unknown = || {
        let uri = shown(uri);
        ApiError::not_found(format!(
            "there is no resource `{uri}`; resources/list names those there are"
        ))
    };
    let url = Url::parse(uri).map_err(|_| unknown())?;
    let path: Vec<&str> = url.path().trim_matches('/').split('/').collect();
    let answer = match (url.scheme(), url.host_str(), path.as_slice()) {
        ("wiretape", Some("snapshots"), [snapshot]) if !snapshot.is_empty() => {
            backend.ask("get_snapshot", json!({ "id": snapshot })).await?
        }
        ("wiretape", Some("snapshots"), [snapshot, "pcap"]) => {
            let packets = capture(backend, snapshot, &url).await?;
            let blob = BASE64_STANDARD.encode(packets);
            return Ok(one(ResourceContents::blob(blob, uri).with_mime_type(PCAP)));
        }
        ("wiretape", Some("dissections"), [snapshot, name]) => {
            let asked = json!({ "snapshot_id": snapshot, "dissection_id": name });
            backend.ask("get_snapshot_dissection_status", asked).await?
        }
        _ => return Err(unknown()),
    };
    Ok(one(
        ResourceContents::text(answer.to_string(), uri).with_mime_type(JSON)
    ))
}

async fn capture(backend: &Backend, snapshot: &str, url: &Url) -> Result<Vec<u8>, ApiError> {
    match backend {
        Backend::Here(app) => {
            let mut params = Params::default();
            params.give("snapshot", json!(snapshot));
            for (name, value) in url.query_pairs() {
                params.give(&name, json!(value));
            }
            pcap::bytes(app, &mut params, MAX_BLOB)
                .await?
                .ok_or_else(|| too_long(MAX_BLOB))
        }
        Backend::There(remote) => {
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            remote
                .bytes(&format!("mcp/snapshots/{snapshot}/pcap{query}"), MAX_BLOB)
                .await
        }
    }
}

/// What to do about a capture that is no blob any more.
pub(super) fn too_long(most: usize) -> ApiError {
    ApiError::too_large(format!(
        "the capture is longer than {most} bytes; narrow it with bpf_filter, start_time and end_time, or GET the path that \
         export_snapshot_pcap gives from the hub"
    ))
}

fn one(contents: ResourceContents) -> ReadResourceResult {
    ReadResourceResult::new(vec![contents])
}

fn rows<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}
