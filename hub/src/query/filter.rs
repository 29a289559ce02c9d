//! A checked filter becomes a condition on the table.
//!
//! The rules are those of [`wiretape_kfl::Expr`]: every condition is true or false. The table's texts are never NULL;
//! only numbers are, where nothing was recorded. In SQL such a comparison is NULL: as good as false where rows are
//! filtered, but not under a `not`. So comparisons are pinned to false below a `not`, and left alone elsewhere, where
//! they can be answered from the statistics of a whole row group.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{character_length, contains, ends_with, starts_with};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit, when};
use wiretape_kfl::{Arithmetic, Comparison, Expr as Kfl, Filter, Literal, Operand, TextTest};

use super::fields;
use super::functions;
use super::{Database, QueryError};

mod function;

mod computed;

mod pieces;

pub(super) mod bodies;

mod plan;

pub(super) use computed::GaveUp;
pub use plan::{Plan, meaning, plan};

/// Most conditions in one filter. Planning a query recurses over them, on a thread whose stack is 2 MiB.
pub const MAX_CONDITIONS: usize = 500;

/// A filter as the table understands it.
pub(super) struct Condition {
    /// What has to hold; `None` when everything matches.
    pub(super) expr: Option<Expr>,
    /// What an answer has to say about it.
    pub(super) warnings: Vec<String>,
    /// Set while it runs.
    pub(super) gave_up: GaveUp,
}

/// The condition of a filter. If it asks about bodies, these are read now, of the entries in the window.
///
/// # Errors
/// More than [`MAX_CONDITIONS`], or a table that cannot be read.
pub(super) async fn read(db: &Database, filter: &Filter, window: &[Expr]) -> Result<Condition, QueryError> {
    let gave_up = GaveUp::default();
    let (expr, warnings) = match &filter.expr {
        Some(expr) if bodies::asks(filter) => {
            check(expr)?;
            let (expr, warnings) = bodies::search(db, filter, expr, window, &gave_up).await?;
            (Some(expr), warnings)
        }
        _ => (condition(filter, &gave_up)?, Vec::new()),
    };
    Ok(Condition {
        expr,
        warnings,
        gave_up,
    })
}

/// The condition of a filter that does not ask about bodies; `None` when everything matches.
///
/// # Errors
/// More than [`MAX_CONDITIONS`].
pub(super) fn condition(filter: &Filter, gave_up: &GaveUp) -> Result<Option<Expr>, QueryError> {
    let Some(expr) = &filter.expr else { return Ok(None) };
    check(expr)?;
    Ok(Some(translate(expr, false, gave_up)))
}

fn check(expr: &Kfl) -> Result<(), QueryError> {
    let conditions = count(expr);
    if conditions > MAX_CONDITIONS {
        return Err(QueryError::BadRequest(format!(
            "the filter has {conditions} conditions, more than the {MAX_CONDITIONS} that are run at once; \
             put alternatives for one field into a list: `field in [..]`"
        )));
    }
    Ok(())
}

fn count(expr: &Kfl) -> usize {
    match expr {
        Kfl::And(all) | Kfl::Or(all) => all.iter().map(count).sum(),
        Kfl::Not(expr) => count(expr),
        Kfl::Within { protocols, expr } => protocols.len() + count(expr),
        _ => 1,
    }
}

/// `negated`: there is a `not` around it.
fn translate(expr: &Kfl, negated: bool, gave_up: &GaveUp) -> Expr {
    let each = |all: &[Kfl]| all.iter().map(|expr| translate(expr, negated, gave_up)).collect();
    match expr {
        Kfl::Always(always) => lit(*always),
        Kfl::And(all) => joined(each(all), Operator::And),
        Kfl::Or(all) => joined(each(all), Operator::Or),
        Kfl::Not(expr) => Expr::Not(Box::new(translate(expr, true, gave_up))),
        Kfl::Within { protocols, expr } => {
            let within = joined(
                protocols.iter().map(|flag| fields::flag(*flag)).collect(),
                Operator::Or,
            );
            within.and(translate(expr, negated, gave_up))
        }
        Kfl::Truth(field) => fields::flag(*field),
        Kfl::Recorded {
            field,
            recorded: true,
        } => fields::number(*field).is_not_null(),
        Kfl::Recorded {
            field,
            recorded: false,
        } => fields::number(*field).is_null(),
        Kfl::Compare { op, left, right } => pinned(compare(*op, left, right), negated),
        Kfl::Text { subject, test } => text_test(value(subject), test),
        Kfl::In { subject, list } => pinned(member_of(subject, list), negated),
        Kfl::Member { item, list } => fields::list(*list).has(&value(item)),
        Kfl::HasKey { map, key } => fields::map(*map).has(key),
        Kfl::Computed(computed) => {
            pieces::compared(computed).unwrap_or_else(|| computed::decided(computed, gave_up))
        }
    }
}

