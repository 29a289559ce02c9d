//! What the client says: messages up to the one that makes the server work, as one question.

use std::sync::Arc;

use super::statement::{Prepared, Statement, Statements};
use super::wire::{CANCEL, Fields, GSSENC, HEADER_BYTES, Header, SSL, header};
use crate::Counters;
use crate::call::text_of;
use crate::limits::STATEMENT_LOOKED;

/// A question, or what else a client says that matters to the answers.
#[derive(Debug)]
pub(super) enum Question {
    /// A connection begins.
    Startup { user: String, database: String },
    /// A text of one or more statements.
    Query(Statement),
    /// A prepared statement is run.
    Execute(Prepared),
    /// A statement is prepared, and not run before the server has answered. `synced` says that a [`Self::Sync`] follows in
    /// the same breath.
    Prepare {
        name: String,
        statement: Arc<Statement>,
        synced: bool,
    },
    /// A function is called by its number.
    Function(u32),
    /// The end of questions that fail together.
    Sync,
    /// So many bytes of a table.
    Copied(u64),
    /// Another connection's question is to be given up.
    Cancel,
}

/// How far reading got; as [`Parsed`](crate::protocols::Parsed) has it.
#[derive(Debug)]
pub(super) enum Read {
    Question {
        used: usize,
        question: Question,
    },
    Part(usize),
    Skip(usize),
    More(usize),
    /// The wish to be encrypted.
    Encrypt(usize),
    Invalid,
}

/// Reads what a client says.
#[derive(Debug, Default)]
pub(super) struct Frontend {
    pub statements: Statements,
    /// Bytes of the message under way that are still to come.
    left: u64,
    /// The question that it ends.
    ends: Option<Question>,
    /// Whether a question has begun, and what its messages have said so far.
    open: bool,
    parsed: Option<(String, Arc<Statement>)>,
    /// Whether the server is asked what the statement is.
    described: bool,
    copied: u64,
}

/// Bytes of names that are looked at.
const NAMES_BYTES: usize = 256;

