//! Filters on single entries. The rules are those of [`Expr`](crate::expr); a store's translation is held against this.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::Nanos;
use crate::expr::{Comparison, Expr, Filter, Literal, Operand, TextTest};
use crate::fields::{Field, Kind};

/// An entry that a filter can look at.
pub trait Row {
    /// A field's value, of the field's [`Kind`]; [`Value::Missing`] when nothing is recorded. Texts of a field that
    /// [is in lower case](Field::is_lower_case) are in lower case.
    fn get(&self, field: Field) -> Value<'_>;

    /// An entry of a field of [`Kind::Map`]: the first of that key. If the field's [keys match in any
    /// case](Field::keys_in_any_case), `key` is in lower case.
    fn map_get(&self, map: Field, key: &str) -> Option<Cow<'_, str>>;
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

/// Whether an entry matches. Total: it is true or false for every filter and row, also for a row whose values are not of
/// their fields' kinds (these count as missing).
pub fn evaluate(filter: &Filter, row: &dyn Row) -> bool {
    filter.expr.as_ref().is_none_or(|expr| holds(expr, row))
}

fn holds(expr: &Expr, row: &dyn Row) -> bool {
    match expr {
        Expr::Always(always) => *always,
        Expr::And(all) => all.iter().all(|expr| holds(expr, row)),
        Expr::Or(all) => all.iter().any(|expr| holds(expr, row)),
        Expr::Not(expr) => !holds(expr, row),
        Expr::Within { protocols, expr } => {
            protocols.iter().any(|flag| is_true(*flag, row)) && holds(expr, row)
        }
        Expr::Truth(field) => is_true(*field, row),
        Expr::Recorded { field, recorded } => {
            let found = matches!(row.get(*field), Value::Int(_) | Value::Float(_));
            found == *recorded
        }
        Expr::Compare { op, left, right } => compare(*op, &value(left, row), &value(right, row)),
        Expr::Text { subject, test } => {
            let subject = value(subject, row);
            let Value::Text(subject) = &subject else {
                return false;
            };
            match test {
                TextTest::Contains(text) => subject.contains(text),
                TextTest::StartsWith(text) => subject.starts_with(text),
                TextTest::EndsWith(text) => subject.ends_with(text),
                TextTest::Matches(pattern) => pattern.regex().is_match(subject),
            }
        }
        Expr::In { subject, list } => {
            let subject = value(subject, row);
            list.iter()
                .any(|entry| compare(Comparison::Equal, &subject, &literal(entry)))
        }
        Expr::Member { item, list } => match (value(item, row), row.get(*list)) {
            (Value::Text(item), Value::List(list)) => list.contains(&item),
            _ => false,
        },
        Expr::HasKey { map, key } => row.map_get(*map, key).is_some(),
    }
}

fn is_true(flag: Field, row: &dyn Row) -> bool {
    row.get(flag) == Value::Bool(true)
}

/// Whether a comparison holds; what has no value compares with nothing.
fn compare(op: Comparison, left: &Value<'_>, right: &Value<'_>) -> bool {
    let order = match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Time(left), Value::Time(right)) => Some(left.cmp(right)),
        (left, right) => compare_floats(left, right),
    };
    order.is_some_and(|order| op.holds(order))
}

fn compare_floats(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    let (left, right) = (float(left)?, float(right)?);
    if left.is_finite() && right.is_finite() {
        left.partial_cmp(&right)
    } else {
        None
    }
}

/// A value of the operand's kind, or [`Value::Missing`], which only a number or a time can be.
fn value<'a>(operand: &'a Operand, row: &'a dyn Row) -> Value<'a> {
    match operand {
        Operand::Literal(of) => literal(of),
        Operand::Field(field) => match (field.kind(), row.get(*field)) {
            (Kind::Text, text @ Value::Text(_)) => text,
            (Kind::Text, _) => Value::Text(Cow::Borrowed("")),
            (Kind::Bool, truth) => Value::Bool(truth == Value::Bool(true)),
            (Kind::Int, int @ Value::Int(_)) => int,
            (Kind::Float, number @ (Value::Int(_) | Value::Float(_))) => number,
            (Kind::Time, time @ Value::Time(_)) => time,
            _ => Value::Missing,
        },
        Operand::Entry { map, key } => Value::Text(row.map_get(*map, key).unwrap_or_default()),
        Operand::TextOf(field) => Value::Text(match row.get(*field) {
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
                    Value::Text(text) => text.chars().count(),
                    _ => 0,
                },
            };
            Value::Int(i64::try_from(size).unwrap_or(i64::MAX))
        }
        Operand::Arithmetic { op, left, right } => {
            match (float(&value(left, row)), float(&value(right, row))) {
                (Some(left), Some(right)) => Value::Float(op.apply(left, right)),
                _ => Value::Missing,
            }
        }
    }
}

fn literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        Literal::Int(int) => Value::Int(*int),
        Literal::Float(float) => Value::Float(*float),
        Literal::Bool(bool) => Value::Bool(*bool),
        Literal::Time(nanos) => Value::Time(*nanos),
    }
}

fn float(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    }
}
