//! Values that take more than an operand can say.

use super::values::as_number;
use super::{Checked, Checker, Side, describe};
use crate::error::{Problem, Span};
use crate::expr::{Literal, Operand};
use crate::fields::Kind;
use crate::term::{Absent, Conversion, Term, Type};

impl Checker {
    /// A value as a term, and what it is.
    pub(super) fn term(&mut self, side: Side) -> Result<(Term, Type), Problem> {
        let span = side.span;
        Ok(match side.value {
            Checked::Term(term, of) => (term, of),
            Checked::Operand(operand) => {
                let of = operand.kind().into();
                (Term::Operand(operand), of)
            }
            Checked::Condition(expr) => (Term::Condition(Box::new(expr)), Type::Bool),
            Checked::Latency => (Term::Operand(as_number(Checked::Latency, span)?), Type::Float),
            Checked::Regex(text) => (constant(Literal::Text(text)), Type::Text),
            Checked::List(items) => {
                let mut of: Option<Type> = None;
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    let (item, item_type) = self.term(item)?;
                    of = Some(match of {
                        Some(of) => of.or(item_type),
                        None => item_type,
                    });
                    list.push(item);
                }
                (Term::List(list), Type::List(Box::new(of.unwrap_or(Type::Any))))
            }
            // Used as a value, a wildcard is the list of what it stands for.
            Checked::Each(term, of) => (term, Type::List(Box::new(of))),
            Checked::Choice(choice) => {
                let (otherwise, other_type) = self.term(choice.otherwise)?;
                if let Some((map, key)) = choice.entry {
                    let of = Box::new(Term::Operand(Operand::Field(map)));
                    let key = Box::new(constant(Literal::Text(key)));
                    let absent = Absent::Given(Box::new(otherwise));
                    return Ok((Term::Entry { of, key, absent }, Type::Text.or(other_type)));
                }
                let (then, then_type) = self.term(choice.then)?;
                let of = then_type.or(other_type);
                let choice = Term::Choice {
                    condition: Box::new(choice.condition),
                    then: Box::new(then),
                    otherwise: Box::new(otherwise),
                };
                (choice, of)
            }
            other => {
                return Err(Problem::new(
                    span,
                    format!("expected a value, found {}", describe(&other)),
                ));
            }
        })
    }

    /// A value as a term that is a text, or as one that can be written as one. A wildcard stays one.
    pub(super) fn text_term(&mut self, side: Side) -> Result<Term, Problem> {
        let span = side.span;
        let (term, of) = match side.value {
            Checked::Each(term, of) => match of {
                Type::Text | Type::Any => return Ok(term),
                of => return Err(no_text(&Checked::Each(term, of), span)),
            },
            Checked::Operand(Operand::Literal(Literal::Int(int))) => {
                (constant(Literal::Text(int.to_string())), Type::Text)
            }
            Checked::Operand(Operand::Field(field)) if field.kind() == Kind::Int => {
                (Term::Operand(Operand::TextOf(field)), Type::Text)
            }
            _ => self.term(side)?,
        };
        match of {
            Type::Text => Ok(term),
            Type::Int | Type::Any => Ok(converted(Conversion::Text, term)),
            of => Err(no_text(&Checked::Term(term, of), span)),
        }
    }
}

pub(super) fn constant(literal: Literal) -> Term {
    Term::Operand(Operand::Literal(literal))
}

pub(super) fn converted(to: Conversion, of: Term) -> Term {
    Term::Converted { to, of: Box::new(of) }
}

fn no_text(value: &Checked, span: Span) -> Problem {
    Problem::new(span, format!("expected a text, found {}", describe(value)))
}
