//! `in`: an item of a list, a key of a map.

use super::compare::{beside, is_constant, is_term, subject};
use super::scope::{computed, or, within};
use super::values::{as_text, key_of};
use super::{Checked, Checker, Side, describe};
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Literal, Operand};
use crate::fields::Kind;
use crate::syntax::Node;
use crate::term::{Term, Test, Type};

impl Checker {
    pub(super) fn is_in(&mut self, left: &Node, right: &Node) -> Result<Expr, Problem> {
        let (left, right) = (self.side(left)?, self.side(right)?);
        self.member(left, right)
    }

    pub(super) fn member(&mut self, item: Side, of: Side) -> Result<Expr, Problem> {
        let parts = item.parts.max(of.parts);
        match (item.value, of.value) {
            (Checked::Choice(choice), value) => {
                let of = Side { value, ..of };
                self.choose(*choice, item.span, parts, |checker, item| {
                    checker.member(item, of.clone())
                })
            }
            (value, Checked::Choice(choice)) => {
                let item = Side { value, ..item };
                self.choose(*choice, of.span, parts, |checker, of| {
                    checker.member(item.clone(), of)
                })
            }
            (Checked::Fields(fields), value) => {
                let of = Side { value, ..of };
                self.any_field(&fields, item.span, parts, or, |checker, item| {
                    checker.member(item, of.clone())
                })
            }
            (value, Checked::List(entries)) => self.among(Side { value, ..item }, entries),
            (value, Checked::Operand(Operand::Field(list)))
                if list.kind() == Kind::List && !is_term(&value) =>
            {
                let item = as_text(value, item.span)?;
                Ok(within(Expr::Member { item, list }))
            }
            (
                Checked::Operand(Operand::Literal(Literal::Text(key))),
                Checked::Operand(Operand::Field(map)),
            ) if map.kind() == Kind::Map => Ok(within(Expr::HasKey {
                map,
                key: key_of(map, &key),
            })),
            (value, other) => self.member_term(Side { value, ..item }, Side { value: other, ..of }),
        }
    }

    /// `item in [a, b]`, by the same rules as `item == a or item == b`.
    fn among(&mut self, item: Side, entries: Vec<Side>) -> Result<Expr, Problem> {
        let constant = entries.iter().all(|entry| is_constant(&entry.value));
        if !constant || is_term(&item.value) {
            if !constant || matches!(item.value, Checked::Each(..)) {
                let mut any = Vec::with_capacity(entries.len());
                for entry in entries {
                    self.spend(item.parts, item.span)?;
                    any.push(self.compare_sides(Comparison::Equal, item.clone(), entry)?);
                }
                return Ok(or(any));
            }
            let list = Checked::List(entries);
            let of = Side {
                value: list,
                ..item.clone()
            };
            return self.member_term(item, of);
        }
        let mut list = Vec::with_capacity(entries.len());
        for entry in entries {
            list.push(beside(&item.value, entry.value, entry.span)?);
        }
        let subject = subject(item.value, item.span)?;
        Ok(if list.is_empty() {
            Expr::Always(false)
        } else {
            within(Expr::In { subject, list })
        })
    }

    fn member_term(&mut self, item: Side, of: Side) -> Result<Expr, Problem> {
        let spans = (item.span, of.span);
        let described = describe(&of.value);
        if !is_term(&of.value) && !is_collection(&of.value) {
            return Err(no_collection(&described, of.span));
        }
        let (item, item_type) = match item.value {
            Checked::Each(term, of) => (term, of),
            _ => self.term(item)?,
        };
        let (of, of_type) = self.term(of)?;
        match of_type {
            Type::List(entry) if fits(&item_type, &entry) => {}
            Type::Map(_) if fits(&item_type, &Type::Text) => {}
            Type::Any => {}
            Type::Map(_) => return Err(Problem::new(spans.0, "expected a key in quotes")),
            Type::List(entry) => {
                let message = format!(
                    "a {} is never in a list of this: {}",
                    item_type.as_str(),
                    entry.as_str()
                );
                return Err(Problem::new(spans.0, message));
            }
            _ => return Err(no_collection(&described, spans.1)),
        }
        if let Term::Each { .. } = item {
            return Err(Problem::new(spans.0, "a wildcard cannot stand before this `in`")
                .hint("write `a.*.exists(x, x in b)`"));
        }
        Ok(computed(Test::In { item, of }))
    }
}

/// Whether values of these types can be equal.
fn fits(one: &Type, other: &Type) -> bool {
    let any = *one == Type::Any || *other == Type::Any;
    any || one.clone().or(other.clone()) != Type::Any
}

fn is_collection(value: &Checked) -> bool {
    matches!(value, Checked::Operand(operand) if matches!(operand.kind(), Kind::List | Kind::Map))
}

fn no_collection(described: &str, span: Span) -> Problem {
    Problem::new(span, format!("expected a list, found {described}"))
        .hint("for example `status in [502, 503]`; a part of a text is found by `contains`")
}
