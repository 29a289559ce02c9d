//! `GET /mcp/snapshots/:snapshot/pcap`: packets as a capture file, streamed as it is made.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::mpsc;

use crate::api::operations::pcap::Capture;
use crate::api::params::Params;
use crate::api::{ApiError, App};
use crate::snapshots::ExportError;

/// Pieces of up to 256 KiB that wait for the client.
const WAITING: usize = 4;
/// What the contract's clients expect (1.8), also of pcapng.
const CONTENT_TYPE: &str = "application/vnd.tcpdump.pcap";

pub(super) async fn get(State(app): State<App>, mut params: Params) -> Result<Response, ApiError> {
    let permit = app.export_permit()?;
    let export = Capture::prepare(&app, &mut params).await?;
    let ending = if export.pcapng { "pcapng" } else { "pcap" };
    let snapshot = export.entry.name.clone();
    let length = export.length();

    let (pieces, mut arriving) = mpsc::channel(WAITING);
    let name = snapshot.clone();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        match export.write(Pieces { to: pieces.clone() }) {
            Ok(written) => tracing::debug!(name, written, "capture exported"),
            Err(ExportError::Sink(_)) if pieces.is_closed() => {
                tracing::debug!(name, "export given up by its client")
            }
            Err(error) => {
                tracing::warn!(name, %error, "export broke off");
                // A chunked answer that breaks off is an error to its reader; one that merely ended would look whole.
                let _ = pieces.blocking_send(Err(io::Error::other(error)));
            }
        }
    });
    // Names are made of safe characters only, see `snapshots::name`.
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{snapshot}.{ending}\""))
        .map_err(ApiError::internal)?;
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE)),
        (header::CONTENT_DISPOSITION, disposition),
    ];
    let body = Body::from_stream(stream::poll_fn(move |context| arriving.poll_recv(context)));
    let mut answer = (headers, body).into_response();
    if let Some(length) = length {
        answer
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(answer)
}

/// Hands written bytes to the client. Fails as soon as that is gone, which ends the work.
struct Pieces {
    to: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.to
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
