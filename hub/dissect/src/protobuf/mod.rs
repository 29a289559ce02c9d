//! Protobuf: without a schema, numbers of fields and their values; with one, their names.
//!
//! The wire says how long each value is, not what it means: a run of bytes may be a text, a message or neither. It is
//! taken for a text if it is one that can be printed, else for a message if it is one to the last byte, else for bytes.

mod wire;

mod schema;

mod json;

pub(crate) use json::bytes_as_json;
pub use json::{Json, decode};
pub use schema::{DescriptorError, Descriptors, Method};

use std::fmt;

use crate::limits::{PROTOBUF_DEPTH, PROTOBUF_FIELDS};
use wire::{Raw, Reader};

/// A field of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its number in the schema.
    pub number: u32,
    /// Its value.
    pub value: Value,
}

/// A value, as far as the wire tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a whole number, a truth or an enum.
    Varint(u64),
    /// Four bytes, of a number.
    Fixed32(u32),
    /// Eight bytes, of a number.
    Fixed64(u64),
    /// What can be read.
    Text(String),
    /// Fields of a message inside this one, or of a group.
    Message(Vec<Field>),
    /// Anything else: bytes, a list of numbers, what is compressed.
    Bytes(Vec<u8>),
}

/// What is known of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Its fields, in wire order.
    pub fields: Vec<Field>,
    /// Whether there are more than are told, or bytes that are no field.
    pub truncated: bool,
}

/// Takes a message apart; `None` if its first bytes are no field. An empty one has no fields.
pub fn describe(bytes: &[u8]) -> Option<Message> {
    let mut describer = Describer {
        fields: PROTOBUF_FIELDS,
        depth: 0,
    };
    let mut reader = Reader::new(bytes);
    let mut message = Message::default();
    while !reader.is_at_end() {
        match describer.field(&mut reader) {
            Some(field) => message.fields.push(field),
            None => {
                message.truncated = true;
                break;
            }
        }
    }
    (!message.fields.is_empty() || bytes.is_empty()).then_some(message)
}

/// As protobuf's own text format has it, with numbers in place of names.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_fields(f, &self.fields, 0)?;
        if self.truncated {
            writeln!(f, "...")
        } else {
            Ok(())
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field], depth: usize) -> fmt::Result {
    let indent = 2 * depth;
    for Field { number, value } in fields {
        write!(f, "{:indent$}{number}", "")?;
        match value {
            Value::Varint(number) => writeln!(f, ": {number}")?,
            Value::Fixed32(bits) => writeln!(f, ": {bits:#010x}")?,
            Value::Fixed64(bits) => writeln!(f, ": {bits:#018x}")?,
            Value::Text(text) => writeln!(f, ": {text:?}")?,
            Value::Bytes(bytes) => writeln!(f, ": \"{}\"", bytes.escape_ascii())?,
            Value::Message(fields) => {
                writeln!(f, " {{")?;
                write_fields(f, fields, depth + 1)?;
                writeln!(f, "{:indent$}}}", "")?;
            }
        }
    }
    Ok(())
}

/// Takes messages apart, within limits.
struct Describer {
    /// Fields that may still be told.
    fields: usize,
    depth: usize,
}

impl Describer {
    fn field(&mut self, reader: &mut Reader<'_>) -> Option<Field> {
        self.fields = self.fields.checked_sub(1)?;
        let (number, raw) = reader.field()?;
        let value = match raw {
            Raw::Varint(number) => Value::Varint(number),
            Raw::Fixed32(bits) => Value::Fixed32(bits),
            Raw::Fixed64(bits) => Value::Fixed64(bits),
            Raw::Bytes(bytes) => self.of_bytes(bytes),
            Raw::Group(bytes) => Value::Message(self.message(bytes)?),
        };
        Some(Field { number, value })
    }

