//! Functions, and what they take.

use super::compare::is_term;
use super::scope::{computed, within};
use super::terms::converted;
use super::values::as_text;
use super::{Checked, Checker, Choice, Side, as_value, describe};
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Literal, Operand};
use crate::fields::Kind;
use crate::suggest::suggestion;
use crate::syntax::Node;
use crate::term::{Absent, Conversion, Term, Test, Type};
use crate::time;

/// Functions, which do not; those of time units are added to them.
const FUNCTIONS: &[&str] = &[
    "size",
    "string",
    "int",
    "double",
    "has",
    "map_get",
    "now",
    "timestamp",
    "datetime",
    "duration",
    "limit",
    "redact",
];

impl Checker {
    pub(super) fn function(
        &mut self,
        name: &str,
        arguments: &[Node],
        span: Span,
    ) -> Result<Checked, Problem> {
        let time = |time: Option<_>, argument: &Node, example: &str| {
            let time = time.map(|nanos| Checked::Operand(Operand::Literal(Literal::Time(nanos))));
            time.ok_or_else(|| Problem::new(argument.span, "not a point in time since 1970").hint(example))
        };
        match name {
            "size" => self.size(one_argument(name, arguments, span)?),
            "string" | "int" | "double" => {
                let argument = one_argument(name, arguments, span)?;
                let side = self.side(argument)?;
                match name {
                    "string" => self.string(side),
                    _ => self.numeric(name, side),
                }
            }
            "has" => {
                let argument = one_argument(name, arguments, span)?;
                let side = self.side(argument)?;
                self.has(side).map(as_value)
            }
            "map_get" => self.map_get(arguments, span),
            "limit" | "redact" => {
                let problem = Problem::new(span, format!("`{name}` is no condition"));
                Err(problem.hint(format!("it stands by itself: `http and {name}(..)`")))
            }
            "now" => {
                no_argument(name, arguments, span)?;
                Ok(Checked::Operand(Operand::Literal(Literal::Time(self.now))))
            }
            "timestamp" => {
                let argument = one_argument(name, arguments, span)?;
                let text = self.constant_text(name, argument)?;
                time(
                    time::parse_rfc3339(&text),
                    argument,
                    "for example `timestamp(\"2026-01-31T12:00:00Z\")`",
                )
            }
            "datetime" => {
                let argument = one_argument(name, arguments, span)?;
                let text = self.constant_text(name, argument)?;
                time(
                    time::parse_datetime(&text),
                    argument,
                    "for example `datetime(\"1/31/2026, 3:04:05 PM\")`",
                )
            }
            "duration" => {
                let argument = one_argument(name, arguments, span)?;
                let text = self.constant_text(name, argument)?;
                time::parse_duration(&text).map(Checked::Duration).ok_or_else(|| {
                    Problem::new(argument.span, "not a duration")
                        .hint("for example `duration(\"1h30m\")`, `\"250ms\"`")
                })
            }
            unit if time::unit_names().any(|name| name == unit) => {
                let argument = one_argument(name, arguments, span)?;
                let Checked::Operand(Operand::Literal(Literal::Int(count))) = self.value(argument)? else {
                    let problem = Problem::new(argument.span, format!("`{unit}` takes a whole number"));
                    return Err(problem.hint(format!("for example `{unit}(-5)`, before now")));
                };
                let offset = time::units(unit, count).and_then(|offset| self.now.checked_add_signed(offset));
                time(offset, argument, "take a smaller number")
            }
            _ => {
                let known = FUNCTIONS.iter().copied().chain(time::unit_names());
                Err(unknown("function", name, span, known))
            }
        }
    }

