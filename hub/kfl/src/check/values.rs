//! What a node is worth: literals, names, entries.

use super::terms::constant;
use super::{Checked, Checker, Choice, Side, as_value, describe};
use crate::error::{Problem, Span};
use crate::expr::{Arithmetic, Expr, Literal, Operand};
use crate::fields::{Field, Kind};
use crate::names::{self, Meaning};
use crate::parser;
use crate::suggest::suggestion;
use crate::syntax::{Node, NodeKind};
use crate::term::{Absent, Term, Type};

use super::arithmetic::{arithmetic, calculate};

/// Makes the case of a pattern not count. Its letters stay: `\S` must not become `\s`.
pub(super) const ANY_CASE: &str = "(?i)";

/// Whole numbers up to here are exact in floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Characters of a text that count as one part of a filter.
const CHARACTERS_A_PART: usize = 16;

impl Checker {
    pub(super) fn value(&mut self, node: &Node) -> Result<Checked, Problem> {
        self.spend(1, node.span)?;
        let literal = |literal| Ok(Checked::Operand(Operand::Literal(literal)));
        match &node.kind {
            NodeKind::Int(number) => literal(Literal::Int(*number)),
            NodeKind::Float(number) => literal(Literal::Float(*number)),
            NodeKind::Bool(bool) => literal(Literal::Bool(*bool)),
            NodeKind::Text(text) => {
                self.spend(text.len() / CHARACTERS_A_PART, node.span)?;
                literal(Literal::Text(text.clone()))
            }
            NodeKind::Regex(text) => {
                self.spend(text.len() / CHARACTERS_A_PART, node.span)?;
                Ok(Checked::Regex(text.clone()))
            }
            NodeKind::Null => Ok(Checked::Null),
            NodeKind::List(nodes) => {
                let items: Result<_, _> = nodes.iter().map(|node| self.side(node)).collect();
                Ok(Checked::List(items?))
            }
            NodeKind::Map(entries) => self.map(entries),
            NodeKind::Name(name) => self.name(name, node.span),
            NodeKind::Entry { of, key } => {
                let of = self.side(of)?;
                self.entry(of, key)
            }
            NodeKind::Member { of, name } => {
                let of = self.value(of)?;
                member(of, name, node.span)
            }
            NodeKind::Each(of) => self.each(of),
            NodeKind::Call {
                subject: Some(subject),
                name,
                arguments,
            } => self.method(subject, name, arguments, node.span),
            NodeKind::Call {
                subject: None,
                name,
                arguments,
            } => self.function(name, arguments, node.span),
            NodeKind::Negative(inner) => self.negative(inner),
            NodeKind::Binary {
                operator,
                left,
                right,
            } => match arithmetic(*operator) {
                Some(op) => self.arithmetic(op, left, right, node.span),
                None => self.condition(node).map(as_value),
            },
            NodeKind::Not(_) | NodeKind::And(_) | NodeKind::Or(_) => self.condition(node).map(as_value),
            NodeKind::Choice {
                condition,
                then,
                otherwise,
            } => {
                let condition = self.condition(condition)?;
                let (then, otherwise) = (self.side(then)?, self.side(otherwise)?);
                Ok(Checked::Choice(Box::new(Choice {
                    condition,
                    then,
                    otherwise,
                    entry: None,
                })))
            }
        }
    }

    fn name(&mut self, name: &str, span: Span) -> Result<Checked, Problem> {
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or_default();
        if let Some((_, side)) = self.names.iter().rev().find(|(of, _)| of == first) {
            let side = side.clone();
            self.spend(side.parts, span)?;
            return parts.try_fold(side.value, |value, part| member(value, part, span));
        }
        match names::look_up(name) {
            Some(Meaning::Field(field)) => Ok(Checked::Operand(Operand::Field(field))),
            Some(Meaning::Entry(map, key)) => Ok(Checked::Operand(entry(map, &key))),
            Some(Meaning::Latency) => Ok(Checked::Latency),
            Some(Meaning::Macro(filter)) => {
                // An error in a macro is shown at its name: its text is not the user's.
                let at_name = |problem| Problem { span, ..problem };
                let expansion = parser::parse(filter).map_err(at_name)?;
                let expansion = expansion.map_or(Ok(Expr::Always(true)), |node| self.condition(&node));
                expansion.map(as_value).map_err(at_name)
            }
            None => Err(unknown_field(name, span)),
        }
    }

