//! The API in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.0>), made from the table of routes.

use serde_json::{Map, Value, json};

use super::{Gives, ROUTES, Route};
use crate::api::param::{Kind, Param};

/// The document.
pub(in crate::api) fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = route
            .path
            .split('/')
            .map(|part| match part.strip_prefix(':') {
                Some(name) => format!("{{{name}}}"),
                None => part.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("/");
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wiretape",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Recorded traffic of a cluster: cut a window of time into a snapshot, dissect it into API \
                            calls, ask for them. Every path is also there below /api.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": {
                "Answer": { "type": "object" },
                "Error": {
                    "type": "object",
                    "properties": { "error": { "type": "string", "description": "What to do" } },
                    "required": ["error"],
                },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.description,
        "operationId": operation_id(route),
        "responses": responses(route),
    });
    let in_path = |param: &Param| {
        route
            .path
            .split('/')
            .any(|part| part.strip_prefix(':') == Some(param.name))
    };
    // What changes something is told in a body; what only asks, in the query, though either is read.
    let (in_body, in_query): (Vec<&Param>, Vec<&Param>) = route
        .takes()
        .filter(|param| !in_path(param))
        .partition(|_| matches!(route.method, "POST" | "PUT"));
    let mut parameters: Vec<Value> = route
        .takes()
        .filter(|param| in_path(param))
        .map(|param| parameter(param, "path"))
        .collect();
    parameters.extend(in_query.into_iter().map(|param| parameter(param, "query")));
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if route.gives == Gives::Mcp {
        return operation;
    }
    // A tool takes its arguments, which GET /mcp tells.
    let free = route.path == super::table::TOOL;
    if !in_body.is_empty() || free {
        let required: Vec<&str> = in_body
            .iter()
            .filter(|param| param.required)
            .map(|param| param.name)
            .collect();
        let properties: Map<String, Value> = in_body
            .iter()
            .map(|param| (param.name.to_owned(), in_body_schema(param)))
            .collect();
        let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": free });
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        operation["requestBody"] = json!({
            "required": !required.is_empty(),
            "content": { "application/json": { "schema": schema } },
        });
    }
    operation
}

/// A word may be empty, which is as good as nothing.
fn param_schema(param: &Param) -> Value {
    let mut schema = param.schema();
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(json!(""));
    }
    schema
}

/// In a body, `null` is as good as nothing.
fn in_body_schema(param: &Param) -> Value {
    let schema = param_schema(param);
    if param.required {
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// In a query all is text; lists stand with commas.
fn parameter(param: &Param, place: &str) -> Value {
    let schema = match param.kind {
        Kind::List | Kind::Words { .. } => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Pairs | Kind::Object | Kind::Objects | Kind::Text => json!({ "type": "string" }),
        Kind::Moment => json!({ "type": "integer", "format": "int64", "minimum": 0 }),
        // A flag that stands alone is set.
        Kind::Flag { default } => {
            json!({ "type": "string", "enum": ["true", "false", "1", "0", ""], "default": default.to_string() })
        }
        Kind::Integer { least, most, default } => {
            json!({ "type": "integer", "format": "int64", "minimum": least, "maximum": most, "default": default })
        }
        Kind::Choice(_) => param_schema(param),
    };
    let mut parameter = json!({
        "name": param.name,
        "in": place,
        "description": param.told(),
        "required": place == "path" || param.required,
        "schema": schema,
    });
    if matches!(param.kind, Kind::List | Kind::Words { .. }) {
        parameter["style"] = json!("form");
        parameter["explode"] = json!(false);
    }
    parameter
}

/// What may come back. Which refusals a route can give depends on what there is; all have one shape.
fn responses(route: &Route) -> Value {
    let refusal = |what: &str| {
        json!({
            "description": what,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
        })
    };
    let content = match route.gives {
        Gives::Json => json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Answer" } } }),
        Gives::Capture => json!({ "application/vnd.tcpdump.pcap": {} }),
        Gives::Counters | Gives::Proto => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Gives::Mcp => json!({ "application/json": {}, "text/event-stream": {} }),
        Gives::Entries => json!({}),
    };
    let (status, what) = match route.gives {
        Gives::Entries => ("101", "The connection is a WebSocket from here on"),
        _ => ("200", "The answer"),
    };
    let mut responses = json!({
        "400": refusal("A parameter, the body, a filter or a window is wrong"),
        "403": refusal("A web page asks that may not"),
        "404": refusal("There is no such snapshot, dissection, database, call or tool"),
        "405": refusal("The path does not take the method"),
        "409": refusal("It does not fit what there is"),
        "413": refusal("The body is too long"),
        "415": refusal("The body is of a kind that is not read"),
        "429": refusal("Too much is under way"),
        "500": refusal("The hub's own fault, or its disk's"),
        "503": refusal("No agent answers, or the hub is stopping or not well"),
    });
    responses[status] = json!({ "description": what, "content": content });
    responses
}

/// `GET /mcp/snapshots/:snapshot/pcap` as `get_mcp_snapshots_snapshot_pcap`.
fn operation_id(route: &Route) -> String {
    let path = route.path.replace([':', '.'], "").replace(['/', '-'], "_");
    format!("{}{path}", route.method.to_ascii_lowercase())
}
