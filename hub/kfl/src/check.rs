//! A syntax tree to a checked expression: names are resolved, types are checked, dialects end.

mod directives;

mod compare;
mod membership;
mod scope;
mod values;

mod arithmetic;
mod functions;
mod loops;
mod methods;
mod terms;

use std::collections::BTreeMap;

use crate::Nanos;
use crate::error::{Problem, Span};
use crate::expr::{Comparison, Expr, Filter, Literal, Operand, Pattern};
use crate::fields::{Field, Kind};
use crate::limits::{PARTS, REGEX_BYTES, REGEXES};
use crate::syntax::{Node, NodeKind, Operator};
use crate::term::{Term, Test, Type};

use scope::{and, any, computed, innermost, not, or, within};

/// Checks a whole filter.
pub(crate) fn check(node: &Node, now: Nanos) -> Result<Filter, Problem> {
    let mut checker = Checker {
        now,
        patterns: BTreeMap::new(),
        parts: 0,
        names: Vec::new(),
        loops: 0,
    };
    let mut filter = Filter::default();
    let nodes = match &node.kind {
        NodeKind::And(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut conditions = Vec::new();
    for node in nodes {
        if !checker.directive(node, &mut filter)? {
            conditions.push(checker.condition(node)?);
        }
    }
    filter.expr = (!conditions.is_empty()).then(|| and(conditions));
    Ok(filter)
}

struct Checker {
    now: Nanos,
    /// Regular expressions so far, by what they were made from.
    patterns: BTreeMap<String, Pattern>,
    /// What the filter has grown to, against [`PARTS`].
    parts: usize,
    /// What the loops around are at, the innermost last.
    names: Vec<(String, Side)>,
    /// How many loops around are left to run time; those over written-out lists are not.
    loops: usize,
}

/// What a node means.
#[derive(Clone, Debug)]
enum Checked {
    /// True or false.
    Condition(Expr),
    /// A value that an [`Operand`] can say.
    Operand(Operand),
    /// A value that takes more.
    Term(Term, Type),
    /// `condition ? then : otherwise`: apart, so that a comparison with it becomes two that an [`Operand`] can say.
    Choice(Box<Choice>),
    /// `[a, b]`.
    List(Vec<Side>),
    /// `list.*`, with what each value is.
    Each(Term, Type),
    /// `src.*`: these fields.
    Fields(Vec<Field>),
    /// [`Field::ElapsedTime`] in milliseconds: apart, so that a number beside it is scaled rather than the field.
    Latency,
    /// Nanoseconds.
    Duration(i64),
    /// A field of [`Kind::Time`] and so many nanoseconds.
    Later(Field, i64),
    /// The duration between a field of [`Kind::Time`] and a point in time.
    Between {
        field: Field,
        at: Nanos,
        /// Whether it is counted from the field on, rather than up to it.
        since: bool,
    },
    /// `r"..."`.
    Regex(String),
    /// `nil`, `null`.
    Null,
}

#[derive(Clone, Debug)]
struct Choice {
    condition: Expr,
    then: Side,
    otherwise: Side,
    /// `map_get(map, key, otherwise)` rather than `? :`. It is false for protocols that do not have the map.
    entry: Option<(Field, String)>,
}

/// What a node means, with its place, and how many parts it may have.
#[derive(Clone, Debug)]
struct Side {
    value: Checked,
    span: Span,
    parts: usize,
}

impl Checker {
    /// What has to be true or false, as the whole filter and what `and`, `or`, `not` join.
    fn condition(&mut self, node: &Node) -> Result<Expr, Problem> {
        self.spend(1, node.span)?;
        let side = match &node.kind {
            NodeKind::Not(inner) => return Ok(not(self.condition(inner)?)),
            NodeKind::And(all) => return Ok(and(self.conditions(all)?)),
            NodeKind::Or(all) => return Ok(or(self.conditions(all)?)),
            NodeKind::Binary {
                operator,
                left,
                right,
            } => match comparison(*operator) {
                Some(op) => return self.compare(op, left, right),
                None if *operator == Operator::In => return self.is_in(left, right),
                None => self.side(node)?,
            },
            _ => self.side(node)?,
        };
        self.truth(side)
    }

    fn conditions(&mut self, nodes: &[Node]) -> Result<Vec<Expr>, Problem> {
        nodes.iter().map(|node| self.condition(node)).collect()
    }

    /// A value where a condition is wanted: `http`, `!status_code`, `request.headers["x"]`.
    fn truth(&mut self, side: Side) -> Result<Expr, Problem> {
        let span = side.span;
        let operand = match side.value {
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
            Checked::Choice(choice) => return self.choose(*choice, span, 0, Self::truth),
            Checked::Term(term, of) => return term_truth(term, &of, span),
            Checked::Each(term, _) => {
                return Ok(computed(is_not(Term::Size(Box::new(term)), Literal::Int(0))));
            }
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

    /// A condition on a choice: the same condition on either branch. `beside` are the parts of what it is put beside.
    fn choose(
        &mut self,
        choice: Choice,
        span: Span,
        beside: usize,
        mut on: impl FnMut(&mut Self, Side) -> Result<Expr, Problem>,
    ) -> Result<Expr, Problem> {
        self.spend(choice.then.parts + beside + 1, span)?;
        let (then, otherwise) = (on(self, choice.then)?, on(self, choice.otherwise)?);
        let either = or(vec![
            and(vec![choice.condition.clone(), then]),
            and(vec![not(choice.condition), otherwise]),
        ]);
        Ok(match choice.entry {
            Some((map, _)) if !map.info().protocols.is_empty() => {
                and(vec![any(map.info().protocols), either])
            }
            _ => either,
        })
    }

    /// A condition on any of some fields: those that it can be put to.
    fn any_field(
        &mut self,
        fields: &[Field],
        span: Span,
        beside: usize,
        join: fn(Vec<Expr>) -> Expr,
        mut on: impl FnMut(&mut Self, Side) -> Result<Expr, Problem>,
    ) -> Result<Expr, Problem> {
        let mut conditions = Vec::new();
        let mut refused = None;
        for field in fields {
            self.spend(beside + 1, span)?;
            let value = Checked::Operand(Operand::Field(*field));
            match on(
                self,
                Side {
                    value,
                    span,
                    parts: 1,
                },
            ) {
                Ok(condition) => conditions.push(condition),
                Err(problem) => refused = refused.or(Some(problem)),
            }
        }
        match refused {
            Some(problem) if conditions.is_empty() => Err(problem),
            _ => Ok(join(conditions)),
        }
    }

    /// A node's meaning, with what it takes.
    fn side(&mut self, node: &Node) -> Result<Side, Problem> {
        let before = self.parts;
        let value = self.value(node)?;
        Ok(Side {
            value,
            span: node.span,
            parts: self.parts - before,
        })
    }

    /// Counts parts of the filter.
    fn spend(&mut self, parts: usize, span: Span) -> Result<(), Problem> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts <= PARTS {
            return Ok(());
        }
        let message = format!("written out, the filter has more than {PARTS} parts");
        Err(Problem::new(span, message).hint("loop over shorter lists, and compare fewer choices"))
    }

    /// Compiles a regular expression.
    fn pattern(&mut self, text: &str, span: Span) -> Result<Pattern, Problem> {
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(pattern.clone());
        }
        if self.patterns.len() == REGEXES {
            let message = format!("the filter has more than {REGEXES} regular expressions");
            return Err(Problem::new(span, message).hint("join alternatives in one: `matches \"^(a|b)$\"`"));
        }
        let pattern = compile_regex(text, span)?;
        self.patterns.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
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

/// A term where a condition is wanted.
fn term_truth(term: Term, of: &Type, span: Span) -> Result<Expr, Problem> {
    Ok(computed(match of {
        Type::Bool | Type::Any => Test::Truth(term),
        Type::Text => is_not(term, Literal::Text(String::new())),
        Type::Int | Type::Float => is_not(term, Literal::Int(0)),
        Type::List(_) | Type::Map(_) => is_not(Term::Size(Box::new(term)), Literal::Int(0)),
        Type::Time => return Err(not_a_condition(&Checked::Term(term, Type::Time), span)),
    }))
}

fn is_not(left: Term, right: Literal) -> Test {
    Test::Compare {
        op: Comparison::NotEqual,
        left,
        right: Term::Operand(Operand::Literal(right)),
    }
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

/// A condition as a value: a field or a constant where it is no more than that.
fn as_value(expr: Expr) -> Checked {
    match innermost(&expr) {
        Expr::Always(always) => Checked::Operand(Operand::Literal(Literal::Bool(*always))),
        Expr::Truth(field) => Checked::Operand(Operand::Field(*field)),
        Expr::Computed(computed) => match &computed.test {
            Test::Truth(term) => Checked::Term(term.clone(), Type::Bool),
            _ => Checked::Condition(expr),
        },
        _ => Checked::Condition(expr),
    }
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
        Checked::Term(_, Type::Bool) => "a condition".to_owned(),
        Checked::Term(_, of) => format!("a {}", of.as_str()),
        Checked::Choice(_) => "a choice".to_owned(),
        Checked::List(_) => "a list".to_owned(),
        Checked::Each(..) | Checked::Fields(_) => "a wildcard".to_owned(),
        Checked::Latency => "a latency (milliseconds)".to_owned(),
        Checked::Duration(_) | Checked::Between { .. } => "a duration".to_owned(),
        Checked::Later(..) => "a time".to_owned(),
        Checked::Regex(_) => "a regular expression".to_owned(),
        Checked::Null => "`null`".to_owned(),
    }
}
