//! What is in `deploy/` asks for metrics that the agent really serves.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::agent::Agent;
use serde::Deserialize;
use wiretape_agent::health::Condition;

#[test]
fn workload_process() {
    common::workload::main();
}

#[derive(Deserialize)]
struct Alerts {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasts: String,
    labels: std::collections::BTreeMap<String, String>,
    annotations: std::collections::BTreeMap<String, String>,
}

fn deployed(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The metrics that an expression names.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("wiretape_agent_"))
}

/// The metrics that an agent serves, with something on its tape.
fn served() -> BTreeSet<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let capture = dir.path().join("one.pcap");
    // Classic pcap, raw IP, packets of 20 bytes at second 1.
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut bytes = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 101]);
    for _ in 0..1000 {
        bytes.extend(words(&[1, 0, 20, 20]));
        bytes.extend_from_slice(&[0x45; 20]);
    }
    std::fs::write(&capture, bytes).expect("written");
    let flags = [
        "--backend",
        "replay",
        "--replay",
        capture.to_str().expect("a path"),
    ];
    let agent = Agent::start(&dir.path().join("tape"), &flags);
    agent.wait_for("its packets", |agent| agent.boundaries().packets == 1000);
    let mut names = BTreeSet::new();
    // The rate is there once bytes have been counted twice.
    agent.wait_for("the rate", |agent| {
        let text = agent.get("/metrics").text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        names = lines
            .filter_map(|line| line.split([' ', '{']).next())
            .map(str::to_owned)
            .collect();
        names.contains("wiretape_agent_expected_reach_seconds")
    });
    names
}

#[test]
fn alerts_and_dashboard_ask_for_what_the_agent_serves() {
    let served = served();
    let alerts: Alerts = serde_norway::from_str(&deployed("prometheus/alerts.yaml")).expect("alert rules");
    let rules: Vec<&Rule> = alerts.groups.iter().flat_map(|group| &group.rules).collect();
    let dashboard: serde_json::Value =
        serde_json::from_str(&deployed("grafana/wiretape.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let shown = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("an expression"));
    let asked: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule.expr.as_str())
        .chain(shown)
        .flat_map(metrics)
        .collect();
    assert!(asked.len() > 15, "{asked:?}");
    for metric in asked {
        assert!(served.contains(metric), "no {metric} is served: {served:?}");
    }

    for condition in Condition::ALL {
        let selector = format!("condition=\"{}\"", condition.name());
        assert!(
            rules.iter().any(|rule| rule.expr.contains(&selector)),
            "no alert for {}",
            condition.name()
        );
    }
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.alert.as_str()).collect();
    assert_eq!(names.len(), rules.len(), "an alert is there twice");
    for rule in rules {
        assert!(
            rule.lasts.ends_with('m') && rule.labels.contains_key("severity"),
            "{}",
            rule.alert
        );
        assert!(rule.annotations.contains_key("summary") && rule.annotations.contains_key("description"));
    }
    // Panels do not lie on each other.
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24 && taken.insert((x, at("y"))), "{}", panel["title"]);
        }
    }
}
