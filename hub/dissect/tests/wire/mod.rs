//! Frames of HTTP/2, as a peer would write them, and calls told in short.

#![allow(dead_code, reason = "each test that includes it uses a part of it")]

use std::collections::VecDeque;

use wiretape_dissect::testing::{Dissected, Talk};
use wiretape_dissect::{Call, Value};

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Settings that say nothing unusual.
pub fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

/// A frame of data.
pub fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    frame(0, u8::from(end), stream, payload)
}

/// The end of a stream, for a reason.
pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

/// The end of a connection, above a stream and for a reason.
pub fn go_away(last: u32, code: u32) -> Vec<u8> {
    frame(
        7,
        0,
        0,
        &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat(),
    )
}

/// A literal field with a literal name, inserted into the table or not.
pub fn literal(name: &str, value: &str, inserted: bool) -> Vec<u8> {
    let mut bytes = vec![if inserted { 0x40 } else { 0 }];
    for text in [name, value] {
        integer(&mut bytes, 7, 0, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// An integer that shares its first byte.
pub fn integer(bytes: &mut Vec<u8>, prefix: u32, first: u8, number: usize) {
    let mask = (1 << prefix) - 1;
    if number < mask {
        bytes.push(first | number as u8);
        return;
    }
    bytes.push(first | mask as u8);
    let mut rest = number - mask;
    while rest >= 128 {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// A header block that inserts nothing into the table.
#[derive(Clone)]
pub struct Wire {
    pub block: Vec<u8>,
}

/// A header block of these fields.
pub fn headers(fields: &[(&str, &str)]) -> Wire {
    let block = fields
        .iter()
        .flat_map(|(name, value)| literal(name, value, false))
        .collect();
    Wire { block }
}

/// Trailers.
pub fn trailers(fields: &[(&str, &str)]) -> Wire {
    headers(fields)
}

impl Wire {
    pub fn get(path: &str) -> Self {
        headers(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop"),
        ])
    }

    pub fn post(path: &str) -> Self {
        headers(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "shop"),
        ])
    }

    pub fn status(status: u16) -> Self {
        headers(&[(":status", &status.to_string())])
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.block.extend(literal(name, value, false));
        self
    }

    /// The frame, on a stream that goes on.
    pub fn on(&self, stream: u32) -> Vec<u8> {
        frame(1, 4, stream, &self.block)
    }

    /// The frame, on a stream that ends with it.
    pub fn end(&self, stream: u32) -> Vec<u8> {
        frame(1, 5, stream, &self.block)
    }
}

/// An encoder that inserts every field into the table, and refers to it from then on.
#[derive(Clone, Default)]
pub struct Encoder {
    table: VecDeque<(String, String)>,
}

/// Fields that the static table has whole.
const STATIC: [(&str, &str, u8); 4] = [
    (":method", "GET", 2),
    (":method", "POST", 3),
    (":scheme", "http", 6),
    (":status", "200", 8),
];

impl Encoder {
    pub fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in fields {
            let known = STATIC.iter().find(|(n, v, _)| (n, v) == (name, value));
            let inserted = self
                .table
                .iter()
                .position(|(n, v)| (n.as_str(), v.as_str()) == (*name, *value));
            match (known, inserted) {
                (Some((.., index)), _) => block.push(0x80 | index),
                (None, Some(index)) => integer(&mut block, 7, 0x80, index + 62),
                (None, None) => {
                    block.extend(literal(name, value, true));
                    self.table.push_front(((*name).to_owned(), (*value).to_owned()));
                    let size = |table: &VecDeque<(String, String)>| {
                        table
                            .iter()
                            .map(|(name, value)| name.len() + value.len() + 32)
                            .sum::<usize>()
                    };
                    while size(&self.table) > 4096 {
                        self.table.pop_back();
                    }
                }
            }
        }
        block
    }
}

/// Method, path, status, outcome, marks.
pub fn tell(call: &Call) -> String {
    let request = match &call.request {
        Some(_) => format!("{} {}", call.method, call.path),
        None => "-".to_owned(),
    };
    let status = call.status.map_or("-".to_owned(), |status| status.to_string());
    let marks: Vec<&str> = call.marks.names().collect();
    format!("{request} {status} {} {}", call.outcome.as_str(), marks.join(" "))
        .trim()
        .to_owned()
}

/// All calls, told in short.
#[track_caller]
pub fn check(dissected: &Dissected, expected: &[&str]) {
    let mut calls: Vec<&Call> = dissected.calls.iter().collect();
    calls.sort_by_key(|call| (call.stream, call.index));
    let told: Vec<String> = calls.into_iter().map(tell).collect();
    assert_eq!(told, expected, "{:#?}", dissected.counters);
}

/// A field of a call.
pub fn field<'c>(call: &'c Call, name: &str) -> Option<&'c Value> {
    call.fields
        .iter()
        .find(|(field, _)| *field == name)
        .map(|(_, value)| value)
}

/// A field that is a text.
pub fn text<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
    match field(call, name) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// A field that is a number.
pub fn int(call: &Call, name: &str) -> Option<i64> {
    match field(call, name) {
        Some(Value::Int(number)) => Some(*number),
        _ => None,
    }
}

/// A connection whose preface and settings are exchanged.
pub fn begun() -> Talk {
    let mut talk = Talk::usual();
    talk.handshake().ask(PREFACE).ask(settings()).answer(settings());
    talk
}
