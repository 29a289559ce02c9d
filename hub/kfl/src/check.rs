//! A syntax tree to a checked expression: names are resolved, types are checked, dialects end.

mod compare;
mod values;

use crate::Nanos;
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Literal, Operand, Pattern};
use crate::fields::{Field, Kind};
use crate::limits::{REGEX_BYTES, REGEXES};
use crate::syntax::{Node, NodeKind, Operator};

/// Checks a whole filter.
pub(crate) fn check(node: &Node, now: Nanos) -> Result<Expr, Problem> {
    Checker { now, regexes: 0 }.condition(node)
}

struct Checker {
    now: Nanos,
    /// Regular expressions so far.
    regexes: usize,
}

/// What a node means.
#[derive(Clone, Debug)]
enum Checked {
    /// True or false.
    Condition(Expr),
    /// A value that an [`Operand`] can say.
    Operand(Operand),
    /// [`Field::ElapsedTime`] in milliseconds: apart, so that a number beside it is scaled rather than the field.
    Latency,
    /// Nanoseconds.
    Duration(i64),
    /// `r"..."`.
    Regex(String),
    /// `nil`, `null`.
    Null,
}

impl Checker {
    /// What has to be true or false, as the whole filter and what `and`, `or`, `not` join.
    fn condition(&mut self, node: &Node) -> Result<Expr, Problem> {
        let checked = match &node.kind {
            NodeKind::Not(inner) => return Ok(Expr::Not(Box::new(self.condition(inner)?))),
            NodeKind::And(all) => return Ok(and(self.conditions(all)?)),
            NodeKind::Or(all) => return Ok(or(self.conditions(all)?)),
            NodeKind::Binary {
                operator,
                left,
                right,
            } => match comparison(*operator) {
                Some(op) => return self.compare(op, left, right),
                None if *operator == Operator::In => return self.is_in(left, right),
                None => self.value(node)?,
            },
            _ => self.value(node)?,
        };
        self.truth(checked, node.span)
    }

    fn conditions(&mut self, nodes: &[Node]) -> Result<Vec<Expr>, Problem> {
        nodes.iter().map(|node| self.condition(node)).collect()
    }

    /// A value where a condition is wanted: `http`, `!status_code`, `request.headers["x"]`.
    fn truth(&self, checked: Checked, span: Span) -> Result<Expr, Problem> {
        let operand = match checked {
            Checked::Condition(expr) => return Ok(expr),
            Checked::Operand(Operand::Literal(Literal::Bool(always))) => return Ok(Expr::Always(always)),
            Checked::Operand(Operand::Field(field)) if field.kind() == Kind::Bool => {
                return Ok(within(Expr::Truth(field)));
            }
            // As in KFL2: the entry is of the protocol that has this field.
            Checked::Operand(Operand::Field(field)) if !field.info().protocols.is_empty() => {
                return Ok(any(field.info().protocols));
            }
            Checked::Latency => Operand::Field(Field::ElapsedTime),
            Checked::Operand(operand) if !matches!(operand, Operand::Literal(_)) => operand,
            other => return Err(not_a_condition(&other, span)),
        };
        let differs = |left, right| Expr::Compare {
            op: Comparison::NotEqual,
            left,
            right: Operand::Literal(right),
        };
        Ok(within(match operand.kind() {
            Kind::Text => differs(operand, Literal::Text(String::new())),
            Kind::Int | Kind::Float => differs(operand, Literal::Int(0)),
            Kind::List | Kind::Map => differs(Operand::Size(Box::new(operand)), Literal::Int(0)),
            Kind::Bool | Kind::Time => return Err(not_a_condition(&Checked::Operand(operand), span)),
        }))
    }

    /// Compiles a regular expression.
    fn pattern(&mut self, text: &str, span: Span) -> Result<Pattern, Problem> {
        if self.regexes == REGEXES {
            let message = format!("the filter has more than {REGEXES} regular expressions");
            return Err(Problem::new(span, message).hint("join alternatives in one: `matches \"^(a|b)$\"`"));
        }
        self.regexes += 1;
        compile_regex(text, span)
    }
}

fn compile_regex(text: &str, span: Span) -> Result<Pattern, Problem> {
    Pattern::new(text).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            let message = format!("the regular expression takes more than {REGEX_BYTES} bytes when compiled");
            Problem::new(span, message).hint("make its repetitions shorter")
        }
        // The last line of several says what is wrong; the others show where in a picture of their own.
        error => {
            let error = error.to_string();
            let reason = error
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Problem::new(span, format!("the regular expression is wrong: {reason}"))
        }
    })
}

fn not_a_condition(checked: &Checked, span: Span) -> Problem {
    Problem::new(span, format!("expected a condition, found {}", describe(checked)))
        .hint("compare it with something: `==`, `>`, `contains` ..")
}

fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Equal => Some(Comparison::Equal),
        Operator::NotEqual => Some(Comparison::NotEqual),
        Operator::Less => Some(Comparison::Less),
        Operator::LessEqual => Some(Comparison::LessEqual),
        Operator::Greater => Some(Comparison::Greater),
        Operator::GreaterEqual => Some(Comparison::GreaterEqual),
        _ => None,
    }
}

/// All of them, `and`s among them resolved into this one.
fn and(all: Vec<Expr>) -> Expr {
    let flat = all.into_iter().flat_map(|expr| match expr {
        Expr::And(inner) => inner,
        expr => vec![expr],
    });
    joined(flat.collect(), Expr::And)
}

/// Any of them, `or`s among them resolved into this one.
fn or(all: Vec<Expr>) -> Expr {
    let flat = all.into_iter().flat_map(|expr| match expr {
        Expr::Or(inner) => inner,
        expr => vec![expr],
    });
    joined(flat.collect(), Expr::Or)
}

fn joined(mut all: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        last => {
            all.extend(last);
            join(all)
        }
    }
}

/// Any of these flags is set.
fn any(flags: &[Field]) -> Expr {
    or(flags.iter().map(|flag| Expr::Truth(*flag)).collect())
}

/// The owners of the fields in a condition; each set once.
fn owners(expr: &Expr) -> Vec<&'static [Field]> {
    let mut owners = Vec::new();
    expr.each_field(&mut |field| {
        let protocols = field.info().protocols;
        if !protocols.is_empty() && !owners.contains(&protocols) {
            owners.push(protocols);
        }
    });
    owners
}

/// Scopes a single condition to the protocols that own its fields.
fn within(expr: Expr) -> Expr {
    let owners = owners(&expr);
    owners.into_iter().fold(expr, |expr, protocols| Expr::Within {
        protocols,
        expr: Box::new(expr),
    })
}

/// What something is, for errors.
fn describe(checked: &Checked) -> String {
    match checked {
        Checked::Condition(_) => "a condition".to_owned(),
        Checked::Operand(Operand::Literal(literal)) => match literal {
            Literal::Text(_) => "a text".to_owned(),
            Literal::Int(_) | Literal::Float(_) => "a number".to_owned(),
            Literal::Bool(bool) => format!("`{bool}`"),
            Literal::Time(_) => "a time".to_owned(),
        },
        Checked::Operand(operand) => format!("`{operand}` ({})", operand.kind().as_str()),
        Checked::Latency => "a latency (milliseconds)".to_owned(),
        Checked::Duration(_) => "a duration".to_owned(),
        Checked::Regex(_) => "a regular expression".to_owned(),
        Checked::Null => "`null`".to_owned(),
    }
}
