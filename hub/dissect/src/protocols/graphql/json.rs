//! The few values of a JSON body that GraphQL is told by, found as the body goes by.

use crate::limits::{GQL_LOOKED, GQL_QUERY};

/// Containers inside containers that are followed: as many as have a bit.
const DEPTH: usize = 64;

/// Depths whose key is remembered: an answer's `errors[].extensions.code` is the deepest, in a batch one deeper.
const KEYS: usize = 7;

/// Bytes of a key that are remembered, one more than the longest that is looked for.
const WORD: usize = 15;

/// A key that means something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Key {
    Query,
    OperationName,
    Extensions,
    PersistedQuery,
    Errors,
    Message,
    Code,
    #[default]
    Other,
}

/// Keys that a request of GraphQL may have beside those above: its variables, and names that servers and clients give
/// to a statement that both know.
const BESIDE: &[&[u8]] = &[b"variables", b"id", b"hash", b"doc_id", b"documentId", b"queryId"];

/// What was found, and where in the text the next byte is.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Statement, name of the operation.
    pub query: Text,
    pub operation: Text,
    /// Whether the statement is one that the server knows already.
    pub persisted: bool,
    /// Errors, and what the first one says.
    pub errors: u32,
    pub message: Text,
    pub code: Text,
    /// Whether all of the body was looked at.
    pub whole: bool,
    /// Whether the body is a request, which is no GraphQL as soon as it has a key that GraphQL has not.
    request: bool,
    looked: usize,
    /// Whether there is more than is looked at.
    pub beyond: bool,
    over: bool,
    depth: usize,
    /// Which containers are arrays, a bit each.
    arrays: u64,
    keys: [Key; KEYS],
    expects_key: bool,
    string: Option<Under>,
    word: [u8; WORD],
    word_len: usize,
}

/// A text that was looked for.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub bytes: Vec<u8>,
    /// Whether it has begun, and ended.
    begun: bool,
    ended: bool,
    /// Whether it is longer than is kept.
    cut: bool,
}

/// A string under way.
#[derive(Debug)]
struct Under {
    what: What,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Key,
    Query,
    Operation,
    Message,
    Code,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// So many digits of a character's number, and their value.
    Number(u8, u32),
}

