//! PostgreSQL, asked by its own benchmark and client.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use wiretape_tests::call::Call;
use wiretape_tests::process::Process;
use wiretape_tests::rootless;

use super::{SERVER, Stage, tally, until};
use crate::tools::aloud;

/// Where Debian has its versions.
const VERSIONS: &str = "/usr/lib/postgresql";
/// setpriv's arguments before those of a program: it refuses to be root's.
const AS_POSTGRES: [&str; 4] = ["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];

/// Errors of the classes that matter: of a statement, of data, of constraints, of time.
const MISTAKES: &str = "\
\\set VERBOSITY verbose
SELECT 1 / 0;
SELECT * FROM nowhere;
SELEC 1;
CREATE TABLE pairs (id int PRIMARY KEY, other int NOT NULL);
INSERT INTO pairs VALUES (1, 1), (2, 2);
INSERT INTO pairs VALUES (1, 3);
INSERT INTO pairs VALUES (3, NULL);
SELECT 'no number'::int;
SET statement_timeout = 50;
SELECT pg_sleep(5);
SET statement_timeout = 0;
BEGIN;
SELECT nothing FROM pairs;
SELECT * FROM pairs;
ROLLBACK;
DO $$ BEGIN RAISE EXCEPTION 'disk' USING ERRCODE = '53100'; END $$;
SELECT * FROM pairs ORDER BY id;
COPY pairs TO STDOUT;
";

#[tokio::test]
async fn postgresql_runs_what_pgbench_and_psql_count() -> anyhow::Result<()> {
    let name = "postgresql_runs_what_pgbench_and_psql_count";
    if !is_possible(name) {
        return Ok(());
    }
    let Some(stage) = Stage::set(name, &["pgbench", "psql"]).await? else {
        return Ok(());
    };
    let mut server = start(&stage, 5432)?;
    let to = format!("-h {SERVER} -U postgres");
    stage.ask("pgbench", format!("{to} -i -q postgres").split(' '))?;
    let mut transactions = 0;
    for mode in ["simple", "extended", "prepared"] {
        let ask = format!("{to} -n -c 4 -t 50 -R 400 -M {mode} postgres");
        let said = stage.ask("pgbench", ask.split(' '))?;
        // `number of transactions actually processed: 200/200`
        let processed = said
            .split("actually processed: ")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        transactions += processed
            .with_context(|| format!("pgbench does not count: {said}"))?
            .parse::<usize>()?;
    }
    assert_eq!(transactions, 600);
    let mistakes = stage.file("mistakes", MISTAKES)?;
    let said = stage.ask(
        "psql",
        format!("-X {to} -f {} postgres", mistakes.display()).split(' '),
    )?;
    server.stop()?;

    let calls = stage.calls().await?;
    for call in &calls {
        assert_eq!(call.proto, "postgresql", "{call:?}");
        assert!(call.marks.is_empty(), "{call:?}");
    }
    let count = |method: &str, path: &str| {
        let is = |call: &&Call| call.method == method && call.path == path;
        calls.iter().filter(is).count()
    };
    for (method, path, times) in [
        ("BEGIN", "", transactions + 2),
        ("UPDATE", "pgbench_accounts", transactions),
        ("SELECT", "pgbench_accounts", transactions),
        ("UPDATE", "pgbench_tellers", transactions),
        ("UPDATE", "pgbench_branches", transactions),
        ("INSERT", "pgbench_history", transactions),
        ("END", "", transactions),
        // Each of four clients prepares each statement that names it once.
        ("PARSE", "pgbench_accounts", 8),
        ("PARSE", "pgbench_history", 4),
        ("COPY", "pgbench_accounts", 1),
        ("COPY", "pairs", 1),
    ] {
        assert_eq!(count(method, path), times, "{method} {path}");
    }
    // One for each connection that the server counts.
    let log = stage.said(&server)?;
    assert_eq!(
        count("STARTUP", "postgres"),
        log.matches("connection authorized").count()
    );

    // `ERROR:  22012: division by zero`
    let code = |line: &str| Some(line.split("ERROR:  ").nth(1)?.split(':').next()?.to_owned());
    let theirs = tally(said.lines().filter_map(code));
    let failed: Vec<_> = calls
        .iter()
        .filter(|call| !call.field("postgresql_error_code").is_empty())
        .collect();
    assert_eq!(
        tally(
            failed
                .iter()
                .map(|call| call.field("postgresql_error_code").to_owned())
        ),
        theirs
    );
    assert_eq!(theirs.values().sum::<usize>(), 10, "{said}");
    let outcomes: BTreeMap<&str, &str> = failed
        .iter()
        .map(|call| (call.field("postgresql_error_code"), call.outcome.as_str()))
        .collect();
    for (code, outcome) in outcomes {
        let wanted = match code {
            "57014" => "timeout",
            "53100" => "server_error",
            _ => "client_error",
        };
        assert_eq!(outcome, wanted, "{code}");
    }
    // `(2 rows)`
    assert!(said.contains("(2 rows)"), "{said}");
    let rows = |call: &&Call| call.method == "SELECT" && call.path == "pairs";
    let rows = calls
        .iter()
        .filter(rows)
        .map(|call| call.field("postgresql_rows"));
    assert_eq!(tally(rows.filter(|rows| !rows.is_empty())), [("2", 1)].into());
    Ok(())
}

/// Whether a server can be run: it refuses to be root's.
pub(super) fn is_possible(test: &str) -> bool {
    if rootless::is_inside() {
        aloud(&format!(
            "{test} is left out: in a user namespace there is no user for postgresql"
        ));
        return false;
    }
    if programs().is_none() {
        aloud(&format!(
            "{test} is left out: there is no {VERSIONS}, run `cargo xtask setup`"
        ));
        return false;
    }
    true
}

/// A server with data of its own, which counts connections in its log.
pub(super) fn start(stage: &Stage, port: u16) -> anyhow::Result<Process> {
    let programs = programs().context("postgresql is not installed")?;
    let data = stage.cluster.folder().join("postgresql");
    let data = data.display().to_string();
    run("install", &["-d", "-o", "postgres", &data])?;
    let initdb = programs.join("initdb").display().to_string();
    run(
        "setpriv",
        &[&AS_POSTGRES[..], &[&initdb, "-A", "trust", "-N", "-D", &data]].concat(),
    )?;
    fs::write(format!("{data}/pg_hba.conf"), "host all all 0.0.0.0/0 trust\n")?;
    let server = programs.join("postgres").display().to_string();
    let listen = format!("listen_addresses={SERVER}");
    let sockets = format!("unix_socket_directories={data}");
    let port_text = port.to_string();
    let settings = [
        &server,
        "-D",
        &data,
        "-p",
        &port_text,
        "-c",
        &listen,
        "-c",
        &sockets,
        "-c",
        "fsync=off",
        "-c",
        "log_connections=on",
    ];
    let server = stage.serve("setpriv", [&AS_POSTGRES[..], &settings].concat(), port)?;
    // It listens before it answers.
    until("postgresql does not start", || {
        Ok(stage.said(&server)?.contains("ready to accept connections"))
    })?;
    Ok(server)
}

/// The newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).max()
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
    Ok(())
}
