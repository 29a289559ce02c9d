//! What a request asks for, whether it stands in the path, the query or a JSON body, in whatever spelling clients use.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ApiError;
use super::operations::calls::Opened;
use super::routes::Route;
use crate::query::{Zone, nearest};
use crate::snapshots::{shown, window};

/// Every spelling of the parameter that names a time zone.
const ZONE: &[&str] = &["time_zone", "timezone", "tz"];

/// The parameters of a request: those of its path and query, and the members of its JSON body.
///
/// Each is taken out by name. A route refuses what it does not know before anything is done; what a tool has left over at
/// the end it did not understand, and its answer says so.
#[derive(Clone, Default)]
pub struct Params {
    given: BTreeMap<String, Value>,
    /// The route that they came by; tools have none.
    pub(super) route: Option<&'static Route>,
    /// Read when first asked for.
    zone: Option<Zone>,
    /// The dissection that is asked, once it has been looked for.
    pub(super) opened: Option<Opened>,
}

impl Params {
    /// Text. Numbers are taken as text, too.
    pub fn text(&mut self, names: &[&str]) -> Result<Option<String>, ApiError> {
        match self.take(names) {
            None => Ok(None),
            Some((_, Value::String(text))) => Ok(Some(text)),
            Some((_, Value::Number(number))) => Ok(Some(number.to_string())),
            Some((name, other)) => Err(wrong(&name, "a text", &other)),
        }
    }

    /// A whole number, be it written as one or as text.
    pub fn integer(&mut self, names: &[&str]) -> Result<Option<i64>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(None);
        };
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .map(Some)
            .ok_or_else(|| wrong(&name, "a whole number", &value))
    }

    /// A moment in Unix milliseconds, or in RFC 3339; in nanoseconds here.
    pub fn moment(&mut self, names: &[&str]) -> Result<Option<u64>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(None);
        };
        let millis = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok().or_else(|| {
                let moment: jiff::Timestamp = text.trim().parse().ok()?;
                u64::try_from(moment.as_millisecond()).ok()
            }),
            _ => None,
        };
        let nanos = millis.and_then(|millis| millis.checked_mul(1_000_000));
        nanos.map(Some).ok_or_else(|| {
            wrong(
                &name,
                "a time in Unix milliseconds or RFC 3339 (2026-03-29T01:00:00Z)",
                &value,
            )
        })
    }

    /// A length of time such as `1h`; a bare number counts milliseconds. In nanoseconds here.
    pub fn duration(&mut self, names: &[&str]) -> Result<Option<u64>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(None);
        };
        let parsed = match &value {
            Value::Number(number) => number
                .as_u64()
                .filter(|ms| *ms > 0)
                .and_then(|ms| ms.checked_mul(1_000_000)),
            Value::String(text) => {
                return window::parse_duration(text)
                    .map(Some)
                    .map_err(|error| ApiError::bad_request(format!("`{name}`: {error}")));
            }
            _ => None,
        };
        parsed
            .map(Some)
            .ok_or_else(|| wrong(&name, "a duration such as \"1h\"", &value))
    }

    /// The zone that times are told in, beside UTC. Every answer that has times takes it.
    pub fn zone(&mut self) -> Result<Option<Zone>, ApiError> {
        if let Some(name) = self.text(ZONE)?.filter(|name| !name.is_empty()) {
            self.zone = Some(Zone::named(&name)?);
        }
        Ok(self.zone.clone())
    }

    /// Yes or no.
    pub fn flag(&mut self, names: &[&str]) -> Result<Option<bool>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(None);
        };
        let flag = match &value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.as_str() {
                "true" | "1" | "" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        flag.map(Some)
            .ok_or_else(|| wrong(&name, "true or false", &value))
    }

    /// One of some words, each of which stands for something; the empty text is as good as nothing.
    pub fn one_of<T: Copy>(&mut self, names: &[&str], words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(given) = self.text(names)?.filter(|given| !given.is_empty()) else {
            return Ok(None);
        };
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == given) {
            return Ok(Some(*meant));
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = nearest(&given, words.iter().copied())
            .map(|word| format!("; did you mean {word}?"))
            .unwrap_or_default();
        Err(ApiError::bad_request(format!(
            "`{}` must be {}, not \"{}\"{near}",
            names.first().unwrap_or(&"it"),
            either(&words),
            shown(&given)
        )))
    }

    /// Texts by name: a JSON object, `a=b,c=d`, or a list of `a=b`.
    pub fn pairs(&mut self, names: &[&str]) -> Result<Vec<(String, String)>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(Vec::new());
        };
        let pair = |text: &str| {
            let (key, value) = text.split_once('=')?;
            Some((key.trim().to_owned(), value.trim().to_owned()))
        };
        let parts = |text: &str| -> Option<Vec<_>> {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(pair).collect()
        };
        let pairs = match &value {
            Value::String(text) => parts(text),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().and_then(&parts))
                .collect::<Option<Vec<_>>>()
                .map(|all| all.concat()),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            _ => None,
        };
        pairs.ok_or_else(|| wrong(&name, "pairs such as app=checkout,tier=front", &value))
    }

    /// Several texts: a JSON array, or one text with commas.
    pub fn list(&mut self, names: &[&str]) -> Result<Vec<String>, ApiError> {
        let Some((name, value)) = self.take(names) else {
            return Ok(Vec::new());
        };
        let split = |text: &str| -> Vec<String> {
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let parts = match &value {
            Value::String(text) => Some(split(text)),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(split))
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.concat()),
            _ => None,
        };
        parts.ok_or_else(|| wrong(&name, "a list of texts", &value))
    }

    /// What nobody took: names that are not known here.
    pub fn warnings(&self) -> Vec<String> {
        self.given
            .keys()
            .map(|name| format!("`{}` is not a parameter here and was not used", shown(name)))
            .collect()
    }

    /// Adds to an answer which parameters nobody took.
    pub fn warn(&self, answer: &mut Value) {
        let Value::Object(answer) = answer else {
            return;
        };
        let warnings = self.warnings();
        if warnings.is_empty() {
            return;
        }
        if let Value::Array(told) = answer
            .entry("warnings")
            .or_insert_with(|| Value::Array(Vec::new()))
        {
            told.extend(warnings.into_iter().map(Value::String));
        }
    }

    /// The value under the first of these names that is given; `null` is as good as nothing.
    fn take(&mut self, names: &[&str]) -> Option<(String, Value)> {
        let mut found = None;
        for name in names {
            let value = self.given.remove(*name).filter(|value| !value.is_null());
            if found.is_none() {
                found = value.map(|value| ((*name).to_owned(), value));
            }
        }
        found
    }

    /// Adds one; a name that comes twice becomes a list.
    pub fn give(&mut self, name: &str, value: Value) {
        match self.given.entry(snake_case(name)) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(value);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let before = known.get_mut().take();
                *known.get_mut() = match before {
                    Value::Array(mut items) => {
                        items.push(value);
                        Value::Array(items)
                    }
                    first => Value::Array(vec![first, value]),
                };
            }
        }
    }

    /// Adds the members of a JSON object.
    pub fn give_json(&mut self, text: &[u8], what: &str) -> Result<(), ApiError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            ApiError::bad_request(format!(
                "{what} is not JSON: {error}; send an object such as {{\"name\": \"…\"}}"
            ))
        })?;
        let Value::Object(members) = value else {
            let kind = kind(&value);
            return Err(ApiError::bad_request(format!(
                "{what} must be a JSON object, not {kind}"
            )));
        };
        self.give_all(members);
        Ok(())
    }

    /// Adds members that are JSON already.
    pub fn give_all(&mut self, members: serde_json::Map<String, Value>) {
        for (name, value) in members {
            self.give(&name, value);
        }
    }

    /// Refuses what is no parameter of the route.
    pub fn check(&self) -> Result<(), ApiError> {
        self.route
            .map_or(Ok(()), |route| route.check(self.given.keys().map(String::as_str)))
    }

    /// JSON under a name: the arguments of a tool.
    pub fn value(&mut self, names: &[&str]) -> Option<Value> {
        self.take(names).map(|(_, value)| value)
    }

    /// JSON under a name, left where it is.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.given.get(name)
    }

    /// All that nobody took, as JSON: the same for the same, in whatever order it was given.
    pub fn as_json(&self) -> String {
        serde_json::to_string(&self.given).unwrap_or_default()
    }

    /// All that nobody took.
    pub fn rest(self) -> serde_json::Map<String, Value> {
        self.given.into_iter().collect()
    }

    /// Whether one of these is given.
    pub fn has(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| self.given.get(*name).is_some_and(|value| !value.is_null()))
    }
}