    /// `{"a": b}`
    fn map(&mut self, entries: &[(Node, Node)]) -> Result<Checked, Problem> {
        let mut of: Option<Type> = None;
        let mut map = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key_side = self.side(key)?;
            let key = match self.term(key_side)? {
                (key, Type::Text) => key,
                _ => return Err(Problem::new(key.span, "expected a key that is a text")),
            };
            let value = self.side(value)?;
            let (value, value_type) = self.term(value)?;
            of = Some(match of {
                Some(of) => of.or(value_type),
                None => value_type,
            });
            map.push((key, value));
        }
        Ok(Checked::Term(
            Term::Map(map),
            Type::Map(Box::new(of.unwrap_or(Type::Any))),
        ))
    }

    /// `of[key]`
    pub(super) fn entry(&mut self, of: Side, key: &Node) -> Result<Checked, Problem> {
        let key = self.side(key)?;
        let (of_span, key_span) = (of.span, key.span);
        match (of.value, key.value) {
            (
                Checked::Operand(Operand::Field(map)),
                Checked::Operand(Operand::Literal(Literal::Text(key))),
            ) if map.kind() == Kind::Map => Ok(Checked::Operand(entry(map, &key))),
            (Checked::List(mut items), Checked::Operand(Operand::Literal(Literal::Int(at)))) => {
                let found = usize::try_from(at).ok().filter(|at| *at < items.len());
                let found = found.map(|at| items.swap_remove(at).value);
                found.ok_or_else(|| Problem::new(key_span, "the list has nothing at this place"))
            }
            (Checked::Each(Term::Each { of, path }, item), Checked::Operand(Operand::Literal(key))) => {
                follow(of, path, &item, key, key_span)
            }
            (value, key_value) => {
                let described = describe(&value);
                let (term, of) = match value {
                    Checked::Operand(operand) if !matches!(operand.kind(), Kind::List | Kind::Map) => {
                        return Err(no_map(&described, of_span));
                    }
                    value => self.term(Side { value, ..of })?,
                };
                let key = Side {
                    value: key_value,
                    ..key
                };
                let (key, key_type) = self.term(key)?;
                entry_of(term, of, key, &key_type, (&described, of_span, key_span))
            }
        }
    }

    /// `of.*`
    fn each(&mut self, of: &Node) -> Result<Checked, Problem> {
        if let NodeKind::Name(name) = &of.kind {
            let known = names::look_up(name);
            let whole = matches!(known, Some(Meaning::Field(field)) if matches!(field.kind(), Kind::List | Kind::Map));
            let first = name.split('.').next();
            let variable = self.names.iter().any(|(of, _)| first == Some(of));
            let fields = names::directly_below(name);
            if !whole && !variable && !fields.is_empty() {
                return Ok(Checked::Fields(fields));
            }
        }
        let side = self.side(of)?;
        let described = describe(&side.value);
        let (term, item) = match side.value {
            Checked::Each(term, item) => (term, item),
            _ => self.term(side)?,
        };
        let item = match item {
            Type::List(item) | Type::Map(item) => *item,
            Type::Any => Type::Any,
            _ => {
                let message = format!("expected a list or a map before `.*`, found {described}");
                return Err(Problem::new(of.span, message));
            }
        };
        let path = Vec::new();
        let of = Box::new(term);
        Ok(Checked::Each(Term::Each { of, path }, item))
    }
}

/// `of.name`
fn member(of: Checked, name: &str, span: Span) -> Result<Checked, Problem> {
    let key = Literal::Text(name.to_owned());
    match of {
        Checked::Operand(Operand::Field(map)) if map.kind() == Kind::Map => {
            Ok(Checked::Operand(entry(map, name)))
        }
        Checked::Each(Term::Each { of, path }, item) => follow(of, path, &item, key, span),
        Checked::Term(term, of @ (Type::Any | Type::Map(_))) => {
            let described = ("a map", span, span);
            entry_of(term, of, constant(key), &Type::Text, described)
        }
        _ => {
            let problem = Problem::new(span, format!("`.{name}` has nothing to belong to"));
            Err(problem.hint(format!("a method is called with parentheses: `.{name}()`")))
        }
    }
}

