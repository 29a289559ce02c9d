//! A hub in a cluster: what the Kubernetes API tells becomes names and events of snapshots, which then need no cluster.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use wiretape_dissect::testing::{Chat, Talk, Who};
use wiretape_hub::cluster::Kubernetes;

use crate::agent::{Node, SECOND};
use crate::hub::{HubProcess, TestHub};

const SERVICES: &str = "/api/v1/services";
const NODES: &str = "/api/v1/nodes";
const EVENTS: &str = "/api/v1/events";
const NAMESPACES: &str = "/api/v1/namespaces";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// An API server that lists and watches.
#[derive(Clone, Default)]
struct Api {
    state: Arc<Mutex<Objects>>,
}

#[derive(Default)]
struct Objects {
    /// By path and name.
    objects: BTreeMap<(String, String), Value>,
    /// Every change, its place being its version.
    log: Vec<(String, Value)>,
    /// Requests are refused.
    down: bool,
    lists: usize,
}

impl Api {
    /// Serves, and gives a kubeconfig for it.
    async fn serve(&self, dir: &TempDir) -> Kubernetes {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster: {{server: 'http://{address}'}}\n\
             contexts:\n- name: c\n  context: {{cluster: c, user: u}}\nusers:\n- name: u\n  user: {{}}\n"
        );
        let path: PathBuf = dir.path().join("kubeconfig");
        std::fs::write(&path, config).unwrap();
        Kubernetes::File(path)
    }

    fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state();
        object["metadata"]["resourceVersion"] = json!((state.log.len() + 1).to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = state.objects.insert((path.to_owned(), name), object.clone());
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        state
            .log
            .push((path.to_owned(), json!({ "type": kind, "object": object })));
    }

    fn state(&self) -> MutexGuard<'_, Objects> {
        self.state.lock().unwrap()
    }

    /// The next change of a kind behind a version.
    fn change(&self, path: &str, version: usize) -> Option<(usize, Value)> {
        let state = self.state();
        let mut later = state.log.iter().enumerate().skip(version);
        let found = later.find(|(_, (of, _))| of == path)?;
        Some((found.0 + 1, found.1.1.clone()))
    }
}

async fn answer(State(api): State<Api>, uri: Uri, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let path = uri.path().to_owned();
    if api.state().down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !query.contains_key("watch") {
        let mut state = api.state();
        state.lists += 1;
        let of_kind = state.objects.iter().filter(|((of, _), _)| *of == path);
        let items: Vec<&Value> = of_kind.map(|(_, object)| object).collect();
        let version = state.log.len().to_string();
        return Json(json!({ "metadata": { "resourceVersion": version }, "items": items })).into_response();
    }
    let from: usize = query
        .get("resourceVersion")
        .map_or(0, |version| version.parse().unwrap());
    let changes = futures::stream::unfold((api, path, from), |(api, path, from)| async move {
        loop {
            if api.state().down {
                return None;
            }
            if let Some((version, change)) = api.change(&path, from) {
                let line = Bytes::from(format!("{change}\n"));
                return Some((Ok::<_, Infallible>(line), (api, path, version)));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    Body::from_stream(changes).into_response()
}

fn service(name: &str, address: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "clusterIP": address, "clusterIPs": [address] }
    })
}

fn slice(service: &str, pod: &str, address: &str, changed: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("{service}-x1"), "namespace": "shop",
            "labels": { "kubernetes.io/service-name": service },
            "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": changed }
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": [address], "nodeName": "node-2",
            "targetRef": { "kind": "Pod", "name": pod, "namespace": "shop" }
        }]
    })
}

fn event(pod: &str, reason: &str) -> Value {
    json!({
        "metadata": { "name": format!("{pod}.{reason}"), "namespace": "shop", "uid": format!("{pod}.{reason}") },
        "involvedObject": { "kind": "Pod", "name": pod, "namespace": "shop" },
        "type": "Warning", "reason": reason, "message": "Memory cgroup out of memory", "count": 1,
        "lastTimestamp": jiff::Timestamp::now().to_string(),
        "source": { "component": "kubelet", "host": "node-2" }
    })
}

