//! What a cluster's API server tells: a double of it, which knows the pods of the cluster's nodes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use wiretape_kubernetes::{Kubernetes, objects};

use crate::cluster::Pod;

/// The namespace of all pods.
pub const NAMESPACE: &str = "shop";

/// What the names of ReplicaSets end with.
const HASH: &str = "6d4cf56db6";

/// The API server.
#[derive(Debug)]
pub struct Control {
    api: Kubernetes,
    kubeconfig: PathBuf,
}

impl Control {
    /// Starts it, with everything that a cluster of these pods has; a kubeconfig for it goes into the folder.
    ///
    /// # Errors
    /// No port or no thread for it, or the file cannot be written.
    pub fn new(folder: &Path, pods: &[Vec<Pod>]) -> anyhow::Result<Self> {
        let api = Kubernetes::start()?;
        api.put(objects::namespace(NAMESPACE));
        for (pods, number) in pods.iter().zip(1..) {
            let node = node_name(number);
            api.put(objects::node(&node, &format!("192.168.77.{number}")));
            for (pod, index) in pods.iter().zip(1..) {
                api.put(replica_set(&pod.service));
                let own = format!("10.96.{number}.{index}");
                api.put(objects::service(NAMESPACE, &pod.service, &own));
                for object in running(pod, &node) {
                    api.put(object);
                }
            }
        }
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, api.kubeconfig())
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        Ok(Self { api, kubeconfig })
    }

    /// The double.
    pub fn api(&self) -> &Kubernetes {
        &self.api
    }

    /// How it is found.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// The name of a node, counted from 1.
fn node_name(number: u8) -> String {
    format!("node-{number}")
}

/// A pod that runs on a node, and its service's endpoints.
pub fn running(pod: &Pod, node: &str) -> [Value; 2] {
    let (name, address) = (pod.name(), pod.address.to_string());
    let mut object = objects::pod(NAMESPACE, &name, node, &address);
    object["metadata"]["labels"] = json!({ "app": pod.service, "pod-template-hash": HASH });
    object["metadata"]["ownerReferences"] =
        json!([objects::owner("ReplicaSet", &format!("{}-{HASH}", pod.service))]);
    let mut slice = objects::endpoint_slice(NAMESPACE, &pod.service, &[(&name, node, &address)]);
    slice["metadata"]["annotations"] =
        json!({ "endpoints.kubernetes.io/last-change-trigger-time": objects::LONG_AGO });
    [object, slice]
}

fn replica_set(service: &str) -> Value {
    objects::replica_set(NAMESPACE, service, HASH)
}

/// The cgroup of a pod's container below its node's, as containerd's driver for systemd makes it.
pub fn container(pod: &str) -> String {
    let uid = objects::pod_uid(NAMESPACE, pod).replace('-', "_");
    let id = objects::container_id(pod);
    format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{id}.scope"
    )
}
