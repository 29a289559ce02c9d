//! `DeepFlow`'s `.result` files: one line a message, as a structure of Rust shown for debugging, or as JSON.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A line of a file.
pub struct Line(String);

/// The lines beside a capture, or none when there is no such file.
pub fn lines(capture: &Path) -> Result<Option<Vec<Line>>> {
    let file: PathBuf = capture.with_extension("result");
    if !file.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(text.lines().map(|line| Line(line.to_owned())).collect()))
}

impl Line {
    /// The value of a field, without `Some(…)` and quotes; `None` and what is absent are empty.
    pub fn shown(&self, name: &str) -> String {
        let begins = [format!("{{ {name}: "), format!(", {name}: ")];
        let found = begins.iter().find_map(|begin| self.0.split_once(begin.as_str()));
        let Some((_, rest)) = found else {
            return String::new();
        };
        let rest = rest.strip_prefix("Some(").unwrap_or(rest);
        let value = match rest.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once("\",")
                .or_else(|| quoted.split_once('"'))
                .map_or(quoted, |(value, _)| value),
            None => rest.split([',', ')', ' ', '}']).next().unwrap_or_default(),
        };
        let value = value.trim_end_matches(['"', ')']);
        if value == "None" {
            String::new()
        } else {
            value.to_owned()
        }
    }

    /// The object of a line that is JSON, with what stands behind it left out.
    pub fn json(&self) -> Result<serde_json::Value> {
        let mut values = serde_json::Deserializer::from_str(&self.0).into_iter();
        values
            .next()
            .context("an empty line in a result")?
            .context("a result in JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_structure_shown_for_debugging() {
        let line = Line(
            r#"Info { request: "GET a, b", status: "", code: Some(200), path: None, error: "-ERR x" } is_redis: true"#.to_owned(),
        );
        assert_eq!(line.shown("request"), "GET a, b");
        assert_eq!(line.shown("status"), "");
        assert_eq!(line.shown("code"), "200");
        assert_eq!(line.shown("path"), "");
        assert_eq!(line.shown("error"), "-ERR x");
        assert_eq!(line.shown("absent"), "");
    }

    #[test]
    fn json_with_more_behind_it() {
        let line = Line(r#"{"request_id":7} headers_offset: 0 is_dns: true"#.to_owned());
        assert_eq!(line.json().unwrap()["request_id"], 7);
    }
}
