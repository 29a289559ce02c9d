//! Differences that are explained, with who is right. `docs/conformance.md` is written from this table.

use crate::compare::Difference;

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// We are.
    Ours,
    /// The oracle is.
    Theirs,
    /// Each in its own way.
    Both,
}

impl Right {
    /// As in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Both => "both",
        }
    }
}

/// Differences of one field in one capture, or in all of them.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The protocol.
    pub protocol: &'static str,
    /// The oracle.
    pub oracle: &'static str,
    /// The capture.
    pub file: &'static str,
    /// The field; with `*` at its end, all that begin so.
    pub field: &'static str,
    /// Who is right.
    pub right: Right,
    /// Why it is so.
    pub why: &'static str,
}

impl Known {
    /// Whether it speaks of a difference.
    pub fn explains(&self, difference: &Difference) -> bool {
        let field = match self.field.strip_suffix('*') {
            Some(begin) => difference.field.starts_with(begin),
            None => difference.field == self.field,
        };
        let of = (difference.protocol, difference.oracle, difference.file.as_str());
        field && of == (self.protocol, self.oracle, self.file)
    }
}

/// All of them, in the order of the tables.
pub const KNOWN: &[Known] = &[];
