//! A pod as the API server has it -> what is kept of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use wiretape_tape::{Name, Nanos};

/// Bytes of one pod's labels, and again of its annotations, that are kept. They stand in every name of the pod, and the
/// tape's table of names has 4 MiB.
pub const MAX_TABLE_BYTES: usize = 4096;

/// Longest annotation that is kept. What is longer is a configuration for a controller.
pub const MAX_ANNOTATION_BYTES: usize = 512;

/// Containers of a pod that are kept, with those from before restarts: the newest.
pub const MAX_CONTAINERS: usize = 64;

/// The whole configuration once more; kubectl's own business.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The hash of a static pod's file, by which the kubelet names its cgroup. What the API server has is the mirror of it, of
/// another uid; both annotations say the hash, the first of mirrors alone.
const STATIC_HASH: [&str; 2] = ["kubernetes.io/config.mirror", "kubernetes.io/config.hash"];

/// Which of a deployment's ReplicaSets made a pod: the end of that one's name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What is kept of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// As Kubernetes gave it.
    pub uid: String,
    /// What its cgroups are called by: the uid, or the hash of a static pod's file.
    pub cgroup_uid: String,
    /// Its name, namespace, labels, annotations, owner and node.
    pub name: Name,
    /// Its own; none of a pod in the host's network, nor of one that has ended.
    pub addresses: Vec<IpAddr>,
    /// Names of its containers, by id.
    pub containers: BTreeMap<String, String>,
    /// When the kubelet took it on, to the second; 0 while it has not.
    pub started: Nanos,
    /// When the last of its containers ended, to the second, if all have and none will be started again.
    pub finished: Option<Nanos>,
}

impl Pod {
    /// Takes over what is of use.
    pub fn of(pod: ApiPod) -> Self {
        let (meta, spec, status) = (
            pod.metadata,
            pod.spec.unwrap_or_default(),
            pod.status.unwrap_or_default(),
        );
        let labels = meta.labels.unwrap_or_default();
        let annotations = meta.annotations.unwrap_or_default();
        let owner = meta.owner_references.unwrap_or_default();
        let owner = owner.into_iter().find(|owner| owner.controller == Some(true));
        let (owner_kind, owner) = owner
            .map(|owner| maker(owner.kind, owner.name, &labels))
            .unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let statuses: Vec<ContainerStatus> = [
            status.init_container_statuses,
            status.container_statuses,
            status.ephemeral_container_statuses,
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect();
        let ip = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip);
        let addresses = ip.chain(status.pod_ip).filter_map(|ip| ip.parse().ok());
        let mut own: Vec<IpAddr> = Vec::new();
        for address in addresses.filter(|_| !ended && spec.host_network != Some(true)) {
            if !own.contains(&address) {
                own.push(address);
            }
        }
        let uid = meta.uid.unwrap_or_default();
        let hash = STATIC_HASH.iter().find_map(|name| annotations.get(*name));
        Self {
            cgroup_uid: hash.unwrap_or(&uid).clone(),
            uid,
            addresses: own,
            finished: ended.then(|| finished(&statuses)),
            containers: statuses
                .into_iter()
                .filter_map(container)
                .take(MAX_CONTAINERS)
                .collect(),
            started: status.start_time.map_or(0, nanos),
            name: Name {
                pod: meta.name.unwrap_or_default(),
                namespace: meta.namespace.unwrap_or_default(),
                node: spec.node_name.unwrap_or_default(),
                owner_kind,
                owner,
                labels: within(labels, |_, _| true),
                annotations: within(annotations, |name, value| {
                    name != LAST_APPLIED && value.len() <= MAX_ANNOTATION_BYTES
                }),
                ..Name::default()
            },
        }
    }
}

/// Who made the pod: of a ReplicaSet that a deployment made, the deployment. Its name is the set's without the hash that the
/// pod's label repeats, so nobody has to be asked.
fn maker(kind: String, name: String, labels: &BTreeMap<String, String>) -> (String, String) {
    let deployment = labels
        .get(TEMPLATE_HASH)
        .filter(|_| kind == "ReplicaSet")
        .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    match deployment {
        Some(deployment) => ("Deployment".to_owned(), deployment.to_owned()),
        None => (kind, name),
    }
}

/// The entries that may be kept, as many as there is room for, in their order.
fn within(table: BTreeMap<String, String>, may: impl Fn(&str, &str) -> bool) -> BTreeMap<String, String> {
    let mut room = MAX_TABLE_BYTES;
    table
        .into_iter()
        .filter(|(name, value)| may(name, value))
        .take_while(|(name, value)| {
            let left = room.checked_sub(name.len() + value.len());
            room = left.unwrap_or(0);
            left.is_some()
        })
        .collect()
}

