//! A hub on a socket of its own, and a client of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wiretape_hub::api;
use wiretape_hub::cluster::Kubernetes;
use wiretape_hub::hub::{Hub, Options};
use wiretape_hub::live::{Live, Pace};
use wiretape_hub::nodes::{Patience, Where};

use crate::agent::Node;

/// Longest wait for a job of a test; the tests themselves take a fraction of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A hub in this process.
pub struct TestHub {
    pub client: Client,
    pub dir: TempDir,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl TestHub {
    /// A hub with an empty data folder.
    pub async fn start(nodes: &[&Node]) -> Self {
        let urls = nodes.iter().map(|node| node.url.clone()).collect();
        Self::open(TempDir::new().expect("a temporary folder"), urls).await
    }

    /// A hub on a data folder that may have something in it.
    pub async fn open(dir: TempDir, urls: Vec<String>) -> Self {
        Self::open_with(dir, urls, Kubernetes::Off, Pace::default()).await
    }

    /// The same, in a cluster.
    pub async fn open_in(dir: TempDir, urls: Vec<String>, kubernetes: Kubernetes) -> Self {
        Self::open_with(dir, urls, kubernetes, Pace::default()).await
    }

    /// A hub with an empty data folder, whose live dissection has a pace of its own.
    pub async fn paced(nodes: &[&Node], pace: Pace) -> Self {
        let urls = nodes.iter().map(|node| node.url.clone()).collect();
        let dir = TempDir::new().expect("a temporary folder");
        Self::open_with(dir, urls, Kubernetes::Off, pace).await
    }

    async fn open_with(dir: TempDir, urls: Vec<String>, kubernetes: Kubernetes, pace: Pace) -> Self {
        let patience = Patience {
            connect: Duration::from_secs(2),
            answer: Duration::from_secs(2),
            stall: Duration::from_secs(2),
        };
        let places = Where { urls, dns: None };
        let options = Options {
            data: dir.path().to_owned(),
            places,
            patience,
            kubernetes,
            threads: 2,
            descriptors: Arc::default(),
        };
        let mut hub = Hub::open(options).await.expect("the hub opens");
        hub.live = Live::new(
            Arc::clone(&hub.nodes),
            hub.cluster.clone(),
            Arc::clone(&hub.databases),
            dir.path(),
            pace,
            CancellationToken::new(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let stop = CancellationToken::new();
        let token = stop.clone();
        let serving = tokio::spawn(async move {
            api::serve(listener, Arc::new(hub), &api::Access::default(), token)
                .await
                .expect("the hub serves");
        });
        Self {
            client: Client::new(url),
            dir,
            stop,
            serving,
        }
    }

    /// Stops it in good order and gives its data folder back.
    pub async fn stop(self) -> TempDir {
        // Connections that are kept open would be waited for.
        drop(self.client);
        self.stop.cancel();
        self.serving.await.expect("the hub stops");
        self.dir
    }
}

/// The hub's program, killed when dropped.
pub struct HubProcess {
    pub client: Client,
    child: Child,
}

impl HubProcess {
    /// Starts it on a data folder and waits until it answers.
    pub fn start(data: &Path, nodes: &[&Node]) -> Self {
        let flags: Vec<&str> = nodes.iter().flat_map(|node| ["--node", &node.url]).collect();
        Self::start_with(data, &flags)
    }

    /// The same with any flags.
    pub fn start_with(data: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-hub"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(flags);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the hub starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = Vec::new();
        let url = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("the hub ended: {}", said.join("\n"))
            };
            if let Some(at) = line.find("hub answers on ") {
                let url = line.split_at(at + "hub answers on ".len()).1;
                break url
                    .split_whitespace()
                    .next()
                    .expect("an address follows")
                    .to_owned();
            }
            said.push(line);
        };
        // Read on, so that the hub never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            client: Client::new(url),
            child,
        }
    }

    /// Memory that it has now, in KiB (VmRSS, proc_pid_status(5)).
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
        size.and_then(|size| size.trim().parse().ok()).expect("a number")
    }

    /// Processor time that it has taken (proc_pid_stat(5)), in the ticks of 10 ms that Linux tells.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // Behind the name, which may hold anything: the third is the state, the 14th and 15th are what is wanted.
        let behind = stat.rsplit_once(')').expect("its name is in brackets").1;
        let ticks = behind.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Ends it without a warning.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, as an init system does.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let told = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .expect("kill runs");
        assert!(told.success());
        self.child.wait().expect("it ends")
    }
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a hub.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    http: reqwest::Client,
}

impl Client {
    fn new(url: String) -> Self {
        let http = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .expect("a client");
        Self { url, http }
    }

    /// Sends a request; `body` goes as it is.
    pub async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> reqwest::Response {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.body(body);
        }
        request.send().await.expect("the hub answers")
    }

    /// Status and JSON of an answer.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self
            .send(method, path, body.map(|body| body.to_string().into_bytes()))
            .await;
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("the answer is JSON"))
    }

    /// The JSON of a good answer.
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The JSON of a good answer to a body.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// What a counter or a gauge of the hub says.
    pub async fn metric(&self, name: &str) -> u64 {
        let all = self
            .send("GET", "/metrics", None)
            .await
            .text()
            .await
            .expect("text");
        let name = format!("wiretape_hub_{name} ");
        let value = all.lines().find_map(|line| line.strip_prefix(&name));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name}in {all}"))
    }

    /// Asks until the status is none of these.
    pub async fn until_not(&self, path: &str, busy: &[&str]) -> Value {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if !busy.iter().any(|busy| answer["status"] == *busy) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, asking)
            .await
            .expect("it comes to an end")
    }

    /// Creates a snapshot and waits for its end.
    pub async fn snapshot(&self, body: Value) -> Value {
        let created = self.post("/mcp/snapshots", body).await;
        let path = format!("/mcp/snapshots/{}", created["id"].as_str().expect("it has an id"));
        self.until_not(&path, &["in_progress"]).await
    }

    /// Dissects a snapshot and waits for its end.
    pub async fn dissect(&self, snapshot: &str, name: &str) -> Value {
        let body = serde_json::json!({ "snapshot": snapshot, "name": name });
        self.post("/mcp/dissections", body).await;
        self.until_not(
            &format!("/mcp/dissections/{snapshot}/{name}"),
            &["pending", "running"],
        )
        .await
    }
}

/// A value made safe for a query.
pub fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                (byte as char).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