impl Frontend {
    /// Reads on.
    pub fn read(&mut self, bytes: &[u8], counters: &mut Counters) -> Read {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if self.left > 0 {
                let passed = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= passed as u64;
                used += passed;
            }
            if self.left == 0
                && let Some(question) = self.ends.take()
            {
                self.finish();
                return Read::Question { used, question };
            }
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() && used > 0 {
                return self.passed(used);
            }
            let Some(header) = header(rest).filter(Header::is_sane) else {
                return match used {
                    0 if rest.len() < HEADER_BYTES => Read::More(HEADER_BYTES),
                    0 => Read::Invalid,
                    _ => self.passed(used),
                };
            };
            let looked = header.head + header.content.min(looked(header.kind));
            let Some(content) = rest.get(header.head..looked) else {
                return if used > 0 {
                    self.passed(used)
                } else {
                    Read::More(looked)
                };
            };
            if !b"\0QPBEDCSHFXpdcf".contains(&header.kind) {
                return if used > 0 {
                    self.passed(used)
                } else {
                    Read::Invalid
                };
            }
            if header.kind == 0 {
                let mut fields = Fields::of(content);
                if matches!(fields.number(), Some(SSL | GSSENC)) {
                    return Read::Encrypt(used + looked);
                }
            }
            let asks = self.message(header, content, counters);
            self.left = (header.content + header.head - looked) as u64;
            used += looked;
            self.ends = asks;
            if !self.open && self.ends.is_none() {
                // Passwords, and what else is no question's.
                let passed = bytes
                    .len()
                    .saturating_sub(used)
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= passed as u64;
                return Read::Skip(used + passed);
            }
        }
    }

    /// Passes over missing bytes, if they are of the message under way; gives how many, and the question that ends.
    pub fn gap(&mut self, len: u64) -> (u64, Option<Question>) {
        let inside = len.min(self.left);
        self.left -= inside;
        if self.left > 0 || inside == 0 {
            return (inside, None);
        }
        let ends = self.ends.take();
        if ends.is_some() {
            self.finish();
        }
        (inside, ends)
    }

    /// What is there of the question under way; the place is lost, or there is nothing more.
    pub fn cut(&mut self) -> Option<Question> {
        let question = self.ends.take().or_else(|| {
            let parsed = self.parsed.take();
            parsed.map(|(name, statement)| Question::Prepare {
                name,
                statement,
                synced: false,
            })
        });
        self.left = 0;
        self.finish();
        question
    }

    /// Whether a message or a question is under way.
    pub fn is_open(&self) -> bool {
        self.left > 0 || self.open
    }

    fn passed(&self, used: usize) -> Read {
        if self.open || self.ends.is_some() {
            Read::Part(used)
        } else {
            Read::Skip(used)
        }
    }

    fn finish(&mut self) {
        self.open = false;
        self.parsed = None;
        self.described = false;
        self.copied = 0;
    }

    /// Takes a message; gives the question that ends with it.
    fn message(&mut self, header: Header, content: &[u8], counters: &mut Counters) -> Option<Question> {
        let mut fields = Fields::of(content);
        match header.kind {
            0 => return startup(fields),
            b'Q' => {
                let text = fields.text().unwrap_or(content);
                return Some(Question::Query(Statement::new(text, counters)));
            }
            b'P' => {
                let name = name(&mut fields);
                let text = fields.text().unwrap_or_else(|| fields.rest());
                let statement = Arc::new(Statement::new(text, counters));
                self.statements.parse(&name, Arc::clone(&statement), counters);
                self.parsed = Some((name, statement));
            }
            b'B' => {
                let portal = name(&mut fields);
                self.statements.bind(&portal, &name(&mut fields), counters);
                // It is run next, and its answer is that to the whole.
                self.parsed = None;
            }
            b'E' => return Some(Question::Execute(self.statements.portal(&name(&mut fields)))),
            b'D' => self.described |= fields.byte() == Some(b'S'),
            b'C' if fields.byte() == Some(b'S') => self.statements.close(&name(&mut fields)),
            b'F' => return Some(Question::Function(fields.number().unwrap_or_default())),
            b'S' => {
                return Some(match self.parsed.take() {
                    Some((name, statement)) => Question::Prepare {
                        name,
                        statement,
                        synced: true,
                    },
                    None => Question::Sync,
                });
            }
            b'H' if self.described => {
                return self.parsed.take().map(|(name, statement)| Question::Prepare {
                    name,
                    statement,
                    synced: false,
                });
            }
            b'd' => self.copied += header.content as u64,
            b'c' | b'f' => return Some(Question::Copied(self.copied)),
            // What ends the connection, and passwords.
            b'X' | b'p' => return None,
            _ => {}
        }
        self.open = true;
        None
    }
}

/// How much of a message's content is looked at.
fn looked(kind: u8) -> usize {
    match kind {
        // User and database stand among other settings.
        0 => 4 * NAMES_BYTES,
        b'B' | b'C' | b'D' | b'E' => NAMES_BYTES,
        b'Q' => STATEMENT_LOOKED + 1,
        b'P' => NAMES_BYTES + STATEMENT_LOOKED + 1,
        b'F' => 4,
        _ => 0,
    }
}

/// The next name, or as much of it as is looked at.
fn name(fields: &mut Fields<'_>) -> String {
    let name = fields.text().unwrap_or_else(|| fields.rest());
    text_of(name).into_owned()
}

