//! Messages as JSON: with names as far as descriptors tell them, with numbers for all else.
//!
//! Unlike in protobuf's own mapping, names are those of the schema, and what is not there is left out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::schema::{Descriptors, FieldType, Kind, MessageType};
use super::wire::{Raw, Reader};
use super::{Field, Value, describe};
use crate::limits::{PROTOBUF_DEPTH, PROTOBUF_FIELDS};

/// A message as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Json {
    /// One object, on one line.
    pub text: String,
    /// Whether there is more in the message than is told, or bytes that are no field.
    pub truncated: bool,
}

/// The largest whole number that every reader of JSON keeps as it is. Larger ones are texts, as in protobuf's mapping.
const EXACT: u64 = 1 << 53;

/// Takes a message apart. `of` is its type's full name, if that is known; what the descriptors do not know of is told as
/// if there were none. `None` if it is no message.
pub fn decode(bytes: &[u8], descriptors: &Descriptors, of: Option<&str>) -> Option<Json> {
    let mut text = String::new();
    let known = of.and_then(|of| descriptors.message(of));
    let truncated = match known {
        Some(known) => {
            let mut decoder = Decoder {
                descriptors,
                fields: PROTOBUF_FIELDS,
                truncated: false,
            };
            let tree = decoder.message(bytes, known, 0);
            if decoder.truncated && matches!(&tree, Tree::Object(members) if members.is_empty()) {
                return None;
            }
            tree.write(&mut text);
            decoder.truncated
        }
        None => {
            let message = describe(bytes)?;
            unnamed(message.fields).write(&mut text);
            message.truncated
        }
    };
    Some(Json { text, truncated })
}

/// Bytes that are no message, as JSON.
pub(crate) fn bytes_as_json(bytes: &[u8]) -> String {
    let mut text = String::new();
    of_bytes(bytes).write(&mut text);
    text
}

/// JSON before it is text.
enum Tree {
    /// What stands there as it is: a number, a truth.
    Plain(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// The members of an object under construction: one name may have several values.
#[derive(Default)]
struct Members {
    names: Vec<(String, Shape, Vec<Tree>)>,
    /// Where each name stands.
    places: BTreeMap<String, usize>,
}

/// How values of one name are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// One. If there are more nevertheless, all of them.
    Single,
    List,
    /// Entries with a key and a value each.
    Map,
}

impl Members {
    fn add(&mut self, name: &str, shape: Shape, value: Tree) {
        let place = self.places.get(name).and_then(|place| self.names.get_mut(*place));
        match place {
            Some((.., values)) => values.push(value),
            None => {
                self.places.insert(name.to_owned(), self.names.len());
                self.names.push((name.to_owned(), shape, vec![value]));
            }
        }
    }

    fn finish(self) -> Tree {
        let member = |(name, shape, mut values): (String, Shape, Vec<Tree>)| {
            let value = match (shape, values.len()) {
                (Shape::Map, _) => Tree::Object(values.into_iter().map(Tree::into_entry).collect()),
                (Shape::Single, 1) => values.remove(0),
                _ => Tree::List(values),
            };
            (name, value)
        };
        Tree::Object(self.names.into_iter().map(member).collect())
    }
}

/// Reads messages of known types, within limits.
struct Decoder<'d> {
    descriptors: &'d Descriptors,
    /// Fields that may still be told.
    fields: usize,
    truncated: bool,
}

