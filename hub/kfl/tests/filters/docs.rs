//! `docs/kfl.md` says what is so: its examples are compiled, its errors provoked, its tables made from the lists.

use std::fmt::Write;
use std::path::PathBuf;

use wiretape_kfl::{FIELDS, FieldInfo, LATENCY_IN_MS, MACROS, compile, explain};

/// 2026-01-31T12:00:00Z.
const NOW: u64 = 1_769_860_800_000_000_000;

/// Between these the page's tables stand.
const TABLES: (&str, &str) = ("<!-- fields: begin -->\n", "<!-- fields: end -->");

#[test]
fn every_example_is_a_filter() {
    let page = page();
    let examples: Vec<_> = blocks(&page, "kfl").into_iter().flat_map(str::lines).collect();
    assert!(examples.len() > 30, "the examples are not found any more");
    for example in examples {
        if let Err(error) = compile(example, NOW) {
            panic!("{error}");
        }
    }
}

#[test]
fn every_error_is_as_shown() {
    let page = page();
    let errors = blocks(&page, "kfl-error");
    assert!(!errors.is_empty(), "the errors are not found any more");
    for shown in errors {
        let (filter, error) = shown.split_once('\n').unwrap();
        assert_eq!(compile(filter, NOW).unwrap_err().to_string(), error.trim_end());
    }
}

#[test]
fn every_explanation_is_as_shown() {
    let page = page();
    let explanations = blocks(&page, "kfl-explain");
    assert!(
        !explanations.is_empty(),
        "the explanations are not found any more"
    );
    for shown in explanations {
        let (filter, explanation) = shown.split_once('\n').unwrap();
        assert_eq!(explain(filter, NOW).unwrap().to_string(), explanation);
    }
}

/// The page lists what a dissection cannot answer: examples in it, one by one.
#[test]
fn what_is_run_entry_by_entry_is_as_told() {
    for (filter, computed) in [
        ("namespaces.exists(n, n startsWith \"x\")", true),
        ("namespaces.exists(n, n == \"x\")", false),
        ("request.headers.* == \"x\"", true),
        ("src.* == \"x\"", false),
        ("path + url == \"x\"", true),
        ("path contains dst.svc", true),
        ("request.headers[path] == \"x\"", true),
        ("path.split(\"/\")[0] == \"x\"", true),
        ("path.trim() == \"x\"", true),
        ("int(path) == 1", true),
        ("pods == [\"x\"]", true),
        ("path == dst.svc", false),
        ("src.port + 1 == dst.port", false),
        ("string(src.port) == \"1\"", false),
    ] {
        assert_eq!(
            !compile(filter, NOW).unwrap().computed().is_empty(),
            computed,
            "{filter}"
        );
    }
}

#[test]
fn every_equivalence_holds() {
    let page = page();
    let (_, table) = page.split_once("| written | is read as |\n|---|---|\n").unwrap();
    for row in table.lines().take_while(|line| !line.is_empty()) {
        let sides = row.strip_prefix("| `").and_then(|row| row.strip_suffix("` |"));
        let (written, read) = sides.and_then(|sides| sides.split_once("` | `")).unwrap();
        // In a table, a bar is escaped.
        let read = read.replace("\\|", "|");
        assert_eq!(compile(written, NOW).unwrap().to_string(), read);
        assert_eq!(compile(written, NOW), compile(&read, NOW));
    }
}

/// `UPDATE_EXPECT=1 cargo test -p wiretape-kfl` writes the tables anew.
#[test]
fn tables_are_those_of_the_lists() {
    let page = page();
    let (before, rest) = page.split_once(TABLES.0).unwrap();
    let (shown, after) = rest.split_once(TABLES.1).unwrap();
    let tables = tables();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path(), [before, TABLES.0, &tables, TABLES.1, after].concat()).unwrap();
        return;
    }
    assert_eq!(shown, tables, "run it with UPDATE_EXPECT=1");
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/kfl.md")
}

fn page() -> String {
    std::fs::read_to_string(path()).unwrap()
}

/// The contents of the fenced blocks of a language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect()
}

fn tables() -> String {
    let mut tables = String::new();
    for fields in FIELDS.chunk_by(|one, other| one.group == other.group) {
        if let Some(first) = fields.first() {
            let owners: Vec<_> = first
                .protocols
                .iter()
                .map(|flag| format!(" `{}`", flag.name()))
                .collect();
            writeln!(tables, "\n### {}{}\n", first.group, owners.concat()).unwrap();
            writeln!(tables, "| field | also | holds | |\n|---|---|---|---|").unwrap();
        }
        for info in fields {
            let FieldInfo { name, kind, doc, .. } = info;
            let aliases: Vec<_> = info.aliases.iter().map(|alias| format!("`{alias}`")).collect();
            writeln!(
                tables,
                "| `{name}` | {} | {} | {doc} |",
                aliases.join(", "),
                kind.as_str()
            )
            .unwrap();
        }
    }
    let latency: Vec<_> = LATENCY_IN_MS.iter().map(|name| format!("`{name}`")).collect();
    writeln!(
        tables,
        "\n### Names for something longer\n\n| name | stands for | |\n|---|---|---|"
    )
    .unwrap();
    writeln!(
        tables,
        "| {} | `elapsed_time` in milliseconds | |",
        latency.join(", ")
    )
    .unwrap();
    for found in MACROS {
        writeln!(
            tables,
            "| `{}` | `{}` | {} |",
            found.name,
            found.filter.replace('|', "\\|"),
            found.doc
        )
        .unwrap();
    }
    tables.push('\n');
    tables
}
