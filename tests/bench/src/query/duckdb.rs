//! The peer: DuckDB, from PyPI, over the same Parquet files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::calls::stream_in_the_middle;
use super::ours::answered;
use super::questions::Question;
use super::{Answered, Options};
use crate::scratch::Scratch;

/// The version that figures are told of.
const VERSION: &str = "2.0.0";

/// Asks as a program does that keeps its connection: the view is made once, every statement's rows are fetched.
const SCRIPT: &str = r#"
import json, sys, time
asked = json.loads(sys.argv[1])
import duckdb
times, found, connection = [], 0, None
for _ in range(asked["times"]):
    begun = time.perf_counter()
    if connection is None:
        connection = duckdb.connect()
        connection.execute("SET enable_progress_bar = false; SET TimeZone = 'UTC'; SET parquet_metadata_cache = true")
        connection.execute("CREATE VIEW calls AS SELECT * FROM read_parquet('" + asked["files"] + "')")
    answers = [connection.execute(sql).fetchall() for sql in asked["sql"]]
    times.append((time.perf_counter() - begun) * 1e3)
    found = answers[0][0][0]
print(json.dumps({"times": times, "found": found}))
"#;

/// A Python that has DuckDB.
pub struct DuckDb {
    python: PathBuf,
    pub version: &'static str,
}

impl DuckDb {
    /// Installs it in `dir`, unless it is there.
    pub fn install(dir: &Path) -> Result<Self> {
        let folder = dir.join(format!("duckdb-{VERSION}"));
        let python = folder.join("bin/python");
        let known = || {
            let import = Command::new(&python).args(["-c", "import duckdb, pytz"]).output();
            import.is_ok_and(|import| import.status.success())
        };
        if !known() {
            eprintln!("installing DuckDB {VERSION} from PyPI into {}", folder.display());
            fs::create_dir_all(dir)?;
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
            run(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                &format!("duckdb=={VERSION}"),
                // Which it takes to hand over times.
                "pytz",
            ]))?;
            ensure!(known(), "DuckDB is installed and cannot be imported");
        }
        Ok(Self {
            python,
            version: VERSION,
        })
    }

    /// Asks the question, of new processes and of one that has answered before.
    pub(super) fn ask(
        &self,
        question: &Question,
        database: &Path,
        scratch: &Scratch,
        options: &Options,
    ) -> Result<Answered> {
        let stream = stream_in_the_middle(options.calls).to_string();
        let sql: Vec<String> = question
            .sql
            .iter()
            .map(|sql| sql.replace("$stream", &stream))
            .collect();
        answered(database, scratch, options, |times| {
            let asked = json!({ "times": times, "files": database.join("calls/*.parquet"), "sql": sql });
            vec![
                self.python.display().to_string(),
                "-c".to_owned(),
                SCRIPT.to_owned(),
                asked.to_string(),
            ]
        })
    }
}

fn run(command: &mut Command) -> Result<()> {
    let out = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        out.status.success(),
        "{command:?} did not succeed: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}
