//! Who is found, when.

use super::*;

const S: Nanos = 1_000_000_000;

fn name(node: &str, pod: &str, cgroup: u64, address: &str, since: Nanos, until: Option<Nanos>) -> NodeName {
    NodeName {
        node: node.to_owned(),
        name: Name {
            since,
            until,
            cgroup,
            pod: pod.to_owned(),
            addresses: vec![address.parse().unwrap()],
            ..Name::default()
        },
    }
}

/// An address, of whatever port.
fn any(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 0)
}

fn pod_at(names: &Names, address: &str, at: Nanos) -> String {
    names.resolve(None, 0, any(address), at).pod.to_owned()
}

#[test]
fn address_given_to_another_pod_in_the_window() {
    let names = Names::new(vec![
        name("n1", "new", 8, "10.0.0.1", 200 * S, None),
        name("n1", "old", 7, "10.0.0.1", 100 * S, Some(190 * S)),
    ]);
    assert_eq!(pod_at(&names, "10.0.0.1", 150 * S), "old");
    assert_eq!(
        pod_at(&names, "10.0.0.1", 195 * S),
        "",
        "nobody's while it was free"
    );
    assert_eq!(pod_at(&names, "10.0.0.1", 200 * S), "new");
    assert_eq!(pod_at(&names, "10.0.0.2", 200 * S), "");
}

#[test]
fn name_that_was_noticed_after_the_first_packet() {
    let names = Names::new(vec![name("n1", "web", 7, "10.0.0.1", 100 * S, None)]);
    assert_eq!(pod_at(&names, "10.0.0.1", 95 * S), "web");
    assert_eq!(pod_at(&names, "10.0.0.1", 10 * S), "");
    let by_cgroup = names.resolve(Some("n1"), 7, any("10.9.9.9"), 10 * S);
    assert_eq!(by_cgroup.pod, "web");
}

#[test]
fn same_cgroup_id_on_two_nodes() {
    let names = Names::new(vec![
        name("n1", "one", 7, "10.0.0.1", 0, None),
        name("n2", "two", 7, "10.0.0.2", 0, None),
    ]);
    let who = |node| names.resolve(Some(node), 7, any("10.9.9.9"), S);
    assert_eq!((who("n1").pod, who("n1").node), ("one", "n1"));
    assert_eq!((who("n2").pod, who("n2").node), ("two", "n2"));
    assert_eq!(who("n3").pod, "");
}

#[test]
fn cgroup_knows_the_process_and_address_the_pod() {
    let mut process = name("n1", "", 7, "10.0.0.9", 0, None);
    process.name.process = "nginx".to_owned();
    let names = Names::new(vec![process, name("n2", "web", 0, "10.0.0.1", 0, None)]);
    let who = names.resolve(Some("n1"), 7, any("10.0.0.1"), S);
    assert_eq!((who.node, who.process, who.pod), ("n1", "nginx", "web"));
}

#[test]
fn address_named_without_a_cgroup_says_no_node() {
    let names = Names::new(vec![name("n1", "gateway", 0, "203.0.113.7", 0, None)]);
    let who = names.resolve(None, 0, any("::ffff:203.0.113.7"), S);
    assert_eq!((who.node, who.pod), ("", "gateway"));
}

/// As the hub tells it.
fn told(name: Name) -> NodeName {
    NodeName {
        node: CLUSTER.to_owned(),
        name,
    }
}

fn service(service: &str, address: &str, since: Nanos, until: Option<Nanos>) -> NodeName {
    told(Name {
        since,
        until,
        service: service.to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec![address.parse().unwrap()],
        ..Name::default()
    })
}

#[test]
fn service_by_its_own_address_and_by_that_of_a_pod_behind_it() {
    let names = Names::new(vec![
        service("cart", "10.96.0.7", 0, None),
        service("cart", "10.0.0.1", 0, None),
        name("n1", "cart-1", 7, "10.0.0.1", 0, None),
    ]);
    let who = |address: &str| names.resolve(None, 0, any(address), S);
    let own = who("10.96.0.7");
    assert_eq!(
        (own.service, own.pod, own.namespace, own.node),
        ("cart", "", "shop", "")
    );
    let behind = who("10.0.0.1");
    assert_eq!(
        (behind.service, behind.pod, behind.node),
        ("cart", "cart-1", "n1")
    );
    assert_eq!((own.resolution, behind.resolution), ("", ""));
}

#[test]
fn pod_that_leaves_a_service_is_behind_it_no_more() {
    let names = Names::new(vec![
        service("cart", "10.0.0.1", 100 * S, Some(200 * S)),
        name("n1", "cart-1", 7, "10.0.0.1", 100 * S, None),
    ]);
    let at = |at| names.resolve(None, 0, any("10.0.0.1"), at).service;
    assert_eq!((at(150 * S), at(250 * S)), ("cart", ""));
}

#[test]
fn agent_is_believed_before_the_hub_about_a_pod() {
    let other = told(Name {
        since: 50 * S,
        pod: "of-the-slice".to_owned(),
        node: "n2".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
        ..Name::default()
    });
    let names = Names::new(vec![other, name("n1", "cart-1", 7, "10.0.0.1", 0, None)]);
    assert_eq!(pod_at(&names, "10.0.0.1", 60 * S), "cart-1");
    let who = names.resolve(None, 0, any("10.0.0.2"), 60 * S);
    assert_eq!((who.pod, who.node), ("of-the-slice", "n2"));
}