    pub(super) fn size(&mut self, of: &Node) -> Result<Checked, Problem> {
        let side = self.side(of)?;
        let no_size = |found: &str| {
            Problem::new(
                of.span,
                format!("only texts, lists and maps have a size, not {found}"),
            )
        };
        match side.value {
            Checked::Operand(operand) if matches!(operand.kind(), Kind::Text | Kind::List | Kind::Map) => {
                Ok(Checked::Operand(Operand::Size(Box::new(operand))))
            }
            Checked::List(items) => {
                let size = i64::try_from(items.len()).unwrap_or(i64::MAX);
                Ok(Checked::Operand(Operand::Literal(Literal::Int(size))))
            }
            value if is_term(&value) || matches!(value, Checked::Choice(_)) => {
                let (term, of) = self.term(Side { value, ..side })?;
                match of {
                    Type::Text | Type::List(_) | Type::Map(_) | Type::Any => {
                        Ok(Checked::Term(Term::Size(Box::new(term)), Type::Int))
                    }
                    of => Err(no_size(&describe(&Checked::Term(term, of)))),
                }
            }
            other => Err(no_size(&describe(&other))),
        }
    }

    /// `string(x)`
    fn string(&mut self, side: Side) -> Result<Checked, Problem> {
        let span = side.span;
        let text = |text| Ok(Checked::Operand(Operand::Literal(Literal::Text(text))));
        match side.value {
            Checked::Operand(Operand::Literal(Literal::Int(int))) => text(int.to_string()),
            Checked::Operand(Operand::Literal(Literal::Float(float))) => text(float.to_string()),
            Checked::Operand(Operand::Literal(Literal::Bool(bool))) => text(bool.to_string()),
            Checked::Operand(Operand::Literal(Literal::Time(time))) => text(time::rfc3339(time)),
            Checked::Operand(operand)
                if matches!(operand, Operand::Field(_)) && operand.kind() == Kind::Int
                    || operand.kind() == Kind::Text =>
            {
                as_text(Checked::Operand(operand), span).map(Checked::Operand)
            }
            value => {
                let (term, of) = self.term(Side { value, ..side })?;
                match of {
                    Type::Text => Ok(Checked::Term(term, Type::Text)),
                    Type::List(_) | Type::Map(_) => {
                        let found = describe(&Checked::Term(term, of));
                        Err(Problem::new(span, format!("expected a text, found {found}")))
                    }
                    _ => Ok(Checked::Term(converted(Conversion::Text, term), Type::Text)),
                }
            }
        }
    }

    /// `int(x)`, `double(x)`
    fn numeric(&mut self, name: &str, side: Side) -> Result<Checked, Problem> {
        let span = side.span;
        let (to, of) = match name {
            "int" => (Conversion::Int, Type::Int),
            _ => (Conversion::Float, Type::Float),
        };
        match self.term(side)? {
            (Term::Operand(number), number_type) if number_type == of => Ok(Checked::Operand(number)),
            (term, Type::Text | Type::Int | Type::Float | Type::Any) => {
                Ok(Checked::Term(converted(to, term), of))
            }
            (term, of) => {
                let found = describe(&Checked::Term(term, of));
                Err(Problem::new(
                    span,
                    format!("`{name}` takes a number or a text, not {found}"),
                ))
            }
        }
    }

    /// `has(x)`: there is something in it.
    fn has(&mut self, side: Side) -> Result<Expr, Problem> {
        match side.value {
            Checked::Operand(Operand::Entry { map, key }) => Ok(within(Expr::HasKey { map, key })),
            Checked::Operand(Operand::Field(field)) if matches!(field.kind(), Kind::Int | Kind::Float) => {
                Ok(within(Expr::Recorded {
                    field,
                    recorded: true,
                }))
            }
            Checked::Operand(Operand::Field(field)) if matches!(field.kind(), Kind::Text) => {
                let (left, right) = (
                    Operand::Field(field),
                    Operand::Literal(Literal::Text(String::new())),
                );
                let op = Comparison::NotEqual;
                Ok(within(Expr::Compare { op, left, right }))
            }
            Checked::Operand(Operand::Field(field)) if matches!(field.kind(), Kind::List | Kind::Map) => {
                let left = Operand::Size(Box::new(Operand::Field(field)));
                let (op, right) = (Comparison::NotEqual, Operand::Literal(Literal::Int(0)));
                Ok(within(Expr::Compare { op, left, right }))
            }
            Checked::Operand(Operand::Field(field)) if field.kind() == Kind::Bool => {
                Ok(within(Expr::Truth(field)))
            }
            Checked::Term(Term::Entry { of, key, .. }, _) => {
                let absent = Absent::Nothing;
                Ok(computed(Test::Recorded(Term::Entry { of, key, absent })))
            }
            other => {
                let message = format!("`has` takes a field or an entry, not {}", describe(&other));
                Err(Problem::new(side.span, message).hint("for example `has(request.headers.host)`"))
            }
        }
    }

