//! What several tests need.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use wiretape_tests::run::is_root;
use wiretape_tests::workload::Play;

/// The story in a few seconds.
pub const QUICK: Play = Play {
    time_scale: 30.0,
    seed: 7,
    rate: 3.6,
};

/// Whether the test can run here. Says why not.
pub fn possible(test: &str, programs: &[&str]) -> bool {
    if !is_root() {
        eprintln!("{test} is left out: it needs root for network namespaces and eBPF");
        return false;
    }
    for program in programs {
        if Command::new(program).arg("--version").output().is_err()
            && Command::new(program).arg("-v").output().is_err()
        {
            eprintln!("{test} is left out: {program} is not installed, run `cargo xtask setup`");
            return false;
        }
    }
    true
}

/// What tshark finds of HTTP in a capture.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Requests.
    pub requests: usize,
    /// Responses by status, interim ones (1xx) left out.
    pub responses: BTreeMap<u16, usize>,
}

/// Reads captures with tshark, one after the other as one.
pub fn tshark(file: &Path) -> anyhow::Result<Http> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args([
            "-n",
            "-Y",
            "http",
            "-T",
            "fields",
            "-E",
            "occurrence=a",
            "-E",
            "aggregator=,",
        ])
        .args(["-e", "http.request.method", "-e", "http.response.code"])
        .output()
        .context("cannot run tshark")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tshark {}: {errors}", file.display());
    let mut http = Http::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let (methods, codes) = line.split_once('\t').unwrap_or((line, ""));
        http.requests += methods.split(',').filter(|method| !method.is_empty()).count();
        for code in codes.split(',').filter_map(|code| code.parse().ok()) {
            if code >= 200 {
                *http.responses.entry(code).or_default() += 1;
            }
        }
    }
    Ok(http)
}
