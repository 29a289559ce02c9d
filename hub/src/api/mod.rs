//! The hub over HTTP and MCP. The only code that knows HTTP, JSON shapes and MCP: it reads what is asked, calls the hub,
//! and writes the answer. REST, RPC and tools call the same operations and never each other.

mod server;

mod access;

mod param;

mod routes;

mod params;

mod request;

mod operations;

mod rest;

mod rpc;

mod grpc;

mod tools;

mod mcp;

mod error;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::Code;

pub use access::Access;
pub use error::ApiError;
pub use mcp::Remote;
pub use server::{serve, serve_stdio, serve_stdio_of};

use crate::hub::Hub;
use rest::Streams;
use tools::Answers;

/// Exports under way at the same time. Each keeps a thread and about 2 MiB per node.
const MAX_EXPORTS: usize = 8;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    hub: Arc<Hub>,
    requests: Arc<Requests>,
    exports: Arc<Semaphore>,
    answers: Arc<Answers>,
    access: Arc<Access>,
    streams: Arc<Streams>,
    /// Ends what would go on for ever.
    stop: CancellationToken,
}

/// Requests answered, by the class of their status.
#[derive(Debug, Default)]
struct Requests {
    good: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// MCP sessions that there was no room for.
    sessions_refused: AtomicU64,
}

impl App {
    fn new(hub: Arc<Hub>, access: &Access, stop: CancellationToken) -> Self {
        Self {
            hub,
            access: Arc::new(access.clone()),
            streams: Arc::default(),
            stop,
            requests: Arc::default(),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            answers: Arc::default(),
        }
    }

    /// Leave to export a capture, to be held until that has ended.
    fn export_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.exports).try_acquire_owned().map_err(|_| {
            ApiError::too_many(format!(
                "{MAX_EXPORTS} captures are being exported already; wait until one of them has ended"
            ))
        })
    }
}

/// All routes, each with and without `/api` in front: the front of a cluster strips it, clients write either. `stop`
/// ends the sessions of MCP and the streams of live calls.
pub fn router(hub: Arc<Hub>, access: &Access, stop: CancellationToken) -> io::Result<Router> {
    let app = App::new(hub, access, stop.clone());
    let routes = rest::routes()
        .merge(rpc::routes())
        .merge(mcp::Door::new(app.clone(), stop).routes())
        .method_not_allowed_fallback(wrong_method);
    let grpc = grpc::routes(app.clone()).map_err(io::Error::other)?;
    Ok(Router::new()
        .merge(routes.clone())
        .nest("/api", routes)
        .fallback(no_route)
        .layer(map_response(close_if_unread))
        .layer(from_fn_with_state(grpc, grpc::or_else))
        .layer(from_fn_with_state(app.clone(), count))
        .with_state(app))
}

/// A request that was refused for its length was not read to its end: no other can follow on its connection, and its
/// client must know (RFC 9110 section 15.5.14), or it sends the next one there and gets no answer.
async fn close_if_unread(mut answer: Response) -> Response {
    if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
        answer
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    let counter = match (answer.status().as_u16(), grpc::refusal(&answer)) {
        (500.., _) | (_, Some(Code::Internal | Code::Unavailable)) => &app.requests.failed,
        (400.., _) | (_, Some(_)) => &app.requests.refused,
        (..400, None) => &app.requests.good,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    answer
}

async fn no_route(method: Method, uri: Uri) -> Response {
    ApiError::not_found(routes::no_route(method.as_str(), uri.path())).into_response()
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    ApiError::wrong_method(routes::wrong_method(method.as_str(), uri.path())).into_response()
}