/// `containerd://<id>` and its name.
fn container(status: ContainerStatus) -> Option<(String, String)> {
    let (_, id) = status.container_id.as_deref()?.split_once("://")?;
    (!id.is_empty()).then(|| (id.to_owned(), status.name))
}

fn finished(statuses: &[ContainerStatus]) -> Nanos {
    let ends = statuses.iter().filter_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref()?;
        ended.finished_at.clone().map(nanos)
    });
    ends.max().unwrap_or(0)
}

fn nanos(time: Time) -> Nanos {
    Nanos::try_from(time.0.as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use wiretape_kubernetes::objects;

    fn read(pod: Value) -> Pod {
        Pod::of(serde_json::from_value(pod).expect("a pod"))
    }

    fn cart() -> Value {
        objects::pod("shop", "cart-6d4cf56db6-x2x7k", "node-1", "10.1.0.7")
    }

    #[test]
    fn a_pod_of_a_deployment() {
        let pod = read(cart());
        assert_eq!(
            (pod.name.pod.as_str(), pod.name.namespace.as_str()),
            ("cart-6d4cf56db6-x2x7k", "shop")
        );
        assert_eq!(
            (pod.name.owner_kind.as_str(), pod.name.owner.as_str()),
            ("Deployment", "cart")
        );
        assert_eq!(pod.name.node, "node-1");
        assert_eq!(pod.addresses, [IpAddr::from([10, 1, 0, 7])]);
        let id = objects::container_id("cart-6d4cf56db6-x2x7k");
        assert_eq!(pod.containers, BTreeMap::from([(id, "app".to_owned())]));
        assert_eq!((pod.started, pod.finished), (1_767_600_000_000_000_000, None));
    }

    #[test]
    fn other_owners_stand_as_they_are() {
        for (kind, name) in [
            ("StatefulSet", "db"),
            ("DaemonSet", "proxy"),
            ("Job", "backup-29"),
            ("Node", "node-1"),
        ] {
            let mut pod = objects::pod("shop", "db-0", "node-1", "10.1.0.8");
            pod["metadata"]["ownerReferences"] = json!([objects::owner(kind, name)]);
            let pod = read(pod);
            assert_eq!(
                (pod.name.owner_kind.as_str(), pod.name.owner.as_str()),
                (kind, name)
            );
        }
        // A ReplicaSet that somebody made by hand.
        let mut pod = cart();
        pod["metadata"]["labels"] = json!({});
        assert_eq!(read(pod).name.owner, "cart-6d4cf56db6");
    }

    #[test]
    fn a_pod_in_the_hosts_network_and_one_that_ended_have_no_address() {
        let mut pod = cart();
        pod["spec"]["hostNetwork"] = true.into();
        assert_eq!(read(pod).addresses, [] as [IpAddr; 0]);
        let mut pod = cart();
        pod["status"]["phase"] = "Succeeded".into();
        pod["status"]["containerStatuses"][0]["state"] =
            json!({ "terminated": { "exitCode": 0, "finishedAt": "2026-01-05T08:00:07Z" } });
        let pod = read(pod);
        assert_eq!(
            (pod.addresses.len(), pod.finished),
            (0, Some(1_767_600_007_000_000_000))
        );
    }

    #[test]
    fn cgroups_are_called_by_the_uid_but_of_a_static_pod_by_its_hash() {
        assert_eq!(
            read(cart()).cgroup_uid,
            objects::pod_uid("shop", "cart-6d4cf56db6-x2x7k")
        );
        let hash = "d4a1e5b2c3f60718293a4b5c6d7e8f90";
        for annotation in STATIC_HASH {
            let mut mirror = cart();
            mirror["metadata"]["annotations"] = json!({ annotation: hash });
            assert_eq!(read(mirror).cgroup_uid, hash);
        }
    }

    #[test]
    fn labels_and_annotations_beyond_the_limit_are_left_out() {
        let mut pod = cart();
        pod["metadata"]["annotations"] = json!({
            LAST_APPLIED: "{}",
            "a/long": "x".repeat(MAX_ANNOTATION_BYTES + 1),
            "a/short": "x".repeat(MAX_ANNOTATION_BYTES),
        });
        let labels: BTreeMap<String, String> =
            (0..100).map(|n| (format!("l{n:03}"), "y".repeat(60))).collect();
        pod["metadata"]["labels"] = json!(labels);
        let pod = read(pod);
        assert_eq!(pod.name.annotations.keys().collect::<Vec<_>>(), ["a/short"]);
        assert_eq!(pod.name.labels.len(), MAX_TABLE_BYTES / 64);
    }
}
