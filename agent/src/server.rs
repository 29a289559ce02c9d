//! What the hub asks of an agent, over HTTP: boundaries, what is recorded, cuts and their segments, names, health and
//! metrics.
//!
//! Every refusal is `{"error": "..."}` with a fitting status.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::io::ReaderStream;
use wiretape_tape::{Boundaries, Change, Cut, CutError, Name, Nanos, Recorded, Shelf};

use crate::choice::desk::{Desk, DeskError};
use crate::clocks::{steady_clock, wall_clock};
use crate::drain::{DRAIN_WITHIN, Drain};
use crate::health::{Health, Length};
use crate::status::Status;
use crate::stream::{MAX_STREAMS, STREAM_BUFFER, SegmentStream};

/// Longest body that is read: an order for a cut takes a hundred bytes, rules some kilobytes.
const MAX_BODY: usize = 256 * 1024;

/// What the routes work on.
#[derive(Clone)]
struct Served {
    shelf: Shelf,
    status: Arc<Status>,
    drain: Drain,
    desk: Desk,
    length: Length,
    metrics: Arc<Registry>,
    streams: Arc<Semaphore>,
}

/// The routes.
pub fn routes(
    shelf: Shelf,
    status: Arc<Status>,
    drain: Drain,
    desk: Desk,
    length: Length,
    metrics: Registry,
) -> Router {
    Router::new()
        .route("/boundaries", get(boundaries))
        .route("/recording", get(recording).put(change_recording))
        .route("/cuts", axum::routing::post(make_cut))
        .route("/cuts/{id}", get(cut).delete(release))
        .route("/cuts/{id}/segments/{name}", get(segment))
        .route("/names", get(names))
        .route("/health", get(health))
        .route("/alive", get(alive))
        .route("/metrics", get(metrics_text))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Served {
            shelf,
            status,
            drain,
            desk,
            length,
            metrics: Arc::new(metrics),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        })
}

async fn boundaries(State(served): State<Served>) -> Result<Json<Boundaries>, Refusal> {
    blocking(move || {
        Ok(Json(Boundaries {
            recorded: Some(served.status.recorded()),
            ..served.shelf.boundaries()
        }))
    })
    .await
}

/// What is recorded now.
async fn recording(State(served): State<Served>) -> Json<Recorded> {
    Json(served.status.recorded())
}

/// Has something else recorded; what the body does not name stays as it is. Answers when it is so.
async fn change_recording(
    State(served): State<Served>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Recorded>, Refusal> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), &rejection.body_text()))?;
    let change: Change = serde_json::from_slice(&body).map_err(|error| {
        let wanted = r#"the body must be {"capture": "...", "filter": "...", "rules": [...]}, or some of it"#;
        Refusal::new(StatusCode::BAD_REQUEST, &format!("{wanted}: {error}"))
    })?;
    blocking(move || {
        served.desk.change(change)?;
        Ok(Json(served.status.recorded()))
    })
    .await
}

/// The body of `POST /cuts`: a window, `end` exclusive, and what the cut is to be called.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    start: Nanos,
    end: Nanos,
}

/// Cuts once all that had been seen when the order came is on the tape.
async fn make_cut(
    State(served): State<Served>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Cut>, Refusal> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), &rejection.body_text()))?;
    let order: Order = serde_json::from_slice(&body).map_err(|error| {
        let wanted = r#"the body must be {"id": "...", "start": ns, "end": ns}"#;
        Refusal::new(StatusCode::BAD_REQUEST, &format!("{wanted}: {error}"))
    })?;
    blocking(move || {
        if !served.drain.wait(DRAIN_WITHIN) {
            tracing::warn!(
                id = order.id,
                "the cut may lack the newest packets: the recorder is behind"
            );
        }
        Ok(Json(served.shelf.cut(
            &order.id,
            order.start,
            order.end,
            wall_clock(),
        )?))
    })
    .await
}

async fn cut(State(served): State<Served>, Path(id): Path<String>) -> Result<Json<Cut>, Refusal> {
    blocking(move || Ok(Json(served.shelf.cut_manifest(&id)?))).await
}

async fn release(State(served): State<Served>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    blocking(move || Ok(served.shelf.release(&id).map(|()| StatusCode::NO_CONTENT)?)).await
}

