//! One role at work: what it knows, and how it calls others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::sync::watch;

use crate::body::Payload;
use crate::journal::{Journal, unix_now};
use crate::link::{Link, Pool};
use crate::role::{Directory, Role};
use crate::story::Clock;
use crate::truth::{RoleTruth, Sent};
use crate::{cart, catalogue, checkout, database, frontend, gateway, payment, server, users};

/// Becomes true when the role is to come to an end.
pub type Stop = watch::Receiver<bool>;

/// Names one request of the shop, unlike any other; answers repeat it.
pub const REQUEST_ID: &str = "x-request-id";
/// Names what the user did; passed on from call to call. One in eight is without.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// The same for a request and its retries.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// One role at work.
pub struct Pod {
    /// Which.
    pub role: Role,
    /// Where the others are.
    pub directory: Directory,
    /// The story's time.
    pub clock: Clock,
    /// What makes a run repeatable.
    pub seed: u64,
    /// Journeys begun in a second of the story (users only).
    pub journeys_per_second: f64,
    /// What has been sent and answered.
    pub journal: Journal,
    /// Requests sent so far.
    requests: AtomicU64,
    /// Requests answered so far, for what depends on an ordinal.
    pub answered: AtomicU64,
    pools: BTreeMap<Role, Pool>,
    /// Payment-service's connections to the gateway.
    pub gateway_pool: payment::GatewayPool,
}

impl Pod {
    /// A role that is about to begin.
    pub fn new(role: Role, directory: Directory, clock: Clock, seed: u64, journeys_per_second: f64) -> Self {
        Self {
            role,
            directory,
            clock,
            seed,
            journeys_per_second,
            journal: Journal::default(),
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            pools: Role::ALL
                .into_iter()
                .map(|role| (role, Pool::default()))
                .collect(),
            gateway_pool: payment::GatewayPool::default(),
        }
    }

    /// Plays the role: users until the story is over, everybody else until told to stop. What was begun is answered.
    ///
    /// # Errors
    /// An address that cannot be used.
    pub async fn play(
        self,
        listener: Option<tokio::net::TcpListener>,
        stop: Stop,
    ) -> anyhow::Result<RoleTruth> {
        let pod = std::sync::Arc::new(self);
        match (pod.role, listener) {
            (Role::Users, _) => users::play(&pod, stop).await,
            (Role::CatalogueDb, Some(listener)) => database::serve(&pod, listener, stop).await,
            (_, Some(listener)) => server::serve(&pod, listener, stop).await,
            (role, None) => anyhow::bail!("{} has nothing to listen on", role.name()),
        }
        let mut truth = pod.journal.take();
        truth.role = pod.role.name().to_owned();
        Ok(truth)
    }

    /// Answers one request.
    pub async fn answer(&self, asked: Asked) -> Answer {
        match self.role {
            Role::Frontend => frontend::answer(self, asked).await,
            Role::CartService => cart::answer(self, asked).await,
            Role::Checkout => checkout::answer(self, asked).await,
            Role::Catalogue => catalogue::answer(self, asked).await,
            Role::PaymentService => payment::answer(self, asked).await,
            Role::Gateway => gateway::answer(self, asked).await,
            Role::Users | Role::CatalogueDb => Answer::empty(StatusCode::NOT_FOUND),
        }
    }

    /// Calls another role over a connection of the pool, and gives the connection back.
    ///
    /// # Errors
    /// No connection, or one that ended before the answer.
    pub async fn call(&self, to: Role, outgoing: Outgoing) -> anyhow::Result<Reply> {
        let mut link = match self.idle(to).take() {
            Some(link) => link,
            None => self.connect(to).await?,
        };
        let reply = self.exchange(to, &mut link, outgoing).await?;
        self.idle(to).put(link);
        Ok(reply)
    }

    /// Opens a connection to another role, from this one's address.
    pub async fn connect(&self, to: Role) -> anyhow::Result<Link> {
        let from = self.directory.find(self.role)?.ip();
        Link::open(from, self.directory.find(to)?).await
    }

    /// Connections to a role that wait for a request.
    pub fn idle(&self, to: Role) -> &Pool {
        // Every role has one, see `new`.
        &self.pools[&to]
    }

