//! Who the addresses of a snapshot belonged to, as the agents knew at the time (contract 1.9).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{SNAPSHOT, millis};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::calls::NodeName;
use crate::catalogue::SnapshotEntry;
use crate::snapshots::Status;

/// Workloads by name, with their addresses.
pub async fn workloads(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let wanted = Wanted::read(params)?;
    let kind = params.text(&["type", "kind"])?.filter(|kind| !kind.is_empty());
    if let Some(kind) = kind.as_deref().filter(|kind| !["pod", "service"].contains(kind)) {
        let kind = crate::snapshots::shown(kind);
        return Err(ApiError::bad_request(format!(
            "`type` must be pod or service, not \"{kind}\""
        )));
    }
    let (entry, names) = names(app, params).await?;
    let mut found: BTreeMap<(&str, &str, &str), BTreeMap<String, u64>> = BTreeMap::new();
    for NodeName { name, .. } in &names {
        for (of, is) in [("pod", &name.pod), ("service", &name.service)] {
            let asked = kind.as_deref().is_none_or(|kind| kind == of);
            if is.is_empty() || !asked || !wanted.takes(is, &name.namespace) {
                continue;
            }
            let addresses = found.entry((&name.namespace, is, of)).or_default();
            for address in &name.addresses {
                let since = addresses.entry(address.to_string()).or_insert(name.since);
                *since = name.since.min(*since);
            }
        }
    }
    let workloads: Vec<Value> = found
        .iter()
        .map(|((namespace, name, kind), addresses)| {
            let ips: Vec<Value> = addresses
                .iter()
                .map(|(ip, since)| json!({ "ip": ip, "timestamp": millis(*since) }))
                .collect();
            json!({ "name": name, "namespace": namespace, "kind": kind, "ips": ips })
        })
        .collect();
    Ok(answer(&entry, &names, "workloads", workloads))
}

/// Addresses, with the workloads that they belonged to.
pub async fn ips(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let wanted = Wanted::read(params)?;
    let ip = params.text(&["ip"])?.filter(|ip| !ip.is_empty());
    let (entry, names) = names(app, params).await?;
    let mut found: BTreeMap<String, BTreeSet<(u64, &str, &str)>> = BTreeMap::new();
    for NodeName { name, .. } in &names {
        let is = if name.pod.is_empty() {
            &name.service
        } else {
            &name.pod
        };
        if is.is_empty() || !wanted.takes(is, &name.namespace) {
            continue;
        }
        for address in name.addresses.iter().map(ToString::to_string) {
            if ip.as_ref().is_none_or(|ip| *ip == address) {
                found
                    .entry(address)
                    .or_default()
                    .insert((name.since, is, &name.namespace));
            }
        }
    }
    let ips: Vec<Value> = found
        .iter()
        .map(|(ip, records)| {
            let records: Vec<Value> = records
                .iter()
                .map(|(since, name, namespace)| json!({ "name": name, "namespace": namespace, "timestamp": millis(*since) }))
                .collect();
            json!({ "ip": ip, "records": records })
        })
        .collect();
    Ok(answer(&entry, &names, "ips", ips))
}

/// Which names are asked for.
struct Wanted {
    name: Option<String>,
    namespaces: Vec<String>,
}

impl Wanted {
    fn read(params: &mut Params) -> Result<Self, ApiError> {
        let mut namespaces = params.list(&["namespaces"])?;
        namespaces.extend(params.text(&["namespace", "ns"])?);
        Ok(Self {
            name: params.text(&["name"])?.filter(|name| !name.is_empty()),
            namespaces,
        })
    }

    /// A name is asked for in full or by a part of it: pods carry endings that nobody knows by heart.
    fn takes(&self, name: &str, namespace: &str) -> bool {
        self.name.as_ref().is_none_or(|part| name.contains(part.as_str()))
            && (self.namespaces.is_empty() || self.namespaces.iter().any(|asked| asked == namespace))
    }
}

/// The names of the snapshot that is asked for, or of the newest.
async fn names(app: &App, params: &mut Params) -> Result<(SnapshotEntry, Vec<NodeName>), ApiError> {
    let entry = match params.text(SNAPSHOT)? {
        Some(key) => app.hub.snapshots.find_completed(&key).await?,
        None => {
            let all = app.hub.snapshots.list().await?;
            let newest = all.into_iter().find(|entry| entry.status == Status::Completed);
            newest.ok_or_else(|| {
                ApiError::not_found(
                    "there is no completed snapshot whose names could be told; create one first",
                )
            })?
        }
    };
    let names = app.hub.snapshots.manifest(&entry).await?.names;
    Ok((entry, names))
}

fn answer(entry: &SnapshotEntry, names: &[NodeName], rows: &str, found: Vec<Value>) -> Value {
    let mut answer = json!({
        "total": found.len(),
        "snapshot": { "id": entry.id, "name": entry.name },
    });
    if found.is_empty() {
        answer["explanation"] = json!(if names.is_empty() {
            "the recorders of this snapshot knew no names; ask for addresses, e.g. src.ip == \"10.0.0.1\""
                .to_owned()
        } else {
            format!("none of the {} names of this snapshot is meant", names.len())
        });
    }
    answer[rows] = Value::Array(found);
    answer
}
