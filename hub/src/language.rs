//! `wiretape-hub kfl check`: how a filter is read, without a dissection.

use std::io::Write;

use serde_json::{Value, json};
use wiretape_kfl::{Explanation, KflError, explain};
use wiretape_tape::Nanos;

use crate::query::{Plan, meaning, plan};

/// Says on `out` how a filter is read, of which columns, and which of them skip parts of the table; with `json` as one object.
/// Whether it is one.
///
/// # Errors
/// Who reads has gone away, or the filter is too large to be run.
pub fn check(filter: &str, json: bool, now: Nanos, out: &mut impl Write) -> anyhow::Result<bool> {
    let explanation = match explain(filter, now) {
        Ok(explanation) => explanation,
        Err(error) if json => {
            writeln!(out, "{:#}", wrong(&error))?;
            return Ok(false);
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    let plan = plan(&explanation.filter)?;
    if json {
        writeln!(out, "{:#}", told(&explanation, &plan))?;
    } else {
        write!(out, "{explanation}")?;
        write_plan(&plan, out)?;
    }
    Ok(true)
}

fn write_plan(plan: &Plan, out: &mut impl Write) -> std::io::Result<()> {
    if !plan.columns.is_empty() {
        writeln!(out, "\nColumns that it reads")?;
        let width = plan.columns.iter().map(String::len).max().unwrap_or_default();
        for column in &plan.columns {
            writeln!(out, "  {column:width$}   {}", meaning(column))?;
        }
    }
    match (plan.prunes.as_slice(), plan.columns.as_slice()) {
        (_, []) => {}
        ([], _) => writeln!(out, "\nEvery row group is read.")?,
        (prunes, _) => writeln!(
            out,
            "\nRow groups are skipped by the statistics of {}.",
            prunes.join(", ")
        )?,
    }
    if plan.bodies {
        writeln!(
            out,
            "\nBodies are read from the segments, of the calls that meet all other conditions."
        )?;
    }
    if plan.connections {
        writeln!(out, "\nConnections and flows are looked at, too.")?;
    }
    Ok(())
}

fn told(explanation: &Explanation, plan: &Plan) -> Value {
    let filter = &explanation.filter;
    let conditions = explanation.conditions.iter().map(|condition| {
        let protocols: Vec<&str> = condition.protocols.iter().map(|flag| flag.name()).collect();
        json!({
            "depth": condition.depth,
            "condition": condition.text,
            "only_in": protocols,
            "entry_by_entry": condition.computed,
        })
    });
    let names = explanation.names.iter().map(|name| {
        json!({ "written": name.written, "meaning": name.meaning, "type": name.holds, "doc": name.doc })
    });
    json!({
        "valid": true,
        "written": explanation.written,
        "filter": filter.to_string(),
        "conditions": conditions.collect::<Vec<_>>(),
        "names": names.collect::<Vec<_>>(),
        "limit": filter.limit,
        "redacted": filter.redactions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "columns": plan.columns,
        "row_groups_skipped_by": plan.prunes,
        "reads_bodies": plan.bodies,
        "looks_at_connections": plan.connections,
    })
}

fn wrong(error: &KflError) -> Value {
    json!({
        "valid": false,
        "error": error.to_string(),
        "line": error.position.line,
        "column": error.position.column,
        "hint": error.hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31T12:00:00Z.
    const NOW: u64 = 1_769_860_800_000_000_000;

    fn checked(filter: &str, json: bool) -> (bool, String) {
        let mut out = Vec::new();
        let valid = check(filter, json, NOW, &mut out).unwrap();
        (valid, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_documented_checks_are_what_is_printed() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kfl.md");
        let page = std::fs::read_to_string(path).unwrap();
        let shown = page.split("```console\n$ wiretape-hub kfl check ").skip(1);
        let mut checks = 0;
        for shown in shown.filter_map(|rest| rest.split("```").next()) {
            let (filter, expected) = shown.split_once('\n').unwrap();
            let filter = filter.trim_matches('\'');
            assert_eq!(checked(filter, false).1, expected, "{filter}");
            checks += 1;
        }
        assert!(checks > 0, "the page shows none any more");
    }

    #[test]
    fn json_of_a_filter_and_of_a_mistake() {
        let (valid, text) = checked("http and response.status >= 500 and limit(5)", true);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(valid);
        assert_eq!(value["limit"], 5);
        assert_eq!(value["row_groups_skipped_by"], json!(["status"]));
        let (valid, text) = checked("src.podd == \"x\"", true);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(!valid);
        assert_eq!((&value["valid"], &value["column"]), (&json!(false), &json!(1)));
        assert!(
            value["error"]
                .as_str()
                .unwrap()
                .contains("did you mean `src.pod`?")
        );
    }
}