    /// Closes all connections that wait.
    pub fn hang_up(&self) {
        self.pools.values().for_each(Pool::clear);
    }

    /// Sends one request over a connection and reads its answer whole.
    pub async fn exchange(&self, to: Role, link: &mut Link, outgoing: Outgoing) -> anyhow::Result<Reply> {
        link.sender.ready().await?;
        let ordinal = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{ordinal}", self.role.name());
        let target = outgoing.target.clone();
        let sent = Sent {
            id: id.clone(),
            client: self.role.name().to_owned(),
            server: to.name().to_owned(),
            method: outgoing.method.to_string(),
            path: target.split('?').next().unwrap_or_default().to_owned(),
            status: None,
            correlated: outgoing.headers.contains_key(CORRELATION_ID),
            idempotency_key: outgoing.headers.get(IDEMPOTENCY_KEY).map(text),
            retry: outgoing.retry,
            at: u64::try_from(unix_now().as_nanos()).unwrap_or(u64::MAX),
            took_us: 0,
        };
        let request = outgoing.into_request(self.role, to, &id)?;
        let entry = self.journal.sending(sent);
        let response = match link.sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => {
                if error.is_canceled() {
                    entry.not_sent();
                }
                return Err(error).with_context(|| format!("{} did not answer {target}", to.name()));
            }
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        entry.answered(head.status.as_u16());
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            body,
        })
    }
}

/// A request to be sent.
pub struct Outgoing {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Payload,
    retry: u32,
}

impl Outgoing {
    /// A request without a body.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            headers: HeaderMap::new(),
            body: Payload::default(),
            retry: 0,
        }
    }

    /// With a JSON body.
    pub fn json(self, value: &serde_json::Value) -> Self {
        self.body("application/json", Payload::json(value))
    }

    /// With a body.
    pub fn body(mut self, content_type: &'static str, body: Payload) -> Self {
        self.body = body;
        self.header("content-type", content_type)
    }

    /// With a header field. A value that cannot stand in one is left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With what is passed on from the request that caused it.
    pub fn because_of(mut self, asked: &Asked) -> Self {
        for name in [CORRELATION_ID, IDEMPOTENCY_KEY] {
            if let Some(value) = asked.headers.get(name) {
                self.headers.insert(name, value.clone());
            }
        }
        self
    }

    /// As the `n`th retry.
    pub fn retry(mut self, n: u32) -> Self {
        self.retry = n;
        self.header("x-retry", &n.to_string())
    }

    fn into_request(self, from: Role, to: Role, id: &str) -> anyhow::Result<Request<Payload>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.target)
            .body(self.body)?;
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            HeaderValue::from_str(&format!("{}.shop.example", to.name()))?,
        );
        headers.insert(
            "user-agent",
            HeaderValue::from_str(&format!("{}/1.4", from.name()))?,
        );
        headers.insert("accept", HeaderValue::from_static("application/json"));
        headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
        headers.insert(REQUEST_ID, HeaderValue::from_str(id)?);
        headers.extend(self.headers);
        Ok(request)
    }
}

/// What came back.
pub struct Reply {
    /// Status of the response.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body as framed: not decompressed.
    pub body: Bytes,
}

impl Reply {
    /// The same answer, passed on.
    pub fn pass_on(self) -> Answer {
        let mut answer = Answer::empty(self.status);
        for name in ["content-type", "content-encoding", "etag", "retry-after"] {
            if let Some(value) = self.headers.get(name) {
                answer.headers.insert(name, value.clone());
            }
        }
        answer.body = Payload::sized(self.body);
        answer
    }
}

/// A request as a role gets it.
pub struct Asked {
    /// Method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// What followed `?`.
    pub query: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What a role answers.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Payload,
}

impl Answer {
    /// Without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Payload::default(),
        }
    }

    /// With a JSON body.
    pub fn json(status: StatusCode, value: &serde_json::Value) -> Self {
        let mut answer = Self::empty(status);
        answer
            .headers
            .insert("content-type", HeaderValue::from_static("application/json"));
        answer.body = Payload::json(value);
        answer
    }

    /// The one behind could not be called.
    pub fn bad_gateway(error: &anyhow::Error) -> Self {
        Self::json(
            StatusCode::BAD_GATEWAY,
            &serde_json::json!({ "error": format!("{error:#}") }),
        )
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
