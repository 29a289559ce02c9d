//! Filters on single entries. The rules are those of [`Expr`](crate::expr); a store's translation is held against this.

mod item;
mod terms;
mod xml;

use std::borrow::Cow;
use std::fmt;

use crate::Nanos;
use crate::expr::{Comparison, Expr, Filter, Literal, Operand, TextTest};
use crate::fields::{Field, Kind};
use crate::limits::EVALUATION_STEPS;
use crate::term::{Computed, Variable};

use item::Item;

/// An entry that a filter can look at.
pub trait Row {
    /// A field's value, of the field's [`Kind`]; [`Value::Missing`] when nothing is recorded. Texts of a field that
    /// [is in lower case](Field::is_lower_case) are in lower case.
    fn get(&self, field: Field) -> Value<'_>;

    /// An entry of a field of [`Kind::Map`]: the first of that key. If the field's [keys match in any
    /// case](Field::keys_in_any_case), `key` is in lower case.
    fn map_get(&self, map: Field, key: &str) -> Option<Cow<'_, str>>;

    /// All entries of a field of [`Kind::Map`], in no particular order; a key may repeat. Keys that [match in any
    /// case](Field::keys_in_any_case) are in lower case.
    fn map_entries(&self, map: Field) -> Vec<(Cow<'_, str>, Cow<'_, str>)>;
}

/// What an entry has in a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Nothing is recorded.
    Missing,
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A point in time.
    Time(Nanos),
    /// Texts.
    List(Vec<Cow<'a, str>>),
    /// A map with so many entries; they are had from [`Row::map_get`].
    Map(usize),
}

/// Why a filter was not decided: the entry takes more than [`EVALUATION_STEPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GaveUp;

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the filter takes more than {EVALUATION_STEPS} steps for one entry"
        )
    }
}

impl std::error::Error for GaveUp {}

/// Whether an entry matches. It is true or false for every filter and row, also for a row whose values are not of their
/// fields' kinds (these count as missing). What [`decide`] gives up on does not match.
pub fn evaluate(filter: &Filter, row: &dyn Row) -> bool {
    decide(filter, row).unwrap_or(false)
}

/// Whether an entry matches.
///
/// # Errors
/// The filter has loops or documents, and the entry is so large that it would take too long.
pub fn decide(filter: &Filter, row: &dyn Row) -> Result<bool, GaveUp> {
    let mut run = Run::new(row);
    filter.expr.as_ref().map_or(Ok(true), |expr| run.holds(expr))
}

/// Whether one condition holds.
pub(crate) fn decide_computed(computed: &Computed, row: &dyn Row) -> Result<bool, GaveUp> {
    Run::new(row).test(&computed.test)
}

/// Characters that are looked through in the time of one step.
const CHARACTERS_A_STEP: usize = 64;

/// One filter on one row.
struct Run<'a> {
    row: &'a dyn Row,
    /// That are left.
    steps: usize,
    /// What the loops around are at, the innermost last.
    variables: Vec<(Variable, Item<'a>)>,
}

