//! MCP over stdin and stdout, for assistants that start their servers themselves.

use anyhow::Context as _;
use rmcp::ServiceExt as _;
use rmcp::transport::stdio_pipes;
use tokio_util::sync::CancellationToken;

use super::{Backend, Server};

/// Speaks until the other side closes stdin, or `stop`.
pub(in crate::api) async fn speak(backend: Backend, stop: CancellationToken) -> anyhow::Result<()> {
    let begun = Server::new(backend).serve_with_ct(stdio_pipes(), stop.clone());
    let running = tokio::select! {
        // A client that goes away before it has said anything is no failure.
        begun = begun => begun.context("no MCP client was heard on stdin; this command is started by one")?,
        () = stop.cancelled() => return Ok(()),
    };
    running.waiting().await.context("the MCP session failed")?;
    Ok(())
}
