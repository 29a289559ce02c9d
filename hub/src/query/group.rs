//! By what calls are put into groups.

use datafusion::arrow::record_batch::RecordBatch;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::endpoints::{Endpoints, Examples};
use super::scan::{self, Ints, texts};
use super::{Database, QueryError};

/// Most keys of one grouping.
pub const MAX_KEYS: usize = 4;

/// Endpoints of calls that each reading task remembers by method and path. All are forgotten when there are more.
const REMEMBERED: usize = 1 << 16;

/// A key that calls can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupKey(&'static Known);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: &'static str,
    /// Other names for it.
    also: &'static [&'static str],
    /// Its columns; the first that says something counts.
    columns: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Status,
    Endpoint,
}

const fn text(name: &'static str, also: &'static [&'static str], columns: &'static [&'static str]) -> Known {
    Known {
        name,
        also,
        columns,
        kind: Kind::Text,
    }
}

/// All of them. A name without a side is the server's.
const KEYS: &[Known] = &[
    Known {
        name: "endpoint",
        also: &[],
        columns: &["protocol", "method", "path"],
        kind: Kind::Endpoint,
    },
    text("src", &[], &["src_service", "src_pod", "src_ip"]),
    text("dst", &["peer"], &["dst_service", "dst_pod", "dst_ip"]),
    text("service", &["svc", "dst.service", "dst.svc"], &["dst_service"]),
    text("src.service", &["src.svc"], &["src_service"]),
    text("pod", &["dst.pod"], &["dst_pod"]),
    text("src.pod", &[], &["src_pod"]),
    text(
        "namespace",
        &["ns", "dst.namespace", "dst.ns"],
        &["dst_namespace"],
    ),
    text("src.namespace", &["src.ns"], &["src_namespace"]),
    text("owner", &["dst.owner"], &["dst_owner"]),
    text("src.owner", &[], &["src_owner"]),
    text("node", &["worker"], &["node"]),
    text("src.node", &[], &["src_node"]),
    text("dst.node", &[], &["dst_node"]),
    Known {
        name: "status",
        also: &[],
        columns: &["status"],
        kind: Kind::Status,
    },
    text("protocol", &["proto"], &["protocol"]),
    text("method", &[], &["method"]),
    text("outcome", &[], &["outcome"]),
];

/// Their names.
pub const GROUP_WORDS: [&str; KEYS.len()] = {
    let mut words = [""; KEYS.len()];
    let mut n = 0;
    while n < KEYS.len() {
        words[n] = KEYS[n].name;
        n += 1;
    }
    words
};

impl GroupKey {
    /// The key of that name.
    ///
    /// # Errors
    /// [`QueryError::BadRequest`] when there is none, with those there are.
    pub fn named(name: &str) -> Result<Self, QueryError> {
        let found = KEYS
            .iter()
            .find(|key| key.name == name || key.also.contains(&name));
        found.map(Self).ok_or_else(|| {
            let names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            QueryError::BadRequest(format!(
                "calls cannot be grouped by \"{}\"; they can by {}",
                crate::snapshots::shown(name),
                names.join(", ")
            ))
        })
    }

    /// Those of several names, each once.
    ///
    /// # Errors
    /// As [`GroupKey::named`], and for more than [`MAX_KEYS`].
    pub fn all_named(names: &[String]) -> Result<Vec<Self>, QueryError> {
        let mut keys = Vec::new();
        for name in names {
            let key = Self::named(name)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if keys.len() > MAX_KEYS {
            return Err(QueryError::BadRequest(format!(
                "calls cannot be grouped by {} keys at once; {MAX_KEYS} are the most",
                keys.len()
            )));
        }
        Ok(keys)
    }

    /// Its name in answers.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The columns it is made of.
    pub(super) fn columns(self) -> &'static [&'static str] {
        self.0.columns
    }

    /// Whether paths have to be learned for it.
    pub(super) fn is_endpoint(self) -> bool {
        self.0.kind == Kind::Endpoint
    }

    /// A value as answers show it.
    pub(super) fn shown(self, value: &str) -> Value {
        match self.0.kind {
            Kind::Status => value.parse::<i64>().map_or(Value::Null, |status| json!(status)),
            Kind::Text | Kind::Endpoint => json!(value),
        }
    }
}

/// Texts by number.
#[derive(Default)]
pub(super) struct Words {
    numbers: FxHashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
}

impl Words {
    /// The number of a text; the next one if it is new.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // A number for each text that is kept in memory: it is full long before they run out.
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text.into(), number);
        self.texts.push(text.into());
        number
    }

    /// The text of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        usize::try_from(number)
            .ok()
            .and_then(|at| self.texts.get(at))
            .map_or("", AsRef::as_ref)
    }
}

