//! Numbers, times, texts and lists put together by signs.

use super::compare::{is_term, too_far};
use super::values::{as_number, float, number};
use super::{Checked, Checker, Side, describe};
use crate::Nanos;
use crate::error::{Problem, Span};
use crate::expr::{Arithmetic, Literal, Operand};
use crate::fields::Kind;
use crate::syntax::{Node, Operator};
use crate::term::{Term, Type};

impl Checker {
    pub(super) fn negative(&mut self, inner: &Node) -> Result<Checked, Problem> {
        let number = |number| Ok(Checked::Operand(Operand::Literal(number)));
        let side = self.side(inner)?;
        match side.value {
            // The lexer makes no negative numbers, and folding none below -2^53: both have an opposite.
            Checked::Operand(Operand::Literal(Literal::Int(int))) => {
                number(Literal::Int(int.saturating_neg()))
            }
            Checked::Operand(Operand::Literal(Literal::Float(float))) => number(Literal::Float(-float)),
            Checked::Duration(nanos) => Ok(Checked::Duration(nanos.saturating_neg())),
            value => {
                let zero = Checked::Operand(Operand::Literal(Literal::Int(0)));
                let zero = Side {
                    value: zero,
                    span: inner.span,
                    parts: 1,
                };
                self.numbers(Arithmetic::Subtract, zero, Side { value, ..side })
            }
        }
    }

    pub(super) fn arithmetic(
        &mut self,
        op: Arithmetic,
        left: &Node,
        right: &Node,
        span: Span,
    ) -> Result<Checked, Problem> {
        let (left, right) = (self.side(left)?, self.side(right)?);
        if let Some(result) = times(op, &left.value, &right.value) {
            return result.ok_or_else(|| too_far(span));
        }
        let of_any = |value: &Checked| matches!(value, Checked::Term(_, Type::Any));
        let joined = can_join(&left.value) || can_join(&right.value);
        if op == Arithmetic::Add && (joined || of_any(&left.value) && of_any(&right.value)) {
            return self.joined(left, right);
        }
        self.numbers(op, left, right)
    }

    fn numbers(&mut self, op: Arithmetic, left: Side, right: Side) -> Result<Checked, Problem> {
        let is_choice = |value: &Checked| is_term(value) || matches!(value, Checked::Choice(_));
        if is_choice(&left.value) || is_choice(&right.value) {
            let (left, right) = (self.number_term(left)?, self.number_term(right)?);
            let (left, right) = (Box::new(left), Box::new(right));
            return Ok(Checked::Term(Term::Arithmetic { op, left, right }, Type::Float));
        }
        let span = left.span.to(right.span);
        let (one, other) = (
            as_number(left.value, left.span)?,
            as_number(right.value, right.span)?,
        );
        match (&one, &other) {
            (Operand::Literal(one), Operand::Literal(other)) => fold(op, one, other)
                .map(|number| Checked::Operand(Operand::Literal(number)))
                .ok_or_else(|| Problem::new(span, "the result is no number")),
            _ => Ok(Checked::Operand(calculate(op, one, other))),
        }
    }

    fn number_term(&mut self, side: Side) -> Result<Term, Problem> {
        let span = side.span;
        match self.term(side)? {
            (term, Type::Int | Type::Float | Type::Any) => Ok(term),
            (term, of) => {
                let found = describe(&Checked::Term(term, of));
                Err(Problem::new(span, format!("expected a number, found {found}")))
            }
        }
    }

    /// `a + b` of texts, or of lists.
    fn joined(&mut self, left: Side, right: Side) -> Result<Checked, Problem> {
        let (left_span, right_span) = (left.span, right.span);
        match (left.value, right.value) {
            (
                Checked::Operand(Operand::Literal(Literal::Text(left))),
                Checked::Operand(Operand::Literal(Literal::Text(right))),
            ) => Ok(Checked::Operand(Operand::Literal(Literal::Text(left + &right)))),
            (Checked::List(mut left), Checked::List(right)) => {
                left.extend(right);
                Ok(Checked::List(left))
            }
            (left_value, right_value) => {
                let (left, left_type) = self.term(Side {
                    value: left_value,
                    ..left
                })?;
                let (right, right_type) = self.term(Side {
                    value: right_value,
                    ..right
                })?;
                let of = match (left_type, right_type) {
                    (Type::Text, Type::Text | Type::Any) | (Type::Any, Type::Text) => Type::Text,
                    (Type::List(left), Type::List(right)) => Type::List(Box::new(left.or(*right))),
                    (list @ Type::List(_), Type::Any) | (Type::Any, list @ Type::List(_)) => {
                        list.or(Type::Any)
                    }
                    // Texts, lists or numbers, as it turns out.
                    (Type::Any, Type::Any) => Type::Any,
                    (left, right) => {
                        let message = format!("cannot join a {} and a {}", left.as_str(), right.as_str());
                        let problem = Problem::new(left_span.to(right_span), message);
                        return Err(problem.hint("a number is made a text by `string(..)`"));
                    }
                };
                let (left, right) = (Box::new(left), Box::new(right));
                Ok(Checked::Term(Term::Joined { left, right }, of))
            }
        }
    }
}

