//! gRPC of two implementations, each as server and as client of both.

use std::ffi::OsString;
use std::path::PathBuf;

use wiretape_tests::binaries;
use wiretape_tests::call::Call;
use wiretape_tests::process::Process;

use super::{PYTHON, RUST, SERVER, Stage, lines, tally};

const PORT: u16 = 50051;
/// Deadlines below this, in µs, are given to a server that sleeps for longer, all others to one that answers.
const SHORT: i64 = 1_000_000;

/// One of the two that speak gRPC.
#[derive(Clone, Copy)]
enum Peer {
    Tonic,
    Grpcio,
}

#[tokio::test]
async fn tonic_speaks_grpc_with_itself() -> anyhow::Result<()> {
    all_kinds_of_calls("tonic_speaks_grpc_with_itself", Peer::Tonic, Peer::Tonic).await
}

#[tokio::test]
async fn grpcio_asks_tonic() -> anyhow::Result<()> {
    all_kinds_of_calls("grpcio_asks_tonic", Peer::Tonic, Peer::Grpcio).await
}

#[tokio::test]
async fn tonic_asks_grpcio() -> anyhow::Result<()> {
    all_kinds_of_calls("tonic_asks_grpcio", Peer::Grpcio, Peer::Tonic).await
}

#[tokio::test]
async fn grpcio_speaks_grpc_with_itself() -> anyhow::Result<()> {
    all_kinds_of_calls("grpcio_speaks_grpc_with_itself", Peer::Grpcio, Peer::Grpcio).await
}

/// Unary calls and streams of every kind, every status, and a deadline that passes.
async fn all_kinds_of_calls(test: &str, server: Peer, client: Peer) -> anyhow::Result<()> {
    let programs = [server.program(), client.program()];
    let Some(stage) = Stage::set(test, &programs).await? else {
        return Ok(());
    };
    let mut serving = server.serve(&stage)?;
    let mut theirs = client.ask(&stage, &[])?;
    if let Peer::Tonic = client {
        theirs.extend(client.ask(&stage, &["--gzip"])?);
    }
    serving.kill()?;

    let calls = stage.calls().await?;
    let mut ours = Vec::new();
    for call in &calls {
        assert_eq!(call.proto, "grpc", "{call:?}");
        assert!(call.marks.is_empty() || is_overdue(call), "{call:?}");
        assert_eq!(call.field("grpc_service"), "peers.Peer", "{call:?}");
        ours.push(line(call));
    }
    assert!(ours.len() > 60, "{ours:?}");
    assert_eq!(tally(ours), tally(theirs));

    for call in &calls {
        if is_overdue(call) {
            assert_ne!(call.outcome, "ok", "{call:?}");
            continue;
        }
        let status: u8 = call.field("grpc_status").parse()?;
        assert_eq!(call.outcome, outcome(status), "{call:?}");
        if call.outcome != "ok" && call.field("grpc_method") == "Unary" {
            assert_eq!(call.field("grpc_message"), "as it was told: ÄÖ", "{call:?}");
        }
    }
    if let Peer::Tonic = client {
        let compressed = calls
            .iter()
            .filter(|call| call.field("grpc_encoding") == "gzip")
            .count();
        assert!(compressed >= calls.len() / 4, "{compressed} of {}", calls.len());
    }
    Ok(())
}

/// A call as the clients print it.
fn line(call: &Call) -> String {
    let (method, status) = (call.field("grpc_method"), call.field("grpc_status"));
    let number = |name: &str| call.field(name).parse::<i64>().unwrap_or_default();
    let asked = match method {
        // A server may say that there is no such method before it has been asked all.
        "Nowhere" => 1,
        _ => number("grpc_request_messages"),
    };
    format!(
        "{method} {} {asked} {}",
        if is_overdue(call) { "deadline" } else { status },
        number("grpc_response_messages")
    )
}

/// Whether it is the call that the server sleeps on. Both ends watch the time, so what becomes of it is not the same
/// every time: the client resets the stream, or the server is faster and answers.
fn is_overdue(call: &Call) -> bool {
    call.field("grpc_timeout")
        .parse()
        .is_ok_and(|deadline: i64| deadline < SHORT)
}

/// What `google.rpc.Code` says of a status: whose failure it is.
fn outcome(status: u8) -> &'static str {
    match status {
        0 => "ok",
        // DEADLINE_EXCEEDED
        4 => "timeout",
        // UNKNOWN, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
        2 | 12..=15 => "server_error",
        _ => "client_error",
    }
}

impl Peer {
    /// What must be there for it.
    fn program(self) -> &'static str {
        match self {
            Self::Tonic => RUST,
            Self::Grpcio => PYTHON,
        }
    }

    fn serve(self, stage: &Stage) -> anyhow::Result<Process> {
        let (program, arguments) = self.command(stage, "serve")?;
        stage.serve(program, arguments, PORT)
    }

    fn ask(self, stage: &Stage, more: &[&str]) -> anyhow::Result<Vec<String>> {
        let (program, mut arguments) = self.command(stage, "ask")?;
        arguments.extend(more.iter().map(OsString::from));
        Ok(lines(&stage.ask(program, arguments)?))
    }

    fn command(self, stage: &Stage, role: &str) -> anyhow::Result<(PathBuf, Vec<OsString>)> {
        let address = format!("{SERVER}:{PORT}");
        Ok(match self {
            Self::Tonic => (
                binaries::find(RUST)?,
                vec![format!("grpc-{role}").into(), address.into()],
            ),
            Self::Grpcio => {
                let script = stage.file("grpc_peer.py", include_str!("grpc_peer.py"))?;
                (
                    binaries::find(PYTHON)?,
                    vec![script.into(), role.into(), address.into()],
                )
            }
        })
    }
}
