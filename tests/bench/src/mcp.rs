//! `wiretape-bench mcp`: what an assistant's calls cost over HTTP, beside the smallest server of the official Python SDK,
//! which gives the same answer and has nothing to look up. wrk asks both.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};
use wiretape_figures::{Figure, Goal, median};
use wiretape_tests::clients::{Kit, SCRIPTS, Serving};

use crate::scratch::Scratch;

/// Calls in the dissection that is asked: three in a round.
const ROUNDS: usize = 10_000;
/// The revision that is spoken.
const REVISION: &str = "2025-11-25";
/// Sessions among which wrk's connections take turns.
const SESSIONS: usize = 4;
/// How many times the peer's rate ours is to be.
const TIMES: f64 = 10.0;
/// Longest wait for a server to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stands for the number of a request.
const NUMBER: &str = "@";
/// The peer's name in the table.
const PEER: &str = "Python SDK";

/// The command's arguments.
#[derive(Args)]
pub struct Options {
    /// Print one JSON object on stdout, and all else on stderr.
    #[arg(long)]
    json: bool,
    /// Connections at the same time.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Measurements of each, in turns; the median is told.
    #[arg(long, default_value_t = 3)]
    times: usize,
}

/// Runs the benchmark.
pub fn run(options: &Options) -> Result<()> {
    let kit = Kit::fetch()?;
    let python = kit.python().map_err(anyhow::Error::msg)?;
    let scratch = Scratch::new(&std::env::temp_dir())?;
    eprintln!("starting a hub on {} calls", 3 * ROUNDS);
    let hub = Serving::start(ROUNDS)?;
    let ours = Server::new(hub.mcp())?;
    let answer = ours.until_dissected()?;
    let tools = ours.ask(&tools_list())?;
    let files = [("answer.json", &answer), ("tools.json", &tools["tools"])].map(|(name, content)| {
        let file = scratch.path().join(name);
        fs::write(&file, content.to_string()).map(|()| file)
    });
    let [answers, listed] = files;
    let peer = Peer::start(python, &answers?, &listed?)?;
    let theirs = Server::new(peer.url.clone())?;
    // The same work: both give the same rows, and as many tools. The peer's have shorter schemas.
    let same = theirs.ask(&list_api_calls())?;
    ensure!(
        same["structuredContent"] == answer,
        "the peer gives another answer: {same}"
    );
    let their_tools = theirs.ask(&tools_list())?;
    let count = |tools: &Value| tools["tools"].as_array().map_or(0, Vec::len);
    ensure!(count(&their_tools) == count(&tools), "the peer has other tools");

    let mut figures = Vec::new();
    for (what, asked) in [
        ("list_api_calls, 100 of 30,000", list_api_calls()),
        ("tools/list", tools_list()),
    ] {
        eprintln!("{what}: {} times {} s of each", options.times, options.seconds);
        let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
        for _ in 0..options.times {
            of_ours.push(ours.load(&asked, scratch.path(), options)?);
            of_theirs.push(theirs.load(&asked, scratch.path(), options)?);
        }
        let rate = |all: &[Load]| median(all.iter().map(Load::rate));
        let slowest = |all: &[Load]| median(all.iter().map(|load| load.p99_us / 1e3));
        figures.push(
            Figure::new(format!("{what}: answers"), rate(&of_ours), "1/s")
                .peer(PEER, rate(&of_theirs))
                .goal(Goal::AtLeast(TIMES * rate(&of_theirs))),
        );
        figures.push(
            Figure::new(format!("{what}: p99"), slowest(&of_ours), "ms").peer(PEER, slowest(&of_theirs)),
        );
    }
    // The hub remembers answers. This is what it takes when it has not been asked before; the peer knows no filters.
    eprintln!(
        "another filter each time: {} times {} s",
        options.times, options.seconds
    );
    let mut fresh = Vec::new();
    for _ in 0..options.times {
        fresh.push(ours.load(&filtered(), scratch.path(), options)?);
    }
    let what = "list_api_calls, another filter each time";
    let rate = median(fresh.iter().map(Load::rate));
    figures.push(Figure::new(format!("{what}: answers"), rate, "1/s"));
    let slowest = median(fresh.iter().map(|load| load.p99_us / 1e3));
    figures.push(Figure::new(format!("{what}: p99"), slowest, "ms"));
    let kib = |answer: &Value| answer.to_string().len() as f64 / 1024.0;
    let size = Figure::new("tools/list: length", kib(&tools), "KiB").peer(PEER, kib(&their_tools));
    figures.push(size);
    wiretape_figures::print(&figures, options.json)
}

fn tools_list() -> Value {
    json!({ "method": "tools/list", "params": {} })
}

fn list_api_calls() -> Value {
    json!({ "method": "tools/call", "params": { "name": "list_api_calls", "arguments": { "limit": 100 } } })
}

/// A question that differs each time it is asked, and has the hundred oldest of all calls for its answer.
fn filtered() -> Value {
    let kfl = format!("src.port >= 1 and request.path != \"/{NUMBER}\"");
    json!({ "method": "tools/call", "params": { "name": "list_api_calls", "arguments": { "limit": 100, "kfl": kfl } } })
}

/// A server with sessions begun.
struct Server {
    url: String,
    sessions: Vec<String>,
}

/// What wrk saw.
#[derive(Deserialize)]
struct Load {
    answers: f64,
    us: f64,
    p99_us: f64,
    errors: u64,
}

