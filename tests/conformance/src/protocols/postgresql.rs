//! PostgreSQL: statements, and what came of them.

use anyhow::Result;
use serde_json::Value;
use wiretape_dissect::Call;

use super::{DeepFlow, Protocol, field, of};
use crate::compare::Message;
use crate::deepflow::Line;
use crate::tshark::{Packet, text};

/// PostgreSQL.
pub const PROTOCOL: Protocol = Protocol {
    name: "postgresql",
    ours,
    tshark,
    deepflow: Some(DeepFlow {
        folder: "deepflow/postgre",
        ours: our_queries,
        theirs: deepflow,
    }),
};

/// Characters of a statement that are compared: we keep 2048 bytes.
const QUERY: usize = 1500;

fn ours(calls: &[Call]) -> Vec<Message> {
    let mut messages = our_queries(calls);
    for call in of(calls, "postgresql") {
        if let Some(name) = field(call, "postgresql_statement") {
            messages.push(Message::new("execute").with("statement", name));
        }
        let (tags, rows) = (field(call, "postgresql_command"), field(call, "postgresql_rows"));
        if let Some(tags) = tags {
            // Several statements in one text have their tags joined, and their rows added up.
            let one = !tags.contains(", ");
            for tag in tags.split(", ") {
                let rows = rows.clone().filter(|_| one && counts_rows(tag));
                messages.push(
                    Message::new("completion")
                        .with("tag", tag)
                        .with_some("rows", rows),
                );
            }
        }
        if let Some(code) = field(call, "postgresql_error_code") {
            let message = field(call, "postgresql_error_message").unwrap_or_default();
            messages.push(
                Message::new("error")
                    .with("code", code)
                    .with_known("message", message),
            );
        }
    }
    messages
}

fn our_queries(calls: &[Call]) -> Vec<Message> {
    let queries = of(calls, "postgresql").filter_map(|call| field(call, "postgresql_query"));
    queries
        .map(|query| Message::new("query").with("text", begin(&query)))
        .collect()
}

/// The begin of a statement, with space made single, without what is not ASCII: tshark does not show that.
fn begin(query: &str) -> String {
    let words = query.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(char::is_ascii).take(QUERY).collect()
}

/// Tags that end in a number of rows.
fn counts_rows(tag: &str) -> bool {
    [
        "SELECT", "INSERT", "UPDATE", "DELETE", "FETCH", "MOVE", "COPY", "MERGE",
    ]
    .contains(&tag)
}

fn tshark(packets: &[Packet]) -> Vec<Message> {
    let mut messages = Vec::new();
    for layer in packets.iter().flat_map(|packet| packet.layers("pgsql")) {
        let (kind, query) = (text(layer, "pgsql.type"), text(layer, "pgsql.query"));
        match kind {
            "Parse" | "Simple query" if !query.is_empty() => {
                messages.push(Message::new("query").with("text", begin(query)));
            }
            "Bind" if !text(layer, "pgsql.statement").is_empty() => {
                messages.push(Message::new("execute").with("statement", text(layer, "pgsql.statement")));
            }
            "Command completion" => messages.push(completion(text(layer, "pgsql.tag"))),
            "Error" => messages.push(
                Message::new("error")
                    .with("code", text(layer, "pgsql.code"))
                    .with_known("message", text(layer, "pgsql.message")),
            ),
            _ => {}
        }
    }
    messages
}

/// `INSERT 0 5` and `SELECT 3`: the name, and the number at the end.
fn completion(tag: &str) -> Message {
    let name = tag.trim_end_matches(|char: char| char.is_ascii_digit() || char == ' ');
    let rows = tag
        .rsplit(' ')
        .next()
        .filter(|rows| counts_rows(name) && rows.parse::<u64>().is_ok());
    Message::new("completion")
        .with("tag", name)
        .with_some("rows", rows)
}

fn deepflow(lines: &[Line]) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for line in lines {
        let line = line.json()?;
        if let Some(query) = line.get("request_resource").and_then(Value::as_str) {
            messages.push(Message::new("query").with("text", begin(query)));
        }
    }
    Ok(messages)
}
