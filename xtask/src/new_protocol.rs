//! Makes the skeleton of a protocol: one that works, for an invented protocol of lines, so that there is something to
//! change and tests that can fail from the first minute on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::programs;

/// The crate, from the top of the checkout.
const CRATE: &str = "hub/dissect";

/// The files of a protocol, with what stands in them. `NAME`, `TYPE` and `UPPER` stand for its name.
const FILES: &[(&str, &str)] = &[
    (
        "src/protocols/NAME/mod.rs",
        include_str!("../skeleton/mod.rs.txt"),
    ),
    (
        "src/protocols/NAME/parse.rs",
        include_str!("../skeleton/parse.rs.txt"),
    ),
    (
        "src/protocols/NAME/pair.rs",
        include_str!("../skeleton/pair.rs.txt"),
    ),
    ("tests/NAME.rs", include_str!("../skeleton/test.rs.txt")),
];

/// Where modules are listed, and where protocols are.
const MODULES: &str = "src/protocols/mod.rs";
const REGISTRY: &str = "src/protocols/registry.rs";

/// Longest name: it stands in every call.
const LONGEST_NAME: usize = 24;

/// Words that Rust keeps for itself, among those that a name could be.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Makes it in this checkout and says what comes next.
pub fn run(name: &str) -> Result<()> {
    make(&programs::root().join(CRATE), name)?;
    programs::finish(&mut programs::cargo(&["fmt", "--package", "wiretape-dissect"]))?;
    eprintln!(
        "\
{CRATE}/src/protocols/{name}/ is there, with a line each in protocols/mod.rs and protocols/registry.rs.

  cargo test --package wiretape-dissect --test {name}

passes, for an invented protocol of lines. Next:
  1. parse.rs: your frames. {CRATE}/src/limits.rs: how much of one may wait, and why.
  2. mod.rs: probe, resync and gap; the ports that break ties.
  3. pair.rs: what belongs together; keep `Order` if the server answers in order and numbers nothing.
  4. tests/{name}.rs: situations; properties.rs: your exchanges in every chunking, cut and loss.
  5. docs/protocols.md: what is decoded, what is not, what a late join costs.
  6. hub/kfl/src/fields.rs and hub/src/query/fields.rs: names for filters."
    );
    Ok(())
}

