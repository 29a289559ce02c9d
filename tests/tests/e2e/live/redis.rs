//! Redis, asked by its own benchmark and client.

use std::collections::BTreeMap;
use std::path::Path;

use wiretape_tests::process::Talk;

use super::{SERVER, Stage, tally, until};

/// Values of every kind, a transaction that fails within, one that is refused, and errors of several names.
const COMMANDS: &str = "\
SET text words
MSET a 1 b 2 c 3
LPUSH list one two three
LRANGE list 0 -1
HSET hash field value
HGETALL hash
LPUSH text no
INCR text
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0
NOSUCH command
GET
MULTI
SET a 4
INCR text
INCR a
EXEC
MULTI
GET
EXEC
XADD stream * field value
XRANGE stream - +
CONFIG GET maxmemory
GET nothing
";

#[tokio::test]
async fn redis_counts_the_same_commands_and_errors() -> anyhow::Result<()> {
    let name = "redis_counts_the_same_commands_and_errors";
    let Some(stage) = Stage::set(name, &["redis-server", "redis-cli", "redis-benchmark"]).await? else {
        return Ok(());
    };
    let host = SERVER.to_string();
    let folder = stage.cluster.folder().display().to_string();
    let serve = [
        "--bind",
        &host,
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
        &folder,
    ];
    let mut server = stage.serve("redis-server", serve, 6379)?;

    let tests = "-q -n 400 -c 3 -t set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100,mset";
    for pipeline in ["1", "8"] {
        let ask = format!("-h {host} -P {pipeline} {tests}");
        stage.ask("redis-benchmark", ask.split(' '))?;
    }
    let commands = stage.file("commands", COMMANDS)?;
    for version in ["-2", "-3"] {
        let ask = format!("redis-cli -h {host} {version} < {}", commands.display());
        stage.ask("sh", ["-c", &ask])?;
    }
    // Who subscribes waits, and is told three times.
    let subscribe = ["-h", &host, "SUBSCRIBE", "news", "sport"];
    let mut subscriber = stage.start("client", Path::new("redis-cli"), subscribe, Talk::No)?;
    until("nobody subscribes", || {
        Ok(stage.said(&subscriber)?.contains("sport"))
    })?;
    for message in ["one", "two", "three"] {
        let told = stage.ask("redis-cli", ["-h", &host, "PUBLISH", "news", message])?;
        assert_eq!(told.trim(), "1");
    }
    until("nothing is heard", || {
        Ok(stage.said(&subscriber)?.contains("three"))
    })?;
    subscriber.kill()?;
    let counts = stage.ask("redis-cli", ["-h", &host, "INFO", "commandstats"])?;
    let errors = stage.ask("redis-cli", ["-h", &host, "INFO", "errorstats"])?;
    server.stop()?;

    let mut calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(call.proto, "redis", "{call:?}");
    }
    // Answers to nobody: what was published.
    let (told, asked): (Vec<_>, Vec<_>) = calls
        .drain(..)
        .partition(|call| call.marks.iter().any(|mark| mark == "no_request"));
    assert_eq!(
        tally(
            told.iter()
                .map(|call| (call.field("redis_type"), call.field("redis_channel")))
        ),
        [(("MESSAGE", "news"), 3)].into()
    );
    for call in &asked {
        assert!(call.marks.is_empty(), "{call:?}");
        let failed = !call.field("error").is_empty();
        assert_eq!(
            call.outcome,
            if failed { "client_error" } else { "ok" },
            "{call:?}"
        );
    }

    let mut theirs = BTreeMap::new();
    for (command, of) in stats(&counts, "cmdstat_") {
        // The questions how many there were are not all counted when they are answered.
        if command != "info" {
            let number = |name: &str| of.get(name).copied().unwrap_or_default();
            theirs.insert(
                command.replace('|', " ").to_uppercase(),
                number("calls") + number("rejected_calls"),
            );
        }
    }
    // What there is not is counted among the errors only.
    theirs.insert("NOSUCH".to_owned(), 2);
    let known = asked.iter().filter(|call| call.method != "INFO");
    assert_eq!(tally(known.map(|call| call.method.clone())), theirs);

    let theirs: BTreeMap<_, _> = stats(&errors, "errorstat_")
        .into_iter()
        .map(|(name, of)| (name, of.get("count").copied().unwrap_or_default()))
        .collect();
    let failed = asked
        .iter()
        .map(|call| call.field("error"))
        .filter(|error| !error.is_empty());
    assert_eq!(tally(failed.map(str::to_owned)), theirs);
    assert!(theirs.len() >= 4, "{theirs:?}");
    Ok(())
}

/// Redis' own counts: `cmdstat_set:calls=500,usec=700,…` of each command, `errorstat_ERR:count=2` of each error.
fn stats(said: &str, prefix: &str) -> BTreeMap<String, BTreeMap<String, usize>> {
    let line = |line: &str| {
        let (name, numbers) = line.trim().strip_prefix(prefix)?.split_once(':')?;
        let number = |pair: &str| {
            let (name, number) = pair.split_once('=')?;
            // Some are fractions; they are not looked at.
            Some((name.to_owned(), number.parse().ok()?))
        };
        Some((name.to_owned(), numbers.split(',').filter_map(number).collect()))
    };
    said.lines().filter_map(line).collect()
}
