//! Comparisons and `in`: which values go together, and in which form.

use super::values::{ANY_CASE, as_number, as_text, float, is_lower_case, key_of, number};
use super::{Checked, Checker, and, any, compile_regex, describe, owners, within};
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Literal, Operand, TextTest};
use crate::fields::{Field, Kind};
use crate::syntax::{Node, NodeKind};

const NANOS_PER_MICRO: f64 = 1e3;
const MICROS_PER_MILLI: f64 = 1e3;
const NANOS_PER_MILLI: u64 = 1_000_000;

impl Checker {
    pub(super) fn compare(&mut self, op: Comparison, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let (left_value, right_value) = (self.value(left)?, self.value(right)?);
        if is_constant(&left_value) && !is_constant(&right_value) {
            self.compare_values(op.swapped(), (right_value, right.span), (left_value, left.span))
        } else {
            self.compare_values(op, (left_value, left.span), (right_value, right.span))
        }
    }

    fn compare_values(
        &mut self,
        op: Comparison,
        (left, left_span): (Checked, Span),
        (right, right_span): (Checked, Span),
    ) -> Result<Expr, Problem> {
        match (left, right) {
            (Checked::Condition(expr), Checked::Operand(Operand::Literal(Literal::Bool(wanted)))) => {
                let equal = is_equal(op, "a condition", right_span)?;
                Ok(if wanted == equal {
                    expr
                } else {
                    Expr::Not(Box::new(expr))
                })
            }
            (left, Checked::Regex(text)) => {
                let equal = is_equal(op, "a regular expression", right_span)?;
                let subject = as_text(left, left_span)?;
                self.compare_regex(equal, subject, &text, right_span)
            }
            (left, Checked::Null) => {
                let equal = is_equal(op, "`null`", right_span)?;
                compare_null(equal, left, right_span)
            }
            (left, right) => {
                let (left, right) = if is_constant(&right) {
                    let right = beside(&left, right, right_span)?;
                    (subject(left, left_span)?, Operand::Literal(right))
                } else if is_number(&left) && is_number(&right) {
                    (as_number(left, left_span)?, as_number(right, right_span)?)
                } else {
                    same_kind(left, right, right_span)?
                };
                if left.kind() == Kind::Bool {
                    is_equal(op, "true or false", right_span)?;
                }
                Ok(within(Expr::Compare { op, left, right }))
            }
        }
    }

    /// KFL1's `status == r"4.*"`: all of the text has to match.
    fn compare_regex(
        &mut self,
        equal: bool,
        subject: Operand,
        text: &str,
        span: Span,
    ) -> Result<Expr, Problem> {
        // By itself first: `a)|(b` is none, though between parentheses it would be one.
        compile_regex(text, span)?;
        let any_case = if is_lower_case(&subject) { ANY_CASE } else { "" };
        let pattern = self.pattern(&format!("{any_case}^(?:{text})$"), span)?;
        let matches = Expr::Text {
            subject,
            test: TextTest::Matches(pattern),
        };
        if equal {
            return Ok(within(matches));
        }
        // Not equal, and still false in other protocols.
        let mut all: Vec<_> = owners(&matches).into_iter().map(any).collect();
        all.push(Expr::Not(Box::new(within(matches))));
        Ok(and(all))
    }

    /// `subject in [..]`, `text in list`, `"key" in map`.
    pub(super) fn is_in(&mut self, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let value = self.value(left)?;
        if let NodeKind::List(entries) = &right.kind {
            let mut list = Vec::with_capacity(entries.len());
            for entry in entries {
                let entry_value = self.value(entry)?;
                if !is_constant(&entry_value) {
                    let message = format!("expected a text or a number, found {}", describe(&entry_value));
                    return Err(Problem::new(entry.span, message).hint("join fields with `or` instead"));
                }
                list.push(beside(&value, entry_value, entry.span)?);
            }
            let subject = subject(value, left.span)?;
            return Ok(if list.is_empty() {
                Expr::Always(false)
            } else {
                within(Expr::In { subject, list })
            });
        }
        match (value, self.value(right)?) {
            (value, Checked::Operand(Operand::Field(list))) if list.kind() == Kind::List => {
                let item = as_text(value, left.span)?;
                Ok(within(Expr::Member { item, list }))
            }
            (
                Checked::Operand(Operand::Literal(Literal::Text(key))),
                Checked::Operand(Operand::Field(map)),
            ) if map.kind() == Kind::Map => Ok(within(Expr::HasKey {
                map,
                key: key_of(map, &key),
            })),
            (_, Checked::Operand(Operand::Field(map))) if map.kind() == Kind::Map => {
                Err(Problem::new(left.span, "expected a key in quotes"))
            }
            (_, other) => {
                let problem =
                    Problem::new(right.span, format!("expected a list, found {}", describe(&other)));
                Err(problem
                    .hint("for example `status in [502, 503]`; a part of a text is found by `contains`"))
            }
        }
    }
}

