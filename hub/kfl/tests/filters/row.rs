//! An entry made by hand.

use std::borrow::Cow;
use std::collections::BTreeMap;

use wiretape_kfl::{Field, Row, Value};

/// Values by field, and entries of maps by field and key.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub values: BTreeMap<Field, Value<'static>>,
    pub maps: BTreeMap<Field, Vec<(String, String)>>,
}

impl Entry {
    pub fn with(mut self, field: Field, value: Value<'static>) -> Self {
        self.values.insert(field, value);
        self
    }

    pub fn flag(self, field: Field) -> Self {
        self.with(field, Value::Bool(true))
    }

    pub fn text(self, field: Field, text: &'static str) -> Self {
        self.with(field, Value::Text(Cow::Borrowed(text)))
    }

    pub fn int(self, field: Field, int: i64) -> Self {
        self.with(field, Value::Int(int))
    }

    pub fn list(self, field: Field, texts: &[&'static str]) -> Self {
        let texts = texts.iter().map(|text| Cow::Borrowed(*text)).collect();
        self.with(field, Value::List(texts))
    }

    pub fn in_map(mut self, map: Field, key: &str, text: &str) -> Self {
        self.maps
            .entry(map)
            .or_default()
            .push((key.to_owned(), text.to_owned()));
        self
    }
}

impl Row for Entry {
    fn get(&self, field: Field) -> Value<'_> {
        if let Some(map) = self.maps.get(&field) {
            return Value::Map(map.len());
        }
        self.values.get(&field).cloned().unwrap_or(Value::Missing)
    }

    fn map_get(&self, map: Field, key: &str) -> Option<Cow<'_, str>> {
        let same = |name: &str| {
            if map.keys_in_any_case() {
                name.to_ascii_lowercase() == key
            } else {
                name == key
            }
        };
        let (_, value) = self.maps.get(&map)?.iter().find(|(name, _)| same(name))?;
        Some(Cow::Borrowed(value))
    }

    fn map_entries(&self, map: Field) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let key = |name: &str| {
            if map.keys_in_any_case() {
                name.to_ascii_lowercase()
            } else {
                name.to_owned()
            }
        };
        let entries = self.maps.get(&map).into_iter().flatten();
        entries
            .map(|(name, value)| (Cow::Owned(key(name)), Cow::Borrowed(value.as_str())))
            .collect()
    }
}
