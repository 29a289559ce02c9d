//! The answers: lists, watches, single objects, and refusals as the API server words them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::kinds::{Asked, Kind};
use crate::selector::Selector;
use crate::{Mood, Shared, lock};

/// How long a watch lasts that says nothing about it. A real server ends one after half an hour to an hour.
const WATCH_LASTS: Duration = Duration::from_secs(1800);

/// The query that clients give.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Options {
    watch: Option<String>,
    allow_watch_bookmarks: Option<String>,
    resource_version: String,
    timeout_seconds: Option<u64>,
    field_selector: String,
    label_selector: String,
    limit: Option<usize>,
    r#continue: Option<String>,
}

pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    Query(options): Query<Options>,
) -> Response {
    let path = uri.path().to_owned();
    let watches = yes(options.watch.as_ref());
    shared.count(&path, |load| {
        load.requests += 1;
        load.watches += u64::from(watches);
    });
    if take_throttle(&shared) {
        let mut response = refusal(
            &shared,
            &path,
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "too many requests",
        );
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return response;
    }
    match path.as_str() {
        "/readyz" | "/livez" => return "ok".into_response(),
        "/version" => {
            return body(
                &shared,
                &path,
                StatusCode::OK,
                &json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" }),
            );
        }
        _ => {}
    }
    let Some(asked) = Asked::of_path(&path) else {
        return refusal(
            &shared,
            &path,
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        );
    };
    let selector = match Selector::parse(&options.field_selector, &options.label_selector) {
        Ok(selector) => selector,
        Err(why) => return refusal(&shared, &path, StatusCode::BAD_REQUEST, "BadRequest", &why),
    };
    let metadata_only = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
    if watches {
        return watch(&shared, &path, selector, &options, metadata_only);
    }
    if let Some(name) = asked.name {
        let object = lock(&shared.store).get(asked.kind.kind, asked.namespace.unwrap_or_default(), name);
        return match object {
            Some(object) => body(&shared, &path, StatusCode::OK, &object),
            None => {
                let why = format!("{} \"{name}\" not found", asked.kind.plural);
                refusal(&shared, &path, StatusCode::NOT_FOUND, "NotFound", &why)
            }
        };
    }
    list(&shared, &path, &asked, &selector, &options, metadata_only)
}

fn list(
    shared: &Arc<Shared>,
    path: &str,
    asked: &Asked<'_>,
    selector: &Selector,
    options: &Options,
    metadata_only: bool,
) -> Response {
    let limit = options.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let from = options.r#continue.as_deref().filter(|token| !token.is_empty());
    let page = lock(&shared.store).list(asked, selector, limit, from);
    let Ok(page) = page else {
        let why = "The provided continue parameter is too old to display a consistent list result.";
        return refusal(shared, path, StatusCode::GONE, "Expired", why);
    };
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some(next) = page.next {
        metadata["continue"] = next.into();
        metadata["remainingItemCount"] = page.remaining.into();
    }
    let items: Vec<Value> = page
        .items
        .into_iter()
        .map(|item| only(item, metadata_only))
        .collect();
    let answer = if metadata_only {
        json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items })
    } else {
        let kind = format!("{}List", asked.kind.kind);
        json!({ "kind": kind, "apiVersion": asked.kind.api_version, "metadata": metadata, "items": items })
    };
    body(shared, path, StatusCode::OK, &answer)
}

/// What one watch knows.
struct Watch {
    shared: Arc<Shared>,
    path: String,
    selector: Selector,
    version: u64,
    metadata_only: bool,
    bookmarks: bool,
    until: Instant,
    /// The mood in which it began; bookmarks that it has sent.
    mood: Mood,
    changed: watch::Receiver<u64>,
    waiting: VecDeque<Bytes>,
    ended: bool,
}

