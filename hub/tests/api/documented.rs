//! What docs/api.md shows as an answer, held against the answer: a member that is missing, one that nobody has told of,
//! or one of another type fails.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::hub::encoded;
use crate::tools::dissected;

/// Stands in the page for what everybody can imagine.
const ANY: &str = "…";

/// Members that are maps: their keys are data.
const MAPS: [&str; 6] = [
    "outcomes",
    "protocol_counts",
    "counters",
    "by_namespace",
    "headers",
    "placeholders",
];

/// A route's section of the page.
struct Section {
    /// The answers that it shows.
    shown: Vec<Value>,
    /// The members that its text tells of, in backquotes.
    told: BTreeSet<String>,
}

impl Section {
    fn of(heading: &str) -> Self {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md"))
            .expect("the page is there");
        let (_, behind) = page
            .split_once(&format!("### {heading}\n"))
            .unwrap_or_else(|| panic!("the page has no section {heading}"));
        let section = behind.split("\n#").next().expect("there is a first part");
        let mut parts = section.split("```");
        let mut text = parts.next().unwrap_or_default().to_owned();
        let mut shown = Vec::new();
        while let (Some(block), Some(behind)) = (parts.next(), parts.next()) {
            if let Some(block) = block.strip_prefix("json\n") {
                shown.push(example(block, heading));
            }
            text.push_str(behind);
        }
        // Inline examples tell of their members, too.
        let quoted = text.split('`').skip(1).step_by(2);
        let words = quoted.flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        let told = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Self { shown, told }
    }
}

/// An example as JSON.
fn example(block: &str, heading: &str) -> Value {
    let text = block
        .replace("{…}", "{\"…\":0}")
        .replace("[…]", "[\"…\"]")
        .replace(",…}", ",\"…\":0}")
        .replace(":…", ":\"…\"");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{heading}: {error} in {text}"))
}

/// What is wrong with an answer.
fn differences(shown: &Value, answer: &Value, told: &BTreeSet<String>, at: &str) -> Vec<String> {
    match (shown, answer) {
        (Value::String(any), _) if any == ANY => Vec::new(),
        // What may be null is shown so somewhere; what is shown as null may be there.
        (Value::Null, _) | (_, Value::Null) => Vec::new(),
        (Value::Object(shown), Value::Object(answer)) => of_members(shown, answer, told, at),
        (Value::Array(shown), Value::Array(answer)) => {
            let rows = answer.iter().enumerate();
            rows.flat_map(|(number, row)| {
                let at = format!("{at}[{number}]");
                let against = shown.iter().map(|shown| differences(shown, row, told, &at));
                // Rows may be of several kinds; the nearest one tells what is wrong.
                against.min_by_key(Vec::len).unwrap_or_default()
            })
            .collect()
        }
        (Value::Number(_), Value::Number(_))
        | (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_)) => Vec::new(),
        _ => vec![format!("{at} is shown as {shown} and is {answer}")],
    }
}

