//! Statements: what they are called, which table they are about, how they are shown, and which of them a connection has
//! prepared.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use super::shown::{comment_len, literal_len, shown};
use crate::Counters;
use crate::call::text_of;
use crate::limits::{PORTALS, STATEMENT_BYTES, STATEMENT_LOOKED, STATEMENTS_BYTES};

/// The text of a statement, as it is shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// Without needless space and without passwords; cut at the limit.
    pub text: String,
    /// What it does: `SELECT`.
    pub verb: Cow<'static, str>,
    /// The first table that it names, with its schema where that is named.
    pub table: String,
}

/// What an `Execute` runs.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// A statement that was prepared under this name.
    Known(String, Arc<Statement>),
    /// A statement of this name, whose text was not seen.
    Unknown(String),
    /// What was bound to this portal, which was not seen either.
    Portal(String),
}

/// A word of a statement, and how deep in parentheses it stands.
struct Word<'a> {
    text: &'a str,
    depth: usize,
}

/// Words that do something, as they stand behind a `WITH`.
const VERBS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES"];

/// What most statements do.
const USUAL: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "END", "ROLLBACK", "SET",
];

/// Words between the one that announces a table and the table.
const BETWEEN: &[&str] = &[
    "IF",
    "NOT",
    "EXISTS",
    "ONLY",
    "TABLE",
    "LATERAL",
    "UNLOGGED",
    "TEMPORARY",
    "TEMP",
    "CONCURRENTLY",
];

/// What is made, changed or dropped, as far as it decides where the table is named.
const OBJECTS: &[&str] = &["TABLE", "VIEW", "EVENT", "INDEX", "TRIGGER", "POLICY", "RULE"];

/// Words up to the one that says so: `CREATE OR REPLACE CONSTRAINT TRIGGER`.
const OBJECT_WORDS: usize = 5;

impl Statement {
    /// A statement, of which no more is looked at than the limit.
    pub fn new(whole: &[u8], counters: &mut Counters) -> Self {
        let looked = whole.get(..STATEMENT_LOOKED).unwrap_or(whole);
        let raw = text_of(looked);
        let mut text = shown(&raw);
        let words = Words::of(&raw);
        let is =
            |word: &Word<'_>, known: &[&str]| known.iter().any(|known| word.text.eq_ignore_ascii_case(known));
        let with = words.clone().next().is_some_and(|word| is(&word, &["WITH"]));
        let verb = words
            .clone()
            .find(|word| !with || word.depth == 0 && is(word, VERBS))
            .map(|word| upper(word.text))
            .unwrap_or_default();
        let announces: &[&str] = match &*verb {
            "SELECT" | "DELETE" => &["FROM"],
            "INSERT" | "MERGE" => &["INTO"],
            "UPDATE" => &["UPDATE"],
            "COPY" => &["COPY"],
            "TRUNCATE" => &["TRUNCATE"],
            "LOCK" => &["TABLE"],
            "ALTER" | "CREATE" | "DROP" => {
                let mut first = words.clone().take(OBJECT_WORDS);
                let object = first.find(|word| is(word, OBJECTS));
                match object.map(|word| upper(word.text)).as_deref() {
                    Some("INDEX" | "TRIGGER" | "POLICY") => &["ON"],
                    Some("RULE") if verb == "CREATE" => &["TO"],
                    Some("RULE") => &["ON"],
                    _ => &["TABLE"],
                }
            }
            _ => &[],
        };
        // `extract(year from created)` stands deeper than the select that it belongs to.
        let mut level = 0;
        let mut table = String::new();
        let mut behind = words;
        let (mut last, mut last_but_one) = ("", "");
        while !announces.is_empty()
            && table.is_empty()
            && let Some(word) = behind.next()
        {
            if is(&word, &["SELECT", "DELETE"]) {
                level = word.depth;
            }
            // `a IS NOT DISTINCT FROM b` compares.
            let compares = last.eq_ignore_ascii_case("DISTINCT")
                && ["IS", "NOT"]
                    .iter()
                    .any(|is| last_but_one.eq_ignore_ascii_case(is));
            (last, last_but_one) = (word.text, last);
            if is(&word, announces) && !compares && (word.depth == level || verb != "SELECT") {
                let named = behind.clone().find(|word| !is(word, BETWEEN));
                let named = named.filter(|named| named.depth == word.depth);
                table = named.map(|word| word.text.replace('"', "")).unwrap_or_default();
            }
        }
        if text.len() > STATEMENT_BYTES || looked.len() < whole.len() {
            counters.texts_cut += 1;
            text.truncate(text.floor_char_boundary(STATEMENT_BYTES));
        }
        Self { text, verb, table }
    }
}

