//! A client of the hub's MCP, as an assistant has one: a session over HTTP, and tools called in it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The revision that it speaks.
const REVISION: &str = "2025-11-25";
/// How long any one answer may take; `investigate` with progress waits for a whole dissection.
const PATIENCE: Duration = Duration::from_secs(120);

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    url: String,
    http: reqwest::Client,
    id: String,
    asked: u64,
}

impl Session {
    /// Begins one with the hub at this address; also what the hub says of itself.
    pub(super) async fn begin(hub: SocketAddr) -> anyhow::Result<(Self, Value)> {
        let mut session = Self {
            url: format!("http://{hub}/mcp"),
            http: reqwest::Client::builder().timeout(PATIENCE).build()?,
            id: String::new(),
            asked: 0,
        };
        let who = json!({ "name": "wiretape-walkthrough", "version": env!("CARGO_PKG_VERSION") });
        let params = json!({ "protocolVersion": REVISION, "capabilities": {}, "clientInfo": who });
        let begun = session.ask("initialize", params).await?;
        session.tell("notifications/initialized").await?;
        Ok((session, begun))
    }

    /// Calls a tool, and hears of its progress, so that it answers when its work is done.
    ///
    /// # Errors
    /// The tool's own error, in its words.
    pub(super) async fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<Value> {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": { "progressToken": tool } });
        let mut answer = self.ask("tools/call", params).await?;
        ensure!(
            answer["isError"] != true,
            "{tool}: {}",
            answer["content"][0]["text"]
        );
        Ok(answer["structuredContent"].take())
    }

    async fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        self.asked += 1;
        let id = self.asked;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.post(&message).await?;
        if let Some(given) = answer.headers().get("mcp-session-id") {
            given.to_str()?.clone_into(&mut self.id);
        }
        let events = answer.text().await?;
        // Progress comes before, on the same stream.
        let mut answer = events
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data:")?).ok())
            .find(|message| message["id"] == id)
            .with_context(|| format!("{method} is not answered"))?;
        ensure!(
            answer["error"].is_null(),
            "{method}: {}",
            answer["error"]["message"]
        );
        Ok(answer["result"].take())
    }

    async fn tell(&self, method: &str) -> anyhow::Result<()> {
        self.post(&json!({ "jsonrpc": "2.0", "method": method })).await?;
        Ok(())
    }

    async fn post(&self, message: &Value) -> anyhow::Result<reqwest::Response> {
        let mut request = self
            .http
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .json(message);
        if !self.id.is_empty() {
            request = request
                .header("mcp-session-id", &self.id)
                .header("mcp-protocol-version", REVISION);
        }
        let answer = request.send().await.context("the hub does not answer")?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "the hub answers {status}: {}",
            answer.text().await?
        );
        Ok(answer)
    }
}