/// The values of one key in one reading task.
pub(super) struct Values {
    key: GroupKey,
    db: Database,
    pub(super) words: Words,
    /// Paths of each endpoint, by its number.
    pub(super) examples: Vec<Examples>,
    remembered: FxHashMap<Box<str>, u32>,
    /// Written over for each call.
    scratch: String,
}

impl Values {
    pub(super) fn new(db: &Database, key: GroupKey) -> Self {
        Self {
            key,
            db: db.clone(),
            words: Words::default(),
            examples: Vec::new(),
            remembered: FxHashMap::default(),
            scratch: String::new(),
        }
    }

    /// The number of each row's value, put into `numbers`.
    pub(super) fn take(&mut self, batch: &RecordBatch, numbers: &mut Vec<u32>) -> Result<(), QueryError> {
        numbers.clear();
        let columns = self.key.columns();
        if self.key.0.kind == Kind::Status {
            let statuses: Ints<'_> = scan::ints(batch, "status")?;
            for row in 0..batch.num_rows() {
                self.scratch.clear();
                if let Some(status) = statuses.get(row) {
                    self.scratch = status.to_string();
                }
                numbers.push(self.words.number(&self.scratch));
            }
            return Ok(());
        }
        let arrays = columns
            .iter()
            .map(|column| texts(batch, column))
            .collect::<Result<Vec<_>, _>>()?;
        if let (Kind::Endpoint, [protocols, methods, paths]) = (self.key.0.kind, arrays.as_slice()) {
            // Learned before the reading began.
            let db = self.db.clone();
            let endpoints = db.learned_endpoints()?;
            for row in 0..batch.num_rows() {
                numbers.push(self.endpoint(
                    endpoints,
                    protocols.value(row),
                    methods.value(row),
                    paths.value(row),
                ));
            }
            return Ok(());
        }
        if let [only] = arrays.as_slice() {
            only.map(batch.num_rows(), |word| self.words.number(word), numbers);
            return Ok(());
        }
        for row in 0..batch.num_rows() {
            let mut values = arrays.iter().map(|array| array.value(row));
            let value = values.find(|value| !value.is_empty()).unwrap_or_default();
            numbers.push(self.words.number(value));
        }
        Ok(())
    }

    fn endpoint(&mut self, endpoints: &Endpoints, protocol: &str, method: &str, path: &str) -> u32 {
        self.scratch.clear();
        // No protocol and no method has a zero in its name.
        for text in [protocol, "\0", method, "\0", path] {
            self.scratch.push_str(text);
        }
        if let Some(number) = self.remembered.get(self.scratch.as_str()) {
            return *number;
        }
        let name = endpoint_name(endpoints, protocol, method, path);
        let number = self.words.number(&name);
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if at >= self.examples.len() {
            self.examples.resize_with(at + 1, Examples::default);
        }
        if let Some(examples) = self.examples.get_mut(at) {
            examples.add(path);
        }
        if self.remembered.len() >= REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(self.scratch.as_str().into(), number);
        number
    }
}

/// An endpoint as answers name it: method and path, as far as the protocol has them.
pub(super) fn endpoint_name(endpoints: &Endpoints, protocol: &str, method: &str, path: &str) -> String {
    let path = endpoints.of(protocol, path);
    match (method, path.as_str()) {
        ("", "") => protocol.to_owned(),
        ("", path) => path.to_owned(),
        (method, "") => method.to_owned(),
        (method, path) => format!("{method} {path}"),
    }
}
