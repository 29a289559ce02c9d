//! What an argument of a prompt, or a part of a resource's address, may go on with.

use std::collections::BTreeSet;

use rmcp::model::CompletionInfo;
use serde_json::{Value, json};
use wiretape_kfl::{FIELDS, LATENCY_IN_MS, MACROS};

use super::Backend;
use crate::api::tools::MAX_BYTES;

/// Values that begin with what is written, or failing that, have it in them.
pub(super) async fn values(backend: &Backend, argument: &str, written: &str) -> CompletionInfo {
    if argument == "kfl" {
        return chosen(kfl(written));
    }
    // What cannot be asked now is not completed; the prompt itself says why.
    let all = match argument {
        "snapshot" | "snapshot_id" | "baseline" => {
            texts(backend, "list_snapshots", "/snapshots", &["name"]).await
        }
        "dissection" => texts(backend, "list_snapshot_dissections", "/dissections", &["name"]).await,
        "db" => texts(backend, "list_databases", "/databases", &["db"]).await,
        "workload" | "client" | "server" => workloads(backend).await,
        "window" => ["5m", "15m", "1h"].map(str::to_owned).into(),
        _ => BTreeSet::new(),
    };
    let begins: Vec<String> = all
        .iter()
        .filter(|value| value.starts_with(written))
        .cloned()
        .collect();
    let within = || {
        all.iter()
            .filter(|value| value.contains(written))
            .cloned()
            .collect()
    };
    chosen(if begins.is_empty() { within() } else { begins })
}

/// As many as an answer may hold.
fn chosen(mut values: Vec<String>) -> CompletionInfo {
    let total = values.len();
    values.truncate(CompletionInfo::MAX_VALUES);
    let more = total > values.len();
    CompletionInfo::with_pagination(values, u32::try_from(total).ok(), more).unwrap_or_default()
}

/// The last word of a filter, completed to the names of fields and macros.
fn kfl(written: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '.' || c == '_';
    let begin = written.rfind(|c| !word(c)).map_or(0, |at| {
        at + written
            .get(at..)
            .and_then(|rest| rest.chars().next())
            .map_or(0, char::len_utf8)
    });
    let (before, last) = written.split_at(begin);
    let fields = FIELDS
        .iter()
        .flat_map(|info| [info.name].into_iter().chain(info.aliases.iter().copied()));
    let names: BTreeSet<&str> = fields
        .chain(LATENCY_IN_MS.iter().copied())
        .chain(MACROS.iter().map(|known| known.name))
        .collect();
    let fitting = names.into_iter().filter(|name| name.starts_with(last));
    fitting.map(|name| format!("{before}{name}")).collect()
}

/// Pods and services that recorded addresses belong to.
async fn workloads(backend: &Backend) -> BTreeSet<String> {
    texts(backend, "list_workloads", "/workloads", &["name"]).await
}

async fn texts(backend: &Backend, tool: &str, rows: &str, members: &[&str]) -> BTreeSet<String> {
    let answer = backend.ask(tool, json!({ "max_bytes": MAX_BYTES })).await;
    let answer = answer.unwrap_or_default();
    let rows = answer.pointer(rows).and_then(Value::as_array);
    rows.into_iter()
        .flatten()
        .flat_map(|row| members.iter().filter_map(|member| row.get(*member)?.as_str()))
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_filter_is_completed() {
        let found = kfl("http and response.sta");
        assert!(
            found.contains(&"http and response.status".to_owned()),
            "{found:?}"
        );
        assert!(kfl("").len() > 50);
        assert!(kfl("nonsense_").is_empty());
        assert!(kfl("é sr").iter().any(|found| found == "é src.pod"));
    }
}
