//! What a person reads when a filter is wrong.

use std::fmt;

/// Why a text is not a filter, and where.
///
/// Shown over several lines, the caret under the place:
///
/// ```text
/// line 1, column 10: unknown field `src.podd`
///   http and src.podd contains "x"
///            ^^^^^^^^
/// did you mean `src.pod`?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KflError {
    /// Where it begins.
    pub position: Position,
    /// What is wrong: one line, no full stop.
    pub message: String,
    /// What to do about it, where that can be told.
    pub hint: Option<String>,
    excerpt: String,
    /// Characters before the caret, and how many of it.
    caret: (usize, usize),
}

/// A place in a filter's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Bytes before it.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// Bytes `start..end` of a filter's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// From the start of this to the end of the other.
    pub fn to(self, other: Span) -> Span {
        Span {
            start: self.start,
            end: other.end,
        }
    }
}

/// An error inside the crate: what a stage knows when it finds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Characters of the line shown on either side of the place. A filter may be one line of 16 KiB.
const EXCERPT: usize = 60;

impl KflError {
    pub(crate) fn new(text: &str, problem: Problem) -> Self {
        let Span { start, end } = problem.span;
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text
            .get(line_start..)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let width = text
            .get(start..end)
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .count();

        let skipped = column.saturating_sub(EXCERPT);
        let excerpt = line.chars().skip(skipped).take(2 * EXCERPT);
        Self {
            position: Position {
                offset: start,
                line: before.matches('\n').count() + 1,
                column: column + 1,
            },
            message: problem.message,
            hint: problem.hint,
            // One column each, whatever the terminal's tab width.
            excerpt: excerpt.map(|c| if c.is_control() { ' ' } else { c }).collect(),
            caret: (column - skipped, width.clamp(1, EXCERPT)),
        }
    }
}

impl fmt::Display for KflError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column, .. } = self.position;
        let (indent, width) = self.caret;
        writeln!(f, "line {line}, column {column}: {}", self.message)?;
        writeln!(f, "  {}", self.excerpt)?;
        write!(f, "  {:indent$}{:^<width$}", "", "")?;
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for KflError {}