fn startup(mut fields: Fields<'_>) -> Option<Question> {
    if fields.number()? == CANCEL {
        return Some(Question::Cancel);
    }
    let (mut user, mut database) = (String::new(), String::new());
    while let Some(key) = fields.text().filter(|key| !key.is_empty()) {
        match key {
            b"user" => user = name(&mut fields),
            b"database" => database = name(&mut fields),
            _ => {
                fields.text()?;
            }
        }
    }
    if database.is_empty() {
        // So the server has it.
        database.clone_from(&user);
    }
    Some(Question::Startup { user, database })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, content: &[u8]) -> Vec<u8> {
        let len = (content.len() + 4) as u32;
        [&[kind][..], &len.to_be_bytes(), content].concat()
    }

    /// The questions in these bytes, read in pieces of every length.
    #[track_caller]
    fn check(bytes: &[u8], expected: &[&str]) {
        for piece in [1, 2, 3, 7, bytes.len()] {
            let mut frontend = Frontend::default();
            let (mut start, mut end, mut told) = (0, 0, Vec::new());
            while start < bytes.len() {
                end = (end + piece).min(bytes.len());
                while start < end {
                    match frontend.read(&bytes[start..end], &mut Counters::default()) {
                        Read::Question { used, question } => {
                            start += used;
                            told.push(tell(&question));
                        }
                        Read::Part(used) | Read::Skip(used) | Read::Encrypt(used) => start += used,
                        Read::More(_) => break,
                        Read::Invalid => panic!("invalid in pieces of {piece}"),
                    }
                }
            }
            assert_eq!(told, expected, "in pieces of {piece}");
        }
    }

    fn tell(question: &Question) -> String {
        match question {
            Question::Startup { user, database } => format!("startup {user} {database}"),
            Question::Query(statement) => format!("query {}", statement.text),
            Question::Execute(Prepared::Known(_, statement)) => format!("execute {}", statement.text),
            Question::Execute(Prepared::Unknown(name)) => format!("execute unknown {name}"),
            Question::Execute(Prepared::Portal(name)) => format!("execute portal {name}"),
            Question::Prepare {
                statement, synced, ..
            } => format!("prepare {} {synced}", statement.text),
            Question::Function(number) => format!("function {number}"),
            Question::Sync => "sync".to_owned(),
            Question::Copied(bytes) => format!("copied {bytes}"),
            Question::Cancel => "cancel".to_owned(),
        }
    }

    #[test]
    fn a_statement_of_its_own() {
        check(&message(b'Q', b"SELECT 1\0"), &["query SELECT 1"]);
    }

    #[test]
    fn a_statement_that_is_prepared_bound_and_run() {
        let bytes = [
            message(b'P', b"s1\0SELECT $1\0\0\0"),
            message(b'B', b"\0s1\0\0\0\0\x01\0\0\0\x01x\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
            message(b'B', b"\0s2\0\0\0\0\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ];
        check(
            &bytes.concat(),
            &["execute SELECT $1", "sync", "execute unknown s2", "sync"],
        );
    }

    #[test]
    fn a_statement_that_is_prepared_first() {
        let parse = message(b'P', b"s1\0SELECT 1\0\0\0");
        let describe = message(b'D', b"Ss1\0");
        let (sync, flush) = (message(b'S', b""), message(b'H', b""));
        check(
            &[&parse[..], &describe, &sync].concat(),
            &["prepare SELECT 1 true"],
        );
        check(
            &[&parse[..], &describe, &flush, &sync].concat(),
            &["prepare SELECT 1 false", "sync"],
        );
        check(&[&parse[..], &sync].concat(), &["prepare SELECT 1 true"]);
    }

    #[test]
    fn the_start_of_a_connection() {
        let startup = b"\0\0\0\x23\0\x03\0\0user\0ann\0options\0database\0\0";
        check(startup, &["startup ann ann"]);
        check(
            b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
            &["cancel"],
        );
        check(&message(b'p', b"secret\0"), &[]);
    }

    #[test]
    fn a_table_that_is_copied() {
        let bytes = [
            message(b'd', b"1\t2\n"),
            message(b'd', b"3\n"),
            message(b'c', b""),
        ];
        check(&bytes.concat(), &["copied 6"]);
    }
}
