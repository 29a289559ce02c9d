//! What objects of the Kubernetes API say of addresses, and its events as those of a tape.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Event as KubeEvent, Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use wiretape_tape::{Event, EventKind, Name, Nanos};

/// The label by which a slice says whose endpoints it holds.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The annotation that says when a slice's endpoints last changed: those it has now, it has had since then.
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The addresses that a service is reached by: its own, before any of its pods is chosen; and the ports by which it is at
/// every node.
pub(super) fn service(service: &Service) -> Vec<Name> {
    let spec = service.spec.as_ref();
    let own = spec.and_then(|spec| spec.cluster_ips.as_ref());
    let external = spec.and_then(|spec| spec.external_ips.as_ref());
    let ingress = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let single = spec.and_then(|spec| spec.cluster_ip.as_ref());
    let mut addresses: Vec<IpAddr> = own
        .into_iter()
        .flatten()
        .chain(single)
        .chain(external.into_iter().flatten())
        .chain(
            ingress
                .into_iter()
                .flatten()
                .filter_map(|ingress| ingress.ip.as_ref()),
        )
        // A headless service has the address `None`.
        .filter_map(|address| address.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let (own, of_nodes): (Vec<i32>, Vec<Option<i32>>) = ports.map(|port| (port.port, port.node_port)).unzip();
    let of_nodes = port_numbers(of_nodes.into_iter().flatten());
    let name = |addresses, ports| Name {
        since: created(&service.metadata),
        addresses,
        ports,
        service: text(&service.metadata.name),
        namespace: text(&service.metadata.namespace),
        ..Name::default()
    };
    let own = port_numbers(own.into_iter());
    let by_address = addresses
        .into_iter()
        .map(|address| name(vec![address], own.clone()));
    let by_node = (!of_nodes.is_empty()).then(|| name(Vec::new(), of_nodes));
    by_address.chain(by_node).collect()
}

/// Ports in their order, each once; TCP's and UDP's alike.
fn port_numbers(ports: impl Iterator<Item = i32>) -> Vec<u16> {
    let mut ports: Vec<u16> = ports.filter_map(|port| port.try_into().ok()).collect();
    ports.retain(|port| *port != 0);
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The addresses behind a service, and the pods that have them: two names each, since a pod may stand behind several
/// services. Endpoints that are not ready count: connections to those that are about to end still live.
pub(super) fn endpoints(slice: &EndpointSlice) -> Vec<Name> {
    let label = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME));
    let service = text(&label.cloned());
    let namespace = text(&slice.metadata.namespace);
    let changed = slice
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(LAST_CHANGE));
    let since = changed
        .and_then(|changed| changed.parse::<Timestamp>().ok())
        .map_or(0, nanos);
    let ports = slice.ports.iter().flatten().filter_map(|port| port.port);
    let ports = port_numbers(ports);
    let mut names = Vec::new();
    for endpoint in &slice.endpoints {
        // What addresses beyond the first mean is not defined (API reference of Endpoint.addresses).
        let Some(address) = endpoint
            .addresses
            .first()
            .and_then(|address| address.parse().ok())
        else {
            continue;
        };
        let bare = Name {
            since,
            addresses: vec![address],
            ports: ports.clone(),
            namespace: namespace.clone(),
            ..Name::default()
        };
        if !service.is_empty() {
            let service = service.clone();
            names.push(Name {
                service,
                ..bare.clone()
            });
        }
        let target = endpoint.target_ref.as_ref();
        if let Some(pod) = target.filter(|target| target.kind.as_deref() == Some("Pod")) {
            names.push(Name {
                pod: text(&pod.name),
                namespace: pod.namespace.clone().unwrap_or(namespace.clone()),
                node: text(&endpoint.node_name),
                ..bare
            });
        }
    }
    names
}

/// A node's addresses.
pub(super) fn node(node: &Node) -> Vec<Name> {
    let status = node.status.as_ref();
    let mut addresses: Vec<IpAddr> = status
        .and_then(|status| status.addresses.as_ref())
        .into_iter()
        .flatten()
        // Some of them are host names.
        .filter_map(|address| address.address.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Vec::new();
    }
    vec![Name {
        since: created(&node.metadata),
        addresses,
        node: text(&node.metadata.name),
        ..Name::default()
    }]
}

/// Most bytes of a namespace's labels: what is beyond is left out, by the order of their names.
const LABEL_BYTES: usize = 4 << 10;

