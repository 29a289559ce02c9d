//! The objects and their history: one counter of versions for all, as in etcd.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::kinds::{Asked, KINDS, Kind, NEW_EVENTS};
use crate::selector::Selector;

/// Changes that are remembered; etcd keeps those of five minutes, and no test makes more.
const MAX_HISTORY: usize = 100_000;

/// Lists whose later pages may still be asked for.
const MAX_PAGED: usize = 64;

/// All objects as they are, and how they came to be so.
#[derive(Debug)]
pub struct Store {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    /// By the version at which they were made and a number.
    paged: BTreeMap<(u64, u64), Vec<Arc<Value>>>,
    lists: u64,
    uids: u64,
}

type Key = (&'static str, &'static str, String, String);

#[derive(Clone, Debug)]
struct Change {
    version: u64,
    key: Key,
    /// As it was; `None` when it came into being.
    before: Option<Arc<Value>>,
    /// As it is; as it was last when it was deleted.
    after: Arc<Value>,
    deleted: bool,
}

/// What a watch sends.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub what: &'static str,
    /// The object.
    pub object: Value,
    /// The version of the change.
    pub version: u64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The version that the list shows.
    pub version: u64,
    /// Its objects.
    pub items: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
    /// Objects that stand on later pages.
    pub remaining: usize,
}

/// The version that was asked for is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Default for Store {
    fn default() -> Self {
        Self {
            // No cluster is so young that it begins at 0, which means "any" to those who ask.
            version: 1000,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            compacted: 0,
            paged: BTreeMap::new(),
            lists: 0,
            uids: 0,
        }
    }
}

