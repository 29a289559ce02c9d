//! `docs/conformance.md`, whose tables are written from what was measured and what is known.

use std::path::Path;

use anyhow::{Context, Result};

use crate::Compared;
use crate::known::KNOWN;

/// From the top of the checkout.
pub const FILE: &str = "docs/conformance.md";

/// What the figures stand between.
const FIGURES: &str = "figures";
/// What the explained differences stand between.
const DIFFERENCES: &str = "differences";

/// Writes both tables anew.
pub fn write(root: &Path, all: &[Compared]) -> Result<()> {
    let file = root.join(FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = put(&text, FIGURES, &figures(all))?;
    let text = put(&text, DIFFERENCES, &differences())?;
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Whether the explained differences are those that are known.
pub fn is_in_step(root: &Path) -> Result<bool> {
    let file = root.join(FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(put(&text, DIFFERENCES, &differences())? == text)
}

fn figures(all: &[Compared]) -> String {
    let mut table = String::from(
        "| protocol | oracle | captures | messages | fields | equal | percent | where it is right | different, explained |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for one in all {
        let tally = &one.tally;
        table.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {:.2} | {:.2} | {} |\n",
            one.protocol,
            one.oracle,
            tally.files,
            tally.messages,
            tally.fields,
            tally.equal,
            crate::percent(tally.equal, tally.fields),
            one.percent_where_right(),
            one.explained(),
        ));
    }
    table
}

fn differences() -> String {
    let mut table = String::from(
        "| protocol | oracle | capture | field | who is right | why |\n|---|---|---|---|---|---|\n",
    );
    for known in KNOWN {
        table.push_str(&format!(
            "| {} | {} | `{}` | `{}` | {} | {} |\n",
            known.protocol,
            known.oracle,
            known.file,
            known.field,
            known.right.as_str(),
            known.why
        ));
    }
    table
}

/// Puts a table between its two marks.
fn put(text: &str, mark: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = text
        .split_once(&begin)
        .with_context(|| format!("{FILE} has no {begin}"))?;
    let (_, after) = rest
        .split_once(&end)
        .with_context(|| format!("{FILE} has no {end}"))?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_explanation_is_in_the_document() {
        assert!(
            is_in_step(crate::root()).unwrap(),
            "`cargo xtask conformance --write` brings {FILE} into step"
        );
    }

    #[test]
    fn table_between_its_marks_is_replaced() {
        let text = "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n";
        assert_eq!(
            put(text, "x", "new\n").unwrap(),
            "a\n<!-- x -->\nnew\n<!-- end of x -->\nb\n"
        );
        assert!(put(text, "y", "").is_err());
    }
}