impl Scanner {
    /// For a request: one that is not GraphQL, as nearly all are, is not looked at beyond its first key.
    pub fn of_request() -> Self {
        Self {
            request: true,
            ..Self::default()
        }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.over {
                return;
            }
            if self.looked == GQL_LOOKED {
                self.beyond = true;
                self.stop();
                return;
            }
            self.looked += 1;
            match self.string.take() {
                Some(under) => self.in_string(under, *byte),
                None => self.between(*byte),
            }
        }
    }

    /// Looks no further.
    pub fn stop(&mut self) {
        self.over = true;
    }

    /// Whether a text is longer than is kept.
    pub fn is_cut(&self) -> bool {
        let texts = [&self.query, &self.operation, &self.message, &self.code];
        texts.iter().any(|text| text.cut)
    }

    /// Bytes that it holds, roughly.
    pub fn cost(&self) -> usize {
        let texts = [&self.query, &self.operation, &self.message, &self.code];
        texts.iter().map(|text| text.bytes.len()).sum()
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.open(byte == b'['),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.expects_key = false;
                if self.depth == 0 {
                    self.whole = true;
                    self.over = true;
                }
            }
            b',' => self.expects_key = !self.is_array(self.depth),
            b':' => self.expects_key = false,
            b'"' => {
                let what = if self.expects_key {
                    What::Key
                } else {
                    self.wanted()
                };
                self.word_len = 0;
                if let Some(text) = self.text(what) {
                    text.begun = true;
                }
                self.string = Some(Under {
                    what,
                    escape: Escape::No,
                });
            }
            // A body that is neither an object nor an array.
            byte if self.depth == 0 && !byte.is_ascii_whitespace() => self.over = true,
            _ => {}
        }
    }

    fn open(&mut self, array: bool) {
        if self.depth + 1 >= DEPTH {
            self.over = true;
            return;
        }
        let base = self.base();
        let inside_errors = self.depth == base + 1 && self.is_array(self.depth);
        if !array && self.depth > 0 && inside_errors && self.key(base) == Key::Errors {
            self.errors = self.errors.saturating_add(1);
        }
        self.depth += 1;
        let bit = 1 << self.depth;
        self.arrays = if array {
            self.arrays | bit
        } else {
            self.arrays & !bit
        };
        if let Some(key) = self.keys.get_mut(self.depth) {
            *key = Key::Other;
        }
        self.expects_key = !array;
    }

    fn in_string(&mut self, mut under: Under, byte: u8) {
        match (under.escape, byte) {
            (Escape::No, b'"') => return self.string_ends(under.what),
            (Escape::No, b'\\') => under.escape = Escape::Begun,
            (Escape::No, byte) => self.push(under.what, &[byte]),
            (Escape::Begun, b'u') => under.escape = Escape::Number(0, 0),
            (Escape::Begun, byte) => {
                under.escape = Escape::No;
                let meant = match byte {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' | b'f' => b' ',
                    byte => byte,
                };
                self.push(under.what, &[meant]);
            }
            (Escape::Number(digits, value), byte) => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let value = value << 4 | digit;
                under.escape = if digits < 3 {
                    Escape::Number(digits + 1, value)
                } else {
                    // One half of a pair is no character by itself; what it is about is not shown.
                    let meant = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                    self.push(under.what, meant.encode_utf8(&mut [0; 4]).as_bytes());
                    Escape::No
                };
            }
        }
        self.string = Some(under);
    }

    fn string_ends(&mut self, what: What) {
        if what != What::Key {
            if let Some(text) = self.text(what) {
                text.ended = true;
            }
            return;
        }
        let word = self.word.get(..self.word_len).unwrap_or_default();
        let key = match word {
            b"query" => Key::Query,
            b"operationName" => Key::OperationName,
            b"extensions" => Key::Extensions,
            b"persistedQuery" => Key::PersistedQuery,
            b"errors" => Key::Errors,
            b"message" => Key::Message,
            b"code" => Key::Code,
            _ => Key::Other,
        };
        let base = self.base();
        let asked =
            matches!(key, Key::Query | Key::OperationName | Key::Extensions) || BESIDE.contains(&word);
        if self.request && self.depth == base && !asked {
            self.over = true;
        }
        self.persisted |=
            key == Key::PersistedQuery && self.depth == base + 1 && self.key(base) == Key::Extensions;
        if let Some(slot) = self.keys.get_mut(self.depth) {
            *slot = key;
        }
    }

    /// What a value that begins here is.
    fn wanted(&self) -> What {
        let base = self.base();
        let in_first_error = self.errors == 1 && self.key(base) == Key::Errors;
        let what = match (self.depth.checked_sub(base), self.key(self.depth)) {
            (Some(0), Key::Query) => What::Query,
            (Some(0), Key::OperationName) => What::Operation,
            (Some(2), Key::Message) if in_first_error => What::Message,
            (Some(3), Key::Code) if in_first_error && self.key(base + 2) == Key::Extensions => What::Code,
            _ => What::Nothing,
        };
        // Only the first of several counts.
        let known = match what {
            What::Query => self.query.begun,
            What::Operation => self.operation.begun,
            What::Message => self.message.begun,
            What::Code => self.code.begun,
            What::Key | What::Nothing => false,
        };
        if known { What::Nothing } else { what }
    }

    fn push(&mut self, what: What, bytes: &[u8]) {
        if what == What::Key {
            for byte in bytes {
                if let Some(slot) = self.word.get_mut(self.word_len) {
                    *slot = *byte;
                    self.word_len += 1;
                }
            }
        } else if let Some(text) = self.text(what) {
            if text.bytes.len() + bytes.len() <= GQL_QUERY {
                text.bytes.extend_from_slice(bytes);
            } else {
                text.cut = true;
            }
        }
    }

    fn text(&mut self, what: What) -> Option<&mut Text> {
        match what {
            What::Query => Some(&mut self.query),
            What::Operation => Some(&mut self.operation),
            What::Message => Some(&mut self.message),
            What::Code => Some(&mut self.code),
            What::Key | What::Nothing => None,
        }
    }

    /// The depth at which a request or an answer has its keys: in a batch, they are in an array.
    fn base(&self) -> usize {
        if self.is_array(1) { 2 } else { 1 }
    }

    fn key(&self, depth: usize) -> Key {
        self.keys.get(depth).copied().unwrap_or_default()
    }

    fn is_array(&self, depth: usize) -> bool {
        self.arrays >> depth & 1 == 1
    }
}

impl Text {
    /// The text, if it is there as a whole or as far as it is kept.
    pub fn known(&self) -> Option<String> {
        let there = self.ended || self.bytes.len() + 4 > GQL_QUERY;
        there.then(|| String::from_utf8_lossy(&self.bytes).into_owned())
    }
}
