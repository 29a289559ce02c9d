//! Redis: redis-benchmark, with and without pipelines.

use anyhow::{Context, Result};

use super::room::{Room, Running};
use super::{Asked, Kind};

/// What is asked: one command each, so that the client's own count is the count of that command.
const COMMANDS: [&str; 9] = [
    "SET", "GET", "INCR", "LPUSH", "RPOP", "SADD", "HSET", "ZADD", "MSET",
];
/// Its connections, and requests under way on each of them when it pipelines.
const CONNECTIONS: &str = "50";
const PIPELINES: [&str; 2] = ["1", "16"];
/// Bytes of a value, and different keys.
const VALUE: &str = "120";
const KEYS: &str = "100000";
/// Requests in a megabyte of capture.
const PER_MEGABYTE: u64 = 2400;

/// Starts a server that writes nothing to disk.
pub fn start(room: &Room) -> Result<Running> {
    let port = Kind::Redis.port();
    room.serve_on(
        room.command("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"]),
        "redis.log",
        port,
    )
}

/// Asks until there are about so many megabytes.
pub fn ask(room: &Room, megabytes: u64) -> Result<Asked> {
    let runs = (COMMANDS.len() * PIPELINES.len()) as u64;
    let each = (megabytes * PER_MEGABYTE / runs).max(1).next_multiple_of(800);
    let mut asked = Asked::default();
    for pipeline in PIPELINES {
        let said = room.ask(room.command("redis-benchmark").args([
            "-p",
            &Kind::Redis.port().to_string(),
            "-t",
            &COMMANDS.join(",").to_lowercase(),
            "-n",
            &each.to_string(),
            "-c",
            CONNECTIONS,
            "-P",
            pipeline,
            "-d",
            VALUE,
            "-r",
            KEYS,
        ]))?;
        // "  16000 requests completed in 0.17 seconds", once for each command.
        for line in said.lines().filter(|line| line.contains("requests completed")) {
            asked.calls += super::number_before(line, "requests").context("redis-benchmark")?;
        }
    }
    for command in COMMANDS {
        asked.expect(
            &format!("redis && redis_type == \"{command}\""),
            each * PIPELINES.len() as u64,
        );
    }
    let commands: Vec<_> = COMMANDS.iter().map(|command| format!("\"{command}\"")).collect();
    asked.expect(
        &format!("redis && redis_type in [{}]", commands.join(", ")),
        asked.calls,
    );
    Ok(asked)
}