/// `status == null`: nothing is recorded.
fn compare_null(equal: bool, value: Checked, span: Span) -> Result<Expr, Problem> {
    let operand = match value {
        Checked::Operand(operand) => operand,
        Checked::Latency => Operand::Field(Field::ElapsedTime),
        other => return Err(cannot_compare(&other, &Checked::Null, span)),
    };
    let op = if equal {
        Comparison::Equal
    } else {
        Comparison::NotEqual
    };
    let compare = |left, right| Expr::Compare {
        op,
        left,
        right: Operand::Literal(right),
    };
    Ok(within(match operand {
        Operand::Field(field) if matches!(field.kind(), Kind::Int | Kind::Float) => Expr::Recorded {
            field,
            recorded: !equal,
        },
        Operand::Field(field) if matches!(field.kind(), Kind::List | Kind::Map) => {
            compare(Operand::Size(Box::new(operand)), Literal::Int(0))
        }
        operand if operand.kind() == Kind::Text => compare(operand, Literal::Text(String::new())),
        operand => return Err(cannot_compare(&Checked::Operand(operand), &Checked::Null, span)),
    }))
}

/// The form in which a constant stands beside a subject.
fn beside(subject: &Checked, constant: Checked, span: Span) -> Result<Literal, Problem> {
    let cannot =
        |constant: Literal| cannot_compare(subject, &Checked::Operand(Operand::Literal(constant)), span);
    let literal = match constant {
        Checked::Operand(Operand::Literal(literal)) => literal,
        Checked::Duration(nanos) if is_elapsed_time(subject) => {
            let micros = number(nanos as f64 / NANOS_PER_MICRO);
            return micros.ok_or_else(|| cannot_compare(subject, &constant, span));
        }
        other => return Err(cannot_compare(subject, &other, span)),
    };
    if matches!(subject, Checked::Latency) {
        let milliseconds = as_numeric(literal.clone()).and_then(|literal| float(&literal));
        return milliseconds.and_then(micros).ok_or_else(|| cannot(literal));
    }
    let Checked::Operand(operand) = subject else {
        return Err(cannot(literal));
    };
    match (operand.kind(), literal) {
        (Kind::Text, Literal::Text(text)) if is_lower_case(operand) => {
            Ok(Literal::Text(text.to_ascii_lowercase()))
        }
        (Kind::Int | Kind::Float, literal) => as_numeric(literal.clone()).ok_or_else(|| cannot(literal)),
        // KFL1 counts time in milliseconds.
        (Kind::Time, Literal::Int(millis)) => {
            let nanos = u64::try_from(millis)
                .ok()
                .and_then(|millis| millis.checked_mul(NANOS_PER_MILLI));
            nanos
                .map(Literal::Time)
                .ok_or_else(|| Problem::new(span, "not milliseconds since 1970"))
        }
        (kind, literal) if kind == literal.kind() => Ok(literal),
        (_, literal) => Err(cannot(literal)),
    }
}

/// A number, also one in quotes.
fn as_numeric(literal: Literal) -> Option<Literal> {
    match literal {
        Literal::Int(_) | Literal::Float(_) => Some(literal),
        Literal::Text(text) => match text.parse() {
            Ok(int) => Some(Literal::Int(int)),
            Err(_) => text
                .parse()
                .ok()
                .filter(|float: &f64| float.is_finite())
                .map(Literal::Float),
        },
        Literal::Bool(_) | Literal::Time(_) => None,
    }
}

