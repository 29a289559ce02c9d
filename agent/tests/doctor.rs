//! `wiretape-agent doctor` says what an agent would do here, and is right.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::places::Disk;
use serde_json::Value;

#[test]
fn workload_process() {
    common::workload::main();
}

fn doctor(tape: &Path, flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
        .args(["doctor", "--tape"])
        .arg(tape)
        .args(flags)
        .output()
        .expect("the agent starts")
}

fn finding<'a>(report: &'a Value, name: &str) -> &'a Value {
    let findings = report["findings"].as_array().expect("findings");
    findings
        .iter()
        .find(|finding| finding["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn a_machine_that_can_record_is_told_so_and_nothing_is_left_behind() {
    if common::cannot_record() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let output = doctor(dir.path(), &["--json", "--tape-size", "256MiB"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        output.status.success() && report["would_record"] == true,
        "{report}"
    );
    for name in ["kernel", "capabilities", "cgroups", "ebpf", "libpcap", "disk"] {
        assert_eq!(finding(&report, name)["verdict"], "works", "{report}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
    let text = String::from_utf8(doctor(dir.path(), &["--tape-size", "256MiB"]).stdout).expect("text");
    assert!(
        text.contains("ok    ebpf") && text.contains("would record"),
        "{text}"
    );
}

#[test]
fn what_is_in_the_way_is_told_with_what_to_do_and_by_the_exit_code() {
    if common::cannot_record() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |flags: &[&str], name: &str, says: &str| {
        let output = doctor(&dir.path().join("tape"), &[&["--json"][..], flags].concat());
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let finding = finding(&report, name);
        assert_eq!(
            (output.status.code(), &report["would_record"]),
            (Some(1), &Value::Bool(false)),
            "{report}"
        );
        assert_eq!(finding["verdict"], "fails", "{finding}");
        assert!(
            finding["found"].as_str().expect("text").contains(says),
            "{finding}"
        );
        assert!(!finding["advice"].as_str().expect("advice").is_empty());
    };
    refused(&["--backend", "pcap", "--interface", "none0"], "libpcap", "none0");
    refused(
        &["--backend", "ebpf", "--cgroup", "/not/there"],
        "ebpf",
        "not/there",
    );
    refused(
        &["--tape-size", "64MiB", "--segment-size", "64MiB"],
        "flags",
        "twice",
    );

    let disk = Disk::new(dir.path(), "1m");
    let output = doctor(&disk.0, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(finding(&report, "disk")["verdict"], "fails", "{report}");
    assert_eq!(finding(&report, "room")["verdict"], "lacks", "{report}");
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("written");
    assert_eq!(doctor(&file, &[]).status.code(), Some(1));
}

#[test]
fn help_tells_every_flag() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_wiretape-agent"))
            .args(arguments)
            .output();
        String::from_utf8(output.expect("the agent starts").stdout).expect("text")
    };
    let (recording, doctor) = (help(&["--help"]), help(&["doctor", "--help"]));
    for flag in [
        "--backend",
        "--tape-size",
        "--keep",
        "--compress",
        "--shortest-tape",
        "--buffer-size",
        "--workloads",
    ] {
        assert!(recording.contains(flag) && doctor.contains(flag), "{flag}");
    }
    assert!(
        recording.contains("doctor") && doctor.contains("--json"),
        "{recording}"
    );
}
