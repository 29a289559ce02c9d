//! Comparisons: which values go together, and in which form.

use super::scope::{and, computed, not, not_within, or, within};
use super::values::{ANY_CASE, as_number, as_text, float, is_lower_case, number};
use super::{Checked, Checker, Side, compile_regex, describe};
use crate::Nanos;
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Literal, Operand, TextTest};
use crate::fields::{Field, Kind};
use crate::syntax::Node;
use crate::term::{Test, Type};

const NANOS_PER_MICRO: f64 = 1e3;
const MICROS_PER_MILLI: f64 = 1e3;
const NANOS_PER_MILLI: u64 = 1_000_000;

impl Checker {
    pub(super) fn compare(&mut self, op: Comparison, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let (left, right) = (self.side(left)?, self.side(right)?);
        self.compare_sides(op, left, right)
    }

    pub(super) fn compare_sides(&mut self, op: Comparison, left: Side, right: Side) -> Result<Expr, Problem> {
        if is_constant(&left.value) && !is_constant(&right.value) {
            return self.compare_sides(op.swapped(), right, left);
        }
        let parts = left.parts.max(right.parts);
        match (left.value, right.value) {
            (Checked::Choice(choice), value) => {
                let right = Side { value, ..right };
                self.choose(*choice, left.span, parts, |checker, left| {
                    checker.compare_sides(op, left, right.clone())
                })
            }
            (value, Checked::Choice(choice)) => {
                let left = Side { value, ..left };
                self.choose(*choice, right.span, parts, |checker, right| {
                    checker.compare_sides(op, left.clone(), right)
                })
            }
            (Checked::Fields(fields), value) => {
                let right = Side { value, ..right };
                // With `!=`, none may be equal.
                let join = if op == Comparison::NotEqual { and } else { or };
                self.any_field(&fields, left.span, parts, join, |checker, left| {
                    checker.compare_sides(op, left, right.clone())
                })
            }
            (value, wildcard @ (Checked::Fields(_) | Checked::Each(..)))
                if !matches!(value, Checked::Each(..)) =>
            {
                let (left, right) = (
                    Side { value, ..left },
                    Side {
                        value: wildcard,
                        ..right
                    },
                );
                self.compare_sides(op.swapped(), right, left)
            }
            (left_value, right_value) => {
                let left = Side {
                    value: left_value,
                    ..left
                };
                self.compare_values(
                    op,
                    left,
                    Side {
                        value: right_value,
                        ..right
                    },
                )
            }
        }
    }

