//! What has come of an answer, and what errors mean.

use super::VERSION;
use super::backend::{Answer, Ends, Failure};
use crate::call::{Marks, Outcome, Value};
use crate::limits::TAGS;
use crate::protocols::{Half, Response, Transaction};

/// Fields that most answers have: success, what was done, rows, state, or an error's.
const FIELDS: usize = 6;

/// What has come of an answer.
pub(super) struct SoFar {
    pub response: Box<Response>,
    reset: bool,
    /// How many rows were told of or came; `None` where there is nothing to count.
    rows: Option<u64>,
    copied: u64,
    notices: u64,
    /// What was done, `, ` between.
    command: String,
    /// Of how many statements that is.
    tags: usize,
    pub error: Option<Box<Failure>>,
    /// The state of the transaction.
    state: Option<u8>,
    /// Whether it was seen how it ended.
    ended: bool,
    /// Whether it has more text than is kept, since that was asked last.
    pub cut: bool,
}

impl SoFar {
    /// The first part of an answer.
    pub fn new(answer: Answer, half: Half, reset: bool) -> Self {
        let mut so_far = Self {
            response: Box::new(Response { status: None, half }),
            reset,
            rows: None,
            copied: 0,
            notices: 0,
            command: String::new(),
            tags: 0,
            error: None,
            state: None,
            ended: false,
            cut: false,
        };
        so_far.take(answer);
        so_far
    }

    /// The next part.
    pub fn add(&mut self, answer: Answer, half: &Half) {
        let mine = &mut self.response.half;
        mine.span.extend(&half.span);
        mine.body_len = mine.span.end - mine.span.start;
        mine.gap |= half.gap;
        self.take(answer);
    }

    /// Its end is not known: what came of it may have been an error.
    pub fn break_off(&mut self) {
        self.response.half.gap = true;
        self.ended = false;
    }

    fn take(&mut self, answer: Answer) {
        self.ended = answer.ends != Ends::Nothing;
        self.copied += answer.copied;
        self.notices += answer.notices;
        if let Ends::Ready(state) = answer.ends {
            self.state = Some(state);
        }
        let count = answer
            .tag
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        // What was done says how many; what was not finished has only the rows that came.
        if let Some(count) = count.or(Some(answer.rows).filter(|rows| *rows > 0)) {
            self.rows = Some(self.rows.unwrap_or(0).saturating_add(count));
        }
        self.cut |= answer.cut || !answer.tag.is_empty() && self.tags == TAGS;
        if !answer.tag.is_empty() && self.tags < TAGS {
            let mut tag = answer.tag;
            let number = |byte: &u8| byte.is_ascii_digit() || *byte == b' ';
            let behind = tag.bytes().rev().take_while(number).count();
            tag.truncate(tag.len() - behind);
            if self.tags == 0 {
                self.command = tag;
            } else {
                self.command.push_str(", ");
                self.command.push_str(&tag);
            }
            self.tags += 1;
        }
        self.error = answer.error.or_else(|| self.error.take());
    }

    /// The answer, as far as it has come.
    pub fn transaction(self) -> Transaction {
        let mut fields = Vec::with_capacity(FIELDS);
        // An error is one, whatever else was not seen.
        if self.ended || self.error.is_some() {
            fields.push(("postgresql_success", Value::Bool(self.error.is_none())));
        }
        if self.tags > 0 {
            fields.push(("postgresql_command", Value::Text(self.command.into())));
        }
        fields.extend(self.rows.map(|rows| ("postgresql_rows", int(rows))));
        for (name, number) in [
            ("postgresql_copied_bytes", self.copied),
            ("postgresql_notices", self.notices),
        ] {
            if number > 0 {
                fields.push((name, int(number)));
            }
        }
        let state = match self.state {
            Some(b'I') => "idle",
            Some(b'T') => "transaction",
            Some(b'E') => "failed transaction",
            _ => "",
        };
        if !state.is_empty() {
            fields.push(("postgresql_state", Value::Text(state.into())));
        }
        let outcome = match &self.error {
            Some(error) => outcome(&error.code),
            None if self.ended => Outcome::Ok,
            None => Outcome::Unknown,
        };
        if let Some(error) = self.error {
            fields.push(("error", Value::Text(error.code.clone().into())));
            fields.push(("postgresql_error_code", Value::Text(error.code.into())));
            fields.push(("postgresql_error_message", Value::Text(error.message.into())));
        }
        Transaction {
            version: VERSION,
            response: Some(self.response),
            outcome,
            marks: marks(self.reset),
            fields,
            ..Transaction::default()
        }
    }
}

impl Failure {
    /// Whether the connection ends with it.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

/// A number, as fields have it.
pub(super) fn int(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// What a reset leaves.
pub(super) fn marks(reset: bool) -> Marks {
    if reset { Marks::RESET } else { Marks::default() }
}

/// Whose fault an error is, by its SQLSTATE (PostgreSQL's manual, appendix A).
fn outcome(code: &str) -> Outcome {
    match code {
        // The statement's time ran out, the lock's, that of an idle transaction or session. A user who cancels has
        // the same code as the first, and has waited for too long as well.
        "57014" | "55P03" | "25P03" | "25P04" | "57P05" => Outcome::Timeout,
        _ => match code.get(..2) {
            // Connections, rollbacks for others' sake, resources, operators, the system, its configuration, foreign
            // data, the inside.
            Some("08" | "40" | "53" | "57" | "58" | "F0" | "HV" | "XX") => Outcome::ServerError,
            _ => Outcome::ClientError,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_an_error_is() {
        for (code, whose) in [
            ("22012", Outcome::ClientError),
            ("23505", Outcome::ClientError),
            ("42P01", Outcome::ClientError),
            ("28P01", Outcome::ClientError),
            ("40P01", Outcome::ServerError),
            ("53300", Outcome::ServerError),
            ("57P01", Outcome::ServerError),
            ("58030", Outcome::ServerError),
            ("XX000", Outcome::ServerError),
            ("57014", Outcome::Timeout),
            ("55P03", Outcome::Timeout),
        ] {
            assert_eq!(outcome(code), whose, "{code}");
        }
    }
}
