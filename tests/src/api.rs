//! The hub's API (and an agent's), as a client sees it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::call::Call;

/// How long any one answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    client: reqwest::Client,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body; a string when it is not JSON.
    pub body: Value,
}

impl Api {
    /// A client of whoever answers at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            base: format!("http://{address}"),
            client: reqwest::Client::new(),
        }
    }

    /// GET, with query parameters that are encoded here.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(self.client.get(self.url(path)).query(query), path)
            .await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.client.post(self.url(path)).json(body), path).await
    }

    /// Any method, with a body as it stands.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn raw(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        let method = method
            .parse()
            .with_context(|| format!("{method} is not a method"))?;
        let request = self
            .client
            .request(method, self.url(path))
            .header("content-type", "application/json")
            .body(body);
        self.send(request, path).await
    }

    /// GET of what is not JSON.
    ///
    /// # Errors
    /// Nobody answers, or with an error.
    pub async fn bytes(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
        let response = self
            .client
            .get(self.url(path))
            .query(query)
            .timeout(PATIENCE)
            .send()
            .await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        ensure!(
            status.is_success(),
            "{path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes.to_vec())
    }

    /// All calls that a filter matches, page by page, in full.
    ///
    /// # Errors
    /// An answer that is none.
    pub async fn calls(&self, db: &str, kfl: &str) -> anyhow::Result<Vec<Call>> {
        let mut calls = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("db", db), ("kfl", kfl), ("limit", "1000"), ("format", "full")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page = self.get("/mcp/calls", &query).await?.ok()?;
            match page.get_mut("calls").map(Value::take) {
                Some(Value::Array(more)) => {
                    for call in more {
                        let text = call.to_string();
                        calls.push(
                            serde_json::from_value(call).with_context(|| format!("not a call: {text}"))?,
                        );
                    }
                }
                _ => bail!("the answer to {kfl:?} has no list of calls: {page}"),
            }
            match page.get("cursor").and_then(Value::as_str) {
                Some(next) => {
                    ensure!(
                        cursor.as_deref() != Some(next),
                        "the cursor {next} leads to itself"
                    );
                    cursor = Some(next.to_owned());
                }
                None => {
                    ensure!(
                        page.get("truncated") != Some(&Value::Bool(true)),
                        "a truncated page has no cursor"
                    );
                    return Ok(calls);
                }
            }
        }
    }

    /// Asks until `done` says that it is.
    ///
    /// # Errors
    /// An error for an answer, or none within [`PATIENCE`].
    pub async fn poll(
        &self,
        path: &str,
        query: &[(&str, &str)],
        done: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let polling = async {
            loop {
                let body = self.get(path, query).await?.ok()?;
                if done(&body) {
                    return Ok(body);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, polling).await {
            Ok(body) => body,
            Err(_) => bail!("{path} is not done after {PATIENCE:?}"),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder, path: &str) -> anyhow::Result<Answer> {
        let response = request
            .timeout(PATIENCE)
            .send()
            .await
            .with_context(|| format!("{}{path} does not answer", self.base))?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// The body of an answer that is no error.
    ///
    /// # Errors
    /// What the answer says, when it is one.
    pub fn ok(self) -> anyhow::Result<Value> {
        ensure!(
            (200..300).contains(&self.status),
            "the hub answers {}: {}",
            self.status,
            self.body
        );
        Ok(self.body)
    }

    /// What the error says, or nothing.
    pub fn error(&self) -> &str {
        self.body.get("error").and_then(Value::as_str).unwrap_or_default()
    }
}
