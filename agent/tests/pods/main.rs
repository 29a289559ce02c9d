//! Packets are named by the pods of a Kubernetes API (a double of it), through cgroups as each container runtime makes them.

#[path = "../common/mod.rs"]
mod common;

mod version_1;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use common::agent::Agent;
use common::places::{Link, RIGHT, cgroup_id};
use common::scene::Scene;
use common::workload::{self, Workload};
use wiretape_kubernetes::{Kubernetes, objects};
use wiretape_tape::{Direction, Name};

#[test]
fn workload_process() {
    workload::main();
}

/// What is recorded, and the API server that tells of its pods.
struct Node {
    scene: Scene,
    kubernetes: Kubernetes,
}

impl Node {
    /// `None` where nothing can be recorded.
    fn new() -> Option<Self> {
        Some(Self {
            scene: Scene::new()?,
            kubernetes: Kubernetes::start().expect("starts"),
        })
    }

    /// An agent with a kubeconfig for the API server.
    fn agent(&self) -> Agent {
        let kubeconfig = self.scene.dir.path().join("kubeconfig");
        fs::write(&kubeconfig, self.kubernetes.kubeconfig()).expect("written");
        self.scene.agent(&["--kubeconfig", &kubeconfig.to_string_lossy()])
    }

    /// The cgroup of a pod's container, made as a kubelet with the driver cgroupfs does.
    fn container(&self, pod: &str) -> PathBuf {
        self.scene
            .cgroup
            .make(&container_path("kubepods/burstable/podUID/ID", pod))
    }
}

fn names(agent: &Agent) -> Vec<Name> {
    serde_json::from_slice(&agent.get("/names").body).expect("names")
}

/// Where runtimes and drivers keep a pod's container, with its uid (`UID`, `UID_` in systemd's way) and id (`ID`).
const LAYOUTS: [&str; 7] = [
    "kubepods/podUID/ID",
    "kubepods/besteffort/podUID/ID",
    "kubepods.slice/kubepods-podUID_.slice/cri-containerd-ID.scope",
    "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/crio-ID.scope/container",
    "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/docker-ID.scope",
    "system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
    "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
];

/// One of them for a pod of the namespace `shop`.
fn container_path(layout: &str, pod: &str) -> String {
    let uid = objects::pod_uid("shop", pod);
    layout
        .replace("UID_", &uid.replace('-', "_"))
        .replace("UID", &uid)
        .replace("ID", &objects::container_id(pod))
}

/// Each layout with a process in it, which sends.
#[test]
fn containers_of_every_runtime_and_driver_are_named() {
    let Some(node) = Node::new() else { return };
    let (agent, kubernetes) = (node.agent(), &node.kubernetes);
    let mut expected = BTreeMap::new();
    for (number, layout) in LAYOUTS.iter().enumerate() {
        let pod = format!("cart-6d4cf56db6-{number}");
        let path = container_path(layout, &pod);
        Workload::start("datagrams 3 100", &node.scene.cgroup.make(&path), None).finish();
        // Only now does the API server learn of it.
        kubernetes.put(objects::pod("shop", &pod, "node-1", &format!("10.1.0.{number}")));
        expected.insert(path, pod);
    }
    // In the host's network, told by its cgroup alone; and one of another node, which is not ours to tell.
    kubernetes.put(objects::pod("shop", "elsewhere", "node-2", "10.2.0.1"));
    let mut host = objects::pod("shop", "proxy", "node-1", "192.168.0.1");
    host["spec"]["hostNetwork"] = true.into();
    let proxy = node.container("proxy");
    kubernetes.put(host);
    Workload::start("datagrams 3 100", &proxy, None).finish();

    let named = |agent: &Agent| -> BTreeMap<String, String> {
        let names = names(agent)
            .into_iter()
            .filter(|name| name.cgroup != 0 && name.until.is_none());
        let pods = names.filter(|name| name.pod.starts_with("cart") && name.container == "app");
        pods.map(|name| (name.cgroup_path, name.pod)).collect()
    };
    agent.wait_for("all their names", |agent| named(agent) == expected);
    agent.wait_for("the name in the host's network", |agent| {
        let of_proxy = |name: &Name| name.cgroup == cgroup_id(&proxy) && name.pod == "proxy";
        names(agent).iter().any(of_proxy)
    });
    let all = names(&agent);
    let cart = all
        .iter()
        .find(|name| name.cgroup != 0 && name.pod == "cart-6d4cf56db6-0")
        .expect("a name");
    assert_eq!(
        (cart.owner_kind.as_str(), cart.owner.as_str()),
        ("Deployment", "cart")
    );
    assert_eq!(
        (cart.node.as_str(), cart.labels["app"].as_str()),
        ("node-1", "cart")
    );
    assert_eq!(cart.annotations["prometheus.io/scrape"], "true");
    assert!(
        all.iter().all(|name| name.pod != "elsewhere"),
        "a pod of another node"
    );
    assert!(
        all.iter().all(|name| name.cgroup != 0 || name.pod != "proxy"),
        "the host's address is a pod's"
    );
    // One list, one watch.
    let load = kubernetes.load();
    assert!(load.requests <= 3, "{:?}", kubernetes.loads());
}

