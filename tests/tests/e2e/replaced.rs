//! Kubernetes at night: a pod is replaced under traffic by one with its address, and that one is killed for want of memory.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use wiretape_kubernetes::objects;
use wiretape_tests::api::Api;
use wiretape_tests::call::Call;
use wiretape_tests::cluster::{Cluster, Pod, Recording};
use wiretape_tests::control::{self, NAMESPACE};
use wiretape_tests::process::{Process, Talk};

use crate::tools::{all_calls, possible_with_ebpf};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 41);
const PAYMENT: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 41);

/// What the pods run.
const PROGRAM: &str = include_str!("replaced.py");

/// What the second pod may use: Python fits in, and little else.
const LIMIT: u64 = 96 << 20;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn pod_is_replaced_under_traffic_and_killed_for_want_of_memory() -> anyhow::Result<()> {
    if !possible_with_ebpf("pod_is_replaced_under_traffic", &["python3", "curl"]) {
        return Ok(());
    }
    let pods = vec![
        vec![Pod::new("client", CLIENT)],
        vec![Pod::new("payment", PAYMENT)],
    ];
    let mut cluster = Cluster::start(pods, Recording::Ebpf, None).await?;
    let program = cluster.folder().join("pod.py");
    fs::write(&program, PROGRAM)?;
    let mut first = serve(&cluster, &program, None)?;
    let mut asking = python(
        &cluster,
        "client",
        &program,
        &["ask", &PAYMENT.to_string()],
        Talk::Told,
    )?;
    let log = cluster.folder().join("client.log");
    answered_by(&log, "", 50)?;

    // The kubelet: processes end, cgroups go and come, and the API server is told of it when it is told of it.
    first.kill()?;
    let (old, new) = cluster.replace("payment")?;
    let limit = Limit::new(&cluster, LIMIT)?;
    let _second = serve(&cluster, &program, Some(&limit.0))?;
    answered_by(&log, &new.name(), 10)?;
    let kubernetes = cluster.kubernetes()?;
    for object in control::running(&new, "node-2") {
        kubernetes.put(object);
    }
    kubernetes.delete("Pod", NAMESPACE, &old.name());
    answered_by(&log, &new.name(), 60)?;

    // Its last request.
    let mut fatal = curl(&cluster, &format!("http://{PAYMENT}:8080/pay/all"))?;
    ensure!(fatal.wait(PATIENCE).is_err(), "it was answered");
    let kubelet = |reason: &str, message: &str| {
        let mut event = objects::event(NAMESPACE, &new.name(), "Warning", reason, message, &now());
        event["source"] = json!({ "component": "kubelet", "host": "node-2" });
        kubernetes.put(event);
    };
    kubelet("Unhealthy", "Readiness probe failed: connection refused");
    kubelet("BackOff", "Back-off restarting failed container app");
    asking.hush();
    asking.wait(PATIENCE)?;
    let api = cluster.api();
    told_of_events(&api, 2).await?;

    let calls = all_calls(&api, "night").await?;
    named_by_who_answered(&calls, &log)?;
    let night = ("db", "night/all");
    let failed = calls.iter().find(|call| call.path == "/pay/all");
    let failed = failed.context("the fatal call is missing")?;
    assert_eq!(
        (failed.outcome.as_str(), failed.dst.pod.as_str()),
        ("no_response", new.name().as_str())
    );

    // It was killed, not merely ended, and everybody says so.
    let name = new.name();
    let events = api
        .get("/mcp/events", &[night, ("warning", "true"), ("pod", &name)])
        .await?
        .ok()?;
    let of = |reason: &str| -> anyhow::Result<Value> {
        let all = events["events"].as_array().context("no list")?;
        let is = |event: &&Value| event["reason"] == reason && event["pod"] == new.name();
        all.iter()
            .find(is)
            .cloned()
            .with_context(|| format!("no {reason} in {events:#}"))
    };
    let killed = of("OOMKilled")?;
    assert_eq!(
        [
            &killed["kind"],
            &killed["svc"],
            &killed["node"],
            &killed["container"],
            &killed["owner"]
        ],
        ["oom_kill", "payment", "node-2", "app", "payment"]
    );
    assert_eq!(of("SIGKILL")?["signal"], 9);
    assert_eq!(of("Unhealthy")?["kind"], "kubernetes");
    assert_eq!(of("BackOff")?["node"], "node-2");

    // And it stands beside the calls that it failed.
    let at = killed["ts"].as_i64().context("no time")?;
    assert!(failed.ts <= at, "{} and {at}", failed.ts);
    let timeline = api.get("/mcp/timeline", &[night]).await?.ok()?;
    let beside = timeline["happened"]["events"].as_array().context("no events")?;
    assert!(beside.contains(&killed), "{timeline:#}");
    let overview = json!({ "snapshot_id": "night", "workload": "payment" });
    let overview = api.post("/mcp/tools/investigate", &overview).await?.ok()?;
    let beside = overview["happened"]["events"].as_array().context("no events")?;
    assert!(beside.contains(&killed), "{overview:#}");
    Ok(())
}

