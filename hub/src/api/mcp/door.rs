//! MCP over HTTP, at the path of the REST routes: how many may come in at a time, and which requests are meant.

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
use crate::api::request::MAX_BODY;
use crate::api::{Access, ApiError, App, Requests, rest};

/// Sessions at the same time. Each keeps a task and some buffers, and ends after five minutes of silence; a team and its
/// assistants have a few dozen.
pub(super) const MAX_SESSIONS: usize = 256;

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
    pub(in crate::api) fn new(app: App, stop: CancellationToken) -> Self {
        let sessions = Arc::new(LocalSessionManager::default());
        let requests = Arc::clone(&app.requests);
        let config = config(&app.access, stop);
        let service = StreamableHttpService::new(
            move || Ok(Server::new(Backend::Here(app.clone()))),
            Arc::clone(&sessions),
            config,
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

fn config(access: &Access, stop: CancellationToken) -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_allowed_hosts(access.all_hosts())
        .with_allowed_origins(access.all_origins())
        .enforce_origin_validation()
        .with_max_request_body_bytes(MAX_BODY)
        .with_cancellation_token(stop)
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