/// Makes it in a crate. Nothing is written unless all of it can be.
fn make(home: &Path, name: &str) -> Result<()> {
    fits(name)?;
    let read =
        |path: &str| fs::read_to_string(home.join(path)).with_context(|| format!("cannot read {path}"));
    let protocols = home.join("src/protocols");
    let taken = [protocols.join(name), protocols.join(format!("{name}.rs"))];
    ensure!(
        !taken.iter().any(|path| path.exists()),
        "there is a {name} already"
    );
    let test = [
        home.join(format!("tests/{name}.rs")),
        home.join("tests").join(name),
    ];
    ensure!(
        !test.iter().any(|path| path.exists()),
        "there are tests of that name already"
    );
    ensure!(
        !is_spoken(&protocols, name)?,
        "a protocol is called {name} already"
    );

    let modules = with_module(&read(MODULES)?, name).context("no list of modules in protocols/mod.rs")?;
    let registry =
        with_registration(&read(REGISTRY)?, name).context("no list of protocols in registry.rs")?;
    for (path, text) in FILES {
        let path = home.join(path.replace("NAME", name));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, filled(text, name)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::write(home.join(MODULES), modules)?;
    fs::write(home.join(REGISTRY), registry)?;
    Ok(())
}

/// Whether a name can be a module's, a field's and a filter's.
fn fits(name: &str) -> Result<()> {
    let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    ensure!(
        name.starts_with(|char: char| char.is_ascii_lowercase()) && name.chars().all(letters),
        "{name:?} is no name: lower-case letters, digits and _, beginning with a letter"
    );
    ensure!(
        !name.ends_with('_') && !name.contains("__"),
        "{name:?} has a _ too many"
    );
    ensure!(
        name.len() <= LONGEST_NAME,
        "{name:?} is longer than {LONGEST_NAME}"
    );
    ensure!(!KEYWORDS.contains(&name), "{name:?} is a word of Rust's");
    Ok(())
}

/// Whether a protocol has this name or alias, though its folder has another.
fn is_spoken(protocols: &Path, name: &str) -> Result<bool> {
    let quoted = format!("\"{name}\"");
    for entry in fs::read_dir(protocols)? {
        let path = entry?.path().join("mod.rs");
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let mut lines = text.lines().map(str::trim);
        if lines
            .any(|line| (line.starts_with("name:") || line.starts_with("aliases:")) && line.contains(&quoted))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The list of modules with one more, in the order of their names.
fn with_module(text: &str, name: &str) -> Option<String> {
    let named = |line: &str| -> Option<String> {
        let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    let mut lines: Vec<&str> = text.lines().collect();
    // Behind the last that comes before it.
    let before = |line: &&str| named(line).is_some_and(|other| other.as_str() < name);
    let place = lines.iter().rposition(before)?;
    let module = format!("mod {name};");
    lines.insert(place + 1, &module);
    Some(lines.join("\n") + "\n")
}

/// The list of protocols with one more at its end: those that are there are asked first.
fn with_registration(text: &str, name: &str) -> Option<String> {
    let begin = text.find("PROTOCOLS: &[Registration]")?;
    let end = begin + text.get(begin..)?.find("];")?;
    let (before, after) = text.split_at_checked(end)?;
    Some(format!(
        "{before}    register::<super::{name}::{}>(),\n{after}",
        type_name(name)
    ))
}

fn filled(text: &str, name: &str) -> String {
    text.replace("NAME", name)
        .replace("TYPE", &type_name(name))
        .replace("UPPER", &name.to_uppercase())
}

/// `my_sql` is `MySql`.
fn type_name(name: &str) -> String {
    let words = name.split('_').filter_map(|word| {
        let mut chars = word.chars();
        Some(chars.next()?.to_ascii_uppercase().to_string() + chars.as_str())
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in [
            "",
            "Upper",
            "9p",
            "a-b",
            "match",
            "a__b",
            "a_",
            "../x",
            "a_name_that_goes_on_and_on",
        ] {
            assert!(fits(name).is_err(), "{name}");
        }
        for name in ["memcached", "smb2", "my_sql"] {
            fits(name).unwrap();
        }
    }

    #[test]
    fn names_that_are_taken_are_refused() {
        let home = programs::root().join(CRATE);
        // A folder, a file, a name in another folder, tests.
        for name in ["redis", "order", "http", "properties"] {
            assert!(make(&home, name).is_err(), "{name}");
        }
    }

    /// In a copy of the crate: its own tests pass, and two files that were there have one line more.
    #[test]
    fn skeleton_passes_its_tests() {
        // Always the same place: elsewhere, what was built the last time would be of no use and stay.
        let copy = programs::target_dir().join("new-protocol");
        for folder in ["agent", "hub", "tests"].map(|folder| copy.join(folder)) {
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
        }
        fs::create_dir_all(&copy).unwrap();
        let (root, home) = (programs::root(), copy.join(CRATE));
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (_, rest) = manifest.split_once("[workspace.package]").unwrap();
        let members = "[workspace]\nresolver = \"3\"\nmembers = [\"agent/tape\", \"hub/dissect\", \"tests/captures\"]\n\n[workspace.package]";
        // Profiles that speak of other crates would only be warned of.
        let (rest, _) = rest.split_once("# One profile").unwrap_or((rest, ""));
        fs::write(copy.join("Cargo.toml"), format!("{members}{rest}")).unwrap();
        fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
        for folder in ["agent/tape", CRATE, "tests/captures"] {
            copy_sources(&root.join(folder), &copy.join(folder));
        }
        let before =
            [MODULES, REGISTRY].map(|file| fs::read_to_string(home.join(file)).unwrap().lines().count());

        make(&home, "made_up").unwrap();

        let after =
            [MODULES, REGISTRY].map(|file| fs::read_to_string(home.join(file)).unwrap().lines().count());
        assert_eq!(after, before.map(|lines| lines + 1));
        let output = Command::new(env!("CARGO"))
            .current_dir(&copy)
            // Never the folder of the checkout: cargo takes the copy for the same crate, and the checkout's tests would
            // then be linked with what was built here.
            .env("CARGO_TARGET_DIR", copy.join("target"))
            // Warnings would be the first thing that one sees.
            .env("RUSTFLAGS", "")
            .args([
                "test",
                "--offline",
                "--package",
                "wiretape-dissect",
                "--test",
                "made_up",
            ])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stdout)
        );
        assert!(!told.contains("warning:"), "{told}");
        assert!(make(&home, "made_up").is_err());
    }

    fn copy_sources(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy_sources(&path, &to);
            } else {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
}
