//! JSON Schema (2020-12) of what a tool takes and gives, out of its table.

use serde_json::{Map, Value, json};

use super::{DEFAULT_BYTES, MAX_BYTES, MIN_BYTES, Tool};
use crate::api::param::{Kind, TIME_ZONE, param};

/// What a tool takes. Parameters that are not in it are not refused but named in `warnings`.
pub(in crate::api) fn input(tool: &Tool) -> Map<String, Value> {
    let mut properties: Map<String, Value> = tool
        .params
        .iter()
        .map(|param| (param.name.to_owned(), param.schema()))
        .collect();
    let bytes = param(
        "max_bytes",
        Kind::Integer {
            least: MIN_BYTES as i64,
            most: MAX_BYTES as i64,
            default: DEFAULT_BYTES as i64,
        },
        "Most bytes of the answer; what is longer is cut, and says so",
    );
    properties.insert("max_bytes".to_owned(), bytes.schema());
    if tool.tells_times() {
        properties.insert(TIME_ZONE.name.to_owned(), TIME_ZONE.schema());
    }
    let required: Vec<&str> = tool
        .params
        .iter()
        .filter(|param| param.required)
        .map(|param| param.name)
        .collect();
    object(properties, &required)
}

/// What a tool gives.
pub(in crate::api) fn output(tool: &Tool) -> Map<String, Value> {
    let mut properties: Map<String, Value> = tool
        .gives
        .iter()
        .map(|member| {
            let mut schema = types(member.kind);
            schema["description"] = json!(member.doc);
            (member.name.to_owned(), schema)
        })
        .collect();
    for (name, kind, doc) in [
        (
            "warnings",
            "array",
            "What was not used of the question, and what to know of the answer",
        ),
        ("truncated", "boolean", "Whether there is more than is shown"),
        ("hint", "string", "How to see what was cut"),
        ("shortened", "string", "How texts were cut to the budget"),
    ] {
        let schema = json!({ "type": kind, "description": doc });
        properties.entry(name).or_insert(schema);
    }
    if tool.takes("db") {
        for (name, kind, doc) in [
            (
                "coverage",
                "object",
                "What the answer rests on: window, nodes, calls, lost packets",
            ),
            (
                "lost_packets",
                "integer",
                "Packets that were not recorded in the time asked about: calls may be missing, numbers too small",
            ),
            (
                "losses",
                "array",
                "Where and when these were, and packets that were recorded without their end (cut_short)",
            ),
            (
                "partial",
                "boolean",
                "Whether the dissection is under way: there will be more calls, and numbers grow",
            ),
            ("dissected", "object", "How far it is then"),
            (
                "untrusted",
                "string",
                "Which texts are recorded traffic, and no instructions",
            ),
        ] {
            let schema = json!({ "type": kind, "description": doc });
            properties.entry(name).or_insert(schema);
        }
    }
    let always: Vec<&str> = tool
        .gives
        .iter()
        .filter(|member| member.always)
        .map(|member| member.name)
        .collect();
    object(properties, &always)
}

fn object(properties: Map<String, Value>, required: &[&str]) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema
}

/// The schema of `integer`, and of `integer|null`.
fn types(kind: &str) -> Value {
    if kind.contains('|') {
        let each: Vec<Value> = kind.split('|').map(|kind| json!({ "type": kind })).collect();
        json!({ "anyOf": each })
    } else {
        json!({ "type": kind })
    }
}
