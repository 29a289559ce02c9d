//! Who the addresses of a snapshot belonged to, as agents and hub knew at the time, or who they belong to now (contract 1.9).

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use serde_json::{Value, json};
use wiretape_tape::{Name, Nanos};

use super::{SNAPSHOT, flows, millis};
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::calls::NodeName;
use crate::catalogue::SnapshotEntry;
use crate::cluster::CLUSTER;
use crate::jobs::{JobStatus, State as Job};
use crate::query::{self, MAX_RESOLVED, Resolved};
use crate::snapshots::{PartStatus, Status, shown};

/// Most bytes of a compiled `name_regex`: names are short, and an expression that needs more is a mistake or an attack.
const REGEX_BYTES: usize = 1 << 20;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pod,
    Service,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Service => "service",
        }
    }

    fn of(self, name: &Name) -> &str {
        match self {
            Self::Pod => &name.pod,
            Self::Service => &name.service,
        }
    }
}

/// A workload: since when it had which addresses, and its labels.
#[derive(Default)]
struct Workload<'n> {
    addresses: BTreeMap<String, Nanos>,
    labels: BTreeMap<&'n str, &'n str>,
    /// An agent knows it.
    known: bool,
    /// Where it runs, by what the hub was told.
    node: &'n str,
}

/// Workloads by name, with their addresses.
pub async fn workloads(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let wanted = Wanted::read(params)?;
    let kind = params.one_of(
        &["type", "kind"],
        &[("pod", Kind::Pod), ("service", Kind::Service)],
    )?;
    let asked = names(app, params).await?;
    let mut found: BTreeMap<(&str, &str, Kind), Workload<'_>> = BTreeMap::new();
    for NodeName { node, name } in asked.names.iter().filter(|name| wanted.holds(&name.name)) {
        for of in [Kind::Pod, Kind::Service] {
            let is = of.of(name);
            if is.is_empty() || kind.is_some_and(|kind| kind != of) || !wanted.takes(is, name) {
                continue;
            }
            let workload = found.entry((&name.namespace, is, of)).or_default();
            for address in &name.addresses {
                let since = workload
                    .addresses
                    .entry(address.to_string())
                    .or_insert(name.since);
                *since = name.since.min(*since);
            }
            if node == CLUSTER {
                workload.node = &name.node;
            } else {
                workload.known = true;
            }
            // A service has no labels of its own: those known are its pods'.
            if of == Kind::Pod {
                let labels = name
                    .labels
                    .iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()));
                workload.labels.extend(labels);
            }
        }
    }
    let workloads: Vec<Value> = found
        .iter()
        .map(|((namespace, name, kind), workload)| {
            let ips: Vec<Value> = workload
                .addresses
                .iter()
                .map(|(ip, since)| json!({ "ip": ip, "timestamp": millis(*since) }))
                .collect();
            let mut shown = json!({
                "name": name,
                "namespace": namespace,
                "kind": kind.text(),
                "labels": workload.labels,
                "ips": ips,
            });
            if let Some(why) = asked.not_recorded(*kind, workload) {
                shown["not_recorded"] = json!(why);
            }
            shown
        })
        .collect();
    let namespaces = asked.namespaces(found.keys().map(|(namespace, ..)| *namespace));
    let mut answer = asked.answer("workloads", workloads);
    if !namespaces.is_empty() {
        answer["namespaces"] = json!(namespaces);
    }
    Ok(answer)
}

/// Addresses, with the workloads that they belonged to.
pub async fn ips(app: &App, params: &mut Params) -> Result<Value, ApiError> {
    let wanted = Wanted::read(params)?;
    let ip = params.text(&["ip"])?.filter(|ip| !ip.is_empty());
    let ip = ip.map(|ip| flows::address(&ip)).transpose()?;
    let asked = names(app, params).await?;
    let mut found: BTreeMap<String, BTreeSet<(Nanos, &str, &str)>> = BTreeMap::new();
    for NodeName { name, .. } in asked.names.iter().filter(|name| wanted.holds(&name.name)) {
        let is = if name.pod.is_empty() {
            &name.service
        } else {
            &name.pod
        };
        if is.is_empty() || !wanted.takes(is, name) {
            continue;
        }
        for address in &name.addresses {
            let address = address.to_canonical().to_string();
            if ip.as_ref().is_none_or(|ip| *ip == address) {
                let records = found.entry(address).or_default();
                records.insert((name.since, is, &name.namespace));
            }
        }
    }
    let resolved = match &asked.entry {
        Some(entry) if wanted.labels.is_empty() && wanted.namespaces.is_empty() => {
            dns_names(app, entry, ip.as_deref()).await?
        }
        _ => Vec::new(),
    };
    let mut dns: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for told in resolved.iter().filter(|told| wanted.takes_dns(told)) {
        found.entry(told.ip.clone()).or_default();
        dns.entry(&told.ip).or_default().push(json!({
            "name": told.name, "timestamp": millis(told.since), "until": millis(told.until),
        }));
    }
    let ips: Vec<Value> = found
        .iter()
        .map(|(ip, records)| {
            let records: Vec<Value> = records
                .iter()
                .map(|(since, name, namespace)| {
                    json!({ "name": name, "namespace": namespace, "timestamp": millis(*since) })
                })
                .collect();
            let mut shown = json!({ "ip": ip, "records": records });
            if let Some(dns) = dns.get(ip.as_str()) {
                shown["dns"] = json!(dns);
            }
            shown
        })
        .collect();
    let mut answer = asked.answer("ips", ips);
    if resolved.len() == MAX_RESOLVED {
        answer["dns_truncated"] = json!(true);
    }
    Ok(answer)
}