impl Decoder<'_> {
    fn message(&mut self, bytes: &[u8], of: &MessageType, depth: usize) -> Tree {
        let mut members = Members::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_at_end() {
            let Some((number, raw)) = reader.field().filter(|_| self.has_room()) else {
                self.truncated = true;
                break;
            };
            let known = of
                .field(number)
                .map(|field| (field, self.values(field, raw, depth)));
            match known {
                Some((field, Some(values))) => {
                    let shape = self.shape(field);
                    for value in values {
                        members.add(&field.name, shape, value);
                    }
                }
                // The schema is another one than the sender's, or an older one.
                _ => members.add(&number.to_string(), Shape::Single, self.without_name(raw)),
            }
        }
        members.finish()
    }

    fn has_room(&mut self) -> bool {
        match self.fields.checked_sub(1) {
            Some(left) => {
                self.fields = left;
                true
            }
            None => false,
        }
    }

    fn shape(&self, field: &FieldType) -> Shape {
        let entry = match &field.kind {
            Kind::Message(of) => self.descriptors.message(of).is_some_and(|of| of.is_entry),
            _ => false,
        };
        match (field.repeated, entry) {
            (true, true) => Shape::Map,
            (true, false) => Shape::List,
            (false, _) => Shape::Single,
        }
    }

    /// The values of a field, of which a packed list has many; `None` if they are not of its type.
    fn values(&mut self, field: &FieldType, raw: Raw<'_>, depth: usize) -> Option<Vec<Tree>> {
        if let Some(one) = self.value(&field.kind, raw, depth) {
            return Some(vec![one]);
        }
        let Raw::Bytes(bytes) = raw else {
            return None;
        };
        let mut reader = Reader::new(bytes);
        let mut values = Vec::new();
        while !reader.is_at_end() && field.repeated {
            if !self.has_room() {
                self.truncated = true;
                break;
            }
            let raw = match field.kind {
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => {
                    Raw::Fixed64(u64::from_le_bytes(*reader.chunk()?))
                }
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => {
                    Raw::Fixed32(u32::from_le_bytes(*reader.chunk()?))
                }
                Kind::Int | Kind::Uint | Kind::Sint | Kind::Bool | Kind::Enum(_) => {
                    Raw::Varint(reader.varint()?)
                }
                Kind::Text | Kind::Bytes | Kind::Message(_) => return None,
            };
            values.push(self.value(&field.kind, raw, depth)?);
        }
        field.repeated.then_some(values)
    }

    /// One value; `None` if it is not of that kind.
    fn value(&mut self, kind: &Kind, raw: Raw<'_>, depth: usize) -> Option<Tree> {
        Some(match (kind, raw) {
            (Kind::Int, Raw::Varint(bits)) => signed(bits as i64),
            (Kind::Uint, Raw::Varint(bits)) => unsigned(bits),
            (Kind::Sint, Raw::Varint(bits)) => signed((bits >> 1) as i64 ^ -((bits & 1) as i64)),
            (Kind::Bool, Raw::Varint(bits)) => Tree::Plain((bits != 0).to_string()),
            (Kind::Enum(of), Raw::Varint(bits)) => match self.descriptors.value(of, bits as i32) {
                Some(name) => Tree::Text(name.to_owned()),
                None => signed((bits as i32).into()),
            },
            (Kind::Fixed32, Raw::Fixed32(bits)) => unsigned(bits.into()),
            (Kind::Sfixed32, Raw::Fixed32(bits)) => signed((bits as i32).into()),
            (Kind::Float, Raw::Fixed32(bits)) => float(f32::from_bits(bits), f32::is_finite),
            (Kind::Fixed64, Raw::Fixed64(bits)) => unsigned(bits),
            (Kind::Sfixed64, Raw::Fixed64(bits)) => signed(bits as i64),
            (Kind::Double, Raw::Fixed64(bits)) => float(f64::from_bits(bits), f64::is_finite),
            (Kind::Text, Raw::Bytes(bytes)) => Tree::Text(String::from_utf8_lossy(bytes).into_owned()),
            (Kind::Bytes, Raw::Bytes(bytes)) => Tree::Text(base64(bytes)),
            (Kind::Message(of), Raw::Bytes(bytes) | Raw::Group(bytes)) => {
                match self.descriptors.message(of).filter(|_| depth < PROTOBUF_DEPTH) {
                    Some(of) => self.message(bytes, of, depth + 1),
                    // A set without the files that it imports.
                    None => self.without_name(raw),
                }
            }
            _ => return None,
        })
    }

    /// A value of which nothing is known.
    fn without_name(&mut self, raw: Raw<'_>) -> Tree {
        match raw {
            Raw::Varint(bits) => unsigned(bits),
            Raw::Fixed32(bits) => unnamed_value(Value::Fixed32(bits)),
            Raw::Fixed64(bits) => unnamed_value(Value::Fixed64(bits)),
            Raw::Bytes(bytes) | Raw::Group(bytes) => {
                let mut described = super::Describer {
                    fields: self.fields,
                    depth: 0,
                };
                let value = described.of_bytes(bytes);
                self.fields = described.fields;
                unnamed_value(value)
            }
        }
    }
}

