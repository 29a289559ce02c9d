//! A value while a filter runs.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::{CHARACTERS_A_STEP, Row, Value};
use crate::Nanos;
use crate::fields::Field;

/// A value, of a field, a literal, a document or what was made of them.
#[derive(Clone, Debug)]
pub(super) enum Item<'a> {
    /// There is none.
    Missing,
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Nanos),
    List(Vec<Item<'a>>),
    Map(BTreeMap<Cow<'a, str>, Item<'a>>),
    /// A map that the row has; its entries are asked for one by one.
    Entries(Field),
}

impl<'a> Item<'a> {
    /// So many.
    pub fn count(of: usize) -> Self {
        Self::Int(i64::try_from(of).unwrap_or(i64::MAX))
    }

    /// How two values of one kind compare; `None` when they are not, when one is missing, or has no order.
    pub fn order(&self, other: &Item<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Text(one), Item::Text(other)) => Some(one.cmp(other)),
            (Self::Int(one), Item::Int(other)) => Some(one.cmp(other)),
            (Self::Bool(one), Item::Bool(other)) => Some(one.cmp(other)),
            (Self::Time(one), Item::Time(other)) => Some(one.cmp(other)),
            (one, other) => {
                let (one, other) = (one.float()?, other.float()?);
                if one.is_finite() && other.is_finite() {
                    one.partial_cmp(&other)
                } else {
                    None
                }
            }
        }
    }

    /// A number.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// A scalar as text; `""` for what is none.
    pub fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => text,
            Self::Int(int) => Cow::Owned(int.to_string()),
            Self::Float(float) if float.is_finite() => Cow::Owned(float.to_string()),
            Self::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
            Self::Time(time) => Cow::Owned(crate::time::rfc3339(time)),
            _ => Cow::Borrowed(""),
        }
    }

    /// What is under a key, or at a place.
    pub fn entry(self, key: &Item<'_>, row: &'a dyn Row) -> Item<'a> {
        let found = match (self, key) {
            (Self::Entries(map), Item::Text(key)) if map.keys_in_any_case() => {
                row.map_get(map, &key.to_ascii_lowercase()).map(Item::Text)
            }
            (Self::Entries(map), Item::Text(key)) => row.map_get(map, key).map(Item::Text),
            (Self::Map(mut entries), Item::Text(key)) => entries.remove(&**key),
            (Self::List(list), Item::Int(at)) => {
                usize::try_from(*at).ok().and_then(|at| list.into_iter().nth(at))
            }
            _ => None,
        };
        found.unwrap_or(Item::Missing)
    }

    /// Whether something is under a key, be it nothing.
    pub fn has_key(&self, key: &Item<'_>, row: &dyn Row) -> bool {
        match (self, key) {
            (Self::Entries(map), Item::Text(key)) if map.keys_in_any_case() => {
                row.map_get(*map, &key.to_ascii_lowercase()).is_some()
            }
            (Self::Entries(map), Item::Text(key)) => row.map_get(*map, key).is_some(),
            (Self::Map(entries), Item::Text(key)) => entries.contains_key(&**key),
            _ => false,
        }
    }

    /// How many it holds; a text, its characters. `None` for what has no size.
    pub fn size(&self, row: &dyn Row) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.chars().count()),
            Self::List(list) => Some(list.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::Entries(map) => match row.get(*map) {
                Value::Map(entries) => Some(entries),
                _ => Some(0),
            },
            _ => None,
        }
    }

    /// What a loop goes over: items of a list, keys of a map, each once.
    pub fn into_items(self, row: &'a dyn Row) -> Vec<Item<'a>> {
        let keys: BTreeSet<Cow<'a, str>> = match self {
            Self::List(list) => return list,
            Self::Map(entries) => entries.into_keys().collect(),
            Self::Entries(map) => row.map_entries(map).into_iter().map(|(key, _)| key).collect(),
            _ => BTreeSet::new(),
        };
        keys.into_iter().map(Item::Text).collect()
    }

    /// What a wildcard stands for: items of a list, values of a map.
    pub fn into_values(self, row: &'a dyn Row) -> Vec<Item<'a>> {
        match self {
            Self::List(list) => list,
            Self::Map(entries) => entries.into_values().collect(),
            Self::Entries(map) => {
                let entries = row.map_entries(map).into_iter();
                entries.map(|(_, value)| Item::Text(value)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Steps that copying it takes.
    pub fn weight(&self) -> usize {
        match self {
            Self::Text(text) => 1 + text.len() / CHARACTERS_A_STEP,
            Self::List(list) => 1 + list.iter().map(Self::weight).sum::<usize>(),
            Self::Map(entries) => {
                let key = |key: &str| key.len() / CHARACTERS_A_STEP;
                let weights = entries.iter().map(|(name, value)| key(name) + value.weight());
                1 + weights.sum::<usize>()
            }
            _ => 1,
        }
    }
}

impl From<Json> for Item<'_> {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Missing,
            Json::Bool(bool) => Self::Bool(bool),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::Missing,
            },
            Json::String(text) => Self::Text(Cow::Owned(text)),
            Json::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                let entries = entries.into_iter();
                Self::Map(
                    entries
                        .map(|(key, value)| (Cow::Owned(key), value.into()))
                        .collect(),
                )
            }
        }
    }
}
