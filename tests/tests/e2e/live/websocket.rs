//! WebSocket of Python's websockets, with and without compression.

use wiretape_tests::binaries;
use wiretape_tests::call::Call;

use super::{PYTHON, SERVER, Stage, lines, tally};

#[tokio::test]
async fn websockets_talk_in_text_and_binary() -> anyhow::Result<()> {
    let Some(stage) = Stage::set("websockets_talk_in_text_and_binary", &[PYTHON]).await? else {
        return Ok(());
    };
    let script = stage.file("websocket_peer.py", include_str!("websocket_peer.py"))?;
    let script = script.display().to_string();
    let python = binaries::find(PYTHON)?;
    let host = SERVER.to_string();
    let mut server = stage.serve(&python, [&script, "serve", &host, "8080"], 8080)?;
    let theirs = lines(&stage.ask(&python, [&script, "ask", &host, "8080"])?);
    server.kill()?;

    let (upgrades, calls): (Vec<Call>, Vec<Call>) = stage
        .calls()
        .await?
        .into_iter()
        .partition(|call| call.proto == "http");
    assert_eq!(
        tally(upgrades.iter().map(|call| (call.path.as_str(), call.status()))),
        [(("/chat/deflate", Some(101)), 2), (("/chat/plain", Some(101)), 2)].into()
    );
    for call in &calls {
        assert_eq!(call.proto, "ws", "{call:?}");
        assert!(call.path.starts_with("/chat/"), "{call:?}");
        let wanted = match call.field("ws_close_code") {
            "1011" => "server_error",
            _ => "ok",
        };
        assert_eq!(call.outcome, wanted, "{call:?}");
    }
    assert!(calls.len() > 300, "{}", calls.len());
    assert_eq!(tally(calls.iter().map(line)), tally(theirs));
    // The last one is empty.
    let fragments = |call: &&Call| call.field("ws_frames") == "4";
    assert_eq!(calls.iter().filter(fragments).count(), 2);
    Ok(())
}

/// A call as the client prints it.
fn line(call: &Call) -> String {
    match call.method.as_str() {
        "ping" => format!("{} ping", call.field("ws_by")),
        "close" => format!("{} close {}", call.field("ws_by"), call.field("ws_close_code")),
        kind => {
            let asked = !call.field("ws_request").is_empty();
            let (who, half) = if asked {
                ("client", "request")
            } else {
                ("server", "response")
            };
            let data = call.field(&format!("ws_{half}_payload_data"));
            let head: String = if kind == "text" {
                serde_json::Value::String(data.chars().take(30).collect()).to_string()
            } else {
                // Two digits a byte.
                data.chars().take(60).collect()
            };
            let length = match call.field("ws_compressed") {
                "true" => "-",
                _ => call.field(&format!("ws_{half}_payload_length")),
            };
            format!("{who} {kind} {length} {head}")
        }
    }
}