/// A namespace with its labels.
pub(super) fn namespace(namespace: &Namespace) -> Vec<Name> {
    let mut room = LABEL_BYTES;
    let labels = namespace.metadata.labels.iter().flatten();
    let labels = labels.take_while(|(key, value)| {
        let left = room.checked_sub(key.len() + value.len());
        room = left.unwrap_or_default();
        left.is_some()
    });
    vec![Name {
        since: created(&namespace.metadata),
        namespace: text(&namespace.metadata.name),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        ..Name::default()
    }]
}

/// An event, by its latest occurrence.
pub(super) fn event(event: &KubeEvent) -> Event {
    let object = &event.involved_object;
    let kind = text(&object.kind);
    let series = event.series.as_ref();
    let at = series
        .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0))
        .or_else(|| event.last_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let count = series.and_then(|series| series.count).or(event.count);
    let name = text(&object.name);
    let node = match kind.as_str() {
        "Node" => name.clone(),
        // A kubelet says where it is; others speak of the whole cluster.
        _ => text(&event.source.as_ref().and_then(|source| source.host.clone())),
    };
    Event {
        at: at.map_or(0, nanos),
        kind: EventKind::Kubernetes,
        warning: event.type_.as_deref().is_some_and(|sort| sort != "Normal"),
        reason: text(&event.reason),
        message: text(&event.message),
        count: count.and_then(|count| count.try_into().ok()).unwrap_or(0),
        node,
        pod: if kind == "Pod" {
            name.clone()
        } else {
            String::new()
        },
        namespace: text(&object.namespace),
        object_kind: kind,
        object: name,
        ..Event::default()
    }
}

/// By what an object is known among those of its kind.
pub(super) fn key(meta: &ObjectMeta) -> String {
    format!("{}/{}", text(&meta.namespace), text(&meta.name))
}

/// Since when an object exists, 0 if it does not say.
fn created(meta: &ObjectMeta) -> Nanos {
    meta.creation_timestamp.as_ref().map_or(0, |time| nanos(time.0))
}

fn nanos(time: Timestamp) -> Nanos {
    time.as_nanosecond().try_into().unwrap_or(0)
}

