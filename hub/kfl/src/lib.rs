//! KFL, the filter language: text in, a checked [`Expr`] out.
//!
//! ```
//! let filter = wiretape_kfl::compile(r#"dst.svc == "frontend" and response.status >= 500"#, 0)?;
//! assert_eq!(filter.to_string(), r#"dst.service.name == "frontend" && status_code >= 500"#);
//! # Ok::<(), wiretape_kfl::KflError>(())
//! ```
//!
//! One grammar takes the three dialects that are in use: KFL1 (`and`, `r"regex"`), KFL2 (CEL: `&&`, `.contains()`) and
//! the mixture of both that people write (`src.pod contains "x"`). A filter is compiled in the order of the modules
//! below: tokens, syntax tree, then names are resolved and types checked. What comes out knows no dialect any more; it
//! is printed in KFL2's spelling, translated by whoever owns a store, or run on single calls by [`evaluate()`]. What a
//! store has no form for is kept apart, as [`Computed`]. [`explain()`] tells a person how a filter was read.
//!
//! Nothing here knows a store, reads a clock or does I/O.

mod error;
mod limits;

mod lexer;
mod parser;
mod syntax;

mod fields;
mod names;
mod suggest;

mod check;
mod time;

mod expr;
mod term;

mod print;

mod evaluate;
mod explain;

pub use error::{KflError, Position};
pub use evaluate::{GaveUp, Row, Value, decide, evaluate};
pub use explain::{Condition, Explanation, Name, explain};
pub use expr::{Arithmetic, Comparison, Expr, Filter, Literal, Operand, Pattern, Redaction, TextTest};
pub use fields::{FIELDS, Field, FieldInfo, Kind};
pub use limits::{
    DOCUMENT_NESTING, EVALUATION_STEPS, LIST_ENTRIES, LOOPS, NESTING, PARTS, REGEX_BYTES, REGEXES, TEXT_BYTES,
};
pub use names::{LATENCY_IN_MS, MACROS, Macro};
pub use term::{Computed, Relation, TextRelation, TextsTest};

/// Nanoseconds since 1970-01-01 UTC.
pub type Nanos = u64;

/// Compiles a filter. Empty text (or nothing but comments) is the filter that matches everything.
///
/// `now` is what `now()` means in it, fixed here so that a filter gives one answer however long it runs.
///
/// # Errors
/// Anything that is not a filter, or is larger than the [limits](crate::TEXT_BYTES) allow: the error shows the place and
/// says what to do.
pub fn compile(text: &str, now: Nanos) -> Result<Filter, KflError> {
    let filter = match parser::parse(text) {
        Ok(None) => Ok(Filter::default()),
        Ok(Some(node)) => check::check(&node, now),
        Err(problem) => Err(problem),
    };
    filter.map_err(|problem| KflError::new(text, problem))
}
