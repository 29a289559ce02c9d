//! What recorders have lost, told with the answers that it touches, and nowhere else.

use serde_json::{Value, json};
use wiretape_tape::Nanos;

use super::millis;
use crate::dissections::Summary;
use crate::losses::{self, Lost, Stage};

/// Most entries in an answer: those with most packets stand for the others, and `lost_packets` counts all.
const FEW: usize = 6;
/// Most entries where the question is what was lost.
const MANY: usize = 32;

/// Of a time of a dissection (without one, of all of it): how many packets are missing, where and when.
pub(super) fn tell(summary: &Summary, (start, end): (Option<Nanos>, Option<Nanos>), answer: &mut Value) {
    let touches = |lost: &&Lost| lost.touches(start, end);
    let all: Vec<Lost> = summary.losses.iter().filter(touches).cloned().collect();
    // Dissections that are older than the list have only the number.
    let packets = match summary.losses.as_slice() {
        [] => summary.lost_packets,
        _ => losses::lost(&all),
    };
    if packets > 0 {
        answer["lost_packets"] = json!(packets);
    }
    if !all.is_empty() {
        answer["losses"] = json!(few(&all));
    }
}

/// Of one call: what the nodes that saw it lost while it was under way.
pub(super) fn tell_call(summary: &Summary, answer: &mut Value) {
    let call = answer.get("entry").unwrap_or(answer);
    let Some(begun) = call["ts"].as_u64() else { return };
    let took = call["latency_ms"].as_f64().unwrap_or_default();
    let node = call["id"].as_str().and_then(|id| id.rsplitn(3, '/').nth(2));
    let nodes = [node, call["src"]["node"].as_str(), call["dst"]["node"].as_str()];
    let nanos = |ms: u64| ms.saturating_mul(1_000_000);
    let (start, end) = (nanos(begun), nanos(begun.saturating_add(took.ceil() as u64 + 1)));
    let touches =
        |lost: &&Lost| nodes.contains(&Some(lost.node.as_str())) && lost.touches(Some(start), Some(end));
    let all: Vec<Lost> = summary.losses.iter().filter(touches).cloned().collect();
    if !all.is_empty() {
        answer["losses"] = json!(few(&all));
    }
}

/// The gist of it, in few tokens, by time.
pub(in crate::api) fn few(all: &[Lost]) -> Vec<Value> {
    shown(all, FEW)
}

/// All of it, as far as somebody reads that.
pub(super) fn many(all: &[Lost]) -> Vec<Value> {
    shown(all, MANY)
}

fn shown(all: &[Lost], most: usize) -> Vec<Value> {
    let mut all = losses::merged(all.to_vec(), most);
    // More nodes and stages than that.
    all.sort_by_key(|lost| std::cmp::Reverse(lost.packets));
    all.truncate(most);
    all.sort_by_key(|lost| lost.since);
    all.iter().map(one).collect()
}

fn one(lost: &Lost) -> Value {
    let mut told = json!({ "stage": lost.stage, "packets": lost.packets });
    if !lost.node.is_empty() {
        told["node"] = json!(lost.node);
    }
    if lost.since > 0 {
        told["start_ts"] = json!(millis(lost.since));
    }
    if lost.until < Nanos::MAX {
        told["end_ts"] = json!(millis(lost.until));
    }
    told
}

/// What a stage means for the reader of an answer, and what to do about it.
pub(super) fn advice(stage: Stage) -> &'static str {
    match stage {
        Stage::BufferFull => "more came than the recorder could take: give the agent a larger --buffer-size",
        Stage::Unreadable => "the kernel could not read them",
        Stage::DiskFull => "its disk was full",
        Stage::WriteError => "its disk failed: see the agent's log",
        Stage::Vanished => "someone else deleted or changed files of its tape",
        Stage::Unknown => "at which stage is not known: an agent that was killed cannot tell",
        Stage::CutShort => "recorded without their ends",
    }
}
