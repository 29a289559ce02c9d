//! The hub over HTTP. The only code that knows HTTP and JSON shapes: it reads what is asked, calls the hub, and writes
//! the answer. REST and RPC call the same functions and never each other.

mod server;

mod routes;

mod params;

mod rest;

mod rpc;

mod error;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

pub use error::ApiError;
pub use routes::{ROUTES, Route};
pub use server::serve;

use crate::hub::Hub;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    hub: Arc<Hub>,
    requests: Arc<Requests>,
    exports: Arc<tokio::sync::Semaphore>,
}

/// Requests answered, by the class of their status.
#[derive(Debug, Default)]
struct Requests {
    good: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
}

/// All routes, each with and without `/api` in front: the front of a cluster strips it, clients write either.
pub fn router(hub: Arc<Hub>) -> Router {
    let exports = Arc::new(tokio::sync::Semaphore::new(rest::MAX_EXPORTS));
    let app = App {
        hub,
        requests: Arc::default(),
        exports,
    };
    let routes = rest::routes()
        .merge(rpc::routes())
        .method_not_allowed_fallback(wrong_method);
    Router::new()
        .merge(routes.clone())
        .nest("/api", routes)
        .fallback(no_route)
        .layer(from_fn_with_state(app.clone(), count))
        .with_state(app)
}

async fn count(State(app): State<App>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    let counter = match answer.status().as_u16() {
        ..400 => &app.requests.good,
        400..500 => &app.requests.refused,
        500.. => &app.requests.failed,
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
