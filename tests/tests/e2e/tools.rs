//! What several tests need.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use wiretape_tests::api::Api;
use wiretape_tests::binaries;
use wiretape_tests::call::Call;
use wiretape_tests::cluster::Recording;
use wiretape_tests::run::is_root;
use wiretape_tests::workload::Play;

/// The story in a few seconds.
pub const QUICK: Play = Play {
    time_scale: 30.0,
    seed: 7,
    rate: 3.6,
};

/// Whether the test can run here. Says why not.
pub fn possible(test: &str, programs: &[&str]) -> bool {
    if !is_root() {
        aloud(&format!(
            "{test} is left out: it needs root, or a user namespace, for network namespaces"
        ));
        return false;
    }
    for program in programs {
        // Debian keeps servers in a folder that a user's PATH lacks.
        let there = |program: &str| Command::new(program).arg("-v").output().is_ok();
        if !there(program) && !there(&format!("/usr/sbin/{program}")) {
            aloud(&format!(
                "{test} is left out: {program} is not installed, run `cargo xtask setup`"
            ));
            return false;
        }
    }
    true
}

/// The same for a test of eBPF itself.
pub fn possible_with_ebpf(test: &str, programs: &[&str]) -> bool {
    if let Some(why) = ebpf_is_refused() {
        aloud(&format!("{test} is left out: eBPF cannot run here ({why})"));
        return false;
    }
    possible(test, programs)
}

/// Says something that is to be heard of a test that passes, too: what `eprintln` prints is held back then.
pub fn aloud(line: &str) {
    // Without a standard error there is nobody to hear it.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// How to record where either will do. Says when it is not eBPF.
pub fn recording(test: &str) -> Recording {
    match ebpf_is_refused() {
        None => Recording::Ebpf,
        Some(why) => {
            aloud(&format!("{test} runs on libpcap: eBPF cannot run here ({why})"));
            Recording::Libpcap
        }
    }
}

/// Why eBPF cannot run here, if it cannot: what an agent says that is to record by it.
fn ebpf_is_refused() -> Option<&'static str> {
    static REFUSED: OnceLock<Option<String>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| match try_ebpf() {
        Ok(refused) => refused,
        Err(error) => Some(format!("{error:#}")),
    });
    refused.as_deref()
}

fn try_ebpf() -> anyhow::Result<Option<String>> {
    let tape = tempfile::tempdir()?;
    let mut agent = Command::new(binaries::find("wiretape-agent")?)
        .args(["--backend", "ebpf", "--listen", "127.0.0.1:0", "--tape"])
        .arg(tape.path())
        .stderr(Stdio::piped())
        .spawn()?;
    let log = BufReader::new(agent.stderr.take().context("just asked for")?);
    let mut last = String::new();
    for line in log.lines() {
        last = line?;
        if last.contains("serving on") {
            kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGTERM)?;
            agent.wait()?;
            return Ok(None);
        }
    }
    agent.wait()?;
    Ok(Some(last))
}

/// What tshark finds of HTTP in a capture.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Requests.
    pub requests: usize,
    /// Responses by status, interim ones (1xx) left out.
    pub responses: BTreeMap<u16, usize>,
}

/// Reads captures with tshark, one after the other as one.
pub fn tshark(file: &Path) -> anyhow::Result<Http> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args([
            "-n",
            "-Y",
            "http",
            "-T",
            "fields",
            "-E",
            "occurrence=a",
            "-E",
            "aggregator=,",
        ])
        .args(["-e", "http.request.method", "-e", "http.response.code"])
        .output()
        .context("cannot run tshark")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tshark {}: {errors}", file.display());
    let mut http = Http::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (methods, codes) = line.split_once('\t').unwrap_or((line, ""));
        http.requests += methods.split(',').filter(|method| !method.is_empty()).count();
        for code in codes.split(',').filter_map(|code| code.parse().ok()) {
            if code >= 200 {
                *http.responses.entry(code).or_default() += 1;
            }
        }
    }
    Ok(http)
}

/// Takes a snapshot of the last hour and waits for it.
pub async fn snapshot(api: &Api, name: &str) -> anyhow::Result<Value> {
    api.post("/mcp/snapshots", &json!({ "name": name })).await?.ok()?;
    settled(api, &format!("/mcp/snapshots/{name}")).await
}

/// Dissects a snapshot and waits for it.
pub async fn dissect(api: &Api, snapshot: &str, name: &str) -> anyhow::Result<Value> {
    api.post("/mcp/dissections", &json!({ "snapshot": snapshot, "name": name }))
        .await?
        .ok()?;
    settled(api, &format!("/mcp/dissections/{snapshot}/{name}")).await
}

/// Waits until a snapshot or a dissection is not under way any more.
pub async fn settled(api: &Api, path: &str) -> anyhow::Result<Value> {
    let under_way = ["pending", "in_progress", "downloading", "running", "uploading"];
    api.poll(path, &[], |body| {
        body["status"]
            .as_str()
            .is_some_and(|status| !under_way.contains(&status))
    })
    .await
}

/// All calls of the last hour, of which every packet must have been recorded.
pub async fn all_calls(api: &Api, name: &str) -> anyhow::Result<Vec<Call>> {
    let taken = snapshot(api, name).await?;
    ensure!(taken["status"] == "completed", "{taken}");
    // What was not recorded cannot be found: say so here, rather than as calls that are missing.
    ensure!(taken["lost_packets"] == 0, "packets were lost: {taken}");
    let dissected = dissect(api, name, "all").await?;
    ensure!(dissected["status"] == "completed", "{dissected}");
    api.calls(&format!("{name}/all"), "").await
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