/// The names that DNS gave to an address, or to all of a snapshot: packets tell them, so they are known once it is dissected.
async fn dns_names(app: &App, entry: &SnapshotEntry, ip: Option<&str>) -> Result<Vec<Resolved>, ApiError> {
    let jobs = app.hub.jobs.list(Some(&entry.id)).await?;
    let completed = |job: &&Job| job.record.status == JobStatus::Completed;
    let Some(job) = jobs.iter().find(completed) else {
        return Ok(Vec::new());
    };
    let folder = app.dissection_folder(entry, &job.record.name);
    let database = app.hub.databases.get(&folder)?;
    Ok(query::resolved(&database, ip).await?)
}

/// Which names are asked for.
struct Wanted {
    name: Option<String>,
    pattern: Option<Regex>,
    namespaces: Vec<String>,
    labels: Vec<(String, String)>,
    at: Option<Nanos>,
}

impl Wanted {
    fn read(params: &mut Params) -> Result<Self, ApiError> {
        let mut namespaces = params.list(&["namespaces"])?;
        namespaces.extend(params.text(&["namespace", "ns"])?.filter(|ns| !ns.is_empty()));
        let pattern = params.text(&["name_regex"])?.filter(|text| !text.is_empty());
        let pattern = pattern.map(|text| {
            let compiled = RegexBuilder::new(&text).size_limit(REGEX_BYTES).build();
            compiled.map_err(|error| {
                let text = shown(&text);
                ApiError::bad_request(format!(
                    "`name_regex` must be a regular expression, not \"{text}\": {error}"
                ))
            })
        });
        Ok(Self {
            name: params.text(&["name"])?.filter(|name| !name.is_empty()),
            pattern: pattern.transpose()?,
            namespaces,
            labels: params.pairs(&["labels"])?,
            at: params.moment(&["timestamp"])?,
        })
    }

    /// A name is asked for in full or by a part of it: pods carry endings that nobody knows by heart.
    fn takes(&self, is: &str, name: &Name) -> bool {
        self.name.as_ref().is_none_or(|part| is.contains(part.as_str()))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(is))
            && (self.namespaces.is_empty() || self.namespaces.contains(&name.namespace))
            && self
                .labels
                .iter()
                .all(|(key, value)| name.labels.get(key) == Some(value))
    }

    /// The same of a name that DNS gave.
    fn takes_dns(&self, told: &Resolved) -> bool {
        let is = &told.name;
        self.name.as_ref().is_none_or(|part| is.contains(part.as_str()))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(is))
            && self.at.is_none_or(|at| told.since <= at && at < told.until)
    }

    /// Whether the name held at the time that is asked for.
    fn holds(&self, name: &Name) -> bool {
        self.at
            .is_none_or(|at| name.since <= at && name.until.is_none_or(|until| at < until))
    }
}

/// The names that are asked.
struct Asked {
    /// The snapshot; none if the agents and the hub were asked now.
    entry: Option<SnapshotEntry>,
    names: Vec<NodeName>,
    /// Nodes whose agents have told names.
    nodes: BTreeSet<String>,
    /// What to know of them.
    warnings: Vec<String>,
}

