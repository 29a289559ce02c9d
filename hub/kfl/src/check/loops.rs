//! CEL's macros over lists and maps: `namespaces.exists(n, n.startsWith("shop"))`.
//!
//! A loop over a list that is written out becomes what it would be without the loop. Any other runs on every entry.

use super::scope::{and, computed, or, within};
use super::{Checked, Checker, Side, as_value, describe};
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Operand};
use crate::fields::Kind;
use crate::limits::LOOPS;
use crate::syntax::{Node, NodeKind};
use crate::term::{Quantifier, Term, Test, Type, Variable};

/// Methods that are loops.
pub(super) const NAMES: &[&str] = &["exists", "all", "exists_one", "existsOne", "filter", "map"];

pub(super) fn is_loop(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Checker {
    pub(super) fn looped(
        &mut self,
        subject: &Node,
        name: &str,
        arguments: &[Node],
        span: Span,
    ) -> Result<Checked, Problem> {
        let (variable, condition, item) = match arguments {
            [variable, item] if name == "map" => (variable, None, Some(item)),
            [variable, condition, item] if name == "map" => (variable, Some(condition), Some(item)),
            [variable, condition] if name != "map" => (variable, Some(condition), None),
            _ => {
                let message = format!("`{name}` takes a name and what to do with it");
                return Err(Problem::new(span, message).hint(example(name)));
            }
        };
        let variable = match &variable.kind {
            NodeKind::Name(name) if !name.contains('.') => name.as_str(),
            _ => return Err(Problem::new(variable.span, "expected a name of your own").hint(example(name))),
        };
        let over = self.side(subject)?;
        match (over.value, condition, item) {
            (Checked::List(items), Some(condition), None)
                if matches!(name, "exists" | "all") && is_plain(&items) =>
            {
                let rounds = self.written_out(variable, items, |checker| checker.condition(condition))?;
                let join = if name == "exists" { or } else { and };
                Ok(as_value(join(rounds)))
            }
            (Checked::List(items), None, Some(item)) if is_plain(&items) => {
                let rounds = self.written_out(variable, items, |checker| checker.side(item))?;
                Ok(Checked::List(rounds))
            }
            (value, condition, item) => {
                let over = Side { value, ..over };
                self.at_run_time(over, name, variable, condition, item, span)
            }
        }
    }

    /// One round for each item of a list.
    fn written_out<T>(
        &mut self,
        variable: &str,
        items: Vec<Side>,
        mut round: impl FnMut(&mut Self) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        let mut rounds = Vec::with_capacity(items.len());
        for item in items {
            rounds.push(self.with(variable, item, &mut round)?);
        }
        Ok(rounds)
    }

    /// Checks what stands within a loop.
    fn with<T>(
        &mut self,
        variable: &str,
        item: Side,
        body: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.names.len() == LOOPS {
            let message = format!("loops within loops more than {LOOPS} levels deep");
            return Err(Problem::new(item.span, message));
        }
        self.names.push((variable.to_owned(), item));
        let result = body(self);
        self.names.pop();
        result
    }

    fn at_run_time(
        &mut self,
        over: Side,
        name: &str,
        named: &str,
        condition: Option<&Node>,
        item: Option<&Node>,
        span: Span,
    ) -> Result<Checked, Problem> {
        let over_span = over.span;
        let described = describe(&over.value);
        let (over, of) = match over.value {
            Checked::Operand(operand) if !matches!(operand.kind(), Kind::List | Kind::Map) => {
                return Err(not_looped(name, &described, over_span));
            }
            _ => self.term(over)?,
        };
        let of = match of {
            Type::List(of) => *of,
            Type::Map(_) => Type::Text,
            Type::Any => Type::Any,
            _ => return Err(not_looped(name, &described, over_span)),
        };
        let variable = Variable(self.loops);
        let value = Checked::Term(Term::Variable(variable), of.clone());
        let parts = 1;
        self.loops += 1;
        let body = self.with(named, Side { value, span, parts }, |checker| {
            let condition = condition
                .map(|condition| checker.condition(condition))
                .transpose()?;
            let item = match item {
                Some(item) => {
                    let item = checker.side(item)?;
                    checker.term(item)?
                }
                None => (Term::Variable(variable), of),
            };
            Ok((condition, item))
        });
        self.loops -= 1;
        let (condition, (item, item_type)) = body?;
        let quantifier = match name {
            "exists" => Quantifier::Any,
            "all" => Quantifier::All,
            "exists_one" | "existsOne" => Quantifier::One,
            _ => {
                let collected = Term::Collected {
                    over: Box::new(over),
                    variable,
                    condition: condition.map(Box::new),
                    item: Box::new(item),
                };
                return Ok(Checked::Term(collected, Type::List(Box::new(item_type))));
            }
        };
        let condition = condition.unwrap_or(Expr::Always(true));
        if let (Quantifier::Any, Term::Operand(Operand::Field(list))) = (quantifier, &over)
            && list.kind() == Kind::List
            && let Some(item) = sought(&condition, variable)
        {
            return Ok(Checked::Condition(within(Expr::Member { item, list: *list })));
        }
        let condition = Box::new(condition);
        Ok(Checked::Condition(computed(Test::Loop {
            quantifier,
            over,
            variable,
            condition,
        })))
    }
}

/// The text that `exists(x, x == text)` looks for, which a store finds without a loop.
fn sought(condition: &Expr, variable: Variable) -> Option<Operand> {
    let Expr::Computed(computed) = condition else {
        return None;
    };
    match &computed.test {
        Test::Compare {
            op: Comparison::Equal,
            left: Term::Variable(left),
            right: Term::Operand(right),
        } if *left == variable && right.kind() == Kind::Text => Some(right.clone()),
        _ => None,
    }
}

/// Whether a loop over these can be written out: what a name stands for is put in its place as it is, so it must not
/// bring loops of its own.
fn is_plain(items: &[Side]) -> bool {
    items.iter().all(|item| {
        matches!(
            item.value,
            Checked::Operand(_) | Checked::Latency | Checked::Regex(_) | Checked::Duration(_)
        )
    })
}

fn not_looped(name: &str, described: &str, span: Span) -> Problem {
    Problem::new(
        span,
        format!("expected a list or a map before `.{name}`, found {described}"),
    )
}

fn example(name: &str) -> String {
    match name {
        "map" => "for example `namespaces.map(n, n + \".local\")`".to_owned(),
        _ => format!("for example `namespaces.{name}(n, n.startsWith(\"shop\"))`"),
    }
}