/// A wildcard, each of its values followed one step down.
fn follow(
    of: Box<Term>,
    mut path: Vec<Literal>,
    item: &Type,
    key: Literal,
    span: Span,
) -> Result<Checked, Problem> {
    let below = match (item, &key) {
        (Type::List(below), Literal::Int(_)) | (Type::Map(below), Literal::Text(_)) => (**below).clone(),
        (Type::Any, Literal::Int(_) | Literal::Text(_)) => Type::Any,
        _ => {
            let message = format!(
                "what the wildcard stands for ({}) has no such entry",
                item.as_str()
            );
            return Err(Problem::new(span, message));
        }
    };
    path.push(key);
    Ok(Checked::Each(Term::Each { of, path }, below))
}

/// An entry of a list, a map or a document. `described` is what it is, where it stands, and where the key does.
pub(super) fn entry_of(
    of: Term,
    of_type: Type,
    key: Term,
    key_type: &Type,
    described: (&str, Span, Span),
) -> Result<Checked, Problem> {
    let (described, of_span, key_span) = described;
    let below = match (of_type, key_type) {
        (Type::Map(below), Type::Text | Type::Any) => *below,
        (Type::List(below), Type::Int | Type::Any) => *below,
        (Type::Any, Type::Text | Type::Int | Type::Any) => Type::Any,
        (Type::Map(_), _) => return Err(Problem::new(key_span, "expected a key in quotes")),
        (Type::List(_), _) => return Err(Problem::new(key_span, "expected a place in the list, from 0")),
        _ => return Err(no_map(described, of_span)),
    };
    let absent = match below {
        Type::Text => Absent::EmptyText,
        _ => Absent::Nothing,
    };
    let entry = Term::Entry {
        of: Box::new(of),
        key: Box::new(key),
        absent,
    };
    Ok(Checked::Term(entry, below))
}

fn no_map(described: &str, span: Span) -> Problem {
    Problem::new(span, format!("expected a map before `[`, found {described}"))
}

pub(super) fn unknown_field(name: &str, span: Span) -> Problem {
    let problem = Problem::new(span, format!("unknown field `{name}`"));
    problem.hint(
        suggestion(name, names::known())
            .unwrap_or_else(|| format!("if it is a text, put it in quotes: \"{name}\"")),
    )
}

/// A field's entry. Its key is in lower case where case does not count.
pub(super) fn entry(map: Field, key: &str) -> Operand {
    Operand::Entry {
        map,
        key: key_of(map, key),
    }
}

/// A key as a compiled filter holds it.
pub(super) fn key_of(map: Field, key: &str) -> String {
    if map.keys_in_any_case() {
        key.to_ascii_lowercase()
    } else {
        key.to_owned()
    }
}

/// Whether texts beside this operand have to be in lower case.
pub(super) fn is_lower_case(operand: &Operand) -> bool {
    matches!(operand, Operand::Field(field) if field.is_lower_case())
}

/// A value that is a text, or can be written as one: a whole number that a field holds.
pub(super) fn as_text(value: Checked, span: Span) -> Result<Operand, Problem> {
    match value {
        Checked::Operand(Operand::Field(field)) if field.kind() == Kind::Int => Ok(Operand::TextOf(field)),
        Checked::Operand(operand) if operand.kind() == Kind::Text => Ok(operand),
        other => Err(Problem::new(
            span,
            format!("expected a text, found {}", describe(&other)),
        )),
    }
}

/// A value that is a number.
pub(super) fn as_number(value: Checked, span: Span) -> Result<Operand, Problem> {
    match value {
        Checked::Operand(operand) if matches!(operand.kind(), Kind::Int | Kind::Float) => Ok(operand),
        Checked::Latency => {
            let thousand = Operand::Literal(Literal::Int(1000));
            Ok(calculate(
                Arithmetic::Divide,
                Operand::Field(Field::ElapsedTime),
                thousand,
            ))
        }
        Checked::Operand(operand) if operand.kind() == Kind::Time => {
            let problem = Problem::new(span, format!("cannot calculate with `{operand}`"));
            Err(problem.hint("keep it alone on its side: `timestamp > now() - duration(\"5m\")`"))
        }
        other => Err(Problem::new(
            span,
            format!("expected a number, found {}", describe(&other)),
        )),
    }
}

pub(super) fn float(literal: &Literal) -> Option<f64> {
    match literal {
        Literal::Int(int) => Some(*int as f64),
        Literal::Float(float) => Some(*float),
        _ => None,
    }
}

/// A literal of that value, a whole number if it is one; `None` when it is not finite.
pub(super) fn number(value: f64) -> Option<Literal> {
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Literal::Int(value as i64));
    }
    value.is_finite().then_some(Literal::Float(value))
}