/// Waits until the hub has heard of so many events.
async fn told_of_events(api: &Api, events: u64) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let health = api
            .post("/mcp/tools/get_recording_health", &json!({}))
            .await?
            .ok()?;
        if health["kubernetes"]["events"] == events {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the hub has not heard of {events} events")
}

/// Every call is of the pod that says it has answered it, though both had the same address.
fn named_by_who_answered(calls: &[Call], log: &Path) -> anyhow::Result<()> {
    let mut told = BTreeMap::new();
    for line in fs::read_to_string(log)?.lines() {
        if let Some((number, pod)) = line.split_once(' ') {
            told.insert(format!("n={number}"), pod.to_owned());
        }
    }
    let (mut wrong, mut found) = (Vec::new(), BTreeMap::new());
    for call in calls.iter().filter(|call| call.status() == Some(200)) {
        let truth = told.get(&call.query);
        let by = call.resp_headers.get("x-pod");
        let named = (&call.dst.pod, call.dst.svc.as_str(), call.src.svc.as_str());
        if by != truth || Some(named) != truth.map(|pod| (pod, "payment", "client")) {
            wrong.push(call);
        }
        *found.entry(&call.dst.pod).or_insert(0) += 1;
    }
    assert!(
        wrong.is_empty(),
        "{} of {} calls: {:#?}",
        wrong.len(),
        calls.len(),
        wrong.first()
    );
    assert_eq!(found.values().sum::<usize>(), told.len(), "{found:?}");
    assert!(
        found.len() == 2 && found.values().all(|calls| *calls >= 50),
        "{found:?}"
    );
    Ok(())
}

/// Starts the payment service's pod and waits until it listens.
fn serve(cluster: &Cluster, program: &Path, limit: Option<&Path>) -> anyhow::Result<Process> {
    let mut pods = cluster.nodes.iter().flat_map(|node| &node.pods);
    let pod = pods.rfind(|pod| pod.service == "payment");
    let name = pod.context("no payment service")?.name();
    let address = PAYMENT.to_string();
    let program = program.display().to_string();
    // The kernel kills where the memory is counted, which may be in a hierarchy of its own.
    let limit = limit.map_or("/dev/null".into(), |limit| limit.join("cgroup.procs"));
    let start = r#"echo 0 > "$0" && exec python3 "$@""#;
    let arguments = [
        "-c",
        start,
        &limit.display().to_string(),
        &program,
        "serve",
        &name,
        &address,
    ];
    let place = cluster.place("payment")?;
    Process::start(
        &name,
        &place,
        cluster.folder(),
        Path::new("/bin/sh"),
        arguments,
        Talk::No,
    )
}

fn python(
    cluster: &Cluster,
    service: &str,
    program: &Path,
    arguments: &[&str],
    talk: Talk,
) -> anyhow::Result<Process> {
    let arguments = std::iter::once(program.as_os_str()).chain(arguments.iter().map(AsRef::as_ref));
    let place = cluster.place(service)?;
    Process::start(
        service,
        &place,
        cluster.folder(),
        Path::new("python3"),
        arguments,
        talk,
    )
}

fn curl(cluster: &Cluster, url: &str) -> anyhow::Result<Process> {
    let place = cluster.place("client")?;
    Process::start(
        "curl",
        &place,
        cluster.folder(),
        Path::new("curl"),
        ["-s", url],
        Talk::No,
    )
}

/// Waits until a pod has answered so often; any, if no name is given.
fn answered_by(log: &Path, pod: &str, times: usize) -> anyhow::Result<()> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let log = fs::read_to_string(log).unwrap_or_default();
        if log.lines().filter(|line| line.ends_with(pod)).count() >= times {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("{pod} has not answered {times} times")
}

/// Now, as the kubelet writes it: in whole seconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A cgroup with a limit of memory, in either version. It goes with the run.
struct Limit(PathBuf);

impl Limit {
    fn new(cluster: &Cluster, bytes: u64) -> anyhow::Result<Self> {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit) = if version_1.join("memory.limit_in_bytes").exists() {
            let run = cluster.folder().file_name().context("a run has a name")?;
            (version_1.join(run), "memory.limit_in_bytes")
        } else {
            let place = cluster.place("payment")?;
            let own = place.cgroup().context("there are no cgroups")?.to_owned();
            let mut above: Vec<&Path> = own.ancestors().skip(1).collect();
            above.retain(|dir| dir.join("cgroup.subtree_control").exists());
            for dir in above.into_iter().rev() {
                fs::write(dir.join("cgroup.subtree_control"), "+memory")?;
            }
            (own, "memory.max")
        };
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(limit), bytes.to_string())?;
        Ok(Self(dir))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