/// Two-valued: what is NULL counts as false.
fn pinned(condition: Expr, negated: bool) -> Expr {
    if negated {
        Expr::IsTrue(Box::new(condition))
    } else {
        condition
    }
}

/// Conditions put together as a balanced tree, so that its depth is the logarithm of their number.
pub(super) fn joined(mut all: Vec<Expr>, operator: Operator) -> Expr {
    while all.len() > 1 {
        let mut pairs = all.into_iter();
        let mut next = Vec::new();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right))),
                None => left,
            });
        }
        all = next;
    }
    // Nothing at all: no condition of an `and` fails, none of an `or` holds.
    all.pop().unwrap_or_else(|| lit(operator == Operator::And))
}

fn text_test(subject: Expr, test: &TextTest) -> Expr {
    match test {
        TextTest::Contains(text) => contains(subject, lit(text.as_str())),
        TextTest::StartsWith(text) => starts_with(subject, lit(text.as_str())),
        TextTest::EndsWith(text) => ends_with(subject, lit(text.as_str())),
        TextTest::Matches(pattern) => functions::matches(subject, pattern.clone()),
    }
}

fn compare(op: Comparison, left: &Operand, right: &Operand) -> Expr {
    let operator = match op {
        Comparison::Equal => Operator::Eq,
        Comparison::NotEqual => Operator::NotEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessEqual => Operator::LtEq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterEqual => Operator::GtEq,
    };
    let (left, right) = if is_float(left) || is_float(right) {
        (finite(left), finite(right))
    } else {
        (value(left), value(right))
    };
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn member_of(subject: &Operand, list: &[Literal]) -> Expr {
    let same = is_float(subject) || list.iter().any(|entry| matches!(entry, Literal::Float(_)));
    if same {
        let entries = list
            .iter()
            .map(|entry| compare(Comparison::Equal, subject, &Operand::Literal(entry.clone())));
        return joined(entries.collect(), Operator::Or);
    }
    value(subject).in_list(list.iter().map(literal).collect(), false)
}

fn is_float(operand: &Operand) -> bool {
    operand.kind() == wiretape_kfl::Kind::Float
}

/// A number as 64-bit floating point; NULL where it is not finite. Adding zero makes minus zero plus zero, which Arrow
/// tells apart.
fn finite(operand: &Operand) -> Expr {
    let number = cast(value(operand), DataType::Float64);
    if matches!(operand, Operand::Arithmetic { .. }) {
        let is_finite = number.clone().between(lit(f64::MIN), lit(f64::MAX));
        when(is_finite, number + lit(0.0))
            .end()
            .unwrap_or_else(|_| lit(ScalarValue::Float64(None)))
    } else {
        number + lit(0.0)
    }
}

/// What an operand yields: texts and truths are never NULL, whole numbers are 64 bits wide.
fn value(operand: &Operand) -> Expr {
    match operand {
        Operand::Literal(of) => literal(of),
        Operand::Field(field) => match field.kind() {
            wiretape_kfl::Kind::Bool => fields::flag(*field),
            wiretape_kfl::Kind::Int | wiretape_kfl::Kind::Float => fields::number(*field),
            wiretape_kfl::Kind::Time => fields::time(*field),
            // Lists and maps stand only within `size()`.
            _ => fields::text(*field),
        },
        Operand::Entry { map, key } => fields::map(*map).entry(key),
        Operand::TextOf(field) => {
            let text = cast(fields::number(*field), DataType::Utf8);
            datafusion::functions::expr_fn::coalesce(vec![text, lit("")])
        }
        Operand::Size(of) => match of.as_ref() {
            Operand::Field(field) if field.kind() == wiretape_kfl::Kind::List => fields::list(*field).size(),
            Operand::Field(field) if field.kind() == wiretape_kfl::Kind::Map => fields::map(*field).size(),
            text => cast(character_length(value(text)), DataType::Int64),
        },
        Operand::Arithmetic { op, left, right } => {
            let operator = match op {
                Arithmetic::Add => Operator::Plus,
                Arithmetic::Subtract => Operator::Minus,
                Arithmetic::Multiply => Operator::Multiply,
                Arithmetic::Divide => Operator::Divide,
                Arithmetic::Remainder => Operator::Modulo,
            };
            let side = |side: &Operand| Box::new(cast(value(side), DataType::Float64));
            Expr::BinaryExpr(BinaryExpr::new(side(left), operator, side(right)))
        }
    }
}

fn literal(literal: &Literal) -> Expr {
    match literal {
        Literal::Text(text) => lit(text.as_str()),
        Literal::Int(int) => lit(*int),
        Literal::Float(float) => lit(*float),
        Literal::Bool(bool) => lit(*bool),
        Literal::Time(nanos) => fields::instant(*nanos),
    }
}

#[cfg(test)]
mod tests;
