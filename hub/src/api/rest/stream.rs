//! `GET /ws`, `GET /wsFull`: live calls over a WebSocket (contract 1.14). The client sends a filter, and reads calls until
//! one of both closes. Nobody waits for a reader that does not read: it is let go, told why, and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::api::operations::entry::entry;
use crate::api::operations::following::Following;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::query::Format;

/// Readers at the same time. Each asks a question of every round.
const MAX_READERS: usize = 32;
/// Longest wait for the filter, and for a reader to take what is sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest filter.
const MAX_FILTER: usize = 64 << 10;
/// Longest reason that a close frame holds (RFC 6455 section 5.5).
const MAX_REASON: usize = 123;

/// Readers of live calls.
#[derive(Debug)]
pub(in crate::api) struct Streams {
    room: Arc<Semaphore>,
    /// Calls that were sent.
    pub(super) told: AtomicU64,
    /// Readers that were let go: they read too slowly, let too much through, or did not answer.
    pub(super) dropped: AtomicU64,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(MAX_READERS)),
            told: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl Streams {
    /// Readers that are connected.
    pub(super) fn readers(&self) -> usize {
        MAX_READERS - self.room.available_permits()
    }
}

/// Why a stream ends.
enum End {
    /// Its reader has closed it, or is gone.
    Gone,
    /// Its reader takes nothing any more.
    Slow,
    /// Its reader does not answer a ping: it is gone without a word.
    Silent,
    /// There is nothing more to tell, or the filter is none.
    Error(ApiError),
    /// The hub stops.
    Stopping,
}

impl End {
    /// Whether the reader is let go for what it does, or does not do: such readers are counted.
    fn is_of_the_reader(&self) -> bool {
        match self {
            Self::Slow | Self::Silent => true,
            Self::Error(error) => error.is_too_many(),
            Self::Gone | Self::Stopping => false,
        }
    }
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// Calls in their compact form.
pub(super) async fn compact(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    accept(app, request, Format::Compact, |call| call).await
}

/// Entries with headers and bodies.
pub(super) async fn full(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    accept(app, request, Format::Full, |call| entry(&call)).await
}

async fn accept(
    app: App,
    request: Request,
    format: Format,
    shown: fn(Value) -> Value,
) -> Result<Response, ApiError> {
    let (mut head, _) = request.into_parts();
    if !app.access.admits(&head.headers) {
        return Err(ApiError::forbidden(
            "pages of this origin may not read live calls; --allowed-origin names those that may",
        ));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &app).await;
    // It takes none, and says so.
    Params::from_request(Request::from_parts(head, Body::empty()), &app).await?;
    let upgrade = upgrade.map_err(|error| {
        ApiError::bad_request(format!(
            "this is a WebSocket, to be opened by a client of one ({error}); GET /mcp/calls answers without"
        ))
    })?;
    let permit = Arc::clone(&app.streams.room).try_acquire_owned().map_err(|_| {
        ApiError::too_many(format!(
            "{MAX_READERS} readers of live calls are connected already"
        ))
    })?;
    let upgrade = upgrade.max_message_size(MAX_FILTER).max_frame_size(MAX_FILTER);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _permit = permit;
        tell(&app, socket, format, shown).await;
    }))
}

/// Tells one reader, to the end.
async fn tell(app: &App, socket: WebSocket, format: Format, shown: fn(Value) -> Value) {
    let (mut to, mut from) = socket.split();
    let told = async {
        match filter(&mut from).await {
            Ok(kfl) => {
                let pulse = Pulse::new(app.hub.live.pace().ping);
                tokio::select! {
                    end = calls(app, kfl, format, shown, &mut to, &pulse) => end,
                    end = read(&mut from, &pulse) => end,
                }
            }
            Err(end) => end,
        }
    };
    let end = tokio::select! {
        end = told => end,
        () = app.stop.cancelled() => End::Stopping,
    };
    if end.is_of_the_reader() {
        app.streams.dropped.fetch_add(1, Ordering::Relaxed);
    }
    let (code, reason) = match end {
        End::Gone => (close_code::NORMAL, String::new()),
        End::Stopping => (close_code::AWAY, "the hub is stopping".to_owned()),
        End::Slow => (close_code::AGAIN, "calls are read too slowly".to_owned()),
        End::Silent => (close_code::AGAIN, "a ping was not answered".to_owned()),
        End::Error(error) => {
            let told = json!({ "error": error.message() }).to_string();
            // Who is gone is not told.
            let _ = timeout(PATIENCE, to.send(Message::Text(told.into()))).await;
            (close_code::POLICY, error.message().to_owned())
        }
    };
    let (reason, _) = reason.split_at(reason.floor_char_boundary(MAX_REASON));
    let close = Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }));
    let _ = timeout(PATIENCE, to.send(close)).await;
}

