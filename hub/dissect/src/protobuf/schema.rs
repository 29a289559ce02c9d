//! Names for numbers: what a set of descriptors (`protoc --descriptor_set_out`, `FileDescriptorSet`) says of messages.

use std::collections::BTreeMap;
use std::fmt;

use super::wire::{Raw, Reader};
use crate::limits::{DESCRIPTORS, PROTOBUF_DEPTH};

/// Messages, enums and methods by their full names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptors {
    messages: BTreeMap<String, MessageType>,
    enums: BTreeMap<String, BTreeMap<i32, String>>,
    methods: BTreeMap<String, Method>,
    /// How much there is of all these.
    count: usize,
}

/// What a method takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Method {
    /// Full name of the request's type.
    pub request: String,
    /// Full name of the response's type.
    pub response: String,
}

/// Why a file's descriptors cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorError {
    /// It is no set of descriptors.
    Malformed,
    /// There are more of them than are kept.
    TooMany,
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str(
                "it is no set of descriptors; write one with \
                 `protoc --include_imports --descriptor_set_out=FILE`",
            ),
            Self::TooMany => write!(f, "it names more than {DESCRIPTORS} messages, fields and methods"),
        }
    }
}

impl std::error::Error for DescriptorError {}

/// A type of messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MessageType {
    fields: BTreeMap<u32, FieldType>,
    /// Whether it is one entry of a map.
    pub is_entry: bool,
}

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FieldType {
    pub name: String,
    pub kind: Kind,
    pub repeated: bool,
}

/// What a field's value is (`FieldDescriptorProto.Type`).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Double,
    Float,
    /// Of 32 and of 64 bits: negative ones are sent as if they had 64.
    Int,
    Uint,
    /// Zigzag.
    Sint,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Text,
    Bytes,
    /// A message, or a group, of that type.
    Message(String),
    Enum(String),
}

type Parsed<T> = Result<T, DescriptorError>;

impl Descriptors {
    /// Adds those of a set. What it names again is replaced.
    ///
    /// # Errors
    /// If it is no such set, or names too much; some of it may have been added then.
    pub fn add(&mut self, set: &[u8]) -> Parsed<()> {
        let mut any = false;
        each(set, |number, value| {
            // FileDescriptorSet: file = 1.
            any |= number == 1;
            if let (1, Raw::Bytes(file)) = (number, value) {
                self.file(file)?;
            }
            Ok(())
        })?;
        if any {
            Ok(())
        } else {
            Err(DescriptorError::Malformed)
        }
    }

