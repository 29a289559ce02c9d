//! Holds the structure: who may know what, where unsafe may stand, how long a file may be.
//!
//! Each rule says what must be absent, where, and why; a breach names the file and the line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::programs;

/// A text that may stand in some folders only.
struct Rule {
    /// What to look for in a line, outside comments.
    text: &'static [&'static str],
    /// Below which folders the rule holds.
    within: &'static [&'static str],
    /// Where it may stand all the same.
    except: &'static [&'static str],
    /// Shown with a breach.
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        text: &["aya::", "aya_log::"],
        within: &["agent", "hub", "tests", "xtask"],
        except: &[
            "agent/src/capture/ebpf",
            "agent/src/capture/ebpf.rs",
            "agent/src/kernel/tracepoint.rs",
            "agent/src/events/programs.rs",
        ],
        why: "only the loaders of the kernel programs know aya",
    },
    Rule {
        text: &["sled::"],
        within: &["agent", "hub", "tests", "xtask"],
        except: &["hub/src/catalogue"],
        why: "only the catalogue knows sled",
    },
    Rule {
        text: &[
            "tokio",
            "async fn",
            ".await",
            "std::net::Tcp",
            "std::net::Udp",
            "SystemTime::now",
            "Instant::now",
        ],
        within: &["agent/tape/src", "hub/dissect/src", "hub/kfl/src"],
        except: &[],
        why: "the cores do no async, read no clock and touch no network: time and bytes come in as arguments",
    },
    Rule {
        text: &["std::fs", "File::open"],
        within: &["hub/dissect/src", "hub/kfl/src"],
        except: &[],
        why: "dissect and kfl do no I/O",
    },
    Rule {
        text: &["axum::"],
        within: &["hub/src"],
        except: &["hub/src/api", "hub/src/main.rs"],
        why: "only the hub's api knows HTTP",
    },
    Rule {
        text: &["rmcp::"],
        within: &["hub", "tests", "xtask"],
        except: &["hub/src/api/mcp"],
        why: "only the hub's api/mcp knows MCP's library",
    },
    Rule {
        text: &["env::var", "env::args", "clap::"],
        within: &["agent/src", "hub/src"],
        except: &[
            "agent/src/config.rs",
            "agent/src/main.rs",
            "hub/src/config.rs",
            "hub/src/main.rs",
            "hub/src/offline.rs",
        ],
        why: "flags and environment are read in config.rs (and the offline command's own arguments) only",
    },
    Rule {
        text: &["datafusion::"],
        within: &["hub/src", "tests"],
        except: &["hub/src/calls", "hub/src/query", "hub/src/dissections"],
        why: "only the tables and their queries know the engine",
    },
    Rule {
        text: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"],
        within: &["agent", "hub", "tests", "xtask"],
        except: &["agent/src/capture", "agent/src/kernel/pins.rs"],
        why: "unsafe stands in agent-ebpf, at the capture edge and with the pins only",
    },
    Rule {
        text: &["wiretape_agent::", "wiretape_agent_ebpf::"],
        within: &["hub"],
        except: &[],
        why: "agent and hub never see each other: segments and a manifest cross between them",
    },
    Rule {
        text: &["wiretape_hub::", "wiretape_dissect::", "wiretape_kfl::"],
        within: &["agent"],
        except: &[],
        why: "agent and hub never see each other: segments and a manifest cross between them",
    },
];

/// Longest file in lines: what a reader holds in the head at once.
const LONGEST_FILE: usize = 600;

/// Runs every rule, then the formatter, and clippy when asked.
pub fn run(clippy: bool) -> Result<()> {
    let files = rust_files(programs::root())?;
    let mut breaches = Vec::new();
    for (path, text) in &files {
        for rule in RULES.iter().filter(|rule| rule.holds_for(path)) {
            breaches.extend(rule.breaches(path, text));
        }
        let lines = text.lines().count();
        if lines > LONGEST_FILE {
            breaches.push(format!(
                "{path}: {lines} lines; over {LONGEST_FILE} a file is two files"
            ));
        }
    }
    if !breaches.is_empty() {
        bail!("the structure does not hold:\n  {}", breaches.join("\n  "));
    }
    programs::finish(&mut programs::cargo(&["fmt", "--all", "--check"]))?;
    if clippy {
        programs::finish(&mut programs::cargo(&[
            "clippy",
            "--release",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
    }
    eprintln!("✓ structure holds over {} files", files.len());
    Ok(())
}

impl Rule {
    fn holds_for(&self, path: &str) -> bool {
        let below = |folder: &&str| Path::new(path).starts_with(folder);
        self.within.iter().any(below) && !self.except.iter().any(below)
    }

    fn breaches(&self, path: &str, text: &str) -> Vec<String> {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .filter(|(_, line)| self.text.iter().any(|text| contains_word(line, text)))
            .map(|(at, line)| format!("{path}:{}: {}: {}", at + 1, self.why, line.trim()))
            .collect()
    }
}

/// Whether `text` stands in `line`, not as the end of a longer word (`myaya::`), nor in a string.
fn contains_word(line: &str, text: &str) -> bool {
    line.match_indices(text).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && before.matches('"').count() % 2 == 0
    })
}

/// Every Rust file below the houses, with its path from the top of the checkout. The rules do not read themselves.
fn rust_files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["agent", "agent-ebpf", "hub", "tests", "xtask"]
        .iter()
        .map(|house| root.join(house))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                if name != "xtask/src/check.rs" {
                    found.push((name, fs::read_to_string(&path)?));
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_finds_code_and_leaves_comments_and_strings_alone() {
        let rule = &RULES[0];
        assert!(rule.holds_for("agent/src/recorder/mod.rs"));
        assert!(!rule.holds_for("agent/src/capture/ebpf.rs"));
        assert_eq!(
            rule.breaches(
                "x.rs",
                "use aya::Ebpf;\n// aya::Ebpf\nlet s = \"aya::\";\nmyaya::f();"
            )
            .len(),
            1
        );
    }
}
