//! What an answer must look like, and how one differs from it.
//!
//! A shape is JSON in which words stand for values: `int`, `number`, `text`, `bool`, `null`, `ms` (a time in Unix
//! milliseconds), `time` (RFC 3339), `any`; `int|null` for either; `=a|b` for one of these texts; `$name` for a shape with
//! a name. `true` and `false` stand for themselves. A list has at least one row of the shape in it, unless `"*"` stands
//! behind that. A member whose name ends in `?` may be missing; one whose name begins with `+` is ours, beyond the
//! contract, and may be missing as well; `"*"` says what all other members are, and `"..."` takes in those of other shapes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Times in milliseconds that a capture of today or of 2023 may have: from 2020 to 2100.
const MS: std::ops::Range<i64> = 1_577_836_800_000..4_102_444_800_000;

/// Shapes by name.
pub(super) type Shapes = BTreeMap<String, Value>;

/// Holds answers against shapes.
pub(super) struct Checker<'s> {
    shapes: &'s Shapes,
    /// What differs, each with its place.
    pub(super) wrong: Vec<String>,
    /// Members beyond the contract that were seen.
    pub(super) ours: BTreeSet<String>,
}

/// A shape's members, without what only says something about them.
#[derive(Default)]
struct Members<'s> {
    named: BTreeMap<&'s str, Member<'s>>,
    others: Option<&'s Value>,
}

struct Member<'s> {
    shape: &'s Value,
    required: bool,
    ours: bool,
}

impl<'s> Checker<'s> {
    pub(super) fn new(shapes: &'s Shapes) -> Self {
        Self {
            shapes,
            wrong: Vec::new(),
            ours: BTreeSet::new(),
        }
    }

    /// Notes what differs.
    pub(super) fn check(&mut self, shape: &Value, answer: &Value, at: &str) {
        match shape {
            Value::String(word) => self.word(word, answer, at),
            Value::Array(rows) => self.rows(rows, answer, at),
            Value::Object(_) => self.object(shape, answer, at),
            exact if exact == answer => {}
            exact => self.differs(at, exact, answer),
        }
    }

    fn word(&mut self, word: &str, answer: &Value, at: &str) {
        if let Some(name) = word.strip_prefix('$') {
            match self.shapes.get(name) {
                Some(shape) => self.check(shape, answer, at),
                None => self.wrong.push(format!("{at}: the table has no shape `{name}`")),
            }
            return;
        }
        let fits = match word.strip_prefix('=') {
            Some(texts) => answer
                .as_str()
                .is_some_and(|answer| texts.split('|').any(|text| text == answer)),
            None => word.split('|').any(|word| is(word, answer)),
        };
        if !fits {
            self.differs(at, &word, answer);
        }
    }

    fn rows(&mut self, rows: &[Value], answer: &Value, at: &str) {
        let (Some(shape), Some(answers)) = (rows.first(), answer.as_array()) else {
            return self.differs(at, &"a list", answer);
        };
        if answers.is_empty() && rows.len() < 2 {
            self.wrong.push(format!("{at} is empty"));
        }
        for (number, row) in answers.iter().enumerate() {
            self.check(shape, row, &format!("{at}[{number}]"));
        }
    }

    fn object(&mut self, shape: &Value, answer: &Value, at: &str) {
        let Some(answer) = answer.as_object() else {
            return self.differs(at, &"an object", answer);
        };
        let mut members = Members::default();
        if let Err(name) = self.gather(shape, &mut members) {
            return self.wrong.push(format!("{at}: the table has no shape `{name}`"));
        }
        for (name, member) in &members.named {
            match answer.get(*name) {
                Some(answer) => {
                    if member.ours {
                        self.ours.insert((*name).to_owned());
                    }
                    self.check(member.shape, answer, &format!("{at}.{name}"));
                }
                None if member.required => self.wrong.push(format!("{at}.{name} is missing")),
                None => {}
            }
        }
        for (name, answer) in answer {
            if members.named.contains_key(name.as_str()) {
                continue;
            }
            match members.others {
                Some(shape) => self.check(shape, answer, &format!("{at}.{name}")),
                None => self.wrong.push(format!("{at}.{name} is told of nowhere")),
            }
        }
    }