impl<'a> Run<'a> {
    fn new(row: &'a dyn Row) -> Self {
        Self {
            row,
            steps: EVALUATION_STEPS,
            variables: Vec::new(),
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), GaveUp> {
        self.steps = self.steps.checked_sub(steps).ok_or(GaveUp)?;
        Ok(())
    }

    fn holds(&mut self, expr: &'a Expr) -> Result<bool, GaveUp> {
        self.spend(1)?;
        let row = self.row;
        Ok(match expr {
            Expr::Always(always) => *always,
            Expr::And(all) => {
                for expr in all {
                    if !self.holds(expr)? {
                        return Ok(false);
                    }
                }
                true
            }
            Expr::Or(all) => {
                for expr in all {
                    if self.holds(expr)? {
                        return Ok(true);
                    }
                }
                false
            }
            Expr::Not(expr) => !self.holds(expr)?,
            Expr::Within { protocols, expr } => {
                protocols.iter().any(|flag| is_true(*flag, row)) && self.holds(expr)?
            }
            Expr::Truth(field) => is_true(*field, row),
            Expr::Recorded { field, recorded } => {
                let found = matches!(row.get(*field), Value::Int(_) | Value::Float(_));
                found == *recorded
            }
            Expr::Compare { op, left, right } => compare(*op, &value(left, row), &value(right, row)),
            Expr::Text { subject, test } => {
                let Item::Text(subject) = value(subject, row) else {
                    return Ok(false);
                };
                self.spend(subject.len() / CHARACTERS_A_STEP)?;
                match test {
                    TextTest::Contains(text) => subject.contains(text),
                    TextTest::StartsWith(text) => subject.starts_with(text),
                    TextTest::EndsWith(text) => subject.ends_with(text),
                    TextTest::Matches(pattern) => pattern.regex().is_match(&subject),
                }
            }
            Expr::In { subject, list } => {
                let subject = value(subject, row);
                list.iter()
                    .any(|entry| compare(Comparison::Equal, &subject, &literal(entry)))
            }
            Expr::Member { item, list } => match (value(item, row), row.get(*list)) {
                (Item::Text(item), Value::List(list)) => list.contains(&item),
                _ => false,
            },
            Expr::HasKey { map, key } => row.map_get(*map, key).is_some(),
            Expr::Computed(computed) => self.test(&computed.test)?,
        })
    }
}

fn is_true(flag: Field, row: &dyn Row) -> bool {
    row.get(flag) == Value::Bool(true)
}

/// Whether a comparison holds; what has no value compares with nothing. Lists are equal or not, and have no order.
fn compare(op: Comparison, left: &Item<'_>, right: &Item<'_>) -> bool {
    match (left, right) {
        (Item::List(left), Item::List(right)) => {
            let mut pairs = left.iter().zip(right);
            let equal = left.len() == right.len()
                && pairs.all(|(left, right)| compare(Comparison::Equal, left, right));
            match op {
                Comparison::Equal => equal,
                Comparison::NotEqual => !equal,
                _ => false,
            }
        }
        _ => left.order(right).is_some_and(|order| op.holds(order)),
    }
}

/// A value of the operand's kind, or [`Item::Missing`], which only a number or a time can be.
fn value<'a>(operand: &'a Operand, row: &'a dyn Row) -> Item<'a> {
    match operand {
        Operand::Literal(of) => literal(of),
        Operand::Field(field) => match (field.kind(), row.get(*field)) {
            (Kind::Text, Value::Text(text)) => Item::Text(text),
            (Kind::Text, _) => Item::Text(Cow::Borrowed("")),
            (Kind::Bool, truth) => Item::Bool(truth == Value::Bool(true)),
            (Kind::Int | Kind::Float, Value::Int(int)) => Item::Int(int),
            (Kind::Float, Value::Float(float)) => Item::Float(float),
            (Kind::Time, Value::Time(time)) => Item::Time(time),
            (Kind::List, Value::List(list)) => Item::List(list.into_iter().map(Item::Text).collect()),
            (Kind::List, _) => Item::List(Vec::new()),
            (Kind::Map, _) => Item::Entries(*field),
            _ => Item::Missing,
        },
        Operand::Entry { map, key } => Item::Text(row.map_get(*map, key).unwrap_or_default()),
        Operand::TextOf(field) => Item::Text(match row.get(*field) {
            Value::Int(int) => Cow::Owned(int.to_string()),
            _ => Cow::Borrowed(""),
        }),
        Operand::Size(of) => {
            let size = match of.as_ref() {
                Operand::Field(field) if matches!(field.kind(), Kind::List | Kind::Map) => {
                    match row.get(*field) {
                        Value::List(list) => list.len(),
                        Value::Map(entries) => entries,
                        _ => 0,
                    }
                }
                text => match value(text, row) {
                    Item::Text(text) => text.chars().count(),
                    _ => 0,
                },
            };
            Item::count(size)
        }
        Operand::Arithmetic { op, left, right } => {
            match (value(left, row).float(), value(right, row).float()) {
                (Some(left), Some(right)) => Item::Float(op.apply(left, right)),
                _ => Item::Missing,
            }
        }
    }
}

fn literal(literal: &Literal) -> Item<'_> {
    match literal {
        Literal::Text(text) => Item::Text(Cow::Borrowed(text)),
        Literal::Int(int) => Item::Int(*int),
        Literal::Float(float) => Item::Float(*float),
        Literal::Bool(bool) => Item::Bool(*bool),
        Literal::Time(nanos) => Item::Time(*nanos),
    }
}
