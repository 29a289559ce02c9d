//! What a parameter of a route or of a tool holds: said once, for whoever asks, and checked by it.

use std::borrow::Cow;

use serde_json::{Value, json};

/// One parameter.
#[derive(Clone, Copy)]
pub(super) struct Param {
    pub(super) name: &'static str,
    /// Other spellings that are taken for it.
    pub(super) also: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) doc: &'static str,
}

/// What a parameter holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A whole number, also as text.
    Integer { least: i64, most: i64, default: i64 },
    /// True or false, also as text.
    Flag { default: bool },
    /// Texts: a list, or one text with commas.
    List,
    /// So many of these words, as a list, or one text with commas.
    Words {
        most: usize,
        of: &'static [&'static str],
    },
    /// Texts by name: an object, or one text such as `a=b,c=d`.
    Pairs,
    /// A JSON object.
    Object,
    /// A list of them.
    Objects,
    /// One of these; the first when not given.
    Choice(&'static [&'static str]),
    /// Unix milliseconds, or RFC 3339.
    Moment,
}

pub(super) const fn text(name: &'static str, doc: &'static str) -> Param {
    param(name, Kind::Text, doc)
}

pub(super) const fn param(name: &'static str, kind: Kind, doc: &'static str) -> Param {
    Param {
        name,
        also: &[],
        kind,
        required: false,
        doc,
    }
}

pub(super) const fn needed(name: &'static str, doc: &'static str) -> Param {
    Param {
        required: true,
        ..text(name, doc)
    }
}

/// What every answer that has times takes.
pub(super) const TIME_ZONE: Param = text(
    "time_zone",
    "IANA name, e.g. Europe/Berlin: times are told in it, too (ts_local beside ts)",
)
.or(&["timezone", "tz"]);

/// The words of a table of what each stands for: said once, where they are read.
pub(super) const fn words<T: Copy, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut n = 0;
    while n < N {
        words[n] = table[n].0;
        n += 1;
    }
    words
}

impl Param {
    /// The same, which may be spelt otherwise, too.
    pub(super) const fn or(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    /// The same, which there is no doing without.
    pub(super) const fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// What it means, with the words that it takes.
    pub(super) fn told(&self) -> Cow<'static, str> {
        match self.kind {
            Kind::Words { most, of } => format!("{}: up to {most} of {}", self.doc, of.join(", ")).into(),
            _ => self.doc.into(),
        }
    }

    /// Its schema with what it means, in JSON Schema 2020-12.
    pub(super) fn schema(&self) -> Value {
        let mut schema = self.kind.schema();
        schema["description"] = json!(self.told());
        schema
    }
}

impl Kind {
    /// What is taken, in JSON Schema 2020-12. Where a value may be of two types, each has a schema of its own: a list of
    /// types is JSON Schema, too, but some providers of models refuse it.
    pub(super) fn schema(self) -> Value {
        match self {
            Self::Text => json!({ "type": "string" }),
            Self::Integer { least, most, default } => json!({
                "anyOf": [
                    { "type": "integer", "minimum": least, "maximum": most },
                    { "type": "string", "pattern": "^[0-9]+$" },
                ],
                "default": default,
            }),
            Self::Flag { default } => json!({
                "anyOf": [{ "type": "boolean" }, { "type": "string" }],
                "default": default,
            }),
            Self::List => json!({
                "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }],
            }),
            // Each word has other spellings, too, which nobody needs to be told.
            Self::Words { most, .. } => json!({
                "anyOf": [
                    { "type": "array", "items": { "type": "string" }, "maxItems": most },
                    { "type": "string" },
                ],
            }),
            Self::Pairs => json!({
                "anyOf": [
                    { "type": "object", "additionalProperties": { "type": "string" } },
                    { "type": "string" },
                ],
            }),
            Self::Object => json!({ "type": "object" }),
            Self::Objects => json!({ "type": "array", "items": { "type": "object" } }),
            Self::Choice(choices) => {
                json!({ "type": "string", "enum": choices, "default": choices.first() })
            }
            Self::Moment => json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }] }),
        }
    }

    /// In one word, for the list of routes.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "string",
            Self::Integer { .. } | Self::Moment => "integer",
            Self::Flag { .. } => "boolean",
            Self::List | Self::Words { .. } | Self::Objects => "list",
            Self::Pairs | Self::Object => "object",
        }
    }
}