/// The kubelet calls a static pod's cgroups by the hash of its file; what the API server has is its mirror, of another uid.
#[test]
fn static_pods_are_named_by_their_mirrors() {
    let Some(node) = Node::new() else { return };
    let (agent, kubernetes) = (node.agent(), &node.kubernetes);
    let mut expected = BTreeMap::new();
    for (number, layout) in LAYOUTS.iter().enumerate() {
        let pod = format!("kube-apiserver-node-{number}");
        let hash = format!("d4a1e5b2c3f60718293a4b5c6d7e8f9{number}");
        let path = layout
            .replace("UID_", &hash)
            .replace("UID", &hash)
            .replace("ID", &objects::container_id(&pod));
        Workload::start("datagrams 3 100", &node.scene.cgroup.make(&path), None).finish();
        let mut mirror = objects::pod("kube-system", &pod, "node-1", "192.168.0.1");
        mirror["spec"]["hostNetwork"] = true.into();
        mirror["metadata"]["ownerReferences"] = serde_json::json!([objects::owner("Node", "node-1")]);
        mirror["metadata"]["annotations"] = serde_json::json!({
            "kubernetes.io/config.hash": hash,
            "kubernetes.io/config.mirror": hash,
            "kubernetes.io/config.seen": "2026-01-05T08:00:00.000000000Z",
            "kubernetes.io/config.source": "file",
        });
        kubernetes.put(mirror);
        expected.insert(path, pod);
    }
    agent.wait_for("all their names", |agent| {
        let names = names(agent).into_iter();
        let of_node = names.filter(|name| name.owner_kind == "Node" && name.container == "app");
        of_node
            .map(|name| (name.cgroup_path, name.pod))
            .collect::<BTreeMap<_, _>>()
            == expected
    });
}

/// Packets of pods that follow each other at one address, each in its own cgroup and namespace.
#[test]
fn replaced_pods_with_a_reused_address_are_told_apart() {
    const ROUNDS: usize = 6;
    let Some(node) = Node::new() else { return };
    let link = Link::new();
    let (agent, kubernetes) = (node.agent(), &node.kubernetes);
    let client = node.container("client");
    kubernetes.put(objects::pod("shop", "client", "node-1", "10.99.0.1"));
    let mut servers = BTreeMap::new();
    for round in 0..ROUNDS {
        let pod = format!("db-{round}");
        let dir = node.container(&pod);
        servers.insert(cgroup_id(&dir), pod.clone());
        let mut server = Workload::start("serve 80", &dir, Some(&link.right));
        server.said("serving");
        let visit =
            || Workload::start(&format!("visit {RIGHT}:80 1000 2"), &client, Some(&link.left)).finish();
        // Traffic before the API server knows, and after.
        visit();
        let mut object = objects::pod("shop", &pod, "node-1", RIGHT);
        object["status"]["startTime"] = kubernetes_now().into();
        kubernetes.put(object);
        visit();
        if round > 0 && round % 2 == 1 {
            // Sometimes the one before is gone only now, for the API server.
            kubernetes.delete("Pod", "shop", &format!("db-{}", round - 1));
        }
        server.finish();
        // The kubelet takes the container's cgroup away, and only then is the next one made.
        while fs::remove_dir(&dir).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        if round % 2 == 1 {
            kubernetes.delete("Pod", "shop", &pod);
        }
    }
    agent.settle();
    let db = |agent: &Agent| {
        let names = names(agent);
        let of = |by_cgroup: bool| {
            names
                .iter()
                .filter(move |name| name.pod.starts_with("db") && (name.cgroup != 0) == by_cgroup)
        };
        (
            of(true)
                .map(|name| name.cgroup)
                .collect::<std::collections::BTreeSet<_>>()
                .len(),
            of(false).count(),
        )
    };
    agent.wait_for("names of all", |agent| db(agent) == (ROUNDS, ROUNDS));

    let (names, packets) = (names(&agent), agent.recorded("all"));
    let holds = |name: &Name, ts: u64| name.since <= ts && name.until.is_none_or(|until| ts < until);
    let by_cgroup = |cgroup: u64, ts: u64| {
        let name = names.iter().find(|name| name.cgroup == cgroup && holds(name, ts));
        name.map_or("nobody", |name| name.pod.as_str())
    };
    let by_address = |address: std::net::IpAddr, ts: u64| {
        let has = |name: &&Name| name.cgroup == 0 && name.addresses.contains(&address) && holds(name, ts);
        names.iter().find(has).map_or("nobody", |name| name.pod.as_str())
    };
    // Which server a client's port talked to, by the server's own packets, which bear its cgroup.
    let mut served = BTreeMap::new();
    for packet in packets.iter().filter(|packet| packet.direction == Direction::In) {
        if let (Some(pod), Some(segment)) = (servers.get(&packet.cgroup), packet.segment()) {
            served.insert(segment.source, pod.as_str());
        }
    }
    assert_eq!(served.len(), ROUNDS * 4, "connections");
    let (mut compared, mut wrong) = (0, Vec::new());
    let right: std::net::IpAddr = RIGHT.parse().expect("an address");
    for packet in &packets {
        let Some(segment) = packet.segment() else { continue };
        let port = if segment.source == 80 {
            segment.target
        } else {
            segment.source
        };
        let truth = served[&port];
        let own = if servers.contains_key(&packet.cgroup) {
            truth
        } else {
            "client"
        };
        compared += 1;
        let told = (by_cgroup(packet.cgroup, packet.ts), by_address(right, packet.ts));
        if told != (own, truth) {
            wrong.push(format!("{} is {told:?}, not {:?}", packet.ts, (own, truth)));
        }
    }
    println!(
        "{compared} packets of {ROUNDS} pods with one address, {} wrong",
        wrong.len()
    );
    assert!(compared > ROUNDS * 50, "{compared} packets");
    assert!(
        wrong.is_empty(),
        "{} of {compared}: {:#?}\n{names:#?}",
        wrong.len(),
        wrong.iter().take(5).collect::<Vec<_>>()
    );
}

