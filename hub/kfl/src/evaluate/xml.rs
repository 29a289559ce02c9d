//! XML as far as a path through it needs: elements, attributes, text.
//!
//! An element is a text if it holds nothing else, else a map of its elements by name, its attributes by `@name` and its
//! text as `#text`. Elements of one name are a list. Namespaces' prefixes are left as they are, and no entity but the
//! five of XML itself (and characters by number) is known: a document cannot define any that grow.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Item;
use crate::limits::DOCUMENT_NESTING;

/// The document, or [`Item::Missing`] if it is none.
pub(super) fn read<'a>(text: &str) -> Item<'a> {
    let mut reader = Reader { rest: text };
    document(&mut reader).unwrap_or(Item::Missing)
}

/// A map of one entry: the root.
fn document<'a>(reader: &mut Reader<'_>) -> Option<Item<'a>> {
    reader.skip_prologue();
    let mut open: Vec<Element> = Vec::new();
    loop {
        match reader.next()? {
            Piece::Open {
                name,
                attributes,
                empty,
            } => {
                if open.len() == DOCUMENT_NESTING {
                    return None;
                }
                open.push(Element::new(name, attributes));
                if !empty {
                    continue;
                }
            }
            Piece::Close(name) => {
                if open.last()?.name != name {
                    return None;
                }
            }
            Piece::Text(text) => {
                open.last_mut()?.text.push_str(&text);
                continue;
            }
        }
        let (name, item) = open.pop()?.finish();
        match open.last_mut() {
            Some(parent) => parent.add(name, item),
            None => return Some(Item::Map(BTreeMap::from([(Cow::Owned(name), item)]))),
        }
    }
}

/// An element that is still open.
struct Element {
    name: String,
    entries: BTreeMap<Cow<'static, str>, Item<'static>>,
    text: String,
}

impl Element {
    fn new(name: &str, attributes: Vec<(&str, String)>) -> Self {
        let attribute =
            |(name, value): (&str, String)| (Cow::Owned(format!("@{name}")), Item::Text(Cow::Owned(value)));
        Self {
            name: name.to_owned(),
            entries: attributes.into_iter().map(attribute).collect(),
            text: String::new(),
        }
    }

    /// The second of a name makes a list of both.
    fn add(&mut self, name: String, item: Item<'static>) {
        match self.entries.get_mut(name.as_str()) {
            Some(Item::List(list)) => list.push(item),
            Some(first) => *first = Item::List(vec![std::mem::replace(first, Item::Missing), item]),
            None => {
                self.entries.insert(Cow::Owned(name), item);
            }
        }
    }

    fn finish(mut self) -> (String, Item<'static>) {
        let text = Item::Text(Cow::Owned(self.text.trim().to_owned()));
        if self.entries.is_empty() {
            return (self.name, text);
        }
        if !self.text.trim().is_empty() {
            self.entries.insert(Cow::Borrowed("#text"), text);
        }
        (self.name, Item::Map(self.entries))
    }
}

/// What a document is made of.
enum Piece<'t> {
    Open {
        name: &'t str,
        attributes: Vec<(&'t str, String)>,
        /// `<name/>`
        empty: bool,
    },
    Close(&'t str),
    Text(Cow<'t, str>),
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Option<Piece<'t>> {
        loop {
            if let Some(after) = self.rest.strip_prefix("<!--") {
                self.rest = after.split_once("-->")?.1;
            } else if let Some(after) = self.rest.strip_prefix("<![CDATA[") {
                let (text, rest) = after.split_once("]]>")?;
                self.rest = rest;
                return Some(Piece::Text(Cow::Borrowed(text)));
            } else if let Some(after) = self.rest.strip_prefix("<?") {
                self.rest = after.split_once("?>")?.1;
            } else if let Some(after) = self.rest.strip_prefix("</") {
                let (name, rest) = after.split_once('>')?;
                self.rest = rest;
                return Some(Piece::Close(name.trim_end()));
            } else if let Some(after) = self.rest.strip_prefix('<') {
                self.rest = after;
                return self.open();
            } else {
                let (text, _) = self.rest.split_once('<')?;
                self.rest = self.rest.get(text.len()..)?;
                return Some(Piece::Text(unescaped(text)));
            }
        }
    }

    /// What may stand before the root: a byte order mark, declarations, comments, a document type without a definition.
    fn skip_prologue(&mut self) {
        self.rest = self.rest.trim_start_matches('\u{feff}');
        loop {
            self.rest = self.rest.trim_start();
            let end = if self.rest.starts_with("<?") {
                "?>"
            } else if self.rest.starts_with("<!--") {
                "-->"
            } else if self.rest.starts_with("<!DOCTYPE") {
                ">"
            } else {
                return;
            };
            self.rest = self.rest.split_once(end).map_or("", |(_, rest)| rest);
        }
    }

    /// The rest of `<name attribute="value">`.
    fn open(&mut self) -> Option<Piece<'t>> {
        let name = self.name()?;
        let mut attributes = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let empty = if let Some(rest) = self.rest.strip_prefix("/>") {
                self.rest = rest;
                true
            } else if let Some(rest) = self.rest.strip_prefix('>') {
                self.rest = rest;
                false
            } else {
                attributes.push(self.attribute()?);
                continue;
            };
            return Some(Piece::Open {
                name,
                attributes,
                empty,
            });
        }
    }

    fn attribute(&mut self) -> Option<(&'t str, String)> {
        let name = self.name()?;
        let value = self.rest.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        let (value, rest) = value.get(1..)?.split_once(quote)?;
        self.rest = rest;
        Some((name, unescaped(value).into_owned()))
    }

    fn name(&mut self) -> Option<&'t str> {
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=' | '<');
        let end = self.rest.find(ends).filter(|end| *end > 0)?;
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(name)
    }
}

/// Text with its entities resolved; what is no entity stays as it stands.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        match split_entity(after) {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of an entity whose `&` is taken, and what follows it.
fn split_entity(text: &str) -> Option<(char, &str)> {
    // The longest is `&#x10FFFF;`. Looking further would take the square of the time for a text of ampersands.
    let (end, _) = text.char_indices().take(10).find(|(_, c)| *c == ';')?;
    Some((entity(text.get(..end)?)?, text.get(end + 1..)?))
}

fn entity(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32)
        }
    }
}
