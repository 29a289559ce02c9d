//! What the server says: messages up to the one that ends an answer.

use super::wire::{Fields, HEADER_BYTES, Header, header};
use crate::call::text_of;
use crate::limits::REPLY_BYTES;

/// An answer, or a part of one that ends something.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub ends: Ends,
    /// Rows that were sent.
    pub rows: u64,
    /// Bytes of a table that were sent.
    pub copied: u64,
    pub notices: u64,
    /// What was done, in the server's words: `INSERT 0 1`.
    pub tag: String,
    pub error: Option<Box<Failure>>,
    /// The channel of a notification.
    pub channel: String,
    /// Whether there is more text in it than is kept.
    pub cut: bool,
}

/// What ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ends {
    /// Nothing: the rest was not seen.
    #[default]
    Nothing,
    /// A statement: done, empty, suspended, or failed.
    Statement,
    /// The description of a prepared statement.
    Description,
    /// All that was asked. The state of the transaction, as on the wire.
    Ready(u8),
    /// A notification, which answers nothing.
    Notification,
}

/// An error, in the server's words.
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    pub message: String,
}

/// How far reading got; as [`Parsed`](crate::protocols::Parsed) has it.
#[derive(Debug)]
pub(super) enum Read {
    Answer { used: usize, answer: Answer },
    Part(usize),
    Skip(usize),
    More(usize),
    Invalid,
}

/// Reads what a server says.
#[derive(Debug, Default)]
pub(super) struct Backend {
    /// Bytes of the message under way that are still to come.
    left: u64,
    /// Whether the answer ends with it.
    ends: bool,
    /// Whether an answer has begun, and what of it was seen.
    open: bool,
    answer: Answer,
    /// Whether the parameters of a statement were described, so that its columns are next.
    described: bool,
}

impl Backend {
    /// Reads on.
    pub fn read(&mut self, bytes: &[u8]) -> Read {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if self.left > 0 {
                let passed = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= passed as u64;
                used += passed;
            }
            if self.left == 0 && self.ends {
                let answer = self.take();
                return Read::Answer { used, answer };
            }
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() && used > 0 {
                return self.passed(used);
            }
            let known =
                |header: &Header| header.is_sane() && b"RSKNA123tTnDCIEsZGHWdcVv".contains(&header.kind);
            let header = match header(rest) {
                Some(header) if known(&header) => header,
                _ if used > 0 => return self.passed(used),
                None if rest.len() < HEADER_BYTES => return Read::More(HEADER_BYTES),
                _ => return Read::Invalid,
            };
            let looked = header.head + header.content.min(looked(header.kind));
            let Some(content) = rest.get(header.head..looked) else {
                return if used > 0 {
                    self.passed(used)
                } else {
                    Read::More(looked)
                };
            };
            self.message(header, content);
            self.left = (header.content + header.head - looked) as u64;
            used += looked;
            if !self.open {
                let passed = bytes
                    .len()
                    .saturating_sub(used)
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= passed as u64;
                return Read::Skip(used + passed);
            }
        }
    }

    /// Passes over missing bytes, if they are of the message under way; gives how many, and the answer that ends.
    pub fn gap(&mut self, len: u64) -> (u64, Option<Answer>) {
        let inside = len.min(self.left);
        self.left -= inside;
        let ended = inside > 0 && self.left == 0 && self.ends;
        (inside, ended.then(|| self.take()))
    }

    /// What is there of the answer under way; the place is lost, or there is nothing more.
    pub fn cut(&mut self) -> Option<Answer> {
        let open = self.open;
        let ended = self.ends;
        let mut answer = self.take();
        if !ended {
            answer.ends = Ends::Nothing;
        }
        open.then_some(answer)
    }

    /// Whether a message or an answer is under way.
    pub fn is_open(&self) -> bool {
        self.left > 0 || self.open
    }

    fn passed(&self, used: usize) -> Read {
        if self.open {
            Read::Part(used)
        } else {
            Read::Skip(used)
        }
    }

    fn take(&mut self) -> Answer {
        self.left = 0;
        self.ends = false;
        self.open = false;
        std::mem::take(&mut self.answer)
    }

    /// Takes a message.
    fn message(&mut self, header: Header, content: &[u8]) {
        let mut fields = Fields::of(content);
        let described = std::mem::take(&mut self.described);
        let ends = match header.kind {
            b'D' => {
                self.answer.rows += 1;
                Ends::Nothing
            }
            b'C' => {
                self.answer.tag = text(fields.text().unwrap_or(content));
                Ends::Statement
            }
            b'I' | b's' => Ends::Statement,
            b'E' => {
                self.answer.error = Some(Box::new(failure(fields, &mut self.answer.cut)));
                Ends::Statement
            }
            b'Z' => Ends::Ready(fields.byte().unwrap_or_default()),
            b't' => {
                self.described = true;
                Ends::Nothing
            }
            b'T' | b'n' if described => Ends::Description,
            b'd' => {
                self.answer.copied += header.content as u64;
                Ends::Nothing
            }
            b'A' if !self.open => {
                fields.number();
                self.answer.channel = text(fields.text().unwrap_or_default());
                Ends::Notification
            }
            b'N' => {
                self.answer.notices += 1;
                Ends::Nothing
            }
            // A setting that has changed is no answer's begin.
            b'S' if !self.open => return,
            _ => Ends::Nothing,
        };
        self.open = true;
        self.ends = ends != Ends::Nothing;
        self.answer.ends = ends;
    }
}