/// Fields without names.
fn unnamed(fields: Vec<Field>) -> Tree {
    let mut members = Members::default();
    for Field { number, value } in fields {
        members.add(&number.to_string(), Shape::Single, unnamed_value(value));
    }
    members.finish()
}

fn unnamed_value(value: Value) -> Tree {
    match value {
        Value::Varint(number) => unsigned(number),
        // Whether these are whole or not, nobody knows.
        Value::Fixed32(bits) => Tree::Text(format!("{bits:#010x}")),
        Value::Fixed64(bits) => Tree::Text(format!("{bits:#018x}")),
        Value::Text(text) => Tree::Text(text),
        Value::Message(fields) => unnamed(fields),
        Value::Bytes(bytes) => of_bytes(&bytes),
    }
}

/// Bytes of which nothing else is known.
fn of_bytes(bytes: &[u8]) -> Tree {
    Tree::Object(vec![("base64".to_owned(), Tree::Text(base64(bytes)))])
}

fn signed(number: i64) -> Tree {
    if number.unsigned_abs() <= EXACT {
        Tree::Plain(number.to_string())
    } else {
        Tree::Text(number.to_string())
    }
}

fn unsigned(number: u64) -> Tree {
    if number <= EXACT {
        Tree::Plain(number.to_string())
    } else {
        Tree::Text(number.to_string())
    }
}

/// JSON has no infinities.
fn float<F: Copy + std::fmt::Display>(number: F, is_finite: fn(F) -> bool) -> Tree {
    if is_finite(number) {
        Tree::Plain(number.to_string())
    } else {
        Tree::Text(number.to_string())
    }
}

impl Tree {
    /// An entry of a map, whose key is field 1 and whose value is field 2. What is the default may be left out.
    fn into_entry(self) -> (String, Tree) {
        let (mut key, mut value) = (String::new(), Tree::Plain("null".to_owned()));
        if let Tree::Object(members) = self {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("key", Tree::Text(text) | Tree::Plain(text)) => key = text,
                    ("value", member) => value = member,
                    _ => {}
                }
            }
        }
        (key, value)
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Plain(text) => out.push_str(text),
            Self::Text(text) => write_text(text, out),
            Self::List(values) => {
                out.push('[');
                for (n, value) in values.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (n, (name, value)) in members.iter().enumerate() {
                    out.push_str(if n > 0 { "," } else { "" });
                    write_text(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a text cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |n: usize| u32::from(group.get(n).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * n) & 0x3f) as usize);
            let filled = digit.filter(|_| n <= group.len());
            text.push(filled.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_base64() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn numbers_of_fields_where_nothing_is_known() {
        let bytes = b"\x08\x96\x01\x12\x04a\"\n\\\x1a\x03\x08\x96\x01\x25\x01\0\0\0\x32\x02\xff\xfe\x08\x02\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let json = decode(bytes, &Descriptors::default(), Some("x.Unknown")).unwrap();
        let expected = r#"{"1":[150,2],"2":"a\"\n\\","3":{"1":150},"4":"0x00000001","6":{"base64":"//4="},"10":"18446744073709551615"}"#;
        assert_eq!((json.text.as_str(), json.truncated), (expected, false));
        assert_eq!(decode(b"\xff\xff", &Descriptors::default(), None), None);
        let cut = decode(b"\x08\x01\x12\x7fcut", &Descriptors::default(), None).unwrap();
        assert_eq!((cut.text.as_str(), cut.truncated), (r#"{"1":1}"#, true));
        assert_eq!(decode(b"", &Descriptors::default(), None).unwrap().text, "{}");
    }
}