    /// The method of a service, both by their names as in a path.
    pub fn method(&self, service: &str, method: &str) -> Option<&Method> {
        self.methods.get(&format!("{service}/{method}"))
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn message(&self, name: &str) -> Option<&MessageType> {
        self.messages.get(name)
    }

    /// The name of an enum's value.
    pub(super) fn value(&self, name: &str, number: i32) -> Option<&str> {
        Some(self.enums.get(name)?.get(&number)?)
    }

    /// FileDescriptorProto: package = 2, message_type = 4, enum_type = 5, service = 6.
    fn file(&mut self, file: &[u8]) -> Parsed<()> {
        let package = text_in(file, 2)?;
        each(file, |number, value| match (number, value) {
            (4, Raw::Bytes(message)) => self.message_type(message, &package, 0),
            (5, Raw::Bytes(values)) => self.enum_type(values, &package),
            (6, Raw::Bytes(service)) => self.service(service, &package),
            _ => Ok(()),
        })
    }

    /// DescriptorProto: name = 1, field = 2, nested_type = 3, enum_type = 4, options = 7 with map_entry = 7.
    fn message_type(&mut self, message: &[u8], scope: &str, depth: usize) -> Parsed<()> {
        if depth >= PROTOBUF_DEPTH {
            return Err(DescriptorError::TooMany);
        }
        let name = inside(scope, &text_in(message, 1)?);
        let mut told = MessageType::default();
        each(message, |number, value| {
            match (number, value) {
                (2, Raw::Bytes(field)) => {
                    self.count()?;
                    if let Some((number, field)) = field_type(field)? {
                        told.fields.insert(number, field);
                    }
                }
                (3, Raw::Bytes(nested)) => self.message_type(nested, &name, depth + 1)?,
                (4, Raw::Bytes(values)) => self.enum_type(values, &name)?,
                (7, Raw::Bytes(options)) => told.is_entry |= number_in(options, 7)? == Some(1),
                _ => {}
            }
            Ok(())
        })?;
        self.count()?;
        self.messages.insert(name, told);
        Ok(())
    }

    /// EnumDescriptorProto: name = 1, value = 2 with name = 1 and number = 2.
    fn enum_type(&mut self, values: &[u8], scope: &str) -> Parsed<()> {
        let name = inside(scope, &text_in(values, 1)?);
        let mut told = BTreeMap::new();
        each(values, |number, value| {
            if let (2, Raw::Bytes(value)) = (number, value) {
                self.count()?;
                let number = number_in(value, 2)?.unwrap_or_default() as i32;
                // Of several names, the first one counts.
                told.entry(number).or_insert(text_in(value, 1)?);
            }
            Ok(())
        })?;
        self.count()?;
        self.enums.insert(name, told);
        Ok(())
    }

    /// ServiceDescriptorProto: name = 1, method = 2 with name = 1, input_type = 2, output_type = 3.
    fn service(&mut self, service: &[u8], package: &str) -> Parsed<()> {
        let name = inside(package, &text_in(service, 1)?);
        each(service, |number, value| {
            if let (2, Raw::Bytes(method)) = (number, value) {
                self.count()?;
                let told = Method {
                    request: full_name(text_in(method, 2)?),
                    response: full_name(text_in(method, 3)?),
                };
                self.methods
                    .insert(format!("{name}/{}", text_in(method, 1)?), told);
            }
            Ok(())
        })
    }

    fn count(&mut self) -> Parsed<()> {
        self.count += 1;
        if self.count > DESCRIPTORS {
            return Err(DescriptorError::TooMany);
        }
        Ok(())
    }
}

impl MessageType {
    pub fn field(&self, number: u32) -> Option<&FieldType> {
        self.fields.get(&number)
    }
}

/// FieldDescriptorProto: name = 1, number = 3, label = 4 (3 is repeated), type = 5, type_name = 6.
fn field_type(field: &[u8]) -> Parsed<Option<(u32, FieldType)>> {
    let type_name = || text_in(field, 6).map(full_name);
    let kind = match number_in(field, 5)?.unwrap_or_default() {
        1 => Kind::Double,
        2 => Kind::Float,
        3 | 5 => Kind::Int,
        4 | 13 => Kind::Uint,
        6 => Kind::Fixed64,
        7 => Kind::Fixed32,
        8 => Kind::Bool,
        9 => Kind::Text,
        10 | 11 => Kind::Message(type_name()?),
        12 => Kind::Bytes,
        14 => Kind::Enum(type_name()?),
        15 => Kind::Sfixed32,
        16 => Kind::Sfixed64,
        17 | 18 => Kind::Sint,
        // A type that is not known yet: the field stays a number.
        _ => return Ok(None),
    };
    let number = number_in(field, 3)?.unwrap_or_default();
    let number = u32::try_from(number).map_err(|_| DescriptorError::Malformed)?;
    let told = FieldType {
        name: text_in(field, 1)?,
        kind,
        repeated: number_in(field, 4)? == Some(3),
    };
    Ok(Some((number, told)))
}

/// Every field of a message.
fn each(message: &[u8], mut take: impl FnMut(u32, Raw<'_>) -> Parsed<()>) -> Parsed<()> {
    let mut reader = Reader::new(message);
    while !reader.is_at_end() {
        let (number, value) = reader.field().ok_or(DescriptorError::Malformed)?;
        take(number, value)?;
    }
    Ok(())
}

/// The text of a field; empty if it is not there.
fn text_in(message: &[u8], wanted: u32) -> Parsed<String> {
    let mut found = String::new();
    each(message, |number, value| {
        if let Raw::Bytes(text) = value
            && number == wanted
        {
            let text = std::str::from_utf8(text).map_err(|_| DescriptorError::Malformed)?;
            text.clone_into(&mut found);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The number of a field, if it is there.
fn number_in(message: &[u8], wanted: u32) -> Parsed<Option<u64>> {
    let mut found = None;
    each(message, |number, value| {
        if let Raw::Varint(value) = value
            && number == wanted
        {
            found = Some(value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// A name inside a package or a message.
fn inside(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}

/// References begin with a dot when they are full.
fn full_name(name: String) -> String {
    match name.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None => name,
    }
}
