//! MCP over HTTP, at the path of the REST routes: who may come in, how many at a time, and which requests are meant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::CancellationToken;

use super::{Backend, Server};
use crate::api::params::MAX_BODY;
use crate::api::{ApiError, App, Requests, rest};

/// Sessions at the same time. Each keeps a task and some buffers, and ends after five minutes of silence; a team and its
/// assistants have a few dozen.
pub(super) const MAX_SESSIONS: usize = 256;

/// What names this machine itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Under which names the hub may be spoken to over MCP, and from which pages. A browser is told names by whoever made the
/// page, so that a hub that took any could be read from any page (DNS rebinding).
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `Host`s: names or addresses, with or without a port. This machine's own are always among them.
    pub hosts: Vec<String>,
    /// `Origin`s: `https://assistant.example.com:443`; the port may be `*`. This machine's own are always among them.
    pub origins: Vec<String>,
}

impl Access {
    /// The address that is listened on is a good name for it, unless it stands for all addresses.
    #[must_use]
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        let ip = address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() {
            self.hosts.push(ip.to_string());
        }
        self
    }

    fn config(&self, stop: CancellationToken) -> StreamableHttpServerConfig {
        let hosts = LOOPBACK.iter().map(|host| (*host).to_owned());
        let own = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:*"));
        StreamableHttpServerConfig::default()
            .with_allowed_hosts(hosts.chain(self.hosts.iter().cloned()))
            .with_allowed_origins(own.into_iter().chain(self.origins.iter().cloned()))
            .enforce_origin_validation()
            .with_max_request_body_bytes(MAX_BODY)
            .with_cancellation_token(stop)
    }
}

/// The way in.
#[derive(Clone)]
pub(in crate::api) struct Door {
    service: StreamableHttpService<Server, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    /// Requests that may become sessions.
    opening: Arc<AtomicUsize>,
    requests: Arc<Requests>,
}

impl Door {
    pub(in crate::api) fn new(app: App, access: &Access, stop: CancellationToken) -> Self {
        let sessions = Arc::new(LocalSessionManager::default());
        let requests = Arc::clone(&app.requests);
        let service = StreamableHttpService::new(
            move || Ok(Server::new(Backend::Here(app.clone()))),
            Arc::clone(&sessions),
            access.config(stop),
        );
        Self {
            service,
            sessions,
            opening: Arc::default(),
            requests,
        }
    }

    /// `GET /mcp` is the discovery document for who asks for no stream of events (contract 1.3); all else is MCP.
    pub(in crate::api) fn routes(self) -> Router<App> {
        let enter = move |request: Request| {
            let door = self.clone();
            async move {
                if request.method() == Method::GET && !wants_events(&request) {
                    return rest::discovery().await.into_response();
                }
                door.enter(request).await
            }
        };
        Router::new().route("/mcp", get(enter.clone()).post(enter.clone()).delete(enter))
    }

    async fn enter(&self, request: Request) -> Response {
        let begins = request.method() == Method::POST && !request.headers().contains_key("mcp-session-id");
        let _opening = begins.then(|| Opening::new(&self.opening));
        if begins {
            // Those that are being opened count, so that no crowd slips in together.
            let known = self.sessions.sessions.read().await.len();
            if known + self.opening.load(Ordering::SeqCst) > MAX_SESSIONS {
                self.requests.sessions_refused.fetch_add(1, Ordering::Relaxed);
                return ApiError::too_many(format!(
                    "{MAX_SESSIONS} MCP sessions are open already; end one (DELETE /mcp), or wait until an idle one ends"
                ))
                .into_response();
            }
        }
        let ends = request.method() == Method::DELETE;
        let mut answer = self.service.handle(request).await.map(Body::new);
        if ends && answer.status() == StatusCode::ACCEPTED {
            // The session has ended, and clients (the Python SDK) take only 200 and 204 for that.
            *answer.status_mut() = StatusCode::NO_CONTENT;
        }
        answer
    }
}

/// Counts a request as long as it is here.
struct Opening(Arc<AtomicUsize>);

impl Opening {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn wants_events(request: &Request) -> bool {
    let accepted = request.headers().get_all(header::ACCEPT);
    accepted
        .iter()
        .filter_map(|accepted| accepted.to_str().ok())
        .any(|accepted| accepted.contains("text/event-stream"))
}