/// Waits until the hub's watches are as `wanted` says.
async fn until(hub: &TestHub, wanted: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let health = hub
                .client
                .post("/mcp/tools/get_recording_health", json!({}))
                .await;
            if wanted(&health) {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .expect("the watches come to it")
}

fn complete(health: &Value) -> bool {
    let watches = health["kubernetes"]["watches"].as_object();
    watches.is_some_and(|all| all.values().all(|watch| watch["complete"] == true))
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_holds_what_the_cluster_told_and_needs_it_no_more() {
    let now = wiretape_hub::now();
    let node = Node::start("node-1", 1 << 20).await;
    let mut asked = Chat::new("10.0.0.1:40000", "10.96.0.10:53", now - 3 * SECOND);
    asked.resolve(&["cart.shop.svc.cluster.local"], [10, 96, 0, 7]);
    node.record(&asked.seen_by(Who::Client, 0, 0));
    // Past kube-proxy, or through it.
    for (server, start) in [("10.0.0.2:80", now - 2 * SECOND), ("10.96.0.7:80", now - SECOND)] {
        let mut talk = Talk::new("10.0.0.1:40000", server, start, (1, 2));
        talk.handshake();
        talk.ask("GET /cart HTTP/1.1\r\nHost: cart\r\n\r\n");
        talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        talk.close();
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }

    let api = Api::default();
    api.put(SERVICES, service("cart", "10.96.0.7"));
    api.put(
        SLICES,
        slice("cart", "cart-abc", "10.0.0.2", "2026-01-01T00:00:00Z"),
    );
    api.put(
        NODES,
        json!({ "metadata": { "name": "node-2" }, "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.2" }] } }),
    );
    api.put(
        NAMESPACES,
        json!({ "metadata": { "name": "shop", "labels": { "team": "web" } } }),
    );
    let dir = TempDir::new().unwrap();
    let kubernetes = api.serve(&dir).await;
    let hub = TestHub::open_in(dir, vec![node.url.clone()], kubernetes).await;
    until(&hub, complete).await;
    api.put(EVENTS, event("cart-abc", "OOMKilling"));
    let health = until(&hub, |health| health["kubernetes"]["events"] == 1).await;
    assert_eq!(health["kubernetes"]["names"], 5, "{health}");
    // A list and a watch of each kind.
    let asked = &health["kubernetes"];
    assert!(
        asked["requests"].as_u64() >= Some(10) && asked["received_bytes"].as_u64() > Some(1000),
        "{health}"
    );
    assert_eq!(hub.client.metric("kubernetes_names").await, 5);

    let live = hub.client.get("/mcp/resolve/ips?ip=10.0.0.2").await;
    assert_eq!(live["live"], true);
    assert_eq!(live["ips"][0]["records"].as_array().unwrap().len(), 2, "{live}");

    let pods = hub.client.get("/mcp/resolve/workloads?type=pod").await;
    assert_eq!(pods["namespaces"]["shop"]["labels"]["team"], "web", "{pods}");
    assert_eq!(
        pods["workloads"][0]["not_recorded"], "no agent records on node-2",
        "{pods}"
    );

    let snapshot = hub
        .client
        .snapshot(json!({ "name": "s", "duration": "1m" }))
        .await;
    assert_eq!(snapshot["problems"], json!([]));
    let dir = hub.stop().await;

    // Months later, without a cluster.
    let hub = TestHub::open(dir, Vec::new()).await;
    hub.client.dissect("s", "d").await;
    let calls = hub.client.get("/mcp/calls?db=s/d&kfl=http&format=full").await;
    assert_eq!(
        calls["calls"][1]["dst"]["dns"], "cart.shop.svc.cluster.local",
        "{calls}"
    );
    let ips = hub
        .client
        .get("/mcp/resolve/ips?snapshot_id=s&ip=10.96.0.7")
        .await;
    assert_eq!(ips["ips"][0]["records"][0]["name"], "cart", "{ips}");
    assert_eq!(ips["ips"][0]["dns"][0]["name"], "cart.shop.svc.cluster.local");
    let peers: Vec<_> = calls["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| {
            let dst = &call["dst"];
            ["svc", "pod", "ns", "node"].map(|member| dst[member].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let behind = ["cart", "cart-abc", "shop", "node-2"].map(str::to_owned);
    assert_eq!(peers, [behind, ["cart", "", "shop", ""].map(str::to_owned)]);

    let events = hub.client.get("/mcp/events?db=s/d&warning=true").await;
    let event = &events["events"][0];
    assert_eq!(
        (&event["reason"], &event["pod"], &event["svc"], &event["node"]),
        (
            &json!("OOMKilling"),
            &json!("cart-abc"),
            &json!("cart"),
            &json!("node-2")
        )
    );
    let none = hub.client.get("/mcp/events?db=s/d&kind=socket_reset").await;
    assert_eq!(
        none["explanation"],
        "none of the 1 events of this dissection is meant"
    );
    let overview = hub
        .client
        .post(
            "/mcp/tools/investigate",
            json!({ "snapshot_id": "s", "workload": "cart" }),
        )
        .await;
    // It happened after the last call.
    assert_eq!(
        overview["happened"]["events"][0]["reason"], "OOMKilling",
        "{overview}"
    );
    let sql = hub
        .client
        .post(
            "/mcp/sql",
            json!({ "db": "s/d", "sql": "SELECT told_by, object, warning FROM events" }),
        )
        .await;
    assert_eq!(sql["rows"], json!([["cluster", "cart-abc", 1]]));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_of_certain_workloads_has_no_other_packets() {
    let now = wiretape_hub::now();
    let node = Node::start("node-1", 1 << 20).await;
    for (server, pod, start) in [
        ("10.0.0.2", "cart-1", now - 3 * SECOND),
        ("10.0.0.3", "payment-1", now - 2 * SECOND),
    ] {
        node.name(server, pod, "", now - 60 * SECOND);
        let mut talk = Talk::new("10.0.0.1:40000", &format!("{server}:80"), start, (1, 2));
        talk.handshake();
        talk.ask("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
        talk.answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        talk.close();
        node.record(&talk.seen_by(Who::Client, 0, 0));
    }
    let hub = TestHub::start(&[&node]).await;
    let filter = json!({ "namespaces": ["shop"], "pod_regex": "^cart-" });
    let snapshot = hub
        .client
        .snapshot(json!({ "name": "s", "duration": "1m", "workload_filter": filter }))
        .await;
    assert_eq!(snapshot["workload_filter"], filter, "{snapshot}");
    let part = &snapshot["nodes"][0];
    assert_eq!(part["left_out_packets"], part["packet_count"], "{snapshot}");
    hub.client.dissect("s", "d").await;
    let calls = hub.client.get("/mcp/calls?db=s/d").await;
    assert_eq!(
        (&calls["total"], &calls["calls"][0]["dst"]["pod"]),
        (&json!(1), &json!("cart-1"))
    );
    let wrong = json!({ "name": "t", "workload_filter": { "pod_regex": "(" } });
    let (status, answer) = hub.client.ask("POST", "/mcp/snapshots", Some(wrong)).await;
    let told = answer["error"].as_str().unwrap_or_default();
    assert!(
        status == 400 && told.contains("`workload_filter` must be"),
        "{answer}"
    );
    hub.stop().await;
}

/// A cluster of usual size: what it costs the hub, printed for docs/cluster.md.
#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_pods_behind_five_hundred_services() {
    let api = Api::default();
    let address = |number: usize| {
        format!(
            "10.{}.{}.{}",
            1 + number / 62_500,
            number / 250 % 250,
            1 + number % 250
        )
    };
    for service in 0..500 {
        let name = format!("service-{service}");
        api.put(
            SERVICES,
            self::service(&name, &format!("10.96.{}.{}", service / 250, 1 + service % 250)),
        );
        let endpoints: Vec<Value> = (0..10)
            .map(|pod| {
                json!({
                    "addresses": [address(service * 10 + pod)], "nodeName": format!("node-{pod}"),
                    "targetRef": { "kind": "Pod", "name": format!("{name}-7c9fd8b6d-x{pod:04}"), "namespace": "shop" }
                })
            })
            .collect();
        let mut object = slice(&name, "", "10.0.0.1", "2026-01-01T00:00:00Z");
        object["endpoints"] = json!(endpoints);
        api.put(SLICES, object);
    }
    let dir = TempDir::new().unwrap();
    let Kubernetes::File(kubeconfig) = api.serve(&dir).await else {
        panic!("it is a file")
    };
    let idle = HubProcess::start(&dir.path().join("idle"), &[]);
    let (before, began) = (idle.memory(), std::time::Instant::now());
    idle.kill();
    let hub = HubProcess::start_with(
        &dir.path().join("hub"),
        &["--kubeconfig", kubeconfig.to_str().unwrap()],
    );
    let asked = loop {
        let health = hub
            .client
            .post("/mcp/tools/get_recording_health", json!({}))
            .await;
        if complete(&health) {
            break health["kubernetes"].clone();
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{health}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let names = asked["names"].as_u64().unwrap();
    assert_eq!(names, 500 + 2 * 5000);
    let after = hub.memory();
    let lists = api.state().lists;
    println!(
        "{names} names: {after} KiB of memory ({before} KiB without a cluster), {} ms of processor time, {lists} lists, {} requests, \
         {} bytes",
        hub.cpu().as_millis(),
        asked["requests"],
        asked["received_bytes"]
    );
    assert_eq!(lists, 5, "one for each kind");
    assert!(after < before + 100 * 1024, "{after} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_that_goes_away_is_told_and_found_again() {
    let api = Api::default();
    api.put(SERVICES, service("cart", "10.96.0.7"));
    let dir = TempDir::new().unwrap();
    let kubernetes = api.serve(&dir).await;
    let hub = TestHub::open_in(dir, Vec::new(), kubernetes).await;
    until(&hub, complete).await;

    api.state().down = true;
    let health = until(&hub, |health| {
        health["kubernetes"]["watches"]["services"]["error"].is_string()
    })
    .await;
    let problems = health["problems"].to_string();
    assert!(
        problems.contains("changes of Kubernetes' services are not seen now"),
        "{problems}"
    );
    // What was known is known still.
    let live = hub.client.get("/mcp/resolve/workloads?type=service").await;
    assert_eq!(live["workloads"][0]["name"], "cart");

    api.state().down = false;
    api.put(SERVICES, service("payment", "10.96.0.8"));
    until(&hub, |health| health["kubernetes"]["names"] == 2).await;
    hub.stop().await;
}
