//! What a node is worth: names, calls, arithmetic.

use super::{Checked, Checker, describe, within};
use crate::error::{Problem, Span};
use crate::expr::{Arithmetic, Expr, Literal, Operand, TextTest};
use crate::fields::{Field, Kind};
use crate::names::{self, Meaning};
use crate::parser;
use crate::suggest::suggestion;
use crate::syntax::{Node, NodeKind, Operator};
use crate::time;

/// Methods, which take a subject: `path.contains("x")`, `path contains "x"`.
const METHODS: &[&str] = &["contains", "startsWith", "endsWith", "matches", "size"];
/// Functions, which do not; those of time units are added to them.
const FUNCTIONS: &[&str] = &["size", "string", "now", "timestamp", "datetime", "duration"];

/// Makes the case of a pattern not count. Its letters stay: `\S` must not become `\s`.
pub(super) const ANY_CASE: &str = "(?i)";

/// Whole numbers up to here are exact in floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Checker {
    pub(super) fn value(&mut self, node: &Node) -> Result<Checked, Problem> {
        let literal = |literal| Ok(Checked::Operand(Operand::Literal(literal)));
        match &node.kind {
            NodeKind::Int(number) => literal(Literal::Int(*number)),
            NodeKind::Float(number) => literal(Literal::Float(*number)),
            NodeKind::Bool(bool) => literal(Literal::Bool(*bool)),
            NodeKind::Text(text) => literal(Literal::Text(text.clone())),
            NodeKind::Regex(text) => Ok(Checked::Regex(text.clone())),
            NodeKind::Null => Ok(Checked::Null),
            NodeKind::List(_) => Err(Problem::new(
                node.span,
                "a list can only stand on the right of `in`",
            )),
            NodeKind::Name(name) => self.name(name, node.span),
            NodeKind::Entry { map, key } => self.entry(map, key),
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
                None => self.condition(node).map(Checked::Condition),
            },
            NodeKind::Not(_) | NodeKind::And(_) | NodeKind::Or(_) => {
                self.condition(node).map(Checked::Condition)
            }
        }
    }

    fn name(&mut self, name: &str, span: Span) -> Result<Checked, Problem> {
        match names::look_up(name) {
            Some(Meaning::Field(field)) => Ok(Checked::Operand(Operand::Field(field))),
            Some(Meaning::Entry(map, key)) => Ok(Checked::Operand(entry(map, &key))),
            Some(Meaning::Latency) => Ok(Checked::Latency),
            Some(Meaning::Macro(filter)) => {
                // An error in a macro is shown at its name: its text is not the user's.
                let at_name = |problem| Problem { span, ..problem };
                let expansion = parser::parse(filter).map_err(at_name)?;
                let expansion = expansion.map_or(Ok(Expr::Always(true)), |node| self.condition(&node));
                expansion.map(Checked::Condition).map_err(at_name)
            }
            None => {
                let problem = Problem::new(span, format!("unknown field `{name}`"));
                Err(problem.hint(
                    suggestion(name, names::known())
                        .unwrap_or_else(|| format!("if it is a text, put it in quotes: \"{name}\"")),
                ))
            }
        }
    }

    fn entry(&mut self, map: &Node, key: &str) -> Result<Checked, Problem> {
        match self.value(map)? {
            Checked::Operand(Operand::Field(field)) if field.kind() == Kind::Map => {
                Ok(Checked::Operand(entry(field, key)))
            }
            other => Err(Problem::new(
                map.span,
                format!("expected a map before `[`, found {}", describe(&other)),
            )),
        }
    }

    fn method(
        &mut self,
        subject: &Node,
        name: &str,
        arguments: &[Node],
        span: Span,
    ) -> Result<Checked, Problem> {
        if name == "size" {
            no_argument(name, arguments, span)?;
            return self.size(subject);
        }
        if !METHODS.contains(&name) {
            return Err(unknown("method", name, span, METHODS.iter().copied()));
        }
        let argument = one_argument(name, arguments, span)?;
        let subject_value = self.value(subject)?;
        if let (Checked::Operand(Operand::Field(list)), "contains") = (&subject_value, name)
            && list.kind() == Kind::List
        {
            let item = self.text(argument)?;
            return Ok(Checked::Condition(within(Expr::Member { item, list: *list })));
        }
        let subject = as_text(subject_value, subject.span)?;
        let text = self.constant_text(name, argument)?;
        let text = if is_lower_case(&subject) {
            lower_case(name, text)
        } else {
            text
        };
        let test = match name {
            "contains" => TextTest::Contains(text),
            "startsWith" => TextTest::StartsWith(text),
            "endsWith" => TextTest::EndsWith(text),
            _ => TextTest::Matches(self.pattern(&text, argument.span)?),
        };
        Ok(Checked::Condition(within(Expr::Text { subject, test })))
    }

    fn function(&mut self, name: &str, arguments: &[Node], span: Span) -> Result<Checked, Problem> {
        let time = |time: Option<_>, argument: &Node, example: &str| {
            let time = time.map(|nanos| Checked::Operand(Operand::Literal(Literal::Time(nanos))));
            time.ok_or_else(|| Problem::new(argument.span, "not a point in time since 1970").hint(example))
        };
        match name {
            "size" => self.size(one_argument(name, arguments, span)?),
            "string" => {
                let argument = one_argument(name, arguments, span)?;
                let value = self.value(argument)?;
                as_text(value, argument.span).map(Checked::Operand)
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

    fn size(&mut self, of: &Node) -> Result<Checked, Problem> {
        match self.value(of)? {
            Checked::Operand(operand) if matches!(operand.kind(), Kind::Text | Kind::List | Kind::Map) => {
                Ok(Checked::Operand(Operand::Size(Box::new(operand))))
            }
            other => Err(Problem::new(
                of.span,
                format!("only texts, lists and maps have a size, not {}", describe(&other)),
            )),
        }
    }

    /// A text, whichever.
    fn text(&mut self, node: &Node) -> Result<Operand, Problem> {
        let value = self.value(node)?;
        as_text(value, node.span)
    }

    /// A text that is written here. A regular expression's is taken as it stands.
    fn constant_text(&mut self, function: &str, node: &Node) -> Result<String, Problem> {
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

    fn negative(&mut self, inner: &Node) -> Result<Checked, Problem> {
        let number = |number| Ok(Checked::Operand(Operand::Literal(number)));
        match self.value(inner)? {
            // The lexer makes no negative numbers, and folding none below -2^53: both have an opposite.
            Checked::Operand(Operand::Literal(Literal::Int(int))) => {
                number(Literal::Int(int.saturating_neg()))
            }
            Checked::Operand(Operand::Literal(Literal::Float(float))) => number(Literal::Float(-float)),
            Checked::Duration(nanos) => Ok(Checked::Duration(nanos.saturating_neg())),
            other => {
                let zero = Operand::Literal(Literal::Int(0));
                let inner = as_number(other, inner.span)?;
                Ok(Checked::Operand(calculate(Arithmetic::Subtract, zero, inner)))
            }
        }
    }

    fn arithmetic(
        &mut self,
        op: Arithmetic,
        left: &Node,
        right: &Node,
        span: Span,
    ) -> Result<Checked, Problem> {
        use Arithmetic::{Add, Subtract};
        use Checked::{Duration, Operand as Value};
        use Operand::Literal as Constant;

        let (left_value, right_value) = (self.value(left)?, self.value(right)?);
        let time = |time: Option<_>| time.map(|nanos| Value(Constant(Literal::Time(nanos))));
        let opposite = |nanos: i64| nanos.checked_neg();
        let result = match (op, left_value, right_value) {
            (Add, Value(Constant(Literal::Time(at))), Duration(by)) => time(at.checked_add_signed(by)),
            (Add, Duration(by), Value(Constant(Literal::Time(at)))) => time(at.checked_add_signed(by)),
            (Subtract, Value(Constant(Literal::Time(at))), Duration(by)) => {
                time(opposite(by).and_then(|by| at.checked_add_signed(by)))
            }
            (Subtract, Value(Constant(Literal::Time(at))), Value(Constant(Literal::Time(from)))) => {
                at.checked_signed_diff(from).map(Duration)
            }
            (Add, Duration(one), Duration(other)) => one.checked_add(other).map(Duration),
            (Subtract, Duration(one), Duration(other)) => one.checked_sub(other).map(Duration),
            (_, left_value, right_value) => {
                let (one, other) = (
                    as_number(left_value, left.span)?,
                    as_number(right_value, right.span)?,
                );
                return match (&one, &other) {
                    (Constant(one), Constant(other)) => fold(op, one, other)
                        .map(|number| Value(Constant(number)))
                        .ok_or_else(|| Problem::new(span, "the result is no number")),
                    _ => Ok(Value(calculate(op, one, other))),
                };
            }
        };
        result.ok_or_else(|| Problem::new(span, "the result is too far from now, or before 1970"))
    }
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

/// The argument of a text test on a field in lower case.
fn lower_case(method: &str, text: String) -> String {
    match method {
        "matches" if text.starts_with(ANY_CASE) => text,
        "matches" => format!("{ANY_CASE}{text}"),
        _ => text.to_ascii_lowercase(),
    }
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

fn arithmetic(operator: Operator) -> Option<Arithmetic> {
    match operator {
        Operator::Add => Some(Arithmetic::Add),
        Operator::Subtract => Some(Arithmetic::Subtract),
        Operator::Multiply => Some(Arithmetic::Multiply),
        Operator::Divide => Some(Arithmetic::Divide),
        Operator::Remainder => Some(Arithmetic::Remainder),
        _ => None,
    }
}

fn calculate(op: Arithmetic, left: Operand, right: Operand) -> Operand {
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

fn one_argument<'a>(name: &str, arguments: &'a [Node], span: Span) -> Result<&'a Node, Problem> {
    match arguments {
        [argument] => Ok(argument),
        _ => Err(Problem::new(
            span,
            format!("`{name}` takes one argument, not {}", arguments.len()),
        )),
    }
}

fn no_argument(name: &str, arguments: &[Node], span: Span) -> Result<(), Problem> {
    if arguments.is_empty() {
        return Ok(());
    }
    Err(Problem::new(span, format!("`{name}` takes no argument here")))
}

fn unknown(what: &str, name: &str, span: Span, known: impl Iterator<Item = &'static str> + Clone) -> Problem {
    let problem = Problem::new(span, format!("unknown {what} `{name}`"));
    problem.hint(suggestion(name, known.clone()).unwrap_or_else(|| {
        let known: Vec<_> = known.collect();
        format!("there are {}", known.join(", "))
    }))
}
