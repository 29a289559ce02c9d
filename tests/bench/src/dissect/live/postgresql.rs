//! PostgreSQL: pgbench's own mix of statements, sent as text and prepared.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::room::{Room, Running};
use super::{Asked, Kind};

/// Its connections: enough for all shards to have work.
const CONNECTIONS: u64 = 48;
/// How it sends statements.
const MODES: [&str; 2] = ["simple", "prepared"];
/// A hundred thousand accounts each.
const SCALE: &str = "8";
/// Transactions in a megabyte of capture; each has seven statements.
const PER_MEGABYTE: u64 = 470;
/// What each statement of a transaction is told as done, and how often.
const TAGS: [(&str, u64); 4] = [("BEGIN", 1), ("UPDATE", 3), ("INSERT", 1), ("COMMIT", 1)];
/// The seventh. pgbench selects something more by itself when it begins.
const SELECT: &str = "SELECT abalance FROM pgbench_accounts";

/// Makes a database cluster that need not survive, starts it, and fills pgbench's tables.
pub fn start(room: &Room) -> Result<Running> {
    let data = room.dir().join("postgresql");
    fs::create_dir_all(&data)?;
    let (user, group) = ids()?;
    chown(&data, Some(user), Some(group)).context("giving PostgreSQL its folder")?;
    let bin = programs()?;
    room.ask(
        as_user(&mut room.command("setpriv"))
            .arg(bin.join("initdb"))
            .args([
                "-D",
                &data.display().to_string(),
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
            ]),
    )?;
    let port = Kind::Postgresql.port();
    let server = room.serve_on(
        as_user(&mut room.command("setpriv"))
            .arg(bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .args([
                "-c",
                "fsync=off",
                "-c",
                "synchronous_commit=off",
                "-c",
                "full_page_writes=off",
            ]),
        "postgresql.log",
        port,
    )?;
    room.ask(pgbench(room).args(["-i", "-q", "-s", SCALE]))?;
    Ok(server)
}

/// Asks until there are about so many megabytes.
pub fn ask(room: &Room, megabytes: u64) -> Result<Asked> {
    let each = (megabytes * PER_MEGABYTE / MODES.len() as u64 / CONNECTIONS).max(1);
    let mut transactions = 0;
    for mode in MODES {
        let said = room.ask(pgbench(room).args([
            "-n",
            "-M",
            mode,
            "-c",
            &CONNECTIONS.to_string(),
            "-t",
            &each.to_string(),
        ]))?;
        // "number of transactions actually processed: 480/480"
        let done = said
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
            .with_context(|| format!("pgbench tells of no transactions: {said}"))?;
        let (done, wanted) = done.split_once('/').context("pgbench tells of no goal")?;
        ensure!(
            done == wanted.trim(),
            "pgbench did {done} of {wanted} transactions"
        );
        transactions += done.parse::<u64>()?;
    }
    let mut asked = Asked {
        calls: transactions * 7,
        ..Asked::default()
    };
    for (tag, times) in TAGS {
        asked.expect(&format!("postgresql_command == \"{tag}\""), transactions * times);
    }
    asked.expect(
        &format!("postgresql_command == \"SELECT\" && postgresql_query contains \"{SELECT}\""),
        transactions,
    );
    Ok(asked)
}

fn pgbench(room: &Room) -> Command {
    let mut command = room.command("pgbench");
    command.args([
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-p",
        &Kind::Postgresql.port().to_string(),
    ]);
    // The database is the last word, but pgbench takes it from the environment, too.
    command.env("PGDATABASE", "postgres");
    command
}

/// `setpriv` to the user that Debian's package has made: PostgreSQL does not run as root. Changing the user undoes what
/// [`bound`](crate::scratch::bound) has asked for, so it is asked for again.
fn as_user(setpriv: &mut Command) -> &mut Command {
    setpriv.args([
        "--reuid=postgres",
        "--regid=postgres",
        "--init-groups",
        "--pdeathsig=TERM",
        "--",
    ])
}

fn ids() -> Result<(u32, u32)> {
    let user = nix::unistd::User::from_name("postgres")?.context("there is no user postgres")?;
    Ok((user.uid.as_raw(), user.gid.as_raw()))
}

/// Where Debian keeps the programs of the newest version that is installed.
fn programs() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .context("postgresql is not installed")?
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop().context("postgresql is not installed")
}
