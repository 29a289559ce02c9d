//! The chart and the manifests that it renders to, held against the Kubernetes API, and against what our programs take.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};

const CHART: &str = "deploy/helm/wiretape";
const PLAIN: &str = "deploy/manifests/kubernetes.yaml";
const RENDERED: &[&str] = &[
    PLAIN,
    "deploy/manifests/openshift.yaml",
    "deploy/helm/wiretape/ci/everything.rendered.yaml",
    "deploy/helm/wiretape/ci/least.rendered.yaml",
];

/// The oldest that knows every field that is used, AppArmor's among them; one between; the newest whose schemas are at hand.
const KUBERNETES: &[&str] = &["1.30.0", "1.33.0", "1.37.0"];

#[test]
fn every_field_is_one_of_the_api() {
    for path in RENDERED {
        for object in objects(path) {
            let kind = object["kind"].as_str().expect("a kind");
            let again = match kind {
                "ClusterRole" => kept::<ClusterRole>(&object),
                "ClusterRoleBinding" => kept::<ClusterRoleBinding>(&object),
                "ConfigMap" => kept::<ConfigMap>(&object),
                "DaemonSet" => kept::<DaemonSet>(&object),
                "Deployment" => kept::<Deployment>(&object),
                "Namespace" => kept::<Namespace>(&object),
                "NetworkPolicy" => kept::<NetworkPolicy>(&object),
                "PersistentVolumeClaim" => kept::<PersistentVolumeClaim>(&object),
                "PodDisruptionBudget" => kept::<PodDisruptionBudget>(&object),
                "PriorityClass" => kept::<PriorityClass>(&object),
                "Service" => kept::<Service>(&object),
                "ServiceAccount" => kept::<ServiceAccount>(&object),
                // Of the Prometheus operator and of OpenShift, whose types are not at hand.
                "ServiceMonitor" | "PrometheusRule" | "SecurityContextConstraints" => continue,
                other => panic!("{path}: no type is known for {other}"),
            };
            assert_eq!(again, object, "{path}: {kind} lost or changed something");
        }
    }
}