#[test]
fn address_of_a_node_is_of_no_pod_of_its_host_network() {
    let host = told(Name {
        node: "n1".to_owned(),
        addresses: vec!["192.168.0.4".parse().unwrap()],
        ..Name::default()
    });
    let names = Names::new(vec![
        host,
        service("exporter", "192.168.0.4", 0, None),
        name("n1", "exporter-1", 9, "10.0.0.9", 0, None),
    ]);
    let address = any("192.168.0.4");
    let who = names.resolve(None, 0, address, S);
    assert_eq!(
        (who.node, who.service, who.pod, who.namespace),
        ("n1", "", "", "internal")
    );
    assert_eq!(who.resolution, "");
    assert_eq!(names.resolve(Some("n1"), 9, address, S).pod, "exporter-1");
}

#[test]
fn who_has_no_name_is_placed_and_says_why() {
    let names = Names::default();
    let who = |node: Option<&'static str>, address: &str| {
        let who = names.resolve(node, 0, any(address), S);
        (who.namespace, who.resolution)
    };
    assert_eq!(who(None, "93.184.215.14"), ("public", ""));
    assert_eq!(who(None, "2606:2800::1"), ("public", ""));
    assert_eq!(who(None, "10.1.2.3"), ("internal", "no_node_mapping"));
    assert_eq!(who(None, "100.64.0.1"), ("internal", "no_node_mapping"));
    assert_eq!(who(None, "fe80::1"), ("internal", "no_node_mapping"));
    assert_eq!(who(Some("n1"), "10.1.2.3"), ("internal", "cache_miss"));
}

#[test]
fn who_told_a_name_and_the_node_that_it_names_are_kept_apart() {
    let host = told(Name {
        node: "n1".to_owned(),
        ..Name::default()
    });
    let written = serde_json::to_string(&host).unwrap();
    assert_eq!(serde_json::from_str::<NodeName>(&written).unwrap(), host);
    let before: NodeName = serde_json::from_str(r#"{"node":"n1","since":5,"pod":"web"}"#).unwrap();
    assert_eq!((before.node.as_str(), before.name.node.as_str()), ("n1", ""));
}

#[test]
fn name_told_again_with_its_end_stands() {
    let names = Names::new(vec![
        name("n1", "old", 0, "10.0.0.1", 100 * S, None),
        name("n1", "old", 0, "10.0.0.1", 100 * S, Some(200 * S)),
    ]);
    assert_eq!(names.all().len(), 1);
    assert_eq!(pod_at(&names, "10.0.0.1", 250 * S), "");
}

/// What the hub was told by the API server.
fn of_api(service: &str, pod: &str, addresses: &[&str], ports: &[u16]) -> NodeName {
    NodeName {
        node: CLUSTER.to_owned(),
        name: Name {
            service: service.to_owned(),
            pod: pod.to_owned(),
            namespace: "shop".to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            ports: ports.to_vec(),
            ..Name::default()
        },
    }
}

fn at_port<'n>(names: &'n Names, place: &str) -> (&'n str, &'n str) {
    let who = names.resolve(None, 0, place.parse().unwrap(), S);
    (who.service, who.pod)
}

#[test]
fn port_tells_which_of_several_services_is_meant() {
    let names = Names::new(vec![
        of_api("admin", "", &["10.1.0.5"], &[9090]),
        of_api("cart", "", &["10.1.0.5"], &[8080, 8443]),
        of_api("any", "", &["10.1.0.5"], &[]),
    ]);
    assert_eq!(at_port(&names, "10.1.0.5:8443").0, "cart");
    assert_eq!(at_port(&names, "10.1.0.5:9090").0, "admin");
    assert_eq!(at_port(&names, "10.1.0.5:1234").0, "any");
    let names = Names::new(vec![
        of_api("cart", "", &["10.1.0.5"], &[8080]),
        of_api("admin", "", &["10.1.0.5"], &[9090]),
    ]);
    assert_eq!(at_port(&names, "10.1.0.5:1234").0, "admin", "the first by name");
}

#[test]
fn port_of_a_node_leads_to_its_service_or_to_who_is_there() {
    let mut node = of_api("", "", &["192.168.0.4", "fd00::4"], &[]);
    (node.name.namespace, node.name.node) = (String::new(), "n1".to_owned());
    let names = Names::new(vec![
        node,
        of_api("cart", "", &[], &[30080]),
        // Pods of the host's network.
        of_api("exporter", "", &["192.168.0.4"], &[9100]),
        of_api("", "exporter-x", &["192.168.0.4"], &[9100]),
    ]);
    assert_eq!(at_port(&names, "192.168.0.4:30080"), ("cart", ""));
    assert_eq!(at_port(&names, "[fd00::4]:30080"), ("cart", ""));
    assert_eq!(at_port(&names, "192.168.0.4:9100"), ("exporter", "exporter-x"));
    assert_eq!(at_port(&names, "192.168.0.4:22"), ("", ""));
    assert_eq!(at_port(&names, "10.1.0.5:30080"), ("", ""), "no node");
}

#[test]
fn event_of_a_container_has_its_pods_service() {
    let mut container = name("n1", "cart-1", 7, "10.1.0.5", 0, None);
    container.name.addresses.clear();
    container.name.namespace = "shop".to_owned();
    let names = Names::new(vec![
        container,
        of_api("", "cart-1", &["10.1.0.5"], &[8080]),
        of_api("cart", "", &["10.1.0.5"], &[8080]),
    ]);
    let event = Event {
        at: S,
        cgroup: 7,
        ..Event::default()
    };
    let who = names.of_event("n1", &event);
    assert_eq!((who.pod, who.service, who.node), ("cart-1", "cart", "n1"));
}
