//! How long an answer may be. What an assistant reads costs it room to think; so rows are cut, and then texts, but the
//! JSON stays whole and says what is missing.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Answer;
use crate::api::ApiError;
use crate::api::params::Params;

/// Bytes of an answer when nobody asks for more: some 6000 tokens, a few of which fit into any conversation.
pub(in crate::api) const DEFAULT_BYTES: usize = 24 << 10;
/// Most bytes that may be asked for.
pub(in crate::api) const MAX_BYTES: usize = 256 << 10;
/// Fewest: room for one row with what stands around it.
pub(in crate::api) const MIN_BYTES: usize = 2 << 10;
/// Of these, kept free of rows for coverage, warnings and hints.
pub(super) const COVERAGE: usize = 1 << 10;

/// How an answer whose rows are cut already is cut further, step by step until it fits: most bytes of a text, most
/// items of a list, most entries of a map (headers may be thousands).
const STEPS: [(usize, usize, usize); 8] = [
    (8 << 10, usize::MAX, usize::MAX),
    (4 << 10, 64, 512),
    (2 << 10, 16, 256),
    (1 << 10, 8, 128),
    (512, 4, 96),
    (256, 3, 64),
    (128, 2, 32),
    (64, 1, 8),
];

/// The budget that the arguments name.
pub(super) fn asked(params: &mut Params) -> Result<Option<usize>, ApiError> {
    let Some(asked) = params.integer(&["max_bytes"])? else {
        return Ok(None);
    };
    usize::try_from(asked)
        .ok()
        .filter(|bytes| (MIN_BYTES..=MAX_BYTES).contains(bytes))
        .map(Some)
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "`max_bytes` must be {MIN_BYTES} to {MAX_BYTES}, not {asked}; fetch packets with export_pcap, and more \
                 rows with the answer's cursor"
            ))
        })
}

/// Cuts an answer to its budget: rows from the end of `rows`, then what is long in the others.
pub(super) fn fit(value: Value, rows: &str, budget: usize) -> Answer {
    let mut answer = Answer::from(value);
    if answer.text.len() > budget {
        cut(&mut answer.value, rows, answer.text.len(), budget);
        answer = Answer::from(answer.value);
    }
    answer
}

fn cut(answer: &mut Value, rows: &str, length: usize, budget: usize) {
    cut_rows(answer, rows, length, budget);
    for (text, items, entries) in STEPS {
        if self::length(answer) <= budget {
            return;
        }
        shorten(answer, (text, items, entries), true);
        let lists = match items {
            usize::MAX => String::new(),
            items => format!(" and lists longer than {items}"),
        };
        answer["shortened"] = json!(format!(
            "texts longer than {text} bytes{lists} are cut; raise max_bytes"
        ));
    }
}

/// Bytes of a value as JSON.
pub(in crate::api) fn length(value: &Value) -> usize {
    let mut counted = Counted(0);
    // Counting never fails.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

fn cut_rows(answer: &mut Value, rows: &str, mut length: usize, budget: usize) {
    let Some(Value::Array(list)) = answer.get_mut(rows) else {
        return;
    };
    let all = list.len();
    while length + COVERAGE / 2 > budget && list.len() > 1 {
        let Some(row) = list.pop() else { break };
        length = length.saturating_sub(self::length(&row) + 1);
    }
    let kept = list.len();
    if kept < all {
        answer["truncated"] = json!(true);
        answer["hint"] = json!(format!(
            "{kept} of {all} {rows} are here, since the answer may have {budget} bytes; ask a narrower question, or \
             raise max_bytes"
        ));
    }
}

fn shorten(value: &mut Value, most: (usize, usize, usize), top: bool) {
    let (bytes, list, entries) = most;
    match value {
        Value::String(text) if text.len() > bytes => {
            let end = (0..=bytes)
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(0);
            let cut = text.len() - end;
            text.truncate(end);
            text.push_str(&format!("… ({cut} more bytes)"));
        }
        Value::Array(items) => {
            items.truncate(list);
            for item in items {
                shorten(item, most, false);
            }
        }
        Value::Object(members) => {
            if !top && members.len() > entries {
                let last: Vec<String> = members.keys().skip(entries).cloned().collect();
                for name in last {
                    members.remove(&name);
                }
            }
            for member in members.values_mut() {
                shorten(member, most, false);
            }
        }
        _ => {}
    }
}

struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_and_the_json_stays_whole() {
        let row = |n: usize| json!({ "id": n, "path": "x".repeat(100) });
        let mut answer = json!({ "calls": (0..1000).map(row).collect::<Vec<_>>(), "total": 1000 });
        answer = fit(answer, "calls", MIN_BYTES).value;
        assert!(length(&answer) <= MIN_BYTES, "{}", length(&answer));
        assert_eq!(
            (&answer["truncated"], &answer["total"]),
            (&json!(true), &json!(1000))
        );
        let kept = answer["calls"].as_array().map_or(0, Vec::len);
        assert!(
            kept > 5
                && answer["hint"]
                    .as_str()
                    .is_some_and(|hint| hint.starts_with(&format!("{kept} of 1000")))
        );
        assert_eq!(answer["shortened"], Value::Null);
    }

    #[test]
    fn an_answer_that_just_fits_is_left_alone() {
        let mut answer = json!({ "calls": ["x".repeat(MIN_BYTES - 14)] });
        assert_eq!(length(&answer), MIN_BYTES);
        let before = answer.clone();
        answer = fit(answer, "calls", MIN_BYTES).value;
        assert_eq!(answer, before);
        answer["calls"][0] = json!("x".repeat(MIN_BYTES - 13));
        answer = fit(answer, "calls", MIN_BYTES).value;
        assert!(length(&answer) <= MIN_BYTES && answer["shortened"].is_string());
    }

    #[test]
    fn lists_are_cut_before_the_names_in_their_rows() {
        let row = |n: usize| json!({ "calls": n, "errors": 0, "p50_ms": 1.5, "p99_ms": 2.5, "src": format!("pod-{n}") });
        let rows: Vec<Value> = (0..40).map(row).collect();
        let mut answer =
            json!({ "endpoints": rows, "callers": rows, "callees": rows, "summary": "s".repeat(100) });
        answer = fit(answer, "endpoints", MIN_BYTES).value;
        assert!(length(&answer) <= MIN_BYTES, "{}", length(&answer));
        assert_eq!(answer["callers"][0], row(0));
        assert_eq!(answer["summary"], "s".repeat(100));
    }

    #[test]
    fn one_huge_call_loses_the_ends_of_its_texts_and_maps() {
        let headers: serde_json::Map<String, Value> = (0..5000)
            .map(|n| (format!("x-{n}"), json!("é".repeat(300))))
            .collect();
        let mut answer = json!({ "entry": { "id": "node/1/0", "req_headers": headers }, "req_body": "\n".repeat(1 << 20) });
        answer = fit(answer, "", DEFAULT_BYTES).value;
        assert!(length(&answer) <= DEFAULT_BYTES, "{}", length(&answer));
        assert_eq!(answer["entry"]["id"], "node/1/0");
    }
}