/// How much of a message's content is looked at.
fn looked(kind: u8) -> usize {
    match kind {
        b'C' | b'A' => REPLY_BYTES,
        // Some fields of no interest stand between those of interest.
        b'E' => 4 * REPLY_BYTES,
        b'Z' => 1,
        _ => 0,
    }
}

fn text(bytes: &[u8]) -> String {
    text_of(bytes.get(..REPLY_BYTES).unwrap_or(bytes)).into_owned()
}

fn failure(mut fields: Fields<'_>, cut: &mut bool) -> Failure {
    let mut failure = Failure::default();
    while let Some(kind) = fields.byte().filter(|kind| *kind != 0) {
        let value = fields.text().unwrap_or_else(|| fields.rest());
        match kind {
            // `V` is the same as `S`, in English whatever the server speaks.
            b'S' if failure.severity.is_empty() => failure.severity = text(value),
            b'V' => failure.severity = text(value),
            b'C' => failure.code = text(value),
            b'M' => {
                *cut |= value.len() > REPLY_BYTES;
                failure.message = text(value);
            }
            _ => {}
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let len = (content.len() + 4) as u32;
        [&[kind][..], &len.to_be_bytes(), content].concat()
    }

    /// The answers in these bytes, read in pieces of every length.
    #[track_caller]
    fn check(bytes: &[u8], expected: &[&str]) {
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut backend = Backend::default();
            let (mut start, mut end, mut told) = (0, 0, Vec::new());
            while start < bytes.len() {
                end = (end + piece).min(bytes.len());
                while start < end {
                    match backend.read(&bytes[start..end]) {
                        Read::Answer { used, answer } => {
                            start += used;
                            let error = answer.error.map(|error| error.code).unwrap_or_default();
                            told.push(format!("{:?} {} {}{error}", answer.ends, answer.rows, answer.tag));
                        }
                        Read::Part(used) | Read::Skip(used) => start += used,
                        Read::More(_) => break,
                        Read::Invalid => panic!("invalid in pieces of {piece}"),
                    }
                }
            }
            assert_eq!(told, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn rows_and_what_was_done() {
        let bytes = [
            message(b'2', b""),
            message(
                b'T',
                b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
            ),
            message(b'D', b"\0\x01\0\0\0\x01x"),
            message(b'D', b"\0\x01\xff\xff\xff\xff"),
            message(b'C', b"SELECT 2\0"),
            message(b'Z', b"I"),
        ];
        check(&bytes.concat(), &["Statement 2 SELECT 2", "Ready(73) 0 "]);
    }

    #[test]
    fn what_a_statement_is() {
        let bytes = [
            message(b'1', b""),
            message(b't', b"\0\0"),
            message(b'n', b""),
            message(b'Z', b"I"),
        ];
        check(&bytes.concat(), &["Description 0 ", "Ready(73) 0 "]);
    }

    #[test]
    fn an_error_after_rows() {
        let error = message(b'E', b"SFEHLER\0VERROR\0C22012\0Mdivision by zero\0\0");
        let bytes = [message(b'D', b"\0\0"), error, message(b'Z', b"E")];
        check(&bytes.concat(), &["Statement 1 22012", "Ready(69) 0 "]);
    }

    #[test]
    fn settings_and_notifications_answer_nothing() {
        let bytes = [
            message(b'S', b"a\0b\0"),
            message(b'A', b"\0\0\0\x01jobs\0\0"),
            message(b'Z', b"I"),
        ];
        check(&bytes.concat(), &["Notification 0 ", "Ready(73) 0 "]);
    }
}