/// Sums and differences of times and durations; `Some(None)` when the result is out of range.
fn times(op: Arithmetic, left: &Checked, right: &Checked) -> Option<Option<Checked>> {
    use Arithmetic::{Add, Subtract};
    use Checked::{Between, Duration, Later, Operand as Value};
    use Operand::Literal as Constant;

    let point = |at: Option<Nanos>| at.map(|at| Value(Constant(Literal::Time(at))));
    let before = |at: Nanos, by: i64| by.checked_neg().and_then(|by| at.checked_add_signed(by));
    let later = |field, by: Option<i64>| by.map(|by| Later(field, by));
    Some(match (op, left, right) {
        (Add, Value(Constant(Literal::Time(at))), Duration(by))
        | (Add, Duration(by), Value(Constant(Literal::Time(at)))) => point(at.checked_add_signed(*by)),
        (Subtract, Value(Constant(Literal::Time(at))), Duration(by)) => point(before(*at, *by)),
        (Subtract, Value(Constant(Literal::Time(at))), Value(Constant(Literal::Time(from)))) => {
            at.checked_signed_diff(*from).map(Duration)
        }
        (Add, Duration(one), Duration(other)) => one.checked_add(*other).map(Duration),
        (Subtract, Duration(one), Duration(other)) => one.checked_sub(*other).map(Duration),
        (Add, Value(Operand::Field(field)), Duration(by))
        | (Add, Duration(by), Value(Operand::Field(field)))
            if field.kind() == Kind::Time =>
        {
            later(*field, Some(*by))
        }
        (Subtract, Value(Operand::Field(field)), Duration(by)) if field.kind() == Kind::Time => {
            later(*field, by.checked_neg())
        }
        (Add, Later(field, one), Duration(by)) | (Add, Duration(by), Later(field, one)) => {
            later(*field, one.checked_add(*by))
        }
        (Subtract, Later(field, one), Duration(by)) => later(*field, one.checked_sub(*by)),
        (Subtract, Value(Constant(Literal::Time(at))), Value(Operand::Field(field)))
            if field.kind() == Kind::Time =>
        {
            Some(Between {
                field: *field,
                at: *at,
                since: false,
            })
        }
        (Subtract, Value(Operand::Field(field)), Value(Constant(Literal::Time(at))))
            if field.kind() == Kind::Time =>
        {
            Some(Between {
                field: *field,
                at: *at,
                since: true,
            })
        }
        _ => return None,
    })
}

/// What `+` puts together rather than adds.
fn can_join(value: &Checked) -> bool {
    match value {
        Checked::Operand(operand) => matches!(operand.kind(), Kind::Text | Kind::List),
        Checked::Term(_, of) => matches!(of, Type::Text | Type::List(_)),
        Checked::List(_) | Checked::Each(..) => true,
        Checked::Choice(choice) => can_join(&choice.then.value) || can_join(&choice.otherwise.value),
        _ => false,
    }
}

pub(super) fn arithmetic(operator: Operator) -> Option<Arithmetic> {
    match operator {
        Operator::Add => Some(Arithmetic::Add),
        Operator::Subtract => Some(Arithmetic::Subtract),
        Operator::Multiply => Some(Arithmetic::Multiply),
        Operator::Divide => Some(Arithmetic::Divide),
        Operator::Remainder => Some(Arithmetic::Remainder),
        _ => None,
    }
}

pub(super) fn calculate(op: Arithmetic, left: Operand, right: Operand) -> Operand {
    Operand::Arithmetic {
        op,
        left: Box::new(left),
        right: Box::new(right),
    }
}

/// The result of two numbers; `None` when there is none, as of a division by zero.
fn fold(op: Arithmetic, left: &Literal, right: &Literal) -> Option<Literal> {
    number(op.apply(float(left)?, float(right)?))
}