/// Now, as the API server writes it: in whole seconds.
fn kubernetes_now() -> String {
    let now = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output();
    String::from_utf8(now.expect("date").stdout)
        .expect("text")
        .trim()
        .to_owned()
}

#[test]
fn without_the_api_server_names_stand_and_health_says_what_is_missing() {
    let Some(node) = Node::new() else { return };
    let kubernetes = &node.kubernetes;
    kubernetes.put(objects::pod("shop", "cart", "node-1", "10.1.0.1"));
    let agent = node.agent();
    let known = |agent: &Agent, pod: &str| {
        names(agent)
            .iter()
            .any(|name| name.pod == pod && name.until.is_none())
    };
    agent.wait_for("the pod's name", |agent| known(agent, "cart"));
    assert_eq!(agent.get("/health").json()["missing"], serde_json::json!([]));
    kubernetes.stop();
    agent.wait_for("a word of it", |agent| {
        let health = agent.get("/health");
        health.status == 200
            && health.json()["missing"][0]
                .as_str()
                .is_some_and(|text| text.contains("may be named late"))
    });
    assert!(agent.metric("wiretape_agent_kubernetes_errors_total") >= 1);
    assert!(known(&agent, "cart"));
    kubernetes.put(objects::pod("shop", "later", "node-1", "10.1.0.2"));
    // Whoever was away so long that its place is forgotten lists anew.
    kubernetes.compact();
    kubernetes.resume().expect("the port is free");
    agent.wait_for("the pod that came meanwhile", |agent| known(agent, "later"));
    assert!(known(&agent, "cart"));
}

/// What a large cluster costs an agent and its API server. `cargo test --release --test pods large -- --nocapture` prints it.
#[test]
fn a_large_cluster_costs_a_node_what_its_own_pods_cost() {
    const SECONDS: u64 = 5;
    let Some(Node { scene, kubernetes }) = Node::new() else {
        return;
    };
    for pod in 0..5000 {
        let name = format!("service{}-6d4cf56db6-p{pod:04}", pod % 500);
        let (node, address) = (
            format!("node-{}", pod % 50 + 1),
            format!("10.1.{}.{}", pod / 250, pod % 250 + 1),
        );
        kubernetes.put(objects::pod("shop", &name, &node, &address));
    }
    let run = |flags: &[&str], pods: u64| {
        let agent = scene.agent(flags);
        if pods > 0 {
            agent.wait_for("the pods", |agent| {
                agent.metric("wiretape_agent_kubernetes_pods") == pods
            });
        }
        let started = agent.usage();
        thread::sleep(Duration::from_secs(SECONDS));
        let (held, cpu) = agent.usage();
        (held, started.1, cpu - started.1)
    };
    let kubeconfig = scene.dir.path().join("kubeconfig");
    fs::write(&kubeconfig, kubernetes.kubeconfig()).expect("written");
    let kubeconfig = kubeconfig.to_string_lossy();
    let without = run(&["--kubernetes", "off"], 0);
    let (with, own) = (run(&["--kubeconfig", &kubeconfig], 100), kubernetes.load());
    // All of them on one node: more than there is room for.
    for pod in 0..5000 {
        let name = format!("service{}-6d4cf56db6-p{pod:04}", pod % 500);
        kubernetes.change("Pod", "shop", &name, |pod| {
            pod["spec"]["nodeName"] = "node-1".into()
        });
    }
    let all = run(&["--kubeconfig", &kubeconfig], 4096);
    for (what, (held, start, idle)) in [
        ("no pods", without),
        ("100 of 5,000", with),
        ("5,000 of 5,000", all),
    ] {
        println!("{what}: {held} KiB, {start} ms of CPU to begin with, {idle} ms in the {SECONDS} s after");
    }
    println!(
        "asked for 100 of 5,000: {} requests, {} bytes",
        own.requests, own.bytes
    );
    assert!(with.0 < without.0 + 16 * 1024 && all.0 < without.0 + 128 * 1024);
    assert!(own.requests <= 2 && own.bytes < 400_000, "{own:?}");
}