/// A word in upper case.
fn upper(word: &str) -> Cow<'static, str> {
    let usual = USUAL.iter().find(|usual| word.eq_ignore_ascii_case(usual));
    usual.map_or_else(|| word.to_ascii_uppercase().into(), |usual| Cow::Borrowed(*usual))
}

/// Words of a statement that are looked at: what is longer is values.
const WORDS: usize = 1024;

/// The words of a statement, without literals, comments and signs. Names keep their dots and quotes.
#[derive(Clone)]
struct Words<'a> {
    rest: &'a str,
    depth: usize,
    /// How many more are looked at.
    left: usize,
}

impl<'a> Words<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            rest: text,
            depth: 0,
            left: WORDS,
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.left = self.left.checked_sub(1)?;
        while let Some(first) = self.rest.chars().next() {
            let rest = self.rest;
            let len = match first {
                '(' => {
                    self.depth += 1;
                    1
                }
                ')' => {
                    self.depth = self.depth.saturating_sub(1);
                    1
                }
                '\'' => {
                    1 + rest
                        .get(1..)
                        .and_then(|rest| rest.find('\''))
                        .map_or(rest.len() - 1, |at| at + 1)
                }
                '/' | '-' => comment_len(rest).max(1),
                // A parameter, such as `$1`, is none.
                '$' if let len @ 1.. = literal_len(rest, false) => len,
                _ if is_word(first) => {
                    let (text, behind) = rest.split_at(word_len(rest));
                    if behind.starts_with('\'') && text.eq_ignore_ascii_case("E") {
                        self.rest = behind.get(literal_len(behind, true)..).unwrap_or_default();
                        continue;
                    }
                    self.rest = behind;
                    return Some(Word {
                        text,
                        depth: self.depth,
                    });
                }
                other => other.len_utf8(),
            };
            self.rest = rest.get(len..).unwrap_or_default();
        }
        None
    }
}

/// Bytes of the word that a text begins with.
fn word_len(text: &str) -> usize {
    // Nearly all are of ASCII and without quotes.
    let plain = text.bytes().take_while(|byte| is_plain_word(*byte)).count();
    match text.as_bytes().get(plain) {
        Some(next) if *next == b'"' || !next.is_ascii() => {}
        _ => return plain,
    }
    let mut quoted = false;
    let end = text.find(|char| {
        quoted ^= char == '"';
        !quoted && !is_word(char)
    });
    end.unwrap_or(text.len())
}

fn is_plain_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$')
}

fn is_word(char: char) -> bool {
    match u8::try_from(char).ok().filter(u8::is_ascii) {
        Some(byte) => is_plain_word(byte) || byte == b'"',
        None => char.is_alphanumeric(),
    }
}

/// Whether a name is this one. Most are empty, which is told by the length: to compare nothing at an address where nothing is, as
/// an empty text's, takes a processor with AVX-512 a hundred times as long as to compare a word.
fn is(name: &str, other: &str) -> bool {
    name.len() == other.len() && (name.is_empty() || name == other)
}

/// What a connection has prepared.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// By name, the oldest first.
    statements: VecDeque<(String, Arc<Statement>)>,
    /// What is bound to be run, by name.
    portals: VecDeque<(String, Prepared)>,
    memory: usize,
}

impl Statements {
    /// A statement is prepared.
    pub fn parse(&mut self, name: &str, statement: Arc<Statement>, counters: &mut Counters) {
        self.close(name);
        self.memory += cost(name, &statement);
        self.statements.push_back((name.to_owned(), statement));
        while self.memory > STATEMENTS_BYTES
            && let Some((name, statement)) = self.statements.pop_front()
        {
            counters.statements_forgotten += 1;
            self.memory -= cost(&name, &statement);
        }
    }

    /// A statement is bound to a portal.
    pub fn bind(&mut self, portal: &str, statement: &str, counters: &mut Counters) {
        let known = self.statements.iter().rev().find(|(name, _)| is(name, statement));
        let prepared = match known {
            Some((name, statement)) => Prepared::Known(name.clone(), Arc::clone(statement)),
            None => Prepared::Unknown(statement.to_owned()),
        };
        self.portals.retain(|(name, _)| !is(name, portal));
        self.portals.push_back((portal.to_owned(), prepared));
        if self.portals.len() > PORTALS {
            counters.statements_forgotten += 1;
            self.portals.pop_front();
        }
    }

    /// What runs when a portal is executed.
    pub fn portal(&self, portal: &str) -> Prepared {
        let known = self.portals.iter().find(|(name, _)| is(name, portal));
        known.map_or_else(
            || Prepared::Portal(portal.to_owned()),
            |(_, prepared)| prepared.clone(),
        )
    }

    /// A statement is given up.
    pub fn close(&mut self, name: &str) {
        if let Some(at) = self.statements.iter().position(|(known, _)| is(known, name))
            && let Some((name, statement)) = self.statements.remove(at)
        {
            self.memory -= cost(&name, &statement);
        }
    }

