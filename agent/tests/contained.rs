//! The agent as the chart runs it: a container of its own, with the chart's capabilities and no others.

mod common;

use std::fs;
use std::path::Path;

use common::agent::Agent;
use common::cannot_record;
use common::places::Cgroup;

/// The capabilities that the chart gives.
fn capabilities() -> Vec<String> {
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/helm/wiretape/values.yaml");
    let values: serde_norway::Value =
        serde_norway::from_str(&fs::read_to_string(values).expect("the chart's values")).expect("YAML");
    let list = values["agent"]["capabilities"].as_sequence().expect("a list");
    list.iter()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn in_a_container_it_records_with_the_charts_capabilities_and_leaves_its_own_traffic_out() {
    if cannot_record() {
        return;
    }
    let (tape, pod) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let container = pod.child("container");
    let recorded = pod.path.to_string_lossy();
    let agent = Agent::start_contained(
        &container,
        &capabilities(),
        tape.path(),
        &["--backend", "ebpf", "--interfaces", "none", "--cgroup", &recorded],
    );
    // The agent's end of these is all that the pod sends and receives.
    agent.wait_for("packets of its own", |agent| {
        agent.metric("wiretape_agent_excluded_total") > 20
    });
    assert_eq!(agent.metric("wiretape_agent_tape_packets_total"), 0);
    assert_eq!(agent.get("/health").status, 200);
    assert!(agent.stop().success());
}

#[test]
fn without_one_of_them_it_says_what_the_kernel_needs() {
    if cannot_record() {
        return;
    }
    let (tape, pod) = (tempfile::tempdir().expect("a folder"), Cgroup::new());
    let container = pod.child("container");
    for missing in ["BPF", "NET_ADMIN"] {
        let rest: Vec<String> = capabilities()
            .into_iter()
            .filter(|name| name != missing)
            .collect();
        let agent = Agent::start_contained(&container, &rest, tape.path(), &["--backend", "auto"]);
        let health = agent.get("/health").json();
        assert_eq!(health["backend"], "pcap", "{health}");
        let why = health["backend_chosen"].as_str().expect("a reason");
        assert!(why.contains("CAP_BPF and CAP_NET_ADMIN"), "{why}");
        assert!(agent.stop().success());
    }
}
