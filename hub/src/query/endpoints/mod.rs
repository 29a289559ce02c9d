//! Endpoints: paths with their variable parts taken out, so that `/users/123` and `/users/456` are both `/users/{id}`.
//!
//! What a part is written like decides first ([`rules`]); where so many different texts stand in one place that they
//! must be values, the paths of the whole dissection decide ([`places`]). So the endpoint of a call is the same in
//! every question to a dissection, whatever its filter, and does not depend on the order in which calls are read.

mod rules;

mod places;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::record_batch::RecordBatch;
use rustc_hash::FxHashSet;
use serde_json::{Map, Value, json};

use super::scan::{self, Fold, texts};
use super::{Database, QueryError};
use places::{Full, Places};

/// More different texts than this in one place of a path are values of it, and not its endpoints' names.
pub const MAX_NAMES: usize = 100;

/// What [`MAX_NAMES`] becomes in turn where the paths have so many places that they do not fit into
/// [`places::MAX_PLACES`].
const FEWER_NAMES: [usize; 3] = [20, 4, 1];

/// Paths of each protocol, in each reading task, that are remembered, so as to look at each but once. All are forgotten when there are
/// more: looking twice changes nothing.
const REMEMBERED: usize = 1 << 16;

/// The places where this dissection's paths vary.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// By protocol: what one of them calls a path has nothing to do with another's.
    places: BTreeMap<String, Places>,
    /// How many names a place may have.
    names: usize,
}

impl Endpoints {
    /// Looks at the paths of all calls.
    pub(super) async fn learn(db: &Database) -> Result<Self, QueryError> {
        for names in [MAX_NAMES].into_iter().chain(FEWER_NAMES) {
            let learning = || Learning {
                names,
                protocols: BTreeMap::new(),
                full: false,
            };
            let learned = scan::fold(db, None, &["protocol", "path"], learning).await?;
            let mut all = learning();
            for part in learned {
                all.merge(part);
            }
            if !all.full {
                let places = all.protocols.into_iter();
                return Ok(Self {
                    places: places.map(|(protocol, (places, _))| (protocol, places)).collect(),
                    names,
                });
            }
        }
        Err(QueryError::BadRequest(format!(
            "the paths of these calls have more than {} places, too many to tell endpoints from them; group by \
             something else",
            places::MAX_PLACES
        )))
    }

    /// The endpoint of a path.
    pub(super) fn of(&self, protocol: &str, path: &str) -> String {
        let parts = rules::parts(path);
        match self.places.get(protocol) {
            Some(places) => places.name(&parts),
            None => parts.concat(),
        }
    }

    /// What the placeholders in these endpoints stand for.
    pub(super) fn legend<'a>(&self, endpoints: impl Iterator<Item = &'a str> + Clone) -> Value {
        let mut legend = Map::new();
        let told = rules::RULES
            .iter()
            .map(|rule| (rule.placeholder, Cow::Borrowed(rule.meaning)));
        let learned = (
            places::VALUE,
            Cow::Owned(format!(
                "one of more than {} different texts in this place",
                self.names
            )),
        );
        let rest = (
            rules::REST,
            Cow::Owned(format!("what follows the first {} parts", rules::MAX_PARTS)),
        );
        for (placeholder, meaning) in told.chain([learned, rest]) {
            if endpoints.clone().any(|endpoint| endpoint.contains(placeholder)) {
                legend.insert(placeholder.to_owned(), json!(meaning));
            }
        }
        Value::Object(legend)
    }
}

/// The places of the paths seen so far, and the paths that need no other look; by protocol.
struct Learning {
    names: usize,
    protocols: BTreeMap<String, (Places, FxHashSet<Box<str>>)>,
    full: bool,
}

/// Nothing of a protocol.
fn new(names: usize) -> (Places, FxHashSet<Box<str>>) {
    (Places::new(names), FxHashSet::default())
}

impl Learning {
    fn merge(&mut self, other: Self) {
        self.full |= other.full;
        for (protocol, (places, _)) in other.protocols {
            let (into, _) = self.protocols.entry(protocol).or_insert_with(|| new(self.names));
            self.full |= into.merge(places) == Err(Full);
        }
    }
}

impl Fold for Learning {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let (protocols, paths) = (texts(batch, "protocol")?, texts(batch, "path")?);
        for row in 0..batch.num_rows() {
            if self.full {
                return Ok(());
            }
            let (protocol, path) = (protocols.value(row), paths.value(row));
            // Looked up by the text that is there: an entry would want one of its own for every call.
            let (places, seen) = match self.protocols.get_mut(protocol) {
                Some(known) => known,
                None => self
                    .protocols
                    .entry(protocol.to_owned())
                    .or_insert_with(|| new(self.names)),
            };
            if seen.contains(path) {
                continue;
            }
            if seen.len() >= REMEMBERED {
                seen.clear();
            }
            seen.insert(path.into());
            self.full |= places.add(&rules::parts(path)) == Err(Full);
        }
        Ok(())
    }
}

/// The first two different paths of an endpoint, in the order of the alphabet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Examples(BTreeSet<Box<str>>);

/// Paths that an answer shows for an endpoint.
const EXAMPLES: usize = 2;

impl Examples {
    pub(super) fn add(&mut self, path: &str) {
        let later = self.0.last().is_some_and(|last| path >= last.as_ref());
        if self.0.len() >= EXAMPLES && later {
            return;
        }
        self.0.insert(path.into());
        if self.0.len() > EXAMPLES {
            self.0.pop_last();
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for path in &other.0 {
            self.add(path);
        }
    }

    pub(super) fn shown(&self) -> Value {
        self.0.iter().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests;
