//! The hub's calls, held against the shop's truth.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;
use wiretape_shop::truth::Truth;

use crate::call::Call;
use crate::workload::role_at;

/// What every request of the shop is named by.
const REQUEST_ID: &str = "x-request-id";
/// Most contradictions that are listed; all are counted.
const LISTED: usize = 20;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Held {
    /// Calls that the shop made.
    pub made: usize,
    /// Of these, calls that the hub has.
    pub found: usize,
    /// Calls of the shop that the hub does not have, by their request ids.
    pub missing: Vec<String>,
    /// Calls that the hub has once more.
    pub twice: Vec<String>,
    /// Calls of the hub that the shop did not make so: another end, method, path or status, or the answer to another
    /// request, or only half of it. A call that bears no request id at all is here by its own id.
    pub wrong: Vec<String>,
    /// The first contradictions, in words.
    pub contradictions: Vec<String>,
}

impl Held {
    /// Holds calls against the truth.
    pub fn new(calls: &[Call], truth: &Truth) -> Self {
        let mut held = Self {
            made: truth.calls.len(),
            ..Self::default()
        };
        let mut seen = HashSet::new();
        for call in calls {
            let asked = call.req_headers.get(REQUEST_ID);
            let Some(id) = asked.or_else(|| call.resp_headers.get(REQUEST_ID)) else {
                held.wrong.push(call.id.clone());
                held.contradict(format!("{} has no request id: {call:?}", call.id));
                continue;
            };
            if !seen.insert(id.as_str()) {
                held.twice.push(id.clone());
                held.contradict(format!("{} is request {id} once more", call.id));
                continue;
            }
            match wrong(call, id, truth) {
                Some(why) => {
                    held.wrong.push(id.clone());
                    held.contradict(format!("{} (request {id}): {why}", call.id));
                }
                None => held.found += 1,
            }
        }
        for id in truth.calls.keys().filter(|id| !seen.contains(id.as_str())) {
            held.missing.push(id.clone());
            held.contradict(format!("request {id} is missing: {:?}", truth.calls.get(id)));
        }
        held
    }

    /// Whether the two agree in everything.
    pub fn agrees(&self) -> bool {
        self.found == self.made && self.missing.len() + self.twice.len() + self.wrong.len() == 0
    }

    fn contradict(&mut self, what: String) {
        if self.contradictions.len() < LISTED {
            self.contradictions.push(what);
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            made,
            found,
            missing,
            twice,
            wrong,
            contradictions,
        } = self;
        let (missing, twice, wrong) = (missing.len(), twice.len(), wrong.len());
        write!(
            f,
            "{made} calls made, {found} found, {missing} missing, {twice} twice, {wrong} wrong"
        )?;
        for contradiction in contradictions {
            write!(f, "\n  {contradiction}")?;
        }
        Ok(())
    }
}

/// Why a call is not what the shop did under this id, if it is not.
fn wrong(call: &Call, id: &str, truth: &Truth) -> Option<String> {
    let Some(made) = truth.calls.get(id) else {
        return Some("nobody sent it".to_owned());
    };
    let sent = &made.sent;
    if !call.req_headers.contains_key(REQUEST_ID) {
        return Some("it has no request".to_owned());
    }
    let ends = [(call.src.ip, &sent.client), (call.dst.ip, &sent.server)];
    if let Some((address, role)) = ends
        .into_iter()
        .find(|(address, role)| role_at(*address).map(|role| role.name()) != Some(role.as_str()))
    {
        return Some(format!("{address} is not {role}"));
    }
    if (&call.method, &call.path) != (&sent.method, &sent.path) {
        return Some(format!(
            "{} {} was {} {}",
            call.method, call.path, sent.method, sent.path
        ));
    }
    if !made.allows(call.status()) {
        return Some(format!(
            "status {:?}, but it was {:?}",
            call.status(),
            sent.status
        ));
    }
    let answered = call.resp_headers.get(REQUEST_ID);
    (call.status().is_some() && answered.map(String::as_str) != Some(id))
        .then(|| format!("it has the answer to {answered:?}"))
}