fn watch(
    shared: &Arc<Shared>,
    path: &str,
    selector: Selector,
    options: &Options,
    metadata_only: bool,
) -> Response {
    let version = match options.resource_version.as_str() {
        // Whoever names none begins with all that is there, which nobody here asks for: the double begins now.
        "" | "0" => lock(&shared.store).version(),
        text => match text.parse() {
            Ok(version) => version,
            Err(_) => {
                let why = "invalid resource version";
                return refusal(shared, path, StatusCode::BAD_REQUEST, "BadRequest", why);
            }
        },
    };
    let watch = Watch {
        shared: Arc::clone(shared),
        path: path.to_owned(),
        selector,
        version,
        metadata_only,
        bookmarks: yes(options.allow_watch_bookmarks.as_ref()),
        until: Instant::now() + options.timeout_seconds.map_or(WATCH_LASTS, Duration::from_secs),
        mood: *lock(&shared.mood),
        changed: shared.changed.subscribe(),
        waiting: VecDeque::new(),
        ended: false,
    };
    let lines = stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        watch
            .shared
            .count(&watch.path, |load| load.bytes += line.len() as u64);
        Some((Ok::<_, Infallible>(line), watch))
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}

impl Watch {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            self.changed.borrow_and_update();
            self.look();
            if self.waiting.is_empty() && !self.ended {
                match tokio::time::timeout_at(self.until, self.changed.changed()).await {
                    Ok(Ok(())) => {}
                    _ => return None,
                }
            }
        }
    }

    fn look(&mut self) {
        let now = *lock(&self.shared.mood);
        if now.disconnects > self.mood.disconnects {
            self.ended = true;
            return;
        }
        let (news, reached) = {
            let store = lock(&self.shared.store);
            let news = Asked::of_path(&self.path)
                .and_then(|asked| store.since(self.version, &asked, &self.selector).ok());
            (news, store.version())
        };
        let (Some(news), false) = (news, now.expiries > self.mood.expiries) else {
            self.line(
                "ERROR",
                status(StatusCode::GONE, "Expired", "too old resource version"),
            );
            self.ended = true;
            return;
        };
        for news in news {
            self.version = news.version;
            self.line(news.what, only(news.object, self.metadata_only));
        }
        if now.bookmarks > self.mood.bookmarks {
            self.mood.bookmarks = now.bookmarks;
            if self.bookmarks {
                // All up to the newest version was looked at, whether or not it was for this watch.
                self.version = reached;
                let bookmark = Asked::of_path(&self.path).map(|asked| bookmark(asked.kind, self.version));
                self.line("BOOKMARK", only(bookmark.unwrap_or_default(), self.metadata_only));
            }
        }
    }

    fn line(&mut self, what: &str, object: Value) {
        let line = format!("{}\n", json!({ "type": what, "object": object }));
        self.waiting.push_back(Bytes::from(line));
    }
}

/// An object of the watched kind that has nothing but a version. What its type requires is there, empty.
fn bookmark(kind: &Kind, version: u64) -> Value {
    let mut object = json!({
        "kind": kind.kind, "apiVersion": kind.api_version,
        "metadata": { "resourceVersion": version.to_string(), "creationTimestamp": null },
    });
    match kind.kind {
        "Pod" => object["spec"] = json!({ "containers": null }),
        "EndpointSlice" => (object["addressType"], object["endpoints"]) = ("".into(), Value::Null),
        "Event" if kind.api_version == "v1" => object["involvedObject"] = json!({}),
        _ => {}
    }
    object
}

/// The object, or its metadata alone.
fn only(object: Value, metadata_only: bool) -> Value {
    if !metadata_only || object.pointer("/kind").and_then(Value::as_str) == Some("Status") {
        return object;
    }
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata") })
}

fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

fn refusal(shared: &Shared, path: &str, code: StatusCode, reason: &str, message: &str) -> Response {
    body(shared, path, code, &status(code, reason, message))
}

fn body(shared: &Shared, path: &str, code: StatusCode, answer: &Value) -> Response {
    let text = answer.to_string();
    shared.count(path, |load| load.bytes += text.len() as u64);
    (code, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn take_throttle(shared: &Shared) -> bool {
    let mut mood = lock(&shared.mood);
    let throttled = mood.throttled > 0;
    mood.throttled = mood.throttled.saturating_sub(1);
    throttled
}

fn yes(flag: Option<&String>) -> bool {
    flag.is_some_and(|flag| matches!(flag.as_str(), "true" | "1"))
}

impl Shared {
    fn count(&self, path: &str, add: impl FnOnce(&mut crate::Load)) {
        add(lock(&self.loads).entry(path.to_owned()).or_default());
    }
}
