//! The hub's MCP, gRPC and REST, spoken to by clients that we did not write: the official SDKs, the inspector, the
//! conformance suite, a generic client of gRPC, curl.

mod contract;
mod kit;
mod serving;
mod suite;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use crate::binaries;
use kit::Part;
pub use kit::{Kit, SCRIPTS};
pub use serving::Serving;

/// Longest time of one client. The longest takes two seconds; one that waits for ever must not hold a test run.
const PATIENCE: Duration = Duration::from_secs(120);

/// How it went with one client.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Which client.
    pub client: &'static str,
    /// What it spoke, and over what.
    pub what: String,
    /// Whether it holds.
    pub verdict: Verdict,
    /// How many checks, what went wrong, or why it was left out.
    pub told: String,
}

/// Whether it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Ok,
    /// It does not.
    Failed,
    /// It asks for what this server has no reason to have.
    DoesNotApply,
    /// The client could not be had.
    Skipped,
}

/// Fetches the clients, starts a hub on a made capture, and lets all of them speak to it.
///
/// # Errors
/// There is no hub to speak to. That clients cannot be had, or find fault, is in the outcomes.
pub fn run() -> anyhow::Result<Vec<Outcome>> {
    let kit = Kit::fetch()?;
    let serving = Serving::start(1)?;
    let hub = binaries::find("wiretape-hub")?;
    let mut all = suite::run(&kit, &serving)?;
    for (client, part) in [("TypeScript SDK", Part::Node), ("Python SDK", Part::Python)] {
        for (what, target) in [
            ("HTTP", vec![serving.mcp()]),
            ("stdio, a file", stdio(&hub, &[&serving.capture])),
            (
                "stdio, a hub",
                stdio(&hub, &[Path::new("--hub"), Path::new(&serving.url)]),
            ),
        ] {
            all.push(outcome(
                client,
                what,
                kit.script(part).map(|mut script| {
                    script.args(target);
                    spoken(&mut script)
                }),
            ));
        }
    }
    all.push(outcome(
        "grpcio with reflection",
        "gRPC: DelayedDissection",
        kit.python().map(|mut python| {
            python
                .arg(Path::new(SCRIPTS).join("delayed_dissection.py"))
                .arg(&serving.url);
            spoken(&mut python)
        }),
    ));
    for (what, mut arguments) in inspections(&hub, &serving) {
        arguments.push("--quiet".to_owned());
        all.push(outcome(
            "MCP inspector",
            what,
            kit.program("mcp-inspector").map(|mut inspector| {
                inspector.arg("--cli").args(arguments);
                run_to_end(&mut inspector).and_then(|said| is_result(&said))
            }),
        ));
    }
    all.extend(contract::run()?);
    Ok(all)
}

/// What the inspector's command line does, each with its arguments.
fn inspections(hub: &Path, serving: &Serving) -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let over_http = |more: &str| {
        [
            vec![serving.mcp()],
            words("--transport http --format json"),
            words(more),
        ]
        .concat()
    };
    let over_stdio = |more: &str| {
        let server = [
            hub.display().to_string(),
            "mcp".into(),
            serving.capture.display().to_string(),
        ];
        [server.to_vec(), words("--format json"), words(more)].concat()
    };
    vec![
        (
            "HTTP: tools/list, schemas held to what any model's provider takes",
            over_http("--method tools/list --strict"),
        ),
        (
            "HTTP, 2026-07-28: tools/list",
            over_http("--protocol-era modern --method tools/list"),
        ),
        (
            "HTTP: tools/call",
            over_http("--method tools/call --tool-name list_api_calls --tool-arg limit=2"),
        ),
        ("HTTP: prompts/list", over_http("--method prompts/list")),
        (
            "HTTP: resources/read",
            over_http("--method resources/read --uri wiretape://kfl"),
        ),
        ("stdio: tools/list", over_stdio("--method tools/list")),
        (
            "stdio: tools/call",
            over_stdio("--method tools/call --tool-name list_databases"),
        ),
        (
            "stdio: prompts/get",
            over_stdio("--method prompts/get --prompt-name usage"),
        ),
    ]
}

fn stdio(hub: &Path, about: &[&Path]) -> Vec<String> {
    let about = about.iter().map(|word| word.display().to_string());
    ["--".to_owned(), hub.display().to_string(), "mcp".to_owned()]
        .into_iter()
        .chain(about)
        .collect()
}

/// A client that could not be had is skipped; one that has spoken tells how many checks held, or which did not.
fn outcome(
    client: &'static str,
    what: impl Into<String>,
    spoken: Result<anyhow::Result<String>, String>,
) -> Outcome {
    let (verdict, told) = match spoken {
        Ok(Ok(told)) => (Verdict::Ok, told),
        Ok(Err(error)) => (Verdict::Failed, format!("{error:#}")),
        Err(why) => (Verdict::Skipped, why),
    };
    Outcome {
        client,
        what: what.into(),
        verdict,
        told,
    }
}

/// Runs a script of ours, which prints a line for each check.
fn spoken(script: &mut Command) -> anyhow::Result<String> {
    let said = run_to_end(script)?;
    let held = said.lines().filter(|line| line.starts_with("ok ")).count();
    anyhow::ensure!(held > 0, "it checked nothing");
    let revisions: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once("revision "))
        .map(|(_, last)| last)
        .collect();
    Ok(match revisions.as_slice() {
        [] => format!("{held} checks"),
        some => format!("{held} checks, revisions {}", some.join(" and ")),
    })
}

/// Whether the inspector has printed a result.
fn is_result(said: &str) -> anyhow::Result<String> {
    let said: Value = serde_json::from_str(said).context("it printed no JSON")?;
    anyhow::ensure!(said["result"].is_object(), "it printed no result: {said}");
    anyhow::ensure!(said["result"]["isError"] != true, "the tool failed: {said}");
    Ok("1 check".to_owned())
}

/// What a program prints; its last lines as an error, if it fails or takes longer than [`PATIENCE`].
fn run_to_end(command: &mut Command) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    // Into files: a pipe that nobody reads would hold it up.
    let [out, err] = ["out", "err"].map(|name| folder.path().join(name));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out)?)
        .stderr(std::fs::File::create(&err)?)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("it was not done after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let [out, err] = [out, err].map(|file| std::fs::read(file).unwrap_or_default());
    let out = String::from_utf8_lossy(&out).into_owned();
    if status.success() {
        return Ok(out);
    }
    let all = format!("{out}{}", String::from_utf8_lossy(&err));
    let lines: Vec<&str> = all.lines().collect();
    let last = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default();
    anyhow::bail!("{status}: {}", last.join(" / "))
}
