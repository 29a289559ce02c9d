//! An agent over a real tape, with faults on demand.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use wiretape_dissect::Direction as Seen;
use wiretape_dissect::testing::{Recorded, Talk, Who};
use wiretape_tape::{
    Boundaries, Change, Direction, Event, EventKind, LinkType, Name, Nanos, Packet, Recorded as Told, Shelf,
    Tape, TapeOptions,
};

pub const SECOND: Nanos = 1_000_000_000;

/// A node: its tape, its agent, and what shall go wrong with it.
pub struct Node {
    pub url: String,
    pub tape: Arc<Mutex<Tape>>,
    pub faults: Arc<Faults>,
    pub shelf: Shelf,
    serving: tokio::task::JoinHandle<()>,
    _dir: TempDir,
}

#[derive(Default)]
pub struct Faults {
    /// Nothing is answered at all.
    pub hang: AtomicBool,
    /// Cuts are refused.
    pub refuse: AtomicBool,
    /// Cuts are made, and told when this becomes false.
    pub late: AtomicBool,
    /// So many segments that are asked for are gone.
    pub gone: AtomicU64,
    /// So many streams break off half-way.
    pub breaks: AtomicU64,
    /// From here on every stream breaks off without a byte.
    pub dead: AtomicBool,
    /// All streams but the first stop half-way until this becomes false.
    pub stall: AtomicBool,
    /// Streams asked for.
    pub streams: AtomicU64,
    /// Streams that asked for less than the whole.
    pub ranges: AtomicU64,
    /// Cuts that are held.
    pub held: AtomicU64,
}

impl Node {
    /// A node whose tape begins empty.
    pub async fn start(name: &str, segment_bytes: u64) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let options = TapeOptions {
            segment_bytes,
            ..TapeOptions::new(dir.path(), name, "wiretape-agent test")
        };
        let tape = Tape::open(options, wiretape_hub::now()).expect("a new tape");
        let shelf = tape.shelf();
        let faults = Arc::new(Faults::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let tape = Arc::new(Mutex::new(tape));
        let served = Served {
            shelf: shelf.clone(),
            faults: Arc::clone(&faults),
            tape: Arc::clone(&tape),
            recorded: Arc::default(),
        };
        let serving = tokio::spawn(async move {
            axum::serve(listener, router(served))
                .await
                .expect("the agent serves");
        });
        Self {
            url,
            tape,
            faults,
            shelf,
            serving,
            _dir: dir,
        }
    }

    /// Records packets as this node's sockets saw them.
    pub fn record(&self, packets: &[Recorded]) {
        let mut tape = self.tape.lock().expect("no test panics with it");
        for packet in packets {
            let direction = match packet.direction {
                Seen::In => Direction::In,
                Seen::Out => Direction::Out,
                Seen::Unknown => Direction::Unknown,
            };
            tape.append(&Packet {
                ts: packet.ts,
                data: &packet.data,
                orig_len: packet.orig_len,
                link: LinkType::RAW,
                ifindex: 1,
                direction,
                cgroup: packet.cgroup,
                cookie: 0,
                dropped: None,
            })
            .expect("the tape takes it");
        }
        tape.flush().expect("the tape is flushed");
    }

    /// Tells the tape who an address is.
    pub fn name(&self, address: &str, pod: &str, service: &str, since: Nanos) {
        let name = Name {
            since,
            addresses: vec![address.parse().expect("an address of the test")],
            pod: pod.to_owned(),
            namespace: "shop".to_owned(),
            service: service.to_owned(),
            ..Name::default()
        };
        self.tape
            .lock()
            .expect("no test panics with it")
            .name(&name)
            .expect("the tape takes it");
    }

    /// Ends its agent: connections break and new ones are refused.
    pub fn kill(&self) {
        self.serving.abort();
        self.faults.dead.store(true, Ordering::Relaxed);
    }
}

