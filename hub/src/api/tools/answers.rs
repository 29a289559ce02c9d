//! Answers that were given already. A completed dissection never changes, so the same question of it has the same answer:
//! assistants ask again after every step back, and several of a team ask the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Answer, Tool};
use crate::api::operations::calls;
use crate::api::params::Params;
use crate::api::{ApiError, App};

/// Bytes of all kept answers, as JSON; in memory they take some four times as much. Three hundred answers of the usual
/// budget.
const MAX_BYTES: usize = 8 << 20;
/// Most kept answers, since the one used longest ago is looked for among all.
const MAX_ANSWERS: usize = 512;

/// Tools whose answers depend on nothing but their arguments and the dissection. Not SQL, which may ask for the time.
const PURE: [&str; 7] = [
    "list_api_calls",
    "get_api_call",
    "get_api_call_details",
    "get_api_stats",
    "get_timeline",
    "list_l4_flows",
    "get_l4_flow_summary",
];

/// What is kept.
#[derive(Debug, Default)]
pub(in crate::api) struct Answers {
    kept: Mutex<Kept>,
    /// Questions that were answered from it.
    pub(in crate::api) hits: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<String, Known>,
    bytes: usize,
    /// Counts uses, so that the one used longest ago can be told.
    uses: u64,
}

#[derive(Debug)]
struct Known {
    answer: Arc<Answer>,
    bytes: usize,
    used: u64,
}

/// What a question is known by: tool, dissection, all arguments, the budget. `None` where its answer may be another one
/// the next time.
pub(super) async fn key(
    app: &App,
    tool: &Tool,
    params: &mut Params,
    bytes: Option<usize>,
) -> Result<Option<String>, ApiError> {
    let timeless = params
        .peek("kfl")
        .is_none_or(|kfl| !kfl.to_string().contains("now"));
    if !PURE.contains(&tool.name) || !timeless || !params.has(calls::NAMES_DB) {
        return Ok(None);
    }
    let opened = calls::find(app, params).await?;
    let Some(identity) = opened.database.identity() else {
        return Ok(None);
    };
    Ok(opened.snapshot.is_some().then(|| {
        format!(
            "{} {identity:?} {} {bytes:?} {}",
            tool.name,
            opened.database.dir().display(),
            params.as_json()
        )
    }))
}

impl Answers {
    /// The answer to a question that was asked before.
    pub(super) fn get(&self, key: &str) -> Option<Arc<Answer>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let used = kept.uses;
        let answer = kept.answers.get_mut(key)?;
        answer.used = used;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&answer.answer))
    }

    /// Keeps an answer; those used longest ago go.
    pub(super) fn keep(&self, key: String, answer: &Answer) {
        let bytes = key.len() + answer.text.len();
        // One that would drive out most others is asked for once.
        if bytes > MAX_BYTES / 8 {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let answer = Known {
            answer: Arc::new(answer.clone()),
            bytes,
            used: kept.uses,
        };
        kept.bytes += bytes;
        if let Some(before) = kept.answers.insert(key, answer) {
            kept.bytes -= before.bytes;
        }
        while kept.bytes > MAX_BYTES || kept.answers.len() > MAX_ANSWERS {
            let oldest = kept.answers.iter().min_by_key(|(_, answer)| answer.used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            if let Some(gone) = kept.answers.remove(&key) {
                kept.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answer_used_longest_ago_goes_first() {
        let answers = Answers::default();
        let long = Answer::from(json!({ "calls": "x".repeat(MAX_BYTES / 9) }));
        for number in 0..8 {
            answers.keep(number.to_string(), &long);
        }
        assert!(answers.get("0").is_some());
        answers.keep("8".to_owned(), &long);
        assert!(answers.get("0").is_some() && answers.get("1").is_none() && answers.get("8").is_some());
        let kept = answers.kept.lock().expect("no test panics with it");
        assert!(kept.bytes <= MAX_BYTES && kept.answers.len() == 8);
    }

    #[test]
    fn no_more_answers_than_the_limit_and_none_that_is_too_long() {
        let answers = Answers::default();
        for number in 0..=MAX_ANSWERS {
            answers.keep(number.to_string(), &Answer::from(json!(null)));
        }
        assert!(answers.get("0").is_none() && answers.get("1").is_some());
        answers.keep("long".to_owned(), &Answer::from(json!("x".repeat(MAX_BYTES / 8))));
        assert!(answers.get("long").is_none());
    }
}