    /// What a run of bytes is, by all appearances.
    fn of_bytes(&mut self, bytes: &[u8]) -> Value {
        let printable = |text: &&str| {
            text.chars()
                .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
        };
        if let Some(text) = std::str::from_utf8(bytes).ok().filter(printable) {
            return Value::Text(text.to_owned());
        }
        match self.message(bytes) {
            Some(fields) => Value::Message(fields),
            None => Value::Bytes(bytes.to_vec()),
        }
    }

    /// The fields of bytes that are a message to the last one. Looking is paid for, too: else what only looks like
    /// messages costs twice as much a level.
    fn message(&mut self, bytes: &[u8]) -> Option<Vec<Field>> {
        if self.depth >= PROTOBUF_DEPTH {
            return None;
        }
        self.depth += 1;
        let (mut reader, mut fields, mut whole) = (Reader::new(bytes), Vec::new(), true);
        while whole && !reader.is_at_end() {
            match self.field(&mut reader) {
                Some(field) => fields.push(field),
                None => whole = false,
            }
        }
        self.depth -= 1;
        whole.then_some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u32, value: Value) -> Field {
        Field { number, value }
    }

    #[test]
    fn every_kind_of_value() {
        let bytes = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01\x25\x01\0\0\0\x29\x02\0\0\0\0\0\0\0\
            \x32\x02\xff\xfe\x3b\x08\x01\x3c";
        let expected = [
            field(1, Value::Varint(150)),
            field(2, Value::Text("testing".to_owned())),
            field(3, Value::Message(vec![field(1, Value::Varint(150))])),
            field(4, Value::Fixed32(1)),
            field(5, Value::Fixed64(2)),
            field(6, Value::Bytes(vec![0xff, 0xfe])),
            field(7, Value::Message(vec![field(1, Value::Varint(1))])),
        ];
        let message = describe(bytes).unwrap();
        assert_eq!(
            (message.fields.as_slice(), message.truncated),
            (&expected[..], false)
        );
        let text = "1: 150\n2: \"testing\"\n3 {\n  1: 150\n}\n4: 0x00000001\n5: 0x0000000000000002\n6: \"\\xff\\xfe\"\n\
            7 {\n  1: 1\n}\n";
        assert_eq!(message.to_string(), text);
    }

    #[test]
    fn what_is_no_message_or_only_begins_as_one() {
        assert_eq!(describe(b""), Some(Message::default()));
        for bytes in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..],
            b"\x00\x01",
            b"\x0f",
            b"{\"a\":1}",
        ] {
            assert_eq!(describe(bytes), None, "{bytes:x?}");
        }
        let message = describe(b"\x08\x01\x12\x7fcut").unwrap();
        assert_eq!((message.fields.len(), message.truncated), (1, true));
    }

    #[test]
    fn messages_and_groups_inside_one_another_have_a_limit() {
        let mut bytes = vec![0x08, 0x01];
        for _ in 0..40 {
            bytes = [&[0x0a, bytes.len() as u8][..], &bytes].concat();
        }
        let (mut depth, mut fields) = (0, describe(&bytes).unwrap().fields);
        while let Some(Value::Message(inside)) = fields.pop().map(|field| field.value) {
            (depth, fields) = (depth + 1, inside);
        }
        assert_eq!(depth, PROTOBUF_DEPTH);
        assert_eq!(describe(&[0x0b; 1000]), None);
    }

    #[test]
    fn more_fields_than_are_told() {
        let message = describe(&[0x08, 0x01].repeat(10_000)).unwrap();
        assert_eq!((message.fields.len(), message.truncated), (PROTOBUF_FIELDS, true));
        // What looks like messages at every level costs no more than that.
        let mut bytes = vec![0x08, 0x01, 0x0f];
        for _ in 0..12 {
            bytes = [
                &[0x0a][..],
                &varint(bytes.len()),
                &bytes,
                &[0x0a],
                &varint(bytes.len()),
                &bytes,
            ]
            .concat();
        }
        let _described_in_no_time = describe(&bytes);
    }

    fn varint(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 128 {
            bytes.push(0x80 | (number & 0x7f) as u8);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }
}
