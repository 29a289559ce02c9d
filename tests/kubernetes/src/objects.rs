//! Objects in the shapes that a cluster has them in. Change what differs after making them.

use serde_json::{Value, json};

/// When all of it was made, unless something else is said.
pub const LONG_AGO: &str = "2026-01-05T08:00:00Z";

/// The container runtime's id of a pod's container: 64 digits, from the pod's name.
pub fn container_id(pod: &str) -> String {
    hex(pod, 64)
}

/// A pod's uid, from its namespace and name.
pub fn pod_uid(namespace: &str, pod: &str) -> String {
    let digits = hex(&format!("{namespace}/{pod}"), 32);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

/// A running pod of one container, `app`, of the deployment that its name begins with (`cart-6d4cf56db6-x2x7k` is of
/// `cart`, by the ReplicaSet `cart-6d4cf56db6`), or of none, if its name has no such parts.
pub fn pod(namespace: &str, name: &str, node: &str, address: &str) -> Value {
    let parts: Vec<&str> = name.rsplitn(3, '-').collect();
    let (labels, owners) = match parts.as_slice() {
        [_, hash, app] => (
            json!({ "app": app, "pod-template-hash": hash }),
            json!([owner("ReplicaSet", &format!("{app}-{hash}"))]),
        ),
        _ => (json!({ "app": name }), json!([])),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace, "uid": pod_uid(namespace, name), "creationTimestamp": LONG_AGO,
            "labels": labels, "annotations": { "prometheus.io/scrape": "true" }, "ownerReferences": owners,
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "default", "restartPolicy": "Always",
            "containers": [{ "name": "app", "image": "registry.example/app:1", "ports": [{ "containerPort": 8080, "protocol": "TCP" }] }],
        },
        "status": {
            "phase": "Running", "hostIP": "192.168.0.1", "podIP": address, "podIPs": [{ "ip": address }],
            "startTime": LONG_AGO, "qosClass": "BestEffort",
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": LONG_AGO }],
            "containerStatuses": [{
                "name": "app", "image": "registry.example/app:1", "imageID": "registry.example/app@sha256:1",
                "containerID": format!("containerd://{}", container_id(name)),
                "ready": true, "started": true, "restartCount": 0,
                "state": { "running": { "startedAt": LONG_AGO } }, "lastState": {},
            }],
        },
    })
}

/// A reference to what owns an object.
pub fn owner(kind: &str, name: &str) -> Value {
    let api_version = match kind {
        "Job" | "CronJob" => "batch/v1",
        "Node" => "v1",
        _ => "apps/v1",
    };
    json!({
        "apiVersion": api_version, "kind": kind, "name": name, "uid": pod_uid(kind, name),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A service of one port, 80 to 8080, for the pods with the label `app` of its name.
pub fn service(namespace: &str, name: &str, cluster_ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name, "namespace": namespace, "creationTimestamp": LONG_AGO, "labels": { "app": name },
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip], "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }], "sessionAffinity": "None",
        },
        "status": { "loadBalancer": {} },
    })
}

/// The endpoints of a service: pods, each with its node and address.
pub fn endpoint_slice(namespace: &str, service: &str, pods: &[(&str, &str, &str)]) -> Value {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(pod, node, address)| {
            json!({
                "addresses": [address], "nodeName": node,
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "targetRef": { "kind": "Pod", "namespace": namespace, "name": pod, "uid": pod_uid(namespace, pod) },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", hex(service, 5)), "namespace": namespace, "creationTimestamp": LONG_AGO,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

/// A node that is ready.
pub fn node(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name, "creationTimestamp": LONG_AGO,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "a" },
        },
        "spec": { "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": address }, { "type": "Hostname", "address": name }],
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": LONG_AGO, "lastHeartbeatTime": LONG_AGO }],
            "nodeInfo": {
                "machineID": hex(name, 32), "systemUUID": pod_uid("node", name), "bootID": pod_uid("boot", name),
                "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 12 (bookworm)", "operatingSystem": "linux",
                "architecture": "amd64", "containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": "v1.34.0",
                "kubeProxyVersion": "",
            },
        },
    })
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "creationTimestamp": LONG_AGO, "labels": { "kubernetes.io/metadata.name": name } },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    })
}

/// A ReplicaSet, with the deployment that it belongs to.
pub fn replica_set(namespace: &str, deployment: &str, hash: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{deployment}-{hash}"), "namespace": namespace, "creationTimestamp": LONG_AGO,
            "labels": { "app": deployment, "pod-template-hash": hash },
            "ownerReferences": [owner("Deployment", deployment)],
        },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": deployment, "pod-template-hash": hash } } },
        "status": { "replicas": 1 },
    })
}

/// An event about a pod, as the kubelet writes it. `kind` is `Normal` or `Warning`, `at` a time like [`LONG_AGO`].
pub fn event(namespace: &str, pod: &str, kind: &str, reason: &str, message: &str, at: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{pod}.{}", hex(&format!("{pod}{reason}{at}"), 16)), "namespace": namespace, "creationTimestamp": at,
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod, "uid": pod_uid(namespace, pod),
            "fieldPath": "spec.containers{app}",
        },
        "type": kind, "reason": reason, "message": message,
        "source": { "component": "kubelet", "host": "node-1" }, "reportingComponent": "kubelet", "reportingInstance": "node-1",
        "firstTimestamp": at, "lastTimestamp": at, "eventTime": null, "count": 1,
    })
}

/// Hexadecimal digits that differ from text to text (FNV-1a, stretched).
fn hex(text: &str, digits: usize) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        hash
    };
    for byte in text.bytes() {
        mix(byte);
    }
    let mut out = String::new();
    while out.len() < digits {
        out.push_str(&format!("{:08x}", mix(0) >> 32));
    }
    out.truncate(digits);
    out
}