    /// What was prepared may have been prepared otherwise since.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Bytes that it holds, roughly.
    pub fn memory(&self) -> usize {
        self.memory
    }
}

fn cost(name: &str, statement: &Statement) -> usize {
    size_of::<(String, Arc<Statement>)>() + size_of::<Statement>() + name.len() + statement.text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, verb: &str, table: &str) {
        let statement = Statement::new(text.as_bytes(), &mut Counters::default());
        assert_eq!((&*statement.verb, statement.table.as_str()), (verb, table));
    }

    #[test]
    fn verbs_and_tables() {
        check("select * from orders where id = 1", "SELECT", "orders");
        check("SELECT 1", "SELECT", "");
        check(
            "/* app */ SELECT a FROM \"Shop\".orders o JOIN b ON true",
            "SELECT",
            "Shop.orders",
        );
        check(
            "SELECT extract(year FROM created) FROM events",
            "SELECT",
            "events",
        );
        check("SELECT 'x from y' FROM z", "SELECT", "z");
        check("SELECT a -- from b\n FROM c", "SELECT", "c");
        check("SELECT * FROM (SELECT * FROM inner_one) s", "SELECT", "inner_one");
        check("INSERT INTO cart (a) SELECT b FROM c", "INSERT", "cart");
        check("UPDATE ONLY stock SET n = 1", "UPDATE", "stock");
        check("delete from a using b", "DELETE", "a");
        check("WITH x AS (SELECT 1 FROM a) UPDATE b SET c = 1", "UPDATE", "b");
        check("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE", "t");
        check("COPY t FROM STDIN", "COPY", "t");
        check("TRUNCATE TABLE t", "TRUNCATE", "t");
        check("/* a /* b */ c */ SELECT 1 FROM d", "SELECT", "d");
        check("BEGIN", "BEGIN", "");
        check(
            "SELECT a IS DISTINCT FROM b, a is not distinct from b FROM orders",
            "SELECT",
            "orders",
        );
        check("SELECT DISTINCT a FROM t", "SELECT", "t");
        check(r"SELECT E'it\'s from b' FROM c", "SELECT", "c");
        check(r"SELECT 'it\' FROM c", "SELECT", "c");
        check("SELECT $$x from y$$, $a$ from $b$ b$a$ FROM z", "SELECT", "z");
        check("SELECT a$b FROM t WHERE c = $1", "SELECT", "t");
        check(
            "CREATE VIEW v AS SELECT * FROM a JOIN b ON a.id = b.id",
            "CREATE",
            "",
        );
        check("CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a)", "CREATE", "t");
        check(
            "CREATE OR REPLACE CONSTRAINT TRIGGER x AFTER UPDATE OF a ON t",
            "CREATE",
            "t",
        );
        check("CREATE EVENT TRIGGER x ON ddl_command_end", "CREATE", "");
        check("CREATE POLICY p ON t USING (true)", "CREATE", "t");
        check("CREATE RULE r AS ON INSERT TO t DO NOTHING", "CREATE", "t");
        check("DROP TRIGGER x ON t", "DROP", "t");
        check("ALTER TABLE t ADD COLUMN a int", "ALTER", "t");
        check(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO x",
            "ALTER",
            "",
        );
        check("SHOW search_path", "SHOW", "");
        check("", "", "");
        check("'", "", "");
    }

    #[test]
    fn the_oldest_statement_is_forgotten_at_the_limit() {
        let mut statements = Statements::default();
        let mut counters = Counters::default();
        for n in 0..100 {
            let text = format!("SELECT '{}'", "x".repeat(1000));
            statements.parse(
                &n.to_string(),
                Arc::new(Statement::new(text.as_bytes(), &mut Counters::default())),
                &mut counters,
            );
        }
        assert!(statements.memory() <= STATEMENTS_BYTES && counters.statements_forgotten > 0);
        statements.bind("old", "0", &mut counters);
        statements.bind("new", "99", &mut counters);
        assert!(matches!(statements.portal("old"), Prepared::Unknown(name) if name == "0"));
        assert!(matches!(statements.portal("new"), Prepared::Known(..)));
        for n in 0..100 {
            statements.close(&n.to_string());
        }
        assert_eq!(statements.memory(), 0);
    }

    #[test]
    fn the_oldest_portal_is_forgotten_at_the_limit() {
        let mut statements = Statements::default();
        let mut counters = Counters::default();
        for n in 0..=PORTALS {
            statements.bind(&n.to_string(), "s", &mut counters);
        }
        assert_eq!(counters.statements_forgotten, 1);
        assert!(matches!(statements.portal("0"), Prepared::Portal(name) if name == "0"));
        assert!(matches!(statements.portal("1"), Prepared::Unknown(name) if name == "s"));
    }
}
