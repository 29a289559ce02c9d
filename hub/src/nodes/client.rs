//! The client of one agent: its HTTP API as functions, with every wait bounded.

use std::time::Duration;

use reqwest::{StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::json;
use wiretape_tape::{Boundaries, Change, Cut, Name, Nanos, Recorded};

/// Longest answer of an agent, segments apart, that is read. A cut of a 1 TiB ring in 64 MiB segments is about 4 MiB.
const MAX_ANSWER: usize = 64 << 20;

/// How long an agent is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the connection.
    pub connect: Duration,
    /// For a whole short answer. A cut is links in one directory, boundaries are counters: both take milliseconds.
    pub answer: Duration,
    /// For the next bytes of a segment.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // One lost SYN is sent again after 1 s, two after 3 s; a client of ours gives up after 30 s (contract 1.4).
        Self {
            connect: Duration::from_secs(3),
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(15),
        }
    }
}

/// Why an agent did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    /// No connection, or it broke.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The agent.
        url: String,
        /// The deepest cause.
        reason: String,
    },
    /// It accepted and then said nothing for too long.
    #[error("{url} does not answer in time")]
    TimedOut {
        /// The agent.
        url: String,
    },
    /// It answered with an error of its own.
    #[error("{url} refuses with {status}: {message}")]
    Refused {
        /// The agent.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its `error` member, or the start of its answer.
        message: String,
    },
    /// It answered something else than an agent does.
    #[error("{url} gives an answer that is not an agent's: {reason}")]
    Garbled {
        /// The agent.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    url: String,
    patience: Patience,
    http: reqwest::Client,
}

impl Agent {
    /// A client for the agent at `url` (`http://host:port`); nothing is sent yet.
    pub fn new(url: &str, patience: Patience) -> Result<Self, NodeError> {
        // No proxy: agents are reached directly, and no call goes anywhere else because of an environment variable.
        let http = reqwest::Client::builder()
            .connect_timeout(patience.connect)
            .read_timeout(patience.stall)
            .no_proxy()
            .build()
            .map_err(|error| NodeError::Unreachable {
                url: url.to_owned(),
                reason: cause(&error),
            })?;
        Ok(Self {
            url: url.to_owned(),
            patience,
            http,
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How much tape there is.
    pub async fn boundaries(&self) -> Result<Boundaries, NodeError> {
        self.json(self.http.get(format!("{}/boundaries", self.url))).await
    }

    /// What it records.
    pub async fn recorded(&self) -> Result<Recorded, NodeError> {
        self.json(self.http.get(format!("{}/recording", self.url))).await
    }

    /// Has it record something else; it answers when it does.
    pub async fn record(&self, change: &Change) -> Result<Recorded, NodeError> {
        self.json(self.http.put(format!("{}/recording", self.url)).json(change))
            .await
    }

    /// Every name that it knows.
    pub async fn names(&self) -> Result<Vec<Name>, NodeError> {
        self.json(self.http.get(format!("{}/names", self.url))).await
    }

    /// Holds the segments of `[start, end)`; asking again with the same id gives the same cut.
    pub async fn cut(&self, id: &str, start: Nanos, end: Nanos) -> Result<Cut, NodeError> {
        let body = json!({ "id": id, "start": start, "end": end });
        self.json(self.http.post(format!("{}/cuts", self.url)).json(&body))
            .await
    }

    /// A cut that was made before; `None` when the agent no longer holds it.
    pub async fn held_cut(&self, id: &str) -> Result<Option<Cut>, NodeError> {
        match self.json(self.http.get(format!("{}/cuts/{id}", self.url))).await {
            Ok(cut) => Ok(Some(cut)),
            Err(NodeError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of one segment of a cut from byte `from` on, as a stream that stalls no longer than it may.
    ///
    /// The answer's status tells whether the agent honoured `from` (206) or starts over (200).
    pub async fn segment(&self, cut: &str, segment: &str, from: u64) -> Result<reqwest::Response, NodeError> {
        let mut request = self
            .http
            .get(format!("{}/cuts/{cut}/segments/{segment}", self.url));
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refused(answer).await)
        }
    }

    /// Lets the agent forget a cut. One that it no longer holds is no error.
    pub async fn release(&self, cut: &str) -> Result<(), NodeError> {
        let request = self
            .http
            .delete(format!("{}/cuts/{cut}", self.url))
            .timeout(self.patience.answer);
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(self.refused(answer).await)
    }

    /// What a broken stream of this agent is reported as.
    pub(crate) fn failed(&self, error: &reqwest::Error) -> NodeError {
        if error.is_timeout() {
            return NodeError::TimedOut {
                url: self.url.clone(),
            };
        }
        NodeError::Unreachable {
            url: self.url.clone(),
            reason: cause(error),
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, NodeError> {
        let answer = request
            .timeout(self.patience.answer)
            .send()
            .await
            .map_err(|error| self.failed(&error))?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await);
        }
        let body = self.bounded(answer).await?;
        serde_json::from_slice(&body).map_err(|error| NodeError::Garbled {
            url: self.url.clone(),
            reason: error.to_string(),
        })
    }

    async fn refused(&self, answer: reqwest::Response) -> NodeError {
        #[derive(serde::Deserialize)]
        struct Told {
            error: String,
        }
        let status = answer.status().as_u16();
        let body = self.bounded(answer).await.unwrap_or_default();
        let message = match serde_json::from_slice::<Told>(&body) {
            Ok(told) => told.error,
            // Not one of our agents, or a proxy in between: the start of what it says is the best clue.
            Err(_) => String::from_utf8_lossy(&body).chars().take(200).collect(),
        };
        NodeError::Refused {
            url: self.url.clone(),
            status,
            message,
        }
    }

    async fn bounded(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, NodeError> {
        let mut body = Vec::new();
        while let Some(bytes) = answer.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + bytes.len() > MAX_ANSWER {
                let reason = format!("longer than {MAX_ANSWER} bytes");
                return Err(NodeError::Garbled {
                    url: self.url.clone(),
                    reason,
                });
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }
}

/// The deepest cause: `error sending request` says nothing, `connection refused` does.
fn cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