fn of_members(
    shown: &Map<String, Value>,
    answer: &Map<String, Value>,
    told: &BTreeSet<String>,
    at: &str,
) -> Vec<String> {
    if MAPS.iter().any(|map| at.ends_with(map)) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for (name, value) in shown.iter().filter(|(name, _)| *name != ANY) {
        match answer.get(name) {
            Some(answer) => wrong.extend(differences(value, answer, told, &format!("{at}.{name}"))),
            None => wrong.push(format!("{at}.{name} is missing")),
        }
    }
    if !shown.contains_key(ANY) {
        let extra = answer
            .keys()
            .filter(|name| !shown.contains_key(*name) && !told.contains(*name));
        wrong.extend(extra.map(|name| format!("{at}.{name} is not documented")));
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_the_page_shows_them() {
    let (hub, _client, _server) = dissected().await;
    let ask = &hub.client;
    let calls = ask.get("/mcp/calls?db=incident&kfl=error").await;
    let id = calls["calls"][0]["id"].as_str().expect("an id").to_owned();
    let stats = "/mcp/stats?db=incident&group_by=dst,endpoint&bucket=auto&limit=1";
    let failing = format!(
        "/mcp/calls?db=incident&limit=2&kfl={}",
        encoded("response.status == 503")
    );
    let sql = format!(
        "/mcp/sql?db=incident&sql={}",
        encoded("SELECT status, count(*) AS n FROM calls GROUP BY status")
    );
    let connections = format!("/mcp/calls?db=incident&limit=1&kfl={}", encoded("tcp_conn"));
    let mut wrong = Vec::new();
    for (heading, number, path, missing) in [
        ("GET /mcp/raw-capture", 0, "/mcp/raw-capture", &[][..]),
        // The answer is of nodes that answer.
        (
            "GET /mcp/data-boundaries",
            0,
            "/mcp/data-boundaries",
            &["losses", "error"],
        ),
        ("GET /mcp/snapshots", 0, "/mcp/snapshots", &["losses"]),
        (
            "GET /mcp/snapshots/:snapshot",
            0,
            "/mcp/snapshots/incident",
            &["losses", "error"],
        ),
        ("GET /mcp/dissections[?snapshot=]", 0, "/mcp/dissections", &[]),
        (
            "GET /mcp/dissections/:snapshot/:name",
            0,
            "/mcp/dissections/incident/calls",
            &[],
        ),
        ("GET /mcp/databases", 0, "/mcp/databases", &[]),
        (
            "GET /mcp/calls",
            0,
            &failing,
            &["pod", "ns", "svc", "node", "losses", "lost_packets"],
        ),
        ("GET /mcp/calls", 1, &connections, &["pod", "ns", "svc", "node"]),
        (
            "GET /mcp/flows",
            0,
            "/mcp/flows?db=incident&limit=1",
            &["pod", "ns", "svc", "node"],
        ),
        ("GET /mcp/flows/summary", 0, "/mcp/flows/summary?db=incident", &[]),
        ("GET, POST /mcp/stats", 0, stats, &["examples", "placeholders"]),
        ("GET /mcp/events", 0, "/mcp/events?db=incident", &[]),
        (
            "GET, POST /mcp/timeline",
            0,
            "/mcp/timeline?db=incident",
            &["until_ts", "before", "after"],
        ),
        ("GET, POST /mcp/sql", 0, &sql, &[]),
        ("GET /whoami", 0, "/whoami", &[]),
        ("GET /license", 0, "/license", &[]),
        ("GET /settings", 0, "/settings", &[]),
        (
            "GET /pods/target, POST /pods/target/:how",
            0,
            "/pods/target",
            &["not_recorded"],
        ),
        ("GET /echo", 0, "/echo", &[]),
    ] {
        let section = Section::of(heading);
        let shown = section
            .shown
            .get(number)
            .unwrap_or_else(|| panic!("{heading} shows no answer {number}"));
        // The second example of calls is a row of its answer.
        let answer = ask.get(path).await;
        let answer = if number == 0 { &answer } else { &answer["calls"][0] };
        let may_miss = |wrong: &String| {
            missing
                .iter()
                .any(|name| wrong.ends_with(&format!(".{name} is missing")))
        };
        let found = differences(shown, answer, &section.told, "");
        wrong.extend(
            found
                .into_iter()
                .filter(|wrong| !may_miss(wrong))
                .map(|wrong| format!("{heading}: {wrong}")),
        );
    }
    let details = ask
        .post(
            "/mcp/tools/get_api_call_details",
            json!({ "id": id, "db": "incident" }),
        )
        .await;
    let section = Section::of("POST /mcp/tools/get_api_call_details");
    wrong.extend(differences(&section.shown[0], &details, &section.told, "details"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checker_finds_what_is_missing_more_or_of_another_type() {
    let shown = json!({ "a": 1, "b": [{ "c": "x" }, { "d": true }], "outcomes": { "ok": 1 } });
    let told = BTreeSet::from(["e".to_owned()]);
    let good = json!({ "a": 2, "b": [{ "d": false }, { "c": "y" }], "outcomes": { "timeout": 3 }, "e": 1 });
    assert_eq!(differences(&shown, &good, &told, ""), Vec::<String>::new());
    let bad = json!({ "a": "2", "b": [{ "c": "y", "f": 1 }] });
    assert_eq!(
        differences(&shown, &bad, &told, ""),
        [
            ".a is shown as 1 and is \"2\"",
            ".b[0].f is not documented",
            ".outcomes is missing",
        ]
    );
}