/// Milliseconds as the microseconds that [`Field::ElapsedTime`] counts.
fn micros(milliseconds: f64) -> Option<Literal> {
    /// Decimals such as 1.005 are a little off in binary; a fraction of a microsecond that small is not meant.
    const NOISE: f64 = 1e-6;
    let micros = milliseconds * MICROS_PER_MILLI;
    let whole = micros.round();
    number(if (micros - whole).abs() < NOISE {
        whole
    } else {
        micros
    })
}

/// A value as the left side of a comparison with a constant that [`beside`] has made for it.
fn subject(value: Checked, span: Span) -> Result<Operand, Problem> {
    match value {
        Checked::Operand(operand) if !matches!(operand.kind(), Kind::List | Kind::Map) => Ok(operand),
        Checked::Latency => Ok(Operand::Field(Field::ElapsedTime)),
        other => Err(Problem::new(
            span,
            format!("expected a field, found {}", describe(&other)),
        )),
    }
}

/// Two values that depend on the entry, other than numbers.
fn same_kind(left: Checked, right: Checked, span: Span) -> Result<(Operand, Operand), Problem> {
    match (left, right) {
        (Checked::Operand(left), Checked::Operand(right))
            if left.kind() == right.kind() && matches!(left.kind(), Kind::Text | Kind::Bool | Kind::Time) =>
        {
            Ok((left, right))
        }
        (left, right) => Err(cannot_compare(&left, &right, span)),
    }
}

fn is_constant(value: &Checked) -> bool {
    matches!(
        value,
        Checked::Operand(Operand::Literal(_)) | Checked::Duration(_) | Checked::Regex(_) | Checked::Null
    )
}

fn is_number(value: &Checked) -> bool {
    match value {
        Checked::Operand(operand) => matches!(operand.kind(), Kind::Int | Kind::Float),
        Checked::Latency => true,
        _ => false,
    }
}

fn is_elapsed_time(value: &Checked) -> bool {
    matches!(
        value,
        Checked::Latency | Checked::Operand(Operand::Field(Field::ElapsedTime))
    )
}

/// Whether it is `==` rather than `!=`; what has no order has no other comparison.
fn is_equal(op: Comparison, what: &str, span: Span) -> Result<bool, Problem> {
    match op {
        Comparison::Equal => Ok(true),
        Comparison::NotEqual => Ok(false),
        op => Err(
            Problem::new(span, format!("`{}` does not order {what}", op.as_str())).hint("use `==` or `!=`"),
        ),
    }
}

fn cannot_compare(left: &Checked, right: &Checked, span: Span) -> Problem {
    let problem = Problem::new(
        span,
        format!("cannot compare {} with {}", describe(left), describe(right)),
    );
    let kind = match left {
        Checked::Operand(operand) => operand.kind(),
        Checked::Latency => Kind::Float,
        _ => return problem,
    };
    match (kind, right) {
        (Kind::Text, Checked::Operand(Operand::Literal(literal))) => {
            problem.hint(format!("put it in quotes: \"{literal}\""))
        }
        (Kind::Int | Kind::Float, Checked::Operand(Operand::Literal(Literal::Text(_)))) => {
            problem.hint("a number was expected; a pattern for its digits is written r\"4..\"")
        }
        (Kind::Time, Checked::Operand(Operand::Literal(Literal::Text(text)))) => problem.hint(format!(
            "a time is written `timestamp(\"{text}\")`, as in 2026-01-31T12:00:00Z"
        )),
        (Kind::List, _) => problem.hint("what is in a list is found by `in`: `\"default\" in namespaces`"),
        (Kind::Map, _) => {
            problem.hint("name one entry of the map: `request.headers[\"host\"] == \"example.org\"`")
        }
        (kind, _) => problem.hint(format!("expected {}", with_article(kind))),
    }
}

fn with_article(kind: Kind) -> String {
    match kind {
        Kind::Bool => "`true` or `false`".to_owned(),
        kind => format!("a {}", kind.as_str()),
    }
}