    /// `map_get(map, key)`, `map_get(map, key, otherwise)`
    fn map_get(&mut self, arguments: &[Node], span: Span) -> Result<Checked, Problem> {
        let (map, key, otherwise) = match arguments {
            [map, key] => (map, key, None),
            [map, key, otherwise] => (map, key, Some(otherwise)),
            _ => {
                let message = format!("`map_get` takes two or three arguments, not {}", arguments.len());
                return Err(Problem::new(span, message)
                    .hint("for example `map_get(request.headers, \"host\", \"\")`"));
            }
        };
        let map = self.side(map)?;
        let found = self.entry(map, key)?;
        let Some(otherwise) = otherwise else {
            return Ok(found);
        };
        let otherwise = self.side(otherwise)?;
        let is_empty = matches!(
            &otherwise.value,
            Checked::Operand(Operand::Literal(Literal::Text(text))) if text.is_empty()
        );
        match found {
            Checked::Operand(Operand::Entry { .. }) if is_empty => Ok(found),
            Checked::Operand(Operand::Entry { map, key }) => {
                let entry = Checked::Operand(Operand::Entry {
                    map,
                    key: key.clone(),
                });
                Ok(Checked::Choice(Box::new(Choice {
                    condition: within(Expr::HasKey {
                        map,
                        key: key.clone(),
                    }),
                    then: Side {
                        value: entry,
                        span,
                        parts: 1,
                    },
                    otherwise,
                    entry: Some((map, key)),
                })))
            }
            Checked::Term(Term::Entry { of, key, absent }, of_type) => {
                if absent == Absent::EmptyText && is_empty {
                    return Ok(Checked::Term(Term::Entry { of, key, absent }, of_type));
                }
                let (otherwise, other_type) = self.term(otherwise)?;
                let absent = Absent::Given(Box::new(otherwise));
                Ok(Checked::Term(
                    Term::Entry { of, key, absent },
                    of_type.or(other_type),
                ))
            }
            other => Err(Problem::new(
                span,
                format!("`map_get` takes a map, not {}", describe(&other)),
            )),
        }
    }

    /// A text that is written here. A regular expression's is taken as it stands.
    pub(super) fn constant_text(&mut self, function: &str, node: &Node) -> Result<String, Problem> {
        match self.value(node)? {
            Checked::Operand(Operand::Literal(Literal::Text(text))) | Checked::Regex(text) => Ok(text),
            other => {
                let problem = Problem::new(
                    node.span,
                    format!("`{function}` takes a text, not {}", describe(&other)),
                );
                Err(problem.hint("put it in quotes"))
            }
        }
    }
}

pub(super) fn one_argument<'a>(name: &str, arguments: &'a [Node], span: Span) -> Result<&'a Node, Problem> {
    match arguments {
        [argument] => Ok(argument),
        _ => Err(Problem::new(
            span,
            format!("`{name}` takes one argument, not {}", arguments.len()),
        )),
    }
}

pub(super) fn no_argument(name: &str, arguments: &[Node], span: Span) -> Result<(), Problem> {
    if arguments.is_empty() {
        return Ok(());
    }
    Err(Problem::new(span, format!("`{name}` takes no argument here")))
}

pub(super) fn unknown(
    what: &str,
    name: &str,
    span: Span,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Problem {
    let problem = Problem::new(span, format!("unknown {what} `{name}`"));
    problem.hint(suggestion(name, known.clone()).unwrap_or_else(|| {
        let known: Vec<_> = known.collect();
        format!("there are {}", known.join(", "))
    }))
}
