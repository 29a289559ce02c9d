//! A session of MCP over HTTP, spoken by hand: every message as it stands on the wire.

use serde_json::{Value, json};

use crate::hub::TestHub;

/// A session.
pub struct Session {
    pub url: String,
    pub http: reqwest::Client,
    pub id: String,
    version: String,
}

pub fn initialize(version: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } })
}

pub fn post(http: &reqwest::Client, url: &str) -> reqwest::RequestBuilder {
    http.post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
}

/// The messages of a stream of events.
fn messages(events: &str) -> Vec<Value> {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect()
}

impl Session {
    pub async fn begin(hub: &TestHub, path: &str, version: &str) -> (Self, Value) {
        Self::at(&format!("{}{path}", hub.client.url), version).await
    }

    pub async fn at(url: &str, version: &str) -> (Self, Value) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self::by(http, url, version).await
    }

    /// By a client of the test's own.
    pub async fn by(http: reqwest::Client, url: &str, version: &str) -> (Self, Value) {
        let url = url.to_owned();
        let answer = post(&http, &url)
            .json(&initialize(version))
            .send()
            .await
            .expect("it answers");
        assert_eq!(answer.status().as_u16(), 200);
        let id = answer.headers()["mcp-session-id"]
            .to_str()
            .expect("text")
            .to_owned();
        let begun = messages(&answer.text().await.expect("text")).remove(0);
        let version = begun["result"]["protocolVersion"]
            .as_str()
            .expect("a version")
            .to_owned();
        let session = Self {
            url,
            http,
            id,
            version,
        };
        session.tell("notifications/initialized", json!({})).await;
        (session, begun["result"].clone())
    }

    pub fn message(&self, message: &Value) -> reqwest::RequestBuilder {
        post(&self.http, &self.url)
            .header("mcp-session-id", &self.id)
            .header("mcp-protocol-version", &self.version)
            .json(message)
    }

    pub async fn tell(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        let answer = self.message(&message).send().await.expect("it answers");
        assert_eq!(answer.status().as_u16(), 202, "{method}");
    }

    /// Everything that comes for a request; the last is its answer.
    pub async fn all(&self, id: u64, method: &str, params: Value) -> Vec<Value> {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let answer = self.message(&message).send().await.expect("it answers");
        assert_eq!(answer.status().as_u16(), 200, "{method}");
        messages(&answer.text().await.expect("text"))
    }

    pub async fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.all(1, method, params).await.pop().expect("an answer");
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
            .await
    }

    /// The stream of what is told unasked.
    pub async fn listen(&self) -> reqwest::Response {
        let asked = self.http.get(&self.url).header("accept", "text/event-stream");
        let listening = asked.header("mcp-session-id", &self.id).send().await;
        let listening = listening.expect("it answers");
        assert_eq!(listening.status().as_u16(), 200);
        listening
    }

    pub async fn end(self) {
        let asked = self.http.delete(&self.url).header("mcp-session-id", &self.id);
        let ended = asked.send().await.expect("it answers");
        assert_eq!(ended.status().as_u16(), 204);
    }
}
