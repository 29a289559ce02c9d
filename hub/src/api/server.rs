//! Listens and answers until told to stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::mcp::{Backend, speak};
use super::{Access, App, Remote, router};
use crate::hub::Hub;

/// Longest wait for answers that are under way when the hub stops. An export may take hours; it is broken off.
const DRAIN: Duration = Duration::from_secs(5);

/// Answers on `listener` until `stop`, then lets what is under way end for a moment, and stops the hub.
pub async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    access: &Access,
    stop: CancellationToken,
) -> io::Result<()> {
    let stopped = stop.clone().cancelled_owned();
    let routes = router(Arc::clone(&hub), access, stop.child_token())?;
    // The events of MCP are small and come one after the other: a socket that waits for more to send, and a client that
    // waits before it acknowledges, make 40 ms of each (RFC 9293 section 3.7.4).
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection's answers may be late");
        }
    });
    let answering = axum::serve(listener, routes).with_graceful_shutdown(stopped);
    let answering = async move { answering.await };
    let late = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let ended = tokio::select! {
        ended = answering => ended,
        () = late => Ok(()),
    };
    hub.stop().await;
    ended
}

/// Speaks MCP over stdin and stdout about a hub in this process, until the other side ends or `stop`; then stops the hub.
pub async fn serve_stdio(hub: Arc<Hub>, stop: CancellationToken) -> anyhow::Result<()> {
    let app = App::new(Arc::clone(&hub), &Access::default(), stop.clone());
    let spoken = speak(Backend::Here(app), stop).await;
    hub.stop().await;
    spoken
}

/// The same about another hub.
pub async fn serve_stdio_of(hub: Remote, stop: CancellationToken) -> anyhow::Result<()> {
    speak(Backend::There(hub), stop).await
}
