//! The peer: `tshark -T fields` at its fastest setting that still gives right answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Found;
use crate::usage::{self, Usage};

/// What it prints of each message: what we store of it, as far as it has a field for that; all header fields are in the
/// two `line`s.
const FIELDS: [&str; 18] = [
    "frame.time_epoch",
    "tcp.stream",
    "ip.src",
    "ip.dst",
    "tcp.srcport",
    "tcp.dstport",
    "http.request.method",
    "http.request.uri",
    "http.host",
    "http.response.code",
    "http.content_length_header",
    "frame.number",
    "tcp.seq_raw",
    "http.request.version",
    "http.response.version",
    "http.time",
    "http.request.line",
    "http.response.line",
];
/// Where method and status stand in [`FIELDS`].
const METHOD: usize = 6;
const STATUS: usize = 9;

/// What makes it faster and leaves the answers as they are. Three settings would make it faster still and are left
/// alone, because the answers become wrong: without `tcp.analyze_sequence_numbers` it counts retransmitted requests
/// twice; without `http.desegment_body` and `tcp.desegment_tcp_streams` it misses messages of several segments.
const SETTINGS: [&str; 5] = [
    "tcp.track_bytes_in_flight:FALSE",
    "tcp.calculate_timestamps:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.summary_in_tree:FALSE",
    "ip.summary_in_tree:FALSE",
];
/// Dissectors of what we do not dissect either.
const DISABLED: [&str; 1] = ["json"];

/// Its name and version.
pub fn version() -> Result<String> {
    let out = Command::new("tshark")
        .arg("--version")
        .output()
        .context("tshark is not installed")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Runs it over a capture with its output thrown away.
pub fn run(capture: &Path) -> Result<Usage> {
    usage::of(Path::new("/dev/null"), &command(capture))
}

/// Runs it once more and reads what it prints.
pub fn find(capture: &Path, scratch: &Path) -> Result<Found> {
    let printed = scratch.join("tshark.fields");
    usage::of(&printed, &command(capture))?;
    let text = fs::read_to_string(&printed)?;
    let mut found = Found {
        requests: 0,
        statuses: BTreeMap::new(),
    };
    for line in text.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        ensure!(
            columns.len() == FIELDS.len(),
            "tshark printed a line of {} columns: {line}",
            columns.len()
        );
        // A frame that ends one message and begins the next has both, separated by commas.
        found.requests += columns.get(METHOD).map_or(0, |cell| values(cell).count() as u64);
        for status in columns.get(STATUS).into_iter().flat_map(|cell| values(cell)) {
            let status = status
                .parse()
                .with_context(|| format!("status {status} of tshark"))?;
            *found.statuses.entry(status).or_default() += 1;
        }
    }
    Ok(found)
}

fn values(cell: &str) -> impl Iterator<Item = &str> {
    cell.split(',').filter(|value| !value.is_empty())
}

fn command(capture: &Path) -> Vec<String> {
    let mut command: Vec<String> = ["tshark", "-r"].map(String::from).to_vec();
    command.push(capture.display().to_string());
    // No name resolution; only frames in which HTTP was found; one line of fields for each.
    command.extend(["-n", "-Y", "http", "-T", "fields"].map(String::from));
    for field in FIELDS {
        command.extend(["-e", field].map(String::from));
    }
    for setting in SETTINGS {
        command.extend(["-o", setting].map(String::from));
    }
    for protocol in DISABLED {
        command.extend(["--disable-protocol", protocol].map(String::from));
    }
    command
}