fn wrong(name: &str, wanted: &str, got: &Value) -> ApiError {
    let got = match got {
        Value::String(text) => format!("\"{}\"", shown(text)),
        Value::Number(number) => number.to_string(),
        other => kind(other).to_owned(),
    };
    ApiError::bad_request(format!("`{name}` must be {wanted}, not {got}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `a, b or c`.
fn either(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// `snapshotName` and `snapshot_name` are the same (proto3's JSON mapping takes both).
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() {
            if at > 0 {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        } else {
            snake.push(c);
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(json: &str) -> Params {
        let mut params = Params::default();
        params
            .give_json(json.as_bytes(), "the body")
            .expect("it is an object");
        params
    }

    fn message(error: ApiError) -> String {
        format!("{error:?}")
    }

    #[test]
    fn numbers_may_be_texts_and_names_camel_case() {
        let mut given =
            params(r#"{"limit": "5", "snapshotName": "a", "nodes": ["x", "y,z"], "deep": null, "other": 1}"#);
        assert_eq!(given.integer(&["limit"]).ok(), Some(Some(5)));
        assert_eq!(
            given.text(&["snapshot", "snapshot_name"]).ok(),
            Some(Some("a".to_owned()))
        );
        assert_eq!(
            given.list(&["nodes"]).ok(),
            Some(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()])
        );
        assert_eq!(given.flag(&["deep"]).ok(), Some(None));
        assert_eq!(
            given.warnings(),
            ["`other` is not a parameter here and was not used"]
        );
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339() {
        let mut given = params(
            r#"{"a": 1700000000000, "b": "1700000000000", "c": "2023-11-14T22:13:20Z", "d": "x", "e": -1}"#,
        );
        for name in ["a", "b", "c"] {
            assert_eq!(
                given.moment(&[name]).ok(),
                Some(Some(1_700_000_000_000_000_000)),
                "{name}"
            );
        }
        assert!(
            given
                .moment(&["d"])
                .is_err_and(|error| message(error).contains("Unix milliseconds"))
        );
        assert!(given.moment(&["e"]).is_err());
    }

    #[test]
    fn a_body_that_is_not_json_says_where() {
        let told = Params::default()
            .give_json(b"{\"name\": ", "the body")
            .map_err(message);
        assert!(told.is_err_and(|told| told.contains("line 1 column 9")));
        assert!(
            Params::default()
                .give_json(b"[]", "the body")
                .is_err_and(|error| message(error).contains("not a list"))
        );
    }
}
