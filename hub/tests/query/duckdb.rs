//! Another engine reads the files: DuckDB from PyPI, in a virtual environment of the build's folder. Without a network
//! (and without one from before) the test says so and is left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wiretape_hub::query::{self, SqlQuery};

use crate::captures::{START, dissect_packets, dissection, mixed, talk};

const VERSION: &str = "2.0.0";

/// A Python that has it.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("duckdb-{VERSION}"));
    let python = folder.join("bin/python");
    let succeeds = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
    let known = || succeeds(Command::new(&python).args(["-c", "import duckdb"]));
    let installed = known()
        || succeeds(Command::new("python3").args(["-m", "venv"]).arg(&folder))
            && succeeds(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                &format!("duckdb=={VERSION}"),
            ]))
            && known();
    if !installed {
        eprintln!(
            "SKIPPED: DuckDB {VERSION} cannot be installed from PyPI: nothing was read by another engine"
        );
    }
    installed.then_some(python)
}

fn ask(python: &Path, folder: &Path, sql: &str) -> Value {
    let script = "import json, sys, duckdb; connection = duckdb.connect(); connection.execute(\"SET TimeZone = 'UTC'\"); \
                  print(json.dumps(connection.execute(sys.argv[1]).fetchall(), default=str))";
    let out = Command::new(python)
        .args(["-c", script, sql])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

#[tokio::test]
async fn duckdb_reads_the_tables_as_we_do() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let talks = [
        talk("10.0.0.1:40000", "10.0.0.2:80", START, 30),
        talk("10.0.0.1:40001", "10.0.0.3:80", START + 500_000, 30),
    ];
    let db = dissect_packets(dir.path(), &mixed(talks.map(|talk| talk.packets)));
    let folder = dissection(dir.path());
    // Texts, numbers, NULLs and 64 bits without sign; what is said the same in both dialects.
    for sql in [
        "SELECT status, outcome, count(*), min(elapsed_ns), max(req_bytes), sum(src_port) FROM calls GROUP BY 1, 2 ORDER BY 1",
        "SELECT path, query, method, authority, src_ip, dst_ip, side, marks, \"index\" FROM calls ORDER BY ts, \"index\"",
        "SELECT state, l7, calls, client_pkts, server_bytes, completeness FROM connections ORDER BY dst_ip",
    ] {
        let query = SqlQuery {
            sql: sql.to_owned(),
            limit: Some(1000),
            max_bytes: 1 << 20,
        };
        let ours = query::sql(&db, &query).await.unwrap();
        let theirs = sql
            .replace("FROM calls", "FROM 'calls/*.parquet'")
            .replace("FROM connections", "FROM 'connections/*.parquet'");
        assert_eq!(ask(&python, &folder, &theirs), ours["rows"], "{sql}");
    }
    // Maps, with a key that is there and one that is not; times to the nanosecond, in UTC; lists of locations.
    let rows = ask(
        &python,
        &folder,
        "SELECT req_headers['x-request-id'], req_headers['nothing'], epoch_ns(ts), ts::text, typeof(ts), \
         typeof(req_headers), typeof(stream), len(req_packets) FROM 'calls/*.parquet' ORDER BY ts LIMIT 1",
    );
    let first = rows[0].as_array().unwrap();
    assert_eq!((&first[0], &first[1]), (&json!("10.0.0.1:40000-0"), &Value::Null));
    let began = first[2].as_u64().unwrap();
    assert!((START..START + 10_000_000).contains(&began), "{began}");
    assert!(
        first[3].as_str().unwrap().starts_with("2023-11-14 22:13:20"),
        "{}",
        first[3]
    );
    assert!(
        first[4].as_str().unwrap().starts_with("TIMESTAMP"),
        "{}",
        first[4]
    );
    assert_eq!(
        (&first[5], &first[6], &first[7]),
        (&json!("MAP(VARCHAR, VARCHAR)"), &json!("UBIGINT"), &json!(1))
    );
}