/// The first text, which is the filter.
async fn filter(from: &mut SplitStream<WebSocket>) -> Result<String, End> {
    let first = async {
        loop {
            match from.next().await {
                Some(Ok(Message::Text(kfl))) => return Ok(kfl.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    return Err(ApiError::bad_request("the filter is a text").into());
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
            }
        }
    };
    let waited = timeout(PATIENCE, first).await;
    waited.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        let message =
            format!("no filter has come for {seconds} s: send one as a text, the empty one for all calls");
        Err(ApiError::bad_request(message).into())
    })
}

/// Reads on, so that a close is heard and pings are answered.
async fn read(from: &mut SplitStream<WebSocket>, pulse: &Pulse) -> End {
    while let Some(Ok(message)) = from.next().await {
        pulse.heard();
        match message {
            Message::Close(_) => break,
            Message::Text(_) | Message::Binary(_) => {
                return ApiError::bad_request("a connection has one filter; open another one").into();
            }
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    End::Gone
}

/// Sends calls as they end.
async fn calls(
    app: &App,
    kfl: String,
    format: Format,
    shown: fn(Value) -> Value,
    to: &mut SplitSink<WebSocket, Message>,
    pulse: &Pulse,
) -> End {
    let mut following = Following::new(app, kfl, format);
    loop {
        match pulse.take() {
            Beat::Rest => {}
            Beat::Ask => match timeout(PATIENCE, to.send(Message::Ping(Bytes::new()))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::Gone,
                Err(_) => return End::Slow,
            },
            Beat::Gone => return End::Silent,
        }
        let mut telling = match following.next_round().await {
            Ok(telling) => telling,
            Err(error) => return error.into(),
        };
        loop {
            match telling.next_page().await {
                Ok(Some(calls)) => {
                    if let Err(end) = send(app, calls, shown, to).await {
                        return end;
                    }
                }
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
    }
}

async fn send(
    app: &App,
    calls: Vec<Value>,
    shown: fn(Value) -> Value,
    to: &mut SplitSink<WebSocket, Message>,
) -> Result<(), End> {
    let count = calls.len() as u64;
    let sending = async {
        for call in calls {
            to.feed(Message::Text(shown(call).to_string().into())).await?;
        }
        to.flush().await
    };
    match timeout(PATIENCE, sending).await {
        Ok(Ok(())) => {
            app.streams.told.fetch_add(count, Ordering::Relaxed);
            Ok(())
        }
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}

/// Whether a reader is still there. Of one that is gone without a word the kernel says nothing for a quarter of an hour,
/// so it is pinged, and has as long as between two pings to answer.
struct Pulse {
    every: Duration,
    state: Mutex<Pinged>,
}

struct Pinged {
    /// The last ping, or the beginning.
    at: Instant,
    /// It has been answered, or something else has come since.
    answered: bool,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
enum Beat {
    /// Nothing.
    Rest,
    /// To ping it.
    Ask,
    /// To let it go.
    Gone,
}

impl Pulse {
    fn new(every: Duration) -> Self {
        let begun = Pinged {
            at: Instant::now(),
            answered: true,
        };
        Self {
            every,
            state: Mutex::new(begun),
        }
    }

    fn heard(&self) {
        self.lock().answered = true;
    }

    fn take(&self) -> Beat {
        let mut state = self.lock();
        if state.at.elapsed() < self.every {
            return Beat::Rest;
        }
        if !state.answered {
            return Beat::Gone;
        }
        *state = Pinged {
            at: Instant::now(),
            answered: false,
        };
        Beat::Ask
    }

    fn lock(&self) -> MutexGuard<'_, Pinged> {
        // It is whole whatever became of a thread that held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_no_ping_is_gone() {
        let every = Duration::from_millis(20);
        let pulse = Pulse::new(every);
        assert_eq!(Pulse::new(Duration::from_secs(3600)).take(), Beat::Rest);
        std::thread::sleep(every);
        assert_eq!(pulse.take(), Beat::Ask);
        pulse.heard();
        std::thread::sleep(every);
        assert_eq!(pulse.take(), Beat::Ask);
        std::thread::sleep(every);
        assert_eq!(pulse.take(), Beat::Gone);
    }
}
