//! gRPC: its own implementation (Debian's `python3-grpcio`) on both sides. Unary calls, streams of both directions,
//! deadlines, refusals.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::room::{Room, Running};
use super::{Asked, Kind};

/// Both sides.
const SCRIPT: &str = include_str!("grpc.py");
/// Its name in the room; `grpc.py` would be imported by itself.
const FILE: &str = "carts.py";
/// Debian's own: others have no packages of Debian's.
const PYTHON: &str = "/usr/bin/python3";
const METHODS: [&str; 3] = ["Get", "Watch", "Add"];
/// The statuses that the server gives, by name and by number.
const STATUSES: [(&str, u32); 2] = [("OK", 0), ("NOT_FOUND", 5)];
/// Calls in a megabyte of capture.
const PER_MEGABYTE: u64 = 1000;

/// Starts the server.
pub fn start(room: &Room) -> Result<Running> {
    let script = room.file(FILE, SCRIPT)?;
    let port = Kind::Grpc.port();
    room.serve_on(
        room.command(PYTHON)
            .arg(script)
            .args(["serve", &port.to_string()]),
        "grpc.log",
        port,
    )
}

/// Asks until there are about so many megabytes.
pub fn ask(room: &Room, megabytes: u64) -> Result<Asked> {
    let calls = megabytes * PER_MEGABYTE;
    let port = Kind::Grpc.port();
    let said = room.ask(
        room.command(PYTHON)
            .args([FILE, "ask", &port.to_string(), &calls.to_string()]),
    )?;
    let counts: BTreeMap<String, u64> =
        serde_json::from_str(&said).with_context(|| format!("the client says {said}"))?;
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    let mut asked = Asked {
        calls: METHODS.into_iter().map(count).sum(),
        ..Asked::default()
    };
    asked.expect("grpc", asked.calls);
    for method in METHODS {
        asked.expect(&format!("grpc_method == \"{method}\""), count(method));
    }
    for (name, number) in STATUSES {
        asked.expect(&format!("grpc_status == {number}"), count(name));
    }
    Ok(asked)
}