/// The bytes of a segment as they were when the cut was made, or from the offset of a `Range` on.
async fn segment(
    State(served): State<Served>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let from = headers.get(header::RANGE).and_then(open_range);
    let place = Arc::clone(&served.streams).try_acquire_owned().map_err(|_| {
        let text = format!("{MAX_STREAMS} segments are streamed already: ask again when one has ended");
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, &text)
    })?;
    let (reader, bytes) =
        blocking(move || Ok(served.shelf.cut_segment(&id, &name, from.unwrap_or(0))?)).await?;
    if from.is_some_and(|from| from >= bytes) {
        return Ok(past_the_end(bytes));
    }
    let left = bytes - from.unwrap_or(0);
    let stream = ReaderStream::with_capacity(SegmentStream::new(reader, place), STREAM_BUFFER);
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-pcapng"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(left));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(from) = from {
        let range = format!("bytes {from}-{}/{bytes}", bytes - 1);
        headers.insert(
            header::CONTENT_RANGE,
            HeaderValue::try_from(range).map_err(Refusal::internal)?,
        );
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The offset of `bytes=N-`. Any other form is ignored, as RFC 9110 section 14.2 allows: the answer is the
/// whole.
fn open_range(value: &HeaderValue) -> Option<u64> {
    value
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

/// RFC 9110 section 15.5.17: says how long the segment is.
fn past_the_end(bytes: u64) -> Response {
    let text = format!("the segment has {bytes} bytes: ask for a range that begins within them");
    let mut response = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, &text).into_response();
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{bytes}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

async fn names(State(served): State<Served>) -> Result<Json<Vec<Name>>, Refusal> {
    blocking(move || Ok(Json(served.shelf.names()))).await
}

/// Whether the recording is to be trusted.
async fn health(State(served): State<Served>) -> (StatusCode, Json<Health>) {
    judged(&served, Health::is_ok)
}

/// The same answer; fails only when a new start of the agent may help, for those who would start it anew.
async fn alive(State(served): State<Served>) -> (StatusCode, Json<Health>) {
    judged(&served, Health::is_alive)
}

fn judged(served: &Served, is_good: impl Fn(&Health) -> bool) -> (StatusCode, Json<Health>) {
    let health = Health::judge(&served.status, served.length, steady_clock());
    let status = if is_good(&health) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health))
}

async fn metrics_text(State(served): State<Served>) -> Result<Response, Refusal> {
    blocking(move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &served.metrics).map_err(Refusal::internal)?;
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
    })
    .await
}

/// Runs what may wait for the disk beside the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Refusal::internal(error)))
}

/// An answer that is none.
struct Refusal {
    status: StatusCode,
    body: serde_json::Value,
}

impl Refusal {
    fn new(status: StatusCode, error: &str) -> Self {
        Self {
            status,
            body: serde_json::json!({ "error": error }),
        }
    }

    fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
    }
}

impl From<DeskError> for Refusal {
    fn from(error: DeskError) -> Self {
        let status = match &error {
            DeskError::Refused(_) => StatusCode::BAD_REQUEST,
            DeskError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            DeskError::Late | DeskError::Ended => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, &error.to_string())
    }
}

impl From<CutError> for Refusal {
    fn from(error: CutError) -> Self {
        let status = match &error {
            CutError::BadId { .. } | CutError::EmptyWindow { .. } => StatusCode::BAD_REQUEST,
            CutError::OutsideTape { .. } | CutError::Unknown { .. } | CutError::UnknownSegment { .. } => {
                StatusCode::NOT_FOUND
            }
            CutError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            CutError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut refusal = Self::new(status, &error.to_string());
        // So that the caller can choose another window.
        if let (CutError::OutsideTape { oldest, newest }, Some(body)) = (&error, refusal.body.as_object_mut())
        {
            body.insert("oldest".to_owned(), serde_json::json!(oldest));
            body.insert("newest".to_owned(), serde_json::json!(newest));
        }
        refusal
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_range_to_the_end_is_understood() {
        let from = |text: &'static str| open_range(&HeaderValue::from_static(text));
        assert_eq!(from("bytes=17-"), Some(17));
        for text in [
            "bytes=1-2",
            "bytes=-5",
            "bytes=1-,3-",
            "lines=1-",
            "bytes=-",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(from(text), None, "{text}");
        }
    }
}
