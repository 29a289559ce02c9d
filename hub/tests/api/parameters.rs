//! Every parameter of every route, given wrongly in every way: a 400 that names it, and nothing is done.

use serde_json::{Map, Value, json};

use crate::hub::{TestHub, encoded};
use crate::tools::{dissected, golden};

/// A parameter as the published description has it.
struct Published {
    name: String,
    place: &'static str,
    required: bool,
    schema: Value,
}

/// A route as the published description has it.
struct Route {
    method: String,
    path: String,
    params: Vec<Published>,
}

/// Not ours to check: the transport of MCP, and the arguments of tools, which are named in `warnings` instead.
const APART: [&str; 2] = ["/mcp", "/mcp/tools/{tool}"];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_described() {
    let hub = TestHub::start(&[]).await;
    let described = hub.client.get("/api/openapi.json").await;
    golden("openapi.json", &described);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_nothing_is_done() {
    let (hub, _client, _server) = dissected().await;
    let ask = &hub.client;
    let before = (ask.get("/mcp/snapshots").await, ask.get("/mcp/dissections").await);
    let routes = routes(&ask.get("/openapi.json").await);
    assert!(routes.len() > 40, "{} routes", routes.len());
    let mut asked = 0;
    for route in &routes {
        let mut cases: Vec<(Vec<(String, Value)>, String)> = Vec::new();
        let good = || -> Vec<(String, Value)> {
            let required = route
                .params
                .iter()
                .filter(|param| param.required || param.name == "db");
            required
                .map(|param| (param.name.clone(), json!(a_good(&param.name, &route.path))))
                .collect()
        };
        let with = |name: &str, value: Value| {
            let mut given = good();
            given.retain(|(known, _)| known != name);
            given.push((name.to_owned(), value));
            given
        };
        cases.push((with("nonsense", json!("1")), "nonsense".to_owned()));
        for param in &route.params {
            let name = param.name.as_str();
            let mut twice = good();
            if param.place == "path" {
                // Said in the path, and again in the query.
                twice.push((format!("{name} "), json!("x")));
                cases.push((twice, name.to_owned()));
                continue;
            }
            if name.len() > 3 {
                // Its last two letters swapped.
                let (most, last) = name.split_at(name.len() - 2);
                let misspelt: String = most.chars().chain(last.chars().rev()).collect();
                cases.push((with(&misspelt, json!("x")), format!("did you mean `{name}`?")));
            }
            if param.required {
                let mut without = good();
                without.retain(|(known, _)| known != name);
                cases.push((without, name.to_owned()));
            }
            for wrong in wrong(&param.schema) {
                cases.push((with(name, wrong), name.to_owned()));
            }
            if !is_list(&param.schema) {
                cases.push((with(name, json!(["a", "b"])), name.to_owned()));
            }
        }
        for (given, error) in cases {
            let (status, answer) = send(ask, route, &given).await;
            let told = answer["error"].as_str().unwrap_or_default();
            let what = format!("{} {} {given:?}: {status} {answer}", route.method, route.path);
            assert_eq!(status, 400, "{what}");
            assert!(told.contains(&error), "{what} does not name {error}");
            asked += 1;
        }
    }
    assert!(asked > 300, "{asked} requests");
    let after = (ask.get("/mcp/snapshots").await, ask.get("/mcp/dissections").await);
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_filter_does_not_let_everything_through() {
    let (hub, _client, _server) = dissected().await;
    let (status, answer) = hub
        .client
        .ask("GET", "/mcp/calls?db=incident/calls&klf=error", None)
        .await;
    assert_eq!(status, 400);
    assert_eq!(
        answer["error"],
        "`klf` is not a parameter of GET /mcp/calls; did you mean `kfl`? it takes db, kfl, limit, format, start, end, \
         order, cursor, fields, group_by, max_bytes, time_zone"
    );
    let (status, answer) = hub
        .client
        .ask("DELETE", "/mcp/snapshots/incident?dry_run=true", None)
        .await;
    assert_eq!(status, 400, "{answer}");
    let told = "`dry_run` is not a parameter of DELETE /mcp/snapshots/:snapshot; it takes snapshot";
    assert_eq!(answer["error"], told);
    assert_eq!(
        hub.client.get("/mcp/snapshots/incident").await["name"],
        "incident"
    );
}

fn routes(described: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, operations) in described["paths"].as_object().expect("paths") {
        if APART.contains(&path.as_str()) {
            continue;
        }
        for (method, operation) in operations.as_object().expect("operations") {
            let mut params: Vec<Published> = Vec::new();
            for param in operation["parameters"].as_array().into_iter().flatten() {
                params.push(Published {
                    name: param["name"].as_str().expect("a name").to_owned(),
                    place: if param["in"] == "path" { "path" } else { "query" },
                    required: param["required"] == true,
                    schema: param["schema"].clone(),
                });
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let required: Vec<&Value> = body["required"].as_array().into_iter().flatten().collect();
            for (name, schema) in body["properties"].as_object().into_iter().flatten() {
                params.push(Published {
                    name: name.clone(),
                    place: "body",
                    required: required.iter().any(|required| *required == name),
                    schema: schema.clone(),
                });
            }
            routes.push(Route {
                method: method.to_ascii_uppercase(),
                path: path.clone(),
                params,
            });
        }
    }
    routes
}

/// A value that is not wrong.
fn a_good(name: &str, path: &str) -> &'static str {
    match (name, path) {
        ("db", _) => "incident/calls",
        ("sql", _) => "SELECT 1",
        ("id", _) => "node-1/1/0",
        ("name", "/mcp/snapshots") => "never-made",
        ("name", "/mcp/tools/call") => "list_snapshots",
        ("name" | "dissection_name", _) => "calls",
        _ => "incident",
    }
}

/// Values of the wrong type, and out of range.
fn wrong(schema: &Value) -> Vec<Value> {
    let mut wrong = Vec::new();
    for schema in alternatives(schema) {
        if schema["enum"].is_array() {
            wrong.push(json!("neither"));
        }
        match schema["type"].as_str() {
            Some("integer") => wrong.extend([json!("many"), json!("1.5"), json!("99999999999999999999")]),
            Some("boolean") => wrong.push(json!("perhaps")),
            _ => {}
        }
        if let Some(least) = schema["minimum"].as_i64() {
            wrong.push(json!((least - 1).to_string()));
        }
        if let Some(most) = schema["maximum"].as_i64() {
            wrong.push(json!((most + 1).to_string()));
        }
    }
    wrong
}

fn is_list(schema: &Value) -> bool {
    alternatives(schema)
        .iter()
        .any(|schema| schema["type"] == "array")
}

/// A value may be of several types, each with a schema of its own.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let each = schema["anyOf"].as_array().into_iter().flatten();
    each.flat_map(alternatives).chain([schema]).collect()
}

/// Sends a request with these parameters where they belong; a list in a query is the parameter given twice.
async fn send(ask: &crate::hub::Client, route: &Route, given: &[(String, Value)]) -> (u16, Value) {
    let mut path = route.path.clone();
    let mut query: Vec<String> = Vec::new();
    let mut body: Map<String, Value> = Map::new();
    let has_body = route.method == "POST";
    for (name, value) in given {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let place = format!("{{{name}}}");
        if path.contains(&place) {
            path = path.replace(&place, &text(value));
        } else if has_body && !name.ends_with(' ') {
            body.insert(name.clone(), value.clone());
        } else {
            let values = match value {
                Value::Array(values) => values.clone(),
                one => vec![one.clone()],
            };
            query.extend(
                values
                    .iter()
                    .map(|value| format!("{}={}", name.trim(), encoded(&text(value)))),
            );
        }
    }
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    ask.ask(&route.method, &path, has_body.then_some(Value::Object(body)))
        .await
}
