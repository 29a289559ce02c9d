//! Requests that are sent again.

use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use wiretape_tape::Nanos;

use super::facts::{Fact, Facts};

/// Attempts that make a burst.
pub(super) const BURST: usize = 3;

/// Bursts that an answer shows.
const SHOWN: usize = 10;

/// Attempts of a burst whose ids an answer shows.
const IDS: usize = 5;

/// A request and its retries, by their places among the facts.
struct Chain {
    attempts: Vec<usize>,
}

/// Finds the chains of attempts in which each follows the one before within some time.
///
/// The same client asks the same server for the same (method, path, query and length of body). Where the requests carry
/// an idempotency key it must be the same, and the time counts from request to request; otherwise the earlier attempt
/// must have failed, and the time counts from its end: only then is another request alike more than that.
fn chains(facts: &Facts, within: Nanos) -> Vec<Chain> {
    let mut open = FxHashMap::<_, Chain>::default();
    let mut closed = Vec::new();
    for (at, fact) in facts.all.iter().enumerate() {
        let key = (fact.client, fact.dst, fact.asked, fact.idempotency);
        let chain = open.entry(key).or_insert_with(|| Chain { attempts: Vec::new() });
        let last = chain.attempts.last().and_then(|last| facts.all.get(*last));
        if !last.is_some_and(|last| is_retry(last, fact, within)) {
            let attempts = std::mem::take(&mut chain.attempts);
            if attempts.len() > 1 {
                closed.push(Chain { attempts });
            }
        }
        chain.attempts.push(at);
    }
    closed.extend(open.into_values().filter(|chain| chain.attempts.len() > 1));
    closed.sort_by_key(|chain| chain.attempts.first().copied());
    closed
}

fn is_retry(before: &Fact, fact: &Fact, within: Nanos) -> bool {
    let after_failure = before.failed() && fact.ts >= before.end() && fact.ts - before.end() <= within;
    let sent_again = fact.idempotency.is_some() && fact.ts.saturating_sub(before.ts) <= within;
    after_failure || sent_again
}

/// Retries by who sends them to whom, and the longest bursts.
pub(super) fn found(facts: &Facts, within: Nanos) -> Value {
    let chains = chains(facts, within);
    let word = |number: u32| facts.words.text(number);
    let fact = |chain: &Chain, at: usize| chain.attempts.get(at).and_then(|at| facts.all.get(*at)).copied();
    let mut peers = std::collections::BTreeMap::<(&str, &str, &str), (u64, u64)>::new();
    let mut bursts = Vec::new();
    let mut retries = 0;
    for chain in &chains {
        let Some(first) = fact(chain, 0) else { continue };
        let more = chain.attempts.len() as u64 - 1;
        retries += more;
        let key = (word(first.src), word(first.dst), word(first.endpoint));
        let (all, storms) = peers.entry(key).or_default();
        *all += more;
        if chain.attempts.len() >= BURST {
            *storms += 1;
            bursts.push(chain);
        }
    }
    let mut by_peers: Vec<_> = peers.into_iter().collect();
    by_peers.sort_by_key(|(key, (all, _))| (std::cmp::Reverse(*all), *key));
    let by_peers: Vec<Value> = by_peers
        .into_iter()
        .take(SHOWN)
        .map(|((src, dst, endpoint), (retries, bursts))| {
            json!({ "src": src, "dst": dst, "endpoint": endpoint, "retries": retries, "bursts": bursts })
        })
        .collect();
    let count = bursts.len();
    bursts.sort_by_key(|chain| std::cmp::Reverse(chain.attempts.len()));
    let shown: Vec<Value> = bursts
        .into_iter()
        .take(SHOWN)
        .filter_map(|chain| {
            let first = fact(chain, 0)?;
            let last = fact(chain, chain.attempts.len() - 1)?;
            let ids = chain.attempts.iter().filter_map(|at| facts.all.get(*at));
            let ids: Vec<String> = ids.take(IDS).map(|fact| facts.id(fact)).collect();
            Some(json!({
                "ts": first.ts / 1_000_000,
                "src": word(first.src),
                "dst": word(first.dst),
                "endpoint": word(first.endpoint),
                "attempts": chain.attempts.len(),
                "span_ms": (last.ts - first.ts) as f64 / 1e6,
                "calls": ids,
            }))
        })
        .collect();
    json!({
        "within_ms": within / 1_000_000,
        "retries": retries,
        "retried_requests": chains.len(),
        "bursts": count,
        "by_peers": by_peers,
        "longest_bursts": shown,
    })
}
