//! One line for a person who looks over an assistant's shoulder.

use serde_json::Value;

use super::Tool;

/// What an answer says, in short.
pub(in crate::api) fn say(tool: &Tool, answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let mut said: Vec<String> = Vec::new();
    if let Some(explanation) = text("explanation") {
        said.push(explanation.to_owned());
    } else if let Some(rows) = answer.get(tool.rows).and_then(Value::as_array) {
        let shown = rows.len();
        let what = tool.rows.replace('_', " ");
        said.push(match number("total") {
            Some(total) if total != shown as u64 => format!("{shown} of {total} {what}"),
            _ => format!("{shown} {what}"),
        });
    }
    if let Some(count) = answer.pointer("/total/count").and_then(Value::as_u64) {
        let errors = answer.pointer("/total/errors").and_then(Value::as_u64);
        said.push(format!("{count} calls, {} failed", errors.unwrap_or_default()));
    }
    // A call, alone or with its bodies.
    let call = answer.get("entry").unwrap_or(answer);
    if let Some(protocol) = call.get("proto").and_then(Value::as_str) {
        let of = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
        let status = call.get("status").map(|status| format!(" -> {status}"));
        said.push(format!(
            "{protocol} {} {}{}",
            of("method"),
            of("path"),
            status.unwrap_or_default()
        ));
        return format!("{}: {}", tool.title, said.join("; "));
    }
    if let Some(status) = text("status") {
        let name = text("name").map(|name| format!("{name}: ")).unwrap_or_default();
        let progress = number("progress").map(|percent| format!(" ({percent} %)"));
        said.push(format!("{name}{status}{}", progress.unwrap_or_default()));
    }
    for member in ["summary", "path", "filter", "next"] {
        said.extend(text(member).map(str::to_owned));
    }
    // Of the time that was asked about; of all of it where there is no asking about less.
    let whole = answer
        .get("coverage")
        .filter(|coverage| coverage.get("losses").is_some());
    let lost = number("lost_packets").or_else(|| whole?.get("lost_packets")?.as_u64());
    if let Some(lost) = lost.filter(|lost| *lost > 0) {
        said.push(format!("the recorders lost {lost} packets in this window"));
    }
    if answer.pointer("/coverage/recorded").is_some() {
        said.push("not everything was recorded, see coverage".to_owned());
    }
    if let Some(progress) = answer.pointer("/dissected/progress").and_then(Value::as_u64) {
        said.push(format!(
            "of a dissection that is at {progress} %: ask again for the rest"
        ));
    }
    if said.is_empty() {
        return format!("{}: done", tool.title);
    }
    format!("{}: {}", tool.title, said.join("; "))
}