fn text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(object: serde_json::Value) -> T {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn service_is_known_by_every_address_that_leads_to_it() {
        let cart: Service = read(json!({
            "metadata": { "name": "cart", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "externalIPs": ["198.51.100.1"] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.9" }, { "hostname": "lb.example.com" }] } }
        }));
        let names = service(&cart);
        let addresses: Vec<String> = names.iter().map(|name| name.addresses[0].to_string()).collect();
        assert_eq!(addresses, ["10.96.0.7", "198.51.100.1", "203.0.113.9", "fd00::7"]);
        assert_eq!(
            (names[0].service.as_str(), names[0].namespace.as_str()),
            ("cart", "shop")
        );
        assert_eq!(names[0].since, 1_767_225_600_000_000_000);
    }

    #[test]
    fn service_without_an_address_of_its_own_tells_none() {
        // Its endpoints have the addresses, or DNS has: who went where by its name is in the packets.
        for spec in [
            json!({ "clusterIP": "None" }),
            json!({ "type": "ExternalName", "externalName": "db.example.com" }),
        ] {
            assert_eq!(
                service(&read(json!({ "metadata": { "name": "db" }, "spec": spec }))),
                []
            );
        }
    }

    #[test]
    fn service_is_known_by_its_ports_and_by_those_of_every_node() {
        let names = service(&read(json!({
            "metadata": { "name": "cart", "namespace": "shop" },
            "spec": { "type": "NodePort", "clusterIP": "10.96.0.7", "ports": [
                { "port": 443, "nodePort": 30443 }, { "port": 80, "nodePort": 30080 }, { "port": 80, "protocol": "UDP" }
            ] }
        })));
        let told: Vec<_> = names
            .iter()
            .map(|name| (name.addresses.len(), name.ports.as_slice()))
            .collect();
        assert_eq!(told, [(1, [80, 443].as_slice()), (0, &[30080, 30443])]);
    }

    #[test]
    fn endpoints_of_both_families_are_told_by_a_slice_each() {
        let slice = |family: &str, address: &str| -> Vec<Name> {
            endpoints(&read(json!({
                "metadata": { "name": "cart-x", "namespace": "shop", "labels": { "kubernetes.io/service-name": "cart" } },
                "addressType": family, "ports": [{ "port": 8080 }],
                "endpoints": [{ "addresses": [address], "targetRef": { "kind": "Pod", "name": "cart-abc" } }]
            })))
        };
        for (family, address) in [("IPv4", "10.1.0.5"), ("IPv6", "fd00:1::5")] {
            let names = slice(family, address);
            let of = |name: &Name| (name.addresses[0].to_string(), name.ports.clone());
            assert!(
                names.len() == 2
                    && names
                        .iter()
                        .all(|name| of(name) == (address.to_owned(), vec![8080]))
            );
        }
    }

    #[test]
    fn endpoint_names_its_service_and_its_pod() {
        let slice: EndpointSlice = read(json!({
            "metadata": {
                "name": "cart-x1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "cart" },
                "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:01Z" }
            },
            "addressType": "IPv4",
            "endpoints": [
                { "addresses": ["10.1.0.5"], "nodeName": "n1", "conditions": { "ready": false },
                  "targetRef": { "kind": "Pod", "name": "cart-abc", "namespace": "shop" } },
                { "addresses": ["10.1.0.6"] },
                { "addresses": ["not.an.address"] }
            ]
        }));
        let names = endpoints(&slice);
        let told: Vec<_> = names
            .iter()
            .map(|name| (name.service.as_str(), name.pod.as_str(), name.node.as_str()))
            .collect();
        assert_eq!(told, [("cart", "", ""), ("", "cart-abc", "n1"), ("cart", "", "")]);
        assert!(names.iter().all(|name| name.since == 1_767_225_601_000_000_000));
    }

    #[test]
    fn node_is_known_by_its_addresses_not_by_its_host_name() {
        let told: Node = read(json!({
            "metadata": { "name": "n1" },
            "status": { "addresses": [
                { "type": "InternalIP", "address": "192.168.0.4" }, { "type": "Hostname", "address": "n1" }
            ] }
        }));
        let names = node(&told);
        assert_eq!(
            (names.len(), names[0].node.as_str(), names[0].addresses.len()),
            (1, "n1", 1)
        );
    }

    #[test]
    fn namespace_has_labels_and_not_too_many() {
        let team = json!({ "metadata": { "name": "shop", "labels": { "team": "web" } } });
        let names = namespace(&read(team));
        assert_eq!(names.len(), 1);
        assert_eq!(
            (names[0].namespace.as_str(), names[0].labels["team"].as_str()),
            ("shop", "web")
        );
        assert!(names[0].addresses.is_empty());
        let long =
            json!({ "metadata": { "name": "shop", "labels": { "a": "x", "b": "y".repeat(LABEL_BYTES) } } });
        assert_eq!(namespace(&read(long))[0].labels.len(), 1);
    }

    #[test]
    fn event_of_a_pod_with_its_latest_time_and_count() {
        let told = event(&read(json!({
            "metadata": { "name": "payment-1.17", "namespace": "shop" },
            "involvedObject": { "kind": "Pod", "name": "payment-1", "namespace": "shop" },
            "type": "Warning", "reason": "BackOff", "message": "Back-off restarting failed container",
            "count": 4, "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:09Z",
            "source": { "component": "kubelet", "host": "n2" }
        })));
        assert_eq!(
            (
                told.pod.as_str(),
                told.node.as_str(),
                told.reason.as_str(),
                told.count
            ),
            ("payment-1", "n2", "BackOff", 4)
        );
        assert!(told.warning);
        assert_eq!(told.at, 1_767_225_609_000_000_000);
    }

    #[test]
    fn event_of_the_newer_form_counts_in_its_series() {
        let told = event(&read(json!({
            "metadata": { "name": "web.1", "namespace": "shop" },
            "involvedObject": { "kind": "Deployment", "name": "web", "namespace": "shop" },
            "type": "Normal", "reason": "ScalingReplicaSet", "eventTime": "2026-01-01T00:00:00.000000Z",
            "series": { "count": 3, "lastObservedTime": "2026-01-01T00:00:02.500000Z" }
        })));
        assert_eq!(
            (told.pod.as_str(), told.object.as_str(), told.count),
            ("", "web", 3)
        );
        assert_eq!(told.at, 1_767_225_602_500_000_000);
        assert!(!told.warning);
    }
}
