//! `wiretape-agent doctor`: what works on this machine, what does not and why, and what to do. Everything is tried, not
//! guessed: programs are loaded, a socket of libpcap opened, the disk written.

mod machine;

mod sources;

mod disk;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::choice::Prepared;
use crate::config::Config;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Works,
    /// Recording goes on without it, less well.
    Lacks,
    /// Recording would fail.
    Fails,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when it works.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Finding {
    fn works(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Works,
            found: found.into(),
            advice: String::new(),
        }
    }

    fn lacks(name: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self {
            verdict: Verdict::Lacks,
            advice: advice.to_owned(),
            ..Self::works(name, found)
        }
    }

    fn fails(name: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self {
            verdict: Verdict::Fails,
            ..Self::lacks(name, found, advice)
        }
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether an agent with these flags would record.
    pub would_record: bool,
    /// In the order of a packet: machine, sources, disk.
    pub findings: Vec<Finding>,
}

/// Looks, prints, and exits with 0 if an agent would record, else with 1.
pub fn run(config: &Config, json: bool) -> ExitCode {
    let report = examine(config);
    if json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print!("{}", report.text());
    }
    if report.would_record {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Looks at everything. Takes about two seconds, of which one measures the traffic.
pub fn examine(config: &Config) -> Report {
    let mut findings = machine::examine();
    findings.extend(sources::examine(config));
    findings.extend(disk::examine(config));
    if let Err(error) = config.check() {
        findings.push(Finding::fails("flags", error.to_string(), "give others"));
    }
    if let Err(error) = config.recording().and_then(Prepared::new) {
        findings.push(Finding::fails(
            "choice",
            format!("{error:#}"),
            "give another --capture, --filter or --rules",
        ));
    }
    Report {
        would_record: findings.iter().all(|finding| finding.verdict != Verdict::Fails),
        findings,
    }
}

impl Report {
    /// For people: a line each, and what to do below it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding {
            name,
            verdict,
            found,
            advice,
        } in &self.findings
        {
            let sign = match verdict {
                Verdict::Works => "ok  ",
                Verdict::Lacks => "less",
                Verdict::Fails => "FAIL",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{sign}  {name:<12} {found}");
            if !advice.is_empty() {
                let _ = writeln!(text, "      {:<12} -> {advice}", "");
            }
        }
        let outcome = if self.would_record {
            "An agent with these flags would record."
        } else {
            "An agent with these flags would not record: see FAIL above."
        };
        let _ = writeln!(text, "\n{outcome}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_with_what_to_do() {
        let findings = vec![
            Finding::works("kernel", "Linux 6.1"),
            Finding::fails("tape", "read-only", "give another --tape"),
        ];
        let text = Report {
            would_record: false,
            findings,
        }
        .text();
        assert!(text.contains("ok    kernel       Linux 6.1\n"), "{text}");
        assert!(text.contains("FAIL  tape         read-only\n"), "{text}");
        assert!(
            text.contains("-> give another --tape\n") && text.contains("would not record"),
            "{text}"
        );
    }
}
