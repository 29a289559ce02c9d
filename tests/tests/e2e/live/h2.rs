//! HTTP/2 of the h2 crate, server and client.

use wiretape_tests::binaries;
use wiretape_tests::call::Call;

use super::{RUST, SERVER, Stage, lines, tally};

/// Trailers, large bodies both ways, streams that either end resets, and a server that leaves with a GOAWAY.
#[tokio::test]
async fn h2_resets_streams_and_leaves() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("h2_resets_streams_and_leaves", &[RUST]).await? else {
        return Ok(());
    };
    let address = format!("{SERVER}:80");
    let mut server = stage.serve(binaries::find(RUST)?, ["h2-serve", &address], 80)?;
    let theirs = lines(&stage.ask(binaries::find(RUST)?, ["h2-ask", &address])?);
    server.kill()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(call.version, "HTTP/2", "{call:?}");
        assert!(call.marks.iter().all(|mark| mark == "no_response"), "{call:?}");
        assert_eq!(
            call.req_headers.get("x-session").map(String::as_str),
            Some("the same on every request"),
            "{call:?}"
        );
        assert_eq!(call.outcome, outcome(call), "{call:?}");
    }
    assert!(calls.len() > 600, "{}", calls.len());
    assert_eq!(tally(calls.iter().map(line)), tally(theirs));
    Ok(())
}

/// A call as the client prints it.
fn line(call: &Call) -> String {
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    format!(
        "{} {} {} {} {} {}",
        call.path,
        or_none(call.status().map(|status| status.to_string()).unwrap_or_default()),
        call.req_size,
        call.resp_size,
        if call.resp_headers.contains_key("etag") {
            "trailers"
        } else {
            "-"
        },
        or_none(call.field("error").to_owned())
    )
}

/// What the server's paths are for.
fn outcome(call: &Call) -> &'static str {
    match call.path.as_str() {
        // The server blames the client for leaving.
        "/nowhere" | "/leave" => "client_error",
        "/status/503" | "/broken" => "server_error",
        // A stream that was never looked at, by a server that says so.
        "/refused" => "server_error",
        "/never" => "no_response",
        _ => "ok",
    }
}