    /// Neither side is a choice, nor a wildcard over fields.
    fn compare_values(&mut self, op: Comparison, left: Side, right: Side) -> Result<Expr, Problem> {
        let (left_span, right_span) = (left.span, right.span);
        match (left.value, right.value) {
            (left_value, Checked::Operand(Operand::Literal(Literal::Bool(wanted))))
                if is_condition(&left_value) =>
            {
                let equal = is_equal(op, "a condition", right_span)?;
                let expr = self.truth(Side {
                    value: left_value,
                    ..left
                })?;
                Ok(if wanted == equal { expr } else { not(expr) })
            }
            (left_value, right_value)
                if is_truth(&left_value)
                    && is_truth(&right_value)
                    && (is_condition(&left_value) || is_condition(&right_value)) =>
            {
                let equal = is_equal(op, "a condition", right_span)?;
                self.spend(left.parts + right.parts, left_span)?;
                let left = self.truth(Side {
                    value: left_value,
                    ..left
                })?;
                let right = self.truth(Side {
                    value: right_value,
                    ..right
                })?;
                let both = and(vec![left.clone(), right.clone()]);
                let same = or(vec![both, and(vec![not(left), not(right)])]);
                Ok(if equal { same } else { not(same) })
            }
            (left_value, Checked::Regex(text)) => {
                let equal = is_equal(op, "a regular expression", right_span)?;
                self.compare_regex(
                    equal,
                    Side {
                        value: left_value,
                        ..left
                    },
                    &text,
                    right_span,
                )
            }
            (left_value, Checked::Null) => {
                let equal = is_equal(op, "`null`", right_span)?;
                self.compare_null(
                    equal,
                    Side {
                        value: left_value,
                        ..left
                    },
                    right_span,
                )
            }
            (Checked::Later(field, by), right_value) => {
                let at = beside(&Checked::Operand(Operand::Field(field)), right_value, right_span)?;
                let Literal::Time(at) = at else {
                    return Err(too_far(right_span));
                };
                compare_time(
                    op,
                    field,
                    by.checked_neg().and_then(|by| at.checked_add_signed(by)),
                    right_span,
                )
            }
            (Checked::Between { field, at, since }, Checked::Duration(by)) => {
                let (op, by) = if since {
                    (op, Some(by))
                } else {
                    (op.swapped(), by.checked_neg())
                };
                compare_time(op, field, by.and_then(|by| at.checked_add_signed(by)), right_span)
            }
            (left_value, right_value) if is_term(&left_value) || is_term(&right_value) => {
                let left = Side {
                    value: left_value,
                    ..left
                };
                self.compare_terms(
                    op,
                    left,
                    Side {
                        value: right_value,
                        ..right
                    },
                )
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
    fn compare_regex(&mut self, equal: bool, subject: Side, text: &str, span: Span) -> Result<Expr, Problem> {
        let lower_case = matches!(&subject.value, Checked::Operand(operand) if is_lower_case(operand));
        let any_case = if lower_case { ANY_CASE } else { "" };
        let whole = format!("{any_case}^(?:{text})$");
        if !self.patterns.contains_key(&whole) {
            // By itself first: `a)|(b` is none, though between parentheses it would be one.
            compile_regex(text, span)?;
        }
        let pattern = self.pattern(&whole, span)?;
        let matches = if is_term(&subject.value) {
            let subject = self.text_term(subject)?;
            computed(Test::Matches { subject, pattern })
        } else {
            let subject = as_text(subject.value, subject.span)?;
            let test = TextTest::Matches(pattern);
            within(Expr::Text { subject, test })
        };
        Ok(if equal { matches } else { not_within(matches) })
    }

    /// `status == null`: nothing is recorded.
    fn compare_null(&mut self, equal: bool, side: Side, span: Span) -> Result<Expr, Problem> {
        let operand = match side.value {
            Checked::Operand(operand) => operand,
            Checked::Latency => Operand::Field(Field::ElapsedTime),
            Checked::Term(term, Type::Any | Type::Int | Type::Float | Type::Bool | Type::Time) => {
                let recorded = computed(Test::Recorded(term));
                return Ok(if equal { not_within(recorded) } else { recorded });
            }
            Checked::Term(..) => {
                let something = self.truth(side)?;
                return Ok(if equal { not_within(something) } else { something });
            }
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

    /// Values one of which takes more than an operand can say.
    fn compare_terms(&mut self, op: Comparison, left: Side, right: Side) -> Result<Expr, Problem> {
        let span = right.span;
        let described = (describe(&left.value), describe(&right.value));
        let cannot = || {
            let (left, right) = &described;
            Problem::new(span, format!("cannot compare {left} with {right}"))
        };
        let (left, left_type) = match left.value {
            Checked::Each(term, of) => (term, of),
            _ => self.term(left)?,
        };
        let (right, right_type) = match right.value {
            Checked::Operand(Operand::Literal(literal)) => {
                let literal = beside_type(&left_type, literal).ok_or_else(&cannot)?;
                let of = Type::from(literal.kind());
                (super::terms::constant(literal), of)
            }
            _ => self.term(right)?,
        };
        match left_type.clone().or(right_type.clone()) {
            Type::Any if left_type != Type::Any && right_type != Type::Any => return Err(cannot()),
            Type::Map(_) => return Err(cannot()),
            Type::Bool => {
                is_equal(op, "true or false", span)?;
            }
            Type::List(_) => {
                is_equal(op, "lists", span)?;
            }
            _ => {}
        }
        Ok(computed(Test::Compare { op, left, right }))
    }
}

fn compare_time(op: Comparison, field: Field, at: Option<Nanos>, span: Span) -> Result<Expr, Problem> {
    let at = at.ok_or_else(|| too_far(span))?;
    Ok(within(Expr::Compare {
        op,
        left: Operand::Field(field),
        right: Operand::Literal(Literal::Time(at)),
    }))
}

pub(super) fn too_far(span: Span) -> Problem {
    Problem::new(span, "the result is too far from now, or before 1970")
}

/// The form in which a constant stands beside a term; `None` when it cannot.
fn beside_type(of: &Type, literal: Literal) -> Option<Literal> {
    match (of, literal) {
        (Type::Int | Type::Float, literal) => as_numeric(literal),
        (Type::Time, Literal::Int(millis)) => from_millis(millis).map(Literal::Time),
        (Type::Any, literal) => Some(literal),
        (of, literal) => (*of == Type::from(literal.kind())).then_some(literal),
    }
}

/// A point in time as KFL1 counts it.
fn from_millis(millis: i64) -> Option<Nanos> {
    u64::try_from(millis).ok()?.checked_mul(NANOS_PER_MILLI)
}

/// The form in which a constant stands beside a subject.
pub(super) fn beside(subject: &Checked, constant: Checked, span: Span) -> Result<Literal, Problem> {
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
        (Kind::Time, Literal::Int(millis)) => from_millis(millis)
            .map(Literal::Time)
            .ok_or_else(|| Problem::new(span, "not milliseconds since 1970")),
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
pub(super) fn subject(value: Checked, span: Span) -> Result<Operand, Problem> {
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

pub(super) fn is_constant(value: &Checked) -> bool {
    matches!(
        value,
        Checked::Operand(Operand::Literal(_)) | Checked::Duration(_) | Checked::Regex(_) | Checked::Null
    )
}

/// What an operand cannot say.
pub(super) fn is_term(value: &Checked) -> bool {
    matches!(value, Checked::Term(..) | Checked::Each(..) | Checked::List(_))
}

fn is_condition(value: &Checked) -> bool {
    matches!(value, Checked::Condition(_) | Checked::Term(_, Type::Bool))
}

/// What is true or false.
fn is_truth(value: &Checked) -> bool {
    is_condition(value) || matches!(value, Checked::Operand(operand) if operand.kind() == Kind::Bool)
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

pub(super) fn cannot_compare(left: &Checked, right: &Checked, span: Span) -> Problem {
    let problem = Problem::new(
        span,
        format!("cannot compare {} with {}", describe(left), describe(right)),
    );
    let kind = match left {
        Checked::Operand(operand) => operand.kind(),
        Checked::Latency => Kind::Float,
        Checked::Between { .. } => return problem.hint("for example `now() - timestamp < duration(\"5m\")`"),
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