    /// Puts together an object's members; what a shape says itself comes before what it takes in.
    fn gather(&self, shape: &'s Value, into: &mut Members<'s>) -> Result<(), String> {
        let members: &'s Map<String, Value> = match shape {
            Value::Object(members) => members,
            Value::String(word) => {
                let name = word.trim_start_matches('$');
                let named = self.shapes.get(name).ok_or_else(|| name.to_owned())?;
                return self.gather(named, into);
            }
            other => return Err(other.to_string()),
        };
        match members.get("...") {
            Some(Value::Array(several)) => several.iter().try_for_each(|shape| self.gather(shape, into))?,
            Some(one) => self.gather(one, into)?,
            None => {}
        }
        for (name, shape) in members.iter().filter(|(name, _)| *name != "...") {
            if name == "*" {
                into.others = Some(shape);
                continue;
            }
            let ours = name.starts_with('+');
            let bare = name.trim_start_matches('+').trim_end_matches('?');
            let member = Member {
                shape,
                required: !ours && !name.ends_with('?'),
                ours,
            };
            into.named.insert(bare, member);
        }
        Ok(())
    }

    fn differs(&mut self, at: &str, shape: &dyn std::fmt::Display, answer: &Value) {
        let mut shown = answer.to_string();
        shown.truncate(shown.floor_char_boundary(80));
        self.wrong.push(format!("{at} is {shown}, not {shape}"));
    }
}

/// Whether a value is what a word says.
fn is(word: &str, answer: &Value) -> bool {
    match word {
        "int" => answer.is_i64() || answer.is_u64(),
        "number" => answer.is_number(),
        "ms" => answer.as_i64().is_some_and(|ms| MS.contains(&ms)),
        "text" => answer.is_string(),
        "time" => answer
            .as_str()
            .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        "bool" => answer.is_boolean(),
        "null" => answer.is_null(),
        "any" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(shape: &Value, answer: &Value) -> Vec<String> {
        let shapes = Shapes::from([
            ("peer".to_owned(), json!({ "ip": "text", "port?": "int" })),
            ("page".to_owned(), json!({ "total": "int", "+db": "text" })),
        ]);
        let mut checker = Checker::new(&shapes);
        checker.check(shape, answer, "");
        checker.wrong
    }

    #[test]
    fn what_fits_is_not_wrong() {
        let shape = json!({ "...": "$page", "rows": ["$peer"], "none": ["int", "*"], "by": { "*": "int" }, "at": "ms|null",
            "status": "=a|b", "on": true, "when": "time", "what": "any" });
        let answer = json!({ "total": 1, "rows": [{ "ip": "::1" }, { "ip": "::1", "port": 2 }], "none": [], "by": { "x": 1 },
            "at": null, "status": "b", "on": true, "when": "2026-11-23T06:46:22.826Z", "what": [], "db": "a/b" });
        assert_eq!(wrong(&shape, &answer), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_more_or_of_another_type_is_found() {
        let shape = json!({ "...": "$page", "rows": ["$peer"], "on": true, "at": "ms", "status": "=a|b", "x": "$nowhere" });
        let answer = json!({ "rows": [{ "ip": 7, "pod": "p" }], "on": false, "at": 5, "status": "c", "db": 1, "x": 1 });
        assert_eq!(
            wrong(&shape, &answer),
            [
                ".at is 5, not ms",
                ".db is 1, not text",
                ".on is false, not true",
                ".rows[0].ip is 7, not text",
                ".rows[0].pod is told of nowhere",
                ".status is \"c\", not =a|b",
                ".total is missing",
                ".x: the table has no shape `nowhere`",
            ]
        );
        assert_eq!(wrong(&json!(["int"]), &json!([])), [" is empty"]);
        assert_eq!(wrong(&json!("no such word"), &json!(1)).len(), 1);
    }
}