/// The names of the snapshot that is asked for. Without one, those of the cluster as it is now, told by whoever records;
/// where nothing records, those of the newest snapshot.
async fn names(app: &App, params: &mut Params) -> Result<Asked, ApiError> {
    if let Some(key) = params.text(SNAPSHOT)?.filter(|key| !key.is_empty()) {
        let entry = app.hub.snapshots.find_completed(&key).await?;
        return of_snapshot(app, entry, Vec::new()).await;
    }
    if let Some(live) = live(app).await {
        return Ok(live);
    }
    let all = app.hub.snapshots.list().await?;
    let newest = all.into_iter().find(|entry| entry.status == Status::Completed);
    let newest = newest.ok_or_else(|| {
        ApiError::not_found(
            "nothing records here, and there is no completed snapshot whose names could be told; POST /mcp/snapshots cuts \
             one",
        )
    })?;
    let warning = format!(
        "nothing records here: these are the names of `{}`, the newest snapshot, not those of the cluster as it is now",
        newest.name
    );
    of_snapshot(app, newest, vec![warning]).await
}

async fn of_snapshot(app: &App, entry: SnapshotEntry, warnings: Vec<String>) -> Result<Asked, ApiError> {
    let manifest = app.hub.snapshots.manifest(&entry).await?;
    let recorded = manifest
        .nodes
        .iter()
        .filter(|part| part.status != PartStatus::Failed);
    Ok(Asked {
        entry: Some(entry),
        nodes: recorded.map(|part| part.name.clone()).collect(),
        names: manifest.names,
        warnings,
    })
}

/// What every agent and the hub itself know now; `None` if there is nobody to ask.
async fn live(app: &App) -> Option<Asked> {
    let mut warnings = Vec::new();
    let told = match app.hub.nodes.names().await {
        Ok(told) => told,
        Err(error) => {
            warnings.push(error.to_string());
            Vec::new()
        }
    };
    if told.iter().all(|(_, names)| names.is_err()) && app.hub.cluster.is_none() {
        return None;
    }
    let (mut names, mut nodes) = (Vec::new(), BTreeSet::new());
    for (node, told) in told {
        match told {
            Ok(told) => {
                names.extend(told.into_iter().map(|name| NodeName {
                    node: node.clone(),
                    name,
                }));
                nodes.insert(node);
            }
            Err(error) => warnings.push(format!("the names of {node} are missing: {error}")),
        }
    }
    if let Some(cluster) = &app.hub.cluster {
        warnings.extend(cluster.status().problems());
        names.extend(cluster.names().into_iter().map(|name| NodeName {
            node: CLUSTER.to_owned(),
            name,
        }));
    }
    // Those that have ended are kept for the tape's sake.
    names.retain(|name| name.name.until.is_none());
    Some(Asked {
        entry: None,
        names,
        nodes,
        warnings,
    })
}

impl Asked {
    /// Why the packets of a pod's sockets are on no tape, as far as is known. Its packets to and from pods elsewhere are
    /// on theirs.
    fn not_recorded(&self, kind: Kind, workload: &Workload<'_>) -> Option<String> {
        if kind != Kind::Pod || workload.known || workload.node.is_empty() {
            return None;
        }
        let node = workload.node;
        Some(if self.nodes.contains(node) {
            format!("the agent of {node} knows no cgroup of it")
        } else {
            format!("no agent records on {node}")
        })
    }

    /// The labels of those of some namespaces that have any, as they were last.
    fn namespaces<'a>(&'a self, of: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Value> {
        let wanted: BTreeSet<&str> = of.collect();
        let told = self.names.iter().map(|name| &name.name);
        // Only a namespace has labels and nothing else.
        let told = told.filter(|name| {
            let alone = name.addresses.is_empty() && name.cgroup == 0 && name.pod.is_empty();
            alone && !name.labels.is_empty() && wanted.contains(name.namespace.as_str())
        });
        told.map(|name| (name.namespace.as_str(), json!({ "labels": name.labels })))
            .collect()
    }

    fn answer(&self, rows: &str, found: Vec<Value>) -> Value {
        let mut answer = json!({ "total": found.len() });
        match &self.entry {
            Some(entry) => answer["snapshot"] = json!({ "id": entry.id, "name": entry.name }),
            None => answer["live"] = json!(true),
        }
        if !self.warnings.is_empty() {
            answer["warnings"] = json!(self.warnings);
        }
        if found.is_empty() {
            let whose = match self.entry {
                Some(_) => "of this snapshot",
                None => "that are known now",
            };
            answer["explanation"] = json!(if self.names.is_empty() {
                format!("there are no names {whose}; ask for addresses, e.g. src.ip == \"10.0.0.1\"")
            } else {
                format!(
                    "none of the {} names {whose} is what was asked for; ask with less",
                    self.names.len()
                )
            });
        }
        answer[rows] = Value::Array(found);
        answer
    }
}