impl Faults {
    /// Waits until so many streams have begun.
    pub async fn streaming(&self, streams: u64) {
        while self.streams.load(Ordering::Relaxed) < streams {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until so many cuts are held.
    pub async fn holding(&self, cuts: u64) {
        let waiting = async {
            while self.held.load(Ordering::Relaxed) != cuts {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("it comes to that");
    }

    /// Answers nothing while it hangs.
    async fn answering(&self) {
        while self.hang.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// So many calls on connections of their own, one every 10 ms up to `end`, every tenth failing.
pub fn checkouts(count: u32, end: Nanos, body: usize) -> Vec<Talk> {
    (0..count)
        .map(|number| {
            let start = end - u64::from(count - number) * 10_000_000;
            let client = format!("10.0.0.1:{}", 20_000 + number);
            let mut talk = Talk::new(
                &client,
                "10.0.0.2:8080",
                start,
                (1000 + number, 7_000_000 + number),
            );
            let status = if number % 10 == 9 {
                "503 Service Unavailable"
            } else {
                "200 OK"
            };
            let (path, text) = ("/api/v1/checkout", "x".repeat(body));
            talk.handshake();
            talk.ask(format!(
                "POST {path}?n={number} HTTP/1.1\r\nHost: checkout\r\nContent-Length: {body}\r\n\r\n{text}"
            ));
            talk.answer(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok"));
            talk.close();
            talk
        })
        .collect()
}

/// Two nodes that have recorded the same calls, one at the client and one at the server.
pub async fn shop(count: u32, body: usize, segment_bytes: u64) -> (Node, Node) {
    let (client, server) = (
        Node::start("node-1", segment_bytes).await,
        Node::start("node-2", segment_bytes).await,
    );
    let now = wiretape_hub::now();
    for node in [&client, &server] {
        node.name("10.0.0.1", "frontend-abc123", "frontend", now - 600 * SECOND);
        node.name("10.0.0.2", "checkout-xyz789", "checkout", now - 600 * SECOND);
    }
    for talk in checkouts(count, now - SECOND, body) {
        client.record(&talk.seen_by(Who::Client, 0, 0));
        server.record(&talk.seen_by(Who::Server, 1, 50_000));
    }
    (client, server)
}

#[derive(Clone)]
struct Served {
    shelf: Shelf,
    faults: Arc<Faults>,
    tape: Arc<Mutex<Tape>>,
    recorded: Arc<Mutex<Told>>,
}

#[derive(Deserialize)]
struct Order {
    id: String,
    start: Nanos,
    end: Nanos,
}

fn router(served: Served) -> axum::Router {
    axum::Router::new()
        .route("/boundaries", get(boundaries))
        .route("/recording", get(recording).put(record))
        .route("/cuts", post(cut))
        .route("/cuts/{id}", get(held).delete(release))
        .route("/cuts/{id}/segments/{name}", get(segment))
        .with_state(served)
}

async fn boundaries(State(served): State<Served>) -> Response {
    served.faults.answering().await;
    let recorded = served.recorded.lock().expect("no test panics with it").clone();
    Json(Boundaries {
        recorded: Some(recorded),
        ..served.shelf.boundaries()
    })
    .into_response()
}

async fn recording(State(served): State<Served>) -> Json<Told> {
    Json(served.recorded.lock().expect("no test panics with it").clone())
}

/// Does as it is told, and tells the tape.
async fn record(State(served): State<Served>, Json(change): Json<Change>) -> Response {
    if change.filter.as_deref() == Some("nonsense") {
        return refusal(
            StatusCode::BAD_REQUEST,
            "the filter \"nonsense\" cannot be compiled",
        );
    }
    let mut recorded = served.recorded.lock().expect("no test panics with it");
    recorded.recording = recorded.recording.with(change);
    recorded.since = wiretape_hub::now();
    let event = Event {
        at: recorded.since,
        kind: EventKind::Recorder,
        reason: "RecordingChanged".to_owned(),
        message: format!("recorded is: {}", recorded.recording),
        ..Event::default()
    };
    let mut tape = served.tape.lock().expect("no test panics with it");
    tape.event(&event)
        .and_then(|()| tape.flush())
        .expect("the tape takes it");
    Json(recorded.clone()).into_response()
}

async fn cut(State(served): State<Served>, Json(order): Json<Order>) -> Response {
    if served.faults.refuse.load(Ordering::Relaxed) {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "the tape is being serviced");
    }
    served.faults.answering().await;
    let is_new = served.shelf.cut_manifest(&order.id).is_err();
    match served
        .shelf
        .cut(&order.id, order.start, order.end, wiretape_hub::now())
    {
        Ok(cut) => {
            served.faults.held.fetch_add(is_new.into(), Ordering::Relaxed);
            while served.faults.late.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Json(cut).into_response()
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

async fn held(State(served): State<Served>, Path(id): Path<String>) -> Response {
    served.faults.answering().await;
    match served.shelf.cut_manifest(&id) {
        Ok(cut) => Json(cut).into_response(),
        Err(error) => refusal(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

async fn release(State(served): State<Served>, Path(id): Path<String>) -> Response {
    served.faults.answering().await;
    match served.shelf.release(&id) {
        Ok(()) => {
            served.faults.held.fetch_sub(1, Ordering::Relaxed);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(error) => refusal(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

async fn segment(
    State(served): State<Served>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let from: u64 = headers
        .get(header::RANGE)
        .and_then(|range| {
            range
                .to_str()
                .ok()?
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let gone = &served.faults.gone;
    let is_gone = gone
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok();
    let found = served.shelf.cut_segment(&id, &name, from);
    let Ok((mut segment, length)) = found
        .map_err(drop)
        .and_then(|found| if is_gone { Err(()) } else { Ok(found) })
    else {
        return refusal(StatusCode::NOT_FOUND, "there is no such segment");
    };
    let earlier = served.faults.streams.fetch_add(1, Ordering::Relaxed);
    if from > 0 {
        served.faults.ranges.fetch_add(1, Ordering::Relaxed);
    }
    let mut bytes = vec![0; usize::try_from(length - from).expect("a test's segment is small")];
    segment.read_exact(&mut bytes).expect("the segment is there");
    let status = if from > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let headers = [(header::CONTENT_LENGTH, bytes.len())];
    let breaks = |faults: &Faults| {
        faults
            .breaks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    };
    let body = if served.faults.dead.load(Ordering::Relaxed) {
        broken(Vec::new())
    } else if earlier > 0 && served.faults.stall.load(Ordering::Relaxed) {
        stalled(bytes, served.faults)
    } else if breaks(&served.faults) {
        bytes.truncate(bytes.len() / 2);
        broken(bytes)
    } else {
        Body::from(bytes)
    };
    (status, headers, body).into_response()
}

/// A body that ends before its length.
fn broken(bytes: Vec<u8>) -> Body {
    let parts = futures::stream::unfold(0, move |part| {
        let bytes = Bytes::from(bytes.clone());
        async move {
            match part {
                0 => Some((Ok(bytes), 1)),
                1 => {
                    // Long enough for the bytes before to leave.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Some((Err(std::io::Error::other("broken on purpose")), 2))
                }
                _ => None,
            }
        }
    });
    Body::from_stream(parts)
}

/// A body whose second half comes when the fault is taken away.
fn stalled(mut bytes: Vec<u8>, faults: Arc<Faults>) -> Body {
    let rest = bytes.split_off(bytes.len() / 2);
    let parts = futures::stream::unfold(vec![rest, bytes], move |mut parts| {
        let faults = Arc::clone(&faults);
        async move {
            let part = parts.pop()?;
            while parts.is_empty() && faults.stall.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if faults.dead.load(Ordering::Relaxed) {
                return Some((Err(std::io::Error::other("dead")), Vec::new()));
            }
            Some((Ok(Bytes::from(part)), parts))
        }
    });
    Body::from_stream(parts)
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
