//! Another peer: Wireshark's `sharkd`, over a capture small enough for it. It dissects every packet again for a filter
//! that it has not met.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use wiretape_figures::{Figure, median};
use wiretape_hub::dissections::{self, Job, Progress, Source};
use wiretape_hub::query::{self, CallsQuery, Database};

use super::Options;
use crate::dissect::http1_capture;
use crate::scratch::{self, Scratch};

/// Size of the capture: some ten thousand calls.
const MEGABYTES: u64 = 15;

/// Filters, each asked once: in our words, and in sharkd's.
const FILTERS: [(&str, &str); 5] = [
    ("response.status == 503", "http.response.code == 503"),
    ("response.status == 404", "http.response.code == 404"),
    ("response.status == 500", "http.response.code == 500"),
    ("response.status == 429", "http.response.code == 429"),
    ("response.status == 400", "http.response.code == 400"),
];

/// Times of filters that are new, by both.
pub fn compare(options: &Options, scratch: &Scratch) -> Result<Vec<Figure>> {
    if which("sharkd").is_none() {
        eprintln!("sharkd is not installed (Debian's tshark has it): left out");
        return Ok(Vec::new());
    }
    let capture = http1_capture(&options.dir, MEGABYTES)?;
    let out = scratch.path().join("small");
    let job = Job {
        sources: vec![Source {
            node: "node-1".to_owned(),
            files: vec![capture.clone()],
        }],
        out: out.clone(),
        threads: 2,
        ..Job::default()
    };
    dissections::run(&job, &Progress::default())?;
    let database = Database::open(&out)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut sharkd = Sharkd::load(&capture)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (kfl, filter) in FILTERS {
        let query = CallsQuery {
            kfl: Some(kfl.to_owned()),
            ..CallsQuery::default()
        };
        let begun = Instant::now();
        let page = runtime.block_on(query::calls(&database, &query))?;
        ours.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        let frames = sharkd.ask("frames", json!({ "filter": filter, "limit": 100 }))?;
        theirs.push(begun.elapsed().as_secs_f64() * 1e3);
        let found = frames.as_array().map_or(0, Vec::len);
        ensure!(
            found == page.calls.len(),
            "{kfl}: our page has {} calls, sharkd's {found}",
            page.calls.len()
        );
    }
    let name = format!("a new filter over {MEGABYTES} MB of packets, p50");
    Ok(vec![
        Figure::new(name, median(ours), "ms").peer("sharkd", median(theirs)),
    ])
}

fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A running sharkd. It ends when its stdin does.
struct Sharkd {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    id: u64,
}

impl Sharkd {
    fn load(capture: &Path) -> Result<Self> {
        let child = scratch::bound(Path::new("sharkd"))
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting sharkd")?;
        let mut sharkd = Self {
            questions: child.stdin.context("sharkd has no stdin")?,
            answers: BufReader::new(child.stdout.context("sharkd has no stdout")?),
            id: 0,
        };
        sharkd.ask("load", json!({ "file": capture }))?;
        Ok(sharkd)
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        self.id += 1;
        let question = json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params });
        writeln!(self.questions, "{question}")?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.answers.read_line(&mut line)? > 0, "sharkd has gone away");
            // It greets in words.
            let Ok(mut answer) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if let Some(error) = answer.get("error") {
                anyhow::bail!("sharkd: {error}");
            }
            if answer["id"] == self.id {
                return Ok(answer["result"].take());
            }
        }
    }
}
