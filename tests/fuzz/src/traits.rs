//! What sets outcomes apart: how much of the dissector the cases have been through, as far as it can be told from outside.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use wiretape_dissect::testing::Dissected;

/// Traits of the outcomes so far.
#[derive(Default)]
pub struct Traits {
    known: HashSet<u64>,
    /// The last case that had one which none before it had.
    newest: u64,
}

impl Traits {
    /// Adds those of a case: each counter with its order of magnitude, each set of marks and fields that a call has.
    pub fn add(&mut self, dissected: &Dissected, case: u64) {
        let before = self.known.len();
        for (name, count) in dissected.counters.iter().filter(|(_, count)| *count > 0) {
            self.note((name, count.ilog2()));
        }
        for call in &dissected.calls {
            let fields: Vec<_> = call.fields.iter().map(|(name, _)| *name).collect();
            self.note((call.protocol, call.version, call.marks.0, call.outcome.as_str(), fields));
        }
        if self.known.len() > before {
            self.newest = case;
        }
    }

    fn note(&mut self, one: impl Hash) {
        let mut hasher = DefaultHasher::new();
        one.hash(&mut hasher);
        self.known.insert(hasher.finish());
    }
}

impl fmt::Display for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} traits, the newest in case {}", self.known.len(), self.newest)
    }
}