impl Load {
    fn rate(&self) -> f64 {
        self.answers / (self.us / 1e6)
    }
}

impl Server {
    fn new(url: String) -> Result<Self> {
        let mut server = Self {
            url,
            sessions: Vec::new(),
        };
        let who = json!({ "name": "wiretape-bench", "version": env!("CARGO_PKG_VERSION") });
        let begin = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": REVISION, "capabilities": {}, "clientInfo": who } });
        for _ in 0..SESSIONS {
            let begun = server.post(&begin, None)?;
            let id = begun
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .starts_with("mcp-session-id:")
                        .then(|| line.split_once(':'))?
                })
                .context("no session is begun")?;
            let id = id.1.trim().to_owned();
            let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            server.post(&told, Some(&id))?;
            server.sessions.push(id);
        }
        Ok(server)
    }

    /// The result of one question.
    fn ask(&self, asked: &Value) -> Result<Value> {
        let mut message = asked.clone();
        message["jsonrpc"] = json!("2.0");
        message["id"] = json!(1);
        let answer = self.post(&message, self.sessions.first())?;
        let data = answer.lines().filter_map(|line| line.strip_prefix("data:"));
        let mut answers = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let mut answer = answers
            .find(|answer| answer["id"] == 1)
            .with_context(|| format!("no answer to {asked}: {answer}"))?;
        ensure!(answer["error"].is_null(), "{answer}");
        Ok(answer["result"].take())
    }

    /// The first hundred calls, as soon as they are there.
    fn until_dissected(&self) -> Result<Value> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut answer = self.ask(&list_api_calls())?;
            let total = answer["structuredContent"]["total"].as_u64();
            if total == Some(3 * ROUNDS as u64) {
                return Ok(answer["structuredContent"].take());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the capture is not dissected after {PATIENCE:?}")
    }

    /// Has wrk ask the same again and again.
    fn load(&self, asked: &Value, scratch: &Path, options: &Options) -> Result<Load> {
        let script = scratch.join("ask.lua");
        fs::write(&script, lua(asked, &self.sessions))?;
        let said = Command::new("wrk")
            .arg(format!("-d{}s", options.seconds))
            .args(["-t1", &format!("-c{}", options.connections), "-s"])
            .arg(&script)
            .arg(&self.url)
            .output()
            .context("cannot run wrk")?;
        let text = String::from_utf8_lossy(&said.stdout);
        ensure!(
            said.status.success(),
            "wrk: {text}{}",
            String::from_utf8_lossy(&said.stderr)
        );
        let line = text
            .lines()
            .find(|line| line.starts_with('{'))
            .context("wrk tells nothing")?;
        let load: Load = serde_json::from_str(line)?;
        ensure!(
            load.errors == 0 && load.answers > 0.0,
            "{} fails under load: {line}",
            self.url
        );
        Ok(load)
    }

    fn post(&self, message: &Value, session: Option<&String>) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-i",
            "--max-time",
            "30",
            "-H",
            "accept: application/json, text/event-stream",
        ])
        .args(["-H", "content-type: application/json", "-d"])
        .arg(message.to_string());
        if let Some(session) = session {
            curl.args(["-H", &format!("mcp-session-id: {session}")]);
            curl.args(["-H", &format!("mcp-protocol-version: {REVISION}")]);
        }
        let said = curl.arg(&self.url).output().context("cannot run curl")?;
        ensure!(
            said.status.success(),
            "{}: {}",
            self.url,
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

/// What wrk runs: each request has an id of its own, as the protocol wants it, and the sessions take turns. Numbers are
/// not used again by the next measurement.
fn lua(asked: &Value, sessions: &[String]) -> String {
    let sessions: Vec<String> = sessions.iter().map(|session| format!("{session:?}")).collect();
    let (method, params) = (&asked["method"], &asked["params"]);
    format!(
        r#"
local sessions = {{ {} }}
local asked = [[{{"jsonrpc":"2.0","method":{method},"params":{params},"id":{NUMBER}}}]]
local number = os.time() * 1000000
wrk.headers["content-type"] = "application/json"
wrk.headers["accept"] = "application/json, text/event-stream"
wrk.headers["mcp-protocol-version"] = "{REVISION}"
request = function()
  number = number + 1
  wrk.headers["mcp-session-id"] = sessions[number % #sessions + 1]
  local shown = string.format("%d", number)
  return wrk.format("POST", nil, nil, (asked:gsub("{NUMBER}", shown)))
end
done = function(summary, latency)
  local errors = summary.errors
  print(string.format('{{"answers":%d,"us":%d,"p99_us":%d,"errors":%d}}', summary.requests, summary.duration,
    latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#,
        sessions.join(", ")
    )
}

/// The Python SDK's server, ended when dropped.
struct Peer {
    url: String,
    child: Child,
}

impl Peer {
    fn start(mut python: Command, answer: &Path, tools: &Path) -> Result<Self> {
        // Free a moment ago; nobody else here asks for one.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = python
            .arg(Path::new(SCRIPTS).join("minimal_server.py"))
            .arg(port.to_string())
            .arg(answer)
            .arg(tools)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Python")?;
        let mut peer = Self {
            url: format!("http://127.0.0.1:{port}/mcp"),
            child,
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = peer.child.try_wait()? {
                bail!("the peer ended: {status}");
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "the peer does not answer after {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
