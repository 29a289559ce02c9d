//! Runs tests, and those that failed among all the others once more by themselves.
//!
//! Tests here start real recorders, servers and clients, and many at once share the machine's processors: what is in
//! time alone may be late beside the others. A test that fails alone as well has failed; one that passes alone is named
//! at the end, so that it can be mended.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::programs::finish;

/// More than these that fail are a fault and no accident: they are not run again.
const MAX_AGAIN: usize = 5;

/// Runs `cargo test` of the given packages with `args` for the test binaries, by way of `through`, which may put it into
/// surroundings of its own.
///
/// # Errors
///
/// When a test fails by itself too, when more than [`MAX_AGAIN`] fail, or when a test binary ends without saying which.
pub fn run(tests: impl Fn() -> Command, args: &[String], through: impl Fn(Command) -> Command) -> Result<()> {
    run_into(&mut std::io::stdout().lock(), tests, args, through)
}

fn run_into(
    out: &mut impl Write,
    tests: impl Fn() -> Command,
    args: &[String],
    through: impl Fn(Command) -> Command,
) -> Result<()> {
    // By itself it shows its progress on a terminal; below, its output passes through here.
    finish(tests().arg("--no-run"))?;
    let mut all = tests();
    all.args(["--no-fail-fast", "--"]).args(args);
    let told = listen(through(all), out)?;
    if told.success {
        return Ok(());
    }
    let failed = &told.failed;
    if failed.is_empty() || told.results < told.targets {
        bail!("a test binary ended without saying which of its tests failed");
    }
    if failed.len() > MAX_AGAIN {
        bail!("{} tests failed:{}", failed.len(), listed(failed));
    }
    eprintln!(
        "\n{} failed, and are run once more by themselves:{}",
        failed.len(),
        listed(failed)
    );
    let mut alone = tests();
    alone.args(["--no-fail-fast", "--", "--test-threads=1", "--exact"]);
    alone.args(failed);
    let again = listen(through(alone), out)?;
    if !again.success || again.passed < failed.len() {
        bail!("tests failed, by themselves too:{}", listed(&again.failed));
    }
    eprintln!(
        "\npassed by themselves only, and failed among the others (too little time?):{}",
        listed(failed)
    );
    Ok(())
}

/// What the output of `cargo test` tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    success: bool,
    passed: usize,
    /// Names of the tests that failed.
    failed: Vec<String>,
    /// How many binaries listed what failed in them, and how many cargo says failed.
    results: usize,
    targets: usize,
    /// What stands in the list under way.
    list: Vec<String>,
}

impl Told {
    fn line(&mut self, line: &str) {
        if line == "failures:" {
            self.list.clear();
        } else if let Some(name) = line.strip_prefix("    ") {
            self.list.push(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            let failed = count(result, "failed");
            if failed > 0 && failed == self.list.len() {
                self.results += 1;
                self.failed.append(&mut self.list);
            }
            self.list.clear();
        } else if line.starts_with("error: ") && line.contains("failed, to rerun pass") {
            self.targets += 1;
        }
    }
}

/// The number before a word: `… 112 passed; 1 failed; …`.
fn count(result: &str, word: &str) -> usize {
    let mut before = "";
    for part in result.split([' ', ';']) {
        if part == word {
            return before.parse().unwrap_or_default();
        }
        before = part;
    }
    0
}

/// Runs a command, passes its output on, and keeps what it tells.
fn listen(mut command: Command, out: &mut impl Write) -> Result<Told> {
    let (output, input) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdout(input.try_clone().context("cannot share a pipe")?)
        .stderr(input)
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    // It holds the pipe's other end open, which would never come to an end.
    drop(command);
    let mut told = Told::default();
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output
        .read_until(b'\n', &mut line)
        .context("cannot read what the tests say")?
        > 0
    {
        out.write_all(&line)?;
        out.flush()?;
        told.line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    told.success = child.wait().context("cannot wait for the tests")?.success();
    Ok(told)
}

fn listed(tests: &[String]) -> String {
    tests.iter().map(|test| format!("\n    {test}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Told {
        let mut told = Told::default();
        for line in text.lines() {
            told.line(line);
        }
        told
    }

    /// A package whose test `once` fails in its first run and whose test `always` fails if it is told to.
    fn package(dir: &std::path::Path) -> impl Fn() -> Command {
        let manifest = "[package]\nname = \"flaky\"\nedition = \"2024\"\n[workspace]\n";
        let tests = r#"
            #[test]
            fn once() {
                let ran = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ran");
                let before = ran.exists();
                std::fs::write(ran, "").unwrap();
                assert!(before);
            }

            #[test]
            fn always() {
                assert!(!std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fails").exists());
            }
        "#;
        std::fs::create_dir(dir.join("src")).expect("a folder");
        std::fs::write(dir.join("Cargo.toml"), manifest).expect("a manifest");
        std::fs::write(dir.join("src/lib.rs"), tests).expect("tests");
        let dir = dir.to_owned();
        move || {
            let mut command = crate::programs::cargo(&["test", "--quiet", "--lib", "--offline"]);
            command
                .current_dir(&dir)
                .env("CARGO_TARGET_DIR", dir.join("target"));
            command
        }
    }

    #[test]
    fn what_passes_by_itself_is_named_and_passes() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut out = Vec::new();
        run_into(&mut out, package(dir.path()), &[], |command| command).expect("passes when run again");
        let out = String::from_utf8_lossy(&out);
        assert!(
            out.contains("1 passed; 1 failed") && out.contains("1 passed; 0 failed"),
            "{out}"
        );
    }

    #[test]
    fn what_fails_by_itself_too_has_failed() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("fails"), "").expect("a file");
        let refused = run_into(&mut Vec::new(), package(dir.path()), &[], |command| command)
            .expect_err("a test fails both times");
        assert_eq!(
            refused.to_string(),
            "tests failed, by themselves too:\n    always"
        );
    }

    #[test]
    fn what_failed_is_read_from_the_lists_of_all_binaries() {
        let told = told(
            "
running 3 tests
test one ... ok
test two::three ... FAILED

failures:

---- two::three stdout ----
    not a name
failures:
    two::three

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s

error: test failed, to rerun pass `-p wiretape-hub --test api`
test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s

failures:
    four

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s

error: test failed, to rerun pass `--lib`
error: 2 targets failed:
    `-p wiretape-hub --test api`
    `--lib`
",
        );
        assert_eq!(told.failed, ["two::three", "four"]);
        assert_eq!((told.passed, told.results, told.targets), (6, 2, 2));
    }

    #[test]
    fn a_binary_that_was_killed_says_not_what_failed() {
        let told = told(
            "
test one ... ok
error: test failed, to rerun pass `--test api`

Caused by:
  process didn't exit successfully: `target/release/deps/api` (signal: 9, SIGKILL: kill)
",
        );
        assert_eq!((told.failed.len(), told.results, told.targets), (0, 0, 1));
    }
}
