//! MCP over stdin and stdout, by the program itself.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::shop;
use crate::hub::TestHub;
use crate::tools::{count_packets, dissected};

/// The program, as an assistant starts it.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    next: u64,
    /// What it has told unasked: methods, with their parameters.
    told: Vec<(String, Value)>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wiretape-hub"))
            .arg("mcp")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut program = Self {
            child,
            stdin,
            stdout,
            next: 0,
            told: Vec::new(),
        };
        let begun = program.ask(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } }),
        );
        assert_eq!(begun["serverInfo"]["name"], "wiretape");
        program.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        program
    }

    fn say(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("it is open");
        writeln!(stdin, "{message}").expect("it listens");
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.stdout.read_line(&mut line).expect("it speaks") > 0,
                "{method}: it has ended"
            );
            // Nothing but messages may stand on stdout.
            let message: Value = serde_json::from_str(&line).expect("each line is a message");
            if let Some(told) = message["method"].as_str() {
                self.told.push((told.to_owned(), message["params"].clone()));
            } else if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// Waits until it has told something unasked.
    fn hears(&mut self, method: &str) -> Value {
        let begun = Instant::now();
        loop {
            if let Some((_, params)) = self.told.iter().find(|(told, _)| told == method) {
                return params.clone();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{method} is not told: {:?}",
                self.told
            );
            std::thread::sleep(Duration::from_millis(100));
            self.ask("ping", json!({}));
        }
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Closes its stdin, upon which it ends by itself.
    fn end(mut self) {
        drop(self.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it does not end");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A capture of fifty checkouts, as a file.
async fn capture(folder: &Path) -> String {
    let (hub, _client, _server) = dissected().await;
    let answer = hub
        .client
        .send("GET", "/mcp/snapshots/incident/pcap?nodes=node-1", None)
        .await;
    let bytes = answer.bytes().await.expect("it arrives whole");
    assert_eq!(count_packets(&bytes), 50 * 8);
    let file = folder.join("trace.pcap");
    std::fs::write(&file, bytes).expect("a file");
    file.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_handed_to_an_assistant_without_a_hub() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = capture(folder.path()).await;
    let mut program = Program::start(&[&file]);
    let tools = program.ask("tools/list", json!({}));
    assert!(tools["tools"].as_array().is_some_and(|tools| tools.len() > 15));
    let begun = Instant::now();
    let called = loop {
        let called = program.call("list_api_calls", json!({ "kfl": "error" }));
        if called["isError"] != true || begun.elapsed() > Duration::from_secs(30) {
            break called;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(called["structuredContent"]["total"], 5, "{called}");
    program.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_hub_is_asked_for_an_assistant() {
    let (hub, _client, _server) = dissected().await;
    let url = hub.client.url.clone();
    let told = tokio::task::spawn_blocking(move || {
        let mut program = Program::start(&["--hub", &url]);
        let called = program.call("list_api_calls", json!({ "kfl": "error", "limit": "2" }));
        let wrong = program.call("get_snapshot", json!({ "id": "nope" }));
        let resources = program.ask("resources/list", json!({}));
        program.ask(
            "resources/subscribe",
            json!({ "uri": "wiretape://snapshots/incident" }),
        );
        let made = program.ask(
            "tools/call",
            json!({ "name": "create_snapshot", "arguments": { "name": "second" }, "_meta": { "progressToken": 1 } }),
        );
        // What happens at the hub is heard of here.
        program.hears("notifications/resources/list_changed");
        let again = json!({ "snapshot_id": "incident", "name": "again" });
        program.call("start_snapshot_dissection", again);
        let updated = program.hears("notifications/resources/updated");
        assert_eq!(updated["uri"], "wiretape://snapshots/incident");
        program.end();
        (called, wrong, resources, made)
    });
    let (called, wrong, resources, made) = told.await.expect("no panic");
    // Who hears of progress gets the answer when it is done, there as here.
    assert_eq!(made["structuredContent"]["status"], "completed", "{made}");
    assert_eq!(made["structuredContent"]["name"], "second");
    assert_eq!(called["structuredContent"]["total"], 5, "{called}");
    assert_eq!(wrong["isError"], true);
    assert!(
        wrong["content"][0]["text"]
            .as_str()
            .is_some_and(|told| told.contains("there are: incident")),
        "{wrong}"
    );
    assert_eq!(resources["resources"].as_array().map(Vec::len), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_off_is_given_up_at_the_hub_as_well() {
    call_off("create_snapshot", json!({ "name": "a" })).await;
}

/// Of which the hub tells nothing before it has tried for twenty seconds.
#[tokio::test(flavor = "multi_thread")]
async fn an_investigation_that_is_called_off_early_is_given_up_at_the_hub_as_well() {
    call_off("investigate", json!({})).await;
}

/// Has a program call a tool of a hub whose agents come to a halt, and call it off.
async fn call_off(tool: &'static str, arguments: Value) {
    let (client, server) = shop(600, 10_000, 1 << 20).await;
    client.faults.stall.store(true, Ordering::Relaxed);
    let hub = TestHub::start(&[&client, &server]).await;
    let url = hub.client.url.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let mut program = Program::start(&["--hub", &url]);
        let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": 1 } });
        program.say(&json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/call", "params": params }));
        program.hears("notifications/progress");
        program
    });
    let mut program = asked.await.expect("no panic");
    client.faults.streaming(1).await;
    program.say(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 900 } }),
    );
    let gone = async {
        while hub.client.get("/mcp/snapshots").await["snapshots"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("it is given up");
    client.faults.stall.store(false, Ordering::Relaxed);
    tokio::task::spawn_blocking(|| program.end())
        .await
        .expect("it ends");
}

#[test]
fn a_file_that_is_none_is_told_at_once() {
    let told = Command::new(env!("CARGO_BIN_EXE_wiretape-hub"))
        .args(["mcp", "/no/such/file.pcap"])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    assert!(!told.status.success());
    assert!(String::from_utf8_lossy(&told.stderr).contains("/no/such/file.pcap"));
    assert!(told.stdout.is_empty());
}