impl Store {
    /// The version reached.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Puts an object in, with a version, and a uid if it brings none.
    ///
    /// # Errors
    /// When it is of no kind that is served, or has no name.
    pub fn put(&mut self, mut object: Value) -> Result<u64> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").context("an object has an apiVersion")?;
        let kind = text("/kind").context("an object has a kind")?;
        let kind = KINDS
            .iter()
            .find(|served| served.kind == kind && served.api_version == api_version)
            .with_context(|| format!("{api_version} {kind} is not served"))?;
        let name = text("/metadata/name").context("an object has a name")?;
        let namespace = text("/metadata/namespace").unwrap_or_default();
        let key = (kind.kind, kind.stored_as, namespace, name);
        let before = self.objects.get(&key).cloned();
        self.version += 1;
        self.uids += 1;
        let known_uid = before
            .as_ref()
            .and_then(|before| before.pointer("/metadata/uid").cloned());
        let made_up = format!("00000000-0000-4000-8000-{:012x}", self.uids);
        let metadata = object
            .pointer_mut("/metadata")
            .and_then(Value::as_object_mut)
            .context("metadata is an object")?;
        metadata.insert("resourceVersion".to_owned(), self.version.to_string().into());
        metadata
            .entry("uid")
            .or_insert_with(|| known_uid.unwrap_or_else(|| made_up.into()));
        let after = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&after));
        self.remember(key, before, after, false);
        Ok(self.version)
    }

    /// Takes an object out.
    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) -> bool {
        let Some(key) = self.key(kind, namespace, name) else {
            return false;
        };
        let Some(before) = self.objects.remove(&key) else {
            return false;
        };
        self.version += 1;
        let mut last = before.as_ref().clone();
        if let Some(version) = last.pointer_mut("/metadata/resourceVersion") {
            *version = self.version.to_string().into();
        }
        self.remember(key, Some(before), Arc::new(last), true);
        true
    }

    /// An object as it is.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = self.key(kind, namespace, name)?;
        Some(self.objects.get(&key)?.as_ref().clone())
    }

    /// How many there are of a kind.
    pub fn count(&self, kind: &str) -> usize {
        self.objects.keys().filter(|(of, ..)| *of == kind).count()
    }

    /// Forgets the history, and pages not yet asked for.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
        self.paged.clear();
    }

    /// A page of at most `limit` objects: the first, or the one that `from` of the page before names.
    ///
    /// # Errors
    /// When the list that it belongs to is forgotten.
    pub fn list(
        &mut self,
        asked: &Asked<'_>,
        selector: &Selector,
        limit: usize,
        from: Option<&str>,
    ) -> Result<Page, Gone> {
        let (version, number, skip) = match from {
            None => (self.version, 0, 0),
            Some(from) => token(from).ok_or(Gone)?,
        };
        let list = match from {
            Some(_) => self.paged.get(&(version, number)).ok_or(Gone)?.clone(),
            None => self
                .objects
                .iter()
                .filter(|(key, object)| is_of(key, asked) && selector.fits(object))
                .map(|(_, object)| Arc::clone(object))
                .collect(),
        };
        let items: Vec<Value> = list
            .iter()
            .skip(skip)
            .take(limit)
            .map(|object| shaped(object, asked.kind))
            .collect();
        let reached = skip + items.len();
        let remaining = list.len() - reached.min(list.len());
        let next = (remaining > 0).then(|| {
            let number = if from.is_some() {
                number
            } else {
                self.keep(version, list)
            };
            format!("{version}.{number}.{reached}")
        });
        Ok(Page {
            version,
            items,
            next,
            remaining,
        })
    }

    /// What has changed since `version` for one who watches this.
    ///
    /// # Errors
    /// When that is not remembered any more.
    pub fn since(&self, version: u64, asked: &Asked<'_>, selector: &Selector) -> Result<Vec<News>, Gone> {
        if version < self.compacted {
            return Err(Gone);
        }
        let begin = self.history.partition_point(|change| change.version <= version);
        let changes = self.history.iter().skip(begin);
        Ok(changes
            .filter(|change| is_of(&change.key, asked))
            .filter_map(|change| {
                let was = change.before.as_ref().is_some_and(|before| selector.fits(before));
                let is = !change.deleted && selector.fits(&change.after);
                let what = match (was, is) {
                    (false, true) => "ADDED",
                    (true, true) => "MODIFIED",
                    // It is gone, or no more what was asked for.
                    (true, false) => "DELETED",
                    (false, false) => return None,
                };
                Some(News {
                    what,
                    object: shaped(&change.after, asked.kind),
                    version: change.version,
                })
            })
            .collect())
    }

    /// Holds a list for its later pages.
    fn keep(&mut self, version: u64, list: Vec<Arc<Value>>) -> u64 {
        self.lists += 1;
        self.paged.insert((version, self.lists), list);
        if self.paged.len() > MAX_PAGED {
            self.paged.pop_first();
        }
        self.lists
    }

    fn remember(&mut self, key: Key, before: Option<Arc<Value>>, after: Arc<Value>, deleted: bool) {
        self.history.push_back(Change {
            version: self.version,
            key,
            before,
            after,
            deleted,
        });
        if self.history.len() > MAX_HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.version;
        }
    }

    fn key(&self, kind: &str, namespace: &str, name: &str) -> Option<Key> {
        let kind = KINDS.iter().find(|served| served.kind == kind)?;
        Some((kind.kind, kind.stored_as, namespace.to_owned(), name.to_owned()))
    }
}

fn is_of((kind, api, namespace, name): &Key, asked: &Asked<'_>) -> bool {
    *kind == asked.kind.kind
        && *api == asked.kind.stored_as
        && asked.namespace.is_none_or(|wanted| wanted == namespace)
        && asked.name.is_none_or(|wanted| wanted == name)
}

fn token(text: &str) -> Option<(u64, u64, usize)> {
    let mut parts = text.split('.');
    let token = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(token)
}

/// An event of the core group as the newer group shows it; all else as it is.
fn shaped(object: &Value, kind: &Kind) -> Value {
    let mut object = object.clone();
    if kind.api_version != NEW_EVENTS {
        return object;
    }
    if let Some(event) = object.as_object_mut() {
        event.insert("apiVersion".to_owned(), NEW_EVENTS.into());
        for (old, new) in [
            ("involvedObject", "regarding"),
            ("message", "note"),
            ("source", "deprecatedSource"),
            ("firstTimestamp", "deprecatedFirstTimestamp"),
            ("lastTimestamp", "deprecatedLastTimestamp"),
            ("count", "deprecatedCount"),
            ("reportingComponent", "reportingController"),
        ] {
            if let Some(value) = event.remove(old) {
                event.insert(new.to_owned(), value);
            }
        }
    }
    object
}
