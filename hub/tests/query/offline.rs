//! `wiretape-hub dissect`, the real program.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::captures::{START, talk, tape};

fn dissect(args: &[&str], files: &[PathBuf]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wiretape-hub"))
        .arg("dissect")
        .args(args)
        .args(files)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A tape with nine calls.
fn recorded(dir: &Path) -> Vec<PathBuf> {
    tape(
        dir,
        "node-1",
        &talk("10.0.0.1:40000", "10.0.0.2:80", START, 9).packets,
    )
    .files
}

#[test]
fn table_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let output = dissect(
        &["--kfl", "response.status == 503", "--limit", "2"],
        &recorded(dir.path()),
    );
    let printed = stdout(&output);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines[0].contains("client") && lines[0].contains("status"),
        "{printed}"
    );
    assert!(
        lines[1].contains("10.0.0.1:40000") && lines[1].contains("503"),
        "{printed}"
    );
    assert!(lines[3].contains("1 more"), "{printed}");
    assert!(
        stderr(&output).contains("24 packets, 9 calls (9 http)"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn json_as_the_api_answers() {
    let dir = tempfile::tempdir().unwrap();
    let output = dissect(
        &["--format", "json", "--full", "--limit", "1"],
        &recorded(dir.path()),
    );
    let page: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        (&page["total"], &page["truncated"]),
        (&Value::from(9), &Value::from(true))
    );
    assert_eq!(page["calls"].as_array().unwrap().len(), 1);
    assert_eq!(page["calls"][0]["node_id"], "node-1", "as the tape says");
    assert_eq!(page["calls"][0]["resp_body"], r#"{"ok":true}"#);
}

#[test]
fn every_call_on_a_line_from_a_packed_file() {
    let dir = tempfile::tempdir().unwrap();
    let packed = dir.path().join("incident.pcapng.gz");
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    encoder
        .write_all(&fs::read(&recorded(dir.path())[0]).unwrap())
        .unwrap();
    encoder.finish().unwrap();
    let output = dissect(&["--format", "ndjson", "--full"], &[packed]);
    let printed = stdout(&output);
    let calls: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(calls.len(), 9);
    let reason = calls[0]["resp_body_error"].as_str().unwrap();
    assert!(reason.contains("inflate it first"), "{reason}");
}

#[test]
fn nothing_matches_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = dissect(&["--kfl", "dns"], &recorded(dir.path()));
    assert!(stdout(&output).contains("matched none of the 9 calls"));
}

#[test]
fn bad_input_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let notes = dir.path().join("notes.txt");
    fs::write(&notes, "not a capture").unwrap();
    let gone = dir.path().join("gone.pcap");
    let cases: [(&[&str], &[PathBuf], &str); 4] = [
        (
            &["--kfl", "src.podd == 1"],
            std::slice::from_ref(&notes),
            "src.podd",
        ),
        (&[], std::slice::from_ref(&notes), "not a capture"),
        (&[], &[gone], "no such file"),
        (&[], &[dir.path().to_owned()], "no such file"),
    ];
    for (args, files, expected) in cases {
        let output = dissect(args, files);
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
        assert!(
            stderr(&output).contains(expected),
            "{expected}: {}",
            stderr(&output)
        );
    }
}