#[test]
fn no_container_gets_more_than_it_asks_for() {
    let mut seen = 0;
    for path in RENDERED {
        for pod in pods(path) {
            assert_eq!(pod["enableServiceLinks"], false, "{path}");
            let profile = &pod["securityContext"]["seccompProfile"]["type"];
            assert!(profile == "RuntimeDefault" || profile == "Localhost", "{path}");
            for container in pod["containers"].as_array().expect("containers") {
                seen += 1;
                let security = &container["securityContext"];
                assert_eq!(security["privileged"], false, "{path}");
                assert_eq!(security["allowPrivilegeEscalation"], false, "{path}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{path}");
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{path}");
                assert!(!container["livenessProbe"].is_null() && !container["readinessProbe"].is_null());
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
    assert_eq!(seen, 7, "an agent in each of four files, and a hub in three");
}

/// What they are told of interfaces, and what they may do about it.
#[test]
fn agents_enter_namespaces_where_they_are_asked_to() {
    let mut seen = Vec::new();
    for path in RENDERED {
        let objects = objects(path);
        let agent = objects.iter().find(|object| object["kind"] == "DaemonSet");
        let pod = &agent.expect("an agent")["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let env = container["env"].as_array().expect("a list");
        let told = env.iter().find(|env| env["name"] == "WIRETAPE_INTERFACES");
        let interfaces = told.unwrap_or_else(|| panic!("{path}: nothing of interfaces"))["value"].clone();
        let capabilities = container["securityContext"]["capabilities"]["add"].clone();
        let capabilities = capabilities.as_array().expect("a list");
        let may = ["SYS_ADMIN", "SYS_PTRACE"]
            .iter()
            .all(|name| capabilities.contains(&json!(name)));
        assert_eq!(may && pod["hostPID"] == true, interfaces == "pods", "{path}");
        seen.push(interfaces);
    }
    assert!(
        seen.contains(&json!("none")) && seen.contains(&json!("pods")),
        "{seen:?}"
    );
}

#[test]
fn roles_read_and_never_write() {
    let mut rules = 0;
    for path in RENDERED {
        for role in objects(path)
            .iter()
            .filter(|object| object["kind"] == "ClusterRole")
        {
            for rule in role["rules"].as_array().expect("rules") {
                rules += 1;
                assert_eq!(rule["verbs"], json!(["list", "watch"]), "{path}");
                let resources = rule["resources"].as_array().expect("a list");
                assert!(!resources.contains(&json!("secrets")) && !resources.contains(&json!("*")));
            }
        }
    }
    assert_eq!(
        rules, 9,
        "one of each agent, two of each hub, where Kubernetes is asked"
    );
    let agent = object("ClusterRole", "wiretape-agent");
    assert_eq!(agent["rules"][0]["resources"], json!(["pods"]));
}

#[test]
fn the_hub_may_list_what_it_watches() {
    let watches = read("hub/src/cluster/watch.rs");
    let role = object("ClusterRole", "wiretape-hub");
    let allowed: Vec<Value> = role["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .flat_map(|rule| rule["resources"].as_array().expect("a list").clone())
        .collect();
    let watched: Vec<&str> = [
        ("events", "Told<KubeEvent>"),
        ("namespaces", "Told<Namespace>"),
        ("nodes", "Told<Node>"),
        ("pods", "Told<Pod>"),
        ("services", "Told<Service>"),
        ("endpointslices", "Told<EndpointSlice>"),
    ]
    .into_iter()
    .filter(|(_, told)| watches.contains(told))
    .map(|(resource, _)| resource)
    .collect();
    assert_eq!(json!(allowed), json!(watched));
}

#[test]
fn agents_are_reached_by_the_hub_alone() {
    let policy = object("NetworkPolicy", "wiretape-agent");
    let labels = |kind, name| {
        let workload = object(kind, name);
        let labels = workload["spec"]["template"]["metadata"]["labels"].clone();
        assert_eq!(workload["spec"]["selector"]["matchLabels"], labels);
        labels
    };
    let (agent, hub) = (
        labels("DaemonSet", "wiretape-agent"),
        labels("Deployment", "wiretape-hub"),
    );
    assert_ne!(agent, hub);
    assert_eq!(policy["spec"]["podSelector"]["matchLabels"], agent);
    let ingress = policy["spec"]["ingress"].as_array().expect("a list");
    assert_eq!(ingress.len(), 1);
    assert_eq!(
        ingress[0]["from"],
        json!([{ "podSelector": { "matchLabels": hub } }])
    );
}

#[test]
fn the_hub_finds_agents_behind_a_headless_service() {
    let service = object("Service", "wiretape-agent");
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    let agent = object("DaemonSet", "wiretape-agent");
    assert_eq!(
        service["spec"]["selector"],
        agent["spec"]["selector"]["matchLabels"]
    );
    let port = &service["spec"]["ports"][0]["port"];
    let container = &agent["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(&container["ports"][0]["containerPort"], port);
    let hub = object("Deployment", "wiretape-hub");
    let told = hub["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .expect("variables")
        .iter()
        .find(|variable| variable["name"] == "WIRETAPE_NODES_DNS")
        .expect("the hub is told")["value"]
        .clone();
    assert_eq!(told, format!("wiretape-agent.wiretape.svc:{port}"));
}

#[test]
fn every_variable_that_is_set_is_read() {
    for program in ["agent", "hub"] {
        let config = read(&format!("{program}/src/config.rs"));
        let mut texts = vec![read(&format!("deploy/debian/{program}/default"))];
        for pod in RENDERED.iter().flat_map(|path| pods(path)) {
            let containers = pod["containers"].as_array().expect("containers");
            let ours = containers.iter().filter(|container| container["name"] == program);
            texts.extend(ours.map(Value::to_string));
        }
        assert!(texts.len() >= 4, "{program}");
        for variable in texts.iter().flat_map(|text| words(text, "WIRETAPE_")) {
            assert!(
                config.contains(&format!("env = \"{variable}\"")),
                "{program} does not read {variable}"
            );
        }
    }
}

#[test]
fn the_charts_alerts_are_those_for_any_prometheus() {
    // agent/tests/dashboards.rs holds these against a running agent's metrics.
    assert_eq!(
        read("deploy/helm/wiretape/files/alerts.yaml"),
        read("deploy/prometheus/alerts.yaml")
    );
    let rules = objects("deploy/manifests/openshift.yaml")
        .into_iter()
        .find(|object| object["kind"] == "PrometheusRule")
        .expect("rules");
    let groups = rules["spec"]["groups"].as_array().expect("groups");
    assert!(groups.len() > 1, "those, and Kubernetes's own");
}

#[test]
fn the_chart_has_the_version_of_the_programs() {
    let chart = &objects(&format!("{CHART}/Chart.yaml"))[0];
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_is_committed_is_what_the_chart_makes() {
    for path in RENDERED {
        let text = read(path);
        let (first, committed) = text.split_once('\n').expect("more than a line");
        let values = first
            .split(" with ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let Some(output) = helm(&["render", CHART, values.expect("the first line says with what")]) else {
            return;
        };
        succeeded(path, &output);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            committed,
            "{path}: run cargo xtask manifests"
        );
    }
}

#[test]
fn helm_lint_finds_nothing() {
    for values in ["manifests", "openshift", "everything", "least"] {
        let Some(output) = helm(&["lint", CHART, &format!("{CHART}/ci/{values}.yaml")]) else {
            return;
        };
        succeeded(values, &output);
    }
}

#[test]
fn the_schemas_of_kubernetes_take_every_manifest() {
    for path in RENDERED {
        let mut arguments = vec!["validate", path];
        arguments.extend(KUBERNETES);
        let Some(output) = helm(&arguments) else { return };
        succeeded(path, &output);
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let values = folder.path().join("values.yaml");
    for text in [
        "agnet: {}",
        "agent: { tape: { size: 10 GB of it } }",
        "agent: { tape: { hostPath: tape } }",
        "agent: { backend: replay }",
        "agent: { capabilities: [ALL] }",
        "agent: { maxUnavailable: some }",
        "hub: { replicas: 2 }",
        "hub: { port: 70000 }",
        "networkPolicy: { enabled: perhaps }",
    ] {
        fs::write(&values, text).expect("a file");
        let Some(output) = helm(&["accepts", CHART, &values.to_string_lossy()]) else {
            return;
        };
        assert_eq!(output.status.code(), Some(1), "{text} was taken");
        // Not because something else went wrong.
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!told.contains("Traceback"), "{text}: {told}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of a file.
fn objects(path: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(&read(path))
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|object| !object.is_null())
        .collect()
}

/// What the workloads of a file run as.
fn pods(path: &str) -> Vec<Value> {
    let templates = objects(path)
        .into_iter()
        .map(|object| object["spec"]["template"]["spec"].clone());
    templates.filter(|pod| pod.is_object()).collect()
}

/// An object of the plain manifests.
fn object(kind: &str, name: &str) -> Value {
    objects(PLAIN)
        .into_iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

/// Reads an object as the API's type and writes it again: a field that the API does not have is lost on the way.
fn kept<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone())
        .unwrap_or_else(|error| panic!("{} {}: {error}", object["kind"], object["metadata"]["name"]));
    serde_json::to_value(typed).expect("it was read from JSON")
}

/// The words in a text that begin so.
fn words<'a>(text: &'a str, prefix: &'static str) -> impl Iterator<Item = &'a str> {
    text.match_indices(prefix).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

/// Helm's engine and the schemas, where `cargo xtask setup` has put them: beside the folders of cargo's profiles.
fn helm(arguments: &[&str]) -> Option<Output> {
    let python = Path::new(env!("CARGO_BIN_EXE_xtask"))
        .ancestors()
        .map(|folder| folder.join("peers/helm/bin/python"))
        .find(|python| python.exists());
    let Some(python) = python else {
        // Past the test harness, which holds back what a passing test prints.
        let line = b"SKIPPED: this test needs Helm's engine from PyPI (cargo xtask setup)\n";
        let _ = std::io::stderr().write_all(line);
        return None;
    };
    let output = Command::new(python)
        .arg("xtask/src/manifests/helm.py")
        .args(arguments)
        .current_dir(root())
        .output();
    Some(output.expect("Python starts"))
}

fn succeeded(what: &str, output: &Output) {
    assert!(
        output.status.success(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
